"""Read headers of files: fetch, parse and cache them, and check the version of the object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from cloudimg.discovery.file_versions import file_version
from cloudimg.discovery.stored_headers import StoredHeader
from cloudimg.errors import (
    ChangedError,
    CloudimgError,
    CorruptFileError,
    EmptyFileError,
    FormatError,
    NotFoundError,
    ServerError,
)
from cloudimg.formats import HEAD_BYTES as FORMAT_BYTES
from cloudimg.formats import Format
from cloudimg.reading.coalescing import Span, coalesce
from cloudimg.reading.header_cache import HEADER_CACHE, OpenFile
from cloudimg.reading.header_parsing import limits_of_process, parse_header, parse_request
from cloudimg.reading.read_context import ReadContext
from cloudimg.reading.transit import Arrival, Reading, TransitCheck
from cloudimg.reading.whole_file import decode_whole
from cloudimg.reading.zarr_images.documents import is_document
from cloudimg.reading.zarr_images.parse import parse_zarr
from cloudimg.settings import settings
from cloudimg.storage import Blob, Store, engine, map_ahead, pause
from cloudimg.tiff import (
    ENDS_EARLY,
    REQUEST_BYTES,
    DecodeLimits,
    SparseFile,
    parse_tiff,
)

Buffer = bytes | memoryview

HEAD_BYTES = 32 * 2**10
"""Size of the first request; the IFDs of 8192 x 8192 pixels in tiles of 256 fit if they are first.
"""
_WINDOW_SPAN_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class HeaderReader:
    """Reads headers of files in one store. Picklable and thread-safe."""

    store: Store
    context: ReadContext

    @property
    def limits(self) -> DecodeLimits:
        """Limits of this process on what headers may declare."""
        return limits_of_process()

    def using(self, **changes: Any) -> HeaderReader:
        """Return a reader with a changed context."""
        return replace(self, context=replace(self.context, **changes))

    def open(self, key: str, *, size_bytes: int | None = None) -> OpenFile:
        """Read the header of a file again, with its metadata, and cache it.

        Raises
        ------
        StorageError, FormatError
        """
        stored = self.context.stored.get(key)
        if stored is not None:
            with suppress(FormatError):  # the header of the file itself tells what is wrong
                return self._parse_stored(key, stored, metadata=True)
        head = partial(self._head, key, size_bytes, is_exact=size_bytes is not None)
        with self.looking_up():
            opened = self._parse_head(head, key, metadata=True)
        HEADER_CACHE.put(self._identity(key), opened)
        return opened

    def _parse_stored(self, key: str, stored: StoredHeader, *, metadata: bool) -> OpenFile:
        """Parse a header of a table; only what it lacks is fetched."""
        (_, data), *further = stored.parts
        blob = Blob(data, 0, stored.size_bytes, stored.etag)
        return self._parse(key, blob, metadata, further)

    @contextmanager
    def looking_up(self) -> Iterator[None]:
        """Count a file that was not looked up before, and does not exist, as a bad file."""
        try:
            yield
        except NotFoundError as exc:
            if not self.context.is_listed:
                exc.bad_file = "missing"
            raise

    def cached(self, key: str) -> OpenFile | None:
        """Return the header if this process has cached it."""
        return HEADER_CACHE.get(self._identity(key))

    def shared(self, key: str, *, size_bytes: int | None) -> OpenFile:
        """Return the header, reading it once for all threads that request it at the same time."""

        def read() -> OpenFile:
            stored = self.context.stored.get(key)
            # Without an ETag nothing shows that the file was replaced since the table was made.
            if stored is not None and stored.etag is not None:
                with suppress(FormatError):
                    return self._parse_stored(key, stored, metadata=self.context.compares_facts)
            return self._parse_head(partial(self._head, key, size_bytes), key)

        return HEADER_CACHE.get_or_open(self._identity(key), read)

    def _parse_head(
        self, fetch: Callable[[], Blob], key: str, *, metadata: bool = False
    ) -> OpenFile:
        """Read a header, again where the answer to a request ended before the file."""
        attempt, before = 0, None
        while True:
            blob = fetch()
            arrival = self.transit.check(key, blob, before)
            if isinstance(arrival, Reading):
                before = arrival
                continue
            opened = self.parse_answer(key, blob, arrival, metadata=metadata)
            if isinstance(opened, OpenFile):
                return opened
            pause(opened, attempt)
            attempt += 1

    @property
    def transit(self) -> TransitCheck:
        """Checks the bytes of files."""
        return TransitCheck(self.store, self.context.checks_transit)

    def parse_answer(
        self, key: str, blob: Blob, arrival: Arrival, *, metadata: bool = False
    ) -> OpenFile | ServerError:
        """Parse the header of a file, or return the error of an answer that ended before the file.

        Where the file seems to end too early, the store is asked for its size.

        Raises
        ------
        StorageError, FormatError
        """
        try:
            opened = self.parse(key, blob, metadata=metadata)
            opened.arrival = arrival
            if not any(remark.kind == ENDS_EARLY for remark in opened.parsed.remarks):
                return opened
        except (CorruptFileError, EmptyFileError):
            failure = self.store.short_answer(key, blob)
            if failure is None:
                raise
            return failure
        return self.store.short_answer(key, blob) or opened

    def _head(self, key: str, size_bytes: int | None, *, is_exact: bool = False) -> Blob:
        """Fetch the first bytes of an object, with its size."""
        blob = self.store.get(key, 0, HEAD_BYTES, size_bytes=size_bytes if is_exact else None)
        size = blob.size_bytes
        if size is None:
            # The store sent no Content-Range, or the object is too short for a range.
            is_known = size_bytes is not None and len(blob.data) > 0
            size = size_bytes if is_known else self.store.info(key).size_bytes
        if size is None:
            whole = self.store.get(key)
            return replace(whole, start_bytes=0, size_bytes=len(whole.data))
        return replace(blob, size_bytes=size)

    @property
    def reads_whole(self) -> bool:
        """Whether files are read whole because they are not TIFFs."""
        return self.context.decoder is not None

    def parse(self, key: str, blob: Blob, *, metadata: bool = False) -> OpenFile:
        """Parse the header of a file from its first bytes, fetching more where it needs them."""
        try:
            return self._parse(key, blob, metadata)
        except CloudimgError as exc:
            if exc.bad_file is not None:
                exc.file_version = file_version(blob.etag, blob.size_bytes)
            raise

    def _parse(
        self,
        key: str,
        blob: Blob,
        metadata: bool,
        further: Sequence[tuple[int, Buffer]] = (),
    ) -> OpenFile:
        url = self.store.location.display(key)
        size = blob.size_bytes if blob.size_bytes is not None else len(blob.data)
        if size == 0:
            raise EmptyFileError(f"{url} is empty (0 bytes)", url=url)
        self._check_known_version(key, blob)

        file = SparseFile(
            size,
            partial(self._windows, key, blob.etag, size),
            in_flight=settings().max_requests,
            limit_bytes=self.limits.header_bytes,
            url=url,
        )
        name = key.rsplit("/", 1)[-1]
        decoder = self.context.decoder_of(name, bytes(blob.data[:FORMAT_BYTES]))
        if decoder is not None:
            whole = blob if blob.is_whole else self._whole(key, blob, size)
            with nullcontext() if isinstance(decoder, Format) else engine().running_user_code():
                parsed = decode_whole(
                    decoder,
                    whole.data,
                    url,
                    self.limits.segment_bytes,
                    in_rgb=self.context.palette == "all",
                )
            return OpenFile(url, parsed, file, etag=blob.etag, size_bytes=size, decoder=decoder)
        if is_document(key):
            whole = blob if blob.is_whole else self._whole(key, blob, size)
            parsed = parse_zarr(
                self.store,
                key,
                whole,
                series=self.context.series,
                limit_bytes=self.limits.segment_bytes,
            )
            return OpenFile(url, parsed, file, etag=blob.etag, size_bytes=size)
        for start, data in ((blob.start_bytes, blob.data), *further):
            file.add(start, data)
        request = parse_request(self.context, metadata=metadata)
        parsed = parse_header(file, request, url=url, name=name)
        return OpenFile(url, parsed, file, etag=blob.etag, size_bytes=size)

    def to_store(self, key: str) -> StoredHeader | None:
        """Return the bytes of a file that the parser reads; None of a file that is not a TIFF.

        Raises
        ------
        StorageError, FormatError
        """
        opened = self.cached(key) or self.open(key)
        if opened.decoder is not None or is_document(key):
            return None  # it is decoded as a whole, or has no pixels itself
        size, url = opened.size_bytes, opened.url
        file = SparseFile(
            size,
            partial(self._windows, key, opened.etag, size),
            in_flight=settings().max_requests,
            limit_bytes=self.limits.header_bytes,
            url=url,
        )
        for start, stop in opened.file.fetched_ranges():
            file.add(start, opened.file.have(start, stop) or b"")
        request = parse_request(self.context, metadata=True)
        parse_tiff(file, request, url=url, name=key.rsplit("/", 1)[-1])
        parts = [(start, file.have(start, stop)) for start, stop in file.take_reads()]
        read = [(start, bytes(data)) for start, data in parts if data is not None]
        return StoredHeader(opened.etag, size, read)

    def _whole(self, key: str, head: Blob, size_bytes: int) -> Blob:
        """Fetch all of an object, in the version of its first bytes."""
        blob = self.store.get(key, size_bytes=size_bytes, etag=head.etag)
        self.check_version(key, head.etag, size_bytes, blob)
        return blob

    def _windows(
        self, key: str, etag: str | None, size_bytes: int, ranges: Sequence[tuple[int, int]]
    ) -> list[tuple[int, Buffer]]:
        """Fetch parts of a header at the same time, neighbours with one request."""

        def get(span: Span) -> tuple[int, Buffer]:
            blob = self.store.get(
                key, span.start_bytes, span.stop_bytes, size_bytes=size_bytes, etag=etag
            )
            self.check_version(key, etag, size_bytes, blob)
            offset = span.start_bytes - blob.start_bytes
            length = span.stop_bytes - span.start_bytes
            return span.start_bytes, memoryview(blob.data)[offset : offset + length]

        spans = coalesce(
            np.array([start for start, _ in ranges], np.int64),
            np.array([stop for _, stop in ranges], np.int64),
            max_gap_bytes=REQUEST_BYTES,
            free_gap_bytes=REQUEST_BYTES,
            max_waste=0,
            max_span_bytes=_WINDOW_SPAN_BYTES,
        )
        if len(spans) == 1:
            return [get(spans[0])]
        blobs = map_ahead(
            lambda span: engine().fetch_window(partial(get, span)), spans, n_ahead=len(spans)
        )
        return list(blobs)

    def check_version(self, key: str, etag: str | None, size_bytes: int, blob: Blob) -> None:
        """Check that bytes belong to the version of the object whose header was read.

        Raises
        ------
        ChangedError
            If they do not.
        """
        same = etag is None or blob.etag is None or etag == blob.etag
        if not same or blob.size_bytes not in (None, size_bytes):
            raise self._changed(key, blob)

    def _check_known_version(self, key: str, blob: Blob) -> None:
        known = self.context.versions.get(key)
        if known is not None and blob.etag is not None and known != blob.etag:
            raise self._changed(key, blob)

    def _changed(self, key: str, blob: Blob) -> ChangedError:
        url = self.store.location.display(key)
        return ChangedError(
            f"{url} was replaced since the image was opened; open the image again",
            url=url,
            byte_range=(blob.start_bytes, blob.stop_bytes),
        )

    def _identity(self, key: str) -> tuple[Any, ...]:
        return (self.store.location, self.store.identity, key, self.context)
