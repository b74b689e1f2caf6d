"""Which outlier score refuses most of what is no brain MRI slice? Several, on the features of the same network.

    python benchmarks/outliers.py DATA --split protocol.csv --fold 0 [--ct CT.nii.gz] [--flags flags.csv] [--model M]

M is a trainable model file (safetensors; by default the packaged model's). The references are the slices of the other
folds, the sources those of `refusals.py`, in grey, by score alone. Each score's threshold is the one that 1 % of the
fold's slices exceed, so that none is better for being stricter. Nothing is tuned on the sources.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from braincam.evaluation.outliers import fit_outliers
from braincam.model_file.export import load_model
from braincam.model_file.zoo import packaged
from braincam.network.exportable import Deployed
from braincam.progress import track
from refusals import Pixels, far_from_heads, slices_of

NEIGHBOUR = 10
ALLOWED = 0.01  # of the fold's slices, above the threshold
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Reading = tuple[Floats, Floats]  # logits (N, K), features (N, D)


@torch.inference_mode()
def read(model: Deployed, slices: list[Pixels], what: str) -> Reading:
    """Logits and features of slices of any size, as the model file computes them."""
    logits, features = [], []
    for pixels in track(slices, what, len(slices), "slices"):
        scaled, _ = model.preprocess.scale(torch.from_numpy(pixels)[None])
        found = model.network.read(model.preprocess.standardise(scaled))
        logits.append(found.logits)
        features.append(found.features)
    return torch.cat(logits).numpy().astype(float), torch.cat(features).numpy().astype(float)


def scores(model: Deployed, reference: Reading) -> dict[str, Callable[[Reading], Floats]]:
    """Name → outlier score of readings, (N,), higher = less like the references."""
    logits, features = reference
    coarsest = len(model.network.scales(torch.zeros(1, model.network.config.channels, 64, 64))[-1][0])  # features
    whitening = model.whitening.numpy().astype(float)
    near = NearestNeighbors(n_neighbors=NEIGHBOUR).fit(features @ whitening)
    alike = NearestNeighbors(n_neighbors=NEIGHBOUR, metric="cosine").fit(features)

    def to_classes(reading: Reading) -> Floats:
        return model.judge(*(torch.from_numpy(part).float() for part in reading))[1].numpy().astype(float)

    def distance(classes: Ints, of: Callable[[Floats], Floats]) -> Callable[[Reading], Floats]:
        centres, whiten = fit_outliers(of(features), classes, classes.max() + 1)
        return lambda reading: np.linalg.norm((of(reading[1]) @ whiten)[:, None] - centres, axis=2).min(1)

    named = logits.argmax(1)  # the network's answers on what it was trained on are its labels, nearly all of them
    return {
        "Mahalanobis distance to the nearest class mean (the model's)": to_classes,
        "the same, coarsest scale alone": distance(named, lambda rows: rows[:, -coarsest:]),
        "the same, without square roots": distance(named, np.square),
        "the same, coarsest scale alone, without square roots": distance(named, lambda rows: rows[:, -coarsest:] ** 2),
        "Mahalanobis distance to one mean": distance(np.zeros_like(named), lambda rows: rows),
        f"distance to the {NEIGHBOUR}th neighbour, whitened": lambda r: near.kneighbors(r[1] @ whitening)[0][:, -1],
        f"distance to the {NEIGHBOUR}th neighbour, cosine": lambda r: alike.kneighbors(r[1])[0][:, -1],
        "energy of the logits": lambda r: -np.logaddexp.reduce(r[0], axis=1),
        "1 - largest probability": lambda r: 1 - np.exp(r[0].max(1) - np.logaddexp.reduce(r[0], axis=1)),
    }


def rank(inside: Floats, outside: Floats) -> float:
    """Area under the ROC curve: how often a score from outside is above one from inside."""
    return float(roc_auc_score(np.repeat([0, 1], [len(inside), len(outside)]), np.r_[inside, outside]))


def main() -> None:
    """Print one row per score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--flags", type=Path)
    parser.add_argument("--ct", type=Path)
    parser.add_argument("--model", type=Path, default=packaged() / "default.safetensors")
    options = parser.parse_args()
    model, _ = load_model(options.model)
    given = options.data, options.split, options.fold, options.flags
    real = slices_of(*given)
    reference = read(model, slices_of(*given, others=True), "references")
    inside = read(model, real, "slices of the fold")
    outside = {name: read(model, greys, name) for name, (_, greys) in far_from_heads(options.ct, real).items()}
    print(f"| score, refusing {ALLOWED:.0%} of real slices | mean over the sources | {' | '.join(outside)} | AUROC |")
    print(f"|---|---|{'---|' * len(outside)}---|")
    for name, score in scores(model, reference).items():
        own = score(inside)
        far = {source: score(reading) for source, reading in outside.items()}
        refused = [float((values > np.quantile(own, 1 - ALLOWED)).mean()) for values in far.values()]
        ranks = [rank(own, values) for values in far.values()]
        cells = [f"{value:.3f}" for value in (np.mean(refused), *refused, np.mean(ranks))]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
