"""PUTs to S3 by obstore: with a checksum of the bytes, unless the store refuses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypedDict

import obstore
from obstore import exceptions

from cloudimg.storage.base import Data, Stored
from cloudimg.storage.failures import may_refuse_checksum
from cloudimg.storage.obstore_errors import FOREIGN, code_of, status_of
from cloudimg.storage.versions import md5_of_etag, version_text

_LARGE_BYTES = 2**20


class Version(TypedDict, total=False):
    """The version of an object as obstore takes it: ``UpdateVersion`` of its type stubs."""

    e_tag: str | None
    version: str | None


Mode = Literal["overwrite", "create"] | Version
"""Whether an object is stored in any case, in the place of nothing, or of one version of it."""
MakeStore = Callable[[bool, bool], Any]
"""Makes an obstore store: for uploads that may take long, and with checksums."""


class ObstorePuts:
    """PUTs to one bucket.

    obstore computes the SHA-256 of the bytes for the signature anyway, so that sending it as
    ``x-amz-checksum-sha256`` costs no time. Stores check one or both, and buckets with object lock
    require the second:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html

    Parameters
    ----------
    store : S3Store
        Sends small objects, with checksums.
    make : callable
        Makes the stores for other objects. A client takes half a megabyte and some milliseconds,
        and most stores are only read.
    """

    def __init__(self, store: Any, make: MakeStore) -> None:
        self._stores = {(False, True): store}
        self._make = make
        self._has_checksums = True

    def send(self, path: str, data: Data, mode: Mode) -> Stored:
        """Store an object in one request; raises the exceptions of obstore unchanged."""
        if not self._has_checksums:
            return self._send(path, data, mode, checksum=False)
        try:
            return self._send(path, data, mode, checksum=True)
        except FOREIGN as exc:
            if not may_refuse_checksum(status_of(exc), code_of(exc)):
                raise
        stored = self._send(path, data, mode, checksum=False)
        self._has_checksums = False
        return stored

    def _send(self, path: str, data: Data, mode: Mode, *, checksum: bool) -> Stored:
        store = self._store_for(len(data) >= _LARGE_BYTES, checksum)
        try:
            # obstore sends a buffer without copying it.
            answer = obstore.put(store, path, data, mode=mode, use_multipart=False)
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as exc:
            # obstore raises the same for a 409: S3 had conflicting requests and one should retry.
            if mode == "overwrite" or status_of(exc) == 409:
                raise
            return Stored(is_new=False)
        etag = answer["e_tag"]
        return Stored(True, version_text(etag), md5_of_etag(etag))

    def _store_for(self, is_large: bool, checksum: bool) -> Any:
        key = (is_large, checksum)
        if key not in self._stores:
            # Two threads may each make one, which is harmless.
            self._stores[key] = self._make(is_large, checksum)
        return self._stores[key]
