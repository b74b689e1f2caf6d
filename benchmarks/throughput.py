"""Training and inference in images per second, beside the loop that most people write, in one run.

    python benchmarks/throughput.py DATA [--threads N] [--images N]

The plain loop: torchvision's ImageFolder and per-image transforms, a DataLoader with workers, float32, Adam. Both train
the same network on the same slices at 128 x 128, for one epoch after a first one that is not counted. The plain loop
decodes in every epoch; ours did so before the first.

`of peak`: the operations of the network's forward and backward passes, three times those of a forward pass, as a share
of what the machine reaches in one large matrix product of the same precision, with the same number of threads.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import datasets
from torchvision.transforms import v2

from braincam import Predictor
from braincam.dataset.manifest import read_folder
from braincam.dataset.twins import read_one_slice
from braincam.network.attention_cnn import AttentionCNN, NetworkConfig
from braincam.network.preprocess import Preprocess, PreprocessConfig
from braincam.pipeline.pools import to_bytes
from braincam.training.batches import Pool
from braincam.training.config import TrainConfig
from braincam.training.device import pick_device, pick_precision
from braincam.training.loop import train_epoch

SIDE = 128
BATCH = 64


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak(precision: torch.dtype, device: torch.device) -> float:
    """Floating-point operations per second of the best of five large matrix products."""
    side = 2048
    a = torch.randn(side, side, device=device, dtype=precision)
    return 2 * side**3 / min(seconds(lambda: (a @ a)[0, 0].item()) for _ in range(5))


def operations() -> float:
    """Floating-point operations of training on one slice: a forward and a backward pass."""
    with FlopCounterMode(display=False) as counter:
        AttentionCNN(NetworkConfig()).eval()(torch.rand(1, 1, SIDE, SIDE))
    return 3.0 * counter.get_total_flops()


def plain_loop(folder: Path, rows: list[int], workers: int) -> float:
    """Seconds of one epoch of the loop most people write."""
    transform = v2.Compose(
        [
            v2.Grayscale(), v2.Resize((SIDE, SIDE)), v2.RandomHorizontalFlip(), v2.RandomRotation(15),
            v2.ColorJitter(0.2, 0.2), v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.18], [0.19]),
        ]
    )  # fmt: skip
    dataset = Subset(datasets.ImageFolder(str(folder), transform), rows)
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=True)
    network = AttentionCNN(NetworkConfig())
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)

    def epoch() -> None:
        for images, labels in loader:
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    epoch()  # workers started, files in the system's memory
    return seconds(epoch)


def our_loop(pixels: torch.Tensor, labels: torch.Tensor, device: torch.device, side_share: float) -> float:
    """Seconds of one epoch of `braincam train` at a share of the full size."""
    config = TrainConfig(batch_size=BATCH, epochs=2, resolution_steps=(1.0,))
    network = AttentionCNN(NetworkConfig()).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = AttentionCNN(NetworkConfig()).to(device).eval()
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate)
    pool = Pool(pixels, labels).to(device)

    def epoch(number: int) -> None:
        train_epoch(
            network, averaged, optimizer, Preprocess(PreprocessConfig(image_size=SIDE)), pool, config,
            epoch=number, side=int(SIDE * side_share), precision=pick_precision("auto", device),
        )  # fmt: skip

    epoch(1)
    return seconds(lambda: epoch(2))


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--images", type=int, default=1280)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    device = pick_device("auto")
    precision = pick_precision("auto", device)

    manifest = read_folder(chosen.data)
    order = np.random.default_rng(0).permutation(len(manifest.slices))[: chosen.images].tolist()
    slices = [read_one_slice(manifest.file(row)) for row in order]
    preprocess = Preprocess(PreprocessConfig(image_size=SIDE))
    scaled = np.concatenate([to_bytes(preprocess.scale(torch.from_numpy(item)[None])[0]) for item in slices])
    labels = torch.tensor([manifest.labels[row] for row in order])

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number, row in enumerate(order):  # the same slices, as ImageFolder wants them
            source = manifest.file(row)
            place = folder / manifest.slices[row].label / f"{number}{source.suffix}"
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(source.resolve())
        plain = plain_loop(folder, list(range(len(order))), workers=chosen.threads)
    ours = {share: our_loop(torch.from_numpy(scaled), labels, device, share) for share in (1.0, 0.75, 0.625)}

    n, work, best = len(order), operations(), {name: peak(name, device) for name in {precision, torch.float32}}
    kind = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
    print(f"{n} slices, {chosen.threads} threads, {device}\n")
    print("| training loop | images per second | ratio | of peak |\n|---|---|---|---|")
    print(f"| plain, float32 | {n / plain:.0f} | 1 | {n * work / plain / best[torch.float32]:.2f} |")
    for share, took in ours.items():
        speed = work * share**2 * n / took / best[precision]
        name = f"braincam, {kind[precision]}, {int(SIDE * share)} pixels"
        print(f"| {name} | {n / took:.0f} | {plain / took:.1f} | {speed:.2f} |")

    predictor = Predictor()
    alike = [item for item in slices if item.shape == slices[0].shape][:256]
    batches = [np.stack(alike[start : start + 16]) for start in range(0, len(alike), 16)]
    print("\n| answering, slices in memory | images per second |\n|---|---|")
    for cam in (True, False):
        took = min(seconds(lambda cam=cam: [predictor.answer(batch, cam=cam) for batch in batches]) for _ in range(3))
        print(f"| {'with' if cam else 'without'} maps | {sum(map(len, batches)) / took:.0f} |")


if __name__ == "__main__":
    main()
