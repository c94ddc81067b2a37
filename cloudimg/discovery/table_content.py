"""The rows of a table of files: in memory, or in a CSV, a Parquet file or an inventory of S3."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import unquote_plus

from cloudimg.discovery.bounded_parquet import BoundedParquet
from cloudimg.discovery.csv_blocks import CsvBlocks
from cloudimg.discovery.fact_kinds import FACTS, NUMBER, TEXT, TIME
from cloudimg.discovery.table import MOST_ROWS
from cloudimg.errors import (
    ArgumentError,
    CorruptFileError,
    NotFoundError,
    UnsupportedFormatError,
)
from cloudimg.errors.checked_json import damage
from cloudimg.storage import Location, Store, engine, redact, split_url

_ROWS_PER_BATCH = 2**13
_MOST_COLUMNS = 2**12
"""Most columns of a table: catalogues have some for each file of an item."""
_AT_ONCE_BYTES = 4 * 2**20
"""Tables up to this size are fetched with one request."""
_MOST_BYTES = 2**31
_PARQUET = (".parquet", ".geoparquet", ".pq")
_CSV = (".csv", ".csv.gz")
_MANIFEST = "manifest.json"
_MOST_MANIFEST_BYTES = 2**25
_AS_TEXT = ("url", "key", "href", "path", "etag", "e_tag", "ETag")
_MOST_DATA_FILES = 100_000
_DAMAGED = (OSError, ValueError, KeyError, TypeError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableContent:
    """The rows of a table."""

    schema: Any
    """A `pyarrow.Schema`."""
    read: Callable[[Sequence[str]], Iterator[Any]]
    """Yields the rows in batches of limited size, with these columns; may be called again."""
    metadata: Mapping[bytes, bytes] = field(default_factory=dict)
    folder: tuple[Location, str] | None = None
    """Store and folder of the table, which relative URLs belong to."""
    decode_key: Callable[[str], str] = str
    """Decodes the keys of an inventory."""


def is_table(given: Any) -> bool:
    """Whether files are given as a table: an object with columns, or the URL of a table."""
    return hasattr(given, "__arrow_c_stream__") or (
        isinstance(given, str) and _kind_of(given) is not None
    )


def _kind_of(url: str) -> str | None:
    """The ending of the name of a table; None of other URLs."""
    name = url.partition("?")[0].rpartition("/")[2].lower()
    if any(character in url for character in "{}*["):
        return None  # a pattern
    if name == _MANIFEST:
        return name
    return next((suffix for suffix in (*_PARQUET, *_CSV) if name.endswith(suffix)), None)


def table_in_memory(given: Any) -> TableContent:
    """Return the rows of an object with the stream protocol of Arrow.

    Raises
    ------
    ArgumentError
    """
    import pyarrow as pa

    try:
        # A stream can be read only once; tables and data frames share their memory with this one.
        table = pa.table(given) if not isinstance(given, pa.Table) else given
    except (pa.ArrowException, TypeError, ValueError, NotImplementedError) as exc:
        raise ArgumentError(
            f"the table, a {type(given).__module__}.{type(given).__name__}, has columns that Arrow"
            f" cannot take: {exc}"
        ) from exc

    def read(columns: Sequence[str]) -> Iterator[Any]:
        heads = list(dict.fromkeys(_head(name, table.schema.names) for name in columns))
        yield from table.select(heads).to_batches(max_chunksize=_ROWS_PER_BATCH)

    return TableContent(schema=table.schema, read=read, metadata=table.schema.metadata or {})


def _head(path: str, names: Sequence[str]) -> str:
    """The column that has the value at a path."""
    return path if path in names else path.partition(".")[0]


def table_at(url: str, options: Mapping[str, Any] | None) -> TableContent:
    """Open the table at a URL.

    Raises
    ------
    ArgumentError, CorruptFileError, UnsupportedFormatError, StorageError
    """
    location, key = split_url(url)
    store = Store(location, options)
    kind = _kind_of(url)
    if kind == _MANIFEST:
        return _inventory(store, key)
    content = _parquet(store, key) if kind in _PARQUET else _csv(store, key)
    return TableContent(
        schema=content.schema,
        read=content.read,
        metadata=content.metadata,
        folder=(location, key.rpartition("/")[0]),
    )


# ----------------------------------------------------------------------------------- Parquet, CSV


class _StoredFile(io.RawIOBase):
    """A file of a store that is read by ranges."""

    def __init__(self, store: Store, key: str, size_bytes: int, etag: str | None) -> None:
        super().__init__()
        self._store, self._key = store, key
        self._size, self._etag, self._at = size_bytes, etag, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._at + size, self._size)
        if stop <= self._at:
            return b""
        get = partial(
            self._store.get,
            self._key,
            self._at,
            stop,
            size_bytes=self._size,
            etag=self._etag,
        )
        blob = engine().fetch_window(get).result()
        if blob.etag != self._etag:
            url = self._store.location.display(self._key)
            raise CorruptFileError(f"{url} was replaced while it was read", url=url)
        self._at = stop
        return bytes(blob.data)


def _open_file(store: Store, key: str) -> Callable[[], Any]:
    """Return a function that opens a file of a store, which is in memory if it is small.

    Raises
    ------
    StorageError, CorruptFileError
    """
    import pyarrow as pa

    blob = engine().fetch(partial(store.get, key, 0, _AT_ONCE_BYTES)).result()
    size, url = blob.size_bytes, store.location.display(key)
    if size is None:  # no range of it
        blob = engine().fetch(partial(store.get, key)).result()
        size = len(blob.data)
    if not size:
        raise CorruptFileError(f"{url} is empty (0 bytes), and not a table", url=url)
    if size > _MOST_BYTES:
        raise CorruptFileError(
            f"{url} has {size} bytes, but a table may have at most {_MOST_BYTES}: read it by"
            " another library and pass the rows that are needed",
            url=url,
        )
    if len(blob.data) == size:
        data = bytes(blob.data)
        return lambda: pa.BufferReader(data)
    return lambda: pa.PythonFile(_StoredFile(store, key, size, blob.etag), mode="r")


def _parquet(store: Store, key: str) -> TableContent:
    url = store.location.display(key)
    open_file = _open_file(store, key)

    def opened(columns: Sequence[str]) -> BoundedParquet:
        return BoundedParquet(
            open_file(),
            dict.fromkeys(columns),
            most_rows=MOST_ROWS,
            most_columns=_MOST_COLUMNS,
        )

    def read(columns: Sequence[str]) -> Iterator[Any]:
        with _damaged(url):
            yield from opened(columns).batches(_ROWS_PER_BATCH)

    with _damaged(url):
        schema = opened(()).schema
    return TableContent(schema=schema, read=read, metadata=schema.metadata or {})


@contextmanager
def _damaged(url: str) -> Iterator[None]:
    """Raise what reading a damaged table raises as an error about it."""
    try:
        yield
    except (ArgumentError, CorruptFileError, NotFoundError):
        raise
    except _DAMAGED as exc:
        raise CorruptFileError(
            f"{url} cannot be read as a table: {redact(damage(exc))}", url=url
        ) from exc


def _csv(store: Store, key: str, names: Sequence[str] | None = None) -> TableContent:
    """The rows of a CSV; `names` are those of its columns if it has no first line with them."""
    url = store.location.display(key)
    open_file = _open_file(store, key)
    is_packed = key.lower().endswith(".gz")

    def opened() -> Any:
        import pyarrow as pa

        file = open_file()
        return pa.CompressedInputStream(file, "gzip") if is_packed else file

    def read(columns: Sequence[str]) -> Iterator[Any]:
        n_rows = 0
        with _damaged(url):
            for batch in blocks.batches(columns):
                n_rows += len(batch)
                if n_rows > MOST_ROWS:
                    raise ValueError(f"it has more than {MOST_ROWS} rows")
                for start in range(0, len(batch), _ROWS_PER_BATCH):
                    yield batch.slice(start, _ROWS_PER_BATCH)

    with _damaged(url):
        blocks = CsvBlocks(opened, _types_of_csv(names), names)
    return TableContent(schema=blocks.schema, read=read)


def _types_of_csv(names: Sequence[str] | None) -> dict[str, Any]:
    """Types of columns of a CSV that are known; with `names`, all columns are texts."""
    import pyarrow as pa

    if names is not None:
        return dict.fromkeys(names, pa.string())
    kinds = {NUMBER: pa.float64(), TEXT: pa.string(), TIME: pa.timestamp("us")}
    return dict.fromkeys(_AS_TEXT, pa.string()) | {
        name: kinds[fact.type] for name, fact in FACTS.items()
    }


# --------------------------------------------------------------------------------- inventory of S3


def _inventory(store: Store, key: str) -> TableContent:
    """The rows of an inventory of S3, from its manifest.

    https://docs.aws.amazonaws.com/AmazonS3/latest/userguide/storage-inventory-location.html
    """
    url = store.location.display(key)
    blob = engine().fetch(partial(store.get, key, 0, _MOST_MANIFEST_BYTES)).result()
    with _damaged(url):
        if (blob.size_bytes or 0) > len(blob.data):
            raise ValueError(
                f"it has {blob.size_bytes} bytes, more than the {_MOST_MANIFEST_BYTES} that are"
                " read of a manifest"
            )
        manifest = json.loads(bytes(blob.data))
        kind, files = manifest["fileFormat"], [each["key"] for each in manifest["files"]]
        names = [name.strip() for name in manifest["fileSchema"].split(",")]
        if not all(isinstance(each, str) for each in files) or len(files) > _MOST_DATA_FILES:
            raise ValueError(f"files has {len(files)} entries")
    if kind not in ("CSV", "Parquet"):
        raise UnsupportedFormatError(
            f"the inventory {url} is in the format {kind!r}: only CSV and Parquet are supported,"
            " which can be chosen where the inventory is configured",
            url=url,
        )
    if not files:
        raise CorruptFileError(f"the inventory {url} has no data files", url=url)
    keys = [_key_of_data(store, key, each) for each in files]
    open_part = partial(_csv, store, names=names) if kind == "CSV" else partial(_parquet, store)
    first = open_part(keys[0])

    def read(columns: Sequence[str]) -> Iterator[Any]:
        yield from first.read(columns)
        for each in keys[1:]:
            yield from open_part(each).read(columns)

    return TableContent(
        schema=first.schema, read=read, decode_key=unquote_plus if kind == "CSV" else str
    )


def _key_of_data(store: Store, manifest: str, key: str) -> str:
    """Where a data file of an inventory is: in the bucket of its manifest, or in copied folders."""
    location = store.location
    if location.root:
        return f"{location.root}/{key}"
    folder = manifest.rpartition("/")[0]
    while folder:
        try:
            return store.info(f"{folder}/{key}").key
        except NotFoundError:
            folder = folder.rpartition("/")[0]
    # One folder copied alone: the data lie beside the folder of the manifest.
    return f"{manifest.rpartition('/')[0].rpartition('/')[0]}/data/{key.rpartition('/')[2]}"
