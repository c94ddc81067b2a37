"""OME-TIFF: images whose OME-XML places planes in several files.

Facts: OME-TIFF specification, "The TiffData element" and "Multi-file OME-TIFF"
(docs.openmicroscopy.org/ome-model/latest/ome-tiff/specification.html), and "6D, 7D and 8D storage"
for modulo axes. Where files differ from it, tifffile 2026.3.3 is followed: what a set is must not
depend on whether its files are one or many.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError, CorruptFileError, LimitError, UnsupportedFormatError
from cloudimg.tiff.multifile.ome_xml import (
    COLUMNS,
    OWN_FILE,
    Along,
    OmeXml,
    PixelsElement,
    read_ome_xml,
    refuse_document_type,
)
from cloudimg.tiff.multifile.planes import (
    MAX_PLANES,
    PlaneTable,
    count_planes,
    followed,
    make_plane_table,
)

_UUID = re.compile(r"<(?:\w+:)?UUID\b")
_BINARY_ONLY = re.compile(r"<(?:\w+:)?BinaryOnly\b")
_ORDERS = {"XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC"}
_IFD, _COUNT, _FILE = (COLUMNS.index(name) for name in ("ifd", "count", "file"))
_MAX_IFD = 2**32
_MODULO_NAMES = {
    "angle": "a",
    "phase": "p",
    "tile": "r",
    "lifetime": "h",
    "lambda": "e",
    "other": "page",
}
"""Names of axes by type: tifffile's letters as `cloudimg.tiff.parse` names them."""

Tables = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class _Stack:
    """The leading axes of an image."""

    letters: str
    """Slowest first."""
    shape: tuple[int, ...]
    samples: int
    """Per pixel of each channel."""
    height: int
    width: int


def binary_only(xml: str) -> str | None:
    """Name of the file that holds the metadata in place of an OME-XML that is binary only.

    Raises
    ------
    CorruptFileError
        It names no file, or one elsewhere.
    """
    refuse_document_type(xml, "a file")
    if not _BINARY_ONLY.search(xml):
        return None
    name = read_ome_xml(xml, "a file").metadata_file
    return None if name is None else followed(name)


def ome_planes(xml: str, own_name: str, index: int) -> PlaneTable | None:
    """The planes of an image, or None where the OME-XML tells of no file but its own.

    Parameters
    ----------
    xml : str
    own_name : str
        Name of the TIFF that holds `xml`, which may have been renamed since; empty where a
        companion file holds it, whose own planes there are none.
    index : int
        Which image, counted as tifffile does: those that name no plane are none.

    Raises
    ------
    ArgumentError
        There are not as many images.
    CorruptFileError, UnsupportedFormatError, LimitError

    Notes
    -----
    A TiffData without PlaneCount and IFD takes all pages of a file that is not here. It is taken
    to reach up to where the next one begins, or to the end; where the file has fewer pages, the
    last of these planes name a page that does not exist.
    """
    of = own_name or "a companion file"
    refuse_document_type(xml, of)
    if own_name and not _UUID.search(xml):
        return None
    document = read_ome_xml(xml, of)
    numbers = _axes_mapping(document, own_name)
    if own_name and not numbers.any():
        return None
    pixels, stack, rows = _choose(document, of, index)
    axes, labels = _axes(stack, pixels, document, of)
    file_of, page_of = _place(rows, stack, of)
    file_of = np.append(numbers, -1)[file_of]
    names = [own_name, *document.files[OWN_FILE + 1 :]]
    for number in np.unique(file_of[file_of >= 0]).tolist():
        if number != OWN_FILE or not own_name:
            names[number] = _sibling(names[number], of)
    plane_shape = (stack.height, stack.width, stack.samples)[: 3 if stack.samples > 1 else 2]
    return make_plane_table(
        axes,
        labels,
        (file_of, page_of),
        names,
        plane=("y", "x", "s")[: len(plane_shape)],
        plane_shape=plane_shape,
        offsets_are="page",
        name=pixels.image.name,
        dtype=None,
    )


def _axes_mapping(document: OmeXml, own_name: str) -> npt.NDArray[np.int32]:
    """By number of a file the number that it goes by: `OWN_FILE` for all that are the own file.

    A name is followed before a UUID: Micro-Manager writes the same OME-XML, and with it the UUID
    of the first file, into all files of a set, and the UUID alone would make each of them the
    first. The UUID of the root tells only a file that was renamed.
    """
    names, uuids = document.files, document.uuids
    numbers = np.arange(len(names), dtype=np.int32)
    if own_name:
        own = [own_name] if own_name in names else _names_of_own(document, own_name)
        numbers[[names.index(name) for name in own]] = OWN_FILE
    nameless = [i for i, name in enumerate(names) if not name and i != OWN_FILE]
    if nameless:
        by_uuid = {uuids[i]: numbers[i] for i, name in enumerate(names) if name and uuids[i]}
        if document.uuid:
            by_uuid.setdefault(document.uuid, np.int32(OWN_FILE))
        for i in nameless:
            numbers[i] = by_uuid.get(uuids[i], i)
    if own_name and len(names) == 2 and OWN_FILE not in document.rows[:, _FILE]:
        numbers[:] = OWN_FILE  # a set of one file is no set, whatever it is called now
    return numbers


def _names_of_own(document: OmeXml, own_name: str) -> list[str]:
    """Names that the own file goes by in the OME-XML, where it is not its name of today."""
    own = [name for name in document.files if name.lower() == own_name.lower()]
    if not own and document.uuid:
        both = zip(document.files, document.uuids, strict=True)
        own = [name for name, uuid in both if name and uuid == document.uuid]
    return own if len(own) == 1 else []  # one UUID for several files tells none


def _sibling(name: str, of: str) -> str:
    """The name of another file of the set, if it may be followed."""
    if not name:
        raise UnsupportedFormatError(
            f"the OME-XML of {of} names no file, or only its UUID, so that every file of the"
            " folder would have to be read to find it"
        )
    return followed(name)


def _choose(
    document: OmeXml, of: str, index: int
) -> tuple[PixelsElement, _Stack, npt.NDArray[np.int64]]:
    """An image, its leading axes and its TiffData.

    TiffData that begin outside the image are dropped, as tifffile does: ImageJ leaves such ones
    when it crops. An image that is left without any is not counted.
    """
    stops = [pixels.start for pixels in document.pixels[1:]] + [len(document.rows)]
    n_images = 0
    for pixels, stop in zip(document.pixels, stops, strict=True):
        if stop == pixels.start:
            continue
        rows = document.rows[pixels.start : stop]
        stack = _stack(pixels, of)
        firsts = rows[:, [COLUMNS.index(letter) for letter in stack.letters]]
        rows = rows[((firsts >= 0) & (firsts < stack.shape)).all(axis=1)]
        if not len(rows):
            continue
        if n_images == index:
            return pixels, stack, rows
        n_images += 1
    raise ArgumentError(f"series={index}, but the OME-XML of {of} has {n_images} images")


def _stack(pixels: PixelsElement, of: str) -> _Stack:
    order = pixels.attrs.get("DimensionOrder", "")
    if order not in _ORDERS:
        raise CorruptFileError(f"the OME-XML of {of} has no DimensionOrder like {order!r:.20}")
    letters = order[:1:-1]
    size = {letter: _size(pixels.attrs, letter, of) for letter in order}
    samples = {_integer(text, "SamplesPerPixel", of) for text in pixels.samples} or {1}
    if len(samples) > 1:
        raise UnsupportedFormatError(
            f"the OME-XML of {of} has channels of different SamplesPerPixel"
        )
    per_pixel = samples.pop()
    # SizeC counts samples, FirstC channels.
    if per_pixel < 1 or size["C"] % per_pixel:
        raise CorruptFileError(
            f"the OME-XML of {of} has {per_pixel} samples per pixel but SizeC={size['C']}"
        )
    size["C"] //= per_pixel
    shape = tuple(size[letter] for letter in letters)
    count_planes(shape, f"the OME-XML of {of}")
    return _Stack(letters, shape, per_pixel, size["Y"], size["X"])


def _size(attrs: Mapping[str, str], letter: str, of: str) -> int:
    size = _integer(attrs.get(f"Size{letter}", ""), f"Size{letter}", of)
    if size < 1:
        raise CorruptFileError(f"the OME-XML of {of} has Size{letter}={size}")
    return size


def _integer(text: str, what: str, of: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise CorruptFileError(
            f"the OME-XML of {of} has no number for {what} but {text[:50]!r}"
        ) from None


def _place(rows: npt.NDArray[np.int64], stack: _Stack, of: str) -> Tables:
    """File number and page of each plane, in the order of the leading axes; the last one counts."""
    if (rows[:, [_IFD, _COUNT]] < 0).any() or rows[:, _IFD].max() > _MAX_IFD:
        raise CorruptFileError(f"the OME-XML of {of} has an IFD or PlaneCount that none can have")
    total = math.prod(stack.shape)
    columns = tuple(rows[:, COLUMNS.index(letter)] for letter in stack.letters)
    starts = np.ravel_multi_index(columns, stack.shape)
    counts = rows[:, _COUNT]
    if counts.max() > MAX_PLANES:
        raise LimitError(
            f"the OME-XML of {of} has a PlaneCount of {counts.max()}; at most {MAX_PLANES}"
            " planes are planned"
        )
    edges = np.append(np.unique(starts), total)
    after = edges[np.searchsorted(edges, starts, side="right")]
    counts = np.where(counts > 0, np.minimum(counts, total - starts), after - starts)
    n_named = int(counts.sum())
    if n_named > MAX_PLANES:
        raise LimitError(
            f"the OME-XML of {of} names pages for {n_named} planes; at most {MAX_PLANES} are"
            " planned"
        )
    file_of, page_of = np.full(total, -1, np.int32), np.zeros(total, np.int64)
    within = np.arange(n_named) - np.repeat(np.cumsum(counts) - counts, counts)
    where = np.repeat(starts, counts) + within
    # Of an index that comes twice numpy keeps the last.
    file_of[where] = np.repeat(rows[:, _FILE], counts)
    page_of[where] = np.repeat(rows[:, _IFD], counts) + within
    return file_of, page_of


def _axes(
    stack: _Stack, pixels: PixelsElement, document: OmeXml, of: str
) -> tuple[list[tuple[str, int]], dict[int, tuple[Any, ...]]]:
    """Names and lengths of the leading axes with modulo axes split off, and labels by number."""
    axes: list[tuple[str, int, Sequence[Any]]] = []
    modulo = document.modulo.get(pixels.image.annotation or "", {})
    for letter, length in zip(stack.letters, stack.shape, strict=True):
        names = pixels.channels if letter == "C" and all(pixels.channels) else []
        along = modulo.get(letter)
        if along is None:
            axes.append((letter.lower(), length, names))
            continue
        labels = _modulo_labels(along, length, of)
        if length != len(labels):
            axes.append((letter.lower(), length // len(labels), []))
        axes.append((_modulo_name(along, of), len(labels), labels))
    return [axis[:2] for axis in axes], {i: tuple(axis[2]) for i, axis in enumerate(axes)}


def _modulo_name(along: Along, of: str) -> str:
    kind = along.attrs.get("Type", "other")
    if kind not in _MODULO_NAMES:
        raise CorruptFileError(f"the OME-XML of {of} has a modulo axis of type {kind!r:.50}")
    return _MODULO_NAMES[kind]


def _modulo_labels(along: Along, length: int, of: str) -> list[Any]:
    """What tells apart the steps of a modulo axis: numbers from Start to End, or texts.

    Raises
    ------
    CorruptFileError
        They do not divide the axis that they are part of.
    """
    attrs = along.attrs
    labels: list[Any] = along.labels
    if "Start" in attrs:
        try:
            start, stop = float(attrs["Start"]), float(attrs["End"])
            step = float(attrs.get("Step", "1"))
            count = math.ceil((stop + step - start) / step)
        except (KeyError, ValueError, ArithmeticError):
            count = 0
        labels = [start + i * step for i in range(count)] if 0 < count <= length else []
    if not labels or length % len(labels):
        raise CorruptFileError(
            f"the OME-XML of {of} splits an axis {along.letter} of {length} by a modulo axis"
            " that does not divide it"
        )
    return labels
