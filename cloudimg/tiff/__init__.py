"""TIFF over given bytes: headers, regions, segments. No module here does I/O."""

from cloudimg.tiff.derived import Derived
from cloudimg.tiff.geometry import Region
from cloudimg.tiff.level import Level, Piece
from cloudimg.tiff.members import Offsets
from cloudimg.tiff.metadata import describe_ome
from cloudimg.tiff.parse import ParseRequest, Template, parse_tiff
from cloudimg.tiff.sparse import SparseFile

__all__ = [
    "Derived",
    "Level",
    "Offsets",
    "ParseRequest",
    "Piece",
    "Region",
    "SparseFile",
    "Template",
    "describe_ome",
    "parse_tiff",
]
