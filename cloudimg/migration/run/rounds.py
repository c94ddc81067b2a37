"""`Rounds`: runs of one migration, until its source does not change while it is read."""

from __future__ import annotations

from dataclasses import dataclass

from cloudimg.errors import ChangedError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inventory import Inventory
from cloudimg.migration.journal.lease import Lease
from cloudimg.migration.progress import notify_of
from cloudimg.migration.run.earlier_source import EarlierSource
from cloudimg.migration.run.end_check import CellsToRepeatError
from cloudimg.migration.run.options import RunOptions
from cloudimg.migration.run.planning import OpenWriteInput, Planned, plan_again
from cloudimg.migration.run.result import Migration
from cloudimg.migration.run.stages import MigrationRun

_MOST_AGAIN = 3
"""How often cells are done again because files were replaced."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """Runs of one migration.

    If files were replaced while they were read, the source is opened again, and a further run does
    the cells again that have read them: what a process does that continues after a kill.
    """

    destination: Destination
    options: RunOptions
    lease: Lease
    open_write_input: OpenWriteInput

    def run(self, planned: Planned, inventory: Inventory | None, started: float) -> Migration:
        """Do everything that is left to do.

        Parameters
        ----------
        planned : Planned
        inventory : Inventory, optional
            What earlier runs stored; None if this is the first run.
        started : float
            `time.monotonic()` when the call began.

        Raises
        ------
        ChangedError
            If files are replaced again and again, or no longer form the same image.
        CloudimgError
            If reading or writing fails; finished cells stay finished.
        """
        run = self._start(planned, inventory, None)
        for _ in range(_MOST_AGAIN):
            try:
                return self._run(run, planned, started)
            except ChangedError:
                if planned.write_input.rows is None:
                    raise
            planned = self._plan_again(planned)
            run = self._start(planned, Inventory(self.destination, planned.state.plan), run)
        try:
            return self._run(run, planned, started)
        except ChangedError as exc:
            if planned.write_input.rows is None:
                raise
            failure = exc.with_traceback(None)
        raise ChangedError(
            f"source files are being replaced while they are migrated, {_MOST_AGAIN + 1} times by"
            f" now ({failure.message}): {self.destination.url} is incomplete. Stop whatever writes"
            " to the source, then run the same migration again to continue it",
            url=self.destination.url,
        )

    def _run(self, run: MigrationRun, planned: Planned, started: float) -> Migration:
        """Make a run, and another one where objects that it stored were replaced."""
        try:
            return run.run(started)
        except CellsToRepeatError as exc:
            notify_of(self.options.progress, str(exc))
            again = self._start(planned, Inventory(self.destination, planned.state.plan), run)
        return again.run(started)

    def _plan_again(self, planned: Planned) -> Planned:
        assert planned.write_input.files is not None
        planned.plan_put.result()
        earlier = EarlierSource(planned.state.source, planned.write_input.files())
        return plan_again(planned, self.open_write_input(earlier), self.destination)

    def _start(
        self, planned: Planned, inventory: Inventory | None, before: MigrationRun | None
    ) -> MigrationRun:
        return MigrationRun(
            write_input=planned.write_input,
            destination=self.destination,
            state=planned.state,
            options=self.options,
            lease=self.lease,
            inventory=inventory,
            plan_put=planned.plan_put,
            before=before,
        )
