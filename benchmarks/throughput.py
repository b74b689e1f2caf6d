"""Training and answering in images per second, beside the loop that most people write, in one run of a few minutes.

    python benchmarks/throughput.py DATA [--threads N] [--images 640] [--rounds 3]

The plain loop (`_plain.py`): ImageFolder, transforms picture by picture in DataLoader workers, float32, Adam. Both
train the default recipe's network on the same slices in batches of 32, and take turns, so that a busy machine slows
both; medians over the rounds, after a first one that is not counted. The plain loop decodes in every epoch; ours did so
before the first, at a cost given in a line of its own. The recipe trains on smaller pictures first: those sizes have a
row each, and the mean over the whole schedule is the last. The plain loop has two rows: at the recipe's size, which is
what the loop alone costs, and at 224 pixels, which is how people run it; two columns give the ratio to each.

Answering: on the processor, from files in memory to decided answers through `Predictor` (ONNX Runtime), which frames
the head, reads the slice and its mirror image, and scores outliers; and the plain way, the same loader and the network
alone on the slice as it is, in eager PyTorch, batches of 32, which does none of that.

`of peak`: the operations of the network (a training step is three forward passes) as a share of what the machine
reaches in one large matrix product of the same precision with the same threads, the fastest of the same rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import _plain
from braincam import Predictor
from braincam.dataset.fingerprints import read_one_slice
from braincam.dataset.manifest import Manifest, read_folder
from braincam.network.build import build_network
from braincam.pipeline.pools import to_bytes
from braincam.pipeline.train import preprocessing
from braincam.training.batches import Pool
from braincam.training.config import TrainConfig
from braincam.training.device import describe_device, pick_device, pick_precision
from braincam.training.loop import train_epoch
from braincam.training.schedule import side_at

RECIPE = TrainConfig()
BATCH = RECIPE.batch_size
PRODUCT = 2048  # side of the matrices of the peak
PRODUCTS = 5  # in each round


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def matrix_product(precision: torch.dtype, device: torch.device) -> Callable[[], object]:
    """One large product, awaited."""
    a = torch.randn(PRODUCT, PRODUCT, device=device, dtype=precision)
    return lambda: (a @ a)[0, 0].item()


def operations(side: int, *, mirror: bool) -> float:
    """Floating-point operations of one slice's forward pass; `mirror`: of its answer, mirror image and map included."""
    network = _plain.our_network(4)[0].eval()
    slices = torch.rand(1, len(RECIPE.mean), side, side)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        if mirror:
            network.read(slices)  # type: ignore[operator]
        else:
            network(slices)
    return float(counter.get_total_flops())


def plain_training(batches: _plain.Batches, device: torch.device) -> Callable[[], object]:
    """An epoch of the plain loop."""
    network = _plain.our_network(4)[0].to(device)
    optimizer = torch.optim.Adam(network.parameters(), _plain.LEARNING_RATE)
    return lambda: _plain.train_epoch(network, batches, optimizer)


def our_training(pool: Pool, device: torch.device, precision: torch.dtype, side: int) -> Callable[[], object]:
    """An epoch of `braincam train` at one size."""
    network, averaged = (build_network(RECIPE.network_facts(4)).to(device) for _ in range(2))
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), RECIPE.learning_rate)
    return lambda: train_epoch(
        network, averaged.eval(), optimizer, preprocessing(RECIPE), pool, RECIPE,
        epoch=RECIPE.epochs // 2, side=side, precision=precision,
    )  # fmt: skip


def plain_answering(network: nn.Module, batches: _plain.Batches) -> Callable[[], object]:
    """Every picture through the plain loader and eager PyTorch."""
    return lambda: _plain.accuracy(network, batches)


def decoded(manifest: Manifest, rows: list[int]) -> Pool:
    """Slices at the recipe's size, as training keeps them."""
    preprocess = preprocessing(RECIPE)
    slices = [torch.from_numpy(read_one_slice(manifest.file(row)))[None] for row in rows]
    pixels = np.concatenate([to_bytes(preprocess.scale(item)[0]) for item in slices])
    return Pool(torch.from_numpy(pixels), torch.tensor([manifest.labels[row] for row in rows]))


def main() -> None:
    """Measure in turns and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = pick_device("auto")
    precision = pick_precision("auto", device)

    manifest = read_folder(options.data)
    rows = np.random.default_rng(0).permutation(len(manifest.slices))[: options.images].tolist()
    n, full = len(rows), RECIPE.image_size
    pools: list[Pool] = []
    decoding = seconds(lambda: pools.append(decoded(manifest, rows)))
    pool = pools[0].to(device)
    files = [manifest.file(row).read_bytes() for row in rows]
    paths = [manifest.slices[row].path for row in rows]

    def loader(side: int, *, learning: bool) -> _plain.Batches:
        change = _plain.transform(side, 1, training=learning)
        return _plain.loader(_plain.pictures(options.data, paths, change), BATCH, options.threads, shuffle=learning)

    sides = [side_at((epoch + 1) / RECIPE.epochs, full, RECIPE.resolution_steps) for epoch in range(RECIPE.epochs)]
    predictor = Predictor(threads=options.threads)
    network = _plain.our_network(4)[0].eval()
    work: dict[str, Callable[[], object]] = {
        "plain": plain_training(loader(full, learning=True), device),
        "plain as run": plain_training(loader(_plain.SIDE, learning=True), device),
        **{f"ours {side}": our_training(pool, device, precision, side) for side in sorted(set(sides), reverse=True)},
        "plain answers": plain_answering(network, loader(full, learning=False)),
        "with maps": lambda: predictor.predict(files),
        "without maps": lambda: predictor.predict(files, cam=False),
        "product": matrix_product(precision, device),
        "float32 product": matrix_product(torch.float32, device),
        "float32 product of the processor": matrix_product(torch.float32, torch.device("cpu")),
    }
    taken: dict[str, list[float]] = defaultdict(list)
    for number in range(options.rounds + 1):
        for name, call in work.items():
            times = [seconds(call) for _ in range(PRODUCTS if "product" in name else 1)]
            if number:  # the first starts workers and warms up
                taken[name] += times
    median = {name: statistics.median(values) for name, values in taken.items()}
    peak = {name: 2 * PRODUCT**3 / min(taken[name]) for name in work if "product" in name}

    kind = str(precision).removeprefix("torch.")
    print(
        f"{n} slices, {describe_device(device)}, {options.threads} threads, median of {options.rounds} rounds in turns"
    )
    print(f"peak of a {PRODUCT} x {PRODUCT} product: {peak['product'] / 1e9:.0f} GFLOP/s in {kind}, "
          f"{peak['float32 product'] / 1e9:.0f} in float32\n")  # fmt: skip

    def share(took: float, operations_each: float, peak_of: str) -> str:
        return f"{operations_each * n / took / peak[peak_of]:.2f}"

    def training(name: str, took: float, operations_each: float, peak_of: str) -> None:
        ratios = f"{median['plain'] / took:.1f} | {median['plain as run'] / took:.1f}"
        print(f"| {name} | {n / took:.0f} | {ratios} | {share(took, operations_each, peak_of)} |")

    print(f"| training, the same network | images per second | ratio to the loop at {full} "
          f"| to the loop at {_plain.SIDE} | of peak |\n|---|---|---|---|---|")  # fmt: skip
    for name, side in ("plain as run", _plain.SIDE), ("plain", full):
        training(f"plain loop, float32, {side} pixels", median[name], 3 * operations(side, mirror=False),
                 "float32 product")  # fmt: skip
    for side in sorted(set(sides), reverse=True):
        step = 3 * operations(side, mirror=False)
        training(f"braincam, {kind}, {side} pixels", median[f"ours {side}"], step, "product")
    mean = statistics.mean(median[f"ours {side}"] for side in sides)
    step = statistics.mean(3 * operations(side, mirror=False) for side in sides)
    training(f"braincam, {kind}, whole schedule of {len(sides)} epochs", mean, step, "product")
    print(f"\nDecoding and framing, once: {n / decoding:.0f} slices per second on one thread.\n")

    print("| answering, files in memory | images per second | ratio | of peak |\n|---|---|---|---|")
    base, processor = median["plain answers"], "float32 product of the processor"
    for name, took, mirror in (
        ("plain: loader and eager PyTorch, no map", base, False),
        ("braincam, with maps, mirror image included", median["with maps"], True),
        ("braincam, without maps, mirror image included", median["without maps"], True),
    ):
        of_peak = share(took, operations(full, mirror=mirror), processor)
        print(f"| {name} | {n / took:.0f} | {base / took:.1f} | {of_peak} |")


if __name__ == "__main__":
    main()
