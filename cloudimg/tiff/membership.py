"""Membership of a file in a multi-file dataset, from the header of that file."""

from __future__ import annotations

from typing import Any

from cloudimg.tiff.multifile import (
    binary_only,
    mmstack_planes,
    ome_planes,
    ome_planes_of_one_file,
)
from cloudimg.tiff.parsed import DatasetMembership

NDTIFF_INDEX = "NDTiff.index"


def find_membership(tiff: Any, name: str, series: int) -> DatasetMembership | None:
    """Multi-file dataset that a file belongs to, or None if the file holds its whole image.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    name : str
        Name of the file.
    series : int
        Number of the image.

    Raises
    ------
    ArgumentError, CorruptFileError, UnsupportedFormatError, LimitError
    """
    if tiff.is_mmstack and "_MMStack" in name:
        # The index map takes precedence over OME-XML, which some files of a stack lack.
        return _stack(tiff, name)
    if tiff.is_ome:
        xml = tiff.ome_metadata or ""
        companion = binary_only(xml)
        if companion is not None:
            return DatasetMembership(described_by=companion)
        planes = ome_planes(xml, name, series)
        if planes is not None:
            return DatasetMembership(planes, ome_xml=xml)
    if (tiff.micromanager_metadata or {}).get("MajorVersion", 0) >= 2:
        return DatasetMembership(described_by=NDTIFF_INDEX)
    return None


def find_shortfall(tiff: Any, name: str, series: int) -> DatasetMembership | None:
    """The planes of an image that has fewer pages than its OME-XML describes.

    A stopped acquisition is read like a multi-file dataset, some of whose planes are missing.

    Parameters
    ----------
    tiff, name, series
        See `find_membership`.

    Returns
    -------
    DatasetMembership or None
        None if the OME-XML places planes in other files.
    """
    xml = tiff.ome_metadata or ""
    planes = ome_planes_of_one_file(xml, name, series, len(tiff.pages))
    return None if planes is None else DatasetMembership(planes, ome_xml=xml)


def _stack(tiff: Any, name: str) -> DatasetMembership | None:
    """Membership in a Micro-Manager stack; None if this file has all of its planes."""
    metadata = tiff.micromanager_metadata or {}
    if "Summary" not in metadata or "IndexMap" not in metadata:
        return None
    part = (metadata["Summary"], metadata["IndexMap"])
    if (mmstack_planes({name: part}).file_of >= 0).all():
        return None
    return DatasetMembership(described_by=name.partition("_MMStack")[0] + "_MMStack*", part=part)
