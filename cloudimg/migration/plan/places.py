"""Which part of a copy a key belongs to, from the plan and the name alone. Pure."""

from __future__ import annotations

from enum import Enum, auto

from cloudimg.migration.plan.overview import is_of_overview
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.plate import is_number, is_number_below

SOURCE_XML = "OME/source"
"""Folder with the OME-XML of the source's files."""
_JOURNAL = ".cloudimg"
COMPANIONS = "companions"
"""Folder with the files beside the images of the source that have metadata."""
NODES = ("zarr.json", ".zarray", ".zgroup")
"""Names by which readers tell what a folder is, in Zarr 3 and 2."""
_CONTAINERS = ("labels", "tables")
"""Groups of others that hold groups of others, https://ngff.openmicroscopy.org/0.5/#labels-md."""


class Place(Enum):
    """Where a key lies in a copy, outside of the journal."""

    CHUNKS = auto()
    """Where readers look for chunks of the copy's arrays."""
    ORIGINALS = auto()
    """In the table of originals."""
    DOCUMENT = auto()
    """Where the copy has metadata, or may have it."""
    NODE = auto()
    """Metadata of another kind in a group or an array of the copy, which readers may take."""
    CONSOLIDATED = auto()
    """Consolidated metadata of a group of the copy in Zarr 2, which readers take."""
    OTHER = auto()
    """Anywhere else: groups, arrays and files of others."""


def place_of(plan: Plan, key: str) -> Place:
    """Where a key lies that is not one of the journal's."""
    *folders, name = key.split("/")
    if folders and folders[0] == "originals":
        return Place.ORIGINALS
    if folders and folders[0] == COMPANIONS:
        return Place.DOCUMENT
    if is_of_overview(plan, key):
        return Place.DOCUMENT
    depth = _depth(plan, folders)
    inner = folders[depth:]
    is_array = depth == _depth_of_images(plan) + 1
    if is_array and _is_of_chunk(plan, [*inner, name]):
        return Place.CHUNKS
    if "/".join(folders) in ("OME", SOURCE_XML) and name.endswith(".ome.xml"):
        return Place.DOCUMENT
    if inner and folders != ["OME"]:
        return Place.OTHER
    return _of_node(plan, name, is_array=is_array)


def is_own_folder(plan: Plan, key: str) -> bool:
    """Whether objects of the copy or its journal lie, or would lie, at a key or in its folder."""
    if key.split("/")[0] in (_JOURNAL, "originals"):
        return True
    inner = ("", "/0", "/c/0", "/zarr.json", "/.zarray", "/.zgroup", "/0.ome.xml")
    return any(place_of(plan, f"{key}{each}") is not Place.OTHER for each in inner)


def _of_node(plan: Plan, name: str, *, is_array: bool) -> Place:
    """Where an object lies that is directly in a group or an array of the copy."""
    if plan.zarr_format == 2 and name == ".zmetadata":
        return Place.CONSOLIDATED
    if plan.zarr_format == 3:
        own: tuple[str, ...] = ("zarr.json",)
    else:
        own = (".zarray" if is_array else ".zgroup", ".zattrs")
    if name in own:
        return Place.DOCUMENT
    return Place.NODE if name in NODES else Place.OTHER


def group_of_others(plan: Plan, key: str) -> tuple[str, bool]:
    """What an object of others belongs to, and whether that is a folder: a group, or the object."""
    parts = key.split("/")
    depth = _depth(plan, parts[:-1])
    n_parts = depth + (2 if parts[depth] in _CONTAINERS else 1)
    return "/".join(parts[:n_parts]), len(parts) > n_parts


def _depth(plan: Plan, folders: list[str]) -> int:
    """How many folders of a path are groups or arrays of the copy."""
    of_image = _depth_of_images(plan)
    if plan.plate is not None:
        depth = plan.plate.depth(folders)
    else:
        depth = int(bool(of_image and folders) and is_number_below(folders[0], plan.n_images))
    is_level = depth == of_image and len(folders) > depth
    return depth + (is_level and is_number_below(folders[depth], len(plan.levels)))


def _depth_of_images(plan: Plan) -> int:
    """How many folders lie above an array and its image's."""
    if plan.plate is not None:
        return 3
    return 1 if plan.lead_dims else 0


def _is_of_chunk(plan: Plan, parts: list[str]) -> bool:
    """Whether a path in an array is, or looks like, that of a chunk.

    Zarr 3: https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html#chunk-key-encoding;
    Zarr 2 separates the numbers by "." or "/".
    """
    if plan.zarr_format == 3:
        return parts[0] == "c"
    return all(is_number(number) for part in parts for number in part.split("."))
