"""The drawings of the reports: Matplotlib figures without a window and without pyplot's global state."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from braincam.errors import DataError
from braincam.evaluation.calibration import labelled_rows, reliability_bins
from braincam.evaluation.confidence import perfect_risk_curve, risk_curve

if TYPE_CHECKING:
    import pandas as pd

# Okabe and Ito's colours, told apart with every common kind of colour blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
DPI = 144  # of every PNG
INK, SOFT, GRID = "#1d232b", "#667180", "#e4e8ed"
BLUES = LinearSegmentedColormap.from_list("braincam", ["#f5f8fb", "#9cc4e0", "#0072B2", "#043a5c"])

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": True,  # without an edge: lines go behind the words, not through them
    "legend.facecolor": "white",
    "legend.edgecolor": "none",
    "legend.framealpha": 1.0,
    "lines.linewidth": 1.9,
    "figure.facecolor": "white",
    "text.parse_math": False,  # a class may be called "a$b$c"
}


def curves(history: pd.DataFrame, best_epoch: int | None = None) -> Figure:
    """Loss and accuracy, training against validation; one row of `history` is one epoch.

    Columns `epoch`, `train_loss`, `val_loss`, `train_accuracy`, `val_accuracy`; one that is missing is not
    drawn.
    """
    if "epoch" not in history.columns:
        raise DataError(f"curves: need a column 'epoch', got {list(history.columns)}")
    with _styled():
        figure = Figure(figsize=(10.5, 3.7), layout="constrained")
        pair = figure.subplots(1, 2)
        for axes, what, title in ((pair[0], "loss", "Loss"), (pair[1], "accuracy", "Accuracy")):
            _one_curve(axes, history, what, best_epoch)
            axes.set(title=title, xlabel="epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
        return figure


def _one_curve(axes: Axes, history: pd.DataFrame, what: str, best_epoch: int | None) -> None:
    epochs = history["epoch"].to_numpy(dtype=float)
    marker = "o" if len(epochs) == 1 else ""
    for part, name, colour in (("train", "training", PALETTE[0]), ("val", "validation", PALETTE[1])):
        column = f"{part}_{what}"
        if column in history.columns:
            axes.plot(epochs, history[column].to_numpy(dtype=float), marker=marker, color=colour, label=name)
    if axes.lines:
        axes.legend(loc="upper right" if what == "loss" else "lower right")
    column = f"val_{what}"
    if best_epoch is None or column not in history.columns or best_epoch not in epochs:
        return
    value = float(history[column].to_numpy(dtype=float)[epochs == best_epoch][0])
    axes.axvline(best_epoch, color=SOFT, lw=0.9, ls=(0, (3, 3)), zorder=1)
    if np.isfinite(value):
        axes.plot([best_epoch], [value], "o", ms=7, color=PALETTE[1], mec="white", mew=1.4, zorder=4)
        late = best_epoch > epochs.min() + 0.7 * (epochs.max() - epochs.min())
        axes.annotate(
            f"best epoch {best_epoch}\n{column.replace('_', ' ')} {value:.3f}",
            (best_epoch, 0.55 if what == "loss" else 0.3),
            xycoords=("data", "axes fraction"),
            xytext=(-8 if late else 8, 0),
            textcoords="offset points",
            ha="right" if late else "left",
            color=INK,
            fontsize=9,
            linespacing=1.4,
        )


def confusion(matrix: npt.ArrayLike, classes: Sequence[str]) -> Figure:
    """Counts[reference, predicted] (K, K), shaded by the share of the reference class."""
    counts = np.asarray(matrix, np.float64)
    k = len(classes)
    if counts.shape != (k, k):
        raise DataError(f"confusion: need a matrix ({k}, {k}), one row per class, got {counts.shape}")
    rows = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, rows, out=np.zeros_like(counts), where=rows > 0)
    with _styled(**{"axes.grid": False}):
        side = min(1.5 + 0.72 * k, 9)
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(share, cmap=BLUES, vmin=0, vmax=1)
        axes.set_xticks(
            range(k),
            [_clipped(c) for c in classes],
            rotation=30 if k > 3 else 0,
            ha="right" if k > 3 else "center",
        )
        axes.set_yticks(range(k), [_clipped(c) for c in classes])
        axes.set(xlabel="predicted", ylabel="reference", title="Confusion matrix")
        axes.spines[:].set_visible(False)
        axes.set_xticks(np.arange(1, k) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, k) - 0.5, minor=True)
        axes.grid(which="minor", color="white", lw=2.5)
        axes.tick_params(which="minor", length=0)
        for i in range(k if k <= 12 else 0):
            for j in range(k):
                colour = "white" if share[i, j] > 0.45 else INK
                axes.text(j, i, f"{counts[i, j]:,.0f}", ha="center", va="bottom", color=colour, fontsize=12)
                axes.text(
                    j,
                    i + 0.06,
                    f"{share[i, j]:.1%}",
                    ha="center",
                    va="top",
                    color=colour,
                    fontsize=8,
                    alpha=0.8,
                )
        return figure


def roc(labels: npt.ArrayLike, probabilities: npt.ArrayLike, classes: Sequence[str]) -> Figure:
    """One curve per class against the rest: labels (N,), probabilities (N, K); none for an absent class."""
    rows, truth = labelled_rows(probabilities, labels, "probabilities")
    with _styled():
        figure = Figure(figsize=(4.4, 4.4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=SOFT, lw=0.9, ls=(0, (3, 3)))
        for k, name in enumerate(classes):
            if 0 < (truth == k).sum() < len(truth):
                false, true = _roc_points(truth == k, rows[:, k])
                area = float(np.sum(np.diff(false) * (true[1:] + true[:-1]))) / 2
                axes.plot(false, true, color=PALETTE[k % len(PALETTE)], label=f"{_clipped(name)}  {area:.3f}")
        if len(axes.lines) > 1:
            axes.legend(loc="lower right", title="area under the curve", alignment="left")
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC, class against rest")
        axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), aspect="equal")
        return figure


def reliability(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    before: npt.ArrayLike | None = None,
    called: str = "before calibration",
) -> Figure:
    """How often the answer is right against how sure the model is; below, where the slices lie.

    `before` (N, K) are the probabilities before calibration, or however else they are `called`, drawn beside them.
    """
    bins = reliability_bins(labels, probabilities)
    confidence = np.asarray(probabilities, np.float64).max(axis=1) if len(bins.count) else np.zeros(0)
    raw = None if before is None or not len(bins.count) else reliability_bins(labels, before)
    drawn = [part for each in (bins, raw) if each is not None for part in (each.confidence, each.accuracy)]
    low = min(np.floor(np.concatenate([*drawn, [0.9]]).min() * 10) / 10, 0.9)
    with _styled():
        figure = Figure(figsize=(4.4, 4.4), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        top.plot([low, 1], [low, 1], color=SOFT, lw=0.9, ls=(0, (3, 3)))
        top.vlines(bins.confidence, bins.confidence, bins.accuracy, color=PALETTE[1], lw=2, alpha=0.55)
        top.plot(bins.confidence, bins.accuracy, "o-", color=PALETTE[0], ms=6, mec="white", mew=1, lw=1.4)
        if raw is not None:
            words = f"{called}, ECE {raw.ece:.3f}"
            top.plot(raw.confidence, raw.accuracy, "o-", color=SOFT, ms=3.5, lw=1, zorder=1, label=words)
            top.legend(loc="upper left")
        ece = f"{bins.ece:.3f}" if len(bins.count) else "undefined"
        top.set(ylabel="share right", title=f"Reliability, ECE {ece}")
        top.set_ylim(low - 0.02, 1.02)
        bottom.hist(confidence, bins=np.linspace(low, 1, 31).tolist(), color=PALETTE[0], alpha=0.75)
        bottom.set(xlabel="probability of the answer", ylabel="slices", xlim=(low - 0.01, 1.01))
        return figure


def risk(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> Figure:
    """The share of wrong answers when only so large a share of the slices is answered, the surest first.

    Beside it that of a model with as many errors that knows them (El-Yaniv and Wiener 2010).
    """
    values, truth = labelled_rows(probabilities, labels, "probabilities")
    found, perfect = risk_curve(truth, values), perfect_risk_curve(truth, values)
    share = np.arange(1, len(truth) + 1) / max(1, len(truth))
    with _styled():
        figure = Figure(figsize=(4.4, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.plot(share, perfect, color=SOFT, lw=1, ls=(0, (3, 3)), label="as many errors, all known")
        axes.plot(share, found, color=PALETTE[1], label="this model")
        axes.legend(loc="upper left")
        axes.set(
            title=f"Risk by coverage, area {found.mean():.3f}" if len(truth) else "Risk by coverage",
            xlabel="share of slices answered, the surest first",
            ylabel="share of these that is wrong",
            xlim=(0, 1.01),
        )
        # among the first few answers one mistake is a large share: they may leave the frame
        axes.set_ylim(0, max(1.25 * found[len(found) // 20 :].max(initial=0), 0.01))
        return figure


def inputs(rows: Sequence[tuple[str, npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]]) -> Figure:
    """What a network is given: for each class its name and slices (n, S, S), as they are judged and as they are learnt.

    The second are None where nothing is varied while learning.
    """
    half = max(len(judged) for _, judged, _ in rows)
    columns = half + max(0 if learnt is None else len(learnt) for _, _, learnt in rows)
    with _styled():
        figure = Figure(figsize=(1.15 * columns + 0.4, 1.25 * len(rows) + 0.4), layout="constrained")
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for line, (name, *parts) in enumerate(rows):
            for first, pictures in zip((0, half), parts, strict=True):
                for axes, pixels in zip(grid[line, first:], () if pictures is None else pictures, strict=False):
                    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            grid[line, 0].set_title(f"{name}, as it is judged" if line == 0 else name, loc="left", fontsize=9)
        if columns > half:
            grid[0, half].set_title("as it is learnt", loc="left", fontsize=9)
        return figure


def to_png(figure: Figure) -> bytes:
    """The figure as PNG bytes, the same for the same figure."""
    buffer = io.BytesIO()
    with _styled():
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


@contextmanager
def _styled(**more: Any) -> Iterator[None]:
    with mpl.rc_context(STYLE | more):
        yield


def _roc_points(
    positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """False and true positive rate at every distinct threshold, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    true = np.concatenate([[0.0], np.cumsum(positive[order])[last]])
    false = np.concatenate([[0.0], np.cumsum(~positive[order])[last]])
    return false / false[-1], true / true[-1]


def _clipped(name: str, length: int = 18) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
