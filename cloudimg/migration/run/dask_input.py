"""Dask arrays as input, cut into the cells of a plan by Dask itself.

Cells are done in batches. A batch is one computation, so that what its cells share is computed
once; all its cells fit in memory together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from cloudimg.distributed.on_worker import busy, outside_pool
from cloudimg.distributed.parcel import Parcel
from cloudimg.distributed.run import drain, refuse_other_cluster, scheduler_loss_as_error
from cloudimg.distributed.workers import Workers
from cloudimg.errors import ArgumentError
from cloudimg.migration.journal.records import CommitRecord
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.migration.plan.plan import Cell
from cloudimg.migration.run.cell import Job, store_cell
from cloudimg.migration.run.inputs import FileObserver

Array = npt.NDArray[Any]

_CELLS_PER_THREAD = 2
"""Cells of a batch for each thread of a cluster's workers."""


@dataclass(frozen=True, slots=True, eq=False)
class DaskInput:
    """Pixels of a Dask array."""

    array: Any
    axes_mapping: AxesMapping

    def read(self, cell: Cell, files: FileObserver | None = None) -> Array:
        """Compute the pixels of a cell; see `Input.read`."""
        part = self.array[self.axes_mapping.to_source(cell.lead, cell.region)]
        block = _checked_block(part.compute(), part.shape, self.array.dtype)
        return self.axes_mapping.from_source_pixels(block)

    def block(self, cell: Cell) -> Any:
        """Pixels of a cell in the array's own axes, as a lazy array of one chunk."""
        region = self.axes_mapping.to_source(cell.lead, cell.region)
        return self.array[region].rechunk(-1)


def run_batches(
    source: DaskInput,
    job: Job,
    numbers: Iterable[int],
    *,
    n_together: int,
    report: Callable[[CommitRecord], None],
) -> None:
    """Do cells of stage 0 with Dask's default scheduler.

    Parameters
    ----------
    n_together : int
        Number of cells whose pixels may be in memory at once.
    report : callable
        Called with the commit record of each cell.

    Raises
    ------
    Exception
        Whatever the tasks of the array raise; CloudimgError if storing fails.
    """
    from dask.base import compute

    remaining = iter(numbers)
    while batch := list(islice(remaining, n_together)):
        for record in cast(Any, compute)(*_tasks(source, job, batch)):
            report(record)


def run_batches_on_cluster(
    client: Any,
    source: DaskInput,
    job: Job,
    numbers: Iterable[int],
    *,
    report: Callable[[CommitRecord], None],
) -> None:
    """Do cells of stage 0 on the workers of a `distributed.Client`.

    Raises
    ------
    Exception
        As `run_batches`; ClusterError if the scheduler is lost, or all workers are for too long.
    """
    refuse_other_cluster(client, source.array)
    with outside_pool(), scheduler_loss_as_error(client):
        workers = Workers(client)
        remaining = iter(numbers)
        # The number of workers may change between batches.
        while batch := list(islice(remaining, max(1, _CELLS_PER_THREAD * workers.n_threads))):
            futures = client.compute(_tasks(source, job, batch))
            try:
                workers.wait_for_all(futures)
                records = workers.results_of(futures)
            except BaseException:
                if client.status == "running":
                    client.cancel(futures)
                    drain(client, job.lease.owner)
                raise
            for record in records:
                report(record)


def _tasks(source: DaskInput, job: Job, numbers: Iterable[int]) -> list[Any]:
    from dask.delayed import delayed

    tasks = []
    parcel = Parcel((job, source.axes_mapping))
    for number in numbers:
        lazy = source.block(job.plan.cell(0, number))
        (block,) = lazy.to_delayed().ravel()
        declared = (lazy.shape, source.array.dtype)
        tasks.append(delayed(_store, pure=False)(block, declared, parcel, number))
    return tasks


def _store(
    block: Array,
    declared: tuple[tuple[int, ...], np.dtype[Any]],
    parcel: Parcel[tuple[Job, AxesMapping]],
    number: int,
) -> CommitRecord:
    """Store a computed cell, whose array declares a shape and a dtype for it."""
    job, axes_mapping = parcel.open()
    with busy(job.lease.owner):
        cell = job.plan.cell(0, number)
        pixels = axes_mapping.from_source_pixels(_checked_block(block, *declared))
        return store_cell(job, cell, pixels)


def _checked_block(block: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A computed block as an array, if it has the shape and dtype that the Dask array declares.

    Dask does not check this itself, and converting the pixels would falsify the image.

    Raises
    ------
    ArgumentError
    """
    refuse_mask(block)
    pixels = np.asarray(block)
    if pixels.dtype != dtype or pixels.shape != shape:
        raise ArgumentError(
            f"the Dask array declares a block of dtype {dtype} and shape {shape}, but computing it"
            f" gives dtype {pixels.dtype} and shape {pixels.shape}: correct the dtype or chunks"
            " passed to map_blocks, from_delayed or a similar function"
        )
    return pixels


def refuse_mask(array: Any) -> None:
    """Refuse masked arrays: an image cannot store the mask.

    Raises
    ------
    ArgumentError
    """
    if isinstance(array, np.ma.MaskedArray):
        raise ArgumentError(
            "the array is masked, and an image cannot store the mask: fill it first"
            " (numpy.ma.filled, dask.array.ma.filled)"
        )
