"""Path → prediction, through ONNX Runtime; torch is never imported here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from braincam.errors import ConfigError, ModelFileError
from braincam.images.nifti import PLANES
from braincam.images.reader import GreySlice, Reading
from braincam.images.volume import Volume
from braincam.model_file.card import NOTICE
from braincam.model_file.decision import prediction_sets, settled, why_referred
from braincam.model_file.zoo import find_model
from braincam.sources import Source, Unread, read_sources

BATCH = 16  # slices of one size answered together
BATCH_PIXELS = 2**24  # and no more pixels than these, one slice excepted


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
    # what follows is not in the JSON
    cam: NDArray[np.float32] | None = None  # (h, w) evidence for the leading class over the whole picture
    cams: NDArray[np.float32] | None = None  # (K, h, w) the same for every class
    pixels: NDArray[np.uint8] | None = None  # (H, W) the grey slice that was judged
    volume: Volume | None = None  # shared by the slices of a volume or series

    def to_json(self) -> dict[str, Any]:
        """The documented fields, ready for `json.dumps`."""
        hidden = {"cam", "pixels", "cams", "volume"}
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
            ConfigError: `threads` is below 0, or more than any machine has cores for.
        """
        self.file = find_model(model)
        self._session = self.file.session(threads)
        self.card = self.file.card(self._session)
        _check_signature(self._session, self.file.path)
        self._model = {"name": self.card.name, "sha256": self.file.sha256}

    def predict(
        self, source: Source | Sequence[Source], *, cam: bool = True, plane: str | None = None, volume: int = 0
    ) -> list[Prediction]:
        """Answer for a path, bytes, an array (H, W), (H, W, 1), (H, W, 3) or (N, H, W), or a list of them.

        A folder stands for the pictures in it, a DICOMDIR for the files it names; DICOM files of one series are put
        in order of position. A NIfTI volume is cut in its acquisition plane, or in `plane`: axial, coronal or
        sagittal; of a 4-D one `volume` is read. What cannot be read becomes a prediction with status "error".

        Raises:
            ConfigError: there is no such plane or volume number. Nothing is raised for bad input.
        """
        sources = source if isinstance(source, list | tuple) else [source]
        return list(self.stream(sources, cam=cam, plane=plane, volume=volume))  # type: ignore[arg-type]

    def stream(
        self,
        sources: Iterable[Source],
        *,
        cam: bool = True,
        plane: str | None = None,
        volume: int = 0,
    ) -> Iterator[Prediction]:
        """Like `predict`, one answer at a time and in order; files are decoded ahead on other threads."""
        if plane is not None and plane not in PLANES:
            raise ConfigError(f"plane: expected one of {', '.join(PLANES)}, got {plane!r}")
        if volume < 0:
            raise ConfigError(f"volume: expected a number from 0, got {volume}")
        return self.judge(read_sources(sources, Reading(plane, volume)), cam=cam)

    def judge(self, slices: Iterable[tuple[str, GreySlice | Unread]], *, cam: bool = True) -> Iterator[Prediction]:
        """Answer for slices that are already read, each with its path or name, in order.

        Neighbours of one size are answered together. What could not be read gets its error in its turn. May be called
        from several threads at once.
        """
        waiting: list[tuple[str, GreySlice]] = []
        for path, item in slices:
            if isinstance(item, Unread):
                yield from self._judge(waiting, cam)
                waiting = []
                yield self._error(path, item)
                continue
            if waiting and not _joins(waiting[0][1].pixels.shape, len(waiting), item.pixels.shape):
                yield from self._judge(waiting, cam)
                waiting = []
            waiting.append((path, item))
        yield from self._judge(waiting, cam)

    def answer(self, slices: NDArray[np.uint8], *, cam: bool = True) -> Answer:
        """Run the graph on grey slices (N, H, W) uint8, without deciding anything.

        Raises:
            ModelFileError: the graph, which may be a stranger's, gives something else than its card says.
        """
        names = ["probabilities", "outlier_score", *(["cam"] if cam else [])]
        results = self._session.run(names, {"image": slices})
        n, k = len(slices), len(self.card.classes)
        shapes = [result.shape for result in results]
        if shapes[:2] != [(n, k), (n,)] or (cam and (len(shapes[2]) != 4 or shapes[2][:2] != (n, k))):
            raise ModelFileError(f"{self.file.path}: expected answers for {n} slices and {k} classes, got {shapes}")
        if not all(np.isfinite(result).all() for result in results):
            raise ModelFileError(f"{self.file.path}: expected finite numbers, got some that are not")
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
                yield self._error(path, Unread(reason, item.index, item.volume))
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
        sets = prediction_sets(probabilities[None], card.conformal_thresholds)
        members = [name for name, inside in zip(card.classes, sets[0], strict=True) if inside]
        if item.foreign:
            status, reason = "rejected", f"not an MR slice: {item.foreign}"
        elif item.colourful:
            status, reason = "rejected", "the picture is coloured; an MRI slice is grey"
        elif not outlier_score <= card.outlier_threshold:
            status = "rejected"
            reason = (
                f"unlike the training scans: outlier score {outlier_score:.2f}, accepted up to "
                f"{card.outlier_threshold:.2f}"
            )
        elif not settled(probabilities[None], sets)[0]:
            status, reason = "refer", why_referred(card.classes[best], members, card.conformal_coverage)
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
            pixels=item.pixels,
            cams=cam,
            volume=item.volume,
        )

    def _error(self, path: str, item: Unread) -> Prediction:
        """The row of what could not be read or answered."""
        return Prediction(
            path=path,
            slice=item.slice,
            status="error",
            label=None,
            probabilities=None,
            prediction_set=None,
            confidence=None,
            outlier_score=None,
            reason=item.reason,
            overlay=None,
            model=self._model,
            volume=item.volume,
        )


def _check_signature(session: Any, path: Path) -> None:
    """Refuse a graph whose ends are not those of the documentation, before every slice fails on it."""
    try:
        given = [(item.name, item.type, len(item.shape)) for item in session.get_inputs()]
        made = {(item.name, item.type) for item in session.get_outputs()}
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path}: a name in its graph is damaged ({error}); get the file anew") from error
    lacking = sorted(
        {"probabilities", "cam", "outlier_score"} - {name for name, kind in made if kind == "tensor(float)"}
    )
    if given != [("image", "tensor(uint8)", 3)] or lacking:
        raise ModelFileError(
            f"{path}: expected a graph from image, uint8 (N, H, W), to probabilities, cam and outlier_score, "
            f"got {given} to {sorted(made)}; export it again"
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
