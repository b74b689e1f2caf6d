"""Parameters and multiply-adds of the named sizes and of the peer, as the table in docs/recipe.md.

python benchmarks/network_sizes.py
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from braincam.network.attention_cnn import SIZES
from braincam.network.build import build_network
from braincam.network.resnet18 import RESNET18

SIDE = 128


def main() -> None:
    """Print one Markdown row per size."""
    print(f"| size | widths | parameters | multiply-adds of an answer at {SIDE} × {SIDE}, mirror image included |")
    print("|---|---|---|---|")
    for size, widths in {**SIZES, RESNET18: (64, 128, 256, 512)}.items():
        model = build_network({"size": size}).eval()
        parameters = sum(parameter.numel() for parameter in model.parameters())
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model.read(torch.zeros(1, 1, SIDE, SIDE))
        print(f"| {size} | {', '.join(map(str, widths))} | {parameters:,} | {counter.get_total_flops() / 2e6:.0f} M |")


if __name__ == "__main__":
    main()
