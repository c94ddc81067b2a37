"""Micro-Manager's image file stacks: several ``…_MMStack….ome.tif``, each with an index map.

Facts: "Micro-Manager Image File Stacks", https://micro-manager.org/Micro-Manager_Image_File_Stacks,
and how tifffile 2026.3.3 reads them.
"""

from __future__ import annotations

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
"""The position of the stage is tifffile's R, which a file that is read alone calls so as well."""


def mmstack_planes(parts: Mapping[str, Part]) -> PlaneTable:
    """The planes of a stack from what its files say.

    Pages of these files are written the same way: the pixels of the first page of a file are where
    its IFD says, those of any other one, which tifffile takes for uncompressed, 162 bytes after
    the start of their IFD. Offsets of 0 stand for images that were never written.

    Parameters
    ----------
    parts : mapping
        By file name the summary metadata, of which the first file's count, and the index map: rows
        of channel, slice, frame, position and offset of the IFD.

    Raises
    ------
    CorruptFileError, LimitError
    """
    if not parts:
        raise CorruptFileError("a Micro-Manager stack without files")
    name, (summary, _) = next(iter(parts.items()))
    if not isinstance(summary, Mapping):
        raise CorruptFileError(f"the summary metadata of {name} are no JSON object")
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
    # Of an index that comes twice numpy keeps the last: the later file, the larger offset.
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


def _index_map(name: str, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """Rows in the order of the file."""
    if rows.ndim != 2 or rows.shape[1] != 5 or rows.dtype.kind not in "iu":
        raise CorruptFileError(f"the index map of {name} has no rows of five integers")
    result = rows.astype(np.int64)
    if (result < 0).any():
        raise CorruptFileError(f"the index map of {name} has an index below zero")
    return result[result[:, 4].argsort(kind="stable")]


def _number(summary: Mapping[str, Any], key: str, name: str) -> int:
    try:
        return int(summary.get(key, 1))
    except (TypeError, ValueError, OverflowError):
        raise CorruptFileError(f"{key} in the summary metadata of {name} is no number") from None


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
