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
        images = self._plan.cell(0, record.number).images
        n_channels = -(-len(record.histograms) // len(images))
        for i, histogram in enumerate(record.histograms):
            place, channel = divmod(i, n_channels)
            at = images[place], record.first_channel + channel
            others = self._histograms.get(at)
            self._histograms[at] = histogram if others is None else others.merge(histogram)

    def histograms(self) -> Mapping[tuple[int, int], Histogram]:
        """Histograms by image and channel."""
        return dict(sorted(self._histograms.items()))
