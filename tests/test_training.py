"""The loop learns, remembers, resumes and says when it cannot go on."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from braincam.errors import ConfigError, TrainingError
from braincam.network.attention_cnn import AttentionCNN, NetworkConfig
from braincam.network.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, PreprocessConfig
from braincam.pipeline.train import Machine
from braincam.training import loop
from braincam.training.batches import Pool, affine_grid, augment, batches, generator, shrink, smooth
from braincam.training.config import TrainConfig, from_mapping, read_config, shipped
from braincam.training.device import describe_device, pick_device, pick_precision
from braincam.training.history import Epoch, best_epoch, data_share
from braincam.training.loop import Fit, class_weights, fit
from braincam.training.schedule import learning_rate_at, side_at

QUICK = TrainConfig(
    network="tiny",
    image_size=32,
    epochs=3,
    batch_size=8,
    precision="float32",
    device="cpu",
    ema_decay=0.5,
    patience=0,
)


def pool(n: int = 24, classes: int = 2, side: int = 32) -> Pool:
    """Slices whose class is where their bright square lies."""
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 60, (n, side, side), generator=random, dtype=torch.uint8)
    labels = torch.arange(n) % classes
    for slice_, label in zip(pixels, labels, strict=True):
        column = 4 + int(label) * 12
        slice_[10:20, column : column + 8] += 150
    return Pool(pixels, labels)


def run(config: TrainConfig, folder: Path, *, resume: bool = False, data: Pool | None = None) -> Fit:
    torch.manual_seed(config.seed)
    model = AttentionCNN(NetworkConfig(classes=2, size="tiny", dropout=config.dropout))
    preprocess = Preprocess(PreprocessConfig(image_size=32, mean=(0.2,), std=(0.2,)))
    given_data = data or pool()
    return fit(
        model, preprocess, given_data, given_data, config,
        device=torch.device("cpu"), precision=torch.float32, folder=folder, resume=resume,
    )  # fmt: skip


def weights(fitted: Fit) -> list[torch.Tensor]:
    return list(fitted.model.state_dict().values())


def test_eight_slices_are_memorised(tmp_path: Path) -> None:
    config = replace(QUICK, epochs=40, augment="none", dropout=0.0, label_smoothing=0.0, weight_decay=0.0)
    fitted = run(config, tmp_path, data=pool(8))
    assert fitted.history[-1].val_accuracy == 1.0
    assert fitted.history[-1].train_loss < 0.05


def test_an_interrupted_training_ends_bit_for_bit_where_an_uninterrupted_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(QUICK, tmp_path / "whole")
    real = loop.save_checkpoint

    def stop_after_two(path: Path, state: dict[str, object]) -> None:
        real(path, state)
        if len(state["history"]) == 2:  # type: ignore[arg-type]
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        run(QUICK, tmp_path / "torn")
    monkeypatch.setattr(loop, "save_checkpoint", real)
    resumed = run(QUICK, tmp_path / "torn", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
    assert [row.val_loss for row in whole.history] == [row.val_loss for row in resumed.history]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    one, two = run(QUICK, tmp_path / "1"), run(QUICK, tmp_path / "2")
    other = run(replace(QUICK, seed=1), tmp_path / "3")
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(two), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_resuming_with_another_recipe_or_from_nothing_is_refused(tmp_path: Path) -> None:
    run(QUICK, tmp_path)
    with pytest.raises(TrainingError, match=r"learning_rate was 0\.003, is 0\.01"):
        run(replace(QUICK, learning_rate=0.01), tmp_path, resume=True)
    with pytest.raises(TrainingError, match="no checkpoint to resume from"):
        run(QUICK, tmp_path / "empty", resume=True)
    torch.save([1], tmp_path / "last.ckpt")
    with pytest.raises(TrainingError, match="expected format braincam-checkpoint-1, got 'list'"):
        run(QUICK, tmp_path, resume=True)
    (tmp_path / "last.ckpt").write_bytes(b"PK garbage")
    with pytest.raises(TrainingError, match="damaged"):
        run(QUICK, tmp_path, resume=True)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [(PermissionError(13, "Permission denied"), "Permission denied"), (MemoryError(), "out of memory")],
)
def test_a_checkpoint_that_cannot_be_read_now_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception, said: str
) -> None:
    run(QUICK, tmp_path)

    def cannot(*arguments: object, **options: object) -> None:
        raise trouble

    monkeypatch.setattr(torch, "load", cannot)
    with pytest.raises(TrainingError, match=f"{said}.*all finished epochs are kept"):
        run(QUICK, tmp_path, resume=True)


def test_processes_draw_other_numbers_each() -> None:
    """Of a seed torch reads the low 32 bits on the CPU."""
    drawn = {(torch.rand(1, generator=generator(seed, epoch, rank=rank)).item())
             for seed in range(3) for epoch in (1, 2) for rank in range(64)}  # fmt: skip
    assert len(drawn) == 3 * 2 * 64


def test_a_loss_that_is_not_a_number_stops_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AttentionCNN, "forward", lambda self, x: self.heads[0](x[:, 0, 0, :32] * math.nan))
    with pytest.raises(TrainingError, match="not a number; nothing is kept.*lower learning_rate"):
        run(QUICK, tmp_path)


def test_weights_that_are_no_numbers_do_not_replace_the_last_good_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training loss is of the weights before each step: only validation sees what the last one did."""
    real, calls = loop.validate, []

    def spoilt(*given: Any) -> dict[str, float]:
        calls.append(real(*given))
        return {**calls[-1], "val_loss": math.nan} if len(calls) == 2 else calls[-1]

    monkeypatch.setattr(loop, "validate", spoilt)
    with pytest.raises(
        TrainingError, match="epoch 2: the validation loss is not a number; all finished epochs are kept"
    ):
        run(QUICK, tmp_path)
    assert len(torch.load(tmp_path / "last.ckpt", weights_only=True)["history"]) == 1


def test_larger_slices_are_judged_in_smaller_batches() -> None:
    assert [loop.evaluation_batch(side) for side in (64, 128, 256, 512, 4096)] == [256, 256, 64, 16, 1]


def test_a_run_is_repeatable_only_if_all_its_sessions_are() -> None:
    here = {"device": "cpu", "processes": 1, "precision": "float32"}
    for said, whole in (([True, True], True), ([False, True], False)):
        sessions = [{**here, "deterministic": one} for one in said]
        fitted = SimpleNamespace(machines=sessions, seconds=1.0)
        facts = Machine(torch.device("cpu"), torch.float32, deterministic=True).facts(fitted)  # type: ignore[arg-type]
        assert facts["deterministic"] == whole == ("seconds" not in facts)


def test_training_stops_early_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    """A rate far too high makes the loss rise; patience then ends the run, and the best weights come back."""
    config = replace(
        QUICK, epochs=50, patience=2, learning_rate=0.5, schedule="constant", ema_decay=0.0, resolution_steps=(1.0,)
    )
    fitted = run(config, tmp_path)
    assert fitted.stopped_early
    assert len(fitted.history) == fitted.best + 2
    assert fitted.best == min(fitted.history, key=lambda row: row.val_loss).epoch
    rows = pd.read_csv(tmp_path / "history.csv")
    assert rows["epoch"].tolist() == list(range(1, len(fitted.history) + 1))
    preprocess = Preprocess(PreprocessConfig(image_size=32, mean=(0.2,), std=(0.2,)))
    kept = loop.validate(fitted.model, preprocess, pool(), torch.float32)
    assert kept["val_loss"] == pytest.approx(fitted.history[fitted.best - 1].val_loss, rel=1e-4)


def test_the_average_moves_by_one_minus_its_decay_and_copies_whole_numbers() -> None:
    slow, fast = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    for module, value in ((slow, 1.0), (fast, 3.0)):
        for tensor in (module.weight.data, module.running_mean, module.running_var):
            assert tensor is not None
            tensor.fill_(value)
    assert fast.num_batches_tracked is not None
    fast.num_batches_tracked.fill_(7)
    loop.follow(slow, fast, decay=0.9)
    for name, tensor in slow.state_dict().items():
        expected = {"num_batches_tracked": 7.0, "bias": 0.0}.get(name, 0.9 * 1 + 0.1 * 3)
        assert tensor.tolist() == pytest.approx([expected] * 2 if tensor.ndim else expected)
    assert fast.weight.tolist() == [3.0, 3.0]


def test_the_average_forgets_the_untrained_start_quickly() -> None:
    assert [loop.ramp(step) for step in (1, 2, 8)] == pytest.approx([2 / 11, 3 / 12, 9 / 18])
    assert loop.ramp(1789) < 0.995 <= loop.ramp(1790)  # from there on the default's decay holds


def test_weight_decay_and_label_smoothing_reach_the_weights(tmp_path: Path) -> None:
    plain = replace(QUICK, weight_decay=0.0, label_smoothing=0.0)
    free, decayed, smoothed = (
        weights(run(config, tmp_path / str(number)))
        for number, config in enumerate((plain, replace(plain, weight_decay=20.0), replace(plain, label_smoothing=0.5)))
    )

    def size(tensors: list[torch.Tensor]) -> float:
        return sum(float(tensor.square().sum()) for tensor in tensors if tensor.ndim == 4)

    assert size(decayed) < 0.9 * size(free)
    assert not all(torch.equal(a, b) for a, b in zip(free, smoothed, strict=True))


def test_the_training_loss_is_told_without_smoothing_and_weights_so_that_it_can_be_compared(tmp_path: Path) -> None:
    still = replace(QUICK, epochs=1, learning_rate=1e-12, weight_decay=0.0)
    uneven = Pool(pool().pixels[:18], pool().labels[:18] * (torch.arange(18) > 9))
    plain, told = (
        run(config, tmp_path / str(number), data=uneven).history[0].train_loss
        for number, config in enumerate(
            (replace(still, label_smoothing=0.0), replace(still, label_smoothing=0.5, class_weights=True))
        )
    )
    assert told == pytest.approx(plain, rel=1e-5)


def test_class_weights_are_inverse_to_frequency() -> None:
    found = class_weights(torch.tensor([0, 0, 0, 1]), 2)
    assert found[1] == pytest.approx(3 * found[0])
    assert (found[torch.tensor([0, 0, 0, 1])]).mean() == pytest.approx(1.0)


def test_every_slice_is_seen_once_per_epoch_in_an_order_that_changes() -> None:
    data = Pool(torch.arange(10, dtype=torch.uint8)[:, None, None].expand(10, 4, 4), torch.arange(10))
    first = torch.cat(list(batches(data, 4, seed=0, epoch=1)))
    second = torch.cat(list(batches(data, 4, seed=0, epoch=2)))
    assert sorted(first.tolist()) == list(range(10))
    assert first.tolist() != second.tolist()


def test_augmentation_keeps_range_and_shape_differs_by_slice_and_repeats_by_seed() -> None:
    x = torch.rand(6, 1, 48, 48)
    out = augment(x, generator(0, 1))
    assert out.shape == x.shape
    assert out.min() >= 0
    assert out.max() <= 1
    assert torch.equal(out, augment(x, generator(0, 1)))
    assert not torch.equal(out, augment(x, generator(0, 2)))


@pytest.mark.parametrize("side", [1, 5, 32])
def test_slices_are_moved_and_smoothed_as_torch_does_it(side: int) -> None:
    rows, x = torch.randn(3, 2, 3), torch.rand(3, 1, side, side)
    expected = F.affine_grid(rows, [3, 1, side, side], align_corners=False)
    assert torch.allclose(affine_grid(rows, side), expected, atol=1e-6)
    assert torch.allclose(smooth(x), F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1), atol=1e-6)


def test_augmentation_moves_a_head_but_never_loses_it() -> None:
    x = torch.zeros(32, 1, 64, 64)
    x[:, :, 20:44, 20:44] = 0.8
    mass = augment(x, generator(0, 0)).mean((1, 2, 3)) / x.mean((1, 2, 3))
    assert mass.min() > 0.4


@pytest.mark.parametrize("side", [32, 48, 80])
def test_shrinking_keeps_an_even_picture_and_the_mean_of_any(side: int) -> None:
    x = torch.rand(3, 1, 80, 80, generator=torch.Generator().manual_seed(0))
    small = shrink(x, side)
    assert small.shape == (3, 1, side, side)
    torch.testing.assert_close(small.mean((1, 2, 3)), x.mean((1, 2, 3)), atol=5e-3, rtol=0)
    torch.testing.assert_close(shrink(torch.full_like(x, 0.4), side), torch.full_like(small, 0.4))
    library = F.interpolate(x, (side, side), mode="bilinear", antialias=True)
    torch.testing.assert_close(small, library, atol=1e-5, rtol=0)


@given(st.floats(0, 1, exclude_max=True), st.integers(2, 20).map(lambda n: 16 * n))
def test_resolution_rises_to_the_size_that_is_judged_and_can_always_be_halved(progress: float, size: int) -> None:
    steps = (0.625, 0.75, 0.875, 1.0)
    for epochs in (1, 2, 3, 7, 40):
        assert side_at(epochs / epochs, size, steps) == size  # however few epochs, the last is at full size
    side = side_at(progress, size, steps)
    assert 32 <= side <= size
    assert side % 16 == 0
    assert side_at(0.99, size, steps) == size
    assert side <= side_at(min(progress + 0.1, 0.99), size, steps)
    assert side_at(progress, size, (1.0,)) == size


@given(st.floats(0, 1), st.sampled_from(["constant", "cosine"]))
def test_the_rate_never_exceeds_its_peak_nor_reaches_zero(progress: float, schedule: str) -> None:
    assert 0 < learning_rate_at(progress, 1.0, schedule) <= 1.0


def test_the_shipped_specification_is_the_specification() -> None:
    config = read_config(shipped("specification"))
    assert config.image_size == 224
    assert (config.frame, config.subtract_black, config.resolution_steps) == (False, False, (1.0,))
    assert config.mean == IMAGENET_MEAN
    assert config.std == IMAGENET_STD
    assert (config.schedule, config.weight_decay, config.ema_decay, config.label_smoothing) == (
        "constant",
        0,
        0,
        0,
    )
    assert config.attention == "both"


@pytest.mark.parametrize("name", ["default", "specification", "demo"])
def test_shipped_recipes_read_and_survive_the_round_trip(name: str, tmp_path: Path) -> None:
    config = read_config(shipped(name))
    (tmp_path / "again.toml").write_text(config.to_toml(), encoding="utf-8")
    assert read_config(tmp_path / "again.toml") == config


def test_overrides_are_typed_and_wrong_ones_name_what_is_right(tmp_path: Path) -> None:
    config = read_config(None, ["epochs=3", "attention=none", "class_weights=true", "learning_rate=1", "mean=[0.1]"])
    assert (config.epochs, config.attention, config.class_weights, config.learning_rate) == (
        3,
        "none",
        True,
        1.0,
    )
    with pytest.raises(ConfigError, match="unknown config key epoch; did you mean epochs[?] known are .*epochs"):
        read_config(None, ["epoch=3"])
    with pytest.raises(ConfigError, match="expected key=value"):
        read_config(None, ["epochs"])
    with pytest.raises(ConfigError, match="epochs: expected a whole number"):
        read_config(None, ["epochs=many"])
    with pytest.raises(ConfigError, match="multiple of 16"):
        read_config(None, ["image_size=100"])
    with pytest.raises(ConfigError, match="grouped, official"):
        read_config(None, ["split=random"])
    with pytest.raises(ConfigError, match="class_weights: expected true or false"):
        from_mapping({"class_weights": 1})
    with pytest.raises(ConfigError, match="no such config"):
        read_config(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("epochs = = 3")
    with pytest.raises(ConfigError, match="expected a TOML file"):
        read_config(tmp_path / "bad.toml")


def test_devices_and_precisions_are_picked_or_refused_in_words() -> None:
    assert pick_device("auto").type in {"cpu", "cuda", "mps"}
    for name in ("toaster", "meta", "hpu"):
        with pytest.raises(ConfigError, match="not available here"):
            pick_device(name)
    assert pick_precision("float32", torch.device("cpu")) is torch.float32
    assert pick_precision("auto", torch.device("mps")) is torch.float32


def row(epoch: int, loss: float, side: int = 128) -> Epoch:
    return Epoch(
        epoch=epoch,
        side=side,
        train_loss=1,
        train_accuracy=0,
        val_loss=loss,
        val_accuracy=0,
        val_balanced_accuracy=0,
        learning_rate=0,
        images_per_second=0,
        seconds=0,
    )


def test_the_first_of_equal_epochs_at_full_size_is_best() -> None:
    assert best_epoch([row(1, 0.5), row(2, 0.3), row(3, 0.3)]) == 2
    assert best_epoch([row(1, 0.1, side=96), row(2, 0.3), row(3, 0.2)]) == 3


def test_patience_does_not_end_a_training_before_full_size() -> None:
    config = replace(QUICK, epochs=8, patience=1, resolution_steps=(0.5, 1.0))
    worse = [row(n, float(n)) for n in range(1, 9)]
    assert [loop.finished(worse[:n], config) for n in range(9)] == [False] * 5 + [True] * 4


def test_a_mistyped_path_is_not_taken_for_a_shipped_recipe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config"):
        read_config(tmp_path / "specification.toml")
    assert read_config(Path("specification")) == read_config(shipped("specification"))


@pytest.mark.parametrize("override", ["weight_decay=nan", "learning_rate=inf", "mean=[nan]", "seed=4294967296"])
def test_numbers_that_cannot_be_are_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=override.partition("=")[0]):
        read_config(None, [override])


def test_a_resumed_run_tells_of_all_its_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "describe_device", lambda _: "first")
    real = loop.validate

    def stopped(*arguments: Any) -> dict[str, float]:
        if (tmp_path / "last.ckpt").exists():
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "validate", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(QUICK, tmp_path)
    monkeypatch.undo()
    fitted = run(QUICK, tmp_path, resume=True)
    assert [(session["device"], session["precision"]) for session in fitted.machines] == [
        ("first", "float32"), (describe_device(torch.device("cpu")), "float32"),
    ]  # fmt: skip
    assert fitted.seconds == sum(row.seconds for row in fitted.history)
    facts = Machine(torch.device("cpu"), torch.float32).facts(fitted)
    assert facts["device"].startswith("first, then cpu") and facts["precision"] == "float32"
    assert facts["processes"] == 1 and facts["seconds"] == pytest.approx(fitted.seconds, abs=0.1)


def test_the_share_of_a_step_that_is_data_is_what_stands_before_the_forward_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    real = loop.augment, loop.follow

    def cutting(*arguments: Any) -> Any:
        nonlocal now
        now += 1.0
        return real[0](*arguments)

    def moving(*arguments: Any) -> None:
        nonlocal now
        now += 3.0
        real[1](*arguments)

    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(loop, "augment", cutting)
    monkeypatch.setattr(loop, "follow", moving)
    fitted = run(QUICK, tmp_path)
    assert [row.data_share for row in fitted.history] == [0.25] * QUICK.epochs
    assert fitted.data_share == 0.25
    assert pd.read_csv(tmp_path / "history.csv")["data_share"].tolist() == [0.25] * QUICK.epochs


def test_a_training_that_began_before_the_share_was_measured_goes_on(tmp_path: Path) -> None:
    real = loop.save_checkpoint

    def old(path: Path, state: dict[str, Any]) -> None:
        history = [{key: value for key, value in row.items() if key != "data_share"} for row in state["history"]]
        real(path, {**state, "history": history})
        if len(history) == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "save_checkpoint", old)
        run(QUICK, tmp_path)
    fitted = run(QUICK, tmp_path, resume=True)
    *before, last = [row.data_share for row in fitted.history]
    assert before == [None, None] and last == pytest.approx(fitted.data_share) and 0 < last < 1
    assert pd.read_csv(tmp_path / "history.csv")["data_share"].isna().tolist() == [True, True, False]


def test_slow_epochs_weigh_more_in_the_share_of_a_training() -> None:
    slow = replace(row(1, 0.5), images_per_second=10, data_share=0.1)
    fast = replace(row(2, 0.4), images_per_second=30, data_share=0.5)
    assert data_share([slow, fast]) == pytest.approx((3 * 0.1 + 0.5) / 4)
    assert data_share([row(1, 0.5)]) is None


def test_a_run_of_another_version_of_the_training_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(QUICK, tmp_path)
    monkeypatch.setattr(loop, "REVISION", loop.REVISION + 1)
    with pytest.raises(TrainingError, match="another version"):
        run(QUICK, tmp_path, resume=True)


def test_a_run_that_does_not_say_its_version_is_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = loop.save_checkpoint
    monkeypatch.setattr(
        loop,
        "save_checkpoint",
        lambda path, state: real(path, {key: value for key, value in state.items() if key != "revision"}),
    )
    run(QUICK, tmp_path)
    with pytest.raises(TrainingError, match="another version"):
        run(QUICK, tmp_path, resume=True)


def test_too_few_slices_to_train_on_are_counted(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="1 training slices: expected at least 2 for each of 1 processes"):
        run(QUICK, tmp_path, data=pool(1))


def test_no_model_is_trained_that_no_file_may_hold() -> None:
    with pytest.raises(ConfigError, match="image_size: expected a multiple of 16, at most 2048, got 2064"):
        TrainConfig(image_size=2064)


def test_a_run_is_not_resumed_on_other_slices_or_labels(tmp_path: Path) -> None:
    run(QUICK, tmp_path)
    whole = pool()
    for other in (pool(22), Pool(whole.pixels.flip(0), whole.labels), Pool(whole.pixels, 1 - whole.labels)):
        with pytest.raises(TrainingError, match="other slices"):
            run(QUICK, tmp_path, resume=True, data=other)


def test_a_folder_of_that_name_does_not_hide_a_shipped_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "specification").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_config(Path("specification")).image_size == 224


@pytest.mark.parametrize("share", [0, 0.6, 0.95])
def test_most_of_the_slices_must_be_learnt_from(share: float) -> None:
    with pytest.raises(ConfigError, match=r"validation_share.*at most 0\.5"):
        TrainConfig(validation_share=share)


def test_a_full_disk_and_a_full_memory_are_named_with_what_is_kept_and_the_knob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def greedy(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", full)
        with pytest.raises(TrainingError, match="No space left on device.*nothing is kept; start again without"):
            run(QUICK, tmp_path)
    with monkeypatch.context() as patch:
        sound = loop.save_checkpoint

        def then_no_memory(path: Path, state: dict[str, object]) -> None:
            sound(path, state)
            patch.setattr(AttentionCNN, "forward", greedy)

        patch.setattr(loop, "save_checkpoint", then_no_memory)
        with pytest.raises(TrainingError, match="out of memory; all finished epochs are kept.*lower batch_size"):
            run(QUICK, tmp_path)
    assert len(run(QUICK, tmp_path, resume=True).history) == QUICK.epochs
