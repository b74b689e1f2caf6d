"""The head is found and framed whatever the canvas, and maps come back to where the evidence lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from braincam.dataset.phantom import make_slices
from braincam.model_file.export import export_onnx, load_model
from braincam.network.framing import cut, find_head, frame_around, lay_back, paste
from braincam.network.preprocess import Preprocess, PreprocessConfig

FRAMED = PreprocessConfig(image_size=64, frame=True, subtract_black=True, mean=(0.0,), std=(1.0,))


@pytest.fixture(scope="module")
def heads() -> Tensor:
    """Synthetic slices (N, 224, 224) uint8."""
    return torch.from_numpy(np.stack([item.pixels for item in make_slices(patients=8, slices_per_patient=1, seed=5)]))


def padded(slices: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    return F.pad(slices, (left, right, top, bottom))


def head_in_pixels(slices: Tensor) -> Tensor:
    height, width = slices.shape[1:]
    resized = F.interpolate(slices[:, None].float() / 255, (256, 256), mode="bilinear", antialias=True)
    return find_head(resized) * torch.tensor([width, height, width, height])


@pytest.mark.parametrize("margin", [(40, 40, 40, 40), (0, 45, 0, 0), (10, 0, 44, 20)])
def test_a_black_margin_moves_the_frame_with_the_head(heads: Tensor, margin: tuple[int, int, int, int]) -> None:
    left, _, top, _ = margin
    wide = padded(heads, *margin)
    moved = head_in_pixels(wide) - torch.tensor([left, top, left, top])
    assert (moved - head_in_pixels(heads)).abs().max() <= 3  # of 224 pixels

    def change(frame: bool) -> float:
        preprocess = Preprocess(replace(FRAMED, frame=frame))
        return float((preprocess.scale(wide)[0] - preprocess.scale(heads)[0]).abs().mean())

    assert change(frame=True) < change(frame=False) / 2


@settings(max_examples=20, deadline=None)
@given(st.integers(20, 80))
def test_a_window_that_lifts_black_changes_nothing_that_the_network_sees(heads: Tensor, lift: int) -> None:
    dark = (heads * 0.6).to(torch.uint8)
    lifted = dark + lift
    torch.testing.assert_close(Preprocess(FRAMED)(lifted), Preprocess(FRAMED)(dark), atol=1e-5, rtol=0)
    plain = Preprocess(replace(FRAMED, subtract_black=False))
    assert (plain(lifted) - plain(dark)).abs().mean() > 0.05


@settings(max_examples=25, deadline=None)
@given(
    st.integers(24, 40),
    st.integers(24, 40),
    st.integers(0, 50),
    st.integers(0, 50),
    st.floats(0.3, 1),
)
def test_the_frame_is_square_and_centred_on_the_head(height: int, width: int, x: int, y: int, level: float) -> None:
    picture = torch.full((1, 1, 96, 96), 0.01)
    picture[..., y : y + height, x : x + width] = level
    left, top, right, bottom = (find_head(picture)[0] * 96).tolist()
    assert (left, top, right, bottom) == pytest.approx((x, y, x + width, y + height), abs=1e-3)
    frame = frame_around(find_head(picture), 96, 96)[0]
    assert frame[2] == pytest.approx(float(frame[3]))
    assert frame[0] == pytest.approx((2 * x + width) / 96 - 1, abs=1e-4)


def test_noise_around_the_head_and_a_letter_beside_it_do_not_widen_the_frame() -> None:
    picture = torch.zeros(1, 1, 128, 128)
    picture[..., 40:90, 30:80] = 0.6
    noise = torch.rand(picture.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    picture += noise
    picture[..., 3:6, 110:112] = 1.0  # fewer pixels of a line than a head crosses
    assert (find_head(picture)[0] * 128).tolist() == pytest.approx([30, 40, 80, 90], abs=1)


@pytest.mark.parametrize("level", [0, 1, 255])
def test_an_even_picture_is_its_own_frame(level: int) -> None:
    scaled, frames = Preprocess(FRAMED).scale(torch.full((1, 50, 50), level, dtype=torch.uint8))
    assert torch.isfinite(scaled).all()
    assert frames[0, :2].abs().max() < 1e-6


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4), st.floats(0.3, 1.3), st.integers(0, 99))
def test_laid_back_maps_keep_their_mean(x: float, y: float, half: float, seed: int) -> None:
    maps = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    frames = torch.tensor([[x, y, half, half]])
    assert torch.allclose(paste(maps, frames).mean((2, 3)), maps.mean((2, 3)), atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9), st.floats(0.2, 1.2), st.floats(0.2, 1.2), st.integers(8, 40))
def test_a_frame_is_cut_where_torchs_affine_grid_cuts_it(
    x: float, y: float, wide: float, high: float, side: int
) -> None:
    pictures = torch.rand(2, 1, 30, 30, generator=torch.Generator().manual_seed(side))
    rows = torch.tensor([[[wide, 0.0, x], [0.0, high, y]], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    grid = F.affine_grid(rows, [2, 1, side, side], align_corners=False)
    expected = F.grid_sample(pictures, grid, align_corners=False)
    frames = torch.tensor([[x, y, wide, high], [0.0, 0.0, 1.0, 1.0]])
    assert torch.allclose(cut(pictures, frames, side), expected, atol=1e-4)


def test_evidence_comes_back_to_its_place() -> None:
    picture = torch.zeros(1, 1, 128, 128)
    picture[..., 60:66, 20:26] = 1
    frames = torch.tensor([[-0.4, 0.1, 0.5, 0.5]])
    there = cut(picture, frames, 128)
    back = lay_back(there, frames)
    row, column = divmod(int(back.flatten().argmax()), 128)
    assert 60 <= row < 66
    assert 20 <= column < 26
    assert back[..., :, 100:].abs().max() == 0  # outside the frame there is no evidence


def test_the_exported_graph_frames_as_torch_does(run: Path, heads: Tensor, tmp_path: Path) -> None:
    model, card = load_model(run / "model.safetensors")
    model.preprocess = Preprocess(replace(model.preprocess.config, frame=True))
    export_onnx(tmp_path / "framed.onnx", model, card)  # checks parity on its own random pictures
    session = onnxruntime.InferenceSession(tmp_path / "framed.onnx", providers=["CPUExecutionProvider"])
    for slices in (heads, heads[:, 20:200, :], F.pad(heads, (30, 60, 0, 10))):
        with torch.inference_mode():
            ours = model(slices)
        probabilities, cam, _ = session.run(["probabilities", "cam", "outlier_score"], {"image": slices.numpy()})
        assert np.abs(ours.probabilities.numpy() - probabilities).max() <= 1e-4
        assert np.abs(ours.cam.numpy() - cam).max() <= 1e-3
        logits = cam.mean((2, 3)) / model.temperature
        again = torch.softmax(torch.from_numpy(logits), 1).numpy()
        assert np.abs(again - probabilities).max() <= 1e-4
