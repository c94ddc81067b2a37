"""Histograms of all channels, from those in the commit records of cells."""

from __future__ import annotations

from collections.abc import Mapping

from cloudimg.migration.encode.histogram import Histogram
from cloudimg.migration.journal.records import CommitRecord
from cloudimg.migration.plan.plan import Plan


class Contrast:
    """Histograms by image and channel. Commit records can be added in any order."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._histograms: dict[tuple[int, int], Histogram] = {}

    def add(self, record: CommitRecord) -> None:
        """Add the histograms of a cell."""
        if record.stage > 0:
            return
        image = self._plan.cell(0, record.number).image
        for channel, histogram in enumerate(record.histograms, record.first_channel):
            others = self._histograms.get((image, channel))
            merged = histogram if others is None else others.merge(histogram)
            self._histograms[image, channel] = merged

    def histograms(self) -> Mapping[tuple[int, int], Histogram]:
        """Histograms by image and channel."""
        return dict(sorted(self._histograms.items()))
