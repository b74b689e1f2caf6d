"""Maps that follow the score pass, maps that ignore it fail; destroyed weights and shuffled labels destroy the maps."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from _head import strangers
from braincam.explain.faithfulness import (
    MOVES,
    area_under,
    deletion,
    follows,
    insertion,
    moved,
    outside,
    rank_correlation,
    road,
    tumour_evidence,
)
from braincam.explain.randomise import cascade, class_maps, parts_from_the_output, without_readouts
from braincam.model_file.export import load_model
from braincam.network.attention_cnn import AttentionCNN, NetworkConfig


def lesion_slice(corner: tuple[int, int] = (24, 60)) -> np.ndarray:
    """A grey head with a bright checked square in it: (96, 96)."""
    y, x = np.mgrid[:96, :96]
    pixels = np.where((y - 48) ** 2 + (x - 48) ** 2 < 40**2, 100, 0)
    top, left = corner
    pixels[top : top + 12, left : left + 12] = 150 + 100 * ((y + x) % 2)[:12, :12]
    return pixels.astype(np.uint8)


def detail(slices: list[np.ndarray]) -> np.ndarray:
    """A model that answers by how much checked texture it sees."""
    return np.array([np.abs(np.diff(pixels.astype(float), axis=1)).mean() for pixels in slices])


def heat_on(corner: tuple[int, int] = (24, 60)) -> np.ndarray:
    heat = np.zeros((24, 24), np.float32)
    heat[corner[0] // 4 : corner[0] // 4 + 3, corner[1] // 4 : corner[1] // 4 + 3] = 1
    return heat


def test_insertion_deletion_and_road_prefer_the_map_that_shows_what_the_score_came_from() -> None:
    pixels, right, wrong = lesion_slice(), heat_on(), heat_on((60, 20))
    assert area_under(deletion(pixels, right, detail)) < area_under(deletion(pixels, wrong, detail)) - 0.3
    assert area_under(insertion(pixels, right, detail)) > area_under(insertion(pixels, wrong, detail)) + 0.3
    gaps = []
    for heat in (right, wrong):
        hottest, coldest = road(pixels, heat, detail, np.random.default_rng(0))
        gaps.append((coldest - hottest).mean())
    assert gaps[0] > 0.3 and gaps[0] > gaps[1] + 0.3


def test_curves_begin_and_end_with_the_whole_and_the_blurred_slice() -> None:
    pixels = lesion_slice()
    going, coming = deletion(pixels, heat_on(), detail), insertion(pixels, heat_on(), detail)
    assert going[0] == coming[-1] == detail([pixels])[0]
    assert going[-1] == coming[0] < going[0]
    assert area_under(np.array([1.0, 1.0, 0.0])) == 0.75


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_rank_correlation_knows_order_only(seed: int) -> None:
    heat = np.random.default_rng(seed).normal(size=(9, 11))
    assert rank_correlation(heat, np.exp(heat)) == pytest.approx(1)
    assert rank_correlation(heat, -heat) == pytest.approx(-1)
    assert rank_correlation(heat, np.zeros_like(heat)) == 0


@pytest.mark.parametrize("name", MOVES)
def test_a_map_that_moves_with_the_picture_is_told_from_one_that_stays(name: str) -> None:
    move, pixels = MOVES[name], lesion_slice()
    head = pixels > 0

    def brightness(slice_: np.ndarray) -> np.ndarray:
        smooth = F.avg_pool2d(torch.from_numpy(slice_.astype(np.float32))[None, None], 13, 1, 6, count_include_pad=True)
        return smooth[0, 0].numpy()

    good, near = follows(brightness(pixels), brightness(moved(pixels, move)), move, head)
    bad, far = follows(brightness(pixels), brightness(pixels), move, head)
    assert good > 0.9 and near < 0.03
    assert bad < good - 0.03 and far > near + 0.02


def test_heat_outside_the_head_and_evidence_for_a_tumour_worked_out_by_hand() -> None:
    head = np.zeros((20, 20), bool)
    head[:, :10] = True
    heat = np.ones((20, 20))
    heat[:, 10:] = 3
    assert outside(heat, head) == pytest.approx(0.75)
    assert outside(-heat, head) == 0
    cam = np.stack([np.full((2, 2), value) for value in (5.0, 1.0, 2.0)])
    assert (tumour_evidence(cam, [0.1, 0.7, 0.2], none=1) == 1).all()  # class 2 is the likeliest tumour
    assert (tumour_evidence(cam + 100, [0.1, 0.7, 0.2], none=1) == 1).all()
    assert (tumour_evidence(cam, [0.1, 0.2, 0.7], none=0) == 0).all()  # negative evidence is none


def test_weights_are_shuffled_from_the_output_to_the_input_and_the_network_is_left_alone(run: Path) -> None:
    model, _ = load_model(run / "model.safetensors")
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    names = [name for name, _ in parts_from_the_output(model.network)]
    assert names[-1] == "stem" and names.index("heads.0") < names.index("stages.2") < names.index("stages.0")
    last = None
    for name, destroyed in cascade(model.network):
        changed = {key for key, value in destroyed.state_dict().items() if not torch.equal(value, before[key])}
        assert any(key.startswith(name) for key in changed)
        last = destroyed
    assert last is not None
    for key, value in last.state_dict().items():
        was = before[key] - before[key].mean() if value.ndim > 1 else before[key]
        torch.testing.assert_close(value.flatten().sort().values, was.flatten().sort().values)
    without = without_readouts(model.network).state_dict()
    assert {key for key in before if not torch.equal(without[key], before[key])} == {
        f"{name}.{kind}"
        for name, part in model.network.named_modules()
        if part in model.network.readouts
        for kind in ("weight", "bias")
        if f"{name}.{kind}" in before
    }
    assert all(torch.equal(value, before[key]) for key, value in model.network.state_dict().items())


def test_a_map_is_compared_with_that_of_another_patient() -> None:
    pixels = [np.zeros((8, 8), np.uint8) for _ in range(3)]
    for number, slice_ in enumerate(pixels):
        slice_[1:7, 1:7] = 200 + number
    rising = np.arange(64.0).reshape(8, 8)
    maps = [rising, rising, -rising]
    assert strangers(maps, pixels, ["a", "a", "b"]) == pytest.approx([-1, -1, -1])  # not with its own patient
    assert strangers(maps, pixels, ["a", "a", "a"]) == []


def taught(labels: torch.Tensor, images: torch.Tensor, seed: int) -> AttentionCNN:
    """A tiny network after a few steps on all images at once."""
    torch.manual_seed(seed)
    network = AttentionCNN(NetworkConfig(classes=2, size="tiny", dropout=0.0, mirror=False))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(25):
        loss = F.cross_entropy(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def test_random_weights_and_shuffled_labels_destroy_the_maps() -> None:
    """Class 0 has a bright square, class 1 a dark one, somewhere in the picture."""
    rng = np.random.default_rng(0)
    labels = torch.arange(48) % 2
    images = torch.from_numpy(rng.normal(0, 0.1, (48, 1, 48, 48)).astype(np.float32))
    places = rng.integers(4, 36, (48, 2))
    for image, label, (top, left) in zip(images, labels.tolist(), places.tolist(), strict=True):
        image[0, top : top + 8, left : left + 8] += 1.5 if label == 0 else -1.5
    network, again = taught(labels, images, 0), taught(labels, images, 1)
    shuffled = taught(labels[torch.from_numpy(rng.permutation(48))], images, 1)

    def agreement(other: AttentionCNN) -> float:
        maps = class_maps(network, images, labels).numpy(), class_maps(other, images, labels).numpy()
        return float(np.mean([rank_correlation(a, b) for a, b in zip(*maps, strict=True)]))

    assert agreement(network) == pytest.approx(1)
    second_seed = agreement(again)
    assert second_seed > agreement(shuffled) + 0.15
    destroyed = [abs(agreement(list(cascade(network, seed))[-1][1])) for seed in range(8)]
    assert np.mean(destroyed) < second_seed - 0.15


def test_a_network_without_what_it_learnt_leaves_no_trace_in_its_maps() -> None:
    """The features of a scale share a factor, brightness, say: weights that kept their mean would pass it on."""
    torch.manual_seed(0)
    network = AttentionCNN(NetworkConfig(classes=2, size="tiny", dropout=0.0, mirror=False)).eval()
    with torch.no_grad():
        for head in network.readouts:
            head.weight.copy_(-head.weight.abs())  # all against
    images = torch.rand(6, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    classes = torch.arange(6) % 2
    before = class_maps(network, images, classes).numpy()
    ranks = [
        rank_correlation(one, other)
        for seed in range(24)
        for one, other in zip(before, class_maps(without_readouts(network, seed), images, classes).numpy(), strict=True)
    ]
    assert abs(np.mean(ranks)) < 0.25  # of a kept mean it would be near -1 or 1
    with torch.no_grad():
        assert all(abs(head.weight.mean()) < 1e-6 for head in without_readouts(network).readouts)
        assert all(head.weight.mean() < -1e-3 for head in network.readouts)
