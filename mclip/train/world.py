"""The processes that train together: those torchrun started, on any number of machines, or this one alone.

    torchrun --nproc-per-node 4 -m mclip train recipes/paper.toml

Every process draws the same batch and takes its share of the rows (`Batch.share`). What a loss says of single frames
is weighted by how many of all frames they are (`shares`); what it says of latents it says of those of the whole batch
(`gather`). Hence the gradient, which DistributedDataParallel averages, and the losses are those of one process on the
whole batch, to rounding. Dropout and random vertices are drawn in each process anew.

Processes read one store and write one run directory: on several machines both have to be on storage that all share.
The first one writes. If a process dies torchrun ends the others, or starts all again where it was told to
(--max-restarts), from the last checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mclip.errors import DeviceError, UsageError, choices

DEVICES = ("auto", "cpu", "cuda")
# The first process may embed a whole store's pictures while the others wait for it.
_PATIENCE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class World:
    """One of `size` processes, numbered from 0, and the device it computes on."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """A block that the first process has been through before the others enter; all leave it together."""
        if not self.leads:
            self._wait()
        yield
        if self.leads:
            self._wait()
        self._wait()

    def _wait(self) -> None:
        if self.size > 1:
            dist.barrier()

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, with gradients that are the mean of all processes'."""
        return nn.parallel.DistributedDataParallel(module) if self.size > 1 else module

    def gather(self, rows: Tensor) -> Tensor:
        """The rows (N * size, ...) of the whole batch, in its order, from each process's own (N, ...).

        To be used for terms that every process computes alike.
        """
        return rows if self.size == 1 else _Gather.apply(rows, self)  # type: ignore[no-untyped-call]

    def shares(self, counts: Tensor) -> Tensor:
        """By how much means over `counts` items are to be scaled for their mean over processes to be that over all."""
        total = counts.to(torch.float64)
        if self.size > 1:
            dist.all_reduce(total)
        return (counts * self.size / total.clamp(min=1)).float()

    def mean(self, values: Tensor) -> Tensor:
        """The mean of values over all processes, without gradient."""
        values = values.detach().clone()
        if self.size > 1:
            dist.all_reduce(values)
        return values / self.size


class _Gather(torch.autograd.Function):
    """`World.gather`: process r has the rows r, r + size, r + 2 size and so on."""

    @staticmethod
    def forward(context: Any, rows: Tensor, world: World) -> Tensor:
        context.world = world
        parts = [torch.empty_like(rows) for _ in range(world.size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # All processes have this gradient, each hands on its own rows' part of it, and their mean is to be their sum.
        world = context.world
        return world.size * gradients[0][world.rank :: world.size], None


@contextmanager
def join_world(device: str = "auto") -> Iterator[World]:
    """Meet the other processes if torchrun started this one. device: one of DEVICES; auto is CUDA where there is one.

    Raises UsageError for no known device, DeviceError where there is no CUDA or not one for each process.
    """
    chosen = _choose(device)
    if not dist.is_torchelastic_launched():
        yield World(0, 1, torch.device(chosen))
        return
    if chosen == "cuda":
        place = int(os.environ["LOCAL_RANK"])
        if place >= torch.cuda.device_count():
            raise DeviceError(
                f"process {place} of this machine has no GPU, it has {torch.cuda.device_count()}",
                "start fewer: torchrun --nproc-per-node",
            )
        torch.cuda.set_device(place)
        chosen = f"cuda:{place}"
    dist.init_process_group("nccl" if chosen != "cpu" else "gloo", timeout=_PATIENCE)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), torch.device(chosen))
    finally:
        dist.destroy_process_group()


def is_leader() -> bool:
    """Whether this process is the one of its world that talks; known without joining it."""
    return not dist.is_torchelastic_launched() or os.environ.get("RANK", "0") == "0"


def _choose(device: str) -> str:
    if device not in DEVICES:
        raise UsageError(f"there is no device {device!r}", choices(device, DEVICES))
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise DeviceError("torch finds no CUDA here", "install a CUDA build of torch, or leave --device out")
    return "cuda" if available and device != "cpu" else "cpu"
