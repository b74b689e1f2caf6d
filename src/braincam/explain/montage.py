"""Several slices of a volume with their evidence, on one scale of colours, as tiles and as one picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from braincam.explain import overlay as look
from braincam.model_file.card import NOTICE

SIDE = 224  # pixels of a tile
COLUMNS = 4
CAPTION = 26  # height of the line below a tile


def tile(pixels: npt.NDArray[np.uint8], heat: npt.NDArray[np.floating] | None, scale: float) -> Image.Image:
    """One slice, undistorted on a black square, its evidence over it; `scale` gets the hottest colour.

    (H, W) uint8, (h, w) float or None -> RGB, SIDE x SIDE.
    """
    zoom = SIDE / max(pixels.shape)
    size = (max(round(pixels.shape[1] * zoom), 1), max(round(pixels.shape[0] * zoom), 1))
    corner = ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2)
    made = Image.new("RGB", (SIDE, SIDE))
    made.paste(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC), corner)
    if heat is not None and scale > 0:
        look.paint(made, look.resize_map(heat, (size[1], size[0])) / scale, corner)
    return made


def montage(
    title: str,
    note: str,
    tiles: Sequence[tuple[Image.Image, str]],
    scale: float | None,
) -> Image.Image:
    """Tiles with captions under a title, and one bar of colours for all of them (none where `scale` is None)."""
    margin, gap = look.MARGIN, 12
    columns = max(min(COLUMNS, len(tiles)), 2)  # room for the words
    rows = -(-len(tiles) // columns)
    width = 2 * margin + columns * SIDE + (columns - 1) * gap + (80 if scale else 0)
    large, small = look.font(26), look.font(14)
    room = width - 2 * margin
    lines = look.wrap(note, small, room)
    above = margin + 60 + 18 * len(lines)
    below = above + rows * (SIDE + CAPTION + gap)
    page = Image.new("RGB", (width, below + 56), look.BACK)
    draw = ImageDraw.Draw(page)
    draw.text((margin, margin - 6), look.fit(title, large, room), look.INK, large)
    draw.text((margin, margin + 32), "\n".join(lines), look.SOFT, small)
    for number, (picture, caption) in enumerate(tiles):
        x = margin + number % columns * (SIDE + gap)
        y = above + number // columns * (SIDE + CAPTION + gap)
        page.paste(picture, (x, y))
        draw.text((x, y + SIDE + 5), look.fit(caption, small, SIDE), look.SOFT, small)
    if scale:
        look.colour_bar(page, (margin + columns * (SIDE + gap) + 4, above), SIDE, scale, look.UNIT)
        draw.text((margin, below + 2), look.fit(look.CAUTION, small, room), look.INK, small)
    draw.text((margin, below + 22), look.fit(NOTICE, small, room), look.SOFT, small)
    return page
