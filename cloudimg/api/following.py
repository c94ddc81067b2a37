"""Follow an acquisition that is under way: let a copy grow by what is whole, again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Unpack

from cloudimg.api.arrivals import Arrivals
from cloudimg.api.migrations import MIGRATE_DEFAULTS, migrate_labels, open_options
from cloudimg.discovery.grid import FileGrid
from cloudimg.errors import ArgumentError, FormatError, NoMatchError, counted
from cloudimg.errors.file_report import OTHER_THAN_FIRST
from cloudimg.image.validation import validating
from cloudimg.migration.journal.destination import open_destination
from cloudimg.migration.journal.file_table import get_files
from cloudimg.migration.journal.inspecting import inspect_destination
from cloudimg.migration.options import MigrateOptions
from cloudimg.migration.run.result import Migration
from cloudimg.opening.keywords import takes_keywords
from cloudimg.opening.list_files import list_sources
from cloudimg.opening.open_files import open_sources
from cloudimg.opening.options import OpenArguments

_LONGEST_S = 1e9


@takes_keywords(MigrateOptions, MIGRATE_DEFAULTS)
def follow(
    source: str,
    url: str,
    *,
    interval: float = 10.0,
    settle: float = 30.0,
    until_idle: float | None = None,
    stop_file: str | None = None,
    stop: threading.Event | None = None,
    say: Callable[[str], object] | None = None,
    **options: Unpack[MigrateOptions],
) -> Migration | None:
    """Copy an acquisition that is under way: add what is whole again and again.

    An index of the growing axis is added when all of its files are there, stand still and have all
    their bytes; the first one when a second one has begun. With ``missing="fill"`` it may lack
    files once a later one has begun. Where numbers are left out, what comes after the gap is added
    in the end. A copy that is there is checked first, and finished if it is not.

    Parameters
    ----------
    source : str
        A URL pattern.
    url : str
        Folder for the OME-Zarr; see `cloudimg.to_zarr`.
    interval : float
        Seconds from one listing of the source to the next.
    settle : float
        Seconds for which the size of a file has to stand still.
    until_idle : float, optional
        Stop when nothing came or changed for so many seconds, after adding what is there. By
        default never.
    stop_file : str, optional
        Stop when this local file exists, after adding what is there.
    stop : threading.Event, optional
        Stop after what is under way when it is set.
    say : callable, optional
        Called with each line about what happens.
    **options
        Arguments of `cloudimg.migrate`, with `grow`, and without `client`, `labels_of`,
        `overwrite` and `part`.

    Returns
    -------
    Migration or None
        The result of the last migration that added something, or else of the check that the copy
        is complete; None if there is no copy.

    Raises
    ------
    ArgumentError
        If an argument is invalid.
    CloudimgError
        As `cloudimg.migrate`; the same call goes on from there.

    Examples
    --------
    >>> import cloudimg
    >>> pattern = "s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
    >>> done = cloudimg.follow(
    ...     pattern, "s3://lab/followed.ome.zarr", grow="t", settle=0, until_idle=0
    ... )
    >>> done.n_cells
    2
    """
    for name in ("client", "labels_of", "overwrite", "part"):
        if options.get(name):
            raise ArgumentError(f"follow() does without {name}=: leave it out")
    if options.get("grow") is None:
        raise ArgumentError(
            'follow() needs grow=, the axis along which the copy grows, such as grow="t"'
        )
    for name, value in (("interval", interval), ("settle", settle), ("until_idle", until_idle)):
        if value is not None and not (isinstance(value, int | float) and 0 <= value < _LONGEST_S):
            raise ArgumentError(f"{name}={value!r} must be a number of seconds")
    following = _Following(
        source,
        url,
        options,
        interval_s=interval,
        settle_s=settle,
        until_idle_s=until_idle,
        stop_file=stop_file,
        stop=stop or threading.Event(),
        say=say or _say_nothing,
    )
    return following.run()


def _say_nothing(_: str) -> None:
    """Leave out what would be said."""


@dataclass(slots=True)
class _Following:
    source: str
    url: str
    given: MigrateOptions
    interval_s: float
    settle_s: float
    until_idle_s: float | None
    stop_file: str | None
    stop: threading.Event
    say: Callable[[str], object]
    _said: set[str] = field(default_factory=set)
    """Lines about what is waited for since the last copy."""

    def run(self) -> Migration | None:
        """Look, copy and wait."""
        opening = OpenArguments.of(open_options(self.given, self.given.get("source_options"), None))
        arrivals = Arrivals(self.settle_s, opening.missing == "fill")
        self._look_at_copy(arrivals)
        arrivals.is_checked = False
        done, last_change, is_ending = None, time.monotonic(), False
        while not self.stop.is_set():
            now = time.monotonic()
            grid = self._listed(opening)
            if grid is not None:
                n = arrivals.look(grid, now, is_ending=is_ending)
                if arrivals.has_changed:
                    last_change = now
                if n and not is_ending:
                    n = self._n_complete(opening, grid, arrivals, n)
                if n:
                    result = self._copy(grid, n)
                    self._look_at_copy(arrivals)
                    if not result.is_unchanged:
                        done = result
                        continue
                    done = done or result
                self._tell_of_rest(grid, arrivals, is_ending=is_ending)
            if is_ending and arrivals.is_settled:
                break
            if not is_ending and self._is_over(last_change):
                # Files that were replaced after they had been copied are found by the last check.
                is_ending, arrivals.is_checked = True, False
            if not is_ending or not arrivals.is_settled:
                self.stop.wait(self.interval_s)
        return done

    def _look_at_copy(self, arrivals: Arrivals) -> None:
        """Find out which files the copy has, or was to have when it was interrupted."""
        destination = open_destination(self.url, self.given.get("target_options"))
        state = inspect_destination(destination).state
        if state is not None and state.plan.grow == self.given["grow"]:
            arrivals.taken = get_files(destination, state)
            arrivals.is_checked = state.is_done

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
        if done.is_unchanged:
            self._tell(str(done).splitlines()[0])
            return done
        self._said.clear()
        self.say(f"copied up to {grow}={labels[:n][-1]}: {str(done).splitlines()[0]}")
        return done

    def _n_complete(
        self, opening: OpenArguments, grid: FileGrid, arrivals: Arrivals, n: int
    ) -> int:
        """Of the indices that stand still, the number of those whose files have all their bytes."""
        labels, rows = grid.labels[0], arrivals.new_indices(grid, n)
        if not rows:
            return n
        some = replace(opening.purpose, grow_labels=frozenset(labels[i] for i in rows))
        try:
            opened = open_sources(self.source, validating(replace(opening, purpose=some)))
        except FormatError as exc:
            if exc.bad_file is None:
                raise
            bad = [(rows[0], exc.url)]  # the first one, with which the others are compared
        else:
            bad = [
                (rows[index[0]], opened.grid.keys(index))
                for index, error in opened.inspection.bad
                if error.bad_file not in (*OTHER_THAN_FIRST, "missing")
            ]
        if not bad:
            return n
        first, name = min(bad)
        self._tell(f"waiting for all bytes of {counted(len(bad), 'file')}, such as {name}")
        return first if first >= arrivals.n_taken + arrivals.is_checked else 0

    def _tell_of_rest(self, grid: FileGrid, arrivals: Arrivals, *, is_ending: bool) -> None:
        n_left = arrivals.n_left
        if n_left and is_ending and arrivals.is_settled:
            self._tell(f"left out: {counted(n_left, 'file')} of indices that lack others")
        elif arrivals.gap_at is not None:
            grow, labels = self.given["grow"], grid.labels[0]
            before, later = labels[arrivals.gap_at - 1], labels[arrivals.gap_at]
            self._tell(
                f"waiting at a gap: nothing between {grow}={before} and {grow}={later} has come."
                " What comes after it is taken in the end"
            )
        elif n_left:
            self._tell(f"waiting: {counted(n_left, 'file')} not whole yet, or still changing")

    def _tell(self, line: str) -> None:
        """Say something once until there is a copy of more."""
        if line not in self._said:
            self._said.add(line)
            self.say(line)

    def _is_over(self, last_change: float) -> bool:
        stop_file, idle_s = self.stop_file, self.until_idle_s
        if stop_file is not None and Path(stop_file).exists():
            self.say(f"{stop_file} exists: copying what is there, then stopping")
            return True
        if idle_s is not None and time.monotonic() - last_change >= idle_s:
            self.say(f"nothing new for {idle_s:g} s: copying what is there, then stopping")
            return True
        return False
