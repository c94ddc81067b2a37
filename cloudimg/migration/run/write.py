"""The steps of a migration, in order.

1. Look at the destination; refuse what must not be overwritten.
2. Become its one writer, which is also the proof that it can be written to.
3. Follow the plan that is stored there, or make one and store it.
4. Do the cells that have no receipt, or lack an object that it tells of, stage by stage.
5. See that the source is still the one that was read; write the metadata, the root's last.

A kill at any point leaves a destination that the same call goes on with.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from dask.utils import format_bytes

from cloudimg.distributed.run import Client, client_of, run_on_cluster
from cloudimg.errors import (
    ArgumentError,
    ChangedError,
    CloudimgError,
    CorruptFileError,
    StorageError,
)
from cloudimg.migration.encode.codecs import make_codec
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inventory import DONE, Inventory, RecordsDigest
from cloudimg.migration.journal.lease import Lease, acquire
from cloudimg.migration.journal.records import PLAN, CommitRecord, read_records, record_key
from cloudimg.migration.journal.sealing import put_sealed
from cloudimg.migration.journal.state import (
    DestinationContents,
    State,
    clear,
    decide,
    delete_all,
    leftovers,
    look,
    refuse_foreign,
)
from cloudimg.migration.metadata.documents import documents
from cloudimg.migration.plan.make_plan import make_plan
from cloudimg.migration.plan.objects import objects_of
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.progress import Advance, AdvanceCallback, Counter
from cloudimg.migration.run.cell import Job, run_cell
from cloudimg.migration.run.contrast import Contrast
from cloudimg.migration.run.dask_input import (
    DaskInput,
    mentions,
    run_batches,
    run_batches_on_cluster,
)
from cloudimg.migration.run.local_executor import run_locally
from cloudimg.migration.run.memory import cell_bytes, cells_in_flight, mean_cell_bytes
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.storage import engine


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to write, which does not change what is written."""

    max_bytes: int
    """Memory for cells; of each worker on a cluster."""
    overwrite: bool
    resume: bool
    client: Client | None
    progress: AdvanceCallback | None


@dataclass(frozen=True, slots=True)
class Migration:
    """What a migration did."""

    url: str
    n_cells: int
    n_done_before: int
    """Cells that earlier runs had finished."""
    n_objects: int
    """Shards (chunks, in Zarr 2) stored by this run."""
    n_bytes: int
    """Bytes of these."""
    seconds: float
    notes: tuple[str, ...] = ()
    """What the source has and the copy has not."""
    only_metadata: bool = False
    """Whether no cell was left to do, but the metadata was."""

    def __str__(self) -> str:
        if self.only_metadata:
            done = f"{self.url} is complete; all its cells were, its metadata is written now"
        elif self.n_done_before == self.n_cells:
            done = f"{self.url} is complete; there was nothing left to do"
        else:
            before = f" ({self.n_done_before} were done before)" if self.n_done_before else ""
            done = (
                f"{self.url}: {self.n_cells} cells{before}; {self.n_objects} objects of"
                f" {format_bytes(self.n_bytes)} stored in {self.seconds:.1f} s"
            )
        return "\n".join([done, *(f"note: {note}" for note in self.notes)])


def write(
    open_write_input: Callable[[], WriteInput],
    destination: Destination,
    request: WriteRequest,
    settings: RunOptions,
) -> Migration:
    """Write an image to a destination, or go on with it.

    Parameters
    ----------
    open_subject : callable
        Opens what is to be written, when it is known that it can be.
    destination : Destination
    request : Request
        What decides the bytes that are written.
    settings : Settings

    Raises
    ------
    ArgumentError
        For a destination that holds something else, and for arguments or a source other than
        those that the migration began with.
    LeaseError
        If another migration writes there.
    CloudimgError
        If reading or writing fails: what is done stays done.
    """
    began = time.monotonic()
    threading.Thread(target=_prepare, name="cloudimg-prepare", daemon=True).start()
    found = look(destination, overwrite=settings.overwrite)
    if not settings.overwrite:
        refuse_foreign(found, destination)
    say = _teller(settings.progress)
    with acquire(destination, say=say, is_unheld=found.is_empty) as lease:
        try:
            if not found.is_empty or lease.number > 1:
                # As it is now that nobody else writes.
                found = look(destination, overwrite=settings.overwrite)
            write_input = open_write_input()
            _refuse_overlap(write_input, destination)
            if settings.overwrite and found.has_objects:
                _refuse_overlap_by_links(write_input, destination)
            state, storing = _follow_or_plan(found, write_input, destination, request, settings)
        except BaseException:
            _leave_nothing(destination, lease)
            raise
        try:
            inventory = Inventory(destination, state.plan) if found.state is state else None
            if inventory is not None and _is_whole(destination, state, inventory):
                n, seconds = state.plan.total_cells, time.monotonic() - began
                return Migration(destination.url, n, n, 0, 0, seconds, state.facts.notes)
            for note in state.facts.notes:
                say(f"note: {note}")
            run = _MigrationRun(
                write_input, destination, state, settings, lease, inventory, storing
            )
            return run.to_the_end(began)
        except BaseException:
            if _was_not_stored(storing, lease):
                _leave_nothing(destination, lease)
            raise


def _was_not_stored(storing: Future[None], lease: Lease) -> bool:
    """Whether the plan's PUT failed; waited for, so that it does not come when another writes."""
    try:
        return storing.exception() is not None
    except BaseException:  # Ctrl-C again and again
        lease.abandon()
        raise


def _is_whole(destination: Destination, state: State, inventory: Inventory) -> bool:
    """Whether all that was there at the end of a migration still is, by name and size."""
    if state.done is None or state.done.inventory != inventory.digest:
        return False
    return not leftovers(destination)


def _prepare() -> None:
    """Import what the first cell would wait for, while the stores are asked."""
    import google_crc32c  # noqa: F401
    import imagecodecs  # noqa: F401
    import numpy.ma  # noqa: F401  (np.unique asks for it)
    import pyarrow.parquet  # noqa: F401


def _teller(progress: AdvanceCallback | None) -> Callable[[str], None]:
    def say(note: str) -> None:
        if progress is not None:
            progress(Advance("", 0, 0, 0, 0, 0.0, note))

    return say


def _refuse_overlap(write_input: WriteInput, destination: Destination) -> None:
    """Sources must not lie where the destination is, which overwriting would clear.

    Raises
    ------
    ArgumentError
    """
    if write_input.location is None or write_input.location != destination.store.location:
        return
    if not _may_overlap(write_input, destination.root):
        return
    for key in write_input.list_keys():
        if key.startswith(f"{destination.root}/") or key == destination.root:
            raise ArgumentError(
                f"the source's file {destination.store.location.display(key)} lies in"
                f" {destination.url} itself: write to another place"
            )


def _refuse_overlap_by_links(write_input: WriteInput, destination: Destination) -> None:
    """As above, where folders have several names.

    Raises
    ------
    ArgumentError
    """
    place = destination.store.location
    if isinstance(write_input.input, DaskInput) and mentions(
        write_input.input.array, destination.root
    ):
        raise ArgumentError(
            f"the array is computed from what lies in {destination.url} itself, which overwriting"
            " would delete first: write to another place"
        )
    if write_input.location is None or {write_input.location.protocol, place.protocol} != {"file"}:
        return
    real_folder = lru_cache(os.path.realpath)
    root = os.path.realpath(destination.root)
    for key in write_input.list_keys():
        folder, _, name = key.rpartition("/")
        path = os.path.realpath(key) if Path(key).is_symlink() else f"{real_folder(folder)}/{name}"
        if path.startswith(f"{root}/"):
            raise ArgumentError(
                f"the source's file {key} lies in {destination.url} itself, by another name: write"
                " to another place"
            )


def _may_overlap(write_input: WriteInput, root: str) -> bool:
    """Whether a file of the source may lie in a folder, from what all names begin with."""
    if len(write_input.source["urls"]) > 1:
        return True
    stem = re.split(r"[{*?\[]", write_input.source["urls"][0])[0].partition("://")[2]
    return root.startswith(stem) or stem.startswith(root) or not stem


def _follow_or_plan(
    found: DestinationContents,
    write_input: WriteInput,
    destination: Destination,
    request: WriteRequest,
    settings: RunOptions,
) -> tuple[State, Future[None]]:
    """The plan that is there, if it is for the same, else a new one, which is being stored."""

    def make() -> Plan:
        dtype = write_input.dtype.newbyteorder("<")
        return plan_for(
            write_input, request, make_codec(request.codec, dtype, request.zarr_format).spec
        )

    state = decide(
        found,
        destination,
        request,
        write_input.source,
        overwrite=settings.overwrite,
        resume=settings.resume,
        make_plan=make,
    )
    if state is None:
        state = State.planned(make(), request, write_input.source, write_input.facts)
        cells_in_flight(state.plan, settings.max_bytes)  # refuses what is too little
        if found.has_objects:
            clear(destination)
        return state, engine().fetch(partial(put_sealed, destination, PLAN, state.to_json()))
    cells_in_flight(state.plan, settings.max_bytes)  # refuses what is too little
    stored: Future[None] = Future()
    stored.set_result(None)
    return state, stored


def plan_for(write_input: WriteInput, request: WriteRequest, codec: dict[str, Any]) -> Plan:
    """The plan for a subject; the same on every machine."""
    axes_mapping = write_input.axes_mapping
    return make_plan(
        axes_mapping.dims,
        axes_mapping.shape,
        write_input.dtype.newbyteorder("<"),
        lead_dims=axes_mapping.lead_dims,
        lead_shape=axes_mapping.lead_shape,
        fill_value=write_input.fill_value,
        request=request,
        codec=codec,
        boundaries=write_input.boundaries,
        alignment=axes_mapping.alignment,
    )


def _leave_nothing(destination: Destination, lease: Lease) -> None:
    """Where nothing was planned, nothing shall be left."""
    try:
        if destination.get_json(PLAN) is None:
            lease.forget()
    except (StorageError, CorruptFileError):
        return  # the failure that led here is the one to tell


class _MigrationRun:
    """One run of a migration."""

    def __init__(
        self,
        write_input: WriteInput,
        destination: Destination,
        state: State,
        settings: RunOptions,
        lease: Lease,
        inventory: Inventory | None,
        storing: Future[None],
    ) -> None:
        self.inventory = inventory
        """What is there of an earlier run; None where this one is the first."""
        self.write_input = write_input
        self.destination = destination
        self.state = state
        self.plan = state.plan
        self.settings = settings
        self.lease = lease
        self.contrast = Contrast(state.plan)
        self.records_digest = RecordsDigest(state.plan)
        self.n_objects = 0
        self.n_bytes = 0
        self._plan_stored = storing
        """Awaited before anything else is stored."""
        self._lock = threading.Lock()
        self._n_to_read = 0
        """Cells that this process has yet to read of the source."""
        self._asked: Future[str] | None = None
        """For the source's fingerprint after all of it was read."""
        # Not a fetching thread: opening an image waits for those.
        self._asking = ThreadPoolExecutor(1, "cloudimg-source")
        # A worker is given the pixels of a Dask array, not the array.
        source = None if isinstance(write_input.input, DaskInput) else write_input.input
        self.job = Job(self.plan, source, destination, lease.view(), state.id)

    def to_the_end(self, began: float) -> Migration:
        """Do all that is left to do."""
        for path in () if self.inventory is None else leftovers(self.destination):
            path.unlink(missing_ok=True)
        todo = self._unfinished()
        n_left = sum(len(numbers) for numbers in todo)
        n_before = self.plan.total_cells - n_left
        left = sum(
            mean_cell_bytes(self.plan, stage) * len(numbers) for stage, numbers in enumerate(todo)
        )
        if n_left and self.settings.client is not None:
            self._plan_stored.result()
            client_of(self.settings.client)  # before the clock of the progress starts
        counter = Counter(
            "migrating", self.plan.total_cells, n_before, left, self.settings.progress
        )
        for stage, numbers in enumerate(todo):
            self._do(stage, numbers, counter)
            self._refuse_unfinished(stage)
        self._plan_stored.result()
        self._finish()
        return Migration(
            self.destination.url,
            self.plan.total_cells,
            n_before,
            self.n_objects,
            self.n_bytes,
            time.monotonic() - began,
            self.state.facts.notes,
            only_metadata=n_left == 0,
        )

    def _unfinished(self) -> list[list[int]]:
        """Cells that are left to do, by stage; what the others say is counted."""
        todo: list[list[int]] = []
        is_spoilt = self.inventory is None
        for stage in range(len(self.plan.stages)):
            if self.inventory is None or is_spoilt:
                todo.append(list(range(self.plan.n_cells(stage))))
                continue
            left, foreign = self._look_through(stage, self.inventory)
            todo.append(left)
            if foreign:
                # Cells of later stages may have been made of it.
                is_spoilt = True
                self._take_away(stage, foreign, self.inventory)
        return todo

    def _look_through(
        self, stage: int, inventory: Inventory
    ) -> tuple[list[int], list[CommitRecord]]:
        """Cells that are left to do in a stage, and receipts of another plan."""
        done = inventory.records(stage)
        foreign: list[CommitRecord] = []
        numbers = (int(n) for n in np.flatnonzero(done))
        for number, record in read_records(self.destination, stage, numbers):
            if record is not None and record.plan_id != self.state.id:
                foreign.append(replace(record, sources={}, histograms=()))
                done[number] = False
            elif record is None or not all(map(inventory.has, record.objects())):
                done[number] = False
            else:
                self.contrast.add(record)
                self.records_digest.add(record)
        return [int(n) for n in np.flatnonzero(~done)], foreign

    def _take_away(self, stage: int, foreign: list[CommitRecord], inventory: Inventory) -> None:
        """Delete what a worker of an earlier migration to this place stored late.

        In an order that leaves a sign of it until the last, should this be killed.
        """
        later = [
            record_key(each, int(number))
            for each in range(stage + 1, len(self.plan.stages))
            for number in np.flatnonzero(inventory.records(each))
        ]
        stored = []
        for record in foreign:
            cell = self.plan.cell(stage, record.number)
            outputs = self.plan.outputs(cell)
            ours = {key for each in outputs for key, _ in objects_of(self.plan, cell, each)}
            stored += [each.key for each in record.objects() if each.key in ours]
        for keys in (later, stored, [record_key(stage, each.number) for each in foreign]):
            self.lease.check()
            delete_all(self.destination, keys)

    def _do(self, stage: int, numbers: list[int], counter: Counter) -> None:
        size = mean_cell_bytes(self.plan, stage)

        def report(record: CommitRecord) -> None:
            self.contrast.add(record)
            self.records_digest.add(record)
            self.n_objects += sum(len(level.objects) for level in record.levels)
            self.n_bytes += record.n_bytes
            counter.add(size)

        if not numbers:
            return
        settings, client = self.settings, self.settings.client
        source = self.write_input.input
        work = partial(run_cell, self.job, stage)
        if client is None:
            in_flight = cells_in_flight(self.plan, settings.max_bytes)
            if stage == 0 and isinstance(source, DaskInput):
                self._plan_stored.result()
                run_batches(source, self.job, numbers, n_together=in_flight, report=report)
                return
            self._n_to_read = len(numbers) if stage == 0 else 0
            work = partial(work, after_read=self._after_read)
            run_locally(work, numbers, in_flight=in_flight, report=report)
            return
        self._plan_stored.result()
        client = client_of(client)
        if stage == 0 and isinstance(source, DaskInput):
            run_batches_on_cluster(client, source, self.job, numbers, report=report)
            return
        run_on_cluster(
            client,
            work,
            numbers,
            max_bytes=settings.max_bytes,
            cell_bytes=cell_bytes(self.plan),
            report=report,
        )

    def _refuse_unfinished(self, stage: int) -> None:
        """Whoever did the cells: of each there must be a receipt, or pixels would be missing.

        Raises
        ------
        CloudimgError
        """
        n_missing = self.records_digest.n_missing(stage)
        if n_missing:
            raise CloudimgError(
                f"{n_missing} of {self.plan.n_cells(stage)} cells were not done, though nobody says"
                " why: this is a defect of cloudimg. The same command goes on from here"
            )

    def _after_read(self) -> None:
        """In the thread of a cell: two round trips pass while others read and encode."""
        self._plan_stored.result()
        with self._lock:
            self._n_to_read -= 1
            if self._n_to_read == 0:
                self._asked = self._asking.submit(self.write_input.fingerprint)

    def _finish(self) -> None:
        """The metadata: what a reader looks for first comes last."""
        asked = self._asked or self._asking.submit(self.write_input.fingerprint)
        found = documents(self.plan, self.state.facts, self.contrast.limits())
        *most, last = found

        def put(key: str, data: bytes) -> None:
            self.lease.check()
            self.destination.put(key, data)

        for waiting in [engine().fetch(partial(put, key, data)) for key, data in most]:
            waiting.result()
        if asked.result() != self.state.source["fingerprint"]:
            raise ChangedError(
                f"files of the source changed while they were migrated: {self.destination.url} is"
                " not whole. See what writes there, then begin anew with overwrite",
                url=self.destination.url,
            )
        put(*last)
        self.lease.check()
        put_sealed(self.destination, DONE, self.records_digest.done(self.state.id, found).to_json())
