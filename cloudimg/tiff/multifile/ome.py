"""OME-TIFF: images whose OME-XML places planes in several files.

Facts: OME-TIFF specification, "The TiffData element" and "Multi-file OME-TIFF"
(docs.openmicroscopy.org/ome-model/latest/ome-tiff/specification.html), and "6D, 7D and 8D storage"
for modulo axes. Where files deviate from it, this module does as tifffile 2026.3.3, so that an
image is the same whether it is stored in one file or in several.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import (
    ArgumentError,
    CorruptFileError,
    LimitError,
    UnsupportedFormatError,
    counted,
)
from cloudimg.tiff.markup import Element, child, children, refuse_document_type
from cloudimg.tiff.multifile.planes import (
    MAX_PLANES,
    PlaneTable,
    checked_path,
    count_planes,
    make_plane_table,
)
from cloudimg.tiff.ome_xml import COLUMNS, OWN_FILE, OmeDocument, labels_of, read_ome_xml

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
"""Axis names by modulo type: tifffile's letters as `cloudimg.tiff.parse` names them."""

Tables = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _OmeImage:
    """An image of an OME-XML and its leading axes."""

    image: Element
    pixels: Element
    letters: str
    """Letters of the leading axes, slowest first."""
    shape: tuple[int, ...]
    """Lengths of the leading axes."""
    samples: int
    """Samples per pixel of each channel."""
    height: int
    width: int


def binary_only(xml: str) -> str | None:
    """Name of the file that holds the metadata if this OME-XML is a BinaryOnly reference to it.

    Raises
    ------
    CorruptFileError
        The reference has no file name, or one outside its own folder.
    """
    document = _read(xml, "a file", required=_BINARY_ONLY)
    references = children(document.root, "BinaryOnly") if document is not None else []
    return checked_path(references[-1].get("MetadataFile", "")) if references else None


def ome_planes(xml: str, own_name: str, index: int) -> PlaneTable | None:
    """Planes of an image, or None if all of them are in the file that holds the OME-XML.

    Parameters
    ----------
    xml : str
    own_name : str
        Name of the TIFF that holds `xml`, which may have been renamed since; empty for a companion
        file, which has no planes of its own.
    index : int
        Number of the image, counted as tifffile counts: images without planes are skipped.

    Raises
    ------
    ArgumentError
        There are not that many images.
    CorruptFileError, UnsupportedFormatError, LimitError

    Notes
    -----
    A TiffData without PlaneCount and IFD takes all pages of a file, whose number is not known here.
    It is taken to extend to the start of the next one, or to the end; if the file has fewer pages,
    the last of these planes refer to pages that do not exist.
    """
    source = own_name or "a companion file"
    document = _read(xml, source, required=_UUID if own_name else None)
    if document is None:
        return None
    numbers = _file_numbers(document, own_name)
    if own_name and not numbers.any():
        return None
    image, rows = _choose(document, source, index)
    axes, labels = _axes(image, document, source)
    file_of, page_of = _place(rows, image, source)
    file_of = np.append(numbers, -1)[file_of]
    names = [own_name, *document.files[OWN_FILE + 1 :]]
    for number in np.unique(file_of[file_of >= 0]).tolist():
        if number != OWN_FILE or not own_name:
            names[number] = _member_path(names[number], source)
    plane_shape = (image.height, image.width, image.samples)[: 3 if image.samples > 1 else 2]
    return make_plane_table(
        axes,
        labels,
        (file_of, page_of),
        names,
        plane=("y", "x", "s")[: len(plane_shape)],
        plane_shape=plane_shape,
        offsets_are="page",
        name=image.image.get("Name", ""),
        dtype=None,
    )


def _read(xml: str, source: str, *, required: re.Pattern[str] | None) -> OmeDocument | None:
    """Read a document; None if `required`, which is faster to look for, does not occur in it."""
    try:
        refuse_document_type(xml)
        if required is not None and not required.search(xml):
            return None
        return read_ome_xml(xml, tiff_data=True)
    except ValueError as exc:
        raise CorruptFileError(f"the OME-XML of {source} cannot be read: {exc}"[:300]) from exc


def _file_numbers(document: OmeDocument, own_name: str) -> npt.NDArray[np.int32]:
    """File numbers by file number, where entries for the same file are merged into one.

    The file that holds the XML becomes `OWN_FILE`. It is recognized by its name rather than by the
    UUID of the root: Micro-Manager writes the same OME-XML, with the UUID of the first file, into
    all files of a dataset. The UUID only identifies a file that was renamed.
    """
    names = document.files
    root_uuid = document.root.get("UUID", "").strip()
    numbers = np.arange(len(names), dtype=np.int32)
    if own_name:
        own = [own_name] if own_name in names else _former_names(document, root_uuid, own_name)
        numbers[[names.index(name) for name in own]] = OWN_FILE
    _merge_nameless(numbers, document, root_uuid)
    if own_name and len(names) == 2 and OWN_FILE not in document.rows[:, _FILE]:
        numbers[:] = OWN_FILE  # the only file that is named must be this one, which was renamed
    return numbers


def _merge_nameless(numbers: npt.NDArray[np.int32], document: OmeDocument, root_uuid: str) -> None:
    """Give files without a name the number of the file with the same UUID."""
    both = list(enumerate(zip(document.files, document.uuids, strict=True)))
    by_uuid = {uuid: numbers[i] for i, (name, uuid) in both if name and uuid}
    if root_uuid:
        by_uuid.setdefault(root_uuid, np.int32(OWN_FILE))
    for i, (name, uuid) in both:
        if not name and i != OWN_FILE:
            numbers[i] = by_uuid.get(uuid, i)


def _former_names(document: OmeDocument, root_uuid: str, own_name: str) -> list[str]:
    """The name that the OME-XML gives to the file that holds it, if it was renamed since."""
    names = [name for name in document.files if name.lower() == own_name.lower()]
    if not names and root_uuid:
        both = zip(document.files, document.uuids, strict=True)
        names = [name for name, uuid in both if name and uuid == root_uuid]
    return names if len(names) == 1 else []  # a UUID that several files share identifies none


def _member_path(name: str, source: str) -> str:
    """Path of another file of the dataset, relative to the folder of `source`."""
    if not name:
        raise UnsupportedFormatError(
            f"the OME-XML of {source} does not name a file, or gives only its UUID; finding it"
            " would take reading every file of the folder"
        )
    return checked_path(name)


def _choose(
    document: OmeDocument, source: str, index: int
) -> tuple[_OmeImage, npt.NDArray[np.int64]]:
    """An image and its rows of TiffData.

    TiffData that start outside the image are dropped, as tifffile does: ImageJ leaves such ones
    when it crops. An image that has none left is not counted.
    """
    elements = [
        (image, pixels)
        for image in children(document.root, "Image")
        for pixels in children(image, "Pixels")
    ]
    stops = [*document.first_rows[1:], len(document.rows)]
    n_images = 0
    for (image, pixels), start, stop in zip(elements, document.first_rows, stops, strict=True):
        if stop == start:
            continue
        rows = document.rows[start:stop]
        candidate = _image(image, pixels, source)
        firsts = rows[:, [COLUMNS.index(letter) for letter in candidate.letters]]
        rows = rows[((firsts >= 0) & (firsts < candidate.shape)).all(axis=1)]
        if not len(rows):
            continue
        if n_images == index:
            return candidate, rows
        n_images += 1
    found = counted(n_images, "image")
    raise ArgumentError(f"series={index}, but the OME-XML of {source} has {found}")


def _image(image: Element, pixels: Element, source: str) -> _OmeImage:
    order = pixels.get("DimensionOrder", "")
    if order not in _ORDERS:
        raise CorruptFileError(f"the OME-XML of {source} has the DimensionOrder {order!r:.20}")
    letters = order[:1:-1]
    size = {letter: _size(pixels, letter, source) for letter in order}
    texts = {channel.get("SamplesPerPixel", "1") for channel in children(pixels, "Channel")}
    samples = {_integer(text, "SamplesPerPixel", source) for text in texts} or {1}
    if len(samples) > 1:
        raise UnsupportedFormatError(
            f"the OME-XML of {source} has channels of different SamplesPerPixel"
        )
    per_pixel = samples.pop()
    # SizeC counts samples, FirstC channels.
    if per_pixel < 1 or size["C"] % per_pixel:
        raise CorruptFileError(
            f"the OME-XML of {source} has {per_pixel} samples per pixel but SizeC={size['C']}"
        )
    size["C"] //= per_pixel
    shape = tuple(size[letter] for letter in letters)
    count_planes(shape, f"the OME-XML of {source}")
    return _OmeImage(
        image=image,
        pixels=pixels,
        letters=letters,
        shape=shape,
        samples=per_pixel,
        height=size["Y"],
        width=size["X"],
    )


def _size(pixels: Element, letter: str, source: str) -> int:
    size = _integer(pixels.get(f"Size{letter}", ""), f"Size{letter}", source)
    if size < 1:
        raise CorruptFileError(f"the OME-XML of {source} has Size{letter}={size}")
    return size


def _integer(text: str, attribute: str, source: str) -> int:
    try:
        return int(text)
    except ValueError as exc:
        raise CorruptFileError(
            f"the OME-XML of {source} has {text[:50]!r} for {attribute}, which is not an integer"
        ) from exc


def _place(rows: npt.NDArray[np.int64], image: _OmeImage, source: str) -> Tables:
    """File number and page of each plane, in C order of the leading axes.

    Where several TiffData describe one plane, the last one counts.
    """
    if (rows[:, [_IFD, _COUNT]] < 0).any() or rows[:, _IFD].max() > _MAX_IFD:
        raise CorruptFileError(f"the OME-XML of {source} has an impossible IFD or PlaneCount")
    total = math.prod(image.shape)
    columns = tuple(rows[:, COLUMNS.index(letter)] for letter in image.letters)
    starts = np.ravel_multi_index(columns, image.shape)
    counts = rows[:, _COUNT]
    if counts.max() > MAX_PLANES:
        raise LimitError(
            f"the OME-XML of {source} has a PlaneCount of {counts.max()}; the limit is {MAX_PLANES}"
        )
    edges = np.append(np.unique(starts), total)
    next_starts = edges[np.searchsorted(edges, starts, side="right")]
    counts = np.where(counts > 0, np.minimum(counts, total - starts), next_starts - starts)
    n_pages = int(counts.sum())
    if n_pages > MAX_PLANES:
        raise LimitError(
            f"the OME-XML of {source} gives pages for {n_pages} planes; the limit is {MAX_PLANES}"
        )
    file_of, page_of = np.full(total, -1, np.int32), np.zeros(total, np.int64)
    within = np.arange(n_pages) - np.repeat(np.cumsum(counts) - counts, counts)
    where = np.repeat(starts, counts) + within
    # numpy keeps the last of several values for one index.
    file_of[where] = np.repeat(rows[:, _FILE], counts)
    page_of[where] = np.repeat(rows[:, _IFD], counts) + within
    return file_of, page_of


def _axes(
    image: _OmeImage, document: OmeDocument, source: str
) -> tuple[list[tuple[str, int]], dict[int, tuple[Any, ...]]]:
    """Names and lengths of the leading axes, modulo axes split off, and labels by axis number."""
    axes: list[tuple[str, int, Sequence[Any]]] = []
    channels = [channel.get("Name", "").strip() for channel in children(image.pixels, "Channel")]
    modulo = _modulo_axes(image.image, document.root)
    for letter, length in zip(image.letters, image.shape, strict=True):
        names = channels if letter == "C" and all(channels) else []
        along = modulo.get(letter)
        if along is None:
            axes.append((letter.lower(), length, names))
            continue
        labels = _modulo_labels(along, letter, length, source)
        if length != len(labels):
            axes.append((letter.lower(), length // len(labels), []))
        axes.append((_modulo_name(along, source), len(labels), labels))
    return [axis[:2] for axis in axes], {i: tuple(axis[2]) for i, axis in enumerate(axes)}


def _modulo_axes(image: Element, root: Element) -> Mapping[str, Element]:
    """ModuloAlong elements of an image by letter of the axis that they split."""
    reference = child(image, "AnnotationRef")  # tifffile ignores further references
    if reference is None:
        return {}
    annotations = {
        annotation.get("ID", ""): annotation
        for parent in children(root, "StructuredAnnotations")
        for annotation in children(parent, "XMLAnnotation")
    }
    annotation = annotations.get(reference.get("ID", ""))
    along = annotation.iter() if annotation is not None else ()
    return {each.tag[-1]: each for each in along if each.tag[:-1] == "ModuloAlong"}


def _modulo_name(along: Element, source: str) -> str:
    kind = along.get("Type", "other")
    if kind not in _MODULO_NAMES:
        raise CorruptFileError(f"the OME-XML of {source} has a modulo axis of type {kind!r:.50}")
    return _MODULO_NAMES[kind]


def _modulo_labels(along: Element, letter: str, length: int, source: str) -> list[Any]:
    """Coordinates of a modulo axis: numbers from Start to End, or texts.

    Raises
    ------
    CorruptFileError
        Their number does not divide the axis that they split.
    """
    labels: list[Any]
    if "Start" in along.attrib:
        try:
            start, stop = float(along.attrib["Start"]), float(along.attrib["End"])
            step = float(along.get("Step", "1"))
            count = math.ceil((stop + step - start) / step)
        except (KeyError, ValueError, ArithmeticError):
            count = 0
        labels = [start + i * step for i in range(count)] if 0 < count <= length else []
    else:
        labels = labels_of(along)
    if not labels or length % len(labels):
        raise CorruptFileError(
            f"the OME-XML of {source} splits the axis {letter} of length {length} by a modulo axis"
            " that does not divide it"
        )
    return labels
