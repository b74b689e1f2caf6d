"""How fast one slice is answered, beside torchvision's networks and the usual heat maps, on one machine in one run.

    python benchmarks/inference.py [--model M] [--threads 1 2] [--runs 200] [--only GROUP...]

In MLPerf's terms. Single-stream: one query follows the other; p50, p90 and p99 of the latency. Offline: everything is
at hand; slices per second in batches of 16. Every row is a process of its own, with its number of threads fixed;
float32 throughout, unless M is an int8 file. "Times" is a row's p50 over that of its group's first row.

- **network**: a standardised input to logits; ours to logits and map, from the slice and its mirror image (1 x 128 x
  128), the others to logits (3 x 224 x 224). In ONNX Runtime, and in eager PyTorch. Weights of the others are random:
  speed does not depend on them.
- **graph**: a grey slice (224 x 224, uint8) to all outputs of the model file, with and without the map.
- **map**: a standardised input to a prediction with its map: our network in ONNX Runtime as it is, beside Grad-CAM by
  pytorch-grad-cam and by torchcam on the same network in eager PyTorch, which see the slice once, not its mirror image;
  and by pytorch-grad-cam of both, which is what the same answer takes.
- **file**: the bytes of a PNG (224 x 224) to the decided answer with map, beside ResNet-18 with Pillow, NumPy and ONNX
  Runtime, no map.
- **cold**: a fresh process for one PNG, to its exit: `braincam predict`, beside a script with PyTorch and ResNet-18.

Needs the extra `bench`: pip install '.[bench]'
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from braincam.model_file.zoo import find_model
from braincam.predict import Predictor

WARM_UP = 10
BATCH = 16  # of the offline scenario
SIDE = 224  # of the slice, and of what torchvision's networks see
PEERS = {
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "mobilenet_v3_small": "MobileNetV3-Small",
    "efficientnet_b0": "EfficientNet-B0",
}
OURS = "braincam"
TITLE = {OURS: OURS, **PEERS}
ORT, EAGER = "ONNX Runtime", "eager PyTorch"

Query = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line of the table, measured in a process of its own."""

    group: str
    name: str
    runtime: str
    make: Callable[[argparse.Namespace, int], Query]  # options, slices per query → the query
    offline: bool = True


# -- the queries: made once, then timed --------------------------------------------------------------------------------


def session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A peer's graph with a fixed number of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def runtime_network(name: str) -> Callable[[argparse.Namespace, int], Query]:
    """A network alone in ONNX Runtime."""

    def make(options: argparse.Namespace, n: int) -> Query:
        loaded = session(options.folder / f"{name}.onnx", options.threads[0])
        (given,) = loaded.get_inputs()
        x = np.random.default_rng(0).standard_normal((n, *given.shape[1:]), np.float32)
        return lambda: loaded.run(None, {given.name: x})

    return make


def eager_network(name: str) -> Callable[[argparse.Namespace, int], Query]:
    """A network alone in eager PyTorch."""

    def make(options: argparse.Namespace, n: int) -> Query:
        import torch

        torch.set_num_threads(options.threads[0])
        network, shape = torch_network(name, options.model)
        x = torch.randn(n, *shape)

        def query() -> object:
            with torch.inference_mode():
                return network(x)

        return query

    return make


def torch_network(name: str, model: str | None):  # type: ignore[no-untyped-def]  # torch stays out of this module
    """A network to be asked for its answers, and the shape of its input."""
    import torchvision

    if name != OURS:
        return torchvision.models.get_model(name).eval(), (3, SIDE, SIDE)
    from torch import nn

    network, shape = our_network(model)

    class WithMap(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x):  # type: ignore[no-untyped-def]
            return self.network.read(x)[::2]  # logits and map

    return WithMap().eval(), shape


def our_network(model: str | None):  # type: ignore[no-untyped-def]
    """The trainable twin's network alone, and the shape of its input."""
    from braincam.model_file.export import load_model

    deployed, card = load_model(find_model(model).path.with_suffix(".safetensors"))
    side = card.preprocess["image_size"]
    return deployed.network.eval(), (len(card.preprocess["mean"]), side, side)


def graph(*, cam: bool) -> Callable[[argparse.Namespace, int], Query]:
    """The whole model file on grey slices."""

    def make(options: argparse.Namespace, n: int) -> Query:
        predictor = Predictor(options.model, threads=options.threads[0])
        slices = np.stack([picture(seed) for seed in range(n)])
        return lambda: predictor.answer(slices, cam=cam)

    return make


def grad_cam(library: str, *, mirror: bool = False) -> Callable[[argparse.Namespace, int], Query]:
    """Grad-CAM on our network, with `mirror` of the slice and its mirror image; the library's own defaults."""

    def make(options: argparse.Namespace, n: int) -> Query:
        import torch

        torch.set_num_threads(options.threads[0])
        network, shape = our_network(options.model)
        x = torch.randn(n, *shape)
        if library == "pytorch-grad-cam":
            from pytorch_grad_cam import GradCAM

            theirs = GradCAM(model=network, target_layers=[network.last_stage])
            if mirror:
                return lambda: theirs(input_tensor=torch.cat((x, x.flip(3))), targets=None)
            return lambda: theirs(input_tensor=x, targets=None)  # of the leading class
        from torchcam.methods import GradCAM as TorchGradCAM

        extractor = TorchGradCAM(network, target_layer=network.last_stage)

        def query() -> object:
            logits = network(x)
            return extractor(logits.argmax(1).tolist(), logits)

        return query

    return make


def our_file(options: argparse.Namespace, n: int) -> Query:
    """Bytes of PNG files to decided answers with maps."""
    predictor = Predictor(options.model, threads=options.threads[0])
    files = [png(seed) for seed in range(n)]
    return lambda: predictor.predict(files)


def peer_file(options: argparse.Namespace, n: int) -> Query:
    """Bytes of PNG files to ResNet-18's classes."""
    loaded = session(options.folder / "resnet18.onnx", options.threads[0])
    files = [png(seed) for seed in range(n)]
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])

    def query() -> object:
        opened = [Image.open(io.BytesIO(file)).convert("RGB").resize((SIDE, SIDE)) for file in files]
        x = ((np.stack(opened).astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2)
        return loaded.run(None, {loaded.get_inputs()[0].name: x})[0].argmax(1)

    return query


def our_cold_start(options: argparse.Namespace, n: int) -> Query:  # noqa: ARG001
    """`braincam predict` on one file."""
    command = [sys.executable, "-m", "braincam", "predict", str(options.folder / "slice.png"), "--format", "json"]
    if options.model:
        command += ["--model", options.model]
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def peer_cold_start(options: argparse.Namespace, n: int) -> Query:  # noqa: ARG001
    """What a script with PyTorch does for one file."""
    program = (
        "import sys, torch\nfrom PIL import Image\nfrom torchvision import models, transforms\n"
        "x = transforms.ToTensor()(Image.open(sys.argv[1]).convert('RGB'))[None]\n"
        "print(models.resnet18().eval()(x).argmax().item())"
    )
    command = [sys.executable, "-c", program, str(options.folder / "slice.png")]
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


ROWS = [
    *(Row("network", TITLE[name], ORT, runtime_network(name)) for name in TITLE),
    *(Row("network", TITLE[name], EAGER, eager_network(name)) for name in TITLE),
    Row("graph", "braincam, with map", ORT, graph(cam=True)),
    Row("graph", "braincam, without map", ORT, graph(cam=False)),
    Row("map", "braincam, exact map", ORT, runtime_network(OURS)),
    Row("map", "Grad-CAM by pytorch-grad-cam", EAGER, grad_cam("pytorch-grad-cam")),
    Row("map", "the same, mirror image too", EAGER, grad_cam("pytorch-grad-cam", mirror=True)),
    Row("map", "Grad-CAM by torchcam", EAGER, grad_cam("torchcam")),
    Row("file", "braincam, with map", ORT, our_file),
    Row("file", "ResNet-18, no map", ORT, peer_file),
    Row("cold", "braincam predict", ORT, our_cold_start, offline=False),
    Row("cold", "script with ResNet-18", EAGER, peer_cold_start, offline=False),
]


# -- slices, files, graphs ---------------------------------------------------------------------------------------------


def picture(seed: int) -> np.ndarray:
    """A smooth bright disc on black, (224, 224) uint8: a head as far as framing is concerned."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    coarse = np.random.default_rng(seed).integers(60, 255, (7, 7), dtype=np.uint8)
    inside = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return np.where(x**2 + y**2 < 0.7, inside, 0).astype(np.uint8)


def png(seed: int) -> bytes:
    """The same as the bytes of a PNG."""
    file = io.BytesIO()
    Image.fromarray(picture(seed)).save(file, format="PNG")
    return file.getvalue()


def write_graphs(folder: Path, model: str | None, groups: list[str]) -> None:
    """The networks that some groups of rows need, alone, as ONNX files; and one slice as a PNG."""
    import torch

    from braincam.model_file.export import quiet

    needed = list(TITLE) if {"network", "map"} & set(groups) else ["resnet18"] if "file" in groups else []
    for name in needed:
        network, shape = torch_network(name, model)
        with quiet():
            program = torch.onnx.export(
                network, (torch.zeros(2, *shape),), dynamo=True, verbose=False,
                dynamic_shapes=({0: torch.export.Dim("N", min=1, max=1024)},),
            )  # fmt: skip
        assert program is not None
        program.save(str(folder / f"{name}.onnx"))
    (folder / "slice.png").write_bytes(png(0))


# -- measuring ---------------------------------------------------------------------------------------------------------


def measure(row: Row, options: argparse.Namespace) -> dict[str, float]:
    """Latencies in milliseconds and slices per second."""
    cold = row.group == "cold"
    runs, warm_up = (max(3, options.runs // 20), 1) if cold else (options.runs, WARM_UP)
    taken = time_query(row.make(options, 1), runs, warm_up)
    p50, p90, p99 = (float(value) for value in np.quantile(taken, (0.5, 0.9, 0.99)))
    found = {"p50": 1000 * p50, "p90": 1000 * p90, "p99": 1000 * p99}
    if row.offline:
        batches = max(3, options.runs // BATCH)
        found["offline"] = BATCH / statistics.median(time_query(row.make(options, BATCH), batches, 1))
    return found


def time_query(query: Query, runs: int, warm_up: int) -> list[float]:
    """Seconds of each of `runs` calls, after some that are not counted."""
    taken = []
    for number in range(warm_up + runs):
        start = time.perf_counter()
        query()
        if number >= warm_up:
            taken.append(time.perf_counter() - start)
    return taken


def in_a_process(number: int, threads: int, folder: Path, options: argparse.Namespace) -> dict[str, float] | str:
    """Measure a row where nothing else has been loaded; or why it could not be."""
    command = [sys.executable, __file__, "--row", str(number), "--folder", str(folder), "--runs", str(options.runs)]
    command += ["--threads", str(threads), *(["--model", options.model] if options.model else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no word"])[-1]
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure every row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model file, run folder or name (default: the packaged model)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=200, help="queries of each row; a twentieth of it for cold starts")
    groups = list(dict.fromkeys(row.group for row in ROWS))
    parser.add_argument("--only", nargs="+", choices=groups, default=groups, metavar="GROUP")
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)  # this process measures one row
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row is not None:
        print(json.dumps(measure(ROWS[options.row], options)))
        return
    if {"network", "map"} & set(options.only) and not find_model(options.model).path.with_suffix(
        ".safetensors"
    ).is_file():
        sys.exit(f"{options.model}: has no .safetensors beside it to take the network from; use --only graph file cold")
    where = f"{platform.machine()}, {os.cpu_count()} cores, ONNX Runtime {onnxruntime.__version__}"
    print(f"{where}, {options.runs} queries\n")
    print("| from | what | in | threads | p50, ms | p90 | p99 | offline, slices per second | times |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_graphs(folder, options.model, options.only)
        for threads in options.threads:
            first: dict[str, float] = {}
            for number, row in enumerate(ROWS):
                if row.group not in options.only:
                    continue
                found = in_a_process(number, threads, folder, options)
                what = f"| {row.group} | {row.name} | {row.runtime} | {threads}"
                if isinstance(found, str):
                    print(f"{what} | not measured: {found} | | | | |", flush=True)
                    continue
                times = found["p50"] / first.setdefault(row.group, found["p50"])
                offline = f"{found['offline']:.0f}" if "offline" in found else "–"
                latency = " | ".join(f"{found[key]:.1f}" for key in ("p50", "p90", "p99"))
                print(f"{what} | {latency} | {offline} | {times:.1f} |", flush=True)


if __name__ == "__main__":
    main()
