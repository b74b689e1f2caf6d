"""A reader who types everything that a page shows, from top to bottom, in one folder, with synthetic scans.

What stands in for what a reader has:

- files of the names that the pages use (`DATA`, `patients.csv`, `scan.png`, `study/`, `brain.nii.gz`, ...), drawn, and
  `$DATA` for the real data set;
- any recipe becomes a toy one, so that a training takes seconds; `braincam demo` leaves a run that was made before;
- servers run in the background on free ports, and every later line talks to those;
- `pip install` is checked against the extras of pyproject.toml, `make` is asked what it would do. Neither is run.

All else is run as it stands, in this process where that saves starting Python and torch once more.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from braincam import cli
from pages import ROOT, Block

TOY = {"network": "tiny", "image_size": 64, "batch_size": 16, "threads": 1, "ema_decay": 0.5, "patience": 0}
TOY_EPOCHS = 2
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = set(PROJECT["optional-dependencies"])
PORT = re.compile(r"(127\.0\.0\.1:|localhost:|--directory \S+ )(8\d\d\d)\b")


class NotHereError(Exception):
    """A program of the system that this machine lacks; the text names it."""


class Reader:
    """Runs the blocks of one page in one folder; Python blocks share their names, as in one session."""

    def __init__(self, folder: Path, demo: Path, patch: pytest.MonkeyPatch):
        self.folder, self.demo = folder, demo
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.servers: list[subprocess.Popen[bytes]] = []
        self.ports: dict[str, int] = {}
        patch.chdir(folder)
        patch.setenv("DATA", "DATA")
        toy_recipes(patch)

    def run(self, block: Block) -> None:
        """Run one block; a failure raises what it raises."""
        text = self.on_our_ports(block.text)
        if block.language == "python":
            exec(compile(text, f"{block.page}:{block.line}", "exec"), self.names)
            return
        for line in lines(text):
            self.command(line)

    def on_our_ports(self, text: str) -> str:
        """The text, with the ports of running servers in place of those written."""
        return PORT.sub(lambda found: found[1] + str(self.ports.get(found[2], found[2])), text)

    def command(self, line: str) -> None:
        """Run one line of a shell."""
        words = [os.path.expandvars(word) for word in shlex.split(line, comments=True)]
        match words:
            case []:
                pass
            case ["braincam", "serve", *rest]:
                parsed = cli.parser().parse_args(words[1:])
                port = free_port()
                own = ["--host", "127.0.0.1", "--port", str(port)]  # the last of a repeated option counts
                self.serve(str(parsed.port), port, [sys.executable, "-m", "braincam", "serve", *rest, *own])
            case ["python", "-m", "http.server", *_]:
                port = free_port()
                self.serve(words[-1], port, [sys.executable, *words[1:-1], str(port)])
            case ["braincam", "demo", *_]:
                shutil.copytree(self.demo, cli.parser().parse_args(words[1:]).out)
            case ["braincam", *rest]:
                ended_well(line, cli.main(rest))
            case ["python", "-m", "pip", *rest] | ["pip", *rest]:
                check_extras(rest)
            case ["lint-imports"]:
                program = Path(sys.executable).with_name("lint-imports")
                self.call(str(program), "--no-cache", "--config", str(ROOT / "pyproject.toml"))
            case ["make", *rest]:
                self.call("make", "--dry-run", "--directory", str(ROOT), *rest)
            case ["python", "-m", "pytest", *rest]:
                self.call(sys.executable, "-m", "pytest", "--collect-only", "-qq", "--rootdir", str(ROOT), *rest)
            case ["python", script, *rest]:
                self.script(ROOT / script, rest)
            case [*_, ">", target]:
                (self.folder / target).write_text(self.call(*words[:-2]), encoding="utf-8")
            case _:
                self.call(*words)

    def call(self, *words: str) -> str:
        """Run a program of the system; returns what it prints."""
        program = shutil.which(words[0])
        if program is None:
            raise NotHereError(words[0])
        done = subprocess.run([program, *words[1:]], capture_output=True, text=True, check=False, timeout=280)
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stderr[-2000:]}{done.stdout[-2000:]}"
        return done.stdout

    def script(self, path: Path, arguments: list[str]) -> None:
        """Run a script of the repository in this process, as `python SCRIPT` would."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [str(path), *arguments])
            patch.syspath_prepend(path.parent)
            try:
                runpy.run_path(str(path), run_name="__main__")
            except SystemExit as done:
                ended_well(path.name, done.code)

    def serve(self, written: str, port: int, command: list[str]) -> None:
        """Start a server and wait until it listens."""
        self.ports[written] = port
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.servers.append(server)
        until = time.monotonic() + 60
        while server.poll() is None and time.monotonic() < until:
            with socket.socket() as door:
                if door.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(f"{shlex.join(command)}: did not listen; exit code {server.poll()}")

    def leave(self) -> None:
        """Stop what was started."""
        for server in self.servers:
            server.terminate()
            server.wait(30)


@contextmanager
def reader(folder: Path, demo: Path) -> Iterator[Reader]:
    """A reader in a folder, with what the demo leaves, who stops the servers and puts everything back at the end."""
    with pytest.MonkeyPatch.context() as patch:
        made = Reader(folder, demo, patch)
        try:
            yield made
        finally:
            made.leave()


def lines(text: str) -> Iterator[str]:
    """The commands of a block: a backslash at the end of a line goes on."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            yield line.strip()


def ended_well(line: str, code: Any) -> None:
    """Fail unless an exit code means success."""
    assert code in (None, 0), f"{line}: exit code {code}"


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def check_extras(words: list[str]) -> None:
    """`pip install` and `pip wheel` of this package name extras that it has."""
    for extras in re.findall(r"(?:^|\s)(?:\.|braincam)\[([\w,]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= EXTRAS, f"pip {shlex.join(words)}: no such extra"


def check_call(block: Block) -> None:
    """Every call of braincam in a shell block parses."""
    for line in lines(block.text):
        _, found, rest = line.partition("braincam ")
        if found and not line.startswith(("pip", "python -m pip", "docker")):
            cli.parser().parse_args(shlex.split(rest, comments=True))


def toy_recipes(patch: pytest.MonkeyPatch) -> None:
    """Whatever recipe is asked for, a small one is trained."""
    from braincam.training import config

    honest: Callable[..., config.TrainConfig] = config.from_mapping

    def toy(raw: Any) -> config.TrainConfig:
        peer = {"network": raw["network"]} if raw.get("network") == "resnet18" else {}
        epochs = min(int(raw.get("epochs", TOY_EPOCHS)), TOY_EPOCHS)
        return honest({**raw, **TOY, **peer, "epochs": epochs})

    patch.setattr(config, "from_mapping", toy)
