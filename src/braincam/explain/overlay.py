"""A slice and the evidence laid over it, as one legible picture. NumPy and Pillow only.

The map is a class activation map: evidence per pixel for the label, whose mean over the picture is the logit.
Only evidence *for* the label is coloured. The scale of the colours is printed beside them, because the same
yellow may stand for much evidence in one slice and for little in the next.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from braincam.errors import ImageError
from braincam.model_file.card import NOTICE
from braincam.model_file.decision import stated

UNIT = "logit per pixel"  # of the exact map
CAUTION = "Shows where the score comes from, not where a tumour is."

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Violet, crimson, amber, straw: ordered by lightness, so the order survives grey print and colour blindness.
_STOPS: tuple[tuple[float, Colour], ...] = (
    (0.0, (72, 16, 112)),
    (0.2, (136, 34, 106)),
    (0.4, (190, 56, 84)),
    (0.6, (232, 98, 46)),
    (0.8, (250, 164, 28)),
    (1.0, (252, 248, 158)),
)
_OPACITY = 0.86  # of the hottest pixel: the anatomy shows through
BACK: Colour = (15, 18, 23)
_WELL: Colour = (0, 0, 0)
INK: Colour = (238, 240, 243)
SOFT: Colour = (158, 166, 177)
_LINE: Colour = (46, 52, 61)
_AMBER: Colour = (247, 178, 62)

_SIDE = (448, 640)  # lowest and highest height of the enlarged slice
_WIDTH = (300, 720)  # and of the frame it stands in
_LOWEST = 240  # height of the frame around a strip
MARGIN, _GAP, _BAR = 28, 20, 14


def overlay(
    pixels: npt.NDArray[np.uint8],
    heat: npt.NDArray[np.floating],
    *,
    label: str,
    probability: float,
    heading: str | None = None,
    note: str | None = None,
    scale: float | None = None,
    unit: str = UNIT,
) -> Image.Image:
    """The plain slice beside the slice with its evidence: (H, W) uint8, (h, w) float -> RGB picture.

    `heat` covers the whole slice at any resolution. `scale` is the evidence that gets the hottest colour: the
    largest of this map by default; give one number to compare slices. `heading` is a small line on top (a
    file name), `note` an amber one (say, why the answer was referred), `unit` names what the map counts.
    """
    _check(pixels, heat, probability, scale)
    frame, size = _layout(pixels.shape[0], pixels.shape[1])
    grey = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    evidence = resize_map(heat, (size[1], size[0]))
    top = float(evidence.max()) if scale is None else float(scale)

    head = MARGIN + (24 if heading else 0) + 44 + (26 if note else 0)
    left, right = MARGIN, MARGIN + frame[0] + _GAP
    above = head + 30  # top of the frames
    foot = above + frame[1] + 18
    page = Image.new("RGB", (right + frame[0] + MARGIN + _BAR + 66, foot + 58), BACK)
    draw, caption = ImageDraw.Draw(page), font(14)
    _write_answer(page, label, probability, heading, note)
    draw.line((left, head, page.width - MARGIN, head), _LINE)

    draw.text((left, head + 10), "Slice", SOFT, caption)
    draw.text((right, head + 10), fit(f"Evidence for {label}", caption, frame[0]), SOFT, caption)
    inset = ((frame[0] - size[0]) // 2, (frame[1] - size[1]) // 2)
    for x in (left, right):
        draw.rectangle((x, above, x + frame[0] - 1, above + frame[1] - 1), _WELL)
        page.paste(grey, (x + inset[0], above + inset[1]))
    if evidence.max() > 0:
        paint(page, evidence / top, (right + inset[0], above + inset[1]))
        colour_bar(page, (right + frame[0] + 16, above), frame[1], top, unit)
    else:
        _message(draw, (right + frame[0] // 2, above + frame[1] - 30), "no positive evidence")

    draw.text((left, foot), CAUTION, INK, caption)
    draw.text((left, foot + 20), NOTICE, SOFT, caption)
    return page


def _write_answer(page: Image.Image, label: str, probability: float, heading: str | None, note: str | None) -> None:
    """What the model says, across the top of the page: heading, label with its probability, note."""
    draw, title, caption = ImageDraw.Draw(page), font(30), font(14)
    left, right, y = MARGIN, page.width - MARGIN, MARGIN - 6
    if heading:
        draw.text((left, y), fit(heading, caption, right - left), SOFT, caption)
        y += 24
    value = stated(probability, ".3f")
    taken = title.getlength(value)
    draw.text((left, y), fit(label, title, right - left - taken - 130), INK, title)
    draw.text((right, y), value, INK, title, anchor="ra")
    draw.text((right - taken - 12, y + 15), "probability", SOFT, caption, anchor="ra")
    if note:
        draw.text((left, y + 42), fit(note, caption, right - left), _AMBER, caption)


def resize_map(heat: npt.NDArray[np.floating], shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Bilinear: (h, w) -> float32 `shape` = (H, W), cell centres in place, averaging where it shrinks."""
    if heat.ndim != 2 or 0 in heat.shape:
        raise ImageError(f"heat map: need shape (h, w), got {heat.shape}; pick one class of one slice")
    picture = Image.fromarray(np.ascontiguousarray(heat, np.float32))
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BILINEAR), np.float32)


@lru_cache(maxsize=1)
def colour_table() -> npt.NDArray[np.uint8]:
    """256 colours from the least to the most evidence: (256, 3) uint8, lightness rising all the way."""
    places, colours = [s[0] for s in _STOPS], np.array([s[1] for s in _STOPS], np.float64)
    steps = np.linspace(0, 1, 256)
    table = np.stack([np.interp(steps, places, channel) for channel in colours.T], axis=1).round().astype(np.uint8)
    table.setflags(write=False)
    return table


def paint(page: Image.Image, strength: npt.NDArray[np.float32], corner: tuple[int, int]) -> None:
    """Lay colours over the page, more opaque where there is more evidence: strength (H, W), 1 = hottest."""
    index = Image.fromarray((np.clip(strength, 0, 1) * 255 + 0.5).astype(np.uint8))
    opacity = index.point(_opacity_table())
    index.putpalette(colour_table().tobytes())
    page.paste(index.convert("RGB"), corner, opacity)


@lru_cache(maxsize=1)
def _opacity_table() -> tuple[int, ...]:
    """Nothing at zero and below, then rising with the evidence: 256 values from 0 to 255."""
    steps = np.linspace(0, 1, 256)
    shown = np.sqrt(steps) * np.minimum(steps * 4, 1)
    return tuple((shown * 255 * _OPACITY).round().astype(int).tolist())


def colour_bar(page: Image.Image, corner: tuple[int, int], height: int, top: float, unit: str) -> None:
    """The scale as it looks over mid-grey tissue, hottest on top, with its numbers and its unit."""
    x, y = corner
    ramp = np.repeat(np.linspace(1, 0, height, dtype=np.float32)[:, None], _BAR, axis=1)
    bar = Image.new("RGB", (_BAR, height), (70, 70, 70))
    paint(bar, ramp, (0, 0))
    page.paste(bar, corner)
    draw, small = ImageDraw.Draw(page), font(13)
    for share, anchor in ((0.0, "ls"), (0.25, "lm"), (0.5, "lm"), (0.75, "lm"), (1.0, "lt")):
        level = y + round((1 - share) * (height - 1))
        draw.line((x + _BAR, level, x + _BAR + 4, level), SOFT)
        draw.text((x + _BAR + 9, level), _short(share * top), SOFT, small, anchor=anchor)
    end = page.width - MARGIN
    draw.text((end, y - 8), fit(unit, small, 150), SOFT, small, anchor="rs")


def _message(draw: ImageDraw.ImageDraw, centre: tuple[int, int], text: str) -> None:
    large = font(16)
    box = draw.textbbox(centre, text, large, anchor="mm")
    draw.rounded_rectangle((box[0] - 14, box[1] - 9, box[2] + 14, box[3] + 9), 14, BACK, _LINE)
    draw.text(centre, text, INK, large, anchor="mm")


def _layout(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(frame width, frame height), (slice width, slice height): the slice fits its frame, undistorted."""
    tall = min(max(height, _SIDE[0]), _SIDE[1])
    wide = min(max(round(tall * width / height), _WIDTH[0]), _WIDTH[1])
    zoom = min(tall / height, wide / width)
    size = (max(round(width * zoom), 1), max(round(height * zoom), 1))
    return (wide, max(size[1], _LOWEST)), size


def _short(value: float) -> str:
    if value == 0:
        return "0"
    if 1000 <= value < 1e6:
        return f"{value:,.0f}"
    return f"{value:.3g}" if 0.001 <= value < 1000 else f"{value:.0e}"


def fit(text: str, font: Font, room: float) -> str:
    """One line that is no wider than `room` pixels; what is cut off becomes an ellipsis."""
    line = " ".join(text.split())[:300]
    if font.getlength(line) <= room:
        return line
    while line and font.getlength(line + "…") > room:
        line = line[:-1]
    return line.rstrip() + "…"


def wrap(text: str, font: Font, room: float) -> list[str]:
    """Lines no wider than `room` pixels, broken between words."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [fit(line, font, room) for line in lines]


@lru_cache(maxsize=8)
def font(size: int) -> Font:
    """Pillow's own typeface at a size in pixels."""
    return ImageFont.load_default(size)


def _check(
    pixels: npt.NDArray[np.uint8], heat: npt.NDArray[np.floating], probability: float, scale: float | None
) -> None:
    if pixels.ndim != 2 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise ImageError(f"overlay: need a grey uint8 slice (H, W), got {pixels.dtype} {pixels.shape}")
    if not np.isfinite(heat).all():
        raise ImageError("overlay: need a heat map of finite numbers, got NaN or infinity; the model file is damaged")
    if not 0 <= probability <= 1.0001:
        raise ImageError(f"overlay: need a probability from 0 to 1, got {probability}")
    if scale is not None and not scale > 0:
        raise ImageError(f"overlay: need a scale above 0, got {scale}; leave it out to use the map's own maximum")
