"""The benchmark of maps: every kind makes a map of the slice, and the table tells good from bad, dear from cheap."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("torchcam")
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import maps
from braincam.dataset.fingerprints import read_one_slice
from braincam.explain.localisation import read_mask
from braincam.model_file.export import load_model
from braincam.network.exportable import Deployed
from braincam.network.preprocess import Preprocess, PreprocessConfig
from braincam.predict import Predictor


def some_cases(scans: Path, model_classes: tuple[str, ...]) -> list[maps.Case]:
    """Two tumours of each class with their masks, whatever a model says of them."""
    found = []
    for label in ("glioma", "meningioma"):
        for number, file in enumerate(sorted((scans / "masks" / label).glob("*.png"))[:2]):
            path = f"{label}/{file.name}"
            pixels, mask = read_one_slice(scans / "data" / path), read_mask(scans / "masks", path)
            assert mask is not None
            found.append(maps.Case(path, pixels, mask, model_classes.index(label), f"{label}{number}"))
    return found


def test_every_kind_is_measured_and_has_its_row(scans: Path, run: Path) -> None:
    model, card = load_model(run / "model.safetensors")
    chosen = some_cases(scans, card.classes)
    cheap, costly = maps.kinds(model)
    found = maps.measure(model, chosen, cheap)
    found |= maps.measure(model, chosen[:1], costly)
    assert all(len(found[name].maps) == len(chosen) for name in cheap)
    assert all(np.isfinite(heat).all() and heat.ndim == 2 for kind in found.values() for heat in kind.maps)
    own = Predictor(run).answer(chosen[0].pixels[None]).cam
    assert own is not None
    assert found[maps.OWN].maps[0] == pytest.approx(own[0, chosen[0].label], abs=1e-3)
    for name in ("spatial attention, stage 1", "pixel weights"):  # the same whatever the class
        other = cheap[name](model, chosen[0].pixels, 1 - chosen[0].label)
        assert np.array_equal(other, found[name].maps[0])
    ranks = maps.agreement(model, chosen[:2], cheap, found)
    assert np.mean(ranks["all weights shuffled"][maps.OWN]) < 0.9
    assert np.mean(ranks["linear layers shuffled"][maps.OWN]) < 0.9
    for name in ("spatial attention, stage 1", "pixel weights"):  # which no linear layer reads
        assert ranks["linear layers shuffled"][name] == pytest.approx([1, 1])
    assert all(0 <= value <= 1 for of_kinds in ranks.values() for values in of_kinds.values() for value in values)
    assert set(ranks["of another slice"]) == set(cheap)
    alone = maps.agreement(model, chosen[:1], {maps.OWN: cheap[maps.OWN]}, found)  # there is no other patient
    assert alone["of another slice"] == {maps.OWN: []}
    assert " | – | " in maps.table(chosen[:1], {maps.OWN: maps.measure(model, chosen[:1], cheap)[maps.OWN]}, alone)
    lines = maps.table(chosen, found, ranks).splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == [*found, "random", "centre"]
    assert len({line.count(" | ") for line in (lines[0], *lines[2:])}) == 1
    assert lines[2].split(" | ")[-1] == "1.00 |"  # the built-in map beside itself
    assert maps.picture(chosen, found, card.classes).startswith(b"\x89PNG")
    assert not any(part._forward_hooks for part in model.network.modules())


class Corner(nn.Module):
    """Answers by how bright the upper left corner is."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack((x[:, 0, :16, :16].mean((1, 2)), x[:, 0, 48:, 48:].mean((1, 2))), 1)


def test_occlusion_finds_where_the_score_comes_from() -> None:
    preprocess = Preprocess(PreprocessConfig(image_size=64, frame=False, subtract_black=False, mean=(0.2,), std=(0.2,)))
    model = Deployed(preprocess, Corner(), 1.0, torch.zeros(2, 1), torch.zeros(1, 1))  # type: ignore[arg-type]
    pixels = np.full((64, 64), 200, np.uint8)
    for label, inside in ((0, np.s_[:16, :16]), (1, np.s_[48:, 48:])):
        heat = maps.occlusion(model, pixels, label)
        mask = np.zeros((64, 64), bool)
        mask[inside] = True
        hit = maps.compare(heat, mask)
        assert hit.hit == 1 and hit.energy > 0.7
