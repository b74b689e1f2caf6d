"""How long until a level of accuracy is reached: this recipe, and the loop that most people write, on one machine.

    python benchmarks/time_to_accuracy.py DATA --split protocol.csv [--threads N] [--kept FILE.jsonl]
    python benchmarks/time_to_accuracy.py --kept FILE.jsonl    # the table again, in no time

Hours long, and resumable: every finished run is one line of FILE.jsonl, and only what is missing is measured. A run
that was interrupted begins anew, since its time would mean nothing. Run it on a machine that does nothing else.

**braincam**: the shortest frozen schedule whose mean accuracy over five seeds reaches the level, and the mean wall time
of its runs. The schedules are the default recipe with 4, 8, 12, 16, 24 and 40 epochs, tried in this order until every
level is reached; nobody looks at the test on the way. A run's time goes from the start of the command `braincam train`,
with an empty cache, until its last epoch is written: starting Python, reading, decoding, the search for copies, and
training with its validation. Nothing is compiled. Calibration, export, judging and the report come after it.

**The plain loop** (`_plain.py`): ImageFolder, DataLoader workers, transforms picture by picture, float32, Adam at a
constant rate, batches of 32. **plain-resnet18** trains ResNet-18 from scratch at 224 x 224 in it, **plain-our-network**
the default recipe's network at its own size. It gets what favours it: all slices but the test for training, the test
looked at after every epoch, the first epoch that reaches the level counted (for several seeds, of their mean), and the
time of looking and of starting Python not counted. It is stopped in the epoch in which `--minutes` end; then the answer
is "more than".

Levels: 95, 97, 98, 99 % on the official split, which leaks; 90 and 95 % on one fold of the patient-wise split.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from _kept import mean_and_spread
from _plain import LEARNING_RATE, accuracy, loader, our_network, pictures, resnet18_at_224, train_epoch, transform
from braincam.dataset.manifest import read_folder
from braincam.files import read_json, write_text
from braincam.training.device import pick_device

LEVELS = {"official": (0.95, 0.97, 0.98, 0.99), "by patient": (0.90, 0.95)}
SCHEDULES = (4, 8, 12, 16, 24, 40)  # epochs
SEEDS = 5
OURS = "braincam"
PLAIN: dict[str, Callable[[int], tuple[nn.Module, int, int]]] = {
    "plain-resnet18": resnet18_at_224,
    "plain-our-network": our_network,
}
BATCH = 32  # of the plain loop


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished run. Of the plain loop every epoch is kept; of a schedule only its end."""

    contender: str
    task: str  # a key of LEVELS
    seed: int
    epochs: int | None  # of a schedule; None for the plain loop, which has none
    seconds: list[float]  # from the start to the end of each kept epoch
    accuracy: list[float]  # on the test, at those moments
    machine: str
    threads: int
    other: str = ""  # what the run has other than the default: settings, fold; only runs alike count together


@dataclass(frozen=True)
class Reached:
    """When a level was reached. `at_least` marks a time in which it was not."""

    seconds: float
    at_least: bool
    how: str  # the schedule or epoch, and the accuracy


def ours(runs: Iterable[Run], level: float, seeds: int) -> Reached | None:
    """The shortest schedule whose mean accuracy reaches the level, or the longest, which did not; None without any.

    A schedule counts when it has run with enough seeds.
    """
    by_schedule: dict[int, list[Run]] = {}
    for run in runs:
        by_schedule.setdefault(run.epochs or 0, []).append(run)
    whole = {epochs: same for epochs, same in by_schedule.items() if len(same) >= seeds}
    for epochs in sorted(whole):
        values = [run.accuracy[-1] for run in whole[epochs]]
        seconds = statistics.mean(run.seconds[-1] for run in whole[epochs])
        how = f"{epochs} epochs: {mean_and_spread(values)}, {len(values)} seeds"
        if statistics.mean(values) >= level:
            return Reached(seconds, False, how)
    return Reached(seconds, True, how) if whole else None


def plain(runs: list[Run], level: float) -> Reached | None:
    """The first epoch at which the mean over the runs reaches the level, or the time in which none did."""
    if not runs:
        return None
    for epoch, values in enumerate(zip(*(run.accuracy for run in runs), strict=False)):
        if statistics.mean(values) >= level:
            seconds = statistics.mean(run.seconds[epoch] for run in runs)
            return Reached(seconds, False, f"epoch {epoch + 1}: {statistics.mean(values):.3f}")
    best = max(max(run.accuracy) for run in runs)
    return Reached(min(run.seconds[-1] for run in runs), True, f"best {best:.3f}")


def table(runs: list[Run], seeds: int) -> str:
    """Every level of every task as Markdown; a ratio is the plain loop's time over ours."""
    lines = [
        f"{runs[0].machine}; {runs[0].threads} threads. Minutes until the level is reached.\n",
        f"| split | level | {OURS} | {' | '.join(f'{name} | ratio' for name in PLAIN)} |",
        "|---|---|---|" + "---|---|" * len(PLAIN),
    ]
    for task, levels in LEVELS.items():
        of_task = [run for run in runs if run.task == task]
        for level in levels:
            own = ours((run for run in of_task if run.contender == OURS), level, seeds)
            cells = [task, f"{level:.0%}", minutes(own)]
            for name in PLAIN:
                peer = plain([run for run in of_task if run.contender == name], level)
                cells += [minutes(peer), ratio(own, peer)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def minutes(reached: Reached | None) -> str:
    """A time as a cell."""
    if reached is None:
        return "not measured"
    return f"{'more than ' * reached.at_least}{reached.seconds / 60:.1f} ({reached.how})"


def ratio(own: Reached | None, peer: Reached | None) -> str:
    """How many times longer the peer takes; where we never reach the level there is none."""
    if own is None or own.at_least or peer is None:
        return "–"
    return f"{'> ' * peer.at_least}{peer.seconds / own.seconds:.1f}"


def read_runs(file: Path) -> list[Run]:
    """The kept runs, all of one machine and number of threads; none if there is no such file."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [Run(**json.loads(line)) for line in lines]


def keep(file: Path, runs: list[Run], new: Run) -> None:
    """Add a run to the list and to the file, in one step."""
    runs.append(new)
    write_text(file, "".join(json.dumps(asdict(run)) + "\n" for run in runs))
    print(f"{new.contender}, {new.task}, seed {new.seed}, {new.epochs or len(new.accuracy)} epochs: "
          f"{new.accuracy[-1]:.4f} after {new.seconds[-1]:.0f} s", file=sys.stderr)  # fmt: skip


def measure_schedule(options: argparse.Namespace, task: str, epochs: int, seed: int) -> Run:
    """One `braincam train` in a process of its own, from an empty cache."""
    settings = [f"epochs={epochs}", f"seed={seed}", f"threads={options.threads}", *options.set]
    where = ["--split", str(options.split), "--fold", str(options.fold)]
    if task == "official":
        where, settings = [], [*settings, "split=official"]
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "run"
        command = [sys.executable, "-m", "braincam", "train", str(options.data), *where, "--out", str(out)]
        for setting in settings:
            command += ["--set", setting]
        started = time.time()
        subprocess.run(command, check=True, env=environment(options.threads), stdout=subprocess.DEVNULL)
        seconds = (out / "history.csv").stat().st_mtime - started  # rewritten at the end of every epoch
        value = float(read_json(out / "metrics.json")["accuracy"])
    return Run(
        contender=OURS, task=task, seed=seed, epochs=epochs, seconds=[round(seconds, 1)], accuracy=[round(value, 5)],
        machine=machine(), threads=options.threads, other=other(options, OURS, task),
    )  # fmt: skip


def measure_plain(options: argparse.Namespace, name: str, task: str, seed: int) -> Run:
    """The plain loop until every level is reached or the time is over."""
    train, test = parts(options, task)
    torch.manual_seed(seed)
    torch.set_num_threads(options.threads)
    budget = 60.0 * options.minutes
    spent, seconds, values = 0.0, list[float](), list[float]()
    started = time.perf_counter()
    network, side, channels = PLAIN[name](len(read_folder(options.data).classes))
    network = network.to(pick_device("auto"))
    training, testing = (
        loader(
            pictures(options.data, paths, transform(side, channels, training=learning)), BATCH, options.threads,
            shuffle=learning,
        )
        for paths, learning in ((train, True), (test, False))
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    while not values or (spent < budget and max(values) < max(LEVELS[task])):
        train_epoch(network, training, optimizer)
        spent += time.perf_counter() - started
        seconds.append(round(spent, 1))
        values.append(round(accuracy(network, testing), 5))
        print(f"{name}, {task}: epoch {len(values)}, {spent:.0f} s, {values[-1]:.4f}", file=sys.stderr)
        started = time.perf_counter()
    return Run(
        contender=name, task=task, seed=seed, epochs=None, seconds=seconds, accuracy=values,
        machine=machine(), threads=options.threads, other=other(options, name, task),
    )  # fmt: skip


def other(options: argparse.Namespace, contender: str, task: str) -> str:
    """What is not as it is by default: settings, which are of our recipe, and of the patient-wise split the fold."""
    settings = options.set if contender == OURS else []
    fold = [f"fold={options.fold}"] if task == "by patient" and options.fold else []
    return ", ".join([*settings, *fold])


def alike(options: argparse.Namespace, runs: Iterable[Run]) -> list[Run]:
    """The runs of what is asked for: others are kept in the same file, and do not count."""
    return [run for run in runs if run.other == other(options, run.contender, run.task)]


def parts(options: argparse.Namespace, task: str) -> tuple[list[str], list[str]]:
    """Paths of all slices to learn from, and of the test."""
    if task == "official":
        slices = read_folder(options.data).slices
        return [s.path for s in slices if s.part == "Training"], [s.path for s in slices if s.part == "Testing"]
    folds = pd.read_csv(options.split)
    held_out = folds["fold"] == options.fold
    return folds["path"][~held_out].tolist(), folds["path"][held_out].tolist()


def environment(threads: int) -> dict[str, str]:
    """For a command that starts from nothing, with a fixed number of threads."""
    return {**os.environ, "BRAINCAM_CACHE": "off", "OMP_NUM_THREADS": str(threads)}


def machine() -> str:
    """What the times hold for."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"


def measure(options: argparse.Namespace, runs: list[Run]) -> None:
    """Whatever is asked for and not kept yet, our schedules first."""
    for task in options.tasks:
        for epochs in options.epochs if OURS in options.only else ():
            own = [run for run in alike(options, runs) if (run.contender, run.task) == (OURS, task)]
            top = ours(own, max(LEVELS[task]), options.seeds)
            if top and not top.at_least:
                break
            done = {run.seed for run in own if run.epochs == epochs}
            for seed in tqdm(sorted(set(range(options.seeds)) - done), f"{task}, {epochs} epochs", disable=None):
                keep(options.kept, runs, measure_schedule(options, task, epochs, seed))
        for name in PLAIN:
            done = {run.seed for run in alike(options, runs) if (run.contender, run.task) == (name, task)}
            for seed in sorted(set(range(options.plain_seeds)) - done) if name in options.only else ():
                keep(options.kept, runs, measure_plain(options, name, task, seed))


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="without it, only the table is printed")
    parser.add_argument("--kept", type=Path, default=Path("benchmarks/results/time-to-accuracy.jsonl"))
    parser.add_argument("--split", type=Path, help="the table of folds; without it, the official split only")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--minutes", type=float, default=60, help="for each run of the plain loop")
    parser.add_argument("--epochs", type=int, nargs="+", default=SCHEDULES, help="the schedules")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of each schedule")
    parser.add_argument("--plain-seeds", type=int, default=1)
    parser.add_argument("--tasks", nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--only", nargs="+", choices=[OURS, *PLAIN], default=[OURS, *PLAIN], metavar="CONTENDER")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe, for a quick try"
    )
    options = parser.parse_args()
    if not options.split:
        options.tasks = [task for task in options.tasks if task == "official"]
    runs = read_runs(options.kept)
    if options.data and runs and (runs[0].machine, runs[0].threads) != (machine(), options.threads):
        sys.exit(f"{options.kept}: was measured on {runs[0].machine}, {runs[0].threads} threads; give another --kept")
    if options.data:
        measure(options, runs)
    asked = alike(options, runs)
    if not asked:
        sys.exit(f"{options.kept}: nothing is kept there; give DATA to measure")
    print(table(asked, options.seeds))


if __name__ == "__main__":
    main()
