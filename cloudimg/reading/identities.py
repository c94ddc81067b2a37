"""UUIDs by which the files of an OME-TIFF set identify themselves, checked as files are read.

A file whose own UUID is that of another file of the set was renamed, and its pixels belong
elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloudimg.errors import MismatchError


@dataclass(frozen=True, slots=True, eq=False)
class Identities:
    """The UUIDs of the files of a set. Pickles small."""

    digests: npt.NDArray[np.uint64]
    """Digest of the UUID of each file, by file number."""
    rows: npt.NDArray[np.int32]
    """File number by index in the grid."""
    shared: int
    """Digest of a UUID that does not identify a file, because several have it: Micro-Manager
    writes that of the first file into all of them. 0 if unknown."""

    @classmethod
    def of(cls, uuids: Sequence[str], rows: npt.NDArray[np.int32], shared: str) -> Identities:
        """Return the identities of files with these UUIDs."""
        digests = np.array([_digest(uuid) for uuid in uuids], np.uint64)
        return cls(digests, rows, _digest(shared) if shared else 0)

    def belongs_elsewhere(self, index: tuple[int, ...], uuid: str) -> bool:
        """Whether a UUID is that of another file than the one at an index of the grid."""
        if not uuid:
            return False
        found = _digest(uuid)
        if found in (int(self.digests[self.rows[index]]), self.shared):
            return False
        return bool((self.digests == found).any())

    def check(self, index: tuple[int, ...], uuid: str, url: str) -> None:
        """Check the UUID in the file at an index of the grid.

        Raises
        ------
        MismatchError
            If it is that of another file of the set.
        """
        if self.belongs_elsewhere(index, uuid):
            raise MismatchError(
                f"{url} has the UUID of another file of its multi-file dataset, {uuid}: files were"
                ' renamed; open the image with validate="all", which finds each file by its UUID',
                url=url,
            )


def _digest(uuid: str) -> int:
    return int.from_bytes(hashlib.sha256(uuid.encode()).digest()[:8], "little") or 1
