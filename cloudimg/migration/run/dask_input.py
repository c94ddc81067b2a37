"""Arrays that Dask computes, cut to the cells of a plan by Dask itself.

Some cells at a time: each batch is one computation, within which whatever cells share is computed
once, and whose cells all fit in memory together.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from cloudimg.distributed.on_worker import busy
from cloudimg.distributed.run import drain, told_when_gone
from cloudimg.distributed.workers import Workers
from cloudimg.errors import ArgumentError
from cloudimg.migration.journal.records import CommitRecord
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.migration.plan.plan import Cell
from cloudimg.migration.run.cell import Job, store_cell
from cloudimg.reading.run import OnOpen

Array = npt.NDArray[Any]

_PER_THREAD = 2


@dataclass(frozen=True, slots=True, eq=False)
class DaskInput:
    """A Dask array."""

    array: Any
    axes_mapping: AxesMapping

    def read(self, image: int, region: tuple[slice, ...], on_open: OnOpen | None = None) -> Array:
        """Pixels of a region, computed now."""
        part = self.array[self.axes_mapping.to_source(image, region)]
        block = _kept_promise(part.compute(), part.shape, self.array.dtype)
        return self.axes_mapping.from_source_pixels(block)

    def block(self, cell: Cell) -> Any:
        """Pixels of a cell in the array's own axes, as one lazy chunk."""
        region = self.axes_mapping.to_source(cell.image, cell.region)
        return self.array[region].rechunk(-1)


def run_batches(
    source: DaskInput,
    job: Job,
    numbers: Iterable[int],
    *,
    n_together: int,
    report: Callable[[CommitRecord], None],
) -> None:
    """Do the cells of stage 0 by Dask's own default scheduler.

    Parameters
    ----------
    n_together : int
        Cells whose pixels may be in memory at once.

    Raises
    ------
    Exception
        Whatever the array's own tasks raise; CloudimgError of ours.
    """
    from dask.base import compute

    todo = iter(numbers)
    while batch := list(islice(todo, n_together)):
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
    """Do the cells of stage 0 on the workers of a `distributed.Client`.

    Raises
    ------
    Exception
        As above; ClusterError if the scheduler is gone, or all workers are for long.
    """
    with told_when_gone(client):
        workers = Workers(client)
        todo = iter(numbers)
        # As many as there are workers for by now.
        while batch := list(islice(todo, max(1, _PER_THREAD * workers.n_threads))):
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
    for number in numbers:
        lazy = source.block(job.plan.cell(0, number))
        (block,) = lazy.to_delayed().ravel()
        promise = (lazy.shape, source.array.dtype)
        tasks.append(delayed(_store, pure=False)(block, promise, source.axes_mapping, job, number))
    return tasks


Promise = tuple[tuple[int, ...], np.dtype[Any]]
"""Shape and dtype that an array says its block has."""


def _store(
    block: Array, promise: Promise, axes_mapping: AxesMapping, job: Job, number: int
) -> CommitRecord:
    with busy(job.lease.owner):
        cell = job.plan.cell(0, number)
        pixels = axes_mapping.from_source_pixels(_kept_promise(block, *promise))
        return store_cell(job, cell, pixels)


def _kept_promise(block: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A computed block as an array, if it is what the Dask array said it would be.

    Dask believes whoever made the array; to store other pixels under the array's dtype would be to
    make up an image.

    Raises
    ------
    ArgumentError
    """
    refuse_mask(block)
    found = np.asarray(block)
    if found.dtype != dtype or found.shape != shape:
        raise ArgumentError(
            f"the Dask array says that a block is {dtype} of shape {shape}, and computing it gives"
            f" {found.dtype} of shape {found.shape}: correct the dtype= or chunks= that"
            " map_blocks, from_delayed or the like were given"
        )
    return found


def refuse_mask(array: Any) -> None:
    """Masked pixels have no place in an image.

    Raises
    ------
    ArgumentError
    """
    if isinstance(array, np.ma.MaskedArray):
        raise ArgumentError(
            "the array is masked, and an image has no mask: fill it first"
            " (numpy.ma.filled, dask.array.ma.filled)"
        )


def mentions(array: Any, folder: str) -> bool:
    """Whether anything in a Dask array's graph names a folder or what lies in it.

    Parameters
    ----------
    array : dask.array.Array
    folder : str
        A key, or an absolute path.
    """
    import cloudpickle

    here = Path.cwd()

    class Reading(cloudpickle.Pickler):  # type: ignore[misc]
        """Goes through all objects as pickling does, and keeps nothing."""

        found = False

        def persistent_id(self, each: Any) -> Any:
            if isinstance(each, str | PurePath):
                text = str(each)
                near = (text, str(here / text)) if len(text) < _LONGEST_PATH else (text,)
                self.found |= any(folder in one for one in near)
            return None

        def reducer_override(self, each: Any) -> Any:
            if isinstance(each, np.ndarray):  # pixels name nothing
                return int, ()
            return super().reducer_override(each)

    reading = Reading(io.BytesIO())
    try:
        reading.dump(dict(array.dask))
    except (pickle.PicklingError, TypeError, AttributeError):
        return reading.found  # what was gone through before the object that does not pickle
    return reading.found


_LONGEST_PATH = 4096
