"""What the tests of the server share: one that listens on a real socket, multipart bodies, bytes on the wire."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from PIL import Image

from braincam.predict import Predictor
from braincam.serve.app import create_app
from braincam.serve.limits import Limits
from braincam.serve.run import server

BOUNDARY = "frontier"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
TOKEN = "0123456789abcdef-token"


@dataclass(frozen=True)
class Served:
    """A running server."""

    port: int
    http: httpx.Client

    def predict(self, *files: tuple[str, bytes], pictures: bool = False) -> httpx.Response:
        """Post files and return the response."""
        return self.http.post("/v1/predict", params={"pictures": pictures}, content=form(*files), headers=FORM)

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def metric(self, line: str) -> float:
        """The value of one line of /metrics."""
        text = self.http.get("/metrics").text
        return next(float(row.rpartition(" ")[2]) for row in text.splitlines() if row.startswith(line + " "))


@contextmanager
def serving(
    predictor: Predictor, threads: int = 2, token: str | None = None, loopback: bool = True, **limits: Any
) -> Iterator[Served]:
    """A server with these limits in a thread of its own."""
    bounds = Limits(**limits)
    app = create_app(predictor, bounds, threads, token=token, loopback=loopback)
    running = server(app, bounds)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    thread = threading.Thread(target=running.run, args=([listener],))
    thread.start()
    try:
        until = time.monotonic() + 10
        while not running.started:
            assert time.monotonic() < until, "the server did not start"
            time.sleep(0.01)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield Served(port, client)
    finally:
        running.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive(), "the server did not stop"


def form(*files: tuple[str, bytes], field: str = "files") -> bytes:
    """A multipart body."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def head(path: str = "/v1/predict", **headers: object) -> bytes:
    """The head of a POST on the wire."""
    lines = {"Host": "127.0.0.1", **FORM, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return f"POST {path} HTTP/1.1\r\n".encode() + "".join(f"{k}: {v}\r\n" for k, v in lines.items()).encode() + b"\r\n"


def reply(connection: socket.socket) -> bytes:
    """What comes back until the server closes or is silent for the connection's timeout."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except (TimeoutError, ConnectionResetError):
        pass
    return received


def png(pixels: np.ndarray) -> bytes:
    """An array as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
