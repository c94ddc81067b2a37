"""What of a file is parsed, and how."""

from __future__ import annotations

from dataclasses import dataclass

from cloudimg.tiff.limits import DecodeLimits
from cloudimg.tiff.members import Offsets


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseRequest:
    """Which image of a file to parse, and how."""

    series: int
    """Number of the image in the file."""
    ignore_siblings: bool
    """The file is one of many of a grid: even if its OME-XML describes pages of other files, the
    image consists of the pages in the file itself."""
    palette: str
    """``"rgb"`` expands palettes to colours; ``"all"`` converts all colours to RGB of 8 bits."""
    metadata: bool
    """Whether to read attributes and coordinates."""
    only_compared: bool = False
    """Read only attributes that are compared between files. Those that must be the same are in
    small tags; others are left out where their bytes have not been fetched."""
    limits: DecodeLimits
    member: Offsets | None = None
    """For a file of a multi-file dataset: return all pages, numbered this way."""
