"""What the metadata of a multi-file dataset say of each plane."""

from __future__ import annotations

import math

import numpy as np

from cloudimg.discovery.fact_columns import FactColumns, facts_in
from cloudimg.reading.header_cache import OpenFile
from cloudimg.tiff import describe_planes
from cloudimg.tiff.multifile import PlaneTable


def facts_of_planes(planes: PlaneTable, ome_xml: str, series: int) -> FactColumns:
    """Return what OME-XML says of each plane, by position in C order of the grid.

    Parameters
    ----------
    planes : PlaneTable
    ome_xml : str
        Empty if the dataset has none; `add_first_page` adds what headers say.
    series : int
        Number of the image.
    """
    facts = FactColumns()
    if not ome_xml:
        return facts
    lengths = [length for _, length in planes.numbered_by]
    steps = {
        letter: (length, math.prod(lengths[i + 1 :]))
        for i, (letter, length) in enumerate(planes.numbered_by)
    }
    for at, attrs in describe_planes(ome_xml, planes.name, series):
        if all(0 <= at[letter] < length for letter, (length, _) in steps.items()):
            position = sum(at[letter] * step for letter, (_, step) in steps.items())
            facts.add(position, facts_in(attrs))
    return facts


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
