"""The interface of a backend, and the types that all backends share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, NamedTuple, Protocol, Self, overload

from cloudimg.storage.versions import md5_of_etag

Buffer = bytes | memoryview
Data = bytes | bytearray | memoryview
"""Content that can be stored as an object."""


@dataclass(frozen=True, slots=True)
class Blob:
    """The response to one request for bytes."""

    data: Buffer = field(repr=False)
    """The bytes; fewer than requested if the object ends earlier."""
    start_bytes: int
    """Offset of `data` in the object."""
    size_bytes: int | None
    """Size of the whole object, if the store reports it."""
    etag: str | None
    """Version of the object that the bytes belong to, if the store reports it; see `versions`."""
    stated_md5: str | None = None
    """MD5 of the whole object in hexadecimal, if the store reports one besides the ETag."""

    @property
    def md5(self) -> str | None:
        """MD5 of the whole object as the store states it: an ETag that looks like one may be it."""
        return md5_of_etag(self.etag) if self.stated_md5 is None else self.stated_md5

    @property
    def stop_bytes(self) -> int:
        """Offset of the end of `data` in the object."""
        return self.start_bytes + len(self.data)

    @property
    def is_whole(self) -> bool:
        """Whether `data` is the whole object."""
        return self.start_bytes == 0 and self.size_bytes == len(self.data)


class Entry(NamedTuple):
    """One object in a listing: a tuple, because a listing can have millions of them."""

    key: str
    """Path of the object below ``protocol://``."""
    size_bytes: int | None
    etag: str | None
    archive: str | None = None
    """Storage class of an object in an archive, which may have to be restored before it is read."""


@dataclass(frozen=True, slots=True)
class Entries(Sequence[Entry]):
    """A part of a listing as columns, since a tuple an object takes longer than its request."""

    keys: Sequence[str]
    sizes: Sequence[int | None]
    etags: Sequence[str | None]
    archives: Sequence[str | None] = ()
    """Empty where no object is in an archive."""

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Self:
        """The columns of some entries."""
        if isinstance(entries, cls):
            return entries
        columns = tuple(zip(*entries, strict=True)) or ((), (), (), ())
        keys, sizes, etags, archives = columns
        return cls(keys, sizes, etags, archives if any(archives) else ())

    def are_near(self, n_parts: int | None) -> list[bool]:
        """Whether each key has up to so many parts; empty if all have. None: any number."""
        if n_parts is None:
            return []
        near = [key.count("/") < n_parts for key in self.keys]
        return [] if all(near) else near

    def kept(self, which: Iterable[object]) -> Self:
        """The entries for which something is true."""
        selected = list(which)
        return type(self)(
            list(compress(self.keys, selected)),
            list(compress(self.sizes, selected)),
            list(compress(self.etags, selected)),
            list(compress(self.archives, selected)),
        )

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Entry]:
        if self.archives:
            return map(Entry, self.keys, self.sizes, self.etags, self.archives)
        return map(Entry, self.keys, self.sizes, self.etags)

    @overload
    def __getitem__(self, i: int) -> Entry: ...
    @overload
    def __getitem__(self, i: slice) -> Self: ...
    def __getitem__(self, i: int | slice) -> Entry | Self:
        if isinstance(i, slice):
            return type(self)(self.keys[i], self.sizes[i], self.etags[i], self.archives[i])
        archive = self.archives[i] if self.archives else None
        return Entry(self.keys[i], self.sizes[i], self.etags[i], archive)


@dataclass(frozen=True, slots=True)
class Page:
    """One answer to a request for a listing in the order of keys."""

    entries: Entries
    token: str | None
    """Requests the next page; None for the last one."""
    prefixes: Sequence[str] = ()
    """What keys begin with that have a delimiter, up to its end; such keys are not listed."""


class Stored(NamedTuple):
    """The answer to a request to store an object."""

    is_new: bool
    """Whether the object was stored. False if it was to be created and the key exists, or if
    another version of it was to be replaced."""
    etag: str | None = None
    """Version of the stored object, if the store reports it."""
    md5: str | None = None
    """What the store says of the bytes that arrived: their MD5 in hexadecimal. None if it says
    nothing. An ETag of 32 hexadecimal digits may also be something else."""


ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")
"""Storage classes of S3 for objects that can be read after they were restored. Their listings do
not tell which of them are, nor what Intelligent-Tiering has archived:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/archived-objects.html"""
DANGLING = "dangling link"
"""In place of the ETag of a symbolic link in a local folder that leads to nothing."""
UNREADABLE = "unreadable folder"
"""In place of the ETag of a folder, with a slash at its end, whose content may not be listed."""


class WriteGuard(Protocol):
    """Decides whether a store may be written to, and learns what became of the requests."""

    def writing(self) -> AbstractContextManager[None]:
        """Count a request to put, create or delete as being under way, with all its attempts."""

    def check(self, *, in_store: bool = False) -> None:
        """Raise before an attempt that must not be made.

        With `in_store`, the answer is read from the store: before objects are deleted.
        """

    def has_no_answer(self) -> None:
        """Learn that an attempt got no answer, so that the store may still carry it out."""


class Created(NamedTuple):
    """What stands at a key after an object was to be stored there on a condition. True if it is
    that object."""

    is_new: bool
    """Whether the key has the bytes that were sent, by this request or by one before it whose
    answer was lost."""
    etag: str | None
    """Version of the object that the key has, if the store reports it."""
    found: Buffer | None = None
    """The bytes of another object that the key has, of a far larger one only the first; None also
    if that was deleted meanwhile."""

    def __bool__(self) -> bool:
        return self.is_new


class Standing(NamedTuple):
    """An object as it stands in its store, for what is done to it there."""

    size_bytes: int
    version: str | None
    """The same text as `Blob.etag`."""
    digests: tuple[str, ...]
    """What the store says of the content: ``md5:`` or ``crc32c:`` with a digest; for a local file
    ``file:`` with size and time. Objects with one of them in common have the same bytes."""
    details: Mapping[str, Any] = {}
    """What the client of the store said."""


class Mover(Protocol):
    """Tagging, copying and deleting objects within one store; the bytes never leave it.

    Requests on a condition do nothing where it does not hold: whoever makes them looks afterwards.
    Methods raise as those of `Backend`.
    """

    def settle(self, key: str) -> None:
        """Finish or undo what a process that was killed has half done at a key."""

    def look(self, key: str) -> Standing | None:
        """What stands at a key; None if nothing does."""

    def tags(self, key: str) -> dict[str, str]:
        """Tags of an object: of S3, or the custom metadata of Google Cloud Storage."""

    def set_tags(self, key: str, tags: Mapping[str, str], before: Mapping[str, str],
                 standing: Standing) -> None:  # fmt: skip
        """Replace the tags of an object, if it is the one that was looked at."""

    def copy(self, key: str, target: str, standing: Standing) -> None:
        """Copy an object that was looked at, unless it changed or there is one at the target.

        Where a store ignores the second condition, an object that was stored there at the same time
        is replaced.
        """

    def delete(self, key: str, standing: Standing) -> None:
        """Delete an object that was looked at, unless it changed, as far as the store can tell."""


def is_aside(folder: str) -> bool:
    """Whether a folder with this name holds no files of an archive: Zarr arrays, hidden files."""
    return folder.startswith(".") or folder.endswith(".zarr")


class Backend(Protocol):
    """One way to talk to one store. All methods are thread-safe.

    Methods raise `cloudimg.errors.StorageError` or one of its subclasses, or `NotMappableError`
    if this backend cannot express the request and the next one must answer it.
    """

    @property
    def lists_in_order(self) -> bool:
        """Whether listings come in pages, in the order of keys, and can begin after a key."""

    @property
    def checks_pages(self) -> bool:
        """Whether each page of a listing is known to be one, by what it says of itself."""

    def get(self, key: str, start: int | None, stop: int | None) -> Blob:
        """Read bytes ``start:stop`` of an object.

        ``None, None`` reads the whole object; a negative start reads a suffix.
        """

    def info(self, key: str) -> Entry:
        """Size and ETag of one object."""

    def list_objects(
        self, folder: str, stem: str, depth: int | None, *, n_below: int = 0
    ) -> Iterator[Sequence[Entry]]:
        """List objects whose key begins with `stem`, which begins with `folder` and a slash.

        `depth` limits how many levels of folders below `folder` are of interest (1: the files
        in it); None means all. Backends with flat listings may return more. The first `n_below` of
        deeper objects are listed, too, and perhaps more of them, but none in folders that are
        `aside`. Backends that list in order have `list_page` instead.
        """

    def list_page(
        self, prefix: str, *, after: str = "", token: str | None = None, delimiter: str = ""
    ) -> Page:
        """Request one page of the objects whose key begins with a prefix, in the order of keys.

        The page begins after the key `after` (or at it), or where the page with `token` ended. Of
        keys that have the `delimiter` behind the prefix only what they begin with is returned.
        """

    def put(self, key: str, data: Data) -> Stored:
        """Store an object in one request; readers see all of the old one or all of the new."""

    def create(self, key: str, data: Data) -> Stored:
        """Store an object in one request unless the key exists."""

    def replace(self, key: str, data: Data, version: str) -> Stored:
        """Store an object in one request if the key has this version of it."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; missing ones are not an error."""

    def mover(self) -> Mover:
        """What moves objects within the store."""


class IncompleteListingError(Exception):
    """A listing that was already used turned out to lack objects; never leaves cloudimg."""


class NotMappableError(Exception):
    """This backend cannot express the request exactly; never leaves the storage package."""


class UnreadableAnswerError(NotMappableError):
    """This backend cannot read the answers of a server, which are right all the same."""
