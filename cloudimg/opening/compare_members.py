"""Compare what the files of a multi-file dataset say of the whole image with what the first says.

The metadata of the dataset are for all files: pixel sizes, times and names are taken from there.
Each file says itself how its pixels are seen and where on Earth they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cloudimg.errors import MismatchError
from cloudimg.errors.notes import Remark
from cloudimg.opening.header import BadHeader, Header, Index
from cloudimg.opening.header_inspection import HeaderInspection
from cloudimg.opening.options import OpenArguments
from cloudimg.reading.agreement import (
    ExpectedFacts,
    differing_facts,
    differing_files,
    without_facts,
)
from cloudimg.reading.file_facts import facts_of
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.layout import Layout


class MembersFacts:
    """Compares the files of a dataset, one after the other, with the first one.

    Parameters
    ----------
    first : Header
    first_index : tuple of int
        Index of its plane in the grid.
    layout : Layout
        The layout at level 0.
    arguments : OpenArguments
    """

    def __init__(
        self, first: Header, first_index: Index, layout: Layout, arguments: OpenArguments
    ) -> None:
        self._layout = layout
        self._odd: list[tuple[Index, MismatchError]] = []
        self._lists_odd = arguments.purpose.lists_odd
        self._expected = expected_of_members(first, first_index, arguments.allowed_differences)

    def compare(self, index: Index, opened: OpenFile) -> tuple[Remark, ...]:
        """Compare a file, given the index of a plane of it; what differs and may is a remark."""
        found = facts_of(opened.parsed.attrs, opened.parsed.coords)
        if self._expected is None or found is None:
            return ()
        found = replace(found, pixel_size=(), others=())
        try:
            return self._expected.compare(found, index, opened.url, self._layout)
        except MismatchError as exc:
            self._odd.append((index, exc))
            return ()

    def odd(self) -> Sequence[BadHeader]:
        """Return the files that say something else than the first one, if they are to be listed.

        Raises
        ------
        MismatchError
            There are some, and they are not.
        """
        if self._odd and not self._lists_odd:
            raise differing_files([error for _, error in self._odd])
        return self._odd


def expected_of_members(
    first: Header, first_index: Index, allowed: tuple[str, ...]
) -> ExpectedFacts | None:
    """What the first file says of all; None if it says nothing. See `MembersFacts`."""
    if first.facts is None:
        return None
    return ExpectedFacts(
        facts=replace(first.facts, pixel_size=(), others=()),
        first_url=first.url,
        first_index=first_index,
        file_dims=first.dims,
        ignored=(),
        allowed=allowed,
        all_compared=True,
    )


def without_differing(inspection: HeaderInspection) -> HeaderInspection:
    """The inspection of a dataset without the attributes of which notes say that they differ."""
    headers = inspection.headers
    names = differing_facts(inspection.notes)
    if not names:
        return inspection
    first = replace(headers.first, attrs=without_facts(headers.first.attrs, names))
    return replace(inspection, headers=headers.with_first(first))
