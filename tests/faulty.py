"""A verb that is killed, on purpose, at one of the moments that matter.

    python tests/faulty.py FOLDER EVENT DELAY -- train DATA --out FOLDER

runs `braincam train DATA --out FOLDER`, and DELAY milliseconds after the EVENTth time that it opens, renames or removes
a file in FOLDER the process is killed, as by SIGKILL: nothing is flushed, nothing is cleaned.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

folder, event, delay = Path(sys.argv[1]).resolve(), int(sys.argv[2]), float(sys.argv[3])
WATCHED = {"open", "os.rename", "os.remove"}
left = [event]


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def watch(name: str, arguments: tuple[object, ...]) -> None:
    if name not in WATCHED or not isinstance(arguments[0], str | os.PathLike):
        return
    if not Path(os.fsdecode(arguments[0])).absolute().is_relative_to(folder):
        return
    left[0] -= 1
    if left[0] == 0:
        if delay:
            threading.Timer(delay / 1000, kill).start()
        else:
            kill()


sys.addaudithook(watch)

from braincam.cli import main  # noqa: E402 - under watch

sys.exit(main(sys.argv[5:]))
