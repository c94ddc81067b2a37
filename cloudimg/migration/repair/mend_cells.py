"""`CellMender`: mends the cells of a copy that have problems, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

from cloudimg.distributed.run import Client, client_of, run_on_cluster
from cloudimg.errors import CloudimgError
from cloudimg.migration.journal.records import record_key
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.progress import AdvanceCallback, Counter
from cloudimg.migration.repair.mend_cell import (
    MendedCell,
    OriginalSource,
    mend_from_copy,
    mend_from_source,
)
from cloudimg.migration.run.cell import Job
from cloudimg.migration.run.dask_input import DaskInput
from cloudimg.migration.run.local_executor import run_locally
from cloudimg.migration.run.memory import cell_bytes, cells_in_flight, mean_cell_bytes
from cloudimg.migration.verify.findings import Checks
from cloudimg.migration.verify.result import Problem

Work = Callable[[int], MendedCell]


@dataclass(slots=True, kw_only=True)
class CellMender:
    """Mends cells, and knows what became of them."""

    job: Job
    checks: Checks
    open_source: Callable[[], OriginalSource]
    """Called where cells can be made from the source only. Raises a CloudimgError if it is gone, or
    is not to be opened."""
    max_bytes: int
    client: Client | None
    progress: AdvanceCallback | None
    mended: list[str] = field(default_factory=list)
    """Cells that were stored again, and what they were made from."""
    failures: dict[tuple[int, int], str] = field(default_factory=dict)
    """By stage and number, why cells could not be mended."""
    from_source: set[int] = field(default_factory=set)
    """Numbers of the cells of stage 0 that were made from the source."""
    seen: list[set[int]] = field(default_factory=list)
    """By stage, all cells that were to be mended."""

    @property
    def _plan(self) -> Plan:
        return self.job.plan

    def mend(self, cells: Sequence[set[int]]) -> None:
        """Mend cells, by stage: from the copy if it has what they are made of.

        Raises
        ------
        StorageError, LeaseError
        """
        self.seen = [set(numbers) for numbers in cells]
        for stage, numbers in enumerate(cells):
            to_source: set[int] = set()
            work = partial(mend_from_copy, self.job, self.checks, stage)
            self._run(stage, sorted(numbers), work, to_source)
            if to_source:
                self.mend_from_source(to_source)

    def mend_from_source(self, numbers: Collection[int]) -> None:
        """Mend cells of stage 0 from the source.

        Raises
        ------
        StorageError, LeaseError
            That the source cannot be read is not an error: `failures` has it.
        """
        try:
            source = self.open_source()
        except CloudimgError as exc:
            self.failures.update({(0, number): exc.message for number in numbers})
            return
        self.seen[0].update(numbers)
        work = partial(mend_from_source, self.job, self.checks, source)
        is_array = isinstance(source.pixels, DaskInput)
        self._run(0, sorted(numbers), work, set(), is_local=is_array)

    def mend_all_from_source(self) -> None:
        """Make all cells of stage 0 again, and those of later stages that differ from them then.

        Raises
        ------
        StorageError, LeaseError
        """
        self.mend_from_source(set(range(self._plan.n_cells(0))) - self.from_source)
        later = [set(range(self._plan.n_cells(n))) for n in range(1, len(self._plan.stages))]
        seen = self.seen[0]
        self.mend([set(), *later])
        self.seen[0] = seen

    def to_check(self) -> list[set[int]]:
        """By stage, the cells that were mended or found to be right."""
        return [
            {number for number in numbers if (stage, number) not in self.failures}
            for stage, numbers in enumerate(self.seen)
        ]

    def beyond_repair(self) -> list[Problem]:
        """The cells that could not be mended, as problems of the copy."""
        problems = []
        for (stage, number), why in sorted(self.failures.items()):
            cell = self._plan.cell(stage, number)
            output = self._plan.outputs(cell)[0]
            parts = [
                f"{dim} {part.start}:{part.stop}"
                for dim, part in zip(self._plan.dims, output.region, strict=True)
            ]
            first, last = cell.images[0], cell.images[-1]
            images = f"image {first}" if first == last else f"images {first} to {last}"
            which = f"{images}, " if self._plan.n_images > 1 else ""
            what = f"beyond repair ({which}level {output.level}, {', '.join(parts)}): {why}"
            url = self.checks.destination.display(record_key(stage, number))
            problems.append(Problem(url, what, (stage, number)))
        return problems

    def _run(
        self,
        stage: int,
        numbers: Sequence[int],
        work: Work,
        to_source: set[int],
        *,
        is_local: bool = False,
    ) -> None:
        """Mend cells of a stage in one way; those that need the source are added to `to_source`."""
        if not numbers:
            return
        size = mean_cell_bytes(self._plan, stage)
        counter = Counter(
            what="repairing",
            n_cells=len(numbers),
            n_done=0,
            bytes_left=size * len(numbers),
            progress=self.progress,
        )

        def report(done: MendedCell) -> None:
            counter.add(size)
            if done.needs_source:
                to_source.add(done.number)
            elif done.failure:
                self.failures[stage, done.number] = done.failure
            elif done.made_from:
                key = record_key(stage, done.number)
                self.mended.append(f"{key} and its objects, from {done.made_from}")
                if done.made_from == "the source":
                    self.from_source.add(done.number)

        if self.client is None or is_local:
            in_flight = cells_in_flight(self._plan, self.max_bytes)
            run_locally(work, numbers, in_flight=in_flight, report=report)
            return
        run_on_cluster(
            client_of(self.client),
            work,
            numbers,
            step=self.checks.destination.step("repair"),
            max_bytes=self.max_bytes,
            piece_bytes=cell_bytes(self._plan),
            report=report,
        )
