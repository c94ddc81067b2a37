"""`MigrationRun`: does the cells that are left, stage by stage, and finishes the copy."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from cloudimg.discovery.table import changes_between
from cloudimg.distributed.run import Client, client_of, run_on_cluster
from cloudimg.errors import BadFilesError, ChangedError, CloudimgError, counted
from cloudimg.errors.file_report import OTHER_THAN_FIRST
from cloudimg.migration.journal.clearing import leftovers
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inventory import END_MARK, Inventory
from cloudimg.migration.journal.lease import Lease
from cloudimg.migration.journal.records import CommitRecord
from cloudimg.migration.journal.sealing import put_sealed
from cloudimg.migration.journal.state import State
from cloudimg.migration.metadata.documents import documents
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.progress import Counter
from cloudimg.migration.run.cell import BadCell, Job, run_cell
from cloudimg.migration.run.committed import CommittedCells
from cloudimg.migration.run.dask_input import DaskInput, run_batches, run_batches_on_cluster
from cloudimg.migration.run.local_executor import run_locally
from cloudimg.migration.run.memory import cell_bytes, cells_in_flight, mean_cell_bytes
from cloudimg.migration.run.options import RunOptions
from cloudimg.migration.run.result import Migration
from cloudimg.migration.run.source_check import SourceCheck
from cloudimg.migration.run.unfinished import unfinished_cells
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.storage import engine, map_ahead

_PUTS_AHEAD = 64
"""Metadata objects that are being stored at once."""

_SHOWN = 2
"""Bad files of each kind in the text of an error; its report names more."""

Report = Callable[[CommitRecord | BadCell], None]
"""Called with the commit record of every cell that is done, and with each cell that has bad files.
"""


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
        Done once the plan is stored. Nothing else is stored before.
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
        plan_put: Future[None],
    ) -> None:
        self._pixels = write_input.pixels
        self._destination = destination
        self._state = state
        self._plan = state.plan
        self._options = options
        self._lease = lease
        self._inventory = inventory
        self._plan_put = plan_put
        self._source_check = SourceCheck(write_input.fingerprint, state.source["fingerprint"])
        self._write_input = write_input
        self._committed = CommittedCells(state.plan)
        self._n_objects = 0
        self._n_bytes = 0
        self._n_bad_cells = 0
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
            for path in leftovers(self._destination):
                path.unlink(missing_ok=True)
        unfinished = unfinished_cells(
            self._destination, self._state, self._inventory, self._lease, self._committed
        )
        n_left = sum(map(len, unfinished))
        n_before = self._plan.total_cells - n_left
        counter = self._counter(unfinished, n_before)
        with self._source_check:
            for stage, numbers in enumerate(unfinished):
                self._run_stage(stage, numbers, counter)
            self._plan_put.result()
            facts = self._state.facts.with_notes(self._committed.all_notes())
            self._finish(facts)
        return Migration(
            url=self._destination.url,
            n_cells=self._plan.total_cells,
            n_done_before=n_before,
            n_objects=self._n_objects,
            n_bytes=self._n_bytes,
            seconds=time.monotonic() - started,
            notes=facts.all_notes,
            only_metadata=n_left == 0,
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
            self._n_objects += sum(len(level.objects) for level in record.levels)
            self._n_bytes += record.n_bytes
            counter.add(n_bytes)

        client = self._options.client
        if numbers and client is None:
            self._run_here(stage, numbers, report)
        elif numbers and client is not None:
            self._run_on_workers(client, stage, numbers, report)
        if self._n_bad_cells:
            self._plan_put.result()
            raise self._bad_files()
        self._require_records(stage)

    def _bad_files(self) -> BadFilesError:
        """The error for cells that were not stored because of bad files."""
        report = self._committed.filled.report(self._state.source.get("files", {}))
        bad = [each for each in report.kinds if each.kind != "missing"]
        shown = "; ".join(str(file) for each in bad for file in each.examples[:_SHOWN])
        n_cells = self._plan.n_cells(0)
        cells = counted(self._n_bad_cells, f"of {n_cells} cells was", f"of {n_cells} cells were")
        error = BadFilesError(
            f"{self._destination.url} is incomplete: {cells} not copied because of bad files, all"
            f" others are done: {report.summary}, such as {shown}. Mend or replace the files and"
            ' run the same migration again to continue it, or pass bad="fill" to copy the fill'
            " value in their place",
            url=self._destination.url,
        )
        error.report = report
        return error

    def _refuse_odd_first(self) -> None:
        """Refuse a copy in which most files were filled because the first one is the odd one.

        Raises
        ------
        BadFilesError
        """
        report = self._committed.filled.report(self._state.source.get("files", {}))
        n_other = sum(each.n_files for each in report.kinds if each.kind in OTHER_THAN_FIRST)
        if report.n_files and 2 * n_other > report.n_files:
            error = BadFilesError(
                f"{n_other} of {report.n_files} files have other axes, another shape or another"
                f" dtype than the first one: {self._destination.url} would consist of fill values."
                " Leave the first file out with exclude=, and start over with overwrite=True",
                url=self._destination.url,
            )
            error.report = report
            raise error

    def _run_here(self, stage: int, numbers: list[int], report: Report) -> None:
        """Do cells in this process."""
        in_flight = cells_in_flight(self._plan, self._options.max_bytes)
        if stage == 0 and isinstance(self._pixels, DaskInput):
            self._plan_put.result()
            run_batches(self._pixels, self._job, numbers, n_together=in_flight, report=report)
            return
        after_read: Callable[[], None] = self._plan_put.result
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
        if stage == 0 and isinstance(self._pixels, DaskInput):
            run_batches_on_cluster(
                client_of(client), self._pixels, self._job, numbers, report=report
            )
            return
        run_on_cluster(
            client_of(client),
            partial(run_cell, self._job, stage),
            numbers,
            max_bytes=self._options.max_bytes,
            piece_bytes=cell_bytes(self._plan),
            report=report,
        )

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

    def _finish(self, facts: ImageFacts) -> None:
        """Write the metadata, the root's last: readers look for it first.

        Raises
        ------
        ChangedError
            If the source changed while it was read.
        """
        self._refuse_odd_first()
        self._source_check.start()
        found = documents(self._plan, facts, self._committed.contrast.limits())
        *others, root = found

        def put(document: tuple[str, bytes]) -> None:
            self._lease.check()
            self._destination.put(*document)

        for _ in map_ahead(
            lambda document: engine().fetch(partial(put, document)), others, n_ahead=_PUTS_AHEAD
        ):
            pass
        if not self._source_check.is_unchanged():
            raise ChangedError(
                f"source files changed while they were being migrated{self._changes()}:"
                f" {self._destination.url} is incomplete. Stop whatever writes to the source, then"
                " start over with overwrite=True",
                url=self._destination.url,
            )
        put(root)
        self._lease.check()
        digest = self._committed.records_digest
        end_mark = digest.end_mark(self._state.id, found, facts.source_notes)
        put_sealed(self._destination, END_MARK, end_mark.to_json())

    def _changes(self) -> str:
        """Which files changed since they were opened."""
        before, now = self._write_input.files, self._write_input.files_now
        if before is None or now is None:
            return ""
        return f" ({changes_between(before(), now())})"
