"""What OME-XML says of the places of planes: one pass over the text, into columns.

expat calls back element by element, so that a million TiffData leave six numbers each and no tree.
Elements count only where the schema has them, whatever their namespace: annotations may hold
anybody's XML. Facts: OME-TIFF specification (docs.openmicroscopy.org/ome-model, "ome-tiff"), and
the schemas 2003 to 2016-06.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from xml.parsers import expat

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError, LimitError

Attributes = dict[str, str]

OWN_FILE = 0
"""Number of the file of a TiffData that names none: the one that holds the XML."""
COLUMNS = ("Z", "C", "T", "ifd", "count", "file")
"""Of `OmeXml.rows`: FirstZ, FirstC, FirstT, IFD, PlaneCount (0: all that the file has), and the
number of the file."""
_WIDTH = len(COLUMNS)
_FILE = COLUMNS.index("file")
_MAX_IMAGES = 20_000


@dataclass(slots=True)
class Along:
    """A modulo annotation of one axis."""

    letter: str
    """Of the axis: Z, C or T."""
    attrs: Attributes
    labels: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Image:
    """An Image element."""

    name: str
    annotation: str | None = None
    """The first annotation that it refers to: tifffile looks at no other."""


@dataclass(slots=True)
class PixelsElement:
    """A Pixels element."""

    image: Image
    attrs: Attributes
    start: int
    """Its first row; all before the next ones are its own."""
    samples: list[str] = field(default_factory=list)
    """SamplesPerPixel by channel."""
    channels: list[str] = field(default_factory=list)
    """Names of the channels, empty where there is none."""


@dataclass(slots=True)
class OmeXml:
    """What the document says."""

    uuid: str = ""
    metadata_file: str | None = None
    """Where the metadata are if not here; empty where BinaryOnly names no file."""
    pixels: list[PixelsElement] = field(default_factory=list)
    files: list[str] = field(default_factory=lambda: [""])
    """FileName by number; empty for `OWN_FILE` and for files that have only a UUID."""
    uuids: list[str] = field(default_factory=lambda: [""])
    """UUID by number; of a name that comes with several the first."""
    modulo: dict[str, dict[str, Along]] = field(default_factory=dict)
    """By ID of the annotation, by letter of the axis."""
    numbers: array[int] = field(default_factory=lambda: array("q"))

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The TiffData of all images."""
        return np.frombuffer(self.numbers, np.int64).reshape(-1, _WIDTH)


def refuse_document_type(xml: str, name: str) -> None:
    """OME-XML never has a DTD, and the entities that one defines can fill any memory."""
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise CorruptFileError(f"the OME-XML of {name} has a DTD, which OME-XML never has")


def read_ome_xml(xml: str, name: str) -> OmeXml:
    """Read a document.

    Parameters
    ----------
    xml : str
    name : str
        Of its file, for messages.

    Raises
    ------
    CorruptFileError, LimitError
    """
    refuse_document_type(xml, name)
    reading = _Reading()
    try:
        reading.parse(xml.strip(" \t\r\n\0\ufeff"))
    except expat.ExpatError as exc:
        raise CorruptFileError(f"the OME-XML of {name} is no XML: {exc}") from None
    except (ValueError, OverflowError) as exc:
        raise CorruptFileError(
            f"the OME-XML of {name} has a number that is none: {exc}"[:300]
        ) from None
    return reading.found


class _Reading:
    """The state of a pass, and what each element does to it."""

    def __init__(self) -> None:
        self.found = OmeXml()
        self._depth = 0
        self._image: Image | None = None
        self._in_annotations = False
        self._modulo: dict[str, Along] | None = None
        self._along: Along | None = None
        self._text: list[str] = []
        self._then: Callable[[str], None] | None = None
        self._files: dict[str, int] = {}
        self._nameless: dict[str, int] = {}
        self._starts: tuple[dict[str, Callable[[Attributes], None]], ...] = (
            {},
            {},
            {
                "BinaryOnly": self._binary_only,
                "Image": self._start_image,
                "StructuredAnnotations": self._start_annotations,
            },
            {
                "Pixels": self._start_pixels,
                "AnnotationRef": self._annotation_ref,
                "XMLAnnotation": self._start_annotation,
            },
            {},
            {},
            {f"ModuloAlong{letter}": self._along_of(letter) for letter in "ZCT"},
            {"Label": self._start_label},
        )
        """By depth, the root's is 1."""

    def parse(self, xml: str) -> None:
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        self._handle_outside()
        parser.Parse(xml, True)

    def _handle_outside(self) -> None:
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end

    def _start(self, name: str, attrs: Attributes) -> None:
        self._depth = depth = self._depth + 1
        if depth == 1:
            self.found.uuid = attrs.get("UUID", "").strip()
        elif depth < len(self._starts):
            start = self._starts[depth].get(name)
            if start is None and ":" in name:
                start = self._starts[depth].get(name.rpartition(":")[2])
            if start is not None:
                start(attrs)

    def _end(self, name: str) -> None:
        depth = self._depth
        self._depth = depth - 1
        if self._then is not None:
            if depth == self._text_depth:
                self._parser.CharacterDataHandler = None
                then, self._then = self._then, None
                then("".join(self._text).strip())
        elif depth == 2:
            self._image, self._in_annotations = None, False
        elif depth == 3:
            self._modulo = None
        elif depth == 6:
            self._along = None

    def _read_text(self, then: Callable[[str], None]) -> None:
        """Call `then` with the text of the element that starts, once it ends."""
        self._text, self._text_depth, self._then = [], self._depth, then
        self._parser.CharacterDataHandler = self._text.append

    def _binary_only(self, attrs: Attributes) -> None:
        self.found.metadata_file = attrs.get("MetadataFile", "")

    def _start_image(self, attrs: Attributes) -> None:
        self._image = Image(attrs.get("Name", ""))

    def _annotation_ref(self, attrs: Attributes) -> None:
        if self._image is not None and self._image.annotation is None:
            self._image.annotation = attrs.get("ID", "")

    def _start_pixels(self, attrs: Attributes) -> None:
        if self._image is None:
            return
        if len(self.found.pixels) == _MAX_IMAGES:
            raise LimitError(f"the OME-XML describes more than {_MAX_IMAGES} images")
        pixels = PixelsElement(self._image, attrs, len(self.found.numbers) // _WIDTH)
        self.found.pixels.append(pixels)
        self._handle_inside(pixels)

    def _handle_inside(self, pixels: PixelsElement) -> None:
        """Take over until `pixels` end.

        These handlers are called for every plane: they are closures without dispatch, which halves
        the time of the whole.
        """
        parser, numbers, files = self._parser, self.found.numbers, self._files
        text: list[str] = []
        depth, in_data = 0, False
        new_name: str | None = None

        def start(name: str, attrs: Attributes) -> None:
            nonlocal depth, in_data, new_name
            depth += 1
            if depth == 1:
                in_data = name.endswith("TiffData")
                if in_data:
                    numbers.extend(_run(attrs))
                elif name.endswith("Channel"):
                    pixels.samples.append(attrs.get("SamplesPerPixel", "1"))
                    pixels.channels.append(attrs.get("Name", "").strip())
            # Of several UUIDs the first counts.
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
                self._depth -= 1
                self._handle_outside()
            depth -= 1

        parser.StartElementHandler, parser.EndElementHandler = start, end

    def _add_file(self, name: str, uuid: str) -> int:
        """Number of a file by its name, or by its UUID where it has none."""
        found = self.found
        known, key = (self._files, name) if name else (self._nameless, uuid)
        number = known.setdefault(key, len(found.files))
        if number == len(found.files):
            found.files.append(name)
            found.uuids.append(uuid)
        return number

    def _start_annotations(self, attrs: Attributes) -> None:
        self._in_annotations = True

    def _start_annotation(self, attrs: Attributes) -> None:
        if self._in_annotations and attrs.get("Namespace", "").endswith("modulo"):
            self._modulo = self.found.modulo[attrs.get("ID", "")] = {}

    def _along_of(self, letter: str) -> Callable[[Attributes], None]:
        def start(attrs: Attributes) -> None:
            if self._modulo is not None:
                self._along = self._modulo[letter] = Along(letter, attrs)

        return start

    def _start_label(self, attrs: Attributes) -> None:
        if self._along is not None:
            labels, other = self._along.labels, attrs.get("Text", "")
            self._read_text(lambda text: labels.append(text or other))


def _run(attrs: Attributes) -> tuple[int, ...]:
    """A row of `OmeXml.rows`; without an IFD a TiffData takes all pages of the file."""
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
