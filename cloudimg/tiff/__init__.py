"""TIFF files from bytes to pixels: headers, levels, regions, segments. No module here does I/O."""

from cloudimg.tiff.dataset_metadata import describe_ome
from cloudimg.tiff.derived import Derived
from cloudimg.tiff.extent import ENDS_EARLY
from cloudimg.tiff.geometry import Region, overlap
from cloudimg.tiff.ifd import REQUEST_BYTES
from cloudimg.tiff.images import (
    FURTHER_IMAGES,
    SLIDES,
    place_among,
    remarks_on,
    surplus_remark,
)
from cloudimg.tiff.level import Level
from cloudimg.tiff.limits import DecodeLimits, check_description, check_ome
from cloudimg.tiff.members import Offsets
from cloudimg.tiff.membership import NDTIFF_INDEX
from cloudimg.tiff.metadata import metadata_remarks
from cloudimg.tiff.parse import parse_tiff
from cloudimg.tiff.parsed import IMAGE, AnyLevel, FileImage, ParsedImage
from cloudimg.tiff.pieces import Piece
from cloudimg.tiff.planning import ROW_GAP_BYTES
from cloudimg.tiff.request import ParseRequest
from cloudimg.tiff.sparse import SparseFile
from cloudimg.tiff.template import Template

__all__ = [
    "ENDS_EARLY",
    "FURTHER_IMAGES",
    "IMAGE",
    "NDTIFF_INDEX",
    "REQUEST_BYTES",
    "ROW_GAP_BYTES",
    "SLIDES",
    "AnyLevel",
    "DecodeLimits",
    "Derived",
    "FileImage",
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
    "metadata_remarks",
    "overlap",
    "parse_tiff",
    "place_among",
    "remarks_on",
    "surplus_remark",
]
