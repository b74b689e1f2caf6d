"""A server under load: requests per second, errors, and growth of memory.

    python benchmarks/serve.py [--seconds 60] [--clients 16] [--model M]
    make soak                                    (ten minutes; SECONDS=60 shortens it)

Starts `braincam serve` in a process of its own and asks it from many clients at once, each with one 224 x 224 PNG per
request and the next as soon as it is answered. A 503 is no error but an answer, which the client heeds; it is counted.
Memory is the server's resident set after a tenth of the time, and at the end. Clients and server share the machine.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from braincam.dataset.phantom import make_slices


def scans(number: int) -> list[bytes]:
    """Synthetic slices as PNG files."""
    files = []
    for item in make_slices(patients=number, slices_per_patient=1, seed=0):
        file = io.BytesIO()
        Image.fromarray(item.pixels).save(file, "PNG")
        files.append(file.getvalue())
    return files


def megabytes(process: int) -> float:
    """Resident memory of a process; not a number where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def client(address: str, files: list[bytes], until: float, seen: Counter[str], times: list[float]) -> None:
    """Ask, one request after the other, until the time is over."""
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as session:
        number = threading.get_ident()
        while time.monotonic() < until:
            number += 1
            started = time.perf_counter()
            try:
                answer = session.post("/v1/predict", files={"files": ("scan.png", files[number % len(files)])})
                seen[str(answer.status_code)] += 1
            except httpx.HTTPError as error:
                seen[type(error).__name__] += 1
                continue
            if answer.status_code == 503:
                time.sleep(float(answer.headers["retry-after"]))
            else:
                times.append(time.perf_counter() - started)


def main() -> int:
    """Print one table; fails if anything but 200 and 503 was answered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--model")
    options = parser.parse_args()
    command = [sys.executable, "-m", "braincam", "serve", "--port", "0"]
    command += ["--model", options.model] if options.model else []
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    address = process.stderr.readline().split("answers on ")[1].split()[0]
    threading.Thread(target=process.stderr.read, daemon=True).start()  # its log would fill the pipe
    files, seen, times = scans(16), Counter[str](), list[float]()
    until = time.monotonic() + options.seconds
    crowd = [threading.Thread(target=client, args=(address, files, until, seen, times)) for _ in range(options.clients)]
    for one in crowd:
        one.start()
    time.sleep(options.seconds / 10)
    early = megabytes(process.pid)
    for one in crowd:
        one.join()
    late = megabytes(process.pid)
    process.terminate()
    ended = process.wait(60)
    errors = sum(number for status, number in seen.items() if status not in {"200", "503"})
    p50, p99 = np.quantile(times, (0.5, 0.99)) * 1000
    print(
        f"{platform.machine()}, {os.cpu_count()} cores shared with {options.clients} clients, {options.seconds:.0f} s\n"
    )
    print("| answered per second | p50 | p99 | told to wait | errors | memory | growth | exit code after SIGTERM |")
    print("|---|---|---|---|---|---|---|---|")
    print(
        f"| {seen['200'] / options.seconds:.0f} | {p50:.0f} ms | {p99:.0f} ms | {seen['503']} | {errors} | "
        f"{late:.0f} MB | {late - early:+.0f} MB | {ended} |"
    )
    return int(errors > 0 or ended != 0)


if __name__ == "__main__":
    sys.exit(main())
