"""What the metadata of a multi-file dataset say of each plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.facts_of_attributes import facts_in
from cloudimg.reading.header_cache import OpenFile
from cloudimg.tiff.flavours.planes import PlaneColumns
from cloudimg.tiff.multifile import PlaneTable
from cloudimg.tiff.variation import with_silent_steps

_OF_IMAGE = ("acquired", "acquired_offset", "objective", "magnification")
"""Facts that OME-XML says of the image, for all planes."""


def facts_of_planes(
    planes: PlaneTable, found: PlaneColumns | None, shared: Mapping[str, Any]
) -> FactColumns:
    """Return what OME-XML says of each plane, by position in C order of the grid.

    Planes that it does not name are like those of which nothing was read; see `add_silent_steps`.

    Parameters
    ----------
    planes : PlaneTable
    found : PlaneColumns, optional
        None if it says nothing.
    shared : mapping
        Attributes of the image.
    """
    facts = FactColumns()
    if found is None:
        return facts
    letters, lengths = zip(*planes.numbered_by, strict=True)
    at = np.array([found.at[letter] for letter in letters]).reshape(len(letters), -1)
    is_inside = ((at >= 0) & (at < np.array(lengths)[:, np.newaxis])).all(0)
    positions = np.ravel_multi_index(tuple(at[:, is_inside]), lengths)
    columns = {name: column[is_inside] for name, column in found.columns.items()}
    of_image = {name: value for name, value in facts_in(shared).items() if name in _OF_IMAGE}
    columns |= {name: np.full(len(positions), value) for name, value in of_image.items()}
    facts.add_columns(positions, columns)
    return facts


def add_silent_steps(facts: FactColumns | None, shape: Sequence[int]) -> None:
    """Add the planes of those steps along an axis of which no plane is known.

    A channel of which nothing is said is not taken for one that is like the others.

    Parameters
    ----------
    facts : FactColumns, optional
        What is known of the planes of a dataset; None if nothing is.
    shape : sequence of int
        Lengths of the axes of the grid.
    """
    if facts is None or not len(facts):
        return
    is_known = np.zeros(shape, bool)
    is_known.ravel()[facts.rows] = True
    facts.add_columns(np.flatnonzero(with_silent_steps(is_known) & ~is_known), {})


def add_first_page(facts: FactColumns, planes: PlaneTable, number: int, opened: OpenFile) -> None:
    """Add what the header of a file says of its first page, if the page is one of the planes.

    Parameters
    ----------
    facts : FactColumns
    planes : PlaneTable
        Planes of a dataset without OME-XML.
    number : int
        Number of the file in `planes`.
    opened : OpenFile
    """
    is_first = (planes.file_of == number) & (planes.page_of == opened.parsed.first_page)
    for position in np.flatnonzero(is_first):
        facts.add(int(position), facts_in(opened.parsed.attrs))
