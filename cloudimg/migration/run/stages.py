"""`MigrationRun`: does the cells that are left, stage by stage, and finishes the copy."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from cloudimg.distributed.calling import Stopped
from cloudimg.distributed.run import Client, client_of, run_on_cluster
from cloudimg.errors import CloudimgError, ClusterError
from cloudimg.errors.notes import Note
from cloudimg.migration.journal.clearing import remove_leftovers
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inventory import Inventory
from cloudimg.migration.journal.layout import END_MARK
from cloudimg.migration.journal.lease import Lease
from cloudimg.migration.journal.records import CommitRecord
from cloudimg.migration.journal.sealing import create_sealed
from cloudimg.migration.journal.state import State
from cloudimg.migration.metadata.edits import Edits
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.progress import Counter
from cloudimg.migration.run.cell import BadCell, Job, run_cell
from cloudimg.migration.run.committed import CommittedCells, documents_before
from cloudimg.migration.run.contents import store_document
from cloudimg.migration.run.dask_input import DaskInput, run_batches, run_batches_on_cluster
from cloudimg.migration.run.end_check import EndListing, hold_against_listing
from cloudimg.migration.run.grown_documents import replaced_documents
from cloudimg.migration.run.local_executor import run_locally
from cloudimg.migration.run.memory import (
    cell_bytes,
    cells_in_flight,
    mean_cell_bytes,
    require_worker_memory,
)
from cloudimg.migration.run.options import RunOptions
from cloudimg.migration.run.refused_files import cells_with_bad_files, odd_first_file, report_of
from cloudimg.migration.run.result import Migration
from cloudimg.migration.run.source_check import SourceCheck
from cloudimg.migration.run.source_rows import SeenVersions
from cloudimg.migration.run.unfinished import unfinished_cells
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.storage import engine, map_ahead

_PUTS_AHEAD = 64
"""Metadata objects that are being stored at once."""

Report = Callable[[CommitRecord | BadCell], None]
"""Called with the commit record of every cell that is done, and with each cell that has bad files.
"""


@dataclass(slots=True)
class Totals:
    """What the runs of one call add up to."""

    n_done_before: int | None = None
    """Number of cells that were finished before the first run; None before that is known."""
    n_objects: int = 0
    """See `Migration.n_objects`."""
    n_bytes: int = 0
    """See `Migration.n_bytes`."""
    has_repeated: bool = False
    """Whether cells were done again because objects of the copy were replaced."""


class MigrationRun:
    """One run of a migration.

    Parameters
    ----------
    write_input : WriteInput
    destination : Destination
    state : State
    options : RunOptions
    lease : Lease
    inventory : Inventory, optional
        What earlier runs stored; None if this is the first run.
    plan_put : Future
        The state as it is stored, once it is. Nothing else is stored before.
    totals : Totals
        Those of the runs before in the same call; this one adds to them.
    """

    def __init__(
        self,
        *,
        write_input: WriteInput,
        destination: Destination,
        state: State,
        options: RunOptions,
        lease: Lease,
        inventory: Inventory | None,
        plan_put: Future[State],
        totals: Totals,
    ) -> None:
        self._pixels = write_input.pixels
        self._destination = destination
        self._state = state
        self._plan = state.plan
        self._options = options
        self._lease = lease
        self._inventory = inventory
        self._plan_put = plan_put
        self._rows = write_input.rows
        seen = None if self._rows is None else SeenVersions(self._rows)
        changes = write_input.changes
        newer = changes.newer_files() if changes is not None and changes.n_added else None
        self._source_check = SourceCheck(self._rows, seen, newer)
        grown_from = state.grown_from
        self._before = None
        if grown_from is not None:
            self._before = CommittedCells(state.plan.grown(grown_from.length))
        self._committed = CommittedCells(state.plan, seen, self._before)
        self._totals = totals
        self._n_bad_cells = 0
        self._edits = Edits()
        # Of a Dask array, workers get the pixels, not the array.
        source = None if isinstance(self._pixels, DaskInput) else self._pixels
        self._job = Job(state.plan, source, destination, lease.view(), state.id)

    def run(self, started: float) -> Migration:
        """Do everything that is left to do.

        Parameters
        ----------
        started : float
            `time.monotonic()` when the call began.

        Raises
        ------
        CloudimgError
            If reading or writing fails; finished cells stay finished.
        """
        if self._inventory is not None:
            remove_leftovers(self._destination)
        unfinished = unfinished_cells(
            self._destination,
            self._state,
            self._inventory,
            self._committed,
            self._rows,
        )
        n_left = sum(map(len, unfinished))
        n_before = self._plan.total_cells - n_left
        totals = self._totals
        if totals.n_done_before is None:
            totals.n_done_before = n_before
        counter = self._counter(unfinished, n_before)
        with self._source_check:
            for stage, numbers in enumerate(unfinished):
                self._run_stage(stage, numbers, counter)
            self._plan_put.result()
            facts = self._state.facts.with_notes(self._committed.all_notes())
            notes = self._finish(facts)
        return Migration(
            url=self._destination.url,
            n_cells=self._plan.total_cells,
            n_done_before=totals.n_done_before,
            n_objects=totals.n_objects,
            n_bytes=totals.n_bytes,
            seconds=time.monotonic() - started,
            notes=(*facts.all_notes, *notes),
            report=report_of(self._committed.filled, self._state),
            only_metadata=n_left == 0,
            edits=tuple(self._edits.first),
            n_edits=self._edits.n,
        )

    def _counter(self, unfinished: list[list[int]], n_before: int) -> Counter:
        bytes_left = sum(
            mean_cell_bytes(self._plan, stage) * len(numbers)
            for stage, numbers in enumerate(unfinished)
        )
        if any(unfinished) and self._options.client is not None:
            self._plan_put.result()
            client_of(self._options.client)  # a cluster may start now: not part of the progress
        return Counter(
            what="migrating",
            n_cells=self._plan.total_cells,
            n_done=n_before,
            bytes_left=bytes_left,
            progress=self._options.progress,
        )

    def _run_stage(self, stage: int, numbers: list[int], counter: Counter) -> None:
        n_bytes = mean_cell_bytes(self._plan, stage)

        def report(record: CommitRecord | BadCell) -> None:
            if isinstance(record, BadCell):
                self._n_bad_cells += 1
                self._committed.filled.add(record.number, record.filled, record.n_missing)
                return
            self._committed.add(record)
            self._totals.n_objects += sum(len(level.objects) for level in record.levels)
            self._totals.n_bytes += record.n_bytes
            counter.add(n_bytes)

        client = self._options.client
        if numbers and client is None:
            self._run_here(stage, numbers, report)
        elif numbers and client is not None:
            self._run_on_workers(client, stage, numbers, report)
        if self._n_bad_cells:
            self._plan_put.result()
            raise cells_with_bad_files(
                self._n_bad_cells, self._committed.filled, self._state, self._destination.url
            )
        self._require_records(stage)

    def _run_here(self, stage: int, numbers: list[int], report: Report) -> None:
        """Do cells in this process."""
        in_flight = cells_in_flight(self._plan, self._options.max_bytes)
        if stage == 0 and isinstance(self._pixels, DaskInput):
            self._plan_put.result()
            run_batches(self._pixels, self._job, numbers, n_together=in_flight, report=report)
            return
        after_read: Callable[[], object] = self._plan_put.result
        if stage == 0:
            self._source_check.expect_reads(len(numbers))
            after_read = self._after_source_read
        work = partial(run_cell, self._job, stage, after_read=after_read)
        run_locally(work, numbers, in_flight=in_flight, report=report)

    def _after_source_read(self) -> None:
        """Run in the thread of a cell between reading and storing."""
        self._plan_put.result()
        self._source_check.count_read()

    def _run_on_workers(
        self, client: Client, stage: int, numbers: list[int], report: Report
    ) -> None:
        """Do cells on a Dask cluster."""
        self._plan_put.result()
        cluster = client_of(client)
        require_worker_memory(self._plan, cluster)
        try:
            if stage == 0 and isinstance(self._pixels, DaskInput):
                run_batches_on_cluster(cluster, self._pixels, self._job, numbers, report=report)
                return
            run_on_cluster(
                cluster,
                partial(run_cell, self._job, stage),
                numbers,
                step=self._destination.step("migrate"),
                max_bytes=self._options.max_bytes,
                piece_bytes=cell_bytes(self._plan),
                report=report,
            )
        except BaseException as exc:
            is_lost = isinstance(exc, ClusterError) or cluster.status != "running"
            # A call is stopped once: unless that interrupted the end, no worker stores any more.
            is_drained = isinstance(exc, Stopped) and exc.__context__ is None
            if is_lost or not (isinstance(exc, Exception) or is_drained):
                self._lease.abandon()  # its workers may still store something
            raise

    def _require_records(self, stage: int) -> None:
        """Check that each cell has a commit record: without one, pixels would be missing.

        Raises
        ------
        CloudimgError
        """
        n_missing = self._committed.records_digest.n_missing(stage)
        if n_missing:
            raise CloudimgError(
                f"{n_missing} of {self._plan.n_cells(stage)} cells have no commit record, although"
                " no error was reported: this is a bug in cloudimg. Run the same migration again"
                " to continue it"
            )

    def _finish(self, facts: ImageFacts) -> tuple[Note, ...]:
        """Write the metadata, the root's last: readers look for it first.

        Returns
        -------
        tuple of Note
            Source files that came or went meanwhile.

        Raises
        ------
        ChangedError
            If the source changed while it was read.
        CellsToRepeatError
            If objects of the copy were replaced meanwhile.
        """
        odd = odd_first_file(self._committed.filled, self._state, self._destination.url)
        if odd is not None:
            raise odd
        self._source_check.start()
        found = self._committed.documents(self._state.facts, self._destination)
        if self._before is not None:
            return self._finish_grown(self._before, found, facts)
        *others, root = found
        destination, digest = self._destination, self._committed.records_digest
        listing = EndListing(destination, self._plan, [key for key, _ in found])

        fences = self._lease.fences
        is_first = self._inventory is None
        store = partial(
            store_document, destination, edits=self._edits, fences=fences, is_first=is_first
        )
        puts = map_ahead(
            lambda document: engine().fetch(partial(store, document)), others, n_ahead=_PUTS_AHEAD
        )
        stored = list(puts)
        plan = self._plan_put.result()
        hold = partial(hold_against_listing, destination, plan, digest)
        hold(stored, listing, is_last=self._totals.has_repeated)
        notes = self._source_check.notes()
        stored.append(store(root))
        if not listing.has_ended():
            hold(stored, is_last=self._totals.has_repeated)
        self._mark_end(plan, found, facts)
        return notes

    def _finish_grown(
        self, before: CommittedCells, found: list[tuple[str, bytes]], facts: ImageFacts
    ) -> tuple[Note, ...]:
        """Replace the metadata of a copy that has grown, once all of its objects were listed."""
        state, destination = self._plan_put.result(), self._destination
        assert state.grown_from is not None
        is_last, digest = self._totals.has_repeated, self._committed.records_digest
        listing = EndListing(destination, self._plan, [])
        hold_against_listing(destination, state, digest, [], listing, is_last=is_last)
        notes = self._source_check.notes()
        replaced = replaced_documents(
            destination,
            self._plan,
            found,
            documents_before(state.grown_from, before, destination),
            self._edits,
            only_these=state.grown_from.written is not None,
            fences=self._lease.fences,
        )
        if list(replaced) and not listing.has_ended():
            hold_against_listing(destination, state, digest, [], is_last=is_last)
        self._mark_end(state, found, facts)
        return notes

    def _mark_end(self, state: State, found: list[tuple[str, bytes]], facts: ImageFacts) -> None:
        """Store the end mark."""
        end_mark = self._committed.records_digest.end_mark(
            state.id, found, facts.source_notes, plan_sha256=state.sha256, plan_etag=state.etag
        )
        create_sealed(self._destination, END_MARK, end_mark.to_json(), fences=self._lease.fences)
