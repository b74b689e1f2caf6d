"""Does any damaged file make a reader crash, hang, take memory, or end in a traceback?

    python tools/fuzz.py [--files 1500] [--seed 0] [--only png,onnx] [--keep DIR] [--json FILE]

Mutates sound synthetic files of every format (`fuzz_formats`), so many of each; a file is known by format, seed and
number, so that every run makes the same ones. Each goes through the reader that a user's file would meet, in a process
with 10 seconds for a file and 1 GiB of memory (address space, on Linux) beyond what it has after its imports and first
sound files. Prints a table; exits with 1 where anything was found, and keeps those files with --keep.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import re
import sys
import tempfile
import time
import zlib
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_formats import FORMATS, WORDS

SECONDS = 10.0
MEMORY = 2**30
LONGEST = 6000  # characters of an error
OUTCOMES = ("answered", "refused", "crash", "hang", "memory", "traceback")
FINDINGS = OUTCOMES[2:]
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
HEAD, TAIL = 40_000, 20_000  # of a large file, that is where its structure lies


def mutated(name: str, seeds: list[bytes], seed: int, number: int) -> bytes:
    """File `number` of a format."""
    chance = random.Random(f"{name} {seed} {number}")
    whole = chance.choice(seeds)
    data = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 3, 5, 12))):
        change(data, chance, seeds, WORDS[name])
    if name == "png" and chance.random() < 0.7:
        data = bytearray(with_right_sums(bytes(data)))
    return bytes(data)


def change(data: bytearray, chance: random.Random, seeds: list[bytes], words: tuple[bytes, ...]) -> None:
    """One random change in place."""
    at = place(len(data), chance)
    size = min(chance.choice((1, 2, 4, 8, 16, 64, 300)), max(len(data) - at, 1))
    kind = chance.randrange(10)
    if kind <= 2:
        data[at : at + 1] = bytes([chance.randrange(256)])
    elif kind == 3:
        width = chance.choice((1, 2, 4, 8))
        value = chance.choice(INTERESTING) % 2 ** (8 * width)
        data[at : at + width] = value.to_bytes(width, chance.choice(("little", "big")))
    elif kind == 4:
        del data[at : at + size]
    elif kind == 5:
        data[at:at] = data[at : at + size] * chance.choice((1, 2, 50))
    elif kind == 6:
        other = chance.choice(seeds)
        start = place(len(other), chance)
        data[at : at + size] = other[start : start + size]
    elif kind == 7:
        word = chance.choice(words or (b"\0",))
        data[at : at + (0 if chance.random() < 0.5 else len(word))] = word
    elif kind == 8 and chance.random() < 0.4:
        del data[at:]
    elif numbers := list(re.finditer(rb"\d+", bytes(data[at : at + 2000]))):  # of a text, or a text inside
        found = chance.choice(numbers)
        data[at + found.start() : at + found.end()] = chance.choice(
            (b"0", b"-1", b"99999999999", b"1e400", b"[]", b"{}")
        )


def place(length: int, chance: random.Random) -> int:
    """Where to change a file: anywhere, or (as often) among its first bytes."""
    if not length:
        return 0
    if length > HEAD + TAIL:
        inside = chance.randrange(HEAD + TAIL)
        return inside if inside < HEAD else length - (HEAD + TAIL - inside)
    return chance.randrange(min(length, 400) if chance.random() < 0.5 else length)


def with_right_sums(data: bytes) -> bytes:
    """A PNG whose chunks have the right checksums, so that what is inside them is looked at."""
    out, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + size]
        out += data[at : at + 4] + body + zlib.crc32(body).to_bytes(4, "big")
        at += 12 + size
    return bytes(out) + data[at:]


# -- in the worker -----------------------------------------------------------------------------------------------------


def work(name: str, seed: int, pipe: Connection) -> None:
    """Read the files whose numbers come, and say what became of each."""
    form = FORMATS[name]
    seeds = form.seeds()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{form.ending}"
        for sound in dict.fromkeys(seeds):
            path.write_bytes(sound)
            outcome, said = outcome_of(name, path)
            if outcome not in {"answered", "refused"} or (outcome == "refused" and name not in {"toml", "csv"}):
                raise SystemExit(f"{name}: a sound file is not read: {said}")
        limit_memory()
        pipe.send("ready")
        while (number := pipe.recv()) is not None:
            path.write_bytes(mutated(name, seeds, seed, number))
            start = time.perf_counter()
            outcome, said = outcome_of(name, path)
            pipe.send((outcome, said, time.perf_counter() - start, peak()))


def outcome_of(name: str, path: Path) -> tuple[str, str]:
    """What the reader makes of a file, and its words."""
    from braincam.errors import BraincamError

    try:
        FORMATS[name].read(path)
    except MemoryError as error:
        return "memory", repr(error)
    except BraincamError as error:
        text = str(error)
        if starved(error):
            return "memory", text
        if "\n" in text or len(text) > LONGEST:
            return "traceback", f"an error that is not one line of at most {LONGEST} characters: {text[:200]!r}"
        return "refused", text
    except Exception as error:
        import traceback

        return "traceback", f"{type(error).__name__}: {error} {traceback.format_exc().splitlines()[-3:]}"
    return "answered", ""


def starved(error: BaseException) -> bool:
    """Whether an error comes from a lack of memory."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or "bad_alloc" in str(seen) or "MemoryError" in str(seen):
            return True
        seen = seen.__cause__
    return False


def limit_memory() -> None:
    """No more than MEMORY beyond what this process has now."""
    if sys.platform == "linux":
        import resource

        most = status("VmSize") + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        peak.before = status("VmRSS")  # type: ignore[attr-defined]


def peak() -> float:
    """Megabytes of memory at the worst moment, beyond those at the start."""
    return (status("VmHWM") - peak.before) / 1e6 if sys.platform == "linux" else 0.0  # type: ignore[attr-defined]


def status(key: str) -> int:
    """A number of bytes that Linux keeps of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


# -- in the parent -----------------------------------------------------------------------------------------------------


class Worker:
    """A process for one format, replaced when it is lost."""

    def __init__(self, name: str, seed: int):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(name, seed, theirs), daemon=True)
        self.process.start()
        theirs.close()
        if not self.pipe.poll(300) or self.pipe.recv() != "ready":
            raise SystemExit(f"{name}: the worker did not start")

    def ask(self, number: int) -> tuple[str, str, float, float]:
        """Outcome, words, seconds and megabytes; a lost worker is an outcome too."""
        self.pipe.send(number)
        try:
            if not self.pipe.poll(SECONDS):
                self.process.kill()
                return "hang", f"no answer in {SECONDS:g} s", SECONDS, 0.0
            answer: tuple[str, str, float, float] = self.pipe.recv()
            return answer
        except (EOFError, ConnectionError):
            self.process.join()
            return "crash", f"the process ended with {self.process.exitcode}", 0.0, 0.0

    def end(self) -> None:
        """Let it go."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def fuzz(name: str, files: int, seed: int, keep: Path | None) -> dict[str, Any]:
    """All files of one format; what became of them."""
    counts = dict.fromkeys(OUTCOMES, 0)
    slowest = most = 0.0
    found: list[str] = []
    worker = Worker(name, seed)
    for number in range(files):
        outcome, said, seconds, megabytes = worker.ask(number)
        counts[outcome] += 1
        slowest, most = max(slowest, seconds), max(most, megabytes)
        if outcome in FINDINGS:
            found.append(f"{name} {number}: {outcome}: {said}")
            print(f"  {found[-1]}", file=sys.stderr)
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name}-{seed}-{number}-{outcome}{FORMATS[name].ending}").write_bytes(
                    mutated(name, FORMATS[name].seeds(), seed, number)
                )
        if outcome in {"crash", "hang"}:
            worker.end()
            worker = Worker(name, seed)
    worker.end()
    return {"files": files, **counts, "slowest_seconds": slowest, "most_megabytes": most, "found": found}


def main() -> int:
    """Every format in turn."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--files", type=int, default=1500, help="of each format (default: 1500)")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", default=",".join(FORMATS), help="formats, with commas between")
    options.add_argument("--keep", type=Path, metavar="DIR", help="where files go that made trouble")
    options.add_argument("--json", type=Path, metavar="FILE", help="where the counts go")
    chosen = options.parse_args()
    print(f"{'format':<12}{'files':>7}" + "".join(f"{name:>10}" for name in OUTCOMES) + f"{'slowest':>10}{'most':>9}")
    results = {}
    for name in chosen.only.split(","):
        row = results[name] = fuzz(name, chosen.files, chosen.seed, chosen.keep)
        print(
            f"{name:<12}{row['files']:>7}" + "".join(f"{row[outcome]:>10}" for outcome in OUTCOMES)
            + f"{row['slowest_seconds']:>8.2f} s{row['most_megabytes']:>6.0f} MB", flush=True,
        )  # fmt: skip
    files, found = sum(row["files"] for row in results.values()), sum(len(row["found"]) for row in results.values())
    print(f"{files:,} files, {found} of them found to crash, hang, take memory or end in a traceback")
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
