"""Overlay pictures on disk, one per answered slice: PNG, or JPEG for the slices of a volume.

A volume has hundreds of them, and PNG would take most of the time of an answer and four times the space.

The folder may be the one that the scans lie in, so a file that is there already is replaced only if an earlier call
wrote it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from braincam.explain.overlay import UNIT, overlay
from braincam.files import replacing
from braincam.images.ours import MARK, is_ours_to_write
from braincam.images.reader import stem_of
from braincam.predict import Prediction
from braincam.threads import usable_cores

ANSWERS = "predictions.jsonl"  # the rows of a call, beside its pictures
LONGEST_STEM = 180  # bytes of a scan's name that go into those of its files; file systems take 255 in all
BEHIND = 32  # pictures that may wait while further slices are judged


def with_overlays(
    answers: Iterable[Prediction], out: Path, *, write: bool = True, unit: str = UNIT
) -> Iterator[Prediction]:
    """Write a picture for each answer that has a label and a map, and pass the answers on with its path filled in.

    Pictures are drawn on other threads; an answer is passed on once its picture is on the disk. `unit` is that of the
    maps.
    """
    out.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        waiting: deque[tuple[Prediction, Future[None] | None]] = deque()
        for answer in answers:
            path = _free_path(answer, out, taken)  # also without a picture: each input keeps its name from call to call
            if write and answer.label is not None and answer.cam is not None and answer.pixels is not None:
                waiting.append((replace(answer, overlay=str(path)), pool.submit(_write, answer, path, unit)))
            else:
                waiting.append((answer, None))
            while waiting and (len(waiting) > BEHIND or waiting[0][1] is None or waiting[0][1].done()):
                yield _written(waiting.popleft())
        while waiting:
            yield _written(waiting.popleft())


def short_stem(path: str) -> str:
    """As much of a path's stem as leaves room for what is written behind it, with no letter cut in two."""
    return stem_of(path).encode("utf-8", "ignore")[:LONGEST_STEM].decode("utf-8", "ignore")


def save_png(picture: Image.Image, path: Path) -> None:
    """Write a marked PNG; quickly rather than small."""
    mark = PngInfo()
    mark.add_text("Software", MARK)
    picture.save(path, format="PNG", compress_level=1, pnginfo=mark)


def _write(answer: Prediction, path: Path, unit: str) -> None:
    assert answer.pixels is not None and answer.cam is not None and answer.label is not None
    picture = overlay(
        answer.pixels,
        answer.cam,
        label=answer.label,
        probability=answer.confidence or 0.0,
        note=answer.reason,
        unit=unit,
    )
    with replacing(path) as temporary:
        if path.suffix == ".png":
            save_png(picture, temporary)
        else:
            picture.save(temporary, format="JPEG", quality=90, comment=MARK)


def _written(item: tuple[Prediction, Future[None] | None]) -> Prediction:
    answer, future = item
    if future is not None:
        future.result()
    return answer


def _free_path(answer: Prediction, out: Path, taken: set[str]) -> Path:
    """The picture's path, named after the slice; numbered where the name is another's, also on disks blind to case."""
    stem, ending = f"{short_stem(answer.path)}-evidence", "png" if answer.volume is None else "jpg"
    if answer.slice is not None:
        stem = f"{stem}-{answer.slice:03d}"
    name, number = stem, 2
    while name.casefold() in taken or not is_ours_to_write(out / f"{name}.{ending}"):
        name, number = f"{stem}_{number}", number + 1
    taken.add(name.casefold())
    return out / f"{name}.{ending}"
