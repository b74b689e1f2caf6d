"""`--deterministic` gives the same bytes in every process, says so in the card, and leaves torch as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from braincam import cli
from braincam.errors import ConfigError, TrainingError
from braincam.model_file.zoo import ModelFile
from braincam.pipeline.train import train
from braincam.training.deterministic import same_bits
from conftest import QUICK


def test_two_processes_write_the_same_bytes(scans: Path, tmp_path: Path) -> None:
    """Their sets are walked in another order, their folders have other names, and only one finds a filled cache."""
    quick = [*QUICK, "epochs=1"]
    started = []
    for number, cache in enumerate(("off", os.environ["BRAINCAM_CACHE"])):
        command = [sys.executable, "-m", "braincam", "train", str(scans / "data"), "--out", str(tmp_path / f"{number}")]
        command += ["--patients", str(scans / "patients.csv"), "--config", "demo", "--deterministic", "--name", "same"]
        command += [word for key in quick for word in ("--set", key)]
        environment = {**os.environ, "PYTHONHASHSEED": str(number + 1), "BRAINCAM_CACHE": cache}
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
    said = [process.communicate(timeout=250)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    for name in ("model.onnx", "model.safetensors"):
        one, two = ((tmp_path / folder / name).read_bytes() for folder in "01")
        assert one == two, name
    card = ModelFile(tmp_path / "0" / "model.onnx").card()
    assert (card.training["deterministic"], card.created, "seconds" in card.training) == (True, "", False)
    run = json.loads((tmp_path / "0" / "run.json").read_text(encoding="utf-8"))
    assert run["deterministic"] and run["created"] and run["training_seconds"] > 0  # what differs is told there


def test_an_ordinary_run_says_when_it_was_made_and_how_long_it_took(run: Path) -> None:
    card = ModelFile(run / "model.onnx").card()
    assert card.training["deterministic"] is False
    assert card.created and card.training["seconds"] > 0


def test_torch_is_told_to_repeat_itself_and_is_left_as_it_was() -> None:
    assert not torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    with same_bits():
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"]
    with same_bits(False):
        assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark == benchmark


def test_what_cannot_be_repeated_is_refused_in_words_and_other_errors_pass() -> None:
    with pytest.raises(TrainingError, match="this device cannot .*put_.*leave the option out"), same_bits():
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))
    with pytest.raises(TrainingError, match="^runs/deterministic: cannot resume"), same_bits():
        raise TrainingError("runs/deterministic: cannot resume")
    with pytest.raises(RuntimeError, match="something else"), same_bits():
        raise RuntimeError("something else")
    assert not torch.are_deterministic_algorithms_enabled()


def test_several_processes_are_refused(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="expected one process"):
        train(scans / "data", tmp_path / "run", overrides=QUICK, deterministic=True)
    assert not (tmp_path / "run").exists()


def test_the_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    assert "--deterministic" in capsys.readouterr().out
