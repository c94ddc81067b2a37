"""`ChunkStore`: the objects of one array, as zarr-python reads them.

zarr-python decodes, and cloudimg fetches: with its own connections, options, pace and retries. Most
objects have been fetched before they are decoded; of shards of which few chunks are wanted,
zarr-python asks for the ranges itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)

from cloudimg.errors import ChangedError, CorruptFileError, NotFoundError
from cloudimg.reading.zarr_images.array_metadata import StoredArray
from cloudimg.reading.zarr_images.claims import claimed_bytes, exceeds
from cloudimg.reading.zarr_images.shard_index import ShardIndex
from cloudimg.storage import Data, engine, map_ahead
from cloudimg.storage import Store as ObjectStore

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer, BufferPrototype

_READ_ONLY = "images are only read"
_SPANS_AHEAD = 64
_OVERHEAD_BYTES = 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Fetched:
    """Bytes of an object that are in memory: all, or those of some ranges."""

    whole: Data | None = None
    parts: Sequence[tuple[int, Data]] = ()
    """Offset and bytes of each range."""
    begins_with: Data = b""
    ends_with: Data = b""

    def part(self, start: int | None, stop: int | None) -> Data | None:
        """Bytes from `start` to `stop`, see `cloudimg.storage.Store.get`; None if they lack."""
        if self.whole is not None:
            return self.whole if start is None else memoryview(self.whole)[start:stop]
        if start is None:
            return None
        if start < 0:
            return memoryview(self.ends_with)[start:] if len(self.ends_with) >= -start else None
        if stop is None:
            return None
        for first, data in (*self.parts, (0, self.begins_with)):
            if first <= start and stop <= first + len(data):
                return memoryview(data)[start - first : stop - first]
        return None


class ChunkStore(Store):
    """The objects of an array. Thread-safe.

    Parameters
    ----------
    store : cloudimg.storage.Store
    folder : str
        Key of the folder of the array.
    documents : mapping
        Its metadata, by name.
    stored : StoredArray
        What they say.
    index : ShardIndex, optional
        The form of the index of each shard, if it is known.
    """

    def __init__(
        self,
        store: ObjectStore,
        folder: str,
        documents: Mapping[str, bytes],
        stored: StoredArray,
        index: ShardIndex | None,
    ) -> None:
        super().__init__(read_only=True)
        self._store = store
        self._folder = folder
        self._documents = documents
        self._stored = stored
        self._index = index
        self._most_bytes = stored.stored_bytes + stored.stored_bytes // 4 + _OVERHEAD_BYTES
        """Size that an object can have; a larger one is damaged, and is not read."""
        self._held: dict[str, list[Fetched]] = {}
        self._lock = threading.Lock()

    def url(self, name: str) -> str:
        """URL of an object, for messages."""
        return self._store.location.display(self._key(name))

    def fetch(self, name: str) -> Fetched | None:
        """All bytes of an object; None if it is not stored. Waits for the store.

        Raises
        ------
        CorruptFileError, StorageError
        """
        try:
            data = self._store.get(self._key(name), 0, self._most_bytes + 1).data
        except NotFoundError:
            return None
        if not len(data):
            raise CorruptFileError(f"{self.url(name)} is empty (0 bytes)", url=self.url(name))
        if len(data) > self._most_bytes:
            raise CorruptFileError(
                f"{self.url(name)} has more than {self._most_bytes} bytes, which no chunk of this"
                " array can have",
                url=self.url(name),
            )
        self._check_whole(name, data)
        return Fetched(whole=data)

    def _check_whole(self, name: str, data: Data) -> None:
        """Refuse an object of which a chunk claims to be larger than it can be."""
        if not self._stored.is_sharded:
            self._check_claim(name, data)
        elif self._index is not None:
            n = self._index.n_bytes
            index = data[-n:] if self._index.is_at_end else data[:n]
            view = memoryview(data)
            # Zarr-python tells what is wrong with an index.
            with suppress(ValueError):
                for start, stop in self._index.chunks(bytes(index)):
                    self._check_claim(name, view[start:stop])

    def _check_claim(self, name: str, chunk: Data) -> None:
        codec, most = self._stored.outer_codec, self._stored.most_chunk_bytes
        claimed = claimed_bytes(codec, chunk)
        if claimed is None and exceeds(codec, chunk, most):
            claimed = most + 1
        if claimed is not None and claimed > most:
            url = self.url(name)
            raise CorruptFileError(
                f"{url} cannot be decoded: a chunk claims to have {claimed} bytes or more, and"
                f" chunks of this array have {self._stored.chunk_bytes}",
                url=url,
            )

    def fetch_chunks(self, name: str, wanted: Sequence[range]) -> Fetched | None:
        """The index of a shard, and some of its chunks; None if it is not stored.

        Waits for the store: for the index, and then for all chunks at the same time.

        Raises
        ------
        ChangedError
            If the shard is replaced between the two.
        CorruptFileError, StorageError
        """
        index = self._index
        assert index is not None
        n = index.n_bytes
        start, stop = (-n, None) if index.is_at_end else (0, n)
        found = self._range(name, start, stop)
        if found is None:
            return None
        data, version = found
        try:
            spans = index.ranges(bytes(data), wanted)
        except ValueError as exc:
            url = self.url(name)
            raise CorruptFileError(f"{url} cannot be decoded: {exc}", url=url) from exc
        fetched = map_ahead(
            lambda span: engine().fetch_window(partial(self._range, name, *span)),
            spans,
            n_ahead=_SPANS_AHEAD,
        )
        parts: list[tuple[int, Data]] = []
        for (first, _), part in zip(spans, fetched, strict=True):
            if part is None or part[1] != version:  # the index is that of another object
                url = self.url(name)
                raise ChangedError(f"{url} was replaced while it was read: read again", url=url)
            parts.append((first, part[0]))
        if index.is_at_end:
            return Fetched(parts=parts, ends_with=data)
        return Fetched(parts=parts, begins_with=data)

    def hold(self, name: str, fetched: Fetched) -> None:
        """Keep bytes of an object until `drop`, so that they are not fetched again."""
        with self._lock:
            self._held.setdefault(name, []).append(fetched)

    def drop(self, name: str, fetched: Fetched) -> None:
        """Forget what was held."""
        with self._lock:
            self._held[name] = [each for each in self._held[name] if each is not fetched]
            if not self._held[name]:
                del self._held[name]

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Bytes of an object; None if it is not stored."""
        if key.rpartition("/")[2] in _METADATA:
            data: Data | None = self._documents.get(key)
        else:
            start, stop = _bounds(byte_range)
            parts = (each.part(start, stop) for each in self._held.get(key, ()))
            data = next((part for part in parts if part is not None), None)
            if data is None:
                # These threads wait for no others.
                request = engine().fetch_window(partial(self._requested, key, start, stop))
                data = await asyncio.wrap_future(request)
            if data is not None and self._is_chunk(start, data):
                self._check_claim(key, data)
        return None if data is None else prototype.buffer.from_bytes(bytes(data))

    def _is_chunk(self, start: int | None, data: Data) -> bool:
        """Whether a range is that of a chunk of a shard, and not its index."""
        if self._index is None or start is None or start < 0:
            return False
        return start > 0 or self._index.is_at_end or len(data) != self._index.n_bytes

    def _requested(self, name: str, start: int | None, stop: int | None) -> Data | None:
        """Bytes of an object; None if it is not stored."""
        if start is None:
            fetched = self.fetch(name)
            return None if fetched is None else fetched.whole
        found = self._range(name, start, stop)
        return None if found is None else found[0]

    def _range(self, name: str, start: int, stop: int | None) -> tuple[Data, str | None] | None:
        """A range of an object, and the version that it is of; None if it is not stored."""
        n_bytes = -start if start < 0 else (stop or start + self._most_bytes) - start
        if n_bytes > self._most_bytes:
            url = self.url(name)
            raise CorruptFileError(f"{url} says that a chunk has {n_bytes} bytes", url=url)
        try:
            blob = self._store.get(self._key(name), start, stop)
        except NotFoundError:
            return None
        # A store may answer with more than was asked for.
        if start < 0:
            return memoryview(blob.data)[start:], blob.etag
        first = start - blob.start_bytes
        data = memoryview(blob.data)[first : None if stop is None else first + stop - start]
        if (
            stop is not None and len(data) < stop - start
        ):  # else zarr-python would take it for empty
            url = self.url(name)
            raise CorruptFileError(
                f"{url} cannot be decoded: it has {len(data)} of the {stop - start} bytes from"
                f" {start} on, where its index says that chunks are",
                url=url,
            )
        return data, blob.etag

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Ranges of several objects."""
        return list(await asyncio.gather(*(self.get(k, prototype, r) for k, r in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Whether there is an object; only metadata are asked for."""
        return key in self._documents

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    @property
    def supports_writes(self) -> bool:
        """Images are only read."""
        return False

    @property
    def supports_deletes(self) -> bool:
        """Images are only read."""
        return False

    @property
    def supports_partial_writes(self) -> Any:
        """Images are only read."""
        return False

    @property
    def supports_listing(self) -> bool:
        """Nothing of an array needs to be listed."""
        return False

    async def set(self, key: str, value: Buffer) -> None:
        """Images are only read."""
        raise NotImplementedError(_READ_ONLY)

    async def set_partial_values(self, key_start_values: Any) -> None:
        """Images are only read; zarr-python before 3.1 asks for this method."""
        raise NotImplementedError(_READ_ONLY)

    async def delete(self, key: str) -> None:
        """Images are only read."""
        raise NotImplementedError(_READ_ONLY)

    def list(self) -> AsyncIterator[str]:
        """Nothing of an array needs to be listed."""
        raise NotImplementedError(_READ_ONLY)

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Nothing of an array needs to be listed."""
        raise NotImplementedError(_READ_ONLY)

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Nothing of an array needs to be listed."""
        raise NotImplementedError(_READ_ONLY)


_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


def _bounds(byte_range: ByteRequest | None) -> tuple[int | None, int | None]:
    match byte_range:
        case RangeByteRequest():
            return byte_range.start, byte_range.end
        case OffsetByteRequest():
            return byte_range.offset, None
        case SuffixByteRequest():
            return -byte_range.suffix, None
    return None, None
