"""`verify`: proof that a copy is whole and right, or a list of what is not."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from dask.utils import format_bytes

from cloudimg.distributed.run import Client, client_of, run_on_cluster
from cloudimg.errors import ArgumentError, CloudimgError, CorruptFileError, NotFoundError
from cloudimg.migration.journal.destination import JOURNAL, Destination
from cloudimg.migration.journal.inventory import DONE, Done, RecordsDigest, read_done
from cloudimg.migration.journal.lease import FOLDER as LEASES
from cloudimg.migration.journal.records import PLAN, cell_of, read_records
from cloudimg.migration.journal.state import State, leftovers
from cloudimg.migration.metadata.documents import documents
from cloudimg.migration.progress import AdvanceCallback, Counter
from cloudimg.migration.run.contrast import Contrast
from cloudimg.migration.run.inputs import Input
from cloudimg.migration.run.local_executor import run_locally
from cloudimg.migration.run.memory import cell_bytes, cells_in_flight, mean_cell_bytes
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.migration.verify.check_cell import Checked, Problem, Proof, check_cell

_MOST_PROBLEMS = 1000
"""Kept to be told; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found."""

    url: str
    n_cells: int
    n_objects: int
    """Shards and chunks that were read."""
    n_bytes: int
    """Bytes that were read of them."""
    n_compared: int
    """Cells whose pixels were compared with the source."""
    n_problems: int
    problems: tuple[Problem, ...]
    """The first thousand of them."""
    seconds: float

    @property
    def is_right(self) -> bool:
        """Whether everything is as it must be."""
        return self.n_problems == 0

    def __bool__(self) -> bool:
        return self.is_right

    def __str__(self) -> str:
        compared = f", {self.n_compared} cells compared with the source" if self.n_compared else ""
        read = f"{self.n_objects} objects, {format_bytes(self.n_bytes)} read{compared}"
        if self.is_right:
            return f"{self.url} is whole and right: {read} in {self.seconds:.1f} s"
        lines = [f"{self.url}: {self.n_problems} problems ({read})"]
        lines += [f"  {problem}" for problem in self.problems]
        if self.n_problems > len(self.problems):
            lines.append(f"  and {self.n_problems - len(self.problems)} more")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Against:
    """What to compare a copy with."""

    write_input: WriteInput
    n_sampled: int | None
    """Cells to compare; None: all."""


def verify(
    destination: Destination,
    state: State,
    against: Against | None,
    *,
    max_bytes: int,
    client: Client | None,
    progress: AdvanceCallback | None,
) -> Verification:
    """Read everything again and hold it against the journal.

    Raises
    ------
    StorageError
        If the store fails; what is wrong with the copy is told in the result.
    """
    return _Verifying(destination, state, against, max_bytes, client, progress).run()


class _Verifying:
    def __init__(
        self,
        destination: Destination,
        state: State,
        against: Against | None,
        max_bytes: int,
        client: Client | None,
        progress: AdvanceCallback | None,
    ) -> None:
        self.destination = destination
        self.state = state
        self.plan = state.plan
        self.against = against
        self.max_bytes = max_bytes
        self.client = client
        self.progress = progress
        self.problems: list[Problem] = []
        self.n_problems = 0
        self.n_objects = self.n_bytes = self.n_compared = 0
        self.contrast = Contrast(state.plan)
        self.records_digest = RecordsDigest(state.plan)
        self.is_whole = True

    def run(self) -> Verification:
        began = time.monotonic()
        done = self._done()
        proof = Proof(self.plan, self.destination, self._source(), self._sample(), self.state.id)
        left = sum(
            mean_cell_bytes(self.plan, stage) * self.plan.n_cells(stage)
            for stage in range(len(self.plan.stages))
        )
        if self.client is not None:
            client_of(self.client)  # before the clock of the progress starts
        counter = Counter("verifying", self.plan.total_cells, 0, left, self.progress)
        for stage in range(len(self.plan.stages)):
            self._stage(proof, stage, counter)
        if done is not None and self.is_whole and done.records != self.records_digest.digest():
            what = "the receipts are not those that the migration ended with"
            self._add(Problem(self.destination.display(DONE), what))
        self._metadata()
        self._strangers()
        return Verification(
            self.destination.url,
            self.plan.total_cells,
            self.n_objects,
            self.n_bytes,
            self.n_compared,
            self.n_problems,
            tuple(self.problems),
            time.monotonic() - began,
        )

    def _add(self, problem: Problem) -> None:
        self.n_problems += 1
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)

    def _done(self) -> Done | None:
        """What the migration said at its end."""
        what = "the migration was not finished"
        try:
            done = read_done(self.destination)
        except CorruptFileError as exc:
            done, what = None, exc.message
        if done is not None:
            if (done.plan_id, done.n_cells) == (self.state.id, self.plan.total_cells):
                return done
            what = "tells of the end of another migration"
        self._add(Problem(self.destination.display(DONE), what))
        return None

    def _source(self) -> Input | None:
        if self.against is None:
            return None
        write_input = self.against.write_input
        for name in ("dims", "shape", "dtype"):
            if write_input.source[name] != self.state.source[name]:
                raise ArgumentError(
                    f"the source to compare with has {name} {write_input.source[name]}, the source"
                    f" of the copy had {self.state.source[name]}"
                )
        # An array that is given is what it is, by whatever name: its pixels are compared.
        is_array = write_input.source["kind"] == "array"
        if not is_array and write_input.source["fingerprint"] != self.state.source["fingerprint"]:
            self._add(Problem(self.destination.url, "the source changed since it was migrated"))
        return write_input.input

    def _sample(self) -> npt.NDArray[np.bool_] | None:
        n_cells = self.plan.n_cells(0)
        if self.against is None or self.against.n_sampled is None:
            return None
        chosen = np.zeros(n_cells, bool)
        chosen[random.sample(range(n_cells), min(n_cells, self.against.n_sampled))] = True
        return chosen

    def _stage(self, proof: Proof, stage: int, counter: Counter) -> None:
        size = mean_cell_bytes(self.plan, stage)
        checked_cells = np.zeros(self.plan.n_cells(stage), bool)

        def report(checked: Checked) -> None:
            checked_cells[checked.number] = True
            for problem in checked.problems:
                self._add(problem)
            self.n_objects += len(checked.keys)
            self.n_bytes += checked.n_bytes
            self.n_compared += checked.compared
            if checked.record is None:
                self.is_whole = False
            else:
                self.contrast.add(checked.record)
                self.records_digest.add_digest(stage, checked.number, checked.digest)
            counter.add(size)

        work = partial(check_cell, proof, stage)
        numbers: Iterable[int] = range(self.plan.n_cells(stage))
        if self.client is None:
            in_flight = cells_in_flight(self.plan, self.max_bytes)
            run_locally(work, numbers, in_flight=in_flight, report=report)
        else:
            run_on_cluster(
                client_of(self.client),
                work,
                numbers,
                max_bytes=self.max_bytes,
                cell_bytes=cell_bytes(self.plan),
                report=report,
            )
        if not checked_cells.all():
            raise CloudimgError(
                f"{int((~checked_cells).sum())} cells were not looked at, though nobody says why:"
                " this is a defect of cloudimg"
            )

    def _metadata(self) -> None:
        """The metadata must be what plan and receipts make of it, to the byte."""
        self.n_documents = 0
        if not self.is_whole:
            return
        for key, expected in documents(self.plan, self.state.facts, self.contrast.limits()):
            self.n_documents += 1
            try:
                if self.destination.get(key) != expected:
                    what = "is not the metadata that was written"
                    self._add(Problem(self.destination.display(key), what))
            except NotFoundError:
                self._add(Problem(self.destination.display(key), "missing"))

    def _strangers(self) -> None:
        """Objects that nobody knows of, which a reader would take for chunks."""
        for path in leftovers(self.destination):
            what = "a leftover of a write that was killed: the same migration again takes it away"
            self._add(Problem(str(path), what))
        listed = []
        for entry in self.destination.list():
            if not entry.key.startswith(f"{JOURNAL}/"):
                listed.append(entry.key)
            elif not self._is_of_journal(entry.key):
                what = "does not belong to the journal"
                self._add(Problem(self.destination.display(entry.key), what))
        if not self.is_whole:
            return
        # Where nothing is missing or misnamed, as many as there should be are the same ones.
        if not self.n_problems and len(listed) == self.n_objects + self.n_documents:
            return
        known = set(self._known())
        for key in listed:
            if key not in known:
                what = "does not belong to the image"
                self._add(Problem(self.destination.display(key), what))

    def _is_of_journal(self, key: str) -> bool:
        is_lease = key.startswith(f"{LEASES}/")
        return key in (PLAN, DONE) or is_lease or cell_of(key, self.plan) is not None

    def _known(self) -> Iterable[str]:
        for stage in range(len(self.plan.stages)):
            numbers = iter(range(self.plan.n_cells(stage)))
            for _, record in read_records(self.destination, stage, numbers):
                if record is not None:
                    yield from (each.key for each in record.objects())
        for key, _ in documents(self.plan, self.state.facts, self.contrast.limits()):
            yield key
