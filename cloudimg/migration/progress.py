"""Progress of a migration or verification: what callbacks receive, and the line that shows it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dask.utils import format_bytes

from cloudimg.errors import ArgumentError, counted, duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """Progress of a migration or verification, as `progress` callbacks receive it."""

    what: str
    """The activity, such as ``migrating`` or ``verifying``; empty if there is only a note."""
    n_done: int
    """Number of cells that are done, including those of earlier runs."""
    n_cells: int
    """Number of cells in total."""
    n_bytes: int
    """Decoded bytes processed so far by this run."""
    bytes_left: int
    """Decoded bytes that remain, estimated from the mean size of cells."""
    elapsed_s: float
    """Seconds since this run began to process cells."""
    unit: str = "cell"
    """What is counted: cells, or files."""
    note: str = ""
    """A message for the user, such as what the migration is waiting for; usually empty."""

    @property
    def rate(self) -> float:
        """Decoded bytes per second in this run."""
        return self.n_bytes / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that remain at this rate; None before the first cell is done."""
        return self.bytes_left / self.rate if self.rate else None

    def line(self) -> str:
        """The note if there is one, or else the progress in one line of text."""
        if self.note:
            return self.note
        left = "" if self.left_s is None else f", {duration(self.left_s)} left"
        percent = 100 * self.n_done // max(1, self.n_cells)
        return (
            f"{self.what}: {self.n_done} of {counted(self.n_cells, self.unit)} ({percent} %),"
            f" {format_bytes(int(self.rate))}/s{left}"
        )


AdvanceCallback = Callable[[Advance], None]
"""A function that is called with an `Advance` after each cell and for each note."""


def count_callback(progress: object) -> Callable[[str, int], object] | None:
    """What is told of names and headers while the source is opened, before there are cells.

    That is the attribute ``counts`` of the callback, which a plain function lacks.
    """
    return getattr(progress, "counts", None)


@dataclass(slots=True, kw_only=True)
class Counter:
    """Counts the cells that are done and reports each one to a callback."""

    what: str
    """See `Advance.what`."""
    n_cells: int
    """Number of cells in total."""
    n_done: int
    """Number of cells that are done."""
    bytes_left: int
    """Decoded bytes that remain."""
    progress: AdvanceCallback | None
    """The callback, if any."""
    unit: str = "cell"
    """See `Advance.unit`."""
    n_bytes: int = 0
    """Decoded bytes processed so far by this run."""
    _began: float = field(default_factory=time.monotonic)

    def add(self, cell_bytes: int) -> None:
        """Count a cell of a number of decoded bytes, and report it."""
        self.n_done += 1
        self.n_bytes += cell_bytes
        self.bytes_left = max(0, self.bytes_left - cell_bytes)
        if self.progress is not None:
            self.progress(
                Advance(
                    what=self.what,
                    n_done=self.n_done,
                    n_cells=self.n_cells,
                    n_bytes=self.n_bytes,
                    bytes_left=self.bytes_left,
                    elapsed_s=time.monotonic() - self._began,
                    unit=self.unit,
                )
            )


def print_line(advance: Advance) -> None:
    """Show progress on stderr: on a terminal one line that is rewritten, else only the notes."""
    if sys.stderr.isatty():
        end = "\n" if advance.note or advance.n_done == advance.n_cells else ""
        sys.stderr.write(f"\r{advance.line()}\x1b[K{end}")
        sys.stderr.flush()
    elif advance.note:
        print(advance.note, file=sys.stderr)


def notify_of(progress: AdvanceCallback | None, note: str) -> None:
    """Report a line of text instead of progress."""
    if progress is not None:
        progress(
            Advance(what="", n_done=0, n_cells=0, n_bytes=0, bytes_left=0, elapsed_s=0.0, note=note)
        )


def of_image(
    progress: AdvanceCallback, number: int, n_images: int, told: set[str], known: tuple[str, ...]
) -> AdvanceCallback:
    """A callback that reports the progress with one of several images, counted from 0.

    Parameters
    ----------
    progress : callable
    number, n_images : int
    told : set of str
        Notes that were reported for other images; further ones are added.
    known : tuple of str
        Ends of notes that are not reported.
    """

    def show(advance: Advance) -> None:
        if not advance.note:
            progress(replace(advance, what=f"{advance.what} image {number + 1} of {n_images}"))
        elif advance.note not in told and not advance.note.endswith(known):
            told.add(advance.note)
            progress(advance)

    return show


def progress_callback(progress: bool | AdvanceCallback) -> AdvanceCallback | None:
    """The function that reports progress: the user's, or one that prints a line.

    Raises
    ------
    ArgumentError
    """
    if isinstance(progress, bool):
        return print_line if progress else None
    if not callable(progress):
        raise ArgumentError(f"progress={progress!r} must be True, False or a callable")
    return progress
