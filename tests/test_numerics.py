"""One slice, one answer: whatever the threads, the batch it came in and its neighbours, in PyTorch and ONNX Runtime."""

from __future__ import annotations

import re
import sys
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braincam.model_file.export import load_model
from braincam.predict import Answer, Predictor

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import numerics  # noqa: E402
from numerics import ONE_ENGINE, TWO_ENGINES, differences, synthetic  # noqa: E402


def test_every_way_of_asking_gives_the_same_answer_within_its_bounds(run: Path) -> None:
    """A trained network beside its own trainable twin."""
    twin, _ = load_model(run / "model.safetensors")
    found = {name: (bounds, off) for name, bounds, off in numerics.comparisons(run, synthetic(16), twin)}
    assert {"2 threads", "batches of 16", "batches of 16 in another order, 2 threads", "PyTorch"} <= set(found)
    for name, (bounds, off) in found.items():
        assert off.within(bounds), (name, off)
        assert off.labels == 0, name
    assert found["asked again"][1] == numerics.Differences(0, 0, 0, 0)


def test_the_packaged_model_does_too() -> None:
    for name, bounds, off in numerics.comparisons(None, synthetic(4), None):
        assert off.within(bounds), (name, off)


@pytest.fixture(scope="module")
def asked(run: Path) -> tuple[Predictor, list[np.ndarray], Answer]:
    """A model, slices of one size, and its answers for them one by one."""
    predictor = Predictor(run, threads=1)
    slices = [pixels for pixels in synthetic(16, seed=5) if pixels.shape == (97, 97)]
    return predictor, slices, numerics.one_by_one(predictor, slices)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_neighbours_in_a_batch_do_not_matter(
    asked: tuple[Predictor, list[np.ndarray], Answer], data: st.DataObject
) -> None:
    """Drawn with repetition, in any order and number, beside slices that are blank or noise."""
    predictor, slices, alone = asked
    picked = data.draw(st.lists(st.integers(0, len(slices) - 1), min_size=1, max_size=12))
    strange = data.draw(st.sampled_from([np.zeros_like(slices[0]), np.full_like(slices[0], 255), slices[0] ^ 0xAA]))
    batch = np.stack([*(slices[k] for k in picked), strange])
    answer = predictor.answer(batch)
    assert answer.cam is not None and alone.cam is not None
    together = Answer(answer.probabilities[:-1], answer.outlier_score[:-1], answer.cam[:-1])
    expected = Answer(alone.probabilities[picked], alone.outlier_score[picked], alone.cam[picked])
    assert differences(expected, together).within(ONE_ENGINE)


def test_a_difference_is_the_largest_of_any_slice_and_beyond_a_bound_it_is_said() -> None:
    first = Answer(np.array([[0.6, 0.4], [0.9, 0.1]]), np.array([2.0, 4.0]), np.ones((2, 2, 3, 3)) * 10)
    moved = Answer(np.array([[0.4, 0.6], [0.9, 0.1]]), np.array([2.0, 5.0]), first.cam.copy())
    moved.cam[1, 0, 2, 2] = 11
    off = differences(first, moved)
    assert astuple(off) == pytest.approx((0.2, 0.1, 0.25, 1))
    wide = numerics.Bounds(0.3, 0.2, 0.3)
    assert off.within(wide)
    for key in ("probability", "cam", "outlier_score"):
        assert not off.within(replace(wide, **{key: 0.01})), key
        assert not replace(off, **{key: float("nan")}).within(wide), key


def test_the_page_states_the_bounds_that_are_held() -> None:
    page = (ROOT / "docs" / "numerics.md").read_text(encoding="utf-8")
    text, measured, _ = page.partition("\nHow far they were")  # the table after it holds what was measured
    assert measured
    for name, bounds in (("ONNX Runtime", ONE_ENGINE), ("PyTorch", TWO_ENGINES)):
        (row,) = re.findall(rf"^\| {name}[^|]*\|(.+)\|$", text, re.MULTILINE)
        stated = [float(cell.replace("10⁻", "1e-")) for cell in row.translate(str.maketrans("⁵⁴³", "543")).split("|")]
        assert stated == list(astuple(bounds)), name
