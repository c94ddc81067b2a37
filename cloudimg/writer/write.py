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

from cloudimg.coords import human
from cloudimg.errors import (
    ArgumentError,
    ChangedError,
    CloudimgError,
    CorruptFileError,
    StorageError,
)
from cloudimg.on_cluster import Client, client_of, run_on_cluster
from cloudimg.storage import engine
from cloudimg.writer.cell import Job, run_cell
from cloudimg.writer.check import objects_of
from cloudimg.writer.choose import make_plan
from cloudimg.writer.codecs import make_codec
from cloudimg.writer.contrast import Contrast
from cloudimg.writer.dask_input import DaskInput, mentions, run_batches, run_batches_on_cluster
from cloudimg.writer.destination import Destination
from cloudimg.writer.execute import run_locally
from cloudimg.writer.journal import (
    DONE,
    PLAN,
    Receipt,
    Stock,
    Tally,
    put_sealed,
    read_receipts,
    receipt_key,
)
from cloudimg.writer.lease import Lease, acquire
from cloudimg.writer.metadata import documents
from cloudimg.writer.plan import Plan
from cloudimg.writer.progress import Advance, Counter, Progress
from cloudimg.writer.request import Request
from cloudimg.writer.sizes import cell_bytes, cells_in_flight, mean_cell_bytes
from cloudimg.writer.state import (
    Found,
    State,
    clear,
    decide,
    delete_all,
    leftovers,
    look,
    refuse_foreign,
)
from cloudimg.writer.subject import Subject


@dataclass(frozen=True, slots=True)
class Settings:
    """How to write, which does not change what is written."""

    max_bytes: int
    """Memory for cells; of each worker on a cluster."""
    overwrite: bool
    resume: bool
    client: Client | None
    progress: Progress | None


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
                f" {human(self.n_bytes)} stored in {self.seconds:.1f} s"
            )
        return "\n".join([done, *(f"note: {note}" for note in self.notes)])


def write(
    open_subject: Callable[[], Subject],
    destination: Destination,
    request: Request,
    settings: Settings,
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
            subject = open_subject()
            _refuse_overlap(subject, destination)
            if settings.overwrite and found.has_objects:
                _refuse_overlap_by_links(subject, destination)
            state, storing = _follow_or_plan(found, subject, destination, request, settings)
        except BaseException:
            _leave_nothing(destination, lease)
            raise
        try:
            stock = Stock(destination, state.plan) if found.state is state else None
            if stock is not None and _is_whole(destination, state, stock):
                n, seconds = state.plan.total_cells, time.monotonic() - began
                return Migration(destination.url, n, n, 0, 0, seconds, state.facts.notes)
            for note in state.facts.notes:
                say(f"note: {note}")
            run = _Run(subject, destination, state, settings, lease, stock, storing)
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


def _is_whole(destination: Destination, state: State, stock: Stock) -> bool:
    """Whether all that was there at the end of a migration still is, by name and size."""
    if state.done is None or state.done.inventory != stock.inventory:
        return False
    return not leftovers(destination)


def _prepare() -> None:
    """Import what the first cell would wait for, while the stores are asked."""
    import google_crc32c  # noqa: F401
    import imagecodecs  # noqa: F401
    import numpy.ma  # noqa: F401  (np.unique asks for it)
    import pyarrow.parquet  # noqa: F401


def _teller(progress: Progress | None) -> Callable[[str], None]:
    def say(note: str) -> None:
        if progress is not None:
            progress(Advance("", 0, 0, 0, 0, 0.0, note))

    return say


def _refuse_overlap(subject: Subject, destination: Destination) -> None:
    """Sources must not lie where the destination is, which overwriting would clear.

    Raises
    ------
    ArgumentError
    """
    if subject.location is None or subject.location != destination.store.location:
        return
    if not _may_overlap(subject, destination.root):
        return
    for key in subject.list_keys():
        if key.startswith(f"{destination.root}/") or key == destination.root:
            raise ArgumentError(
                f"the source's file {destination.store.location.display(key)} lies in"
                f" {destination.url} itself: write to another place"
            )


def _refuse_overlap_by_links(subject: Subject, destination: Destination) -> None:
    """As above, where folders have several names.

    Raises
    ------
    ArgumentError
    """
    place = destination.store.location
    if isinstance(subject.input, DaskInput) and mentions(subject.input.array, destination.root):
        raise ArgumentError(
            f"the array is computed from what lies in {destination.url} itself, which overwriting"
            " would delete first: write to another place"
        )
    if subject.location is None or {subject.location.protocol, place.protocol} != {"file"}:
        return
    real_folder = lru_cache(os.path.realpath)
    root = os.path.realpath(destination.root)
    for key in subject.list_keys():
        folder, _, name = key.rpartition("/")
        path = os.path.realpath(key) if Path(key).is_symlink() else f"{real_folder(folder)}/{name}"
        if path.startswith(f"{root}/"):
            raise ArgumentError(
                f"the source's file {key} lies in {destination.url} itself, by another name: write"
                " to another place"
            )


def _may_overlap(subject: Subject, root: str) -> bool:
    """Whether a file of the source may lie in a folder, from what all names begin with."""
    if len(subject.source["urls"]) > 1:
        return True
    stem = re.split(r"[{*?\[]", subject.source["urls"][0])[0].partition("://")[2]
    return root.startswith(stem) or stem.startswith(root) or not stem


def _follow_or_plan(
    found: Found, subject: Subject, destination: Destination, request: Request, settings: Settings
) -> tuple[State, Future[None]]:
    """The plan that is there, if it is for the same, else a new one, which is being stored."""

    def make() -> Plan:
        dtype = subject.dtype.newbyteorder("<")
        return plan_for(
            subject, request, make_codec(request.codec, dtype, request.zarr_format).spec
        )

    state = decide(
        found,
        destination,
        request,
        subject.source,
        overwrite=settings.overwrite,
        resume=settings.resume,
        make_plan=make,
    )
    if state is None:
        state = State.planned(make(), request, subject.source, subject.facts)
        cells_in_flight(state.plan, settings.max_bytes)  # refuses what is too little
        if found.has_objects:
            clear(destination)
        return state, engine().fetch(partial(put_sealed, destination, PLAN, state.to_json()))
    cells_in_flight(state.plan, settings.max_bytes)  # refuses what is too little
    stored: Future[None] = Future()
    stored.set_result(None)
    return state, stored


def plan_for(subject: Subject, request: Request, codec: dict[str, Any]) -> Plan:
    """The plan for a subject; the same on every machine."""
    canonical = subject.canonical
    return make_plan(
        canonical.dims,
        canonical.shape,
        subject.dtype.newbyteorder("<"),
        lead_dims=canonical.lead_dims,
        lead_shape=canonical.lead_shape,
        fill_value=subject.fill_value,
        request=request,
        codec=codec,
        cuts=subject.cuts,
        grain=canonical.grain,
    )


def _leave_nothing(destination: Destination, lease: Lease) -> None:
    """Where nothing was planned, nothing shall be left."""
    try:
        if destination.get_json(PLAN) is None:
            lease.forget()
    except (StorageError, CorruptFileError):
        return  # the failure that led here is the one to tell


class _Run:
    """One run of a migration."""

    def __init__(
        self,
        subject: Subject,
        destination: Destination,
        state: State,
        settings: Settings,
        lease: Lease,
        stock: Stock | None,
        storing: Future[None],
    ) -> None:
        self.stock = stock
        """What is there of an earlier run; None where this one is the first."""
        self.subject = subject
        self.destination = destination
        self.state = state
        self.plan = state.plan
        self.settings = settings
        self.lease = lease
        self.contrast = Contrast(state.plan)
        self.tally = Tally(state.plan)
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
        source = None if isinstance(subject.input, DaskInput) else subject.input
        self.job = Job(self.plan, source, destination, lease.view(), state.id)

    def to_the_end(self, began: float) -> Migration:
        """Do all that is left to do."""
        for path in () if self.stock is None else leftovers(self.destination):
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
        is_spoilt = self.stock is None
        for stage in range(len(self.plan.stages)):
            if self.stock is None or is_spoilt:
                todo.append(list(range(self.plan.n_cells(stage))))
                continue
            left, foreign = self._look_through(stage, self.stock)
            todo.append(left)
            if foreign:
                # Cells of later stages may have been made of it.
                is_spoilt = True
                self._take_away(stage, foreign, self.stock)
        return todo

    def _look_through(self, stage: int, stock: Stock) -> tuple[list[int], list[Receipt]]:
        """Cells that are left to do in a stage, and receipts of another plan."""
        done = stock.receipts(stage)
        foreign: list[Receipt] = []
        numbers = (int(n) for n in np.flatnonzero(done))
        for number, receipt in read_receipts(self.destination, stage, numbers):
            if receipt is not None and receipt.plan_id != self.state.id:
                foreign.append(replace(receipt, sources={}, histograms=()))
                done[number] = False
            elif receipt is None or not all(map(stock.has, receipt.objects())):
                done[number] = False
            else:
                self.contrast.add(receipt)
                self.tally.add(receipt)
        return [int(n) for n in np.flatnonzero(~done)], foreign

    def _take_away(self, stage: int, foreign: list[Receipt], stock: Stock) -> None:
        """Delete what a worker of an earlier migration to this place stored late.

        In an order that leaves a sign of it until the last, should this be killed.
        """
        later = [
            receipt_key(each, int(number))
            for each in range(stage + 1, len(self.plan.stages))
            for number in np.flatnonzero(stock.receipts(each))
        ]
        stored = []
        for receipt in foreign:
            cell = self.plan.cell(stage, receipt.number)
            outputs = self.plan.outputs(cell)
            ours = {key for each in outputs for key, _ in objects_of(self.plan, cell, each)}
            stored += [each.key for each in receipt.objects() if each.key in ours]
        for keys in (later, stored, [receipt_key(stage, each.number) for each in foreign]):
            self.lease.check()
            delete_all(self.destination, keys)

    def _do(self, stage: int, numbers: list[int], counter: Counter) -> None:
        size = mean_cell_bytes(self.plan, stage)

        def report(receipt: Receipt) -> None:
            self.contrast.add(receipt)
            self.tally.add(receipt)
            self.n_objects += sum(len(level.objects) for level in receipt.levels)
            self.n_bytes += receipt.n_bytes
            counter.add(size)

        if not numbers:
            return
        settings, client = self.settings, self.settings.client
        source = self.subject.input
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
        n_missing = self.tally.n_missing(stage)
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
                self._asked = self._asking.submit(self.subject.fingerprint)

    def _finish(self) -> None:
        """The metadata: what a reader looks for first comes last."""
        asked = self._asked or self._asking.submit(self.subject.fingerprint)
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
        put_sealed(self.destination, DONE, self.tally.done(self.state.id, found).to_json())
