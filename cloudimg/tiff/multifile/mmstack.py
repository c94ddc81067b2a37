"""Micro-Manager's image file stacks: several ``…_MMStack….ome.tif``, each with an index map.

Facts: "Micro-Manager Image File Stacks", https://micro-manager.org/Micro-Manager_Image_File_Stacks,
and tifffile 2026.3.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError
from cloudimg.tiff.multifile.planes import PlaneTable, count_planes, make_plane_table

Part = tuple[Mapping[str, Any], npt.NDArray[np.integer[Any]]]

_COLUMNS = {"C": 0, "Z": 1, "T": 2, "R": 3}
"""Columns of an index map by axis; column 4 is the offset of the image's IFD."""
_LENGTHS = {"C": "Channels", "Z": "Slices", "T": "Frames", "R": "Positions"}
_NAMES = {"C": "c", "Z": "z", "T": "t", "R": "r"}
"""Names of the axes; the stage position is R, as tifffile names it in single files."""


def mmstack_planes(parts: Mapping[str, Part]) -> PlaneTable:
    """Planes of a stack from the index maps of its files.

    The pixels of the first page of a file are where its IFD says. Those of any other page start 162
    bytes after its IFD and are uncompressed, as tifffile assumes too. Offsets of 0 stand for images
    that were never written.

    Parameters
    ----------
    parts : mapping
        Summary metadata and index map by file name. The summary of the first file is used. The
        index map has rows of channel, slice, frame, position and offset of the IFD.

    Raises
    ------
    CorruptFileError, LimitError
    """
    if not parts:
        raise CorruptFileError("the Micro-Manager stack has no files")
    name, (summary, _) = next(iter(parts.items()))
    if not isinstance(summary, Mapping):
        raise CorruptFileError(f"the summary metadata of {name} is not a JSON object")
    maps = [_index_map(name, rows) for name, (_, rows) in parts.items()]
    axes = "TR" if summary.get("TimeFirst", True) else "RT"
    axes += "ZC" if summary.get("SlicesFirst", True) else "CZ"
    rows = np.concatenate(maps)
    files = np.repeat(np.arange(len(maps), dtype=np.int32), [len(each) for each in maps])
    shape = [
        max(int(rows[:, _COLUMNS[axis]].max(initial=0)) + 1, _number(summary, _LENGTHS[axis], name))
        for axis in axes
    ]
    total = count_planes(shape, f"the index map of {name}")
    file_of, page_of = np.full(total, -1, np.int32), np.zeros(total, np.int64)
    written = rows[:, 4] > 0
    rows, files = rows[written], files[written]
    where = np.ravel_multi_index(tuple(rows[:, _COLUMNS[axis]] for axis in axes), shape)
    # numpy keeps the last of several values for one index: the later file, the larger offset.
    file_of[where], page_of[where] = files, rows[:, 4]
    is_rgb = str(summary.get("PixelType", "")).startswith("RGB")
    return make_plane_table(
        [(_NAMES[axis], length) for axis, length in zip(axes, shape, strict=True)],
        {axes.index("C"): _channels(summary)},
        (file_of, page_of),
        list(parts),
        plane=("y", "x", "s") if is_rgb else ("y", "x"),
        plane_shape=_plane_shape(summary, is_rgb),
        offsets_are="directory",
        name=name.partition("_MMStack")[0] if "_MMStack" in name else "",
        dtype=None,
    )


def has_gaps(part: Part) -> bool:
    """Whether the images of a file are not all those between the first and last along each axis."""
    index_map = np.asarray(part[1])
    written = index_map[index_map[:, 4] > 0, :4] if index_map.ndim == 2 else index_map
    if not len(written):
        return True
    lengths = written.max(axis=0).astype(object) - written.min(axis=0) + 1
    return bool(len(np.unique(written, axis=0)) != math.prod(lengths))


def _index_map(name: str, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """Rows of an index map in the order of their offsets."""
    if rows.ndim != 2 or rows.shape[1] != 5 or rows.dtype.kind not in "iu":
        raise CorruptFileError(f"the index map of {name} does not consist of rows of five integers")
    result = rows.astype(np.int64)
    if (result < 0).any():
        raise CorruptFileError(f"the index map of {name} has a negative number")
    return result[result[:, 4].argsort(kind="stable")]


def _number(summary: Mapping[str, Any], key: str, name: str) -> int:
    try:
        return int(summary.get(key, 1))
    except (TypeError, ValueError, OverflowError) as exc:
        raise CorruptFileError(
            f"{key} in the summary metadata of {name} is not an integer"
        ) from exc


def _channels(summary: Mapping[str, Any]) -> tuple[str, ...]:
    names = summary.get("ChNames")
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        return ()
    return tuple(names)


def _plane_shape(summary: Mapping[str, Any], is_rgb: bool) -> tuple[int, ...] | None:
    sizes = (summary.get("Height"), summary.get("Width"))
    if not all(type(size) is int and size > 0 for size in sizes):
        return None
    return (*sizes, 3) if is_rgb else sizes  # type: ignore[return-value]
