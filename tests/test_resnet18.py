"""The peer goes through the same pipeline: it learns, its maps are exact, its file answers as PyTorch does."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from braincam.errors import ConfigError
from braincam.explain.cam import torchcam_map
from braincam.model_file.zoo import ModelFile
from braincam.network.build import build_network
from braincam.network.classifier import Classifier, ClassifierConfig
from braincam.network.exportable import Deployed
from braincam.network.preprocess import Preprocess, PreprocessConfig
from braincam.network.resnet18 import ResNet18, exact, placed
from braincam.pipeline.evaluate import evaluate
from braincam.pipeline.train import train
from braincam.training.batches import Pool
from braincam.training.config import TrainConfig, from_mapping, read_config
from braincam.training.loop import fit

PEER = {"network": "resnet18"}


def peer(**facts: object) -> Classifier:
    torch.manual_seed(0)
    model = build_network({"size": "resnet18", **facts})
    for module in model.modules():  # running statistics away from their defaults, as after training
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def test_it_is_torchvisions_network() -> None:
    """With torchvision's weights in it, it gives torchvision's logits; the number of parameters is the published."""
    theirs = torchvision.models.resnet18(num_classes=1000).eval()
    ours = build_network({"size": "resnet18", "classes": 1000, "channels": 3, "mirror": False}).eval()
    assert sum(parameter.numel() for parameter in ours.parameters()) == 11_689_512
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))  # the same order
    x = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)


@settings(max_examples=8, deadline=None)
@given(st.sampled_from([32, 80, 96, 112, 128]), st.integers(2, 6), st.booleans())
def test_the_mean_of_its_map_is_the_logit(side: int, classes: int, mirror: bool) -> None:
    model = peer(classes=classes, mirror=mirror)
    x = torch.rand(2, 1, side, side)
    with torch.inference_mode():
        reading = model.read(x)
        logits = (model(x) + model(x.flip(3))) / 2 if mirror else model(x)
    assert torch.allclose(reading.cam.mean((2, 3)), reading.logits, atol=1e-4)
    assert torch.allclose(reading.logits, logits, atol=1e-4)
    assert reading.features.shape == (2, 512)


def test_its_map_lies_where_its_cells_look() -> None:
    """The centre of the pixels that a cell sees, by their gradients, is where the map draws it."""
    model = peer(mirror=False)
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 0.01)  # every pixel of the receptive field speaks for the cell
    x = torch.ones(1, 1, 576, 576, requires_grad=True)  # the field is 435 pixels wide
    (features,) = model.scales(x)
    row, column = 9, 8
    features[0, :, row, column].sum().backward()
    assert x.grad is not None
    seen = x.grad[0, 0]
    cells = torch.zeros(1, 1, 18, 18)
    cells[0, 0, row, column] = 1
    drawn = placed(cells)[0, 0]
    for axis in (0, 1):
        centre_seen, centre_drawn = (
            (line * torch.arange(len(line))).sum() / line.sum()
            for line in (seen.abs().sum(1 - axis), (drawn - drawn.min()).sum(1 - axis))
        )
        assert centre_drawn * 4 + 1.5 == pytest.approx(centre_seen.item(), abs=3)  # of equals, pooling takes the first
    assert drawn.min() >= 0 and (drawn[:16, :16] == 0).all()  # what looks nowhere near it says nothing
    assert exact(cells).mean() == pytest.approx(cells.mean().item())


def test_grad_cam_of_it_is_its_own_map() -> None:
    """It averages and then classifies linearly, so the two are the same but for the bias, the sign and the scale."""
    pytest.importorskip("torchcam")
    network = peer(mirror=False)
    model = Deployed(
        Preprocess(PreprocessConfig(image_size=64, frame=False)), network, 1.0, torch.zeros(4, 1), torch.zeros(512, 1)
    ).eval()  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    heat = torchcam_map(model, pixels, 1, "gradcam")
    with torch.inference_mode():
        inputs = model.preprocess(torch.from_numpy(pixels)[None])
        (features,) = network.scales(inputs)
        cells = torch.einsum("nchw,c->nhw", features, network.head.weight[1]).clamp_min(0)[None]
        expected = placed(cells / cells.max())[0, 0].numpy()
    assert heat.shape == (16, 16) and heat.min() >= 0 and heat.max() <= 1 + 1e-6
    assert np.corrcoef(heat.ravel(), expected.ravel())[0, 1] > 0.999
    assert np.unravel_index(heat.argmax(), heat.shape) == np.unravel_index(expected.argmax(), expected.shape)


def test_it_memorises_eight_slices(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 60, (8, 64, 64), generator=random, dtype=torch.uint8)
    labels = torch.arange(8) % 2
    pixels[labels == 1, 20:40, 32:48] += 150
    data = Pool(pixels, labels)
    config = from_mapping(
        PEER
        | {
            "image_size": 64, "epochs": 6, "batch_size": 4, "augment": "none", "dropout": 0.0, "ema_decay": 0.0,
            "label_smoothing": 0.0, "weight_decay": 0.0, "resolution_steps": [1.0], "patience": 0,
        }
    )  # fmt: skip
    torch.manual_seed(0)
    fitted = fit(
        build_network(config.network_facts(2)), Preprocess(PreprocessConfig(image_size=64)), data, data, config,
        device=torch.device("cpu"), precision=torch.float32, folder=tmp_path,
    )  # fmt: skip
    kept = fitted.history[fitted.best - 1]
    assert kept.val_accuracy == 1.0
    assert kept.val_loss < 0.2


def test_its_map_needs_whole_cells() -> None:
    with pytest.raises(ConfigError, match="multiple of 32 for resnet18, got 144"):
        from_mapping(PEER | {"image_size": 144})


def test_attention_and_pooling_do_not_apply_to_it_and_are_refused() -> None:
    config = from_mapping(PEER)
    assert (config.attention, config.pooling) == ("none", "mean")  # what it is, and what config.toml says
    for key, value in {"attention": "both", "pooling": "attention"}.items():
        with pytest.raises(ConfigError, match=f"resnet18: has no attention.*got.*{key}={value}.*leave both keys out"):
            from_mapping(PEER | {key: value})
    with pytest.raises(ConfigError, match="leave both keys out"):
        replace(TrainConfig(), network="resnet18")
    assert "attention" not in config.network_facts(4)


def test_its_config_survives_the_run_folder(tmp_path: Path) -> None:
    config = read_config(overrides=["network=resnet18", "epochs=3"])
    (tmp_path / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    assert read_config(tmp_path / "config.toml") == config


def test_a_card_rebuilds_it() -> None:
    model = build_network({"size": "resnet18", "classes": 3, "dropout": 0.1})
    again = build_network(asdict(model.config))
    assert isinstance(again, ResNet18)
    assert again.config == model.config == ClassifierConfig(size="resnet18", classes=3, dropout=0.1)
    with pytest.raises(ConfigError, match="at least 2"):
        build_network({"size": "resnet18", "classes": 1})


def test_it_is_trained_exported_judged_and_compared_as_any_network(scans: Path, run: Path, tmp_path: Path) -> None:
    """Export compares the graph with PyTorch itself, and would refuse one that disagrees."""
    out = tmp_path / "peer"
    quick = ("epochs=1", "image_size=32", "batch_size=16", "threads=1", "network=resnet18")
    trained = train(scans / "data", out, patients=scans / "patients.csv", overrides=quick)
    card = ModelFile(out / "model.onnx").card()
    assert card.network["size"] == "resnet18"
    assert card.parameters > 11_000_000
    assert trained.metrics["n"] > 0
    assert "resnet18" in (out / "report.html").read_text(encoding="utf-8")
    against = evaluate(scans / "data", run, patients=scans / "patients.csv", against=out).metrics["against"]
    assert against["b"] == "peer"


def test_gradient_maps_find_its_last_stage() -> None:
    methods = pytest.importorskip("torchcam.methods")
    model = peer()
    with methods.GradCAM(model, target_layer=model.last_stage) as cam:
        (heat,) = cam(0, model(torch.rand(1, 1, 128, 128, requires_grad=True)))
    assert heat.shape[-2:] == (4, 4)
