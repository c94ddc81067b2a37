"""Which files a cell has read, and in which version: as rows of the table of files."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.errors.checked_json import GREATEST, checked_object, checked_text

_DIGEST = np.dtype(">u8")
_MOST_CHARACTERS = 2**22
"""Enough for the versions of 393,000 files, each with a few hundred bytes of pixels in a cell."""


@dataclass(frozen=True, slots=True)
class FilesRead:
    """The files that a cell has read. Takes about a dozen bytes a file as JSON."""

    rows: str
    """Positions of the files in C order of the grid, as ranges with both ends, such as ``0-3,7``.
    """
    versions: str
    """Base64 of eight bytes for each of them, see `cloudimg.discovery.file_versions`."""

    @classmethod
    def of(cls, versions: Mapping[int, int]) -> Self:
        """Return the files with the given versions, by position."""
        rows = np.array(sorted(versions), np.int64)
        digests = np.array([versions[row] for row in rows.tolist()], _DIGEST)
        breaks = np.flatnonzero(np.diff(rows) != 1)
        first, last = rows[np.r_[0, breaks + 1]], rows[np.r_[breaks, -1]]
        ranges = [
            str(a) if a == b else f"{a}-{b}"
            for a, b in zip(first.tolist(), last.tolist(), strict=True)
        ]
        return cls(",".join(ranges), base64.b64encode(digests.tobytes()).decode())

    def arrays(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        """Positions of the files, increasing, and their versions."""
        digests = np.frombuffer(base64.b64decode(self.versions, validate=True), _DIGEST)
        if self.rows.count(",") >= len(digests):
            raise ValueError(f"files.versions has {len(digests)}, which is not one for each file")
        ends = [text.partition("-") for text in self.rows.split(",")]
        ranges = [range(int(first), int(last or first) + 1) for first, _, last in ends]
        if sum(each.stop - each.start for each in ranges) != len(digests):
            raise ValueError(f"files.versions has {len(digests)}, which is not one for each file")
        is_increasing = all(a.stop <= b.start for a, b in pairwise(ranges))
        if not is_increasing or not all(each.start < each.stop <= GREATEST for each in ranges):
            raise ValueError("files.rows does not increase")
        positions = np.concatenate([np.arange(each.start, each.stop) for each in ranges])
        return positions, digests.astype(np.uint64)

    def to_json(self) -> dict[str, Any]:
        """The files as JSON for a commit record."""
        return {"rows": self.rows, "versions": self.versions}

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Read the files from a commit record.

        Raises
        ------
        ValueError
        """
        checked_object(content, "files", required=("rows", "versions"))
        read = cls(
            checked_text(content["rows"], "files.rows", most=_MOST_CHARACTERS),
            checked_text(content["versions"], "files.versions", most=_MOST_CHARACTERS),
        )
        read.arrays()
        return read
