"""Files of which exactly one thing was removed, or to which one was added: by seed.

The recipe of a case says what was done, to which file and where. Stores that do something wrong are
in `faulty_store`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from tests.support.flavours import Array
from tests.support.mutations import Directory, Tiff
from tests.support.originals import Original, originals, planes

SUBIFDS = 330
COUNTS = (279, 325)
OFFSETS = (273, 324)
WIDTH, LENGTH = 256, 257


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that was done to a file."""

    what: str
    """Its kind."""
    detail: str
    """Where and how, for the recipe."""
    data: bytes
    """The file afterwards."""
    is_padding: bool = False
    """Rows or columns became padding of the segments that hold them, as it is ordinary in the last
    ones of a page: nothing in the file contradicts the header."""


@dataclass(frozen=True, slots=True)
class Case:
    seed: int
    original: Original
    fault: Fault

    @property
    def recipe(self) -> str:
        n = len(self.fault.data)
        return f"seed {self.seed}: {self.original.name}: {self.fault.detail} ({n} bytes)"


class NotApplicable(Exception):  # noqa: N818
    """The file has nothing of the kind."""


def case(seed: int) -> Case:
    """The case of a seed. Kinds of faults follow one another; any hundred has several of each."""
    random = Random(seed)
    make = FAULTS[seed % len(FAULTS)]
    names = list(originals())
    # A file that has nothing of the kind makes room for another one.
    for name in random.sample(names, len(names)):
        original = originals()[name]()
        try:
            return Case(seed, original, make(original, random))
        except NotApplicable:
            continue
    raise AssertionError(f"no file has anything for {make.__name__}")


# Where things lie


@dataclass(frozen=True, slots=True)
class _Place:
    """A directory of the chain or a SubIFD, and its name in recipes."""

    name: str
    directory: Directory


def _places(tiff: Tiff) -> list[_Place]:
    """All directories, SubIFDs included."""
    found = []
    for i, directory in enumerate(tiff.directories):
        found.append(_Place(f"IFD {i}", directory))
        entry = tiff.find(directory, SUBIFDS)
        if entry is None:
            continue
        at, count, size = tiff.content(entry)
        for k in range(count):
            pointer_at = at + k * size
            start = tiff.get(pointer_at, {4: "I", 8: "Q"}[size])
            n = tiff.get(start, tiff.number_code)
            next_at = start + tiff.head_bytes + n * tiff.entry_bytes
            found.append(_Place(f"SubIFD {k} of IFD {i}", Directory(start, pointer_at, n, next_at)))
    return found


def _chosen(original: Original, random: Random) -> tuple[Tiff, _Place]:
    tiff = Tiff.of(original.data)
    return tiff, random.choice(_places(tiff))


def _code(size: int) -> str:
    return {1: "B", 2: "H", 4: "I", 8: "Q"}[size]


# What is removed


def cut(original: Original, random: Random) -> Fault:
    """A byte range at the end: few bytes, any number, or all after a structure."""
    data, tiff = original.data, Tiff.of(original.data)
    ends = [one.directory.next_at + struct.calcsize(tiff.offset_code) for one in _places(tiff)]
    ends += [one.directory.at for one in _places(tiff)]
    sizes = [len(data) - random.choice((1, 2, 3, 10, 64)), random.randrange(8, len(data))]
    size = random.choice((*sizes, random.choice(ends)))
    if size >= len(data):
        raise NotApplicable
    return Fault("cut", f"{len(data) - size} bytes cut off at the end", data[:size])


def ifd(original: Original, random: Random) -> Fault:
    """A directory is zeros, as a part of a file that was never uploaded."""
    tiff, place = _chosen(original, random)
    at, stop = place.directory.at, place.directory.next_at + struct.calcsize(tiff.offset_code)
    tiff.data[at:stop] = bytes(stop - at)
    return Fault("ifd", f"{place.name} is zeros", bytes(tiff.data))


def link(original: Original, random: Random) -> Fault:
    """An offset of a directory is another one."""
    tiff, place = _chosen(original, random)
    directory = place.directory
    at = directory.pointer_at
    others = [one.directory.at for one in _places(tiff) if one.directory.at != directory.at]
    choices = [("is 0", 0), ("leads beyond the end", len(tiff.data) + random.choice((0, 2, 5000)))]
    choices += [("leads to zeros", len(tiff.data)), ("leads to itself", -1)]
    choices += [("leads to another one", random.choice(others))] if others else []
    how, value = random.choice(choices)
    if how == "leads to zeros":
        tiff.data += bytes(64)
    if value == -1:  # the directory before it
        before = [one for one in tiff.directories if one.next_at == at]
        if not before:
            raise NotApplicable
        value = before[0].at
    code = tiff.offset_code
    if place.name.startswith("Sub") and tiff.is_big:
        code = "Q"
    tiff.put(at, code, value)
    return Fault(f"link {how}", f"the link to {place.name} {how} ({value})", bytes(tiff.data))


def end_of_chain(original: Original, random: Random) -> Fault:
    """The last directory leads to where there is none."""
    tiff = Tiff.of(original.data)
    last = tiff.directories[-1]
    value = random.choice((len(tiff.data), len(tiff.data) + 10**6, tiff.directories[0].at, last.at))
    tiff.put(last.next_at, tiff.offset_code, value)
    return Fault("end of chain", f"after the last IFD the link is {value}", bytes(tiff.data))


def tag(original: Original, random: Random) -> Fault:
    """An entry is removed; those after it move up."""
    tiff, place = _chosen(original, random)
    entry = random.choice(tiff.entries(place.directory))
    code = tiff.get(entry, "H")
    _without(tiff, place.directory, entry)
    return Fault("tag", f"{place.name} without tag {code}", bytes(tiff.data))


def _without(tiff: Tiff, directory: Directory, entry: int) -> None:
    stop = directory.next_at + struct.calcsize(tiff.offset_code)
    tiff.data[entry:stop] = tiff.data[entry + tiff.entry_bytes : stop] + bytes(tiff.entry_bytes)
    tiff.put(directory.at, tiff.number_code, directory.n_entries - 1)


def number_of_entries(original: Original, random: Random) -> Fault:
    """A directory says that it has one entry fewer, or more."""
    tiff, place = _chosen(original, random)
    n = place.directory.n_entries + random.choice((-1, 1))
    tiff.put(place.directory.at, tiff.number_code, n)
    return Fault("number of entries", f"{place.name} says {n} entries", bytes(tiff.data))


def byte_count(original: Original, random: Random) -> Fault:
    """A byte count is 0 or smaller."""
    tiff, place = _chosen(original, random)
    entries = [tiff.find(place.directory, code) for code in COUNTS]
    entry = next((one for one in entries if one is not None), None)
    if entry is None:
        raise NotApplicable
    at, count, size = tiff.content(entry)
    stored = [i for i in range(count) if tiff.get(at + i * size, _code(size))]
    i = random.choice(stored)
    was = tiff.get(at + i * size, _code(size))
    new = random.choice((0, 0, was - 1, was // 2, was - min(was, 7)))
    tiff.put(at + i * size, _code(size), new)
    detail = f"byte count {i} of {place.name} is {new} instead of {was}"
    return Fault("byte count", detail, bytes(tiff.data))


def offset(original: Original, random: Random) -> Fault:
    """A segment's offset is 0."""
    tiff, place = _chosen(original, random)
    entries = [tiff.find(place.directory, code) for code in OFFSETS]
    entry = next(one for one in entries if one is not None)
    at, count, size = tiff.content(entry)
    i = random.randrange(count)
    was = tiff.get(at + i * size, _code(size))
    if was == 0:
        raise NotApplicable
    tiff.put(at + i * size, _code(size), 0)
    return Fault("offset", f"offset {i} of {place.name} is 0", bytes(tiff.data))


def number_of_segments(original: Original, random: Random) -> Fault:
    """The list of offsets or of byte counts is one shorter."""
    tiff, place = _chosen(original, random)
    entries = [tiff.find(place.directory, code) for code in (*OFFSETS, *COUNTS)]
    entry = random.choice([one for one in entries if one is not None])
    count = tiff.get(entry + 4, tiff.offset_code)
    at, _, size = tiff.content(entry)
    # What fits into an entry stands there.
    inline = 8 if tiff.is_big else 4
    first = bytes(tiff.data[at : at + (count - 1) * size])
    if count > 1 and count * size > inline >= (count - 1) * size:
        tiff.data[tiff.value_at(entry) : tiff.value_at(entry) + inline] = first.ljust(inline, b"\0")
    if count == 1:
        raise NotApplicable
    tiff.put(entry + 4, tiff.offset_code, count - 1)
    detail = f"tag {tiff.get(entry, 'H')} of {place.name} has {count - 1} of {count} values"
    return Fault("number of segments", detail, bytes(tiff.data))


def length(original: Original, random: Random) -> Fault:
    """ImageLength or ImageWidth is smaller."""
    tiff, place = _chosen(original, random)
    code = random.choice((LENGTH, LENGTH, WIDTH))
    entry = tiff.find(place.directory, code)
    assert entry is not None
    at, _, size = tiff.content(entry)
    was = tiff.get(at, _code(size))
    new = random.choice((was - 1, was // 2, was - min(was - 1, 17)))
    if new < 1:
        raise NotApplicable
    tiff.put(at, _code(size), new)
    name = "ImageLength" if code == LENGTH else "ImageWidth"
    detail = f"{name} of {place.name} is {new} instead of {was}"
    data = bytes(tiff.data)
    return Fault(name, detail, data, is_padding=_is_padding(tiff, place.directory, code, was, new))


def _is_padding(tiff: Tiff, directory: Directory, code: int, was: int, new: int) -> bool:
    """Whether the page has as many segments as before, whose size its length does not tell."""
    values = {}
    for tag_code in (259, 278, 322, 323):
        entry = tiff.find(directory, tag_code)
        if entry is not None:
            at, _, size = tiff.content(entry)
            values[tag_code] = tiff.get(at, _code(size))
    if code == WIDTH:
        side = values.get(322, 0)  # strips are as wide as the page
    else:
        # Of what is not compressed, the byte counts tell how many rows there are.
        side = values.get(323) or (values.get(278, was) if values.get(259, 1) != 1 else 0)
    return side > 0 and -(-was // side) == -(-new // side)


# What a description says

_NUMBERS = (rb"\b(?:images|channels|slices|frames)=(\d)\n", rb'\b(?:Size[CZT]|PlaneCount)="(\d)"')
_NUMBERS += (rb'"shape": \[(\d),', rb'"shape": \[\d, (\d),', rb'\b(?:IFD|First[CZT])="(\d)"')


def described(original: Original, random: Random) -> Fault:
    """A number of the description becomes smaller or larger."""
    found = [match for text in _NUMBERS for match in re.finditer(text, original.data)]
    if not found:
        raise NotApplicable
    match = random.choice(found)
    was = int(match[1])
    new = random.choice([n for n in {was - 1, was + 1, 2 * was, was // 2, 9} if 0 <= n <= 9])
    if new == was:
        raise NotApplicable
    data = original.data[: match.start(1)] + b"%d" % new + original.data[match.end(1) :]
    text = match[0].decode().strip()
    return Fault("described", f"{text} becomes {new}", data)


def tiff_data(original: Original, random: Random) -> Fault:
    """A TiffData is removed, or one is added."""
    found = list(re.finditer(rb"<TiffData[^>]*/>", original.data))
    if not found:
        raise NotApplicable
    match = random.choice(found)
    after = original.data[match.end() :]
    room = re.search(rb" {200,}", original.data)
    if room is None or random.random() < 0.5:
        data = original.data[: match.start()] + b" " * len(match[0]) + after
        return Fault("TiffData removed", f"without {match[0].decode()}", data)
    ifd_number, t = random.choice(((6, 3), (0, 3), (9, 0), (6, 0)))
    new = b'<TiffData FirstC="0" FirstT="%d" FirstZ="0" IFD="%d" PlaneCount="1"/>' % (t, ifd_number)
    data = original.data[: room.start()] + new + original.data[room.start() + len(new) :]
    return Fault("TiffData added", f"with {new.decode()}", data)


# What is added


def pages_added(original: Original, random: Random) -> Fault:
    """Pages follow the last one: like those before, or others."""
    n, shape = random.choice((1, 2, 3)), random.choice(((44, 52), (44, 52), (24, 32)))
    dtype = random.choice(("uint16", "uint8"))
    tiff = Tiff.of(original.data)
    for plane in added(n, dtype, shape):
        _append(tiff, plane)
    return Fault("pages added", f"{n} pages added, {shape} {dtype}", bytes(tiff.data))


def added(n: int = 3, dtype: str = "", shape: tuple[int, ...] = ()) -> list[Array]:
    """Planes that no original has; by default all that are ever added."""
    dtypes = (dtype,) if dtype else ("uint16", "uint8")
    shapes = (shape,) if shape else ((44, 52), (24, 32))
    made = [planes(n, dtype, shape) for dtype in dtypes for shape in shapes]
    return [np.flip(plane).copy() for stack in made for plane in stack]


def _append(tiff: Tiff, plane: Array) -> None:
    """Write a plane and its directory at the end, and link it."""
    last = Tiff.of(bytes(tiff.data)).directories[-1]
    tiff.data += b"\0" * (len(tiff.data) % 2)
    start = len(tiff.data)
    tiff.data += plane.astype(plane.dtype.newbyteorder(tiff.order)).tobytes()
    tiff.data += b"\0" * (len(tiff.data) % 2)
    tiff.put(last.next_at, tiff.offset_code, len(tiff.data))
    height, width = plane.shape
    values = {256: width, 257: height, 258: 8 * plane.itemsize, 259: 1, 262: 1, 273: start}
    values |= {277: 1, 278: height, 279: plane.nbytes}
    number, offset = tiff.number_code, tiff.offset_code
    tiff.data += struct.pack(tiff.order + number, len(values))
    for code, value in values.items():
        kind = 16 if tiff.is_big else 4
        tiff.data += struct.pack(f"{tiff.order}HH{offset}{offset}", code, kind, 1, value)
    tiff.data += struct.pack(tiff.order + offset, 0)


def bytes_added(original: Original, random: Random) -> Fault:
    """Something follows the end."""
    n = random.choice((1, 100, 5000))
    tail = random.choice((bytes(n), random.randbytes(n), (original.data * 3)[:n]))
    return Fault("bytes added", f"{n} bytes added at the end", original.data + tail)


FAULTS: Sequence[Callable[[Original, Random], Fault]] = (
    *(cut, cut, cut, ifd, link, link, end_of_chain, tag, tag, tag, number_of_entries),
    *(byte_count, byte_count, offset, number_of_segments, length, length),
    *(described, described, tiff_data, pages_added, bytes_added),
)
"""Those that can do more come more often."""
