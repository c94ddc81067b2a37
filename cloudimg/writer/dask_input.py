"""Arrays that Dask computes, cut to the cells of a plan by Dask itself.

Some cells at a time: each batch is one computation, within which whatever cells share is computed
once, and whose cells all fit in memory together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.reader import OnOpen
from cloudimg.writer.canonical import Canonical
from cloudimg.writer.cell import Job, store_cell
from cloudimg.writer.journal import Receipt
from cloudimg.writer.plan import Cell

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class DaskInput:
    """A Dask array."""

    array: Any
    canonical: Canonical

    def read(self, image: int, region: tuple[slice, ...], on_open: OnOpen | None = None) -> Array:
        """Pixels of a region, computed now."""
        part = self.array[self.canonical.to_source(image, region)]
        return self.canonical.from_source_pixels(np.asarray(part.compute()))

    def block(self, cell: Cell) -> Any:
        """Pixels of a cell in the array's own axes, as one lazy chunk."""
        region = self.canonical.to_source(cell.image, cell.region)
        return self.array[region].rechunk(-1)


def run_batches(
    source: DaskInput,
    job: Job,
    numbers: Iterable[int],
    *,
    n_together: int,
    client: Any | None,
    report: Callable[[Receipt], None],
) -> None:
    """Do the cells of stage 0.

    Parameters
    ----------
    n_together : int
        Cells whose pixels may be in memory at once.
    client : distributed.Client, optional
        Dask's own default scheduler without it.

    Raises
    ------
    Exception
        Whatever the array's own tasks raise; CloudimgError of ours.
    """
    from dask.base import compute as compute_here
    from dask.delayed import delayed

    compute = compute_here if client is None else _computed_by(client)
    for batch in _batches(numbers, n_together):
        tasks = []
        for number in batch:
            cell = job.plan.cell(0, number)
            (block,) = source.block(cell).to_delayed().ravel()
            tasks.append(delayed(_store, pure=False)(block, source.canonical, job, number))
        for receipt in compute(*tasks):
            report(receipt)


def _batches(numbers: Iterable[int], size: int) -> Iterator[list[int]]:
    todo = iter(numbers)
    while batch := list(islice(todo, size)):
        yield batch


def _computed_by(client: Any) -> Callable[..., Iterable[Receipt]]:
    def compute(*tasks: Any) -> Iterable[Receipt]:
        receipts: Iterable[Receipt] = client.gather(client.compute(list(tasks)))
        return receipts

    return compute


def _store(block: Array, canonical: Canonical, job: Job, number: int) -> Receipt:
    cell = job.plan.cell(0, number)
    pixels = canonical.from_source_pixels(np.asarray(block))
    return store_cell(job, cell, pixels)
