"""How many requests the server answers, with how many errors, and what it keeps: memory, open files, temporary files.

    python benchmarks/serve.py [--seconds 60] [--clients 16] [--model M] [--mixed] [--hostile]

Starts `braincam serve` in a process of its own and calls it from this one, over kept connections, each client as fast
as it is answered. By default each request is one synthetic slice (PNG, 224 x 224), answered with its picture and its
maps. With `--mixed` also other sizes, JPEG, several files, a volume (NIfTI), and files that are no pictures. With
`--hostile` one more client sends bombs, torn and half-sent bodies, lies about lengths, and bodies that are too large,
all the while.

Growth counts from a tenth of the time, six seconds at least, when all is warm. Processor time per request says what a
free machine would do; the clients' share runs on the same cores. Exit code 1: an error, growth of 50 MB or more, an
open or temporary file left over.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from braincam.dataset.phantom import write_phantom

BOUNDARY = "braincam-benchmark"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
GOAL_RATE, GOAL_GROWTH = 100, 50  # requests per second; MB


def body(*files: tuple[str, bytes]) -> bytes:
    """A multipart body of named files."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def synthetic(count: int) -> list[Image.Image]:
    """Slices of synthetic heads, 224 x 224."""
    with tempfile.TemporaryDirectory() as folder:
        write_phantom(Path(folder), patients=max(8, count), slices_per_patient=1, size=224)
        paths = sorted(Path(folder, "data").rglob("*.png"))[:: max(1, 8 // count)]
        return [Image.open(io.BytesIO(path.read_bytes())) for path in paths[:count]]


def encoded(picture: Image.Image, kind: str = "PNG", side: int | None = None) -> bytes:
    """A picture as a file of this kind and size."""
    file = io.BytesIO()
    (picture.resize((side, side)) if side else picture).save(file, kind)
    return file.getvalue()


def volume(pictures: list[Image.Image]) -> bytes:
    """The slices as a gzipped NIfTI-1 file with 5 mm between them."""
    voxels = np.stack([np.asarray(picture.convert("L")).T for picture in pictures], axis=2)
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *voxels.shape, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)  # uint8
    struct.pack_into("<8f", header, 76, 1, 1, 1, 5, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<h", header, 254, 1)  # the sform below counts
    struct.pack_into("<12f", header, 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 5, 0)
    header[344:348] = b"n+1\0"
    return gzip.compress(bytes(header) + voxels.tobytes(order="F"), 1, mtime=0)


def png_bomb(side: int = 20_000) -> bytes:
    """A valid PNG of 20,000 x 20,000 pixels in 400 kB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer, row = zlib.compressobj(9), b"\0" * (side + 1)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@dataclass
class Tally:
    """What the clients met, shared by their threads."""

    seconds: list[float] = field(default_factory=list)
    slices: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    attacks: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def client(port: int, bodies: list[tuple[bytes, int]], until: float, tally: Tally) -> None:
    """Ask again as soon as the answer is there; every answer has its rows, or it is a fault."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for content, rows in cycle(bodies):
        if time.perf_counter() > until:
            break
        start = time.perf_counter()
        try:
            connection.request("POST", "/v1/predict?pictures=true", content, HEADERS)
            response = connection.getresponse()
            text = response.read()
            count = text.count(b'"prediction_set": ')  # parsing it all would take the server's cores
            fault = "" if response.status == 200 and count == rows else f"{response.status}, {count} of {rows} rows"
        except OSError as error:
            connection.close()
            fault = type(error).__name__
        with tally.lock:
            tally.seconds.append(time.perf_counter() - start)
            tally.slices += rows
            if fault:
                tally.faults[fault] += 1
    connection.close()


def attacks() -> list[bytes]:
    """What no client in its right mind would send, as the bytes on the wire."""
    bomb = body(("bomb.png", png_bomb()))
    head = f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {HEADERS['Content-Type']}\r\n"
    whole = f"{head}Content-Length: {len(bomb)}\r\n\r\n".encode() + bomb
    return [
        whole,  # refused by its size, before it is decoded
        whole[: len(whole) // 2],  # half-sent
        f"{head}Content-Length: 99999999999\r\n\r\n".encode() + bomb[:1000],
        f"{head}Transfer-Encoding: chunked\r\n\r\nFFFFFFF\r\n".encode() + bomb[:1000],
        f"{head}Content-Length: {len(bomb)}\r\n\r\n".encode() + os.urandom(len(bomb)),
        b"\x16\x03\x01\x02\x00" + os.urandom(600),  # TLS, to a port that speaks none
        b"GET /" + b"a" * 100_000,
        b"GET /static/../../app.py HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ]


def attacker(port: int, until: float, tally: Tally) -> None:
    """Send one after the other; what comes back, if anything, does not matter."""
    for content in cycle(attacks()):
        if time.perf_counter() > until:
            break
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(content)
                connection.recv(1000)
        except OSError:
            pass
        tally.attacks += 1


def started(model: str | None, folder: str) -> tuple[subprocess.Popen[str], int]:
    """The server, ready, with a folder for temporary files of its own, and its port."""
    command = [sys.executable, "-m", "braincam", "serve", "--port", "0", *(["--model", model] if model else [])]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": folder})
    assert server.stderr
    server.stderr.readline()  # that it is starting
    line = server.stderr.readline()
    found = re.search(r"127\.0\.0\.1:(\d+)", line)
    if not found:
        raise SystemExit(line + server.stderr.read())
    threading.Thread(target=server.stderr.read, daemon=True).start()  # else a full pipe would stop it
    port = int(found[1])
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.1)
    return server, port


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--model", help="a model file, run folder or name (default: the packaged model)")
    parser.add_argument("--mixed", action="store_true", help="also other sizes and formats, and files that are none")
    parser.add_argument("--hostile", action="store_true", help="attacks all the while")
    options = parser.parse_args()

    pictures = synthetic(8)
    bodies = [(body((f"{number}.png", encoded(picture))), 1) for number, picture in enumerate(pictures)]
    if options.mixed:
        first = pictures[0]
        bodies += [
            (body(("small.png", encoded(first, side=96))), 1),
            (body(("large.jpg", encoded(first.convert("L"), "JPEG", 1024))), 1),
            (body(*((f"{k}.png", encoded(picture, side=200 + 8 * k)) for k, picture in enumerate(pictures))), 8),
            (body(("volume.nii.gz", volume(pictures))), 8),
            (body(("notes.txt", b"no picture"), ("good.png", encoded(first))), 2),
        ]
    with tempfile.TemporaryDirectory() as folder:
        return measure(options, bodies, folder)


def measure(options: argparse.Namespace, bodies: list[tuple[bytes, int]], folder: str) -> int:
    """Load the server, print what came of it, and return the exit code."""
    server, port = started(options.model, folder)
    process, tally = psutil.Process(server.pid), Tally()
    time.sleep(0.5)  # what looked whether it listens is gone
    opened = process.num_fds()
    start = time.perf_counter()
    until = start + options.seconds
    threads = [
        threading.Thread(target=client, args=(port, bodies[number:] + bodies[:number], until, tally))
        for number in (k % len(bodies) for k in range(options.clients))
    ]
    threads += [threading.Thread(target=attacker, args=(port, until, tally))] * options.hostile
    mine, theirs = time.process_time(), sum(process.cpu_times()[:2])
    for thread in threads:
        thread.start()
    time.sleep(max(options.seconds / 10, min(6, options.seconds / 2)))
    warm = process.memory_info().rss
    over_time = []
    while any(thread.is_alive() for thread in threads):
        over_time.append(process.memory_info().rss)
        time.sleep(min(1.0, options.seconds / 10))
    taken = time.perf_counter() - start
    mine, theirs = time.process_time() - mine, sum(process.cpu_times()[:2]) - theirs
    time.sleep(1)  # connections are torn down
    kept, files = process.memory_info().rss, process.num_fds() - opened
    left = len(list(Path(folder).iterdir()))
    server.terminate()
    code = server.wait(timeout=60)

    count = len(tally.seconds)
    rate, growth = count / taken, (kept - warm) / 1e6
    p50, p90, p99 = 1000 * np.quantile(tally.seconds, (0.5, 0.9, 0.99))
    faults = sum(tally.faults.values())
    busy = os.getloadavg()[0]
    what = f"{count:,} requests, {tally.slices:,} slices with maps"
    print(f"{what}, {options.clients} clients, {taken:.0f} s, {tally.attacks} attacks")
    verdict = "met" if rate >= GOAL_RATE else "missed"
    aim = "" if options.mixed else f" (goal {GOAL_RATE}: {verdict})"  # the goal is for single slices
    print(f"{rate:.0f} requests/s{aim}  "
          f"p50 {p50:.0f} ms  p90 {p90:.0f}  p99 {p99:.0f}")  # fmt: skip
    print(f"processor time per request: server {1000 * theirs / count:.1f} ms, client {1000 * mine / count:.1f} ms; "
          f"{os.cpu_count()} cores, of which these two had {(theirs + mine) / taken:.2f}; load {busy:.1f}")  # fmt: skip
    print(f"errors {faults} (goal 0) {json.dumps(tally.faults) if faults else ''}")
    print(f"memory {warm / 1e6:.0f} MB warm, {max(over_time) / 1e6:.0f} MB at most, {kept / 1e6:.0f} MB at the end: "
          f"growth {growth:+.0f} MB (goal under {GOAL_GROWTH})")  # fmt: skip
    print(f"left over: {files} open files or connections, {left} temporary files; SIGTERM ended it with {code}")
    return int(faults > 0 or growth >= GOAL_GROWTH or max(files, 0) + left + code > 0)


if __name__ == "__main__":
    sys.exit(main())
