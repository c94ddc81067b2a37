"""TIFFs gone wrong: seeded mutations of good ones.

A mutation knows where the directories of a TIFF lie and what an entry is, no more; what it makes
need not make sense. Everything here is a function of its arguments.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import tifffile

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
SIZES |= {16: 8, 17: 8, 18: 8}
"""Bytes of a value by type."""
CODES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f", 12: "d"}
CODES |= {5: "I", 10: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}

_EXTREMES = [0, 1, 2, 3, 7, 8, 15, 16, 17, 64, 255, 256, 1000, 32767, 32768, 65535, 65536]
_EXTREMES += [10**6, 10**9 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]

# What decides how bytes become pixels, and values that make a difference.
_LAYOUT: dict[int, Sequence[int]] = {
    256: (1, 2, 15, 16, 17, 100, 4096, 65535, 10**6),
    257: (1, 2, 15, 16, 17, 100, 4096, 65535, 10**6),
    258: (1, 2, 3, 4, 5, 7, 8, 10, 12, 14, 16, 24, 32, 64, 65),
    259: (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34887, 34925, 50000, 50001, 34712, 33003, 22610),
    262: (0, 1, 2, 3, 4, 5, 6, 8, 32803, 32844, 32845),
    266: (1, 2),
    277: (1, 2, 3, 4, 5, 100, 65535),
    278: (1, 2, 3, 7, 64, 65535, 2**32 - 1),
    284: (1, 2, 3),
    317: (1, 2, 3, 34892, 34893, 34894, 34895),
    322: (1, 15, 16, 17, 64, 256, 65535),
    323: (1, 15, 16, 17, 64, 256, 65535),
    338: (0, 1, 2),
    339: (1, 2, 3, 4, 5, 6),
    530: (1, 2, 4),
    254: (0, 1, 2, 4),
    255: (1, 2, 3),
    32997: (1, 2, 16, 65535),
    32998: (1, 2, 16),
}


# Where things lie


@dataclass(frozen=True, slots=True)
class Directory:
    at: int
    pointer_at: int
    """Where its offset stands."""
    n_entries: int
    next_at: int
    """Where the offset of the next one stands."""


@dataclass(slots=True)
class Tiff:
    """The directories of a TIFF as far as they can be followed."""

    data: bytearray
    order: str = "<"
    is_big: bool = False
    directories: list[Directory] = field(default_factory=list)

    @classmethod
    def of(cls, data: bytes) -> Tiff:
        tiff = cls(bytearray(data))
        if len(data) < 16 or data[:2] not in (b"II", b"MM"):
            return tiff
        tiff.order = "<" if data[:2] == b"II" else ">"
        tiff.is_big = tiff.get(2, "H") == 43
        pointer_at = 8 if tiff.is_big else 4
        seen: set[int] = set()
        while len(seen) < 100:
            at = tiff.get(pointer_at, tiff.offset_code)
            if at == 0 or at in seen or at + 8 > len(data):
                break
            seen.add(at)
            n = tiff.get(at, tiff.number_code)
            next_at = at + tiff.head_bytes + n * tiff.entry_bytes
            if next_at + struct.calcsize(tiff.offset_code) > len(data):
                break
            tiff.directories.append(Directory(at, pointer_at, n, next_at))
            pointer_at = next_at
        return tiff

    @property
    def entry_bytes(self) -> int:
        return 20 if self.is_big else 12

    @property
    def head_bytes(self) -> int:
        return 8 if self.is_big else 2

    @property
    def number_code(self) -> str:
        return "Q" if self.is_big else "H"

    @property
    def offset_code(self) -> str:
        return "Q" if self.is_big else "I"

    def get(self, at: int, code: str) -> int:
        found: int = struct.unpack_from(self.order + code, self.data, at)[0]
        return found

    def put(self, at: int, code: str, value: int) -> None:
        """What does not fit is cut to the lower bits."""
        size = struct.calcsize(code)
        if at + size <= len(self.data):
            text = (value % 2 ** (8 * size)).to_bytes(
                size, "little" if self.order == "<" else "big"
            )
            self.data[at : at + size] = text

    def entries(self, directory: Directory) -> list[int]:
        """Where its entries begin."""
        first = directory.at + self.head_bytes
        return [first + i * self.entry_bytes for i in range(directory.n_entries)]

    def value_at(self, entry: int) -> int:
        """Where the value or its offset stands."""
        return entry + (12 if self.is_big else 8)

    def content(self, entry: int) -> tuple[int, int, int]:
        """Where the values of an entry lie, how many there are, and bytes a value."""
        size = SIZES.get(self.get(entry + 2, "H"), 1)
        count = self.get(entry + 4, self.offset_code)
        at = self.value_at(entry)
        if size * count > (8 if self.is_big else 4):
            at = self.get(at, self.offset_code)
        return at, min(count, max(0, len(self.data) - at) // size), size

    def find(self, directory: Directory, tag: int) -> int | None:
        found = [at for at in self.entries(directory) if self.get(at, "H") == tag]
        return found[0] if found else None

    def with_tag(self, directory: Directory, tag: int, kind: int, payload: bytes) -> None:
        """Write the directory anew at the end of the file, with an entry more or another."""
        count = len(payload) // SIZES[kind]
        inline = 8 if self.is_big else 4
        if len(payload) <= inline:
            value = payload.ljust(inline, b"\0")
        else:
            self.data += b"\0" * (len(self.data) % 2)
            value = self._packed(self.offset_code, len(self.data))
            self.data += payload
        entry = self._packed("HH" + self.offset_code, tag, kind, count) + value
        old = [bytes(self.data[at : at + self.entry_bytes]) for at in self.entries(directory)]
        kept = [one for one in old if struct.unpack(self.order + "H", one[:2])[0] != tag]
        new = sorted([*kept, entry], key=lambda one: struct.unpack(self.order + "H", one[:2]))
        self.data += b"\0" * (len(self.data) % 2)
        self.put(directory.pointer_at, self.offset_code, len(self.data))
        end = bytes(self.data[directory.next_at : directory.next_at + inline])
        self.data += self._packed(self.number_code, len(new)) + b"".join(new) + end

    def _packed(self, codes: str, *values: int) -> bytes:
        return struct.pack(self.order + codes, *values)


# Mutations


def mutated(seed: int, sources: Sequence[Callable[[], bytes]]) -> bytes:
    """A good file after one to four mutations."""
    random = Random(seed)
    data = random.choice(sources)()
    for _ in range(random.choice((1, 1, 2, 3, 4))):
        mutation = random.choice(_MUTATIONS)
        if mutation is _spliced:
            other = random.choice(sources)()
            data = _spliced(data, other, random)
        else:
            tiff = Tiff.of(data)
            if tiff.directories or mutation in _BLIND:
                mutation(tiff, random)
            data = bytes(tiff.data)
    return data


def _extreme(tiff: Tiff, random: Random) -> int:
    return random.choice((*_EXTREMES, len(tiff.data), len(tiff.data) - 1, len(tiff.data) - 8))


def _any_entry(tiff: Tiff, random: Random) -> int:
    entries = tiff.entries(random.choice(tiff.directories))
    return random.choice(entries) if entries else tiff.directories[0].at


def _flip_bits(tiff: Tiff, random: Random) -> None:
    at = _any_entry(tiff, random)
    for _ in range(random.randint(1, 3)):
        place = min(at + random.randrange(tiff.entry_bytes), len(tiff.data) - 1)
        tiff.data[place] ^= 1 << random.randrange(8)


def _set_field(tiff: Tiff, random: Random) -> None:
    """Tag, type, count or value become extreme."""
    at = _any_entry(tiff, random)
    value = random.choice((_extreme(tiff, random), at, tiff.value_at(at)))
    places = [(at, "H"), (at + 2, "H"), (at + 4, tiff.offset_code)]
    places += 3 * [(tiff.value_at(at), tiff.offset_code)]
    place, code = random.choice(places)
    tiff.put(place, code, random.randrange(20) if place == at + 2 else value)


def _set_layout(tiff: Tiff, random: Random) -> None:
    """Another compression, width, number of bits ...: in place, or as a new entry."""
    directory = random.choice(tiff.directories)
    tag = random.choice(list(_LAYOUT))
    value = random.choice(_LAYOUT[tag])
    entry = tiff.find(directory, tag)
    if entry is None:
        tiff.with_tag(directory, tag, 4, struct.pack(tiff.order + "I", value))
        return
    at, count, size = tiff.content(entry)
    for i in range(count if random.random() < 0.7 else min(count, 1)):
        tiff.put(at + i * size, {1: "B", 2: "H", 4: "I", 8: "Q"}[size], value)


def _poke_segments(tiff: Tiff, random: Random) -> None:
    """Some offsets or byte counts of segments become others."""
    directory = random.choice(tiff.directories)
    found = [tiff.find(directory, tag) for tag in (273, 279, 324, 325, 279)]
    entries = [at for at in found if at is not None]
    if not entries:
        return
    at, count, size = tiff.content(random.choice(entries))
    for _ in range(random.randint(1, 3) if count else 0):
        place = at + random.randrange(count) * size
        values = (_extreme(tiff, random), 0, 0, random.randrange(len(tiff.data)))
        tiff.put(place, {1: "B", 2: "H", 4: "I", 8: "Q"}[size], random.choice(values))


def _point_next(tiff: Tiff, random: Random) -> None:
    """The chain of directories loops, ends or leaves the file."""
    places = [one.at for one in tiff.directories]
    value = random.choice((*places, *places, _extreme(tiff, random), places[0] + 1))
    tiff.put(random.choice(tiff.directories).next_at, tiff.offset_code, value)


def _sub_directories(tiff: Tiff, random: Random) -> None:
    """SubIFDs that are itself, others or nothing."""
    places = [one.at for one in tiff.directories] + [len(tiff.data), 0, 8, _extreme(tiff, random)]
    count = random.choice((1, 1, 2, 3, 100))
    chosen = [random.choice(places) % 2**32 for _ in range(count)]
    payload = struct.pack(f"{tiff.order}{count}I", *chosen)
    tag = random.choice((330, 330, 330, 34665, 34853))
    tiff.with_tag(random.choice(tiff.directories), tag, random.choice((4, 13)), payload)


def _copy_entry(tiff: Tiff, random: Random) -> None:
    """An entry stands over another one, which is lost or changes its place."""
    one, other = _any_entry(tiff, random), _any_entry(tiff, random)
    first = bytes(tiff.data[one : one + tiff.entry_bytes])
    second = bytes(tiff.data[other : other + tiff.entry_bytes])
    tiff.data[other : other + len(first)] = first
    if random.random() < 0.3:
        tiff.data[one : one + len(second)] = second


def _truncate(tiff: Tiff, random: Random) -> None:
    del tiff.data[random.randrange(len(tiff.data) + 1) :]


def _extend(tiff: Tiff, random: Random) -> None:
    tiff.data += bytes(random.choice((1, 1000, 70_000)))


def _flip_anywhere(tiff: Tiff, random: Random) -> None:
    for _ in range(random.choice((1, 3, 10)) if tiff.data else 0):
        tiff.data[random.randrange(len(tiff.data))] ^= 1 << random.randrange(8)


def _set_header(tiff: Tiff, random: Random) -> None:
    heads = (b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0", b"II\x55\0", b"EP*\0")
    head = random.choice(heads)
    tiff.data[: len(head)] = head


def _describe(tiff: Tiff, random: Random) -> None:
    """A description of somebody's dialect, with numbers gone wild."""
    numbers = (1, 1, 2, 3, 5, 10, 0, -1, 10**6, 10**9 - 1, 2**31, 2**63, _extreme(tiff, random))
    text = re.sub(r"#", lambda _: str(random.choice(numbers)), random.choice(_DESCRIPTIONS))
    directory = tiff.directories[0 if random.random() < 0.8 else -1]
    tiff.with_tag(directory, 270, 2, text.encode("latin-1", "replace") + b"\0")


def _change_description(tiff: Tiff, random: Random) -> None:
    """A number of the description that the file has becomes another."""
    entry = tiff.find(tiff.directories[0], 270)
    if entry is None:
        _describe(tiff, random)
        return
    at, count, size = tiff.content(entry)
    text = bytes(tiff.data[at : at + count * size])
    numbers = list(re.finditer(rb"\d+", text))
    for match in random.sample(numbers, min(len(numbers), random.randint(1, 2))):
        new = str(random.choice(_EXTREMES)).encode()
        text = text[: match.start()] + new + text[match.end() :]
        break
    tiff.with_tag(tiff.directories[0], 270, 2, text)


def _vendor(tiff: Tiff, random: Random) -> None:
    """A tag that has a parser of its own."""
    tag = random.choice(_VENDORS)
    kind = random.choice((1, 2, 3, 4, 5, 7, 12))
    count = random.choice((1, 2, 4, 8, 64, 500))
    payloads = [random.randbytes(count * SIZES[kind]), bytes(count * SIZES[kind])]
    payloads.append(b"\xff" * (count * SIZES[kind]))
    if tag == 42113:
        kind = 2
        texts = (b"nan", b"-9999", b"1e400", b"0", b"-inf", b"abc", b"", b"1e10", b"1+2j", b"300")
        payloads = [random.choice(texts) + b"\0"]
    tiff.with_tag(random.choice(tiff.directories), tag, kind, random.choice(payloads))


def _grow_count(tiff: Tiff, random: Random) -> None:
    """An entry claims to be longer than it is, by little or much."""
    at = _any_entry(tiff, random) + 4
    if at + 8 < len(tiff.data):
        count = tiff.get(at, tiff.offset_code)
        new = random.choice((count + 1, max(count - 1, 0), 2 * count, 1000 * count, 2**28))
        tiff.put(at, tiff.offset_code, new)


def _spliced(data: bytes, other: bytes, random: Random) -> bytes:
    """The beginning of one file and the end of another."""
    if random.random() < 0.5:
        cut = random.randrange(max(1, min(len(data), len(other))))
        return data[:cut] + other[cut:]
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


_BLIND: tuple[Any, ...] = (_truncate, _extend, _flip_anywhere, _set_header)
"""Those that need no directory."""
_MUTATIONS: tuple[Any, ...] = (
    *(_flip_bits, _set_field, _set_field, _set_field, _set_layout, _set_layout, _set_layout),
    *(_poke_segments, _poke_segments, _point_next, _sub_directories, _copy_entry, _truncate),
    *(_extend, _flip_anywhere, _set_header, _describe, _describe, _change_description, _vendor),
    *(_vendor, _grow_count, _spliced),
)
# Tags with structures of vendors: STK, LSM, MicroManager, SIS, NIH, Fluoview, EER, ImageJ, ICC ...
_VENDORS = (33628, 33629, 33630, 33631, 34412, 51123, 50838, 50839, 33560, 34361, 34362, 65006)
_VENDORS += (43314, 65200, 34118, 34682, 33471, 34122, 34929, 65426, 37701, 37702, 37706, 42113)
_VENDORS += (42113, 42113, 33550, 33922, 34264, 34735, 34736, 34737, 347, 512, 513, 514, 519)
_VENDORS += (320, 700, 33723, 34377, 50844, 50909, 42112, 65449, 65450, 305, 306, 271, 297)

OME = (
    '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/'
    '2016-06" UUID="urn:uuid:1"><Image ID="Image:0"><Pixels DimensionOrder="XY{order}" ID="P:0" '
    'SizeC="#" SizeT="#" SizeX="{x}" SizeY="{x}" SizeZ="#" Type="{type}">{channels}{data}</Pixels>'
    "</Image></OME>"
)
_DESCRIPTIONS = [
    OME.format(order=order, x=x, type=kind, channels=channels, data=data)
    for order in ("CZT", "ZTC", "T", "???")
    for x in ("16", "#")
    for kind in ("uint8", "uint16", "bit")
    for channels in ("", '<Channel ID="C:0" SamplesPerPixel="#"/><Channel/>')
    for data in (
        "<TiffData/>",
        '<TiffData IFD="#" PlaneCount="#"/>',
        '<TiffData FirstC="#" FirstT="#" FirstZ="#" IFD="0" PlaneCount="1"/>',
        '<TiffData IFD="0"><UUID FileName="other.ome.tif">urn:uuid:2</UUID></TiffData>',
        "",
    )
][::7]
_DESCRIPTIONS += 12 * [
    "ImageJ=1.52p\nimages=#\n",
    "ImageJ=1.52p\nimages=#\nchannels=#\nslices=#\nframes=#\nhyperstack=true\nmode=composite\n",
    "ImageJ=1.52p\nimages=#\nslices=#\nloop=false\nmin=#.0\nspacing=#\nfinterval=#\nunit=um\n",
    "ImageJ=\nimages=\n",
]
_DESCRIPTIONS += 12 * [
    '{"shape": [#, #, 16, 16]}',
    '{"shape": [#, #, #, #], "axes": "TZYX", "truncated": true}',
    '{"shape": [], "axes": 5}',
    "shape=(#, 16, 16)",
    '{"shape": "abc"}',
]
_DESCRIPTIONS += 2 * [
    "Aperio Image Library v11.2.1\n#x# [0,0 #x#] (#x#) JPEG/RGB Q=30|AppMag = 20|MPP = 0.5",
    "SCANIMAGE.SI.VERSION = #\nstate.configPath = 'a'\nscanimage.SI.hChannels.channelSave = #",
    "<MetaData><PlaneInfo><prop id='a' type='int' value='#'/></PlaneInfo></MetaData>",
    "<PerkinElmer-QPI-ImageDescription><ImageType>FullResolution</ImageType>#",
    "<DataObject ObjectType='DPUfsImport'>#</DataObject>",
    "[FEI]\nA=#\n",
    "[Scene Header]\nDimX=#\n",
    "FLUOVIEW Version 5.0\nExternal=#\n[Intensity Mapping]\nMap Ch0: Range=00000 to #\n",
    '{"Version": "1", "Frame": #, "Channel": 1, "FrameKeys": 3}',
    "Model= fake\n<Summary>#</Summary>",
    "TVips#",
    "&lt;&amp;" + "<" * 500,
]


# Good files to begin with, made here


def written() -> dict[str, bytes]:
    """Small TIFFs of many layouts, by name."""
    ramp = (np.arange(3 * 32 * 48) % 251).astype(np.uint8).reshape(3, 32, 48)
    rgb = np.moveaxis(ramp, 0, -1).copy()
    floats = ramp.astype(np.float32) / 7
    layouts: dict[str, tuple[Any, dict[str, Any]]] = {
        "plain": (ramp[0], {"metadata": None}),
        "strips": (ramp[0].astype(np.uint16), {"rowsperstrip": 5, "compression": "zlib"}),
        "tiles": (ramp, {"tile": (16, 16), "compression": "lzw", "predictor": True}),
        "planar": (ramp, {"photometric": "rgb", "planarconfig": "separate", "tile": (16, 16)}),
        "rgb": (rgb, {"photometric": "rgb", "compression": "jpeg", "tile": (16, 16)}),
        "float": (floats, {"compression": "zstd", "predictor": 3, "byteorder": ">"}),
        "volume": (np.stack(6 * [ramp]), {"volumetric": True, "tile": (2, 16, 16)}),
        "bits": (ramp[0] > 100, {"compression": "packbits"}),
        "big": (ramp, {"bigtiff": True, "compression": "lzma"}),
        "ome": (ramp[None], {"ome": True, "metadata": {"axes": "TCYX"}}),
        "ome-deflate": (ramp, {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"}),
        "imagej": (np.stack(2 * [ramp]), {"imagej": True, "metadata": {"axes": "ZCYX"}}),
        "sparse": (None, {"shape": (64, 64), "dtype": "uint8", "tile": (16, 16)}),
    }
    made = {name: _encoded(data, options) for name, (data, options) in layouts.items()}
    return made | {"pyramid": _pyramid(ramp[0]), "big-pyramid": _pyramid(ramp[0], bigtiff=True)}


def _encoded(data: Any, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, data, **{"photometric": "minisblack"} | options)
    return file.getvalue()


def _pyramid(image: np.ndarray[Any, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, **options) as tiff:
        tiff.write(image, subifds=2, tile=(16, 16), compression="zlib")
        tiff.write(image[::2, ::2], subfiletype=1, tile=(16, 16), compression="zlib")
        tiff.write(image[::4, ::4], subfiletype=1, tile=(16, 16), compression="zlib")
    return file.getvalue()
