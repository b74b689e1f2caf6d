"""Path → prediction, through ONNX Runtime; torch is never imported here."""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from braincam.errors import ImageError
from braincam.images.grey import check_size, stretch_from_min_to_max
from braincam.images.reader import GreySlice, looks_readable, read_slices, to_grey
from braincam.model_file.card import NOTICE
from braincam.model_file.decision import prediction_sets
from braincam.model_file.zoo import find_model, usable_cores

BATCH = 16  # slices of one size answered together
BATCH_PIXELS = 2**24  # and no more pixels than these, one slice excepted
AHEAD = 4 * BATCH  # files decoded before they are asked for

Source = str | os.PathLike[str] | bytes | NDArray[Any]


@dataclass(frozen=True, eq=False)
class Answer:
    """What the graph says of a batch of N slices, before any decision."""

    probabilities: NDArray[np.float32]  # (N, K) calibrated
    outlier_score: NDArray[np.float32]  # (N,)
    cam: NDArray[np.float32] | None  # (N, K, h, w) evidence per pixel, over the whole picture


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction:
    """One answer for one slice; `to_json` gives the documented object."""

    path: str  # as given; "<bytes>" or "<array>" where there is none
    slice: int | None  # number within a volume; None for a single picture
    status: str  # ok, refer (too uncertain), rejected (not like a brain MRI slice), error
    label: str | None  # only for ok and refer
    probabilities: dict[str, float] | None  # class → calibrated probability; None for error
    prediction_set: list[str] | None  # classes that cannot be ruled out at the card's coverage
    confidence: float | None  # the largest probability
    outlier_score: float | None  # higher = less like the training scans
    reason: str | None  # why it is not ok
    overlay: str | None  # path of the picture, if one was written
    model: dict[str, str]  # name and sha256
    notice: str = NOTICE
    cam: NDArray[np.float32] | None = (
        None  # (h, w) evidence for the leading class over the whole picture; not in the JSON
    )
    class_maps: NDArray[np.float32] | None = None  # (K, h, w) the same for every class; not in the JSON
    pixels: NDArray[np.uint8] | None = None  # (H, W) the grey slice that was judged; not in the JSON

    def to_json(self) -> dict[str, Any]:
        """The documented fields, ready for `json.dumps`."""
        hidden = {"cam", "class_maps", "pixels"}
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in hidden}


class Predictor:
    """Answers for slices from one model file.

    >>> Predictor().predict("scan.png")[0].label          # doctest: +SKIP
    'meningioma'
    """

    def __init__(self, model: str | os.PathLike[str] | None = None, *, threads: int = 0):
        """Load a model: a path, a run folder, a name from `braincam models`, or None for the default.

        Raises:
            ModelFileError: there is no such model, or the file is not one.
        """
        self.file = find_model(model)
        self._session = self.file.session(threads)
        self.card = self.file.card(self._session)
        self._model = {"name": self.card.name, "sha256": self.file.sha256}

    def predict(self, source: Source | Sequence[Source], *, cam: bool = True) -> list[Prediction]:
        """Answer for a path, bytes, an array (H, W), (H, W, 3) or (N, H, W), or a list of them.

        A folder stands for the pictures in it. What cannot be read becomes a prediction with status "error"; nothing
        is raised for bad input.
        """
        many = isinstance(source, list | tuple)
        return list(self.stream(source if many else [source], cam=cam))  # type: ignore[arg-type,list-item]

    def stream(self, sources: Iterable[Source], *, cam: bool = True) -> Iterator[Prediction]:
        """Like `predict`, one answer at a time and in order; files are decoded ahead on other threads."""
        waiting: list[tuple[str, GreySlice]] = []
        for path, outcome in _decoded(expand(sources)):
            slices = outcome if isinstance(outcome, list) else []
            for item in slices:
                if waiting and not _joins(waiting[0][1].pixels.shape, len(waiting), item.pixels.shape):
                    yield from self._judge(waiting, cam)
                    waiting = []
                waiting.append((path, item))
            if not isinstance(outcome, list):
                yield from self._judge(waiting, cam)
                waiting = []
                yield self._error(path, str(outcome))
        yield from self._judge(waiting, cam)

    def answer(self, slices: NDArray[np.uint8], *, cam: bool = True) -> Answer:
        """Run the graph on grey slices (N, H, W) uint8, without deciding anything."""
        names = ["probabilities", "outlier_score", *(["cam"] if cam else [])]
        results = self._session.run(names, {"image": slices})
        return Answer(results[0], results[1], results[2] if cam else None)

    def answer_all(self, slices: Sequence[NDArray[np.uint8]], *, cam: bool = True) -> Answer:
        """Run the graph on one or more grey slices (H, W) uint8 of any sizes, in batches of one size and in order."""
        answers = [self.answer(np.stack(batch), cam=cam) for batch in _batches(slices)]
        maps = [answer.cam for answer in answers if answer.cam is not None]
        return Answer(
            np.concatenate([answer.probabilities for answer in answers]),
            np.concatenate([answer.outlier_score for answer in answers]),
            np.concatenate(maps) if maps else None,
        )

    def _judge(self, batch: list[tuple[str, GreySlice]], cam: bool) -> Iterator[Prediction]:
        if not batch:
            return
        try:
            answer = self.answer(np.stack([item.pixels for _, item in batch]), cam=cam)
        except Exception as error:  # memory, or one of ONNX Runtime's kinds, which share no public base
            if len(batch) > 1:  # what one slice is to blame for does not cost the others their answers
                for one in batch:
                    yield from self._judge([one], cam)
            else:
                path, item = batch[0]
                size = " x ".join(map(str, item.pixels.shape[::-1]))
                what = (str(error) or type(error).__name__).splitlines()[0]
                reason = (
                    f"{path}: the model failed on this slice of {size} pixels ({what}); "
                    "free some memory, or export it smaller"
                )
                yield replace(self._error(path, reason), slice=item.index)
            return
        for row, (path, item) in enumerate(batch):
            yield self._decide(
                path,
                item,
                answer.probabilities[row],
                float(answer.outlier_score[row]),
                None if answer.cam is None else answer.cam[row],
            )

    def _decide(
        self,
        path: str,
        item: GreySlice,
        probabilities: NDArray[np.float32],
        outlier_score: float,
        cam: NDArray[np.float32] | None,
    ) -> Prediction:
        """Turn the graph's numbers into a status: refuse first, then refer, else answer."""
        card = self.card
        best = int(probabilities.argmax())
        (row,) = prediction_sets(probabilities[None], card.conformal_thresholds)
        members = [name for name, inside in zip(card.classes, row, strict=True) if inside]
        if item.colourful:
            status, reason = "rejected", "the picture is coloured; an MRI slice is grey"
        elif not outlier_score <= card.outlier_threshold:
            status = "rejected"
            reason = (
                f"unlike the training scans: outlier score {outlier_score:.2f}, accepted up to "
                f"{card.outlier_threshold:.2f}"
            )
        elif members != [card.classes[best]]:
            status = "refer"
            share = f"{card.conformal_coverage:.0%}"
            if len(members) == 1:  # thresholds differ by class: a rare one may be kept at less than the leader has
                said = f"{card.classes[best]} leads, but only {members[0]} cannot be ruled out"
            else:
                said = f"{' and '.join(members)} cannot be ruled out" if members else "no class is likely enough"
            reason = f"too uncertain: {said} at {share} coverage"
        else:
            status, reason = "ok", None
        return Prediction(
            path=path,
            slice=item.index,
            status=status,
            label=None if status == "rejected" else card.classes[best],
            probabilities={
                name: round(float(value), 6) for name, value in zip(card.classes, probabilities, strict=True)
            },
            prediction_set=members,
            confidence=round(float(probabilities[best]), 6),
            outlier_score=round(outlier_score, 4),
            reason=reason,
            overlay=None,
            model=self._model,
            cam=None if cam is None else cam[best],
            class_maps=cam,
            pixels=item.pixels,
        )

    def _error(self, path: str, reason: str) -> Prediction:
        return Prediction(
            path=path,
            slice=None,
            status="error",
            label=None,
            probabilities=None,
            prediction_set=None,
            confidence=None,
            outlier_score=None,
            reason=reason,
            overlay=None,
            model=self._model,
        )


def _joins(first: tuple[int, ...], waiting: int, shape: tuple[int, ...]) -> bool:
    """Whether a slice can be answered together with those that wait, whose first has the shape `first`."""
    return first == shape and waiting < BATCH and (waiting + 1) * shape[0] * shape[1] <= BATCH_PIXELS


def _batches(slices: Iterable[NDArray[np.uint8]]) -> Iterator[list[NDArray[np.uint8]]]:
    """Neighbours of one size together."""
    batch: list[NDArray[np.uint8]] = []
    for pixels in slices:
        if batch and not _joins(batch[0].shape, len(batch), pixels.shape):
            yield batch
            batch = []
        batch.append(pixels)
    if batch:
        yield batch


def expand(sources: Iterable[Source]) -> Iterator[Source | ImageError]:
    """Replace folders and patterns by the files they stand for; one that stands for none becomes an error."""
    for source in sources:
        if isinstance(source, bytes | np.ndarray):
            yield source
            continue
        path = Path(source)
        try:
            folder, there = path.is_dir(), path.exists()
        except OSError as error:  # a name longer than the file system allows
            yield ImageError(
                f"{str(path)[:80]}...: not a usable path ({error.strerror}); expected a file, folder or pattern"
            )
            continue
        if folder:
            files = [file for file in _walk(path) if looks_readable(file)]
            if not files:
                yield ImageError(f"{path}: no pictures in this folder; expected png, jpg, tif, dcm, nii, ...")
            yield from files
        elif not there and glob.has_magic(str(path)):
            matches = sorted(glob.glob(str(path), recursive=True))
            if not matches:
                yield ImageError(f"{path}: no file matches this pattern")
            yield from expand(Path(match) for match in matches)
        else:
            yield path


def _walk(folder: Path) -> Iterator[Path]:
    """Visible files below a folder, sorted."""
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(where) / name for name in sorted(names) if not name.startswith("."))


def _decoded(sources: Iterator[Source | ImageError]) -> Iterator[tuple[str, list[GreySlice] | ImageError]]:
    """Read sources in order, several ahead; an error takes the place of the slices."""
    with ThreadPoolExecutor(max_workers=max(1, usable_cores())) as pool:
        pending: deque[tuple[str, Future[list[GreySlice] | ImageError]]] = deque()
        for source in sources:
            pending.append((_name(source), pool.submit(_read, source)))
            if len(pending) >= AHEAD:
                name, future = pending.popleft()
                yield name, future.result()
        for name, future in pending:
            yield name, future.result()


def _read(source: Source | ImageError) -> list[GreySlice] | ImageError:
    try:
        if isinstance(source, ImageError):
            return source
        if isinstance(source, np.ndarray):
            return _from_array(source)
        return read_slices(source)
    except ImageError as error:
        return error


def _from_array(array: NDArray[Any]) -> list[GreySlice]:
    """(H, W) or (H, W, 3) is one slice; (N, H, W) is a volume, scaled as a whole."""
    if array.ndim == 3 and array.shape[-1] not in (3, 4) and array.size:
        if array.dtype.kind not in "buif":
            to_grey(array[0])  # says what is wrong
        check_size(*array.shape[1:])  # of each slice; a volume of many is no bomb
        grey = array if array.dtype == np.uint8 else stretch_from_min_to_max(array)
        return [GreySlice(np.ascontiguousarray(plane), number) for number, plane in enumerate(grey)]
    return [GreySlice(to_grey(array), None)]


def _name(source: Source | ImageError) -> str:
    if isinstance(source, ImageError):
        return str(source).partition(": ")[0]
    if isinstance(source, bytes):
        return "<bytes>"
    return "<array>" if isinstance(source, np.ndarray) else str(source)
