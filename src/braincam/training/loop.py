"""The training loop, in plain sight."""

from __future__ import annotations

import copy
import hashlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from braincam.errors import TrainingError
from braincam.network.classifier import Classifier
from braincam.network.preprocess import Preprocess
from braincam.progress import say
from braincam.training.batches import Pool, augment, batches, generator, seed_of, shrink, unit
from braincam.training.checkpoint import load_checkpoint, save_checkpoint
from braincam.training.config import FIRST_REVISION, MACHINE, REVISION, TrainConfig
from braincam.training.device import describe_device, name_of
from braincam.training.distributed import ALONE, Crew
from braincam.training.history import Epoch, best_epoch, data_share, write_history
from braincam.training.schedule import learning_rate_at, side_at

EVALUATION_PIXELS = 2**22  # that are judged at a time: 256 slices at 128 x 128


def evaluation_batch(side: int) -> int:
    """How many slices of a side are judged at a time, so that larger ones take no more memory."""
    return max(1, min(256, EVALUATION_PIXELS // side**2))


@dataclass(frozen=True, eq=False)
class Fit:
    """The outcome: `model` carries the weights of the best epoch, in float32, in evaluation mode."""

    model: Classifier
    history: list[Epoch]
    best: int
    stopped_early: bool
    machines: list[dict[str, Any]]  # device, processes and precision of its sessions, each set of them once

    @property
    def seconds(self) -> float:
        """Of all epochs, also of those before the last `resume`."""
        return sum(row.seconds for row in self.history)

    @property
    def data_share(self) -> float | None:
        """Of a training step, what making its batch takes, over all epochs that measured it; None: none did."""
        return data_share(self.history)


def fit(
    model: Classifier,
    preprocess: Preprocess,
    train: Pool,
    validation: Pool,
    config: TrainConfig,
    *,
    device: torch.device,
    precision: torch.dtype,
    folder: Path,
    resume: bool = False,
    crew: Crew = ALONE,
    began_with: str = "",
) -> Fit:
    """Train `model`, validate after every epoch, and return it with the weights of the best epoch.

    After every epoch ``folder/last.ckpt`` and ``folder/history.csv`` are replaced; with `resume` the training goes on
    from there, and on the CPU ends in the same weights as one that was never stopped. Of a `crew` the first process
    writes, and all return the same. `began_with` is the hash of the weights that `model` has now, "" for random ones.

    Raises:
        TrainingError: the loss is not a number, memory or disk ran out, or there is nothing fitting to resume from.
    """
    if config.batch_size < 2 * crew.size:
        raise TrainingError(f"batch_size {config.batch_size}: expected at least 2 for each of {crew.size} processes")
    if len(train) < 2 * crew.size:
        raise TrainingError(
            f"{len(train)} training slices: expected at least 2 for each of {crew.size} processes; use fewer processes"
        )
    with explained(folder, config):
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        train, validation = train.to(device), validation.to(device)
    trained = crew.wrap(model, device)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        foreach=True if device.type == "cpu" else None,  # the same numbers sooner; elsewhere torch knows best
    )
    here = {
        "device": describe_device(device),
        "processes": crew.size,
        "precision": name_of(precision),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    progress = Progress(
        config, digest(train, validation), began_with, model, copy.deepcopy(model).eval(), optimizer, here
    )
    if resume:
        with explained(folder, config):
            progress.take_up(folder)
        if crew.leads:  # a kill may have come between the checkpoint and the table
            write_history(folder / "history.csv", progress.history)

    averaged = progress.averaged  # what is validated and kept
    with explained(folder, config):
        while not finished(progress.history, config):
            epoch, start = len(progress.history) + 1, time.perf_counter()
            side = side_at(epoch / config.epochs, train.store.shape[-1], config.resolution_steps)
            learnt = train_epoch(
                trained, averaged, optimizer, preprocess, train, config,
                epoch=epoch, side=side, precision=precision, crew=crew,
            )  # fmt: skip
            check_finite(learnt.loss, "training", epoch, folder, config)
            per_second = len(train) / (time.perf_counter() - start)
            crew.share_buffers(averaged)
            row = Epoch(
                epoch=epoch,
                side=side,
                train_loss=learnt.loss,
                train_accuracy=learnt.accuracy,
                **validate(averaged, preprocess, validation, precision, crew),
                learning_rate=optimizer.param_groups[0]["lr"],
                images_per_second=per_second,
                seconds=time.perf_counter() - start,
                data_share=learnt.data_share,
            )
            # the training loss is of the weights before each step: the last step may have spoilt them
            check_finite(row.val_loss, "validation", epoch, folder, config)
            progress.note(row)
            if crew.leads:
                progress.keep(folder)
                say(describe(row, config.epochs, best_epoch(progress.history)))

    averaged.load_state_dict(progress.best)
    history = progress.history
    return Fit(averaged.float().eval(), history, best_epoch(history), len(history) < config.epochs, progress.machines)


@dataclass(eq=False)
class Progress:
    """What a training carries from epoch to epoch, and keeps on disk after each."""

    config: TrainConfig
    slices: str  # hash of what is trained and validated on
    began_with: str  # hash of the weights that it began with, "" for random ones
    model: Classifier
    averaged: Classifier
    optimizer: torch.optim.Optimizer
    here: dict[str, Any]  # where this session runs
    machines: list[dict[str, Any]] = field(default_factory=list)  # where its epochs ran
    history: list[Epoch] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)  # the averaged weights of the best epoch

    def note(self, row: Epoch) -> None:
        """Add an epoch, and remember its weights if it is the best."""
        self.history.append(row)
        if self.here not in self.machines:
            self.machines.append(self.here)
        if best_epoch(self.history) == row.epoch:
            self.best = {name: value.detach().clone() for name, value in self.averaged.state_dict().items()}

    def keep(self, folder: Path) -> None:
        """Replace ``last.ckpt``, then ``history.csv``."""
        save_checkpoint(
            folder / "last.ckpt",
            {
                "config": {key: list_if_tuple(value) for key, value in asdict(self.config).items()},
                "slices": self.slices,
                "began_with": self.began_with,
                "revision": REVISION,
                "machines": self.machines,
                "model": self.model.state_dict(),
                "averaged": self.averaged.state_dict(),
                "best": self.best,
                "optimizer": self.optimizer.state_dict(),
                "history": [asdict(past) for past in self.history],
            },
        )
        write_history(folder / "history.csv", self.history)

    def take_up(self, folder: Path) -> None:
        """Go back to what `keep` wrote.

        Raises:
            TrainingError: there is nothing, or it is of another recipe or of other slices.
        """
        state = load_checkpoint(folder / "last.ckpt")
        check_same_recipe(state["config"], self.config, folder)
        check_same_slices(state.get("slices"), self.slices, folder)
        if state.get("began_with", "") != self.began_with:
            raise TrainingError(
                f"{folder}: began with other weights; repeat its --from exactly, or leave it out as then, or use a "
                "new --out folder"
            )
        if state.get("revision", FIRST_REVISION) != REVISION:
            raise TrainingError(f"{folder}: begun by another version of braincam; use that, or a new --out folder")
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = [Epoch(**row) for row in state["history"]]
        self.best = state["best"]
        self.machines = state.get("machines", [self.here])  # the first checkpoints do not say


class Learnt(NamedTuple):
    """What one epoch of training measured, over all processes."""

    loss: float  # the plain cross-entropy, whatever smoothing and class weights are in what is minimised
    accuracy: float
    data_share: float  # of the steps' time, what making their batches took: cutting, augmenting, resizing


def train_epoch(
    trained: nn.Module,
    averaged: Classifier,
    optimizer: torch.optim.Optimizer,
    preprocess: Preprocess,
    train: Pool,
    config: TrainConfig,
    *,
    epoch: int,
    side: int,
    precision: torch.dtype,
    crew: Crew = ALONE,
) -> Learnt:
    """Every training slice once, at `side` pixels: moves the weights, and the averaged ones behind them."""
    device = train.labels.device
    weights = class_weights(train.labels, averaged.config.classes) if config.class_weights else None
    steps = math.ceil(len(train) / config.batch_size)
    torch.manual_seed(seed_of(config.seed, epoch, crew.rank))  # dropout
    random = generator(config.seed, epoch, device, crew.rank)
    sums = torch.zeros(3, device=device)  # loss, right answers, slices
    making = 0.0  # seconds

    trained.train()
    with epoch_bar(epoch, config.epochs, len(train), crew.leads) as report:
        started = moment = time.perf_counter()
        for step, batch in enumerate(batches(train, config.batch_size, config.seed, epoch, 2 * crew.size)):
            rate = learning_rate_at((epoch - 1 + step / steps) / config.epochs, config.learning_rate, config.schedule)
            for group in optimizer.param_groups:
                group["lr"] = rate
            rows = crew.deal(batch)
            labels = train.labels[rows]
            scaled = unit(train.take(rows))  # (N, 1, S, S) in [0, 1]
            if config.augment == "standard":
                scaled = augment(scaled, random)
            inputs = preprocess.standardise(shrink(scaled, side)).contiguous(memory_format=torch.channels_last)
            # CUDA and MPS only take orders here: there it is a share of the processor's time for giving them, since to
            # await each batch would slow down what is measured
            making += time.perf_counter() - moment
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                logits = trained(inputs)
            # divided by the whole batch's weight, so that the sum over a crew is the batch's mean
            weight = len(batch) if weights is None else weights[train.labels[batch]].sum()
            loss = F.cross_entropy(
                logits.float(), labels, weight=weights, label_smoothing=config.label_smoothing, reduction="sum"
            ) / weight  # fmt: skip
            optimizer.zero_grad()
            (loss * crew.size).backward()
            optimizer.step()
            follow(averaged, trained, min(config.ema_decay, ramp(optimizer_steps(optimizer))))
            with torch.no_grad():  # the loss that is told is the plain one, as on the validation part
                told = F.cross_entropy(logits.float(), labels, reduction="sum")
                right = (logits.argmax(1) == labels).sum()
            sums += torch.stack((told, right, right.new_tensor(len(labels))))
            report(len(batch), sums)
            moment = time.perf_counter()
    times = sums.new_tensor([making, moment - started])
    loss_sum, right_sum, seen, making, whole = crew.total(torch.cat((sums, times))).tolist()
    return Learnt(loss_sum / seen, right_sum / seen, making / whole)


def check_finite(loss: float, which: str, epoch: int, folder: Path, config: TrainConfig) -> None:
    """Weights that are no numbers must not replace the last good ones.

    Raises:
        TrainingError: the loss is not a number.
    """
    if not math.isfinite(loss):
        raise TrainingError(
            f"epoch {epoch}: the {which} loss is not a number; {kept(folder)}; "
            f"lower learning_rate (now {config.learning_rate:g}), or try --set precision=float32"
        )


def kept(folder: Path) -> str:
    """What is left of a training that ends now: the disk knows, also between a checkpoint and the end of its epoch."""
    checkpoint = folder / "last.ckpt"
    return f"all finished epochs are kept in {checkpoint}" if checkpoint.exists() else "nothing is kept"


def way_on(folder: Path) -> str:
    """How to go on with what is kept."""
    resumable = (folder / "last.ckpt").exists()
    command = "the same command with --resume goes on from there" if resumable else "start again without --resume"
    return f"{kept(folder)}; {command}"


@contextmanager
def explained(folder: Path, config: TrainConfig) -> Iterator[None]:
    """Say, of whatever ends a training from outside, what is kept and which knob helps.

    Raises:
        TrainingError: in place of an error of the disk or the memory.
    """
    try:
        yield
    except KeyboardInterrupt:
        say(f"stopped: {way_on(folder)}")
        raise
    except OSError as error:
        raise TrainingError(
            f"{folder}: the disk failed ({error.strerror or error}); {way_on(folder)}, once there is room"
        ) from error
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise TrainingError(
            f"out of memory; {kept(folder)}; lower batch_size (now {config.batch_size}) or "
            f"image_size (now {config.image_size}), and train into a new folder"
        ) from error


def out_of_memory(error: Exception) -> bool:
    """CUDA has a kind of error for it; the CPU's and MPS' allocators only say so."""
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in words)


def finished(history: list[Epoch], config: TrainConfig) -> bool:
    """All epochs done, or at full size `patience` epochs without a lower validation loss."""
    if not history:
        return False
    stale = history[-1].epoch - best_epoch(history)
    steps = len(config.resolution_steps)
    at_full_size = len(history) * steps > config.epochs * (steps - 1)
    return len(history) >= config.epochs or (at_full_size and 0 < config.patience <= stale)


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Inverse class frequencies with mean 1 over the slices: (N,) → (K,)."""
    counts = torch.bincount(labels, minlength=classes).float()
    return counts.sum() / (classes * counts.clamp_min(1))


@torch.no_grad()
def follow(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights a little towards the trained ones; whole-number buffers are copied."""
    behind: list[Tensor] = []
    ahead: list[Tensor] = []
    for slow, fast in zip(averaged.state_dict().values(), model.state_dict().values(), strict=True):
        if slow.dtype.is_floating_point:
            behind.append(slow)
            ahead.append(fast)
        else:
            slow.copy_(fast)
    torch._foreach_lerp_(behind, ahead, 1 - decay)  # in one call: on a GPU each of a hundred would wait for its turn


def ramp(step: int) -> float:
    """Decay that lets the average forget the untrained start quickly."""
    return (1 + step) / (10 + step)


def optimizer_steps(optimizer: torch.optim.Optimizer) -> int:
    """How many steps the optimiser has made; kept by Adam itself, so a resumed run knows too."""
    first = next(iter(optimizer.state.values()))
    return int(first["step"])


@torch.inference_mode()
def logits_of(model: Classifier, preprocess: Preprocess, pool: Pool, precision: torch.dtype) -> Tensor:
    """Logits of a pool's slices, in evaluation mode: float32 (N, K)."""
    model.eval()
    parts = [torch.empty(0, model.config.classes, device=pool.labels.device)]
    for slices in pool.pieces(evaluation_batch(pool.store.shape[-1])):
        inputs = preprocess.standardise(unit(slices)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(slices.device.type, precision, enabled=precision != torch.float32):
            parts.append(model(inputs).float())
    return torch.cat(parts)


def validate(
    model: Classifier, preprocess: Preprocess, pool: Pool, precision: torch.dtype, crew: Crew = ALONE
) -> dict[str, float]:
    """Validation figures of one epoch, added up over a crew; absent classes do not enter the balanced accuracy."""
    mine = pool.part(crew.deal(torch.arange(len(pool), device=pool.labels.device)))
    logits = logits_of(model, preprocess, mine, precision)
    classes = logits.shape[1]
    right = logits.argmax(1) == mine.labels
    loss = F.cross_entropy(logits, mine.labels, reduction="sum")
    counts = torch.cat(
        (
            loss[None],
            torch.bincount(mine.labels[right], minlength=classes),
            torch.bincount(mine.labels, minlength=classes),
        )
    )
    counts = crew.total(counts).cpu()
    right_of, number_of = counts[1 : 1 + classes], counts[1 + classes :]
    present = number_of > 0
    return {
        "val_loss": (counts[0] / number_of.sum()).item(),
        "val_accuracy": (right_of.sum() / number_of.sum()).item(),
        "val_balanced_accuracy": (right_of[present] / number_of[present]).mean().item(),
    }


def digest(*pools: Pool) -> str:
    """A hash of what a run trains and is validated on, so that it is never resumed on a fold it would be tested on."""
    content = hashlib.sha256()
    for pool in pools:
        content.update(str(len(pool)).encode())
        for slices in pool.pieces(evaluation_batch(pool.store.shape[-1])):
            content.update(slices.cpu().numpy().tobytes())
        content.update(pool.labels.cpu().numpy().tobytes())
    return content.hexdigest()


def check_same_recipe(stored: dict[str, Any], config: TrainConfig, folder: Path) -> None:
    """Resuming with another recipe would give a run that no config describes. More epochs are no exception: they
    bend the schedule."""
    asked = asdict(config)
    changed = [key for key, value in asked.items() if key not in MACHINE and list_if_tuple(value) != stored.get(key)]
    if changed:
        detail = ", ".join(f"{key} was {stored.get(key)!r}, is {asked[key]!r}" for key in changed)
        raise TrainingError(f"{folder}: cannot resume with another recipe ({detail}); use a new --out folder")


def check_same_slices(stored: str | None, given: str, folder: Path) -> None:
    """Another fold's training slices would have the run judged on slices it has learnt from."""
    if stored != given:
        raise TrainingError(
            f"{folder}: cannot resume on other slices than the run began with; repeat its data, --patients, --split "
            "and --fold exactly, or use a new --out folder"
        )


def list_if_tuple(value: object) -> object:
    """Checkpoints hold lists where configs hold tuples."""
    return list(value) if isinstance(value, tuple) else value


def describe(row: Epoch, epochs: int, best: int) -> str:
    """One line per epoch for people."""
    mark = " *" if row.epoch == best else ""
    left = (epochs - row.epoch) * row.seconds
    return (
        f"epoch {row.epoch:>3}/{epochs}  loss {row.train_loss:.3f} | {row.val_loss:.3f} val   "
        f"accuracy {row.train_accuracy:.3f} | {row.val_accuracy:.3f} val   "
        f"{row.images_per_second:.0f} images/s   {row.seconds:.1f} s, about {left / 60:.1f} min left{mark}"
    )


@contextmanager
def epoch_bar(epoch: int, epochs: int, slices: int, leads: bool) -> Iterator[Callable[[int, Tensor], None]]:
    """A bar for one epoch in a terminal; silent elsewhere, where each epoch's line says enough."""
    with tqdm(
        total=slices,
        desc=f"epoch {epoch}/{epochs}",
        unit="image",
        leave=False,
        disable=not (leads and sys.stderr.isatty()),
    ) as bar:
        read = -math.inf

        def report(done: int, sums: Tensor) -> None:
            nonlocal read
            if bar.disable:
                return
            if time.monotonic() - read > 1:  # to read what is on a GPU is to wait for all its work
                loss, right, seen = sums.tolist()
                bar.set_postfix(loss=f"{loss / seen:.3f}", accuracy=f"{right / seen:.3f}", refresh=False)
                read = time.monotonic()
            bar.update(done)

        yield report
