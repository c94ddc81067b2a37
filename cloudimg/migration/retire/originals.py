"""The files that a copy was made of, and whether they are still those."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.file_versions import file_version
from cloudimg.discovery.table import FileTable
from cloudimg.errors import (
    ArgumentError,
    ChangedError,
    CorruptFileError,
    NotFoundError,
    counted,
)
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.file_table import get_files
from cloudimg.migration.journal.records import read_records
from cloudimg.migration.journal.state import State
from cloudimg.migration.retire.action import Original
from cloudimg.storage import Standing, Store, engine, map_ahead

AHEAD = 64
"""Files about which a store is asked at once."""
_READ_BYTES = 2**26
_SHOWN = 3


class CopiedFiles:
    """The files that a copy was made of, each in the version in which its cells have read it.

    Parameters
    ----------
    copy : Destination
    state : State
    source : Store
        Where the files are.

    Raises
    ------
    ArgumentError
        If the copy does not say enough about them.
    CorruptFileError, StorageError
    """

    def __init__(self, copy: Destination, state: State, source: Store) -> None:
        table = get_files(copy, state)
        if table is None or not table.has_own_names:
            raise ArgumentError(
                f"{copy.url} does not have the names of its files, without secrets, so they cannot"
                " be retired"
            )
        self.source = source
        self._table = table
        self._rows, file_of_row = _rows_of_files(table)
        self.n_listed = len(table) if table.pages is None else len(self._rows)
        """Number of files as they are listed: a list may name one twice."""
        versions = _versions(copy, state, table)
        self._versions = versions[self._rows]
        if ((versions != self._versions[file_of_row]) & (versions != 0)).any():
            raise ArgumentError(f"the cells of {copy.url} have read different versions of a file")
        if not self._versions.all():
            raise ArgumentError(
                f"{copy.url} does not say in which version"
                f" {counted(int((self._versions == 0).sum()), 'file was', 'files were')} copied:"
                " their store states none, so they cannot be retired"
            )

    def __len__(self) -> int:
        return len(self._rows)

    def keys(self) -> Iterator[str]:
        """Keys of the files in their store."""
        location = self.source.location
        for row in self._rows.tolist():
            yield location.key_of(self._table.keys[row].as_py())

    def look(self) -> Iterator[tuple[str, Standing | None]]:
        """What stands at each key now; None where it is not the version that was copied.

        Raises
        ------
        StorageError
        """
        pairs = zip(self.keys(), self._versions.tolist(), strict=True)

        def start(pair: tuple[str, int]) -> Future[tuple[str, Standing | None]]:
            return engine().fetch(partial(_if_same, self.source, *pair))

        yield from map_ahead(start, pairs, n_ahead=AHEAD)


def _rows_of_files(table: FileTable) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of the table with each file once, and by row the number of its file.

    A member of a dataset has a row for each plane, and a list may name a file more than once.
    """
    numbers: dict[str, int] = {}
    keys = table.keys.to_pylist()
    file_of_row = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
    return np.unique(file_of_row, return_index=True)[1], file_of_row


def _versions(copy: Destination, state: State, table: FileTable) -> npt.NDArray[np.uint64]:
    """By row of the table, the version that was read; 0 where that is not known."""
    versions = np.zeros(len(table), np.uint64)
    numbers = range(state.plan.n_cells(0))
    for number, record in read_records(copy, 0, numbers):
        if record is None or record.files is None or record.plan_id != state.id:
            raise CorruptFileError(
                f"{copy.url} is damaged: the commit record of cell {number}, which names the"
                " files that were read, is missing",
                url=copy.url,
            )
        places, found = record.files.arrays()
        rows = np.searchsorted(table.rows, places)
        rows[rows == len(table)] = 0
        if not np.array_equal(table.rows[rows], places):
            raise CorruptFileError(
                f"{copy.url} is damaged: cell {number} has read files that its table lacks",
                url=copy.url,
            )
        known = versions[rows]
        if ((known != found) & (known != 0)).any():
            raise ArgumentError(f"the cells of {copy.url} have read different versions of a file")
        versions[rows] = found
    return versions


def _if_same(source: Store, key: str, version: int) -> tuple[str, Standing | None]:
    """What stands at a key, if it is the version with this digest."""
    standing = source.move(lambda mover: mover.look(key), changes=False)
    if standing is None or standing.version is None:
        return key, None
    if file_version(standing.version, standing.size_bytes) == version:
        return key, standing
    # Some stores state another version in answers to GET, which is how the files were read.
    try:
        blob = source.get(key, 0, 1)
    except NotFoundError:
        return key, None
    is_same = file_version(blob.etag, standing.size_bytes) == version
    return key, standing if is_same else None


def originals(
    files: CopiedFiles, *, name: str | None, trusts_md5: bool, report: Callable[[int], None]
) -> Iterator[Original]:
    """Each file as it is now.

    Parameters
    ----------
    files : CopiedFiles
    name : str, optional
        Name of the tag that files get, whose value before is kept.
    trusts_md5 : bool
        Whether what the store states as MD5s was found to be that. If not, or where it states
        none, the bytes of each file are read.
    report : callable
        Called with the size of each file.

    Raises
    ------
    ChangedError
        If files changed since they were copied.
    StorageError
    """
    n_changed, changed = 0, []

    def start(found: tuple[str, Standing | None]) -> Future[Original | str]:
        return engine().fetch(partial(_original, files.source, *found, name, trusts_md5))

    for original in map_ahead(start, files.look(), n_ahead=AHEAD):
        if isinstance(original, str):
            n_changed += 1
            changed += [original] if n_changed <= _SHOWN else []
        else:
            report(original.size_bytes)
            yield original
    if n_changed:
        shown = ", ".join(changed)
        raise ChangedError(
            f"{counted(n_changed, 'file')} changed since the copy was made ({shown}): nothing was"
            " done to any file. Migrate again to copy them"
        )


def _original(
    source: Store, key: str, standing: Standing | None, name: str | None, trusts_md5: bool
) -> Original | str:
    if standing is None or standing.version is None:
        return source.location.display(key)
    digests = [each for each in standing.digests if trusts_md5 or not each.startswith("md5:")]
    digest = digests[0] if digests else digest_of_bytes(source, key, standing, "sha256")
    before = None
    if name is not None:
        before = source.move(lambda mover: mover.tags(key), changes=False).get(name)
    return Original(key, standing.size_bytes, standing.version, digest, before)


def digest_of_bytes(source: Store, key: str, standing: Standing, kind: str) -> str:
    """Digest of all bytes of an object, read in pieces.

    Raises
    ------
    ChangedError
        If it changes meanwhile.
    StorageError
    """
    digest = hashlib.new(kind, usedforsecurity=False)
    etag = None
    for start in range(0, standing.size_bytes, _READ_BYTES):
        blob = source.get(key, start, min(start + _READ_BYTES, standing.size_bytes))
        if etag not in (None, blob.etag):
            url = source.location.display(key)
            raise ChangedError(f"{url} changed while it was read", url=url)
        etag = blob.etag
        digest.update(blob.data)
    return f"{kind}:{digest.hexdigest()}"


def has_bytes_of(original: Original, store: Store, key: str, standing: Standing) -> bool:
    """Whether an object has the bytes of an original, at its place or elsewhere.

    Raises
    ------
    StorageError
    """
    if standing.size_bytes != original.size_bytes:
        return False
    if original.digest in standing.digests:
        return True
    kind = original.digest.partition(":")[0]
    if kind not in ("md5", "sha256"):
        return False
    try:
        return digest_of_bytes(store, key, standing, kind) == original.digest
    except NotFoundError:
        return False  # deleted since it was looked at
