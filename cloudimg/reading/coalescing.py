"""Pure arithmetic of byte ranges: which requests fetch what is wanted.

No I/O and no knowledge of files here: arrays of half-open ranges in, spans out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Span:
    """One request: a half-open range of bytes and the wanted ranges that lie in it."""

    start_bytes: int
    stop_bytes: int
    members: tuple[int, ...]
    """Indices of the wanted ranges, by increasing start."""


def coalesce(
    starts: Offsets,
    stops: Offsets,
    *,
    max_gap_bytes: int,
    free_gap_bytes: int,
    max_waste: float,
    max_span_bytes: int,
) -> list[Span]:
    """Join wanted ranges into few requests without fetching much that is not wanted.

    Parameters
    ----------
    starts, stops : ndarray of int64, shape (n,)
        Wanted half-open ranges in bytes, in any order; they may overlap. Empty ones are dropped.
    max_gap_bytes : int
        Ranges further apart than this are never joined.
    free_gap_bytes : int
        Gaps up to this are always bridged and do not count as waste.
    max_waste : float
        Bound on the bytes in the bridged gaps, as a fraction of the wanted bytes. The smallest
        gaps are bridged first.
    max_span_bytes : int
        No span grows beyond this by joining; one wanted range that is larger stays whole.

    Returns
    -------
    list of Span
        By increasing start. Every wanted range lies wholly in exactly one span.
    """
    order = np.lexsort((stops, starts))
    order = order[stops[order] > starts[order]]
    if order.size == 0:
        return []
    first, last = starts[order], stops[order]
    reach = np.maximum.accumulate(last)
    gaps = first[1:] - reach[:-1]
    cut = _cuts(gaps, int((last - first).sum()), max_gap_bytes, free_gap_bytes, max_waste)
    groups = np.split(np.arange(order.size), np.flatnonzero(cut) + 1)
    spans: list[Span] = []
    for group in groups:
        spans.extend(_bounded(order, first, last, group, max_span_bytes))
    return spans


def _cuts(
    gaps: Offsets, wanted_bytes: int, max_gap_bytes: int, free_gap_bytes: int, max_waste: float
) -> npt.NDArray[np.bool_]:
    """True for each gap that stays a gap between two requests."""
    cost = np.where(gaps > free_gap_bytes, gaps, 0)
    by_size = np.argsort(cost, kind="stable")
    affordable = np.cumsum(cost[by_size]) <= max_waste * wanted_bytes
    bridged = np.zeros(gaps.size, bool)
    bridged[by_size[affordable]] = True
    return ~bridged | (gaps > max(max_gap_bytes, free_gap_bytes))


def _bounded(
    order: npt.NDArray[np.intp],
    first: Offsets,
    last: Offsets,
    group: npt.NDArray[np.intp],
    max_span_bytes: int,
) -> list[Span]:
    """Spans of one group of neighbours, cut where they would grow too large."""
    spans: list[Span] = []
    begin, end, members = int(first[group[0]]), int(last[group[0]]), [int(order[group[0]])]
    for i in group[1:]:
        start, stop = int(first[i]), int(last[i])
        if start >= end and max(end, stop) - begin > max_span_bytes:
            spans.append(Span(begin, end, tuple(members)))
            begin, end, members = start, stop, []
        members.append(int(order[i]))
        end = max(end, stop)
    spans.append(Span(begin, end, tuple(members)))
    return spans
