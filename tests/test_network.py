"""The network's promises: exact maps, attentions that switch off, one preprocessing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braincam.errors import ConfigError
from braincam.network.attention import ATTENTIONS, ChannelAttention, MeanAndMaximum, SpatialAttention
from braincam.network.attention_cnn import POOLINGS, SIZES, AttentionCNN, NetworkConfig
from braincam.network.classifier import spread
from braincam.network.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, PreprocessConfig


def network(seed: int = 0, **options: object) -> AttentionCNN:
    torch.manual_seed(seed)
    model = AttentionCNN(NetworkConfig(size="tiny", **options))  # type: ignore[arg-type]
    for module in model.modules():  # running statistics away from their defaults, as after training
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_spreading_a_map_keeps_its_mean_and_its_symmetry(height: int, width: int, seed: int) -> None:
    maps = torch.randn((2, 3, height, width), generator=torch.Generator().manual_seed(seed))
    wider = spread(maps)
    assert wider.shape == maps.shape
    assert torch.allclose(wider.mean((2, 3)), maps.mean((2, 3)), atol=1e-5)
    assert torch.allclose(spread(maps.flip(3)), wider.flip(3), atol=1e-5)
    assert torch.allclose(spread(maps.transpose(2, 3)), wider.transpose(2, 3), atol=1e-5)


def test_a_cell_keeps_a_quarter_and_reaches_its_eight_neighbours() -> None:
    maps = torch.zeros(1, 1, 5, 5)
    maps[0, 0, 2, 2] = 16
    line = torch.tensor([0.0, 1, 2, 1, 0])
    assert torch.equal(spread(maps)[0, 0], torch.outer(line, line))


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(ATTENTIONS),
    st.integers(2, 7),
    st.sampled_from([32, 64, 112, 160]),
    st.integers(0, 99),
    st.booleans(),
)
def test_the_mean_of_a_map_is_the_logit(attention: str, classes: int, side: int, seed: int, mirror: bool) -> None:
    model = network(seed, attention=attention, classes=classes, mirror=mirror)
    x = torch.rand(2, 1, side, side)
    with torch.inference_mode():
        reading = model.read(x)
        assert torch.allclose(reading.cam.mean((2, 3)), reading.logits, atol=1e-4)
        logits = (model(x) + model(x.flip(3))) / 2 if mirror else model(x)
        assert torch.allclose(logits, reading.logits, atol=1e-5)
    assert reading.cam.shape == (2, classes, side // 4, side // 4)


def test_a_mirrored_slice_gets_the_same_answer_and_the_mirrored_map() -> None:
    x = torch.rand(3, 1, 64, 64)
    with torch.inference_mode():
        one, other = network(mirror=True).read(x), network(mirror=True).read(x.flip(3))
        assert not torch.allclose(network(mirror=False).read(x.flip(3)).logits, one.logits, atol=1e-4)
    assert torch.allclose(one.logits, other.logits, atol=1e-5)
    assert torch.allclose(one.features, other.features, atol=1e-5)
    assert torch.allclose(one.cam, other.cam.flip(3), atol=1e-4)


def test_maps_are_28_or_finer_and_the_default_is_small() -> None:
    with torch.inference_mode():
        assert network().read(torch.rand(1, 1, 128, 128)).cam.shape[-1] >= 28
        assert network(channels=3).read(torch.rand(1, 3, 224, 224)).cam.shape[-1] >= 28
    default = AttentionCNN(NetworkConfig())
    assert sum(parameter.numel() for parameter in default.parameters()) < 1_500_000


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_size_attention_and_pooling_learns(size: str, attention: str, pooling: str) -> None:
    model = AttentionCNN(NetworkConfig(size=size, attention=attention, pooling=pooling))
    model(torch.rand(2, 1, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_attentions_are_what_their_names_say() -> None:
    def kinds(name: str) -> set[type]:
        return {type(module) for module in network(attention=name).modules()} & {
            ChannelAttention,
            SpatialAttention,
        }

    assert kinds("none") == set()
    assert kinds("channel") == {ChannelAttention}
    assert kinds("spatial") == {SpatialAttention}
    assert kinds("both") == {ChannelAttention, SpatialAttention}


def test_channel_attention_weighs_channels_and_spatial_attention_weighs_places() -> None:
    x = torch.rand(2, 16, 8, 8) + 0.5
    with torch.inference_mode():
        by_channel = ChannelAttention(16)(x) / x
        by_place = SpatialAttention()(x) / x
    assert torch.allclose(by_channel, by_channel.mean((2, 3), keepdim=True).expand_as(x), atol=1e-5)
    assert torch.allclose(by_place, by_place.mean(1, keepdim=True).expand_as(x), atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 16, 8, 8), (1, 48, 5, 3), (3, 1, 2, 2)])
def test_mean_and_maximum_over_channels_and_their_gradients_are_torchs(shape: tuple[int, int, int, int]) -> None:
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    summary = MeanAndMaximum.apply(x)
    expected = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), dim=1)
    assert torch.allclose(summary, expected)
    weights = torch.randn_like(expected)
    (mine,) = torch.autograd.grad((summary * weights).sum(), x)
    (torchs,) = torch.autograd.grad((expected * weights).sum(), x)
    assert torch.allclose(mine, torchs)
    assert mine.is_contiguous(memory_format=torch.channels_last)


def test_where_channels_are_equally_large_one_of_them_gets_the_whole_gradient() -> None:
    x = torch.zeros(1, 4, 2, 2, requires_grad=True)
    MeanAndMaximum.apply(x)[:, 1].sum().backward()
    assert x.grad is not None
    assert (x.grad.sum(1) == 1).all() and (x.grad.amax(1) == 1).all()


def test_attentions_answer_the_same_with_and_without_gradients() -> None:
    x = torch.randn(2, 16, 8, 8)
    for attend in (ChannelAttention(16), SpatialAttention()):
        learning = attend(x)
        with torch.no_grad():
            assert torch.allclose(attend(x), learning, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_maps_lie_where_the_picture_lies(pooling: str) -> None:
    """With kernels made symmetric, the map of the mirrored picture must be the mirrored map: no layer shifts."""
    model = network(pooling=pooling, mirror=False)  # the mean with the mirror image would hide a shift
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                symmetric = (module.weight + module.weight.flip(3)) / 2
                module.weight.copy_((symmetric + symmetric.flip(2)) / 2)
        x = torch.rand(2, 1, 96, 96)
        cam = model.read(x).cam
        assert torch.allclose(model.read(x.flip(3)).cam.flip(3), cam, atol=1e-4)
        assert torch.allclose(model.read(x.flip(2)).cam.flip(2), cam, atol=1e-4)


def test_pixel_weights_are_positive_with_mean_one() -> None:
    weights = network(pooling="attention").where(torch.rand(3, 32, 16, 16))  # type: ignore[misc]
    assert weights.shape == (3, 1, 16, 16)
    assert weights.min() > 0
    assert torch.allclose(weights.mean((1, 2, 3)), torch.ones(3), atol=1e-4)


def test_a_slice_is_judged_alone_whatever_its_batch() -> None:
    model, x = network(), torch.rand(5, 1, 64, 64)
    with torch.inference_mode():
        together = model(x)
        alone = torch.cat([model(x[n : n + 1]) for n in range(5)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_wrong_names_are_refused_with_the_right_ones() -> None:
    with pytest.raises(ConfigError, match="tiny, small, base"):
        NetworkConfig(size="huge")
    with pytest.raises(ConfigError, match="mean, attention"):
        NetworkConfig(pooling="max")
    with pytest.raises(ConfigError, match="none, channel, spatial, both"):
        NetworkConfig(attention="self")


def test_preprocessing_of_the_specification_is_what_torchvision_does() -> None:
    from PIL import Image
    from torchvision import transforms

    pixels = np.random.default_rng(0).integers(0, 256, (224, 224), dtype=np.uint8)
    published = transforms.Compose(
        [
            transforms.Resize((224, 224)),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )(Image.fromarray(pixels).convert("RGB"))
    ours = Preprocess(
        PreprocessConfig(image_size=224, frame=False, subtract_black=False, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    )(torch.from_numpy(pixels)[None])[0]
    assert torch.allclose(ours, published, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(16, 400), st.integers(16, 400), st.integers(0, 255))
def test_an_even_picture_stays_even_at_any_size(height: int, width: int, level: int) -> None:
    preprocess = Preprocess(PreprocessConfig(image_size=64, frame=False, subtract_black=False, mean=(0.0,), std=(1.0,)))
    out = preprocess(torch.full((1, height, width), level, dtype=torch.uint8))
    assert out.shape == (1, 1, 64, 64)
    assert torch.allclose(out, torch.full_like(out, level / 255), atol=1e-5)
