"""A training that is killed at random moments and resumed ends in the same weights as one that never was."""

from __future__ import annotations

import multiprocessing
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from test_training import QUICK, run, weights

LONG = replace(QUICK, epochs=10)
LAST, FINAL = "last.ckpt", "final.safetensors"


def train_to_the_end(folder: Path) -> None:
    """In a process of its own: go on from what the last one left, and keep the final weights."""
    torch.set_num_threads(1)
    fitted = run(LONG, folder, resume=(folder / LAST).exists())
    save_file({str(number): value.contiguous() for number, value in enumerate(weights(fitted))}, folder / FINAL)


def start(folder: Path) -> multiprocessing.process.BaseProcess:
    context = multiprocessing.get_context("forkserver")  # forked from a process that has imported torch, but run none
    context.set_forkserver_preload(["test_training"])
    process = context.Process(target=train_to_the_end, args=(folder,))
    process.start()
    return process


def finish(folder: Path) -> None:
    process = start(folder)
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_resumed_it_ends_bit_for_bit_the_same(tmp_path: Path, kills: int) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    whole.mkdir()
    finish(whole)
    seconds = pd.read_csv(whole / "history.csv")["seconds"].sum()
    expected, done, rounds = load_file(whole / FINAL), 0, 0
    random = np.random.default_rng(0)
    while done < kills:
        folder = torn / str(rounds)
        folder.mkdir(parents=True)
        while done < kills:
            process = start(folder)
            time.sleep(random.uniform(0, seconds))
            process.kill()
            process.join()
            assert process.exitcode in (0, -signal.SIGKILL)
            if process.exitcode == 0:  # it was faster
                break
            done += 1
        finish(folder)
        found = load_file(folder / FINAL)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        rounds += 1
