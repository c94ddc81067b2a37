"""Compare every file of a multi-file dataset with the first one, as ``validate="all"`` asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.grid import FileGrid
from cloudimg.errors import (
    BadFilesError,
    FormatError,
    MismatchError,
    counted,
    joined_messages,
)
from cloudimg.opening.bad_headers import refuse_not_bad
from cloudimg.opening.compare_members import MembersFacts
from cloudimg.opening.dataset_description import DatasetNotes, read_headers
from cloudimg.opening.dataset_remarks import surplus
from cloudimg.opening.dataset_report import MissingMembers
from cloudimg.opening.header import BadHeader, Header, Index, remarks_of
from cloudimg.opening.header_inspection import HeaderInspection
from cloudimg.opening.identify import is_another
from cloudimg.opening.options import OpenArguments
from cloudimg.opening.plane_facts import add_first_page
from cloudimg.reading.file_task import levels_of
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.identities import Identities
from cloudimg.reading.reader import Reader
from cloudimg.tiff.multifile import PlaneTable

_SHOWN = 3


def validate_members(
    reader: Reader,
    grid: FileGrid,
    planes: PlaneTable,
    first: Header,
    notes: DatasetNotes,
    identities: Identities | None,
    facts: FactColumns | None,
    compared: MembersFacts,
) -> tuple[bool, list[BadHeader], dict[str, str]]:
    """Read every header and compare every page with the first one.

    What headers say of the first page of each file is added to `facts`.

    Returns
    -------
    is_right : bool
        False if a file has the UUID of another one; then other problems do not matter.
    problems : list of BadHeader
        Files and pages that do not fit.
    uuids : dict
        UUIDs in the headers of files, by key.

    Raises
    ------
    MismatchError
        If a file says something else of the whole image than the first one.
    """
    numbers = planes.file_of if grid.present is None else np.where(grid.present, planes.file_of, -1)
    present, firsts = np.unique(numbers.ravel(), return_index=True)
    present, firsts = present[present >= 0], firsts[present >= 0]
    flat = zip(*np.unravel_index(firsts, numbers.shape), strict=True)
    indices = [tuple(int(i) for i in index) for index in flat]
    keys = [reader.store.location.key_of(grid.keys(index)) for index in indices]
    problems: list[BadHeader] = []
    uuids: dict[str, str] = {}
    is_right = True
    headers = read_headers(reader, keys)
    for number, index, key, opened in zip(present, indices, keys, headers, strict=True):
        pages = planes.page_of[numbers == number].tolist()
        at = map(tuple, np.argwhere(numbers == number).tolist())
        problems += _page_problems(opened, dict(zip(pages, at, strict=True)), index, first)
        if isinstance(opened, OpenFile):
            uuids[key] = opened.parsed.uuid
            if facts is not None:
                add_first_page(facts, planes, int(number), opened)
            is_right = is_right and not is_another(opened, index, identities)
            remarks = (*remarks_of(opened), *surplus(planes, index, opened))
            notes.add((*remarks, *compared.compare(index, opened)), opened.url)
    if is_right:
        problems += (
            (tuple(at), error)  # at all planes of the file
            for index, error in compared.odd()
            for at in np.argwhere(numbers == numbers[index]).tolist()
        )
    return is_right, problems, uuids


def accept_problems(
    inspection: HeaderInspection,
    missing: MissingMembers,
    problems: Sequence[BadHeader],
    arguments: OpenArguments,
) -> HeaderInspection:
    """Return the inspection with the files and pages that do not fit, which are filled.

    Raises
    ------
    BadFilesError
        If there are such files or pages, and `arguments.bad` is "raise".
    """
    errors = [error for _, error in problems]
    if errors and arguments.bad != "fill":
        shown = joined_messages(errors, _SHOWN)
        error = BadFilesError(
            f"{counted(len(errors), 'page or file does', 'pages or files do')} not fit the"
            f" multi-file dataset: {shown}"
        )
        error.report = missing.report(errors, is_complete=True)
        raise error
    refuse_not_bad(errors)
    return replace(inspection, bad=tuple(problems))


def _page_problems(
    opened: OpenFile | FormatError, pages: Mapping[int, Index], index: Index, first: Header
) -> Iterator[BadHeader]:
    """Yield what is wrong with a file or with some of its pages, by the index of a plane."""
    if isinstance(opened, FormatError):
        yield index, opened
        return
    try:
        for page in pages:
            levels = levels_of(opened, page)
            shapes = tuple(level.shape[1:] for level in levels)
            if (shapes, levels[0].dtype) != (first.shapes, first.dtype):
                error = MismatchError(
                    f"page {page} of {opened.url} has shapes {shapes}", url=opened.url
                )
                yield pages[page], error
    except FormatError as exc:
        yield index, exc
