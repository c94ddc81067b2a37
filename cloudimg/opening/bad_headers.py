"""Files that turn out to be bad when their headers are read: policy and report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

from cloudimg.discovery.grid import FileGrid
from cloudimg.errors import (
    BadFilesError,
    CloudimgError,
    FormatError,
    NotFoundError,
    counted,
    joined_messages,
)
from cloudimg.errors.file_report import (
    MOST_LISTED,
    OTHER_THAN_FIRST,
    BadFile,
    FileCounts,
    FileReport,
)
from cloudimg.opening.header import BadHeader, Header, Index
from cloudimg.opening.header_columns import HeaderColumns
from cloudimg.opening.read_headers import HeaderOrError, open_at, read_header
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.layout import Layout
from cloudimg.reading.reader import Reader
from cloudimg.storage import engine

_SHOWN = 10
_FILLS = (("missing", True), ("bad", False))
"""Which argument fills the pixels of files that are missing, and which of others."""
_MOST_SPARES = 256
"""Files that are tried in place of one whose header does not serve."""


def open_first(
    reader: Reader,
    grid: FileGrid,
    *,
    tolerates_bad: bool,
    tolerates_missing: bool = False,
    tries_all: bool = False,
) -> tuple[Index, OpenFile, list[BadHeader]]:
    """Read the header of the first file; if bad files are tolerated, of the first that is not bad.

    Parameters
    ----------
    reader, grid, tolerates_bad
    tolerates_missing : bool
        Whether files that turn out to be missing are tolerated, if no other bad ones are.
    tries_all : bool
        Look for a good file among all, not among the first ones alone.

    Returns
    -------
    index : tuple of int
    opened : OpenFile
    bad : list of BadHeader
        Those of the files before it.

    Raises
    ------
    StorageError, FormatError
    """
    bad: list[BadHeader] = []
    for index in islice(grid.files(), None if tries_all else _MOST_SPARES):
        read = partial(open_at, reader, grid, index)
        try:
            # In a fetching thread, so that Ctrl-C interrupts this one.
            return index, engine().fetch(read).result(), bad
        except (FormatError, NotFoundError) as exc:
            is_tolerated = tolerates_bad or (tolerates_missing and exc.bad_file == "missing")
            if not is_tolerated or exc.bad_file is None:
                raise
            bad.append((index, exc))
    raise bad[0][1]


def spare_headers(
    reader: Reader,
    grid: FileGrid,
    layout: Layout,
    known: HeaderColumns,
    errors: Sequence[BadHeader],
) -> Iterator[tuple[Index, HeaderOrError]]:
    """Yield headers that give the length of the last files along an axis, where none is known.

    Files at the edge of a mosaic may be shorter than others, and the one whose header should have
    given their length is bad. Without `errors`, none is read.
    """
    if not errors:
        return
    for axis in layout.axes:
        if axis.field is None or axis.is_stacked or axis.count == 1:
            continue
        field, last = axis.field, axis.count - 1
        if any(known.index_at(place)[field] == last for place in range(len(known))):
            continue
        at_edge = (index for index in grid.files() if index[field] == last)
        for index in islice(at_edge, 1, _MOST_SPARES):
            header = read_header(reader, grid, index)
            yield index, header
            if isinstance(header, Header) and header.dtype == known.first.dtype:
                break


def refuse_not_bad(errors: Iterable[CloudimgError]) -> None:
    """Raise the first error that is not about a bad file, such as that of a limit.

    Raises
    ------
    CloudimgError
    """
    for error in errors:
        if error.bad_file is None:
            raise error


def report_on_files(
    grid: FileGrid,
    errors: Iterable[CloudimgError] = (),
    *,
    n_excluded: int = 0,
    is_complete: bool,
) -> FileReport:
    """Return the report on the files of a grid.

    Parameters
    ----------
    grid : FileGrid
    errors : iterable of CloudimgError
        One error for each bad file.
    n_excluded : int
        Number of files that the user left out.
    is_complete : bool
        Whether the headers of all files were read.
    """
    counts = FileCounts()
    missing = (BadFile(text, "missing", "") for text in grid.missing_examples(MOST_LISTED))
    counts.add_many("missing", grid.n_missing, missing)
    for error in errors:
        counts.add_error(error)
    return FileReport(
        n_files=math.prod(grid.shape),
        kinds=counts.kinds(),
        n_excluded=n_excluded,
        is_complete=is_complete,
    )


def bad_files(errors: list[CloudimgError], n_files: int, report: FileReport) -> BadFilesError:
    """The error for files that do not form one image."""
    files = counted(
        len(errors), f"of {n_files} files does not fit", f"of {n_files} files do not fit"
    )
    n_other = sum(error.bad_file in OTHER_THAN_FIRST for error in errors)
    is_missing = {error.bad_file == "missing" for error in errors}
    fill = [f'{name}="fill"' for name, is_one in _FILLS if is_one in is_missing]
    advice = (
        f"Leave them out with exclude=, or pass {' and '.join(fill)} to read their pixels as the"
        " fill value"
    )
    if 2 * n_other > n_files:
        advice = "Most files differ from the first one: leave that one out with exclude="
    error = BadFilesError(f"{files} the grid: {joined_messages(errors, _SHOWN)}. {advice}")
    error.report = report
    return error
