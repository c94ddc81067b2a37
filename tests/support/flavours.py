"""TIFF files assembled by hand: what no library writes, and 10,000 pages in a second.

A file is a chain of pictures, each made of three parts: its directory, the values that do not fit
into it, and its pixels. `assemble` lays the parts out in any order and fills in the offsets.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Part = Literal["directory", "values", "pixels"]
Block = tuple[int, Part]
PARTS: tuple[Part, ...] = ("directory", "values", "pixels")

BYTE, ASCII, SHORT, LONG, RATIONAL, LONG8 = 1, 2, 3, 4, 5, 16
_CODES = {BYTE: "B", ASCII: "s", SHORT: "H", LONG: "L", RATIONAL: "L", LONG8: "Q"}
_WIDTHS = {BYTE: 1, ASCII: 1, SHORT: 2, LONG: 4, RATIONAL: 8, LONG8: 8}
STRIP_OFFSETS, TILE_OFFSETS, SUBIFDS = 273, 324, 330


@dataclass(frozen=True, slots=True)
class Tag:
    """A type and its values."""

    kind: int
    values: bytes | Sequence[int]
    """Rationals as numerator, denominator, numerator, ..."""
    declared: int | None = None
    """What the directory says their number is, where a vendor has its own idea of it."""

    @property
    def count(self) -> int:
        if self.declared is not None:
            return self.declared
        return len(self.values) // (2 if self.kind == RATIONAL else 1)

    def pack(self, order: str) -> bytes:
        if isinstance(self.values, bytes):
            return self.values
        return struct.pack(f"{order}{len(self.values)}{_CODES[self.kind]}", *self.values)


@dataclass(frozen=True, slots=True)
class Picture:
    """One directory and what belongs to it."""

    tags: Mapping[int, Tag]
    """Without the offsets and counts of `segments`."""
    segments: Sequence[bytes] = ()
    is_tiled: bool = False
    subs: Sequence[Picture] = field(default=())
    """SubIFDs."""
    padding_bytes: int = 0
    """Zeros after the pixels."""

    def padded(self, padding_bytes: int) -> Picture:
        return replace(self, padding_bytes=padding_bytes)


@dataclass(frozen=True, slots=True)
class Assembled:
    """A file and where its parts ended up."""

    data: bytes
    header_bytes: int
    """Of all directories and the values that they point at."""


def picture(pixels: Array, segments: Sequence[bytes] | None = None, **tags: int | Tag) -> Picture:
    """One grey page in strips, as large as `pixels`; `t278=10` gives a tag by number."""
    height, width = pixels.shape
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    values = {
        256: Tag(LONG, (width,)),
        257: Tag(LONG, (height,)),
        258: Tag(SHORT, (8 * pixels.itemsize,)),
        259: Tag(SHORT, (1,)),
        262: Tag(SHORT, (1,)),
        277: Tag(SHORT, (1,)),
        278: Tag(LONG, (height,)),
        339: Tag(SHORT, (kind,)),
    }
    for name, tag in tags.items():
        code = int(name.removeprefix("t"))
        values[code] = tag if isinstance(tag, Tag) else Tag(LONG, (tag,))
    return Picture(values, (pixels.tobytes(),) if segments is None else segments)


def ascii_tag(text: str) -> Tag:
    return Tag(ASCII, text.encode() + b"\0")


class _Layout:
    """The pictures of a file, SubIFDs included, and the lengths of their parts."""

    def __init__(self, chain: Sequence[Picture], order: str, big: bool) -> None:
        self.order, self.big = order, big
        self.kind = LONG8 if big else LONG
        self.pictures: list[Picture] = list(chain)
        self.subs: list[list[int]] = []
        for item in self.pictures:  # which grows: SubIFDs may have SubIFDs
            self.subs.append(list(range(len(self.pictures), len(self.pictures) + len(item.subs))))
            self.pictures.extend(item.subs)
        self.places: dict[Block, int] = {}

    def tags(self, i: int) -> dict[int, Tag]:
        """All tags of a picture; offsets are those of now, zeros before the parts are placed."""
        item = self.pictures[i]
        tags = dict(item.tags)
        if item.segments:
            counts = [len(segment) for segment in item.segments]
            at = self.places.get((i, "pixels"), 0)
            offsets = [at + sum(counts[:k]) for k in range(len(counts))] if at else counts
            if at and len(counts) > 16:
                offsets = (at + np.cumsum([0, *counts[:-1]])).tolist()
            first = TILE_OFFSETS if item.is_tiled else STRIP_OFFSETS
            tags[first] = Tag(self.kind, offsets)
            tags[first + (1 if item.is_tiled else 6)] = Tag(self.kind, counts)
        if self.subs[i]:
            offsets = [self.places.get((k, "directory"), 0) for k in self.subs[i]]
            tags[SUBIFDS] = Tag(self.kind, offsets)
        return dict(sorted(tags.items()))

    def length(self, block: Block) -> int:
        i, part = block
        item = self.pictures[i]
        if part == "pixels":
            return sum(map(len, item.segments)) + item.padding_bytes
        tags = self.tags(i).values()
        if part == "values":
            lengths = [len(tag.pack(self.order)) for tag in tags]
            return sum(n + n % 2 for n in lengths if n > self.width)
        return (16 if self.big else 6) + len(tags) * (20 if self.big else 12)

    @property
    def width(self) -> int:
        return 8 if self.big else 4

    def directory(self, i: int, following: int) -> tuple[bytes, bytes]:
        """A directory and its values."""
        tags, values = self.tags(i), b""
        data = struct.pack(f"{self.order}{'Q' if self.big else 'H'}", len(tags))
        for code, tag in tags.items():
            packed = tag.pack(self.order)
            if len(packed) > self.width:
                at = self.places[i, "values"] + len(values)
                values += packed + b"\0" * (len(packed) % 2)
                packed = struct.pack(f"{self.order}{'Q' if self.big else 'L'}", at)
            layout = f"{self.order}HH{'Q' if self.big else 'L'}"
            data += struct.pack(layout, code, tag.kind, tag.count) + packed.ljust(self.width, b"\0")
        return data + struct.pack(f"{self.order}{'Q' if self.big else 'L'}", following), values


def default_blocks(n_pictures: int) -> list[Block]:
    return [(i, part) for i in range(n_pictures) for part in PARTS]


def assemble(
    chain: Sequence[Picture],
    *,
    order: str = "<",
    big: bool = False,
    blocks: Sequence[Block] | None = None,
) -> Assembled:
    """A file of the pictures, linked in this order.

    Parameters
    ----------
    chain : sequence of Picture
    order : {"<", ">"}
    big : bool
        BigTIFF.
    blocks : sequence of (int, str), optional
        How the parts follow one another: SubIFDs are numbered after the chain. Default: directory,
        values, pixels, picture after picture.
    """
    layout = _Layout(chain, order, big)
    blocks = default_blocks(len(layout.pictures)) if blocks is None else blocks
    at = 16 if big else 8
    for block in blocks:
        at += at % 2
        layout.places[block] = at
        at += layout.length(block)
    first = layout.places[0, "directory"]
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(f"{order}HHHQ", 43, 8, 0, first) if big else b""
    parts = [mark + (head or struct.pack(f"{order}HL", 42, first))]
    header_bytes, at = 0, 16 if big else 8
    made: dict[int, tuple[bytes, bytes]] = {}
    for i, part in blocks:
        parts.append(b"\0" * (at % 2))
        at += at % 2
        if part == "pixels":
            item = layout.pictures[i]
            parts += [*item.segments, bytes(item.padding_bytes)]
        else:
            if i not in made:
                following = layout.places[i + 1, "directory"] if i + 1 < len(chain) else 0
                made[i] = layout.directory(i, following)
            parts.append(made[i][part == "values"])
            header_bytes += len(parts[-1])
        at += layout.length((i, part))
    return Assembled(b"".join(parts), header_bytes)


def scanimage_file(planes: Array) -> bytes:
    """Planes as ScanImage 3 and 4 write them: equal directories, each in front of its pixels."""
    texts = {"t270": ascii_tag("state.configName='x'"), "t305": ascii_tag("SI.VERSION_MAJOR = 4")}
    return assemble([picture(plane, **texts) for plane in planes]).data


class StampedDeflate:
    """Deflated pages that all differ, made from few that were compressed.

    The first row of each page is its number; it is stored, the other rows are compressed once.
    """

    def __init__(self, bodies: Sequence[Array]) -> None:
        self._bodies = bodies
        self._rows = [body[1:].tobytes() for body in bodies]
        self._packed = []
        for rows in self._rows:
            packer = zlib.compressobj(1, wbits=-15)
            self._packed.append(packer.compress(rows) + packer.flush())

    def pixels(self, body: int, number: int) -> Array:
        page = self._bodies[body].copy()
        page[0] = number
        return page

    def segment(self, body: int, number: int) -> bytes:
        first = self._bodies[body][0]
        row = np.full_like(first, number).tobytes()
        stored = struct.pack("<BHH", 0, len(row), len(row) ^ 0xFFFF) + row
        check = zlib.adler32(self._rows[body], zlib.adler32(row))
        return b"\x78\x01" + stored + self._packed[body] + check.to_bytes(4, "big")
