"""Contrast limits of all channels, gathered from the receipts of cells as they come."""

from __future__ import annotations

from collections.abc import Mapping

from cloudimg.migration.encode.histogram import Histogram
from cloudimg.migration.journal.records import CommitRecord
from cloudimg.migration.plan.plan import Plan

ContrastLimits = tuple[float, float, float, float]
"""Start, end, least and greatest value."""


class Contrast:
    """Histograms by image and channel. The order in which receipts come does not matter."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._of: dict[tuple[int, int], Histogram] = {}

    def add(self, record: CommitRecord) -> None:
        """Count what a cell saw."""
        if record.stage > 0:
            return
        image = self._plan.cell(0, record.number).image
        for channel, found in enumerate(record.histograms, record.first_channel):
            before = self._of.get((image, channel))
            self._of[image, channel] = found if before is None else before.merge(found)

    def limits(self) -> Mapping[tuple[int, int], ContrastLimits]:
        """By image and channel."""
        return {place: found.limits() for place, found in sorted(self._of.items())}
