"""How many cells do a network's pixel weights choose? Without masks, a first sign of whether its maps point anywhere.

    python benchmarks/cells.py DATA RUN... [--slices 60] [--none notumor]

The half of the weight that is not shared out equally is a distribution over the cells of the map; the exponential of
its entropy is the number of cells that it is spread over, as if evenly. Small where a network looks at something, near
the size of the head where it has let its weights become equal (docs/recipe.md). Slices are drawn with a fixed seed from
the test part of each run, as its predictions.csv names it, without those of the class `--none`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from braincam.dataset.fingerprints import read_one_slice
from braincam.model_file.export import load_model
from braincam.network.attention_cnn import AttentionCNN, PixelWeights
from braincam.network.exportable import Deployed
from braincam.pipeline.evaluate import read_predictions

PERCENTILES = (5, 25, 50, 75, 95)


def chosen_cells(weights: Tensor) -> Tensor:
    """Pixel weights (N, 1, h, w) of mean 1 → over how many cells their chosen part is spread, (N,), from 1 to h · w."""
    chosen = (weights.flatten(1) - PixelWeights.EQUAL_SHARE).clamp_min(0)
    return torch.special.entr(chosen / chosen.sum(1, keepdim=True)).sum(1).exp()


def cells_of(model: Deployed, files: list[Path]) -> Tensor:
    """The same for slices in files, one by one, since their sizes differ: (N,)."""
    network = model.network
    if not isinstance(network, AttentionCNN) or network.where is None:
        raise SystemExit("expected a network with pixel weights, got one that pools by the mean")
    with torch.inference_mode():
        slices = (torch.from_numpy(read_one_slice(file))[None] for file in files)
        inputs = (model.preprocess.standardise(model.preprocess.scale(pixels)[0]) for pixels in slices)
        return torch.cat([chosen_cells(network.where(network.scales(x)[0])) for x in inputs])


def main() -> None:
    """One row per run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--slices", type=int, default=60)
    parser.add_argument("--none", default="notumor", help="the class whose slices show nothing to choose")
    options = parser.parse_args()
    print(f"| run | {' | '.join(f'{share} %' for share in PERCENTILES)} |\n|{'---|' * (len(PERCENTILES) + 1)}")
    for run in options.runs:
        table = read_predictions(run / "predictions.csv")
        table = table[table["label"] != options.none]
        table = table.sample(min(options.slices, len(table)), random_state=0)
        cells = cells_of(
            load_model(run / "model.safetensors")[0].eval(), [options.data / path for path in table["path"]]
        )
        shares = torch.quantile(cells, torch.tensor([share / 100 for share in PERCENTILES]))
        print(f"| {run.name} | {' | '.join(f'{value:.0f}' for value in shares.tolist())} |")


if __name__ == "__main__":
    main()
