"""What a migration would meet at its destination, found out without writing to it.

The checks are those of `write` and `write_collection`, made by the same functions; an error is one
of the problems that are listed, and does not end the dry run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from dask.utils import format_bytes

from cloudimg.errors import CloudimgError, counted
from cloudimg.migration.journal.acquiring import refuse_held
from cloudimg.migration.journal.clearing import is_kept, refuse_beside_another, refuse_retired
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inspecting import DestinationContents, inspect_destination
from cloudimg.migration.journal.inventory import EndMark, Inventory
from cloudimg.migration.journal.layout import JournalKind, journal_kind
from cloudimg.migration.journal.probing import probe
from cloudimg.migration.journal.resuming import refuse_foreign, refuse_other_plan
from cloudimg.migration.journal.state import State
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.run.destination_found import DestinationFound
from cloudimg.migration.run.finished import edits_of_finished
from cloudimg.migration.run.growing import growth_of, has_newer_files
from cloudimg.migration.run.growth import Growth
from cloudimg.migration.run.options import RunOptions
from cloudimg.migration.run.overlap import refuse_overlap, refuse_to_delete_source
from cloudimg.migration.run.planning import OpenWriteInput, opened_for
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.storage import endpoint_of
from cloudimg.storage.local_room import room_at

T = TypeVar("T")

_EXAMPLES = 3
_FENCING = ("file", "gs", "az", "abfs", "abfss")
"""Protocols whose stores create an object on the condition that it does not exist."""
_AWS = ("s3://amazonaws.com", "s3://amazonaws.com.cn")


@dataclass(slots=True)
class _Survey:
    """What a listing of a destination has."""

    n_objects: int = 0
    n_bytes: int = 0
    n_cells: int = 0
    """Number of commit records."""
    examples: tuple[str, ...] = ()


class DestinationCheck:
    """Looks at a destination in steps, and keeps what speaks against writing there.

    Parameters
    ----------
    destination : Destination
    options : RunOptions
    probes : bool
        Whether an object may be stored and deleted.
    """

    def __init__(self, destination: Destination, options: RunOptions, *, probes: bool) -> None:
        self.destination = destination
        self._options = options
        self._probes = probes
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._survey: _Survey | None = None
        self._stored: State | None = None
        self._growth: Growth | None = None
        self.contents = self.tried(self._look)
        """What is there; None if that cannot be found out."""

    def tried(self, step: Callable[[], T]) -> T | None:
        """What a step returns; None if it raises an error, which is then a problem."""
        try:
            return step()
        except CloudimgError as exc:
            if exc.message not in self._problems:
                self._problems.append(exc.message)
            return None

    def _look(self) -> DestinationContents:
        destination, overwrite = self.destination, self._options.overwrite
        destination.refuse_unwritable()
        contents = inspect_destination(destination, overwrite=overwrite)
        if contents.has_objects:
            self._survey = _surveyed(destination)
        return contents

    @property
    def plan(self) -> Plan | None:
        """That of the migration which would go on, for the files that are there now."""
        if self._stored is None or self._growth is None:
            return None if self._stored is None else self._stored.plan
        return self._stored.plan.grown(self._growth.length)

    def open(self, open_write_input: OpenWriteInput, request: WriteRequest) -> WriteInput:
        """Open the source as a migration to this destination would.

        Raises
        ------
        CloudimgError
            If the source cannot be opened.
        """
        contents = self.contents
        if contents is None or not (contents.state or contents.is_clearing):
            if contents is not None and not self._options.overwrite:
                self.tried(partial(refuse_foreign, contents, self.destination))
            return open_write_input(None)
        if not self._options.overwrite:
            self.tried(partial(refuse_other_plan, contents, self.destination))
        opened = self.tried(
            partial(
                opened_for, contents, open_write_input, self.destination, request, self._options
            )
        )
        if opened is None:
            return open_write_input(None)
        write_input, self._stored = opened
        changes = write_input.changes
        if self._stored is None or changes is None:
            return write_input
        notes = tuple(changes.notes())
        if request.grow is None or not has_newer_files(notes):
            self._notes += notes
            return write_input
        now = self.tried(partial(open_write_input, None))
        grown = None if now is None else self._grown(self._stored, now)
        return grown or write_input

    def _grown(self, stored: State, write_input: WriteInput) -> WriteInput | None:
        """The source with the files that came since, if the copy would grow by them."""
        mapped = write_input.mapped(is_plate=stored.plan.plate is not None)
        self._growth = self.tried(partial(growth_of, stored, mapped, self.destination))
        return None if self._growth is None else write_input

    def check_source(self, write_input: WriteInput) -> None:
        """Check that the destination holds no file of the source."""
        self.tried(partial(refuse_overlap, write_input, self.destination))
        if self._options.overwrite and self.contents is not None and self.contents.has_objects:
            self.tried(partial(refuse_to_delete_source, write_input, self.destination))

    def add(self, other: DestinationFound) -> None:
        """Add what was found in a folder of the destination."""
        self._problems += [each for each in other.problems if each not in self._problems]
        self._notes += [each for each in other.notes if each not in self._notes]

    def found(
        self,
        *,
        n_bytes: int,
        n_objects: int,
        is_continued: bool | None = None,
        is_done: bool = False,
    ) -> DestinationFound:
        """Make the other checks, and return what was found.

        Parameters
        ----------
        n_bytes, n_objects : int
            What the copy would store, about.
        is_continued, is_done : bool
            Of a collection: whether the one that is there goes on, or is finished.
        """
        contents, survey = self.contents, self._survey or _Survey()
        if is_continued is None:
            is_continued = self._stored is not None
            is_done = self._stored is not None and self._stored.is_done and self._growth is None
        if contents is not None:
            self._check_holders(contents, is_continued)
        if self._stored is not None and self._stored.end_mark is not None:
            self.tried(
                partial(_check_finished, self.destination, self._stored, self._stored.end_mark)
            )
        there = survey.n_bytes if is_continued or self._options.overwrite else 0
        free = self._check_room(0 if is_done else n_bytes - there, 0 if is_done else n_objects)
        writable, fences = self._writability(free is not None, contents)
        return DestinationFound(
            url=self.destination.url,
            holds=self._holds(survey, is_continued, is_done),
            problems=tuple(self._problems),
            notes=tuple(self._notes),
            is_continued=is_continued,
            n_objects=None if contents is None else survey.n_objects,
            n_bytes=None if contents is None else survey.n_bytes,
            is_writable=writable,
            fences=fences,
            free_bytes=free,
        )

    def _check_holders(self, contents: DestinationContents, is_continued: bool) -> None:
        """Check that nobody else writes to the destination, or deletes there."""
        if not contents.is_empty:
            self.tried(partial(refuse_held, self.destination, self._notes.append))
        if not self._options.overwrite or is_continued or not contents.has_objects:
            return
        self.tried(partial(refuse_retired, self.destination))
        if not self._options.yes:
            self.tried(partial(refuse_beside_another, contents, self.destination))

    def _check_room(self, n_bytes: int, n_objects: int) -> int | None:
        """Free bytes on a local disk, which are a problem if they are too few; None elsewhere."""
        if not self.destination.is_local:
            return None
        room = self.tried(partial(room_at, self.destination.root))
        if room is None:
            return None
        url = self.destination.url
        if n_bytes > room.free_bytes:
            self._problems.append(
                f"no room for {url}: about {format_bytes(n_bytes)} are to be stored, and"
                f" {format_bytes(room.free_bytes)} are free in {room.folder}"
            )
        if room.n_files is not None and n_objects > room.n_files:
            self._problems.append(
                f"no room for {url}: {counted(n_objects, 'file')} are to be stored, and the file"
                f" system of {room.folder} has room for {room.n_files} (df -i). Larger shards= make"
                " them fewer"
            )
        return room.free_bytes

    def _writability(
        self, has_room: bool, contents: DestinationContents | None
    ) -> tuple[bool | None, bool | None]:
        """Whether objects can be stored, and whether the store refuses to create existing ones."""
        if self.destination.is_local:
            return has_room, True
        fences = self._known_fence(contents)
        if not self._probes or contents is None or self._problems:
            return None, fences
        probed = self.tried(partial(probe, self.destination))
        if probed is None:
            return False, fences
        if probed.left:
            self._notes.append(probed.left)
        if not probed.fences:
            self._notes.append(
                "the store does not refuse to create an object that exists: only the lease there"
                " keeps two migrations apart. Let no other process write to it, and use no part="
            )
        return True, probed.fences

    def _known_fence(self, contents: DestinationContents | None) -> bool | None:
        """Whether the store refuses to create an object that exists, where that is known."""
        location, options = self.destination.store.location, self.destination.store.options
        if contents is not None and contents.state is not None and not contents.state.fences:
            return False  # as an earlier migration has seen
        if location.protocol in _FENCING or endpoint_of(location, options) in _AWS:
            return True
        return None if contents is None or contents.state is None else True

    def _holds(self, survey: _Survey, is_continued: bool, is_done: bool) -> str:
        contents = self.contents
        if contents is None:
            return "nothing that can be read"
        if contents.collection is not None:
            n_images = counted(len(contents.collection.images), "image")
            return f"a collection of {n_images}{self._outcome(is_continued, is_done)}"
        if contents.state is not None:
            plan = contents.state.plan
            what = "a finished copy"
            if not contents.state.is_done:
                n_all = counted(plan.total_cells, "cell")
                what = f"an unfinished migration, with {survey.n_cells} of {n_all} done"
            return f"{what}{self._outcome(is_continued, is_done)}"
        if contents.is_clearing:
            return "the rest of what a migration with overwrite=True began to delete"
        if contents.has_objects:
            return (
                f"{counted(survey.n_objects, 'object')} that cloudimg did not write, such as"
                f" {', '.join(survey.examples)}"
            )
        return "nothing"

    def _outcome(self, is_continued: bool, is_done: bool) -> str:
        if self._growth is not None and self._stored is not None:
            growth, plan = self._growth, self._stored.plan
            before = plan.levels[0].shape[plan.dims.index(plan.grow or "")]
            late = f", and files came for {len(growth.late)} of its indices" if growth.late else ""
            return f": it would grow along {plan.grow} from {before} to {growth.length}{late}"
        if is_continued:
            return " of this source: nothing would be written" if is_done else ": it would go on"
        if self._options.overwrite:
            return ", which would be deleted"
        return ", of something else or with other arguments"


def _check_finished(destination: Destination, state: State, end_mark: EndMark) -> None:
    """Check, by a listing, that a finished copy has all of its objects.

    Raises
    ------
    DamagedCopyError
    """
    edits_of_finished(destination, state, end_mark, Inventory(destination, state.plan))


def _surveyed(destination: Destination) -> _Survey:
    """List a destination."""
    found = _Survey()
    for entry in destination.list():
        if is_kept(entry.key):
            continue
        found.n_objects += 1
        found.n_bytes += entry.size_bytes or 0
        kind = journal_kind(entry.key)
        found.n_cells += kind is JournalKind.RECORD
        if kind is None and len(found.examples) < _EXAMPLES:
            found.examples += (entry.key,)
    return found
