"""How far a migration is: what callers are told, and one line that says it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dask.utils import format_bytes


@dataclass(frozen=True, slots=True)
class Advance:
    """How far work over cells is."""

    what: str
    """Of which work, in a word or two."""
    n_done: int
    """Cells that are done, those of earlier runs too."""
    n_cells: int
    n_bytes: int
    """Decoded bytes that this run has done."""
    bytes_left: int
    """Decoded bytes that are left."""
    elapsed_s: float
    note: str = ""
    """Something to know that is no count, such as what is being waited for."""

    @property
    def rate(self) -> float:
        """Decoded bytes a second, in this run."""
        return self.n_bytes / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds to the end at this rate; None before anything is known."""
        return self.bytes_left / self.rate if self.rate else None

    def line(self) -> str:
        """All of it as text."""
        if self.note:
            return self.note
        left = "" if self.left_s is None else f", {_span(self.left_s)} left"
        share = 100 * self.n_done // max(1, self.n_cells)
        return (
            f"{self.what}: {self.n_done} of {self.n_cells} cells ({share} %),"
            f" {format_bytes(int(self.rate))}/s{left}"
        )


AdvanceCallback = Callable[[Advance], None]


@dataclass(slots=True)
class Counter:
    """Counts cells and tells `progress`."""

    what: str
    n_cells: int
    n_done: int
    bytes_left: int
    progress: AdvanceCallback | None
    n_bytes: int = 0
    _began: float = field(default_factory=time.monotonic)

    def add(self, cell_bytes: int) -> None:
        """One more cell."""
        self.n_done += 1
        self.n_bytes += cell_bytes
        self.bytes_left = max(0, self.bytes_left - cell_bytes)
        self.tell()

    def tell(self, note: str = "") -> None:
        """Say how far it is."""
        if self.progress is not None:
            elapsed_s = time.monotonic() - self._began
            self.progress(
                Advance(
                    self.what,
                    self.n_done,
                    self.n_cells,
                    self.n_bytes,
                    self.bytes_left,
                    elapsed_s,
                    note,
                )
            )


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def print_line(advance: Advance) -> None:
    """Show it on stderr: one line that is written again, or notes alone where nobody watches."""
    if sys.stderr.isatty():
        end = "\n" if advance.note or advance.n_done == advance.n_cells else ""
        sys.stderr.write(f"\r{advance.line()}\x1b[K{end}")
        sys.stderr.flush()
    elif advance.note:
        print(advance.note, file=sys.stderr)
