"""The backend for every store that fsspec supports.

It also serves s3, gs and http where the faster backends cannot express the options or the key.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar

from cloudimg.errors import (
    CloudimgError,
    NotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from cloudimg.settings import settings
from cloudimg.storage.base import Blob, Data, Entry, Mover, NotMappableError, Page, Stored
from cloudimg.storage.endpoints import endpoint_of
from cloudimg.storage.failures import not_conditional, refuses_conditions
from cloudimg.storage.fsspec_errors import status_and_code, translate
from cloudimg.storage.fsspec_filesystem import filesystem
from cloudimg.storage.fsspec_mover import mover_for
from cloudimg.storage.fsspec_private import strip_protocol
from cloudimg.storage.fsspec_reading import EncodedError, range_header, range_reader
from cloudimg.storage.fsspec_writing import FsspecWriting, NoConditionsError
from cloudimg.storage.lengths import RangesIgnoredError, ranges_ignored
from cloudimg.storage.local import LocalBackend
from cloudimg.storage.pages import NotTheListingError, is_ordered, pager, wrong_page
from cloudimg.storage.urls import Location, encoded_url, spelled_as
from cloudimg.storage.versions import version_of_details

F = TypeVar("F")

_BATCH = 1000
_LISTS_BY_PREFIX = ("s3", "gs")


class FsspecBackend:
    """Requests to one fsspec filesystem."""

    def __init__(self, location: Location, options: Mapping[str, Any]) -> None:
        self._location, self._options = location, options
        self._fs = filesystem(location, options)
        kinds = {base.__name__ for base in type(self._fs).mro()}
        # Members of an archive share one handle of the archive and its table of contents.
        archive = "AbstractArchiveFileSystem" in kinds
        self._one_at_a_time: Any = threading.Lock() if archive else contextlib.nullcontext()
        self._pager = pager(type(self._fs))
        self._read_range = range_reader(type(self._fs))
        self._writing = FsspecWriting(self._fs, self._run)
        # fsspec reports times as floats, which are not exact.
        self._local = LocalBackend() if type(self._fs).__name__ == "LocalFileSystem" else None

    def get(self, key: str, start: int | None, stop: int | None) -> Blob:
        path = self._path(key)
        try:
            if self._read_range is not None:
                with contextlib.suppress(NotMappableError):
                    return self._run(self._read_range(self._fs, path, range_header(start, stop)))
            return self._get_plainly(path, start, stop)
        except StorageError:
            raise  # by the local backend
        except RangesIgnoredError as exc:
            url = self._location.display(key)
            failure: CloudimgError = ranges_ignored(url, start, stop, exc.size_bytes)
        except EncodedError as exc:
            failure = _encoded(self._location.display(key), exc.encoding)
        except Exception as exc:  # noqa: BLE001
            failure = self._translate(exc, key)
        raise failure

    def _get_plainly(self, path: str, start: int | None, stop: int | None) -> Blob:
        """Read by the methods that every filesystem has, which report no version."""
        # Before the bytes: a file that is replaced between the two is then seen to have changed.
        version = None if self._local is None else self._local.info(path).etag
        with self._one_at_a_time:
            data = self._fs.cat_file(path, start=start, end=stop)
            size = None if start is not None and start >= 0 else self._fs.info(path)["size"]
        if start is None:
            return Blob(data, 0, len(data), version)
        return Blob(data, start if start >= 0 else max(0, (size or 0) + start), size, version)

    def _run(self, request: Coroutine[Any, Any, F]) -> F:
        import fsspec.asyn

        return fsspec.asyn.sync(  # type: ignore[no-any-return]
            self._fs.loop, _bounded, request, 60 * settings().timeout_s
        )

    def info(self, key: str) -> Entry:
        details = self._details(key)
        if details.get("type") == "directory":
            url = self._location.display(key)
            raise NotFoundError(f"{url} is a folder, not a file", url=url)
        return Entry(key, details.get("size"), self._version(key, details))

    def _details(self, key: str) -> Mapping[str, Any]:
        try:
            with self._one_at_a_time:
                return self._fs.info(self._path(key))  # type: ignore[no-any-return]
        except Exception as exc:  # noqa: BLE001
            failure = self._translate(exc, key)
        raise failure

    def _version(self, key: str, details: Mapping[str, Any]) -> str | None:
        if self._local is None:
            return version_of_details(details)
        try:
            return self._local.info(key).etag
        except NotFoundError:
            return None  # deleted since it was listed, or neither a file nor a folder

    @property
    def lists_in_order(self) -> bool:
        return self._pager is not None and is_ordered(self._location.root)

    @property
    def checks_pages(self) -> bool:
        return self._pager is not None

    def list_objects(
        self, folder: str, stem: str, depth: int | None, *, n_below: int = 0
    ) -> Iterator[Sequence[Entry]]:
        if self._pager is not None and self._location.root:
            prefix, token = max(stem, f"{folder.rstrip('/')}/", key=len), None
            while (page := self.list_page(prefix, token=token)).token is not None:
                yield page.entries
                token = page.token
            yield page.entries
            return
        depth = None if n_below else depth
        entries = [
            Entry(key, details.get("size"), self._version(key, details))
            # In one order in every process: the links of a web page are a set, and sources are
            # recognized by their files in the order of the listing.
            for name, details in sorted(
                self._listing(folder, stem, depth).items(), key=itemgetter(0)
            )
            if details.get("type") != "directory"
            and (key := spelled_as(self._key(name), stem)) is not None
        ]
        for i in range(0, len(entries), _BATCH):
            yield entries[i : i + _BATCH]

    def _listing(self, folder: str, stem: str, depth: int | None) -> Mapping[str, Any]:
        """What the filesystem reports of each object, by its name; empty for a missing folder."""
        path = self._path(folder)
        try:
            self._fs.invalidate_cache()
            if depth == 1:
                return {item["name"]: item for item in self._fs.ls(path, detail=True)}
            return self._fs.find(path, maxdepth=depth, detail=True)  # type: ignore[no-any-return]
        except FileNotFoundError:
            failure = None
        except Exception as exc:  # noqa: BLE001
            failure = self._translate(exc, folder)
        if failure is not None:
            raise failure
        return {}

    def list_page(
        self, prefix: str, *, after: str = "", token: str | None = None, delimiter: str = ""
    ) -> Page:
        if self._pager is None or not self._location.root:
            raise NotMappableError
        bucket = self._location.root
        n = len(bucket) + 1
        url = self._location.display(prefix.rpartition("/")[0])
        try:
            return self._run(self._pager(self._fs, bucket, prefix[n:], after[n:], token, delimiter))
        except NotTheListingError as exc:
            failure: StorageError = wrong_page(exc, url)
        except Exception as exc:  # noqa: BLE001
            failure = translate(exc, url)
        raise failure

    def put(self, key: str, data: Data) -> Stored:
        try:
            return self._writing.put(self._path(key), data)
        except Exception as exc:  # noqa: BLE001
            failure = self._translate(exc, key, "write")
        raise failure

    def create(self, key: str, data: Data) -> Stored:
        try:
            return self._writing.create(self._path(key), data)
        except NoConditionsError:
            url = self._location.display(key)
            failure = StorageError(
                f"cannot write {url}: {self._location.protocol}:// cannot create an object only if"
                " it does not exist, which is what keeps two migrations apart: write to s3, gs, az"
                " or a local folder",
                url=url,
            )
        except Exception as exc:  # noqa: BLE001
            failure = self._refused(exc, key)
        raise failure

    def replace(self, key: str, data: Data, version: str) -> Stored:
        try:
            return self._writing.replace(self._path(key), data, version)
        except NoConditionsError:
            failure: StorageError = not_conditional(self._location.display(key))
        except Exception as exc:  # noqa: BLE001
            failure = self._refused(exc, key)
        raise failure

    def _refused(self, exc: BaseException, key: str) -> StorageError:
        """The error of a request to store an object on a condition."""
        status, code = status_and_code(exc)
        if refuses_conditions(status, f"{code} {exc}"):
            return not_conditional(self._location.display(key))
        return self._translate(exc, key, "write")

    def delete(self, keys: Sequence[str]) -> None:
        try:
            self._writing.delete([self._path(key) for key in keys])
            return
        except Exception as exc:  # noqa: BLE001
            failure = self._translate(exc, keys[0], "delete")
        raise failure

    def mover(self) -> Mover:
        if self._local is not None:
            return self._local.mover()
        mover = mover_for(self._fs, self._run, self._translate)
        if mover is not None:
            return mover
        location = self._location
        raise StorageError(
            f"cannot move or tag objects in {location.display(location.root)}: that is possible in"
            " S3, in Google Cloud Storage and on local disks"
        )

    def _path(self, key: str) -> str:
        location = self._location
        if location.protocol in ("http", "https"):
            return encoded_url(f"{location.protocol}://{key}")
        if location.protocol in _LISTS_BY_PREFIX:
            return key
        return strip_protocol(self._fs, f"{location.protocol}://{key}")

    def _key(self, name: str) -> str:
        location = self._location
        if location.protocol in ("http", "https"):
            return name.split("://", 1)[-1]
        if location.protocol in _LISTS_BY_PREFIX or location.protocol == "file":
            return name
        # Filesystems with a host omit it from their paths, object stores keep the bucket.
        at_root = self._path(location.root).strip("/")
        inside = name.strip("/").removeprefix(at_root).lstrip("/") if at_root else name.lstrip("/")
        return f"{location.root}/{inside}" if location.root else inside

    def _translate(self, exc: BaseException, key: str, action: str = "read") -> StorageError:
        return translate(exc, self._location.display(key), action, self._server)

    def _server(self) -> str | None:
        endpoint = endpoint_of(self._location, self._options)
        return None if endpoint is None else endpoint.partition("://")[2]


def _encoded(url: str, encoding: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(
        f"{url} is stored with Content-Encoding: {encoding}, so byte ranges of it are not ranges of"
        " the file: store it decompressed",
        url=url,
    )


async def _bounded(request: Coroutine[Any, Any, F], timeout_s: float) -> F:
    return await asyncio.wait_for(request, timeout_s)
