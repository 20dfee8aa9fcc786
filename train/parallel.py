"""Data-parallel training: every process computes its part of each batch, and gradients are added.

`mpirun -n 4 dcfnet train ...` starts four equal processes, ranks 0 to 3.  Each draws the same
pairs, takes every fourth of a batch, and after `Processes.add` (MPI's Allreduce, which gives all
ranks the same bits) makes the same step.  Rank 0 alone writes files.
"""

import os
from typing import TypeVar

import numpy as np

from dcfnet_np import backend
from dcfnet_np.backend import Device
from dcfnet_np.support.machine import allowed_cores
from dcfnet_np.support.workers import hold_threads

Value = TypeVar("Value")
# set by Open MPI; MPICH, Intel MPI; PMIx, Slurm
STARTED_BY = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK")


class Processes:
    """One process, which has nobody to talk to; `MpiProcesses` has the same methods."""

    rank = 0
    size = 1

    def gather(self, value: Value) -> list[Value]:
        """The values of all ranks, in order, on every rank."""
        return [value]

    def broadcast(self, value: Value) -> Value:
        """Rank 0's value, on every rank."""
        return value

    def add(
        self, losses: np.ndarray, gradients: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Sums over all ranks, element by element, of (N,) numbers and of gradients."""
        return losses, gradients

    def device(self, asked: str) -> Device:
        """Where this rank computes; without a number each rank of a machine has its own GPU."""
        return backend.select_device(asked)

    def abort(self, code: int) -> None:
        """End all other ranks, and this one with this exit code; nothing to do for a single one."""


class MpiProcesses(Processes):
    """The ranks of an MPI job."""

    def __init__(self) -> None:
        from mpi4py import MPI

        self._mpi, self._comm = MPI, MPI.COMM_WORLD
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        here = self._comm.Split_type(MPI.COMM_TYPE_SHARED)  # the ranks of this machine
        self._local_rank = here.Get_rank()
        mine = allowed_cores()
        sharers = sum(bool(mine & others) for others in here.allgather(mine))
        if "DCFNET_CORES" not in os.environ:
            hold_threads(max(1, len(mine) // sharers))

    def gather(self, value: Value) -> list[Value]:
        return self._comm.allgather(value)

    def broadcast(self, value: Value) -> Value:
        return self._comm.bcast(value)

    def add(
        self, losses: np.ndarray, gradients: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        # One message, in float64: what it adds is rounded once, at the end.
        parts = [losses, *(gradient.reshape(-1) for gradient in gradients.values())]
        total = np.concatenate(parts, dtype=np.float64)
        self._comm.Allreduce(self._mpi.IN_PLACE, total)
        losses, *sums = np.split(total, np.cumsum([part.size for part in parts])[:-1])
        summed = {
            name: part.reshape(gradient.shape).astype(gradient.dtype)
            for (name, gradient), part in zip(gradients.items(), sums)
        }
        return losses, summed

    def device(self, asked: str) -> Device:
        place = backend.select_device(asked)
        own = place.kind == "cuda" and ":" not in asked
        return backend.select_device(f"cuda:{self._local_rank}") if own else place

    def abort(self, code: int) -> None:
        self._comm.Abort(code)


def join_processes() -> Processes:
    """The processes that mpirun started, or this one; ValueError when there is no mpi4py."""
    if not any(name in os.environ for name in STARTED_BY):
        return Processes()
    try:
        return MpiProcesses()
    except (ImportError, RuntimeError) as error:  # no mpi4py; no MPI library for it
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"this was started by mpirun, and mpi4py cannot be used ({reason}); "
            "install the extra train"
        ) from error
