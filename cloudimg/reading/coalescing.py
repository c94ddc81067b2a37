"""Coalesce wanted byte ranges into few requests. Pure: knows ranges, not files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Offsets = npt.NDArray[np.int64]

WHOLE_FILE_BYTES = 16 * 2**20
"""Files up to this size are fetched with one request where most of their pixels are wanted."""
_MAX_SPAN_BYTES = 8 * 2**20
_MIN_SPAN_BYTES = 2**20
_SPANS_OF_FILE = 32
"""A connection to an object store carries 60 MB/s or so: a large file needs many of them."""


@dataclass(frozen=True, slots=True)
class Span:
    """One request: a half-open byte range and the wanted ranges inside it."""

    start_bytes: int
    stop_bytes: int
    members: tuple[int, ...]
    """Indices of the wanted ranges, by increasing start."""


def span_bytes(file_bytes: int, wanted_bytes: int) -> int:
    """Size up to which ranges of a file are joined into one request.

    What one request can bring is not cut. More of a large file is read with many requests at once,
    which are the smaller, the smaller the file is.
    """
    if file_bytes <= WHOLE_FILE_BYTES or wanted_bytes <= _MAX_SPAN_BYTES:
        return _MAX_SPAN_BYTES
    return min(max(file_bytes // _SPANS_OF_FILE, _MIN_SPAN_BYTES), _MAX_SPAN_BYTES)


def coalesce(
    starts: Offsets,
    stops: Offsets,
    *,
    max_gap_bytes: int,
    free_gap_bytes: int,
    max_waste: float,
    max_span_bytes: int,
) -> list[Span]:
    """Join wanted ranges into few requests without fetching many unwanted bytes.

    Parameters
    ----------
    starts, stops : ndarray of int64, shape (n,)
        Wanted half-open ranges in bytes, in any order; they may overlap. Empty ones are dropped.
    max_gap_bytes : int
        Ranges with a larger gap between them are never joined.
    free_gap_bytes : int
        Gaps up to this size are always bridged and do not count as waste.
    max_waste : float
        Bound on the bytes in the bridged gaps, as a fraction of the wanted bytes. The smallest
        gaps are bridged first.
    max_span_bytes : int
        Joining never makes a span larger than this; a larger wanted range stays whole.

    Returns
    -------
    list of Span
        Spans by increasing start. Every wanted range lies wholly in exactly one of them.
    """
    order = np.lexsort((stops, starts))
    order = order[stops[order] > starts[order]]
    if order.size == 0:
        return []
    first, last = starts[order], stops[order]
    reach = np.maximum.accumulate(last)
    gaps = first[1:] - reach[:-1]
    wanted_bytes = int((last - first).sum())
    kept = _kept_gaps(gaps, wanted_bytes, max_gap_bytes, free_gap_bytes, max_waste)
    groups = np.split(np.arange(order.size), np.flatnonzero(kept) + 1)
    spans: list[Span] = []
    for group in groups:
        spans.extend(_bounded_spans(order, first, last, group, max_span_bytes))
    return spans


def _kept_gaps(
    gaps: Offsets, wanted_bytes: int, max_gap_bytes: int, free_gap_bytes: int, max_waste: float
) -> npt.NDArray[np.bool_]:
    """Whether each gap stays a gap between two requests."""
    cost = np.where(gaps > free_gap_bytes, gaps, 0)
    by_size = np.argsort(cost, kind="stable")
    affordable = np.cumsum(cost[by_size]) <= max_waste * wanted_bytes
    bridged = np.zeros(gaps.size, bool)
    bridged[by_size[affordable]] = True
    return ~bridged | (gaps > max(max_gap_bytes, free_gap_bytes))


def _bounded_spans(
    order: npt.NDArray[np.intp],
    first: Offsets,
    last: Offsets,
    group: npt.NDArray[np.intp],
    max_span_bytes: int,
) -> list[Span]:
    """Return the spans of a group of neighbouring ranges, split where one would be too large."""
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
