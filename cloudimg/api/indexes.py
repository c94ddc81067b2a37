"""Store the table of the files of an image, from which it is opened without a request: `index`."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from cloudimg.discovery.build_grid import short_etag
from cloudimg.discovery.stored_headers import StoredHeader, header_column
from cloudimg.discovery.table import OWN_TABLE
from cloudimg.discovery.table_columns import HEADER
from cloudimg.errors import ArgumentError, counted
from cloudimg.image.table_of_files import table_of_files
from cloudimg.opening.keywords import takes_keywords
from cloudimg.opening.known_folder import open_files_or_folder
from cloudimg.opening.on_cluster import on_cluster
from cloudimg.opening.open_files import open_sources
from cloudimg.opening.opened import Opened
from cloudimg.opening.options import (
    OPEN_DEFAULTS,
    URL,
    CountCallback,
    FileOptions,
    OpenArguments,
    StorageOptions,
    URLs,
)
from cloudimg.opening.tables import read_table
from cloudimg.reading.headers import HeaderReader
from cloudimg.settings import settings
from cloudimg.storage import Store, engine, map_ahead, redact, split_url

if TYPE_CHECKING:
    from cloudimg.distributed.run import Client

_ROWS_PER_GROUP = 2**17
_SUFFIX = ".parquet"
_MOST_BYTES = 64 * 2**20


class IndexOptions(FileOptions, total=False):
    """Keyword arguments of `cloudimg.index`."""

    source_options: StorageOptions | None
    target_options: StorageOptions | None
    progress: CountCallback | None
    client: Client | None


@dataclass(frozen=True, slots=True)
class FileIndex:
    """What `cloudimg.index` has stored; ``str()`` of it is one line."""

    url: str
    """URL of the table, without credentials."""
    n_files: int
    """Number of its rows."""
    n_headers: int
    """Number of files whose header it has."""
    n_bytes: int
    """Its size."""

    def __str__(self) -> str:
        from dask.utils import format_bytes

        headers = counted(self.n_headers, "header")
        return (
            f"{self.url}: {counted(self.n_files, 'file')}, {headers}, {format_bytes(self.n_bytes)}"
        )

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON."""
        return asdict(self)


@takes_keywords(IndexOptions, {**OPEN_DEFAULTS, "validate": "all"})
@on_cluster(urls=["source", "url"])
def index(
    source: URLs, url: URL, *, segments: bool = False, **options: Unpack[IndexOptions]
) -> FileIndex:
    """Store the table of the files of an image, with all that is needed to open it.

    ``cloudimg.open(url)`` then lists nothing and reads no header. Pixels are read from the files:
    one that has another size or ETag than in the table is an error.

    Parameters
    ----------
    source : str, path, sequence of them, or table
        See `cloudimg.open`.
    url : str or path
        The Parquet file to write; its name ends in ``.parquet``. An existing one is replaced. It
        has the columns of `Image.table`, and ``header``: of the files whose headers determine the
        image, the bytes that the parser reads, with their offsets.
    segments : bool
        Whether to store the headers of all files, with the tables of their tiles and strips: pixels
        are then read without reading headers first. They travel with the image, and may take up to
        64 MiB.
    source_options, target_options : mapping, optional
        Options of fsspec for the store of `source` and for that of `url`.
    validate : {"all", "first"}
        "all" reads all headers, compares them, and stores what they say of each file (position,
        time, exposure, channel, objective). "first" reads as few as `cloudimg.open` does.
    progress, client
        See `cloudimg.open`.
    **options
        The other arguments of `cloudimg.open`. Those that form the image (`axes`, `dims`, `place`,
        `series`, `missing`, ...) are not stored: pass them to `cloudimg.open` as well.

    Returns
    -------
    FileIndex

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError, FormatError

    Examples
    --------
    >>> import cloudimg
    >>> pattern = "s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
    >>> print(cloudimg.index(pattern, "files.parquet").n_files)
    360
    >>> cloudimg.open("files.parquet").shape
    (2, 2, 10, 48, 72)
    """
    location, key = split_url(url)
    if not key.lower().endswith(_SUFFIX):
        raise ArgumentError(
            f"{redact(os.fspath(url))} must have a name that ends in {_SUFFIX}, by which it is"
            " known to be a table"
        )
    given: dict[str, Any] = {"validate": "all", **options}
    target = Store(location, given.pop("target_options", None))
    given["storage_options"] = given.pop("source_options", None)
    arguments = OpenArguments.of(given)
    opened, _, arguments = open_files_or_folder(source, arguments)
    if opened.sources[0].files.pages is not None:
        raise ArgumentError(
            f"{opened.url} belongs to a multi-file dataset, which describes itself: open it by this"
            " URL. An index would have its pages, and not its metadata"
        )
    of_files = opened.sources[0].reader.store.location
    if of_files.is_on_this_machine and not location.is_on_this_machine:
        raise ArgumentError(
            f"{opened.url} is on this machine, and {location.display(key)} is not: a table in a"
            " store may not name local files. Store the index on this machine, too"
        )
    table = _with_versions(table_of_files(opened), opened)
    reader, headers = _headers(table, arguments)
    keys = [split_url(name)[1] for name in table["key"].to_pylist()]
    if segments:
        headers = _all_headers(reader, keys)
        own = json.loads(table.schema.metadata[OWN_TABLE])
        own["has_segments"] = True
        table = table.replace_schema_metadata({OWN_TABLE: json.dumps(own).encode()})
    data = _as_parquet(table.append_column(HEADER, header_column(keys, headers)))
    engine().fetch(partial(target.put, key, data)).result()
    return FileIndex(location.display(key), table.num_rows, len(headers), len(data))


def _with_versions(table: Any, opened: Opened) -> Any:
    """The table, without ETags if those of listings and those of the files themselves differ.

    Files of which nothing was listed have the versions in which their headers were read.
    """
    import pyarrow as pa

    grid, headers = opened.grid, {header.key: header for header in opened.inspection.headers}
    location = opened.sources[0].reader.store.location
    names = table.schema.names
    if grid.fields and (grid.sizes[grid.positions] < 0).all():
        found = [headers.get(location.key_of(grid.keys(i))) for i in grid.files()]
        sizes = pa.array([each and each.size_bytes for each in found], pa.int64())
        texts = [each and each.etag and f"blake2b:{short_etag(each.etag):016x}" for each in found]
        table = table.set_column(names.index("size_bytes"), "size_bytes", sizes)
        return table.set_column(names.index("etag"), "etag", pa.array(texts, pa.string()))
    first = opened.inspection.headers[0]
    for index in grid.files() if grid.etags is not None else ():
        if location.key_of(grid.keys(index)) == first.key:
            listed = int(grid.etags[grid.position(index)])  # type: ignore[index]
            if listed and listed != short_etag(first.etag):
                nulls = pa.nulls(table.num_rows, pa.string())
                return table.set_column(names.index("etag"), "etag", nulls)
            break
    return table


def _headers(table: Any, arguments: OpenArguments) -> tuple[HeaderReader, dict[str, StoredHeader]]:
    """The headers with which the image is opened from its table, by key of the file."""
    plain = replace(
        arguments, validate="first", pattern=None, url_column=None, exclude=None, select=None
    )
    opened = open_sources(*read_table(table, plain))
    reader = opened.sources[0].reader.headers
    found: Mapping[str, StoredHeader | None] = {
        header.key: reader.to_store(header.key) for header in opened.inspection.headers
    }
    return reader, {key: header for key, header in found.items() if header is not None}


def _all_headers(reader: HeaderReader, keys: Sequence[str]) -> dict[str, StoredHeader]:
    """The headers of all files, by key.

    Raises
    ------
    ArgumentError
        If they are too large.
    """
    found: dict[str, StoredHeader] = {}
    n_bytes = 0
    n_ahead = 4 * settings().max_requests
    headers = map_ahead(
        lambda key: engine().fetch(partial(reader.to_store, key)), keys, n_ahead=n_ahead
    )
    for key, header in zip(keys, headers, strict=True):
        if header is None:
            continue
        found[key] = header
        n_bytes += sum(len(data) for _, data in header.parts)
        if n_bytes > _MOST_BYTES:
            raise ArgumentError(
                f"the headers of {len(found)} of {len(keys)} files have {n_bytes} bytes, and"
                f" segments=True stores at most {_MOST_BYTES}: leave it out, or make an index for"
                " each part of the files"
            )
    return found


def _as_parquet(table: Any) -> bytes:
    import pyarrow.parquet as pq

    out = io.BytesIO()
    texts = [name for name in table.schema.names if str(table.schema.field(name).type) == "string"]
    pq.write_table(
        table,
        out,
        compression="zstd",
        row_group_size=_ROWS_PER_GROUP,
        use_dictionary=[name for name in texts if name not in ("key", "etag")],
        column_encoding={"key": "DELTA_BYTE_ARRAY"},
        store_schema=True,
    )
    return out.getvalue()
