"""`ZarrLevel`: one resolution level of an image that is an array of Zarr."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CloudimgError, CorruptFileError, UnsupportedFormatError
from cloudimg.errors.checked_json import damage
from cloudimg.reading.zarr_images.array_metadata import StoredArray
from cloudimg.reading.zarr_images.documents import ARRAY_2, NODE_3, Node
from cloudimg.reading.zarr_images.shard_index import ShardIndex
from cloudimg.storage import Store
from cloudimg.tiff import Region

if TYPE_CHECKING:
    from cloudimg.reading.zarr_images.chunk_store import ChunkStore, Fetched

Array = npt.NDArray[Any]

_SEGMENT_BYTES = 128 * 2**20
"""A shard up to this size when it is decoded is read as a whole by default."""
_WHOLE_FRACTION = 0.5
"""Part of the chunks of a shard from which on all of it is fetched with one request."""
_HELD_BYTES = 20_000
"""Approximate memory of what zarr-python keeps of an array."""


@dataclass(frozen=True, slots=True)
class StoredPart:
    """The part of a region that lies in one stored object: a chunk or a shard."""

    name: str
    """Name of the object below the array."""
    region: Region
    """The part, in the array."""
    place: Region
    """The same in the output of the region."""
    fetches_whole: bool
    """Whether the object is fetched whole, and not only chunks of it."""


class ZarrLevel:
    """One level: an array whose chunks are fetched by cloudimg and decoded by zarr-python.

    Parameters
    ----------
    store : Store
    node : Node
        The array.
    stored : StoredArray
        What its metadata say.
    """

    def __init__(self, store: Store, node: Node, stored: StoredArray) -> None:
        self._store = store
        self._node = node
        self._stored = stored
        self._lock = threading.Lock()
        self._opened: tuple[Any, ChunkStore] | None = None
        self._index: ShardIndex | None = None
        if stored.is_sharded and node.array is not None:
            self._index = ShardIndex.of(node.array, stored.stored, stored.chunk)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self._stored.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels, in native byte order."""
        return self._stored.dtype

    @property
    def segment(self) -> tuple[int, ...]:
        """Shape of what is read together: a shard, or a chunk where shards are large."""
        is_small = self._stored.stored_bytes <= _SEGMENT_BYTES
        lengths = self._stored.stored if is_small else self._stored.chunk
        return tuple(min(n, m) for n, m in zip(lengths, self.shape, strict=True))

    @property
    def pixel_bytes(self) -> int | None:
        """Pixels are never fetched by rows, nor all of them at once."""
        return None

    @property
    def is_bound(self) -> bool:
        """Other images have other pixels."""
        return True

    @property
    def held_bytes(self) -> int:
        """Approximate memory that the level takes."""
        return _HELD_BYTES

    def of(self, url: str) -> Self:
        """A level belongs to one image."""
        raise TypeError(f"an array of one Zarr cannot be read as that of {url}")

    def parts(self, region: Region) -> Iterator[StoredPart]:
        """Yield the parts of a region by stored object.

        Raises
        ------
        UnsupportedFormatError
        """
        array, _ = self._array()
        by_axis = [
            list(_along(part, n)) for part, n in zip(region, self._stored.stored, strict=True)
        ]
        for each in product(*by_axis):
            region_of = tuple(along[1] for along in each)
            yield StoredPart(
                name=array.metadata.encode_chunk_key(tuple(along[0] for along in each)),
                region=region_of,
                place=tuple(along[2] for along in each),
                fetches_whole=self._is_much(region_of),
            )

    def _is_much(self, region: Region) -> bool:
        if self._index is None:
            return True
        share = 1.0
        for part, n, length, chunk in zip(
            region, self._stored.stored, self.shape, self._stored.chunk, strict=True
        ):
            first = part.start // n * n
            n_chunks = -(-(min(first + n, length) - first) // chunk)
            wanted = (part.stop - 1) // chunk - part.start // chunk + 1
            share *= min(1.0, wanted / n_chunks)
        return share >= _WHOLE_FRACTION

    def bytes_in_flight(self, part: StoredPart) -> int:
        """About how many bytes are in memory while a part is fetched and decoded."""
        if part.fetches_whole:
            return self._stored.stored_bytes
        n_chunks = (
            (each.stop - 1) // n - each.start // n + 1
            for each, n in zip(part.region, self._stored.chunk, strict=True)
        )
        return int(math.prod(n_chunks)) * self._stored.chunk_bytes

    def fetch(self, part: StoredPart) -> Fetched | None:
        """What a part needs of its object; None if it is not stored. Waits for the store.

        Raises
        ------
        CorruptFileError, StorageError
        """
        chunks = self._array()[1]
        if part.fetches_whole or self._index is None:
            return chunks.fetch(part.name)
        wanted = [
            range(each.start % n // m, (each.stop - 1) % n // m + 1)
            for each, n, m in zip(part.region, self._stored.stored, self._stored.chunk, strict=True)
        ]
        return chunks.fetch_chunks(part.name, wanted)

    def decode(self, part: StoredPart, fetched: Fetched | None, out: Array) -> None:
        """Decode a part into its place in the output of its region.

        Parameters
        ----------
        part : StoredPart
        fetched : Fetched, optional
            What `fetch` returned.
        out : ndarray

        Raises
        ------
        CorruptFileError, StorageError
        """
        if fetched is None:
            out[part.place] = self._stored.fill_value
            return
        array, chunks = self._array()
        chunks.hold(part.name, fetched)
        try:
            out[part.place] = array[part.region]
        except Exception as exc:
            error, url = _first(exc), chunks.url(part.name)
            if isinstance(error, CloudimgError):
                raise error from None
            raise CorruptFileError(
                f"{url} cannot be decoded: {type(error).__name__}: {damage(error)}", url=url
            ) from exc
        finally:
            chunks.drop(part.name, fetched)

    def check_codecs(self) -> None:
        """Check that zarr-python knows the codecs of the array.

        Raises
        ------
        UnsupportedFormatError
        """
        self._array()

    def _array(self) -> tuple[Any, ChunkStore]:
        """The array as zarr-python opens it, and its objects."""
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def _open(self) -> tuple[Any, ChunkStore]:
        import zarr

        from cloudimg.reading.zarr_images.chunk_store import ChunkStore

        assert self._node.array is not None
        zarr_format, metadata = self._node.zarr_format, self._node.array
        name = NODE_3 if zarr_format == 3 else ARRAY_2
        documents = {name: json.dumps(_without_attributes(metadata)).encode()}
        chunks = ChunkStore(self._store, self._node.folder, documents, self._stored, self._index)
        try:
            array = zarr.open_array(chunks, mode="r", zarr_format=zarr_format)  # type: ignore[arg-type]
        except Exception as exc:
            url = self._store.location.display(self._node.folder)
            raise UnsupportedFormatError(
                f"zarr-python cannot read the array {url}, whose codecs are"
                f" {_codecs(metadata)}: {type(exc).__name__}: {damage(exc)}",
                url=url,
            ) from exc
        return array, chunks


def _first(error: Exception) -> Exception:
    """The first error of a group of them, as zarr-python raises from 3.2 on; else the error."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _without_attributes(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {key: {} if key == "attributes" else value for key, value in metadata.items()}


def _codecs(metadata: Mapping[str, Any]) -> str:
    """Names of the codecs of an array, for a message."""
    found = metadata.get("codecs")
    if found is None:
        found = [*(metadata.get("filters") or ()), metadata.get("compressor")]
    names = [
        str(each.get("name", each.get("id")))[:80] for each in found if isinstance(each, Mapping)
    ]
    return ", ".join(names) or "none"


def _along(part: slice, length: int) -> Iterator[tuple[int, slice, slice]]:
    """Number of each object along an axis, its part of a region, and the place of that part."""
    wanted = range(part.start, part.stop, part.step)
    at = 0
    while at < len(wanted):
        number = wanted[at] // length
        # Positions up to the end of the object.
        n = len(range(wanted[at], min(part.stop, (number + 1) * length), part.step))
        start = wanted[at]
        stop = wanted[at + n - 1] + 1
        yield number, slice(start, stop, part.step), slice(at, at + n)
        at += n
