"""Follow an acquisition that is under way: let a copy grow by what is whole, again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cloudimg.api.migrations import migrate_labels, open_options
from cloudimg.api.ripening import Ripening
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.table import FileTable
from cloudimg.errors import ArgumentError, NoMatchError, counted
from cloudimg.errors.file_report import OTHER_THAN_FIRST
from cloudimg.image.validation import validating
from cloudimg.migration.journal.destination import open_destination
from cloudimg.migration.journal.file_table import get_files
from cloudimg.migration.journal.inspecting import inspect_destination
from cloudimg.migration.run.result import Migration
from cloudimg.opening.list_files import list_sources
from cloudimg.opening.open_files import open_sources
from cloudimg.opening.options import OpenArguments


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowOptions:
    """How an acquisition is followed."""

    interval_s: float = 10.0
    """Time from one listing of the source to the next."""
    settle_s: float = 30.0
    """How long the size of a file has to stand still."""
    until_idle_s: float | None = None
    """Stop when nothing came or changed for so long; None: never."""
    stop_file: str | None = None
    """Stop when this local file exists."""
    is_told: threading.Event = field(default_factory=threading.Event)
    """Set by whoever wants it to stop after what is under way."""


def follow(
    source: str,
    url: str,
    *,
    options: FollowOptions,
    say: Callable[[str], None],
    **given: Any,
) -> Migration | None:
    """Copy what is whole of a source, and add to the copy as files come, until told to stop.

    Parameters
    ----------
    source : str
        A URL pattern.
    url : str
        The copy.
    options : FollowOptions
    say : callable
        Called with each line about what happens.
    **given
        Arguments of `cloudimg.migrate`, with `grow`.

    Returns
    -------
    Migration or None
        The last result; None if nothing was whole.

    Raises
    ------
    CloudimgError
        As `cloudimg.migrate`; the same call goes on from there.
    """
    if given.get("grow") is None:
        raise ArgumentError("an acquisition can be followed by a copy that may grow: pass grow='t'")
    return _Following(source, url, options, say, given).run()


@dataclass(slots=True)
class _Following:
    source: str
    url: str
    options: FollowOptions
    say: Callable[[str], None]
    given: Mapping[str, Any]
    _said: str = ""

    def run(self) -> Migration | None:
        """Look, copy and wait."""
        opening = OpenArguments.of(open_options(self.given, self.given.get("source_options"), None))
        ripening = Ripening(self.options.settle_s, opening.missing == "fill", self._copied())
        done, last_change, is_ending = None, time.monotonic(), False
        while not self.options.is_told.is_set():
            now = time.monotonic()
            grid = self._listed(opening)
            if grid is not None:
                n = ripening.look(grid, now, is_ending=is_ending)
                if ripening.has_changed:
                    last_change = now
                if n and not is_ending:
                    n = self._n_complete(opening, grid, ripening, n)
                if n:
                    done = self._copy(grid, n)
                    ripening.taken = self._copied()
                    if not done.is_unchanged:
                        continue
                self._tell_of_rest(grid, ripening, is_ending=is_ending)
            if is_ending and ripening.is_settled:
                break
            is_ending = is_ending or self._is_over(last_change)
            if not is_ending or not ripening.is_settled:
                self.options.is_told.wait(self.options.interval_s)
        return done

    def _copied(self) -> FileTable | None:
        """The files that the copy has; None if there is no copy."""
        destination = open_destination(self.url, self.given.get("target_options"))
        state = inspect_destination(destination).state
        if state is None or state.plan.grow != self.given["grow"]:
            return None
        return get_files(destination, state)

    def _listed(self, opening: OpenArguments) -> FileGrid | None:
        """The files that are there now; None if there are none."""
        try:
            return list_sources(self.source, opening)
        except NoMatchError:
            self._tell(f"waiting for the first file of {self.source}")
            return None

    def _copy(self, grid: FileGrid, n: int) -> Migration:
        labels = grid.labels[0]
        done = migrate_labels(frozenset(labels[:n]), self.source, self.url, **self.given)
        grow = self.given["grow"]
        self._said = ""
        self.say(f"copied up to {grow}={labels[n - 1]}: {str(done).splitlines()[0]}")
        return done

    def _n_complete(
        self, opening: OpenArguments, grid: FileGrid, ripening: Ripening, n: int
    ) -> int:
        """Of the indices that stand still, the number of those whose files have all their bytes."""
        labels, rows = grid.labels[0], ripening.new_indices(grid, n)
        some = replace(opening.purpose, grow_labels=frozenset(labels[i] for i in rows))
        opened = open_sources(self.source, validating(replace(opening, purpose=some)))
        bad = [
            (rows[index[0]], opened.grid.keys(index))
            for index, error in opened.inspection.bad
            if error.bad_file not in (*OTHER_THAN_FIRST, "missing")
        ]
        if not bad:
            return n
        first, name = min(bad)
        self._tell(f"waiting for all bytes of {counted(len(bad), 'file')}, such as {name}")
        n_taken = 0 if ripening.taken is None else ripening.taken.shape[0]
        return first if first > n_taken else 0

    def _tell_of_rest(self, grid: FileGrid, ripening: Ripening, *, is_ending: bool) -> None:
        n_left = ripening.n_left
        if n_left and is_ending and ripening.is_settled:
            self._tell(f"left out: {counted(n_left, 'file')} of indices that lack others")
        elif n_left:
            self._tell(f"waiting: {counted(n_left, 'file')} not whole yet, or still changing")

    def _tell(self, line: str) -> None:
        """Say something once, as long as nothing else is said."""
        if line != self._said:
            self._said = line
            self.say(line)

    def _is_over(self, last_change: float) -> bool:
        stop_file, idle_s = self.options.stop_file, self.options.until_idle_s
        if stop_file is not None and Path(stop_file).exists():
            self.say(f"{stop_file} exists: copying what is there, then stopping")
            return True
        if idle_s is not None and time.monotonic() - last_change >= idle_s:
            self.say(f"nothing new for {idle_s:g} s: copying what is there, then stopping")
            return True
        return False
