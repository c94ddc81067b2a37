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
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError, LimitError, counted
from cloudimg.tiff.markup import Element, child, children, refuse_document_type
from cloudimg.tiff.multifile.ome_files import file_numbers, member_path, own_uuid
from cloudimg.tiff.multifile.ome_images import OmeImage, choose_image, list_images
from cloudimg.tiff.multifile.planes import MAX_PLANES, PlaneTable, checked_path, make_plane_table
from cloudimg.tiff.ome_xml import COLUMNS, OWN_FILE, OmeDocument, labels_of, read_ome_xml

_UUID = re.compile(r"<(?:\w+:)?UUID\b")
_BINARY_ONLY = re.compile(r"<(?:\w+:)?BinaryOnly\b")
_IFD, _COUNT, _FILE = (COLUMNS.index(name) for name in ("ifd", "count", "file"))
_MAX_IFD = 2**32
_PAGE_BITS = 33
"""Of the number of a page, which is below `_MAX_IFD` + `MAX_PLANES`."""
_MODULO_NAMES = {
    "angle": "a",
    "phase": "p",
    "tile": "r",
    "lifetime": "h",
    "lambda": "e",
    "other": "page",
}
"""Axis names by modulo type: tifffile's letters as `cloudimg.tiff.build_image` names them."""

Tables = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]


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
    numbers = file_numbers(document, own_name)
    if own_name and not numbers.any():
        return None
    return _planes(document, numbers, own_name, index)


def ome_planes_of_one_file(xml: str, own_name: str, index: int, n_pages: int) -> PlaneTable | None:
    """Planes of an image in the file that holds the OME-XML, some of which the file does not have.

    Parameters
    ----------
    xml, own_name, index
        See `ome_planes`.
    n_pages : int
        Number of pages of the file. Planes in later pages have no file in the table.

    Returns
    -------
    PlaneTable or None
        None if the OME-XML places planes in other files.

    Raises
    ------
    ArgumentError, CorruptFileError, UnsupportedFormatError, LimitError
    """
    document = _read(xml, own_name, required=None)
    numbers = None if document is None else file_numbers(document, own_name)
    if document is None or numbers is None or numbers.any():
        return None
    return _planes(document, numbers, own_name, index, n_pages)


def _planes(
    document: OmeDocument,
    numbers: npt.NDArray[np.int32],
    own_name: str,
    index: int,
    n_pages: int | None = None,
) -> PlaneTable:
    """Table of an image whose files have these numbers; see `file_numbers`."""
    source = own_name or "a companion file"
    image, rows = choose_image(document, source, index)
    axes, labels = _axes(image, document, source)
    file_of, page_of = _place(rows, image, source)
    file_of = np.append(numbers, -1)[file_of]
    shortfall = ""
    if n_pages is not None:
        n_placed = int((file_of >= 0).sum())
        file_of[page_of >= n_pages] = -1
        n_found = int((file_of >= 0).sum())
        shortfall = _shortfall(source, (len(file_of), n_placed, n_found), n_pages)
    names = [own_name, *document.files[OWN_FILE + 1 :]]
    uuids = [own_uuid(document, numbers), *document.uuids[OWN_FILE + 1 :]]
    for number in np.unique(file_of[file_of >= 0]).tolist():
        if number != OWN_FILE or not own_name:
            names[number] = member_path(names[number], source)
    return make_plane_table(
        axes,
        labels,
        (file_of, page_of),
        names,
        uuids=uuids,
        n_placed=_n_placed(document.rows, numbers, n_pages),
        plane=("y", "x", "s")[: len(image.plane_shape)],
        plane_shape=image.plane_shape,
        offsets_are="page",
        name=image.image.get("Name", ""),
        dtype=None,
        images=list_images(document, source),
        numbered_by=tuple(zip(image.letters, image.shape, strict=True)),
        shortfall=shortfall,
    )


def _shortfall(source: str, counts: tuple[int, int, int], n_pages: int) -> str:
    """Why planes have no page in a file of `n_pages`.

    `counts` are the planes that the OME-XML describes, those that it places, and those of them that
    have a page.
    """
    n_described, n_placed, n_found = counts
    described = f"the OME-XML of {source} describes {counted(n_described, 'plane')}, but"
    if n_described > n_pages:
        return f"{described} the file has {counted(n_pages, 'page')}"
    if n_found < n_placed:
        after = counted(n_placed - n_found, "of them is placed", "of them are placed")
        return f"{described} {after} after the last of the {n_pages} pages of the file"
    return f"{described} places only {n_found} of them in the {n_pages} pages of the file"


def _n_placed(
    rows: npt.NDArray[np.int64], numbers: npt.NDArray[np.int32], stop: int | None
) -> list[int]:
    """Number of pages by file number that all images of the OME-XML together have.

    0 for a file of which a TiffData takes all pages. Pages from `stop` on do not exist.
    """
    files, counts = numbers[rows[:, _FILE]], rows[:, _COUNT]
    takes_all = np.zeros(len(numbers), bool)
    takes_all[files[counts <= 0]] = True
    counts = np.where(takes_all[files], 0, counts.clip(0, MAX_PLANES))
    if counts.sum() > MAX_PLANES:
        return []
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    pages = np.repeat(rows[:, _IFD].clip(0, _MAX_IFD), counts) + within
    # File and page as one number: to sort pairs takes ten times as long, and so does np.unique.
    placed = (np.repeat(files, counts).astype(np.int64) << _PAGE_BITS) | pages
    if stop is not None:
        placed = placed[pages < stop]
    placed.sort()
    is_first = np.append(True, placed[1:] != placed[:-1])[: len(placed)]
    n_pages = np.bincount(placed[is_first] >> _PAGE_BITS, minlength=len(numbers))
    return [int(n) for n in n_pages]


def _read(xml: str, source: str, *, required: re.Pattern[str] | None) -> OmeDocument | None:
    """Read a document; None if `required`, which is faster to look for, does not occur in it."""
    try:
        refuse_document_type(xml)
        if required is not None and not required.search(xml):
            return None
        return read_ome_xml(xml, tiff_data=True)
    except ValueError as exc:
        raise CorruptFileError(f"the OME-XML of {source} cannot be read: {exc}"[:300]) from exc


def _place(rows: npt.NDArray[np.int64], image: OmeImage, source: str) -> Tables:
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
    image: OmeImage, document: OmeDocument, source: str
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
