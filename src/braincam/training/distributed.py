"""Several processes that train one model, as ``torchrun`` starts them: one per device, on one or more machines.

The slices of each batch are dealt out to the processes, and gradients are averaged as in one process with the whole
batch. Figures are sums and counts over all processes, divided once at the end: a mean of means would weigh slices
unequally. Only the first process writes files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import torch
from torch import Tensor, distributed, nn
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from braincam.errors import ConfigError, TrainingError

PATIENCE = timedelta(minutes=30)  # for the others: one of them may have a folder to decode


class HelperDone(SystemExit):
    """Ends all processes but the first when the training is over: only the first goes on to judge and to write."""


@dataclass(frozen=True)
class Crew:
    """The processes that train together, seen from one of them."""

    rank: int = 0  # this process
    size: int = 1  # all processes
    local_rank: int = 0  # this process on its machine

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and talks."""
        return self.rank == 0

    def deal(self, rows: Tensor) -> Tensor:
        """This process's share of a batch: every `size`-th of (B,)."""
        return rows[self.rank :: self.size]

    def total(self, sums: Tensor) -> Tensor:
        """The sum over all processes of one tensor of sums and counts."""
        if self.size > 1:
            distributed.all_reduce(sums)
        return sums

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.size > 1:
            distributed.barrier()

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """First the first process of each machine, then all others: what one has put on disk the others find there."""
        if self.local_rank > 0:
            self.wait()
        yield
        if self.local_rank == 0:
            self.wait()

    def share_buffers(self, model: nn.Module) -> None:
        """Give all processes the first one's running statistics."""
        if self.size > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model with gradients averaged over the processes; batch statistics are shared too where devices can."""
        if self.size == 1:
            return model
        if device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


ALONE = Crew()


def launch() -> str | None:
    """What ``torchrun`` calls the launch that this process belongs to, over all its restarts; None without it."""
    return os.environ.get("TORCHELASTIC_RUN_ID")


def restarted(began_with: str | None) -> bool:
    """Whether this is a later attempt of the launch that began a run.

    Not every machine counts a restart, so the name of the launch decides; "none" is every unnamed launch's.
    """
    counted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    return began_with is not None and began_with == launch() and (counted or began_with != "none")


@contextmanager
def crew(device: torch.device) -> Iterator[Crew]:
    """The processes that ``torchrun`` started with this one, connected; alone without it.

    Raises:
        ConfigError: the device cannot be shared by several processes.
        TrainingError: some of the processes did not come.
    """
    size = processes()
    if size == 1:
        yield ALONE
        return
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {device}: several processes need cpu or cuda; say --set device=cpu")
    store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=PrefixStore(agree(store, rank, size), store),
        rank=rank,
        world_size=size,
        timeout=PATIENCE,
    )
    try:
        yield Crew(rank, size, local_rank())
    finally:
        distributed.destroy_process_group()


def agree(store: Store, rank: int, size: int) -> str:
    """A name for this attempt that all its processes know, and none of an earlier attempt.

    ``torchrun`` keeps one store over its restarts, with the addresses of the dead processes still in it; who reads one
    of these waits for it forever. So each process asks with a token of its own, and the first one answers until all
    have signed in under the new name.
    """
    if rank > 0:
        token = uuid4().hex
        store.set(f"ask/{rank}", token)
        store.wait([f"answer/{token}"], PATIENCE)
        name = str(store.get(f"answer/{token}").decode())
        store.set(f"{name}/here/{rank}", "")
        return name
    name = uuid4().hex
    until = time.monotonic() + PATIENCE.total_seconds()
    while missing := [other for other in range(1, size) if not store.check([f"{name}/here/{other}"])]:
        if time.monotonic() > until:
            raise TrainingError(f"processes {missing} of {size} did not come; look at what the launcher says of them")
        for other in missing:
            if store.check([f"ask/{other}"]):
                store.set(f"answer/{store.get(f'ask/{other}').decode()}", name)
        time.sleep(0.05)
    return name


def keep_to_own_device(asked: str) -> None:
    """Of several processes on one machine, each looks at its own GPU only: what looks at "cuda" takes room on it."""
    if asked in ("auto", "cuda") and processes() > 1 and local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(local_rank())


def own_device(device: torch.device) -> torch.device:
    """The device of this process: on CUDA each process of a machine takes another one.

    Raises:
        ConfigError: there are more processes than devices, or one device was named for all.
    """
    if device.type != "cuda" or processes() == 1:
        return device
    if str(device) != "cuda" or local_rank() >= torch.cuda.device_count():
        raise ConfigError(
            f"device {device}: expected one of {torch.cuda.device_count()} GPUs for each process of this machine; "
            "say --set device=cuda, and no more --nproc-per-node than there are"
        )
    return torch.device("cuda", local_rank())


def processes() -> int:
    """How many processes the launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE") or "1")


def first_rank() -> bool:
    """Whether this process leads, before there is a crew."""
    return int(os.environ.get("RANK", "0")) == 0


def local_rank() -> int:
    """This process's number on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))
