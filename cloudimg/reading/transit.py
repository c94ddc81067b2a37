"""Whether the bytes of a file are those in the store: its MD5, where the store states it.

Checksums of TCP miss one error in some millions of packets, and proxies change bytes before them. A
file that came with one request is compared with the MD5 that its store states, which S3 does as the
ETag of what was uploaded with one request. Under SSE-KMS and SSE-C, after multipart uploads and at
some gateways an ETag is not an MD5, although it may look like one:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cloudimg.errors import ServerError
from cloudimg.errors.notes import Remark
from cloudimg.storage import Blob, Store
from cloudimg.storage.versions import is_etag

BY_RANGES = Remark("read-by-ranges", "read by ranges, so its bytes were not checked in transit")
NO_MD5 = Remark(
    "etag-not-md5",
    "its ETag is not an MD5 of its content, so its bytes were not checked in transit",
)


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading of a whole file whose MD5 is not the one that the store states."""

    md5: str
    """MD5 of the bytes that came."""
    etag: str | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known about the bytes of a file."""

    md5: str | None
    """What the store states; None if it states none, or something else."""
    is_checked: bool = False
    """Whether all bytes have that MD5."""
    has_etag: bool = True
    """Whether the server says anything of the content: some web servers state a time only."""

    @property
    def remark(self) -> Remark | None:
        """What to note about the file; None if its bytes were checked."""
        if self.is_checked or not self.has_etag:
            return None
        return NO_MD5 if self.md5 is None else BY_RANGES


@dataclass(frozen=True, slots=True)
class TransitCheck:
    """Compares files that were read as a whole with the MD5s that their store states."""

    store: Store
    is_wanted: bool

    @property
    def is_on(self) -> bool:
        """Whether files are checked; those of this machine do not come over a network."""
        return self.is_wanted and not self.store.location.is_on_this_machine

    def check(self, key: str, blob: Blob, before: Reading | None = None) -> Arrival | Reading:
        """Compare a file with what its store states.

        Where they differ, the file is read once more. If that gives the same bytes, the store
        states something else than their MD5.

        Parameters
        ----------
        key : str
            Key of the file.
        blob : Blob
            The file, or a part of it.
        before : Reading, optional
            The reading before, if this is the second one.

        Returns
        -------
        Arrival or Reading
            A reading if the file has to be read once more.

        Raises
        ------
        ServerError
            Two readings differ from one another, and both from what the store states.
        """
        stated = blob.md5
        if stated is None or not blob.is_whole or not self.is_on:
            is_web = self.store.location.protocol in ("http", "https")
            return Arrival(stated, has_etag=not is_web or is_etag(blob.etag))
        found = hashlib.md5(blob.data, usedforsecurity=False).hexdigest()
        if found == stated:
            _WITH_MD5S.add(self._place)
            return Arrival(stated, is_checked=True)
        if before is None or before.etag != blob.etag:
            # Where ETags are never MD5s, one file was read twice; that is not done for each.
            is_usual = self._place in _WITH_OTHERS and self._place not in _WITH_MD5S
            return Arrival(None) if is_usual else Reading(found, blob.etag)
        if before.md5 == found:
            _WITH_OTHERS.add(self._place)
            return Arrival(None)
        url = self.store.location.display(key)
        raise ServerError(
            f"the bytes of {url} changed in transit: two readings have the MD5s {before.md5} and"
            f" {found}, and the store states {stated}. Check the network and the proxies between"
            " this machine and the store, then run the same command again",
            url=url,
        )

    def get(self, key: str, stop: int | None = None) -> tuple[Blob, Arrival]:
        """Read a whole file, or its bytes up to `stop`; once more if they changed in transit.

        Raises
        ------
        StorageError
        """
        before: Reading | None = None
        while True:
            blob = self.store.get(key, None if stop is None else 0, stop)
            arrival = self.check(key, blob, before)
            if isinstance(arrival, Arrival):
                return blob, arrival
            before = arrival

    @property
    def _place(self) -> tuple[str, str, str]:
        return self.store.identity, self.store.location.protocol, self.store.location.root


_WITH_MD5S: set[tuple[str, str, str]] = set()
"""Buckets and servers in which this process has seen an MD5 that a file has."""
_WITH_OTHERS: set[tuple[str, str, str]] = set()
"""Those in which it has seen something else in its place."""
