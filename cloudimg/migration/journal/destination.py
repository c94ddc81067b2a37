"""`Destination`: access to the objects below one URL, and to no others."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cloudimg.errors import ArgumentError, CorruptFileError, LeaseError, NotFoundError
from cloudimg.reading.transit import TransitCheck
from cloudimg.storage import Created, Data, Entry, Store, WriteGuard, split_url, step_of
from cloudimg.storage.uploading import upload

Checks = list[Future[None]]
"""Checks of the ends of listings; see `Store.list_objects`."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A folder in a store. Keys are relative to it. Picklable, thread-safe, connects lazily."""

    store: Store
    root: str
    """Key of the folder in the store, without a trailing slash."""
    only_creates: bool = False
    """Whether nothing is replaced or deleted: others write here at the same time."""

    @property
    def url(self) -> str:
        """URL of the folder, without credentials."""
        return self.store.location.display(self.root)

    @property
    def is_local(self) -> bool:
        """Whether the folder is on a local disk."""
        return self.store.location.protocol == "file"

    def below(self, folder: str) -> Destination:
        """The destination of a folder below; it has no guard."""
        return Destination(Store(self.store.location, self.store.options), self._key(folder))

    def step(self, verb: str) -> str:
        """What tasks on a cluster do here, see `step_of`."""
        return step_of(verb, self.url)

    def _key(self, key: str) -> str:
        return f"{self.root}/{key}"

    def display(self, key: str) -> str:
        """URL of an object, without credentials."""
        return self.store.location.display(self._key(key))

    def get(self, key: str, *, most_bytes: int | None = None) -> bytes:
        """Read all bytes of an object; of one with more than `most_bytes`, only one byte more."""
        return self.get_with_etag(key, most_bytes=most_bytes)[0]

    def get_with_etag(self, key: str, *, most_bytes: int | None = None) -> tuple[bytes, str | None]:
        """Read all bytes of an object, and its version; see `get`."""
        if most_bytes is None:
            blob = self.store.get(self._key(key))
        else:
            blob = self.store.get(self._key(key), 0, most_bytes + 1)
        return bytes(blob.data), blob.etag

    def get_part(self, key: str, start: int, stop: int) -> Data:
        """Read a range of bytes of an object."""
        return self.store.get(self._key(key), start, stop).data

    def get_checked(self, key: str, *, most_bytes: int) -> bytes:
        """Read all bytes of an object, once more if they changed in transit; see `get`."""
        check = TransitCheck(self.store, is_wanted=True)
        return bytes(check.get(self._key(key), most_bytes + 1)[0].data)

    def get_json(self, key: str) -> Any:
        """Read a JSON object; None if there is no such object.

        Raises
        ------
        CorruptFileError
            If its content is not valid JSON.
        """
        try:
            data = self.get(key)
        except NotFoundError:
            return None
        try:
            return json.loads(data)
        except ValueError as exc:
            url = self.display(key)
            raise CorruptFileError(f"{url} is damaged: not valid JSON", url=url) from exc

    def put(self, key: str, data: Data) -> str | None:
        """Store an object with one request; returns its version."""
        self._refuse_change(key)
        return self.store.put(self._key(key), data)

    def create(self, key: str, data: Data) -> Created:
        """Store an object unless the key exists; true if this call created it."""
        return self.store.create(self._key(key), data)

    def replace(self, key: str, data: Data, version: str | None) -> Created:
        """Store an object if the key has this version of it; true if the key has it now."""
        self._refuse_change(key)
        return self.store.replace(self._key(key), data, version)

    def guarded(self, guard: WriteGuard) -> Destination:
        """The same destination; `guard` allows each attempt to change it, or raises."""
        return replace(self, store=self.store.guarded(guard))

    def only_creating(self, guard: WriteGuard) -> Destination:
        """The same destination with a guard, in which objects are created and nothing else."""
        return replace(self.guarded(guard), only_creates=True)

    def _refuse_change(self, key: str) -> None:
        """Refuse to replace or delete an object without a lease.

        Raises
        ------
        LeaseError
        """
        if self.only_creates:
            url = self.display(key)
            raise LeaseError(f"{url} cannot be replaced or deleted without a lease", url=url)

    def refuse_unwritable(self) -> None:
        """Refuse a destination that is read only, whoever asks: a web server, a chain of URLs.

        Raises
        ------
        StorageError
        """
        self.store.refuse_unwritable(self.root)

    def replaces_existing(self, key: str, data: bytes) -> bool:
        """Create an object that exists, and return whether the store ignored that it does."""
        return self.store.replaces_existing(self._key(key), data)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; missing ones are ignored."""
        for key in keys:
            self._refuse_change(key)
        self.store.delete([self._key(key) for key in keys])

    def info(self, key: str) -> Entry:
        """Read the size and version of an object."""
        return self.store.info(self._key(key))

    def upload(self, key: str, path: Path) -> None:
        """Store a local file that is too large for one request.

        It appears as a whole under its name.
        """
        self._refuse_change(key)
        upload(self.store.location, self.store.options, self._key(key), path)

    def links(self) -> list[Path]:
        """Symbolic links in a local folder: listings omit them, writes would follow them."""
        if not self.is_local:
            return []
        return [
            Path(folder, name)
            for folder, folders, names in os.walk(self.root)
            for name in (*folders, *names)
            if Path(folder, name).is_symlink()
        ]

    def list(
        self,
        folder: str = "",
        *,
        end_checks: Checks | None = None,
        coming: Collection[str] = (),
        believes_empty: bool = False,
    ) -> Iterator[Entry]:
        """List the objects in a folder, recursively, with keys relative to the destination.

        See `Store.list_objects` for the other parameters.
        """
        base = self._key(folder) if folder else self.root
        keys = {self._key(key) for key in coming}
        for batch in self.store.list_objects(
            base,
            f"{base}/",
            None,
            end_checks=end_checks,
            coming=keys,
            believes_empty=believes_empty,
        ):
            for entry in batch:
                yield entry._replace(key=entry.key[len(self.root) + 1 :])


def open_destination(
    url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None
) -> Destination:
    """Make the destination for a URL, without connecting to its store.

    Raises
    ------
    ArgumentError
        If the URL names a whole bucket, host or file system, or has a folder "..".
    """
    location, key = split_url(url)
    root = _resolved(key.rstrip("/")) if location.protocol == "file" else key.rstrip("/")
    if ".." in root.split("/"):
        raise ArgumentError(f"{location.display(key)} has a folder '..': name it without")
    inside = root[len(location.root) :].strip("/") if location.root else root.strip("/")
    if not inside:
        raise ArgumentError(
            f"cannot write an image to {location.display(key)} itself: name a folder below it, such"
            f" as {location.display(f'{root}/image.ome.zarr' if root else '/image.ome.zarr')}"
        )
    return Destination(Store(location, storage_options), root)


def _resolved(path: str) -> str:
    """A local path without "..", as in ``../copy.zarr``; links before it are followed."""
    folders = path.split("/")
    if ".." not in folders:
        return path
    n_before = len(folders) - folders[::-1].index("..")
    above = Path("/".join(folders[:n_before])).resolve().as_posix()
    return "/".join([above.rstrip("/"), *folders[n_before:]])


def as_json(value: Any) -> bytes:
    """Canonical JSON: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
