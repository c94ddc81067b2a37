"""TIFF over given bytes: headers, regions, segments. No module here does I/O."""

from cloudimg.tiff.derived import Derived
from cloudimg.tiff.geometry import Region
from cloudimg.tiff.guard import max_header_bytes, max_segment_bytes
from cloudimg.tiff.level import Level, Piece
from cloudimg.tiff.members import Offsets
from cloudimg.tiff.metadata import describe_ome
from cloudimg.tiff.parse import Request, Template, parse_tiff
from cloudimg.tiff.sparse import SparseFile

__all__ = [
    "Derived",
    "Level",
    "Offsets",
    "Piece",
    "Region",
    "Request",
    "SparseFile",
    "Template",
    "describe_ome",
    "max_header_bytes",
    "max_segment_bytes",
    "parse_tiff",
]
