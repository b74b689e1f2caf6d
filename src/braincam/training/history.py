"""What each epoch measured, and its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from braincam.files import replacing


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One row of ``history.csv``. Losses are cross-entropies in nats, accuracies shares of 1."""

    epoch: int  # from 1
    side: int  # pixels of the training slices; validation is always at full size
    train_loss: float  # plain cross-entropy, as for validation, while the weights move
    train_accuracy: float  # on augmented slices, while the weights move
    val_loss: float  # plain cross-entropy, without label smoothing
    val_accuracy: float
    val_balanced_accuracy: float
    learning_rate: float
    images_per_second: float  # training slices
    seconds: float  # training and validation
    data_share: float | None = None  # of the training's time, what making the batches took; None: not measured yet


def best_epoch(history: Sequence[Epoch]) -> int:
    """The epoch whose weights are kept: lowest validation loss among those of the largest slices, the first of equals.

    An epoch on smaller slices may be luckier on a small validation part, but it has not seen what will be judged.
    """
    return min(history, key=lambda row: (-row.side, row.val_loss, row.epoch)).epoch


def data_share(history: Sequence[Epoch]) -> float | None:
    """Share of all training steps' time that making the batches took, 0 to 1; None where no epoch measured it."""
    # every epoch trains on as many slices, so it lasts as long as it is slow
    times = [(row.data_share, 1 / row.images_per_second) for row in history if row.data_share is not None]
    return sum(share * time for share, time in times) / sum(time for _, time in times) if times else None


def to_frame(history: Sequence[Epoch]) -> pd.DataFrame:
    """The history as a table, one row per epoch."""
    return pd.DataFrame([asdict(row) for row in history])


def write_history(path: Path, history: Sequence[Epoch]) -> None:
    """Write ``history.csv`` in one step."""
    with replacing(path) as temporary:
        to_frame(history).to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
