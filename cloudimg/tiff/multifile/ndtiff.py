"""NDTiff datasets: an ``NDTiff.index`` beside the TIFFs holds the location of every image.

Facts: "Specification for NDTiff v3.x" in the README of github.com/micro-manager/NDStorage; the
index file of version 2 is the same.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError, LimitError, UnsupportedFormatError
from cloudimg.tiff.multifile.planes import (
    MAX_PLANES,
    PlaneTable,
    checked_path,
    count_planes,
    make_plane_table,
)

_NAMES = {"time": "t", "channel": "c"}
_MONO, _RGB = (), (3,)
_PIXEL_TYPES: Mapping[int, tuple[str, tuple[int, ...]]] = {
    0: ("uint8", _MONO),
    1: ("uint16", _MONO),
    2: ("uint8", _RGB),
    3: ("uint16", _MONO),  # 10 bits
    4: ("uint16", _MONO),  # 12 bits
    5: ("uint16", _MONO),  # 14 bits
    6: ("uint16", _MONO),  # 11 bits; not in the specification, but in its implementations
}
"""Type and shape of a pixel by code."""
_LENGTH = struct.Struct("<I")
_TAIL_BYTES = 32
"""Size of the eight numbers at the end of an entry."""
_OFFSET, _WIDTH, _HEIGHT, _PIXEL_TYPE, _COMPRESSION = range(5)
_BATCH = 2**14
"""Number of texts parsed by one call: a call for each takes twice as long."""


@dataclass(slots=True, kw_only=True)
class _Columns:
    """The entries of an index file, by column."""

    dims: tuple[str, ...] = ()
    positions: list[npt.NDArray[np.int64]] = field(default_factory=list)
    """Positions along the axes, by batch; an entry is a row."""
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    """Numbers of positions that are texts, by axis and text, in the order of their first entry."""
    names: dict[bytes, int] = field(default_factory=dict)
    """Number of each file name, in the order of their first entry."""
    files: list[int] = field(default_factory=list)
    """File number of each entry."""
    tails: bytearray = field(default_factory=bytearray)
    """The numbers at the end of each entry."""


def ndtiff_planes(index: bytes) -> PlaneTable:
    """Planes of a dataset from its index file.

    Axes are in tifffile's order: the one whose position changes least from entry to entry comes
    first. Numeric positions that do not start at zero become coordinates.

    Raises
    ------
    CorruptFileError, UnsupportedFormatError, LimitError
    """
    columns = _read(index)
    positions = np.concatenate(columns.positions)
    tails = np.frombuffer(bytes(columns.tails), "<u4").reshape(-1, _TAIL_BYTES // 4)
    dtype, plane_shape = _pixels(tails)
    low = positions.min(axis=0)
    lengths = [
        int(last) - int(first) + 1 for first, last in zip(low, positions.max(axis=0), strict=True)
    ]
    total = count_planes(lengths, "the index of an NDTiff dataset")
    order = _storage_order(positions - low, lengths)
    shape = [lengths[i] for i in order]
    where = _flat((positions - low)[:, order], shape)
    file_of, page_of = np.full(total, -1, np.int32), np.zeros(total, np.int64)
    # An image that was overwritten has several entries; numpy keeps the last.
    file_of[where], page_of[where] = columns.files, tails[:, _OFFSET]
    names = [checked_path(_text(name)) for name in columns.names]
    return make_plane_table(
        [(_NAMES.get(columns.dims[i], columns.dims[i]) or "page", lengths[i]) for i in order],
        {at: _labels(columns, i, int(low[i]), lengths[i]) for at, i in enumerate(order)},
        (file_of, page_of),
        names,
        plane=("y", "x", "s")[: len(plane_shape)],
        plane_shape=plane_shape,
        offsets_are="pixels",
        name=names[0].partition("_NDTiffStack")[0] if "_NDTiffStack" in names[0] else "",
        dtype=dtype,
    )


def _read(index: bytes) -> _Columns:
    """Read all entries: two texts, each after its length, and eight numbers."""
    columns, texts, at = _Columns(), [], 0
    while at < len(index):
        try:
            (length,) = _LENGTH.unpack_from(index, at)
            if length == 0 and not index[at:].strip(b"\0"):
                break  # allocated by a writer that was stopped
            texts.append(index[at + 4 : at + 4 + length])
            at += 4 + length
            (length,) = _LENGTH.unpack_from(index, at)
        except struct.error as exc:
            raise _truncated(len(columns.files)) from exc
        name = index[at + 4 : at + 4 + length]
        columns.files.append(columns.names.setdefault(name, len(columns.names)))
        at += 4 + length + _TAIL_BYTES
        if at > len(index):
            raise _truncated(len(columns.files) - 1)
        columns.tails += index[at - _TAIL_BYTES : at]
        if len(texts) == _BATCH:
            _add_positions(columns, texts)
            texts = []
            if len(columns.files) > MAX_PLANES:
                raise LimitError(
                    f"the index of an NDTiff dataset has more than {MAX_PLANES} entries"
                )
    _add_positions(columns, texts)
    if not columns.files:
        raise CorruptFileError("the index of an NDTiff dataset has no entry")
    return columns


def _truncated(entry: int) -> CorruptFileError:
    return CorruptFileError(f"the index of an NDTiff dataset ends within entry {entry}")


def _add_positions(columns: _Columns, texts: Sequence[bytes]) -> None:
    """Parse a batch of positions: JSON objects that all have the same axes."""
    if not texts:
        return
    entries = _objects(texts)
    if not columns.positions:
        columns.dims = tuple(entries[0])
        columns.labels = {dim: {} for dim, at in entries[0].items() if isinstance(at, str)}
    dims = columns.dims
    if any(len(entry) != len(dims) for entry in entries):
        raise _different_axes(dims)
    result = np.zeros((len(entries), len(dims)), np.int64)
    for i, dim in enumerate(dims):
        try:
            result[:, i] = _numbers([entry[dim] for entry in entries], columns.labels.get(dim), dim)
        except KeyError as exc:
            raise _different_axes(dims) from exc
        except OverflowError as exc:
            raise CorruptFileError(
                f"the axis {dim!r} of an NDTiff dataset has a position beyond 64 bits"
            ) from exc
    columns.positions.append(result)


def _objects(texts: Sequence[bytes]) -> list[dict[str, Any]]:
    """Parse a batch of JSON objects."""
    try:
        entries = json.loads(b"[" + b",".join(texts) + b"]")
    except (ValueError, RecursionError) as exc:
        raise CorruptFileError(
            "the index of an NDTiff dataset has a position that is not valid JSON"
        ) from exc
    if len(entries) != len(texts) or set(map(type, entries)) != {dict}:
        raise CorruptFileError(
            "the index of an NDTiff dataset has a position that is not a JSON object"
        )
    return entries  # type: ignore[no-any-return]


def _numbers(values: list[Any], labels: dict[str, int] | None, dim: str) -> list[int]:
    """Positions along an axis; texts are numbered in the order of their first entry."""
    if set(map(type, values)) != {int if labels is None else str}:
        raise CorruptFileError(
            f"the axis {dim!r} of an NDTiff dataset has positions that are not all"
            f" {'numbers' if labels is None else 'texts'}"
        )
    if labels is None:
        return values
    return [labels.setdefault(value, len(labels)) for value in values]


def _different_axes(dims: Sequence[str]) -> UnsupportedFormatError:
    return UnsupportedFormatError(
        f"some images of an NDTiff dataset have other axes than the first one ({', '.join(dims)})"
    )


def _pixels(tails: npt.NDArray[np.uint32]) -> tuple[str, tuple[int, ...]]:
    """Type and shape of the images, which must be the same for all."""
    if tails[:, _COMPRESSION].any():
        raise UnsupportedFormatError(
            "compressed NDTiff images are not supported: the format defines no compression"
        )
    kinds = np.unique(tails[:, [_HEIGHT, _WIDTH, _PIXEL_TYPE]], axis=0)
    if len(kinds) > 1:
        raise UnsupportedFormatError(
            f"the images of an NDTiff dataset differ in size or pixel type ({len(kinds)} kinds)"
        )
    height, width, code = (int(n) for n in kinds[0])
    if not (0 < height < 2**31 and 0 < width < 2**31):
        raise CorruptFileError(f"an NDTiff dataset has images of {width} x {height} pixels")
    if code not in _PIXEL_TYPES:
        raise UnsupportedFormatError(f"NDTiff images have the unknown pixel type {code}")
    dtype, samples = _PIXEL_TYPES[code]
    return dtype, (height, width, *samples)


def _storage_order(positions: npt.NDArray[np.int64], lengths: Sequence[int]) -> list[int]:
    """Axes by how much their positions change from entry to entry, least first."""
    # An image that was overwritten counts where it was first.
    firsts = np.sort(np.unique(_flat(positions, lengths), return_index=True)[1])
    changes = np.abs(np.diff(positions[firsts], axis=0)).sum(axis=0)
    return [int(i) for i in np.argsort(changes, kind="stable")]


def _flat(positions: npt.NDArray[np.int64], shape: Sequence[int]) -> npt.NDArray[np.int64]:
    """Numbers of images in C order; a dataset without axes has a single image."""
    if not shape:
        return np.zeros(len(positions), np.int64)
    return np.asarray(np.ravel_multi_index(tuple(positions.T), shape), np.int64)


def _labels(columns: _Columns, axis: int, low: int, length: int) -> tuple[Any, ...]:
    texts = columns.labels.get(columns.dims[axis])
    if texts is not None:
        return tuple(texts)
    return tuple(range(low, low + length)) if low else ()


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as exc:
        raise CorruptFileError(
            "the index of an NDTiff dataset has a file name that is not UTF-8"
        ) from exc
