"""`Rounds`: runs of one migration, until its source does not change while it is read."""

from __future__ import annotations

from dataclasses import dataclass

from cloudimg.errors import ChangedError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inventory import Inventory
from cloudimg.migration.journal.lease import Lease
from cloudimg.migration.progress import notify_of
from cloudimg.migration.run.end_check import CellsToRepeatError
from cloudimg.migration.run.options import RunOptions
from cloudimg.migration.run.planning import OpenWriteInput, Planned, plan_again
from cloudimg.migration.run.result import Migration
from cloudimg.migration.run.stages import MigrationRun, Totals

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
        totals, failure = Totals(), ""
        for n_again in range(_MOST_AGAIN + 1):
            if n_again > 0:
                planned = plan_again(planned, self.open_write_input, self.destination)
                inventory = Inventory(self.destination, planned.state.plan)
            try:
                return self._run(planned, inventory, totals, started)
            except ChangedError as exc:
                if planned.write_input.rows is None:
                    raise
                failure = exc.message
        raise ChangedError(
            f"source files are being replaced while they are migrated, {_MOST_AGAIN + 1} times by"
            f" now ({failure}): {self.destination.url} is incomplete. Stop whatever writes"
            " to the source, then run the same migration again to continue it",
            url=self.destination.url,
        )

    def _run(
        self, planned: Planned, inventory: Inventory | None, totals: Totals, started: float
    ) -> Migration:
        """Make a run, and another one where objects that it stored were replaced."""
        try:
            return self._new_run(planned, inventory, totals).run(started)
        except CellsToRepeatError as exc:
            notify_of(self.options.progress, str(exc))
            totals.has_repeated = True
        inventory = Inventory(self.destination, planned.state.plan)
        return self._new_run(planned, inventory, totals).run(started)

    def _new_run(
        self, planned: Planned, inventory: Inventory | None, totals: Totals
    ) -> MigrationRun:
        return MigrationRun(
            write_input=planned.write_input,
            destination=self.destination,
            state=planned.state,
            options=self.options,
            lease=self.lease,
            inventory=inventory,
            plan_put=planned.plan_put,
            totals=totals,
        )
