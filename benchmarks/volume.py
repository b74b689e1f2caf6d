"""A volume of 256 slices from the command to everything written: seconds, beside the network alone.

    python benchmarks/volume.py [--slices 256] [--size 256] [--runs 5] [--model M]

Makes a synthetic head as NIfTI, then starts `braincam predict HEAD --out DIR` in a process of its own, as a user does:
decoding, answers, a picture per answered slice, montage, map volume, page and summary. Beside it, in this process, the
network with its maps over the same slices, already decoded: the part that no other code can take away. Medians over the
runs, in turns; processor time tells what a busy machine adds to the wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from braincam.dataset.phantom_volume import make_volume, write_volume
from braincam.predict import Predictor
from braincam.threads import usable_cores


def spent() -> float:
    """Processor time of this process and of those it has waited for, in seconds."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of one call."""
    wall, used = time.perf_counter(), spent()
    run()
    return time.perf_counter() - wall, spent() - used


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=256)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model")
    options = parser.parse_args()
    pixels, _ = make_volume("glioma", slices=options.slices, size=options.size)
    predictor = Predictor(options.model)
    with tempfile.TemporaryDirectory() as name:
        head, out = Path(name) / "head.nii.gz", Path(name) / "out"
        write_volume(head, pixels)
        model = ["--model", options.model] if options.model else []
        command = [sys.executable, "-m", "braincam", "predict", str(head), "--out", str(out), "--format", "csv", *model]

        def whole() -> None:
            shutil.rmtree(out, ignore_errors=True)
            subprocess.run(command, check=True, capture_output=True)

        rounds = [(timed(whole), timed(lambda: predictor.answer_all(list(pixels)))) for _ in range(options.runs)]
        (study,) = json.loads((out / "study.json").read_text(encoding="utf-8"))["studies"]
        written = sum(path.stat().st_size for path in out.iterdir()) / 1e6
        pictures = len(list(out.glob("*.jpg")))
    print(f"{platform.machine()}, {usable_cores()} cores, load {os.getloadavg()[0]:.1f}; {options.runs} runs")
    print(f"{study['slices']} slices of {options.size} x {options.size}, {pictures} pictures, {written:.0f} MB written")
    for what, column in (("command", 0), ("network alone", 1)):
        wall, used = (median(turn[column][k] for turn in rounds) for k in range(2))
        print(f"  {what:<14} {wall:6.2f} s wall, {used:6.2f} s of processor time")


if __name__ == "__main__":
    main()
