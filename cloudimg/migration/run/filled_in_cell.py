"""The files that are missing or bad in one cell."""

from __future__ import annotations

from cloudimg.errors.file_report import BadFile
from cloudimg.migration.run.filled_files import MOST_LISTED
from cloudimg.migration.run.noted_files import NotedFiles


class FilledInCell:
    """The files that are missing or bad in a cell.

    Parameters
    ----------
    noted : NotedFiles
        The other files of the cell.
    """

    def __init__(self, noted: NotedFiles) -> None:
        self._noted = noted
        self._files: dict[tuple[int, ...], BadFile] = {}
        self.bad_indices: set[tuple[int, ...]] = set()
        """Indices of the bad files in the grid."""
        self.n_missing = 0
        """Number of missing files whose first pixel lies in the cell; in a multi-file dataset, the
        first pixel of their first page."""
        self._lacks_expected = False

    def on_bad(self, index: tuple[int, ...], file: BadFile) -> None:
        """Add a file."""
        if file.kind != "missing":
            self.bad_indices.add(index)
            self._files[index] = file
            return
        if self._is_expected(index):
            self.bad_indices.add(index)
            self._lacks_expected = True
            self._files[index] = file
        if self._noted.has_first_pixel(index) and self._noted.is_first_page(index):
            self.n_missing += 1
            if self.n_missing <= MOST_LISTED:
                self._files[index] = file

    @property
    def bad(self) -> list[BadFile]:
        """The bad files in the order of the grid."""
        return [self._files[index] for index in sorted(self.bad_indices)]

    def are_refused(self) -> bool:
        """Whether there are bad files, or files of a list are missing, and are not to be filled."""
        source = self._noted.input
        if source is None or not self.bad_indices:
            return False
        return self._lacks_expected or not source.source.fills_bad

    def _is_expected(self, index: tuple[int, ...]) -> bool:
        """Whether a missing file is one of a list that was not looked up: it is never filled."""
        source = self._noted.input
        return source is not None and source.source.files.is_present(index)

    def files(self) -> tuple[BadFile, ...]:
        """The files in the order of the grid, each once; not more missing ones than are listed."""
        return tuple(dict.fromkeys(self._files[index] for index in sorted(self._files)))
