"""How fast one slice is answered, as a ratio to torchvision's ResNet-18 in the same ONNX Runtime, in one run.

    python benchmarks/inference.py [--model M] [--threads 1 2] [--runs 200]

Network only: from a grey slice (224 x 224, uint8) to probabilities, map and outlier score; ResNet-18 from its
standardised input (1, 3, 224, 224) to logits. Single-stream as MLPerf defines it: the next query follows the last; p50,
p90 and p99 of the latency. The two models take turns, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import onnxruntime
import torch
from torchvision.models import resnet18

from braincam.model_file.export import quiet
from braincam.model_file.zoo import find_model

WARM_UP = 20


def resnet_session(threads: int) -> onnxruntime.InferenceSession:
    """ResNet-18 with random weights: speed does not depend on them."""
    with quiet():
        program = torch.onnx.export(resnet18().eval(), (torch.zeros(1, 3, 224, 224),), dynamo=True, verbose=False)
    assert program is not None
    content = program.model_proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model file, run folder or name (default: the packaged model)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=200)
    options = parser.parse_args()
    slices = np.random.default_rng(0).integers(0, 256, (1, 224, 224), dtype=np.uint8)
    print(f"ONNX Runtime {onnxruntime.__version__}, float32, batch 1, {options.runs} runs each, taking turns")
    for threads in options.threads:
        ours, peer = find_model(options.model).session(threads), resnet_session(threads)
        peer_name = peer.get_inputs()[0].name
        picture = np.zeros((1, 3, 224, 224), np.float32)
        queries = {
            "braincam, with map": lambda ours=ours: ours.run(None, {"image": slices}),
            "braincam, without map": lambda ours=ours: ours.run(["probabilities", "outlier_score"], {"image": slices}),
            "ResNet-18": lambda peer=peer, name=peer_name, picture=picture: peer.run(None, {name: picture}),
        }
        taken: dict[str, list[float]] = {name: [] for name in queries}
        for number in range(WARM_UP + options.runs):
            for name, query in queries.items():
                start = time.perf_counter()
                query()
                if number >= WARM_UP:
                    taken[name].append(1000 * (time.perf_counter() - start))
        base = float(np.median(taken["ResNet-18"]))
        for name, values in taken.items():
            p50, p90, p99 = np.quantile(values, (0.5, 0.9, 0.99))
            latency = f"p50 {p50:6.2f} ms  p90 {p90:6.2f}  p99 {p99:6.2f}"
            print(f"{threads} thread(s)  {name:<22} {latency}  {base / p50:5.1f} x ResNet-18")


if __name__ == "__main__":
    main()
