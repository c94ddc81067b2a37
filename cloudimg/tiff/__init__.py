"""TIFF files from bytes to pixels: headers, levels, regions, segments. No module here does I/O."""

from cloudimg.tiff.derived import Derived
from cloudimg.tiff.geometry import Region, overlap
from cloudimg.tiff.level import Level
from cloudimg.tiff.limits import DecodeLimits, check_description, check_ome
from cloudimg.tiff.members import Offsets
from cloudimg.tiff.membership import NDTIFF_INDEX
from cloudimg.tiff.metadata import describe_ome
from cloudimg.tiff.parse import ParseRequest, parse_tiff
from cloudimg.tiff.parsed import AnyLevel, ParsedImage
from cloudimg.tiff.pieces import Piece
from cloudimg.tiff.sparse import SparseFile
from cloudimg.tiff.template import Template

__all__ = [
    "NDTIFF_INDEX",
    "AnyLevel",
    "DecodeLimits",
    "Derived",
    "Level",
    "Offsets",
    "ParseRequest",
    "ParsedImage",
    "Piece",
    "Region",
    "SparseFile",
    "Template",
    "check_description",
    "check_ome",
    "describe_ome",
    "overlap",
    "parse_tiff",
]
