"""Compare what the headers of a grid say of the whole image with what the first one says."""

from __future__ import annotations

from collections.abc import Mapping

from cloudimg.errors import MismatchError
from cloudimg.errors.notes import NoteSums
from cloudimg.opening.header import Header, Index
from cloudimg.opening.options import OpenArguments
from cloudimg.reading.agreement import ExpectedFacts, differing_files, ignored_facts
from cloudimg.reading.layout import Layout


def expected_facts(
    headers: Mapping[Index, Header],
    layout: Layout,
    first_index: Index,
    arguments: OpenArguments,
    *,
    n_files: int,
) -> ExpectedFacts | None:
    """Return what the first header leads one to expect of the others.

    Parameters
    ----------
    headers : mapping
        Headers by index in the grid.
    layout : Layout
        The layout at level 0, with the lengths of the files.
    first_index : tuple of int
    arguments : OpenArguments
    n_files : int
        Number of files of the image.

    Returns
    -------
    ExpectedFacts or None
        None if the image begins with the only file, or the first says nothing.
    """
    first = headers[first_index]
    # A single file may lie beside others that are missing, at another place than the image.
    if first.facts is None or (n_files == 1 and not any(first_index)):
        return None
    return ExpectedFacts(
        facts=first.facts,
        first_url=first.url,
        first_index=first_index,
        file_dims=first.dims,
        ignored=ignored_facts(layout, first.dims),
        allowed=arguments.allowed_differences,
        all_compared=arguments.validate == "all" or len(headers) == n_files,
    )


def compare_facts(
    expected: ExpectedFacts, headers: Mapping[Index, Header], layout: Layout, sums: NoteSums
) -> None:
    """Compare headers that fit the first one otherwise.

    Parameters
    ----------
    expected : ExpectedFacts
    headers : mapping
        Headers by index in the grid.
    layout : Layout
        The layout at level 0, with the lengths of the files.
    sums : NoteSums
        What differs and may is added to it.

    Raises
    ------
    MismatchError
    """
    errors = []
    for index, header in headers.items():
        try:
            sums.add(expected.compare(header.facts, index, header.url, layout), header.url)
        except MismatchError as exc:
            errors.append(exc)
    if errors:
        raise differing_files(errors)
