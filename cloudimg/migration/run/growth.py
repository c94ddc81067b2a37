"""By how much the source of a copy that may grow has grown, and whether it only has. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.table import FileTable
from cloudimg.errors import ArgumentError, counted
from cloudimg.migration.plan.plan import Plan

_SHOWN = 3
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Growth:
    """Further files of a source."""

    length: int
    """Length of the growing axis now."""
    late: tuple[int, ...]
    """Indices along it that the copy has, and for which files came since."""


def growth_between(
    before: FileTable, now: FileTable, plan: Plan, length: int, url: str
) -> Growth | None:
    """Compare the files of a copy with those that are there now.

    Parameters
    ----------
    before, now : FileTable
        Their first axis is the growing one, so that positions of files stay.
    plan : Plan
        That of the copy.
    length : int
        Length of the growing axis now.
    url : str
        URL of the copy, for errors.

    Returns
    -------
    Growth or None
        None if no file came.

    Raises
    ------
    ArgumentError
        If files are gone or lie elsewhere, or another axis has another length.
    """
    for name, was, is_now in zip(before.axes[1:], before.shape[1:], now.shape[1:], strict=True):
        if was != is_now:
            raise ArgumentError(
                f"{url} may grow along {plan.grow}, but the source's axis {name} had {was} and has"
                f" {is_now} now: copy it to another destination",
                url=url,
            )
    lost = _lost(before, now)
    if len(lost):
        names = [before.keys[int(row)].as_py() for row in lost[:_SHOWN]]
        more = ", ..." if len(lost) > len(names) else ""
        raise ArgumentError(
            f"{url} cannot grow: {counted(len(lost), 'file')} of it"
            f" {'is' if len(lost) == 1 else 'are'} gone, or no longer at the same index of"
            f" {plan.grow} ({', '.join(names)}{more}). A copy grows by files whose {plan.grow}"
            " comes after those that it has, and these have to be there still",
            url=url,
        )
    added = now.rows[~np.isin(now.rows, before.rows)]
    if not len(added):
        return None
    of_each = added // math.prod(now.shape[1:])
    return Growth(length, _late(of_each[of_each < before.shape[0]], before.shape[0], plan, url))


def _lost(before: FileTable, now: FileTable) -> Positions:
    """Rows of files that are no longer there, at the same place."""
    import pyarrow as pa
    import pyarrow.compute as pc

    at = np.searchsorted(now.rows, before.rows)
    at[at == len(now)] = 0
    names = now.keys.take(pa.array(at))
    is_there = (now.rows[at] == before.rows) & np.asarray(pc.equal(before.keys, names).to_numpy())
    return np.flatnonzero(~is_there)


def _late(of_files: Iterable[int], n_files: int, plan: Plan, url: str) -> tuple[int, ...]:
    """Indices along the growing axis for which files came late.

    Raises
    ------
    ArgumentError
        If they are not known.
    """
    late = sorted(set(map(int, of_files)))
    length = plan.levels[0].shape[plan.dims.index(plan.grow or "")]
    n_of_each, rest = divmod(length, n_files)
    if late and rest:
        raise ArgumentError(
            f"{url} cannot take files that came late: its files differ in how many indices of"
            f" {plan.grow} they have. Copy the source to another destination",
            url=url,
        )
    return tuple(i * n_of_each + k for i in late for k in range(n_of_each))
