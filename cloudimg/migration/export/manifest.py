"""Which files an export has written, so that it continues after an interruption.

The folder of an export has parts of a manifest below ``.cloudimg-export``. Each lists files that
were stored before it, with size, SHA-256 and version; so whoever continues knows from one listing
of the folder which files are there and right. A file that no part lists was stored shortly before
the interruption, or is somebody else's: it counts as exported only if it has the bytes that would
be written.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cloudimg.errors import CorruptFileError, NotFoundError, OccupiedError, StorageError
from cloudimg.migration.export.result import Lost
from cloudimg.migration.journal.destination import Destination, as_json
from cloudimg.storage import Entry

FOLDER = ".cloudimg-export"
_PART_FILES = 100
"""Files that a part of the manifest lists, at most. After an interruption, as many are made again
and compared."""
_PART_BYTES = 2**25
"""Bytes that are read at once of a file that is compared: it may be larger than the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A file that an export stored."""

    size_bytes: int
    sha256: str
    etag: str | None
    """Version of the object; None if the store does not report it."""
    lost: tuple[Lost, ...]
    """What it lacks of the original."""


class Manifest:
    """The files of one export. Thread-safe.

    Parameters
    ----------
    out : Destination
        Folder of the files.
    identity : str
        Digest of everything that decides which files are written.
    """

    def __init__(self, out: Destination, identity: str) -> None:
        self._out = out
        self._folder = f"{FOLDER}/{identity}"
        self._lock = threading.Lock()
        self._pending: dict[str, Exported] = {}
        self._found: dict[str, Entry] = {}
        self._known: dict[str, Exported] = {}
        parts = []
        for entry in out.list():
            if entry.key.startswith(f"{self._folder}/"):
                parts.append(entry.key)
            elif not entry.key.startswith(f"{FOLDER}/"):
                self._found[entry.key] = entry
        self._n_parts = len(parts)
        for key in sorted(parts):  # later parts list files that replaced earlier ones
            self._known |= _read_part(out, key)

    def exists(self, name: str) -> bool:
        """Whether the folder had a file of this name when the export began."""
        return name in self._found

    def exported(self, name: str) -> Exported | None:
        """A file of this export that is there and right; it is read only if its version changed."""
        known, entry = self._known.get(name), self._found.get(name)
        if known is None or entry is None or entry.size_bytes != known.size_bytes:
            return None
        if known.etag is not None and entry.etag == known.etag:
            return known
        return known if _has_digest(self._out, name, known.size_bytes, known.sha256) else None

    def add(self, name: str, file: Exported) -> None:
        """Add a file that was stored."""
        with self._lock:
            self._pending[name] = file
            full = len(self._pending) >= _PART_FILES
        if full:
            self.flush()

    def flush(self) -> None:
        """Store what was added since the last part."""
        with self._lock:
            files, self._pending = self._pending, {}
            number, self._n_parts = self._n_parts, self._n_parts + bool(files)
        if not files:
            return
        content = {
            name: [one.size_bytes, one.sha256, one.etag, [list(each) for each in one.lost]]
            for name, one in files.items()
        }
        data = as_json(content)
        # Two exports at once may count alike; each part has a name of its own content.
        digest = hashlib.sha256(data).hexdigest()[:8]
        self._out.put(f"{self._folder}/{number:06d}-{digest}.json", data)


def _read_part(out: Destination, key: str) -> dict[str, Exported]:
    try:
        content = json.loads(out.get(key))
        return {
            name: Exported(
                size_bytes=int(size), sha256=str(sha256), etag=etag and str(etag),
                lost=tuple((str(what), str(why)) for what, why in lost),
            )
            for name, (size, sha256, etag, lost) in content.items()
        }  # fmt: skip
    except (ValueError, TypeError, AttributeError) as exc:
        url = out.display(key)
        raise CorruptFileError(
            f"{url} is damaged: not a part of an export's manifest; delete it to go on", url=url
        ) from exc


def store(
    out: Destination, manifest: Manifest, name: str, path: Path, lost: Iterable[Lost], *,
    overwrite: bool, most_put_bytes: int,
) -> bool:  # fmt: skip
    """Store a file under its final name, as a whole; whether it was not there before.

    Raises
    ------
    OccupiedError
        If another file has the name, and is not to be replaced.
    """
    size = path.stat().st_size
    with path.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    is_new, etag = True, None
    if manifest.exists(name) and not overwrite:
        if not _has_bytes(out, name, size, sha256):
            raise _exists(out, name)
        is_new = False
    elif size > most_put_bytes:
        out.upload(name, path)
    elif overwrite:
        etag = out.put(name, path.read_bytes())
    else:
        etag = _create(out, name, path.read_bytes())
    file = Exported(
        size_bytes=size, sha256=sha256, etag=etag or out.info(name).etag, lost=tuple(lost)
    )
    manifest.add(name, file)
    return is_new


def _create(out: Destination, name: str, data: bytes) -> str | None:
    """Store an object unless the name exists, as far as the store can do that; its version."""
    try:
        created = out.create(name, data)
    except StorageError as exc:
        if type(exc) is not StorageError:
            raise
    else:
        if not created:
            raise _exists(out, name)
        return created.etag
    # A store without conditional writes: the listing at the start had no file of this name.
    return out.put(name, data)


def _has_bytes(out: Destination, name: str, size: int, sha256: str) -> bool:
    try:
        return out.info(name).size_bytes == size and _has_digest(out, name, size, sha256)
    except NotFoundError:
        return False


def _has_digest(out: Destination, name: str, size: int, sha256: str) -> bool:
    """Whether a file of this size is there with the bytes of a digest. It is read in parts."""
    digest = hashlib.sha256()
    try:
        for start in range(0, size, _PART_BYTES):
            digest.update(out.get_part(name, start, min(start + _PART_BYTES, size)))
    except NotFoundError:
        return False
    return digest.hexdigest() == sha256


def _exists(out: Destination, name: str) -> OccupiedError:
    return OccupiedError(
        f"{out.display(name)} already exists and is not what this export writes: export to another"
        " folder, or pass overwrite=True to replace it"
    )
