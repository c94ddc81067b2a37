"""Files about which something is noticed, and files of the same shape about which nothing is."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import tifffile

COMPANION = "set.companion.ome"
SHAPE = (64, 64)
ODD_TAG, ODD_TYPE = 50_000, 99
_XML = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    f'<BinaryOnly MetadataFile="{COMPANION}" UUID="urn:uuid:0"/></OME>'
)


def write_noted(path: Path, value: int = 0) -> None:
    """A file whose OME-XML is in another file, which does not exist."""
    _write(path, _XML, value)


def write_plain(path: Path, value: int = 0) -> None:
    """A file of the same size with another description."""
    _write(path, " " * len(_XML), value)


def _write(path: Path, description: str, value: int) -> None:
    pixels = np.full(SHAPE, value, np.uint8)
    tifffile.imwrite(path, pixels, photometric="minisblack", description=description, metadata=None)


def make_tag_odd(path: Path) -> None:
    """Give the tag `ODD_TAG` of the first page a type that TIFF does not have."""
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages.first.tags[ODD_TAG].offset
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, offset + 2, ODD_TYPE)
    path.write_bytes(data)
