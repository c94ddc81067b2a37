"""Reader of OME-XML: a small tree of elements, and the TiffData elements as a table.

Documents may be hundreds of megabytes long and describe millions of planes, so they are streamed
through expat. Only the elements that cloudimg uses are kept, only where the schema has them
(annotations may hold arbitrary XML), and a TiffData becomes six integers.

Facts: OME-TIFF specification (docs.openmicroscopy.org/ome-model, "ome-tiff"), and the schemas 2003
to 2016-06.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element
from xml.parsers import expat

import numpy as np
import numpy.typing as npt

from cloudimg.errors import LimitError
from cloudimg.tiff.markup import XML_PADDING, children, refuse_document_type, text_of

Attributes = dict[str, str]
Schema = Mapping[str, "Schema"]
"""Elements to keep inside an element, by name, with what to keep inside them."""

OWN_FILE = 0
"""File number of a TiffData without a UUID: the file that holds the XML."""
COLUMNS = ("Z", "C", "T", "ifd", "count", "file")
"""Columns of `OmeDocument.rows`: FirstZ, FirstC, FirstT, IFD, PlaneCount (0: all pages of the
file) and the file number."""
_WIDTH = len(COLUMNS)
_MAX_IMAGES = 20_000

_ANY = "*"
_LEAF: Schema = {}
_TEXT: Schema = {}
"""Of an element whose text is kept."""
_PIXELS: Schema = {"Channel": _LEAF, "Plane": _LEAF}
_MODULO: Schema = {f"ModuloAlong{letter}": {"Label": _TEXT} for letter in "ZCT"}
_OME: Schema = {
    "BinaryOnly": _LEAF,
    "Instrument": {"Objective": _LEAF},
    "Image": {
        "AcquisitionDate": _TEXT,
        "CreationDate": _TEXT,
        "ObjectiveSettings": _LEAF,
        "ObjectiveRef": _LEAF,
        "AnnotationRef": _LEAF,
        "Pixels": _PIXELS,
    },
    "StructuredAnnotations": {"XMLAnnotation": {_ANY: {_ANY: _MODULO}}},
}


@dataclass(slots=True)
class OmeDocument:
    """An OME-XML document."""

    root: Element = field(default_factory=lambda: Element("OME"))
    """The elements that are kept, without namespaces."""
    files: list[str] = field(default_factory=lambda: [""])
    """FileName by file number; empty for `OWN_FILE` and for files that have only a UUID."""
    uuids: list[str] = field(default_factory=lambda: [""])
    """UUID by file number; the first one if a name comes with several."""
    first_rows: list[int] = field(default_factory=list)
    """First row of each Pixels element, in document order."""
    numbers: array[int] = field(default_factory=lambda: array("q"))
    """The cells of `rows`."""

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The TiffData elements of all images, one per row."""
        return np.frombuffer(self.numbers, np.int64).reshape(-1, _WIDTH)


def read_ome_xml(xml: str, *, tiff_data: bool) -> OmeDocument:
    """Read a document.

    Parameters
    ----------
    xml : str
    tiff_data : bool
        Whether to read the TiffData elements into the table, or the Plane elements into the tree.
        The other kind is skipped: each may come by the million.

    Raises
    ------
    ValueError
        It has a document type, is not well-formed, or a TiffData has an invalid number.
    LimitError
        Its TiffData belong to too many images.
    """
    refuse_document_type(xml)
    try:
        return _Reading(tiff_data=tiff_data).read(xml.strip(XML_PADDING))
    except expat.ExpatError as exc:
        raise ValueError(f"it is not well-formed XML: {exc}") from exc
    except OverflowError as exc:
        raise ValueError(f"it has a number beyond 64 bits: {exc}") from exc


def labels_of(along: Element) -> list[str]:
    """Labels of a modulo axis, which are texts or, in older files, attributes."""
    return [text_of(label) or label.get("Text", "") for label in children(along, "Label")]


class _Reading:
    """One pass over a document: handlers for expat and what they have built."""

    def __init__(self, *, tiff_data: bool) -> None:
        self._document = OmeDocument()
        self._tiff_data = tiff_data
        self._open: list[tuple[Element, Schema]] = [(Element(""), {_ANY: _OME})]
        """Elements of the tree that have not ended."""
        self._skipping = 0
        """Depth within an element that is not kept."""
        self._text: list[str] = []
        self._by_name: dict[str, int] = {}
        self._by_uuid: dict[str, int] = {}
        """Numbers of the files that have no name."""
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True

    def read(self, xml: str) -> OmeDocument:
        (above, _), parser = self._open[0], self._parser
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.Parse(xml, True)
        self._document.root = above[0]
        return self._document

    def _start(self, name: str, attrs: Attributes) -> None:
        if self._skipping:
            self._skipping += 1
            return
        above, schema = self._open[-1]
        name = name.rpartition(":")[2]
        within = schema.get(name, schema.get(_ANY))
        # Other annotations may come by the hundred thousand.
        is_other = name == "XMLAnnotation" and not attrs.get("Namespace", "").endswith("modulo")
        if within is None or is_other:
            self._skipping = 1
            self._parser.CharacterDataHandler = None  # text ends at the first child, as in tifffile
            return
        element = Element(name, attrs)
        above.append(element)
        self._open.append((element, within))
        if within is _TEXT:
            self._text.clear()
            self._parser.CharacterDataHandler = self._text.append
        elif within is _PIXELS and self._tiff_data:
            self._read_tiff_data(element)

    def _end(self, name: str) -> None:
        if self._skipping:
            self._skipping -= 1
            return
        element, within = self._open.pop()
        if within is _TEXT:
            self._parser.CharacterDataHandler = None
            element.text = "".join(self._text)

    def _read_tiff_data(self, pixels: Element) -> None:
        """Handle what is inside `pixels` until it ends.

        The handlers run for every plane: closures without a dispatch by name halve the time of
        reading a document.
        """
        document, parser, files = self._document, self._parser, self._by_name
        numbers = document.numbers
        if len(document.first_rows) == _MAX_IMAGES:
            raise LimitError(f"the OME-XML describes more than {_MAX_IMAGES} images")
        document.first_rows.append(len(numbers) // _WIDTH)
        text: list[str] = []
        depth, in_data = 0, False
        new_name: str | None = None

        def start(name: str, attrs: Attributes) -> None:
            nonlocal depth, in_data, new_name
            depth += 1
            if depth == 1:
                in_data = name.endswith("TiffData")
                if in_data:
                    numbers.extend(_row(attrs))
                elif name.endswith("Channel"):
                    pixels.append(Element("Channel", attrs))
            # Of several UUIDs the first one counts.
            elif depth == 2 and in_data and numbers[-1] == OWN_FILE and name.endswith("UUID"):
                file_name = attrs.get("FileName", "")
                if file_name in files:
                    numbers[-1] = files[file_name]
                else:
                    new_name = file_name
                    text.clear()
                    parser.CharacterDataHandler = text.append

        def end(name: str) -> None:
            nonlocal depth, new_name
            if depth == 2 and new_name is not None:
                parser.CharacterDataHandler = None
                numbers[-1] = self._add_file(new_name, "".join(text).strip())
                new_name = None
            elif depth == 0:
                parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
                self._end(name)
            depth -= 1

        parser.StartElementHandler, parser.EndElementHandler = start, end

    def _add_file(self, name: str, uuid: str) -> int:
        """Number of a file by its name, or by its UUID if it has no name."""
        numbers, key = (self._by_name, name) if name else (self._by_uuid, uuid)
        number = numbers.setdefault(key, len(self._document.files))
        if number == len(self._document.files):
            self._document.files.append(name)
            self._document.uuids.append(uuid)
        return number


def _row(attrs: Attributes) -> tuple[int, ...]:
    """Row of a TiffData; without an IFD it takes all pages of the file."""
    get = attrs.get
    count = get("PlaneCount") or get("NumPlanes")  # before schema 2008-02
    return (
        int(get("FirstZ", 0)),
        int(get("FirstC", 0)),
        int(get("FirstT", 0)),
        int(get("IFD", 0)),
        int(count) if count is not None else int("IFD" in attrs),
        OWN_FILE,
    )
