"""Several processes train what one would, and survive the loss of one of them; a killed run goes on bit for bit."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing import start_processes  # type: ignore[attr-defined]

from braincam.network.attention_cnn import AttentionCNN, NetworkConfig
from braincam.network.preprocess import Preprocess, PreprocessConfig
from braincam.training.batches import Pool
from braincam.training.config import TrainConfig
from braincam.training.distributed import ALONE, Crew, crew
from braincam.training.loop import train_epoch, validate

CONFIG = TrainConfig(
    epochs=3, batch_size=8, image_size=32, network="tiny", learning_rate=0.01, augment="none", patience=0,
    ema_decay=0.0, schedule="constant", device="cpu", precision="float32", class_weights=True,
)  # fmt: skip
PREPROCESS = PreprocessConfig(image_size=32)


def pool(n: int = 29) -> Pool:
    random_numbers = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 120, (n, 32, 32), generator=random_numbers, dtype=torch.uint8)
    labels = (torch.rand(n, generator=random_numbers) < 0.3).long()
    pixels[labels == 1, 8:20, 8:20] += 100
    return Pool(pixels, labels)


class Plain(nn.Module):
    """A network without batch statistics, which differ between processes on the CPU."""

    config = NetworkConfig(classes=2)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def one_epoch(together: Crew) -> tuple[list[Tensor], tuple[float, ...]]:
    torch.manual_seed(0)
    model, averaged = Plain(), Plain()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CONFIG.learning_rate)
    figures = train_epoch(
        together.wrap(model, torch.device("cpu")), averaged, optimizer,  # type: ignore[arg-type]
        Preprocess(PREPROCESS), pool(), CONFIG, epoch=1, side=32, precision=torch.float32, crew=together,
    )  # fmt: skip
    return [value.detach() for value in model.parameters()], tuple(figures)


def validated(together: Crew) -> dict[str, float]:
    torch.manual_seed(1)
    network = AttentionCNN(NetworkConfig(classes=2, size="tiny"))
    return validate(network, Preprocess(PREPROCESS), pool(), torch.float32, together)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def work(rank: int, size: int, port: int, out: Path) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    with crew(torch.device("cpu")) as together:
        torch.save([one_epoch(together), validated(together)], out / f"{rank}.pt")


def test_two_processes_learn_and_report_what_one_does(tmp_path: Path) -> None:
    start_processes(work, (2, free_port(), tmp_path), nprocs=2, start_method="spawn")
    (weights, figures), validation = one_epoch(ALONE), validated(ALONE)
    shares = set()
    for rank in range(2):
        (its_weights, its_figures), its_validation = torch.load(tmp_path / f"{rank}.pt")
        for one, other in zip(its_weights, weights, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
        *its_figures, share = its_figures
        shares.add(share)
        assert its_figures == pytest.approx(figures[:-1], rel=1e-5)
        assert its_validation == pytest.approx(validation, rel=1e-5)
    assert len(shares) == 1 and 0 < shares.pop() < 1, "their times are added up before they are divided"


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with crew(torch.device("cpu")) as together:
        assert together == ALONE
        assert together.deal(torch.arange(5)).tolist() == [0, 1, 2, 3, 4]


# -- whole runs --------------------------------------------------------------------------------------------------------


def torchrun(scans: Path, out: Path, *options: str) -> list[str]:
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *options,
        "-m", "braincam", "train", str(scans / "data"), "--patients", str(scans / "patients.csv"), "--config", "demo",
        "--set", "image_size=64", "--set", "epochs=10", "--set", "device=cpu", "--set", "threads=1", "--out", str(out),
    ]  # fmt: skip


def worker(out: Path, rank: int) -> int:
    """The process of this rank that writes into `out`; 0 while there is none."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            named = b"braincam" in words and str(out).encode() in words and b"torch.distributed.run" not in words
            if named and f"LOCAL_RANK={rank}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                return int(entry.name)
        except (OSError, ValueError):
            continue
    return 0


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for the worker in /proc")
def test_torchrun_goes_on_from_the_checkpoint_when_a_rank_is_killed(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    log = tmp_path / "log"
    command = torchrun(scans, out, "--max-restarts=2")
    with log.open("w") as sink, subprocess.Popen(command, stdout=sink, stderr=sink) as running:
        victim = 0
        until = time.monotonic() + 120
        while running.poll() is None and time.monotonic() < until:
            if not victim and (out / "last.ckpt").exists():
                victim = worker(out, 1)
                if victim:
                    os.kill(victim, signal.SIGKILL)
            time.sleep(0.02)
        running.kill()
    said = log.read_text()
    assert victim, said
    assert running.returncode == 0, said
    assert pd.read_csv(out / "history.csv")["epoch"].tolist() == list(range(1, 11))
    assert said.count("epoch   1/10") == 1  # not begun anew
    assert said.count("report: ") == 1  # one process judged
    assert (out / "model.onnx").exists()


def test_sigterm_is_answered_with_what_is_kept_and_how_to_go_on(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        sys.executable, "-m", "braincam", "train", str(scans / "data"), "--config", "demo", "--set", "image_size=64",
        "--set", "epochs=500", "--set", "threads=1", "--out", str(out),
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        while running.poll() is None and not (out / "last.ckpt").exists():
            time.sleep(0.05)
        running.terminate()
        _, said = running.communicate(timeout=60)
    assert running.returncode == 143, said
    assert "--resume goes on from there" in said
    assert "Traceback" not in said
