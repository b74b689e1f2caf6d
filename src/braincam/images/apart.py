"""GDCM in a process of its own: on damaged JPEG its C++ ends the process that it runs in, without an exception.

    python -m braincam.images.apart

is that process: data sets come on stdin, pixels go to stdout, until stdin ends. It is started when the first such file
comes and serves all threads in turn; one that it dies of is refused, and the next file gets a new process.
"""

from __future__ import annotations

import atexit
import io
import os
import pickle
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SECONDS = 60.0  # for one file
_LENGTH = struct.Struct("<Q")
_turn = threading.Lock()
_process: subprocess.Popen[bytes] | None = None


def pixels_by_gdcm(dataset: Dataset) -> npt.NDArray[Any]:
    """The stored values of a data set, decoded by GDCM elsewhere.

    Raises:
        ValueError: GDCM cannot decode it, or dies of it.
    """
    small = dataset.group_dataset(0x0028)  # how the pixels are stored; nothing about the patient
    small.update(dataset.group_dataset(0x7FE0))
    small.file_meta = dataset.file_meta
    asked = pickle.dumps(small)
    with _turn:
        process = _running()
        watch = threading.Timer(SECONDS, process.kill)
        watch.start()
        try:
            if process.stdin is None or process.stdout is None:
                raise ValueError("no pipes to the decoder")
            _send(process.stdin, asked)
            answer = _received(process.stdout)
        except (OSError, EOFError) as error:
            _end(process)
            raise ValueError("the decoder GDCM failed on it") from error
        finally:
            watch.cancel()
    if not answer:
        raise ValueError("the decoder GDCM refused it")
    pixels: npt.NDArray[Any] = np.load(io.BytesIO(answer), allow_pickle=False)
    return pixels


def _running() -> subprocess.Popen[bytes]:
    """The process, started where there is none."""
    global _process
    if _process is not None and _process.poll() is not None:  # it died between two files
        _end(_process)
        _process = None
    if _process is None:
        _process = subprocess.Popen(
            [sys.executable, "-P", "-m", "braincam.images.apart"],  # -P: modules in the folder of the scans are not run
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # GDCM's complaints may quote a patient's data
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        atexit.register(_end, _process)
    return _process


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it and close its pipes; again does nothing."""
    atexit.unregister(_end)
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # what it did not take
                pipe.close()


def _send(pipe: BinaryIO | Any, content: bytes) -> None:
    pipe.write(_LENGTH.pack(len(content)))
    pipe.write(content)
    pipe.flush()


def _received(pipe: BinaryIO | Any) -> bytes:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (size,) = _LENGTH.unpack(head)
    content: bytes = pipe.read(size)
    if len(content) < size:
        raise EOFError
    return content


def _serve() -> None:
    from pydicom.pixels.utils import pixel_array

    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get among the answers
    while True:
        try:
            dataset = pickle.loads(_received(asked))  # noqa: S301 - from the parent, by no other way
        except EOFError:
            return
        out = io.BytesIO()
        try:
            np.save(out, pixel_array(dataset, decoding_plugin="gdcm"), allow_pickle=False)
        except Exception:  # whatever it is: the parent refuses the file
            out = io.BytesIO()
        _send(answers, out.getvalue())


if __name__ == "__main__":
    _serve()
