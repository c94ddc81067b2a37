"""The files of a source: which of them exist, and in which versions. Pure."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.grid import Keys
from cloudimg.errors import MissingFilesError, counted
from cloudimg.pattern import Label
from cloudimg.reading.identities import Identities


@dataclass(frozen=True, slots=True)
class ListedVersions:
    """Sizes and ETags of the files of a table, in C order of the grid."""

    sizes: npt.NDArray[Any]
    """Sizes in bytes, -1 where unknown."""
    etags: npt.NDArray[np.uint64] | None
    """Digests of ETags, 0 where unknown; None if all are."""

    def at(self, position: int) -> tuple[int, int]:
        """Size and ETag of a file."""
        return int(self.sizes[position]), 0 if self.etags is None else int(self.etags[position])

    def taken(self, places: npt.NDArray[np.int64]) -> ListedVersions:
        """The same of the files at some positions."""
        return ListedVersions(
            self.sizes[places], None if self.etags is None else self.etags[places]
        )


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """The grid of files as far as reading needs it. Pickles small."""

    keys: Keys
    """Names of the files by index in the grid."""
    present: bytes | None
    """Packed bitmap of the files that exist, made by `pack`; None if all do."""
    grid_shape: tuple[int, ...]
    size_bound_bytes: int | None
    """Upper bound of the size of a file, where sizes are known or can be guessed."""
    pages: npt.NDArray[np.int64] | None = None
    """Number of the page in its file by index in the grid, in a multi-file dataset."""
    first_pages: bytes | None = None
    """Packed bitmap of the first page of each file, made by `pack`, in a multi-file dataset."""
    identities: Identities | None = None
    """UUIDs of the files of a multi-file dataset, if each has one."""
    labels: Mapping[str, Sequence[Label]] = field(default_factory=dict)
    """Labels by axis of the grid, where missing files have no names in `keys`."""
    listed: ListedVersions | None = None
    """Versions of the files in the table that lists them; None without a table."""

    def name_of(self, index: tuple[int, ...]) -> str | None:
        """Name of the file at an index; None of a missing file that the pattern cannot name."""
        rows = self.keys.rows
        return None if self.labels and rows is not None and rows[index] < 0 else self.keys(index)

    def labels_at(self, index: tuple[int, ...]) -> str:
        """The labels at an index, as text."""
        pairs = zip(self.labels.items(), index, strict=True)
        return "(" + ", ".join(f"{name}={labels[i]}" for (name, labels), i in pairs) + ")"

    def is_present(self, index: tuple[int, ...]) -> bool:
        """Whether there is a file at an index."""
        return self.present is None or self._bit(self.present, index)

    def is_first_page(self, index: tuple[int, ...]) -> bool:
        """Whether no earlier index of the grid has a page of the same file."""
        return self.first_pages is None or self._bit(self.first_pages, index)

    def _bit(self, packed: bytes, index: tuple[int, ...]) -> bool:
        flat = int(np.ravel_multi_index(index, self.grid_shape)) if index else 0
        return bool(_unpacked(packed)[flat >> 3] >> (7 - (flat & 7)) & 1)


def pack(present: npt.NDArray[np.bool_]) -> bytes:
    """Compress a bitmap in C order; missing files are often regular, so it becomes small."""
    return zlib.compress(np.packbits(present).tobytes(), 6)


@functools.lru_cache(maxsize=8)
def _unpacked(packed: bytes) -> bytes:
    return zlib.decompress(packed)


def missing_files(
    n_missing: int, examples: Sequence[str], why: str = "", parts: Sequence[str] = ()
) -> MissingFilesError:
    """Return the error for missing files in a grid.

    Parameters
    ----------
    n_missing : int
    examples : sequence of str
        Labels of some of them.
    why : str
        What they have in common.
    parts : sequence of str
        Arguments that open a part without them.
    """
    shown = ", ".join(examples) + (", ..." if n_missing > len(examples) else "")
    shown += f": {why}" if why else ""
    of_parts = f" {' or '.join(parts)} to open a part that has all its files," if parts else ""
    return MissingFilesError(
        f"{counted(n_missing, 'file of the grid is', 'files of the grid are')} missing: {shown};"
        f' pass missing="fill" (and fill_value=) to read them as a constant,{of_parts} or narrow'
        " the pattern"
    )
