"""The overlay tells the truth about the map: hottest is hottest, nothing is not something."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from braincam.errors import ImageError
from braincam.explain import overlay as module
from braincam.explain.overlay import colour_table, overlay, resize_map


def peak(y, x, size=28, height=40.0):
    heat = np.full((size, size), -1.0, np.float32)
    heat[y, x] = height
    return heat


def flat(height=224, width=224, grey=90):
    return np.full((height, width), grey, np.uint8)


def lightness(colours):
    return np.asarray(colours, np.float64) @ [0.2126, 0.7152, 0.0722]


def panels(picture, side=448):
    """The plain and the coloured picture of a square slice, (side, side, 3) each."""
    page = np.asarray(picture)
    top = next(y for y in range(page.shape[0]) if (page[y, 28 : 28 + side] == 90).all())
    return page[top : top + side, 28 : 28 + side], page[top : top + side, 496 : 496 + side]


def test_hottest_pixel_gets_the_hottest_colour():
    plain, warm = panels(overlay(flat(), peak(7, 20), label="glioma", probability=0.9))
    assert (plain == 90).all()
    y, x = np.unravel_index(lightness(warm).argmax(), warm.shape[:2])
    assert (y // 16, x // 16) == (7, 20)
    share = module._OPACITY
    assert np.abs(warm[y, x] - (share * colour_table()[-1] + (1 - share) * 90)).max() <= 2
    red, _, blue = warm[y, x].astype(int)
    assert red > blue


def test_more_evidence_is_never_darker():
    assert (np.diff(lightness(colour_table()[::3])) > 0).all()  # neighbours may tie, being rounded
    ramp = np.tile(np.linspace(0, 10, 28, dtype=np.float32), (28, 1))
    _, warm = panels_of_any(overlay(flat(grey=0), ramp, label="a", probability=1))
    assert (warm[:, 0] <= 2).all()  # no evidence, no colour
    assert (np.diff(lightness(warm[200])) >= -1).all() and lightness(warm[200, -1]) > 200


def test_evidence_against_is_not_coloured():
    heat = peak(7, 20)
    heat[20:, :] = -80.0
    plain, warm = panels(overlay(flat(), heat, label="glioma", probability=0.9))
    assert (warm[340:] == plain[340:]).all()


@pytest.mark.parametrize("heat", [np.full((28, 28), -3.0), np.zeros((28, 28)), peak(3, 3, height=-0.5)])
def test_a_map_without_positive_evidence_is_not_made_to_look_hot(heat):
    picture = overlay(flat(), heat, label="glioma", probability=0.4)
    plain, warm = panels(picture)
    assert (warm[:380] == plain[:380]).all()
    saturation = np.asarray(picture.convert("HSV"))[..., 1]
    assert saturation[np.asarray(picture.convert("L")) > 60].max() < 80  # no colour, no colour bar


def test_a_common_scale_keeps_a_weak_map_weak():
    strong = panels(overlay(flat(), peak(7, 20), label="a", probability=1, scale=40))[1]
    weak = panels(overlay(flat(), peak(7, 20, height=4.0), label="a", probability=1, scale=40))[1]
    assert lightness(strong).max() > 150 > lightness(weak).max()


def test_the_anatomy_shows_through():
    slice_ = flat()
    slice_[::8] = 200
    _, warm = panels_of_any(overlay(slice_, np.ones((28, 28), np.float32), label="a", probability=1))
    assert np.ptp(lightness(warm[100:200, 100])) > 8


def panels_of_any(picture):
    page = np.asarray(picture)
    top = page.shape[0] - 58 - 18 - 448
    return page[top : top + 448, 28:476], page[top : top + 448, 496:944]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 60), st.integers(1, 60), st.floats(-50, 50))
def test_any_shape_gives_a_legible_page(height, width, h, w, level):
    heat = np.random.default_rng(0).normal(level, 5, (h, w)).astype(np.float32)
    words = {"label": "x" * 50, "heading": "y\n" * 90, "note": "z" * 200}
    picture = overlay(flat(height, width), heat, probability=0.5, **words)
    assert picture.mode == "RGB"
    assert 600 <= picture.width <= 1700 and 400 <= picture.height <= 900


def test_a_square_slice_is_shown_large_and_undistorted():
    slice_ = flat(100, 50, 90)
    slice_[20:30, 10:20] = 255  # a square of 10 pixels stays a square
    page = np.asarray(overlay(slice_, -np.ones((4, 4), np.float32), label="a", probability=1).convert("L"))
    rows, columns = np.nonzero(page[110:, :330] > 240)
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 2 and np.ptp(rows) > 35


def test_label_score_and_cautions_are_written(monkeypatch):
    written = []
    draw = module.ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        module.ImageDraw.ImageDraw,
        "text",
        lambda self, at, text, *a, **k: (written.append(text), draw(self, at, text, *a, **k))[1],
    )
    overlay(flat(), peak(3, 3), label="meningioma", probability=0.876, heading="a/b.png", note="referred")
    assert {"meningioma", "0.876", "a/b.png", "referred", "logit per pixel"} <= set(written)
    assert "Shows where the score comes from, not where a tumour is." in written
    assert "Research use only. Not a medical device; not for diagnosis." in written
    written.clear()
    overlay(flat(), peak(3, 3, height=0.0), label="a", probability=0.5)
    assert "no positive evidence" in written and "logit per pixel" not in written


def test_resizing_keeps_places_and_means():
    heat = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    assert (resize_map(heat, (7, 9)) == heat).all()
    large = resize_map(heat, (70, 90))
    assert large.shape == (70, 90) and large.dtype == np.float32
    assert large.min() >= heat.min() - 1e-6 and large.max() <= heat.max() + 1e-6
    assert (resize_map(np.full((3, 3), 2.5), (10, 4)) == 2.5).all()
    assert resize_map(peak(7, 20), (224, 224))[7 * 8 + 4, 20 * 8 + 4] > 30
    assert resize_map(large, (7, 9)).mean() == pytest.approx(large.mean(), abs=0.02)


def test_the_inputs_are_left_alone():
    slice_, heat = flat(), peak(3, 3)
    slice_.setflags(write=False)
    heat.setflags(write=False)
    first = overlay(slice_, heat, label="a", probability=1)
    assert ImageChops.difference(first, overlay(slice_, heat, label="a", probability=1)).getbbox() is None
    assert isinstance(first, Image.Image)


def test_a_page_takes_milliseconds():
    overlay(flat(), peak(3, 3), label="a", probability=1)  # the fonts are loaded once
    times = []
    for _ in range(5):
        start = time.process_time()
        overlay(flat(), peak(3, 3), label="glioma", probability=0.5, heading="a.png")
        times.append(time.process_time() - start)
    assert min(times) < 0.05  # about 0.01 s on the machine it was written on


def test_importing_it_is_light():
    heavy = {"torch", "matplotlib", "scipy", "pandas", "sklearn", "jinja2"}
    code = f"import sys, braincam.explain.overlay; print(*{heavy} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


@pytest.mark.parametrize(
    "change",
    [
        {"pixels": np.zeros((4, 4), np.float32)},
        {"pixels": np.zeros((4, 4, 3), np.uint8)},
        {"pixels": np.zeros((0, 4), np.uint8)},
        {"heat": np.full((3, 3), np.nan)},
        {"heat": np.zeros((2, 3, 3))},
        {"heat": np.zeros((0, 3))},
        {"probability": 1.5},
        {"probability": float("nan")},
        {"scale": 0.0},
    ],
)
def test_wrong_input_is_refused(change):
    given_ = {"pixels": flat(8, 8), "heat": np.ones((2, 2)), "probability": 0.5} | change
    with pytest.raises(ImageError):
        overlay(given_.pop("pixels"), given_.pop("heat"), label="a", **given_)


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (0.00012, "1e-04"), (0.0123, "0.0123"), (12.345, "12.3"), (1234.5, "1,234"), (2.5e7, "2e+07")],
)
def test_numbers_at_the_colours_are_short(value: float, said: str) -> None:
    assert module._short(value) == said
