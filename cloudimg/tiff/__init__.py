"""TIFF over given bytes: headers, regions, segments. No module here does I/O."""

from cloudimg.tiff.geometry import Region
from cloudimg.tiff.level import Level, Piece
from cloudimg.tiff.parse import ParsedTiff, Template, parse_tiff
from cloudimg.tiff.sparse import SparseFile

__all__ = ["Level", "ParsedTiff", "Piece", "Region", "SparseFile", "Template", "parse_tiff"]
