"""What the commit records of all finished cells add up to."""

from __future__ import annotations

from cloudimg.migration.journal.inventory import RecordsDigest
from cloudimg.migration.journal.records import CommitRecord
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.contrast import Contrast


class CommittedCells:
    """Contrast limits and digest of all finished cells, of this run and earlier ones."""

    def __init__(self, plan: Plan) -> None:
        self.contrast = Contrast(plan)
        self.records_digest = RecordsDigest(plan)

    def add(self, record: CommitRecord) -> None:
        """Add a finished cell."""
        self.contrast.add(record)
        self.records_digest.add(record)
