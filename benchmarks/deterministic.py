"""What `braincam train --deterministic` costs: epochs of the default recipe with and without it, in turns.

    python benchmarks/deterministic.py [--threads 1] [--slices 128] [--rounds 5]

On synthetic slices, in float32 on the CPU. Times are the processor's, so that other programs count less. Prints the
median ratio over the rounds, and the smallest and largest.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from braincam.network.build import build_network
from braincam.pipeline.train import preprocessing
from braincam.training.batches import Pool
from braincam.training.config import TrainConfig
from braincam.training.deterministic import same_bits
from braincam.training.loop import train_epoch
from numerics import synthetic


def main() -> None:
    """Measure in turns, the first round being for warmth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slices", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = TrainConfig()
    preprocess, side = preprocessing(recipe), recipe.image_size
    scaled = [preprocess.scale(torch.from_numpy(pixels[None]))[0] for pixels in synthetic(options.slices // 2)]
    pixels = (torch.cat(scaled)[:, 0] * 255).round().to(torch.uint8)
    pool = Pool(pixels, torch.arange(len(pixels)) // 2 % 4)
    network, averaged = (build_network(recipe.network_facts(4)) for _ in range(2))
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate)

    def epoch(deterministic: bool) -> float:
        start = time.process_time()
        with same_bits(deterministic):
            train_epoch(
                network, averaged.eval(), optimizer, preprocess, pool, recipe,
                epoch=recipe.epochs, side=side, precision=torch.float32,
            )  # fmt: skip
        return time.process_time() - start

    ratios = [epoch(True) / epoch(False) for _ in range(options.rounds + 1)][1:]
    print(
        f"{len(pool)} slices at {side} pixels, {options.threads} threads: --deterministic takes "
        f"{np.median(ratios):.3f} times as long (rounds: {min(ratios):.3f} to {max(ratios):.3f})"
    )


if __name__ == "__main__":
    main()
