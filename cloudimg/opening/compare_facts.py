"""Compare what the headers of a grid say of the whole image with what the first one says."""

from __future__ import annotations

from cloudimg.errors import MismatchError
from cloudimg.errors.notes import NoteSums
from cloudimg.opening.header import Index
from cloudimg.opening.header_columns import HeaderColumns
from cloudimg.opening.options import OpenArguments
from cloudimg.reading.agreement import ExpectedFacts, ignored_facts
from cloudimg.reading.layout import Layout


def expected_facts(
    headers: HeaderColumns,
    layout: Layout,
    arguments: OpenArguments,
    *,
    n_files: int,
) -> ExpectedFacts | None:
    """Return what the first header leads one to expect of the others.

    Parameters
    ----------
    headers : HeaderColumns
    layout : Layout
        The layout at level 0, with the lengths of the files.
    arguments : OpenArguments
    n_files : int
        Number of files of the image.

    Returns
    -------
    ExpectedFacts or None
        None if the image begins with the only file, or the first says nothing.
    """
    first, first_index = headers.first, headers.first_index
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
    expected: ExpectedFacts, headers: HeaderColumns, layout: Layout, sums: NoteSums
) -> list[tuple[Index, MismatchError]]:
    """Compare headers that fit the first one otherwise.

    Parameters
    ----------
    expected : ExpectedFacts
    headers : HeaderColumns
    layout : Layout
        The layout at level 0, with the lengths of the files.
    sums : NoteSums
        What differs and may is added to it.

    Returns
    -------
    list of tuple
        Index and error of those with facts that must be the same and are not.
    """
    any_transform, _ = headers.have_transforms
    kinds = {
        number
        for number, kind in enumerate(headers.kinds)
        if any_transform or kind.facts not in (None, expected.facts)
    }
    odd: list[tuple[Index, MismatchError]] = []
    for index, header in headers.items(kinds):
        try:
            sums.add(expected.compare(header.facts, index, header.url, layout), header.url)
        except MismatchError as exc:
            odd.append((index, exc))
    return odd
