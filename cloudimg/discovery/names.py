"""Compact storage for many file names, and digests of them. Pure."""

from __future__ import annotations

import hashlib
import zlib
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_NAMES_PER_BLOCK = 1000

ANY_NAME = ("utf-8", "surrogateescape")
"""Encoding and error handler that can encode any local file name, also one that is not Unicode."""


ETAG_DIGEST = "blake2b:"
"""What a digest of an ETag begins with as text, in tables that are given to users."""


def name_digests(names: Iterable[str]) -> bytes:
    """Return digests of names, each of eight bytes."""
    blake2b = hashlib.blake2b
    texts = [name.encode(*ANY_NAME) for name in names]
    return b"".join([blake2b(text, digest_size=8).digest() for text in texts])


def files_digest(columns: Iterable[npt.NDArray[Any] | None]) -> str:
    """Digest of the files of a grid, from columns in its order: whoever listed them, and how.

    Parameters
    ----------
    columns : iterable of ndarray or None
        Digests of names, sizes, ETags and numbers of pages. A column of which nothing is known is
        left out.
    """
    digest = hashlib.sha256(b"files")
    for number, column in enumerate(columns):
        if column is not None and column.any():
            digest.update(f"{number}:{column.dtype.str}:".encode())
            digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()


def keep_first(names: list[str], name: str, most: int) -> None:
    """Add a name to the first ones in alphabetical order: those of a listing come in any order."""
    if len(names) < most or name < names[-1]:
        insort(names, name)
        del names[most:]


class NameColumn:
    """A growing list of names, compressed in blocks. Picklable."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._open: list[str] = []
        self._cached: tuple[int, list[str]] = (-1, [])

    def __len__(self) -> int:
        return len(self._blocks) * _NAMES_PER_BLOCK + len(self._open)

    def append(self, name: str) -> None:
        self._open.append(name)
        if len(self._open) == _NAMES_PER_BLOCK:
            self._blocks.append(zlib.compress("\0".join(self._open).encode(*ANY_NAME), 1))
            self._open = []

    def __getitem__(self, row: int) -> str:
        block, i = divmod(row, _NAMES_PER_BLOCK)
        if block == len(self._blocks):
            return self._open[i]
        number, names = self._cached
        if number != block:
            names = zlib.decompress(self._blocks[block]).decode(*ANY_NAME).split("\0")
            self._cached = (block, names)
        return names[i]

    def __iter__(self) -> Iterator[str]:
        for row in range(len(self)):
            yield self[row]


@dataclass(frozen=True, slots=True)
class CountedTexts(Sequence[str]):
    """Equally spaced numbers as text; a million of them pickle as four integers."""

    start: int
    step: int
    length: int
    width: int
    """Number of digits, padded with zeros."""

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: Any) -> Any:
        if not 0 <= i < self.length:
            raise IndexError(i)
        return f"{self.start + i * self.step:0{self.width}d}"


def compact(texts: Sequence[str]) -> Sequence[str]:
    """Texts as `CountedTexts` where they are equally spaced numbers, else as a tuple."""
    if texts[0].isdecimal() and texts[-1].isdecimal():
        start = int(texts[0])
        step = int(texts[1]) - start if len(texts) > 1 and texts[1].isdecimal() else 1
        counted = CountedTexts(start, step, len(texts), len(texts[0]))
        if all(number == text for number, text in zip(counted, texts, strict=True)):
            return counted
    return tuple(texts)
