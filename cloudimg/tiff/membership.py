"""Whether an image is spread over several files, as the header of one of them tells."""

from __future__ import annotations

from typing import Any

from cloudimg.tiff.multifile import binary_only, mmstack_planes, ome_planes
from cloudimg.tiff.parsed import DatasetMembership

NDTIFF_INDEX = "NDTiff.index"


def find_membership(tiff: Any, name: str, series: int) -> DatasetMembership | None:
    """What the header of a file says of other files.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    name : str
        Name of the file.
    series : int
        Which image.

    Raises
    ------
    ArgumentError, CorruptFileError, UnsupportedFormatError, LimitError
    """
    if tiff.is_mmstack and "_MMStack" in name:
        # Its own index is believed before the OME-XML, which not every file of a stack has.
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


def _stack(tiff: Any, name: str) -> DatasetMembership | None:
    """A stack of Micro-Manager of whose planes this file has not all."""
    metadata = tiff.micromanager_metadata or {}
    if "Summary" not in metadata or "IndexMap" not in metadata:
        return None
    part = (metadata["Summary"], metadata["IndexMap"])
    if (mmstack_planes({name: part}).file_of >= 0).all():
        return None
    return DatasetMembership(described_by=name.partition("_MMStack")[0] + "_MMStack*", part=part)
