"""The report on the files of a multi-file dataset, which counts files and not their planes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from cloudimg.errors import CloudimgError
from cloudimg.errors.file_report import MOST_LISTED, BadFile, FileCounts, FileReport
from cloudimg.storage import Entry
from cloudimg.tiff.multifile import PlaneTable


@dataclass(frozen=True, slots=True)
class MissingMembers:
    """Files of a multi-file dataset that are missing."""

    n_expected: int
    """Number of files that there should be; a plane for which no file is named counts as one."""
    n_missing: int
    """Number of them that are missing."""
    files: tuple[BadFile, ...]
    """The first of them; planes for which no file is named have their labels."""

    def report(self, errors: Iterable[CloudimgError] = (), *, is_complete: bool) -> FileReport:
        """The report on the files of the dataset.

        Parameters
        ----------
        errors : iterable of CloudimgError
            Errors of bad files, of which several may be about the pages of one.
        is_complete : bool
            Whether the headers of all files were read.
        """
        counts = FileCounts()
        counts.add_many("missing", self.n_missing, self.files)
        known: set[str | None] = set()
        for error in errors:
            if error.url is None or error.url not in known:
                counts.add_error(error)
            known.add(error.url)
        return FileReport(n_files=self.n_expected, kinds=counts.kinds(), is_complete=is_complete)


def missing_members(
    planes: PlaneTable, urls: Sequence[str], entries: Sequence[Entry | None]
) -> MissingMembers:
    """Return which files of a dataset are missing.

    Parameters
    ----------
    planes : PlaneTable
    urls : sequence of str
        URLs of the files as they are named.
    entries : sequence of Entry or None
        The files that were found.
    """
    absent = [url for url, entry in zip(urls, entries, strict=True) if entry is None]
    unnamed = np.argwhere(planes.file_of < 0)
    files = [BadFile(url, "missing", "") for url in absent[:MOST_LISTED]]
    for index in islice(unnamed, MOST_LISTED - len(files)):
        labels = (
            f"{dim}={planes.coords[dim][i] if dim in planes.coords else i}"
            for dim, i in zip(planes.dims, index.tolist(), strict=True)
        )
        files.append(BadFile(f"({', '.join(labels)})", "missing", ""))
    return MissingMembers(
        n_expected=len(urls) + len(unnamed),
        n_missing=len(absent) + len(unnamed),
        files=tuple(files),
    )
