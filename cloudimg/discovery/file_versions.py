"""Versions of files as digests of eight bytes, and which of them changed since they were read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.build_grid import short_etag
from cloudimg.errors import NotFoundError, StorageError
from cloudimg.settings import settings
from cloudimg.storage import Store, engine, map_ahead

_GONE = -1
_MIXING = 0x9E3779B97F4A7C15
"""An odd number (2^64 divided by the golden ratio) that spreads sizes over 64 bits."""


def file_version(etag: str | None, size_bytes: int | None) -> int:
    """Digest of a file's ETag and size; 0 if neither is known.

    That of an empty file is of its size alone, since an answer without bytes may have no ETag.
    """
    digest = short_etag(etag) if size_bytes != 0 else 0
    return digest if size_bytes is None else (digest ^ (size_bytes + 1) * _MIXING) % 2**64 or 1


def versions_listed(
    etags: npt.NDArray[np.uint64], sizes: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """Digests of files by what a listing says of them; 0 where it says too little.

    Parameters
    ----------
    etags : ndarray
        See `cloudimg.discovery.build_grid.short_etag`; 0 where unknown.
    sizes : ndarray
        Sizes in bytes, -1 where unknown.
    """
    mixed = np.where(sizes == 0, np.uint64(0), etags)
    mixed ^= (sizes + 1).astype(np.uint64) * np.uint64(_MIXING)
    is_known = (etags != 0) & (sizes >= 0)
    return np.where(is_known, np.maximum(mixed, np.uint64(1)), np.uint64(0))


class CurrentVersions:
    """The versions that files have now: as they were listed, or else asked for by HEAD.

    Parameters
    ----------
    store : Store
    key_of : callable
        Returns the key of a file, by its position.
    listed : ndarray
        Digests by position, see `versions_listed`.
    """

    def __init__(
        self, store: Store, key_of: Callable[[int], str], listed: npt.NDArray[np.uint64]
    ) -> None:
        self._store = store
        self._key_of = key_of
        self._versions = listed.copy()
        self._is_known = listed != 0
        self.is_gone = np.zeros(len(listed), bool)
        """By position, whether a file was found not to exist."""

    def ask(self, positions: npt.NDArray[np.int64]) -> None:
        """Ask the store for the versions of files that were not listed with one.

        Raises
        ------
        StorageError
        """
        unknown = [int(each) for each in positions if not self._is_known[each]]
        keys = [self._key_of(position) for position in unknown]
        # The pages of a multi-file dataset are many positions of one file.
        different = list(dict.fromkeys(keys))
        found = dict(zip(different, self._requested(self._by_head, different), strict=True))
        for position, key in zip(unknown, keys, strict=True):
            self._set(position, found[key])

    def _set(self, position: int, version: int) -> None:
        self._is_known[position] = True
        self.is_gone[position] = version == _GONE
        self._versions[position] = 0 if version == _GONE else version

    def changed(
        self, positions: npt.NDArray[np.int64], seen: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.int64]:
        """Positions of the files that have another version than the one that was read.

        Files that no longer exist, and those without versions, count as unchanged.

        Parameters
        ----------
        positions : ndarray
        seen : ndarray
            Digests of the versions that were read; 0 where unknown.

        Raises
        ------
        StorageError
        """
        self.ask(positions)
        now = self._versions[positions]
        differs = positions[(now != seen) & (now != 0) & (seen != 0)]
        # Listings and HEADs of some stores have other versions than the answers to GETs, which are
        # those that readers see.
        keys = [self._key_of(position) for position in differs.tolist()]
        different = list(dict.fromkeys(keys))
        found = dict(zip(different, self._requested(self._by_get, different), strict=True))
        for position, key in zip(differs.tolist(), keys, strict=True):
            self._set(position, found[key])
        now = self._versions[positions]
        changed: npt.NDArray[np.int64] = positions[(now != seen) & (now != 0) & (seen != 0)]
        return changed

    def _requested(self, request: Callable[[str], int], keys: Sequence[str]) -> list[int]:
        n_ahead = 4 * settings().max_requests
        return list(
            map_ahead(lambda key: engine().fetch(partial(request, key)), keys, n_ahead=n_ahead)
        )

    def _by_head(self, key: str) -> int:
        try:
            entry = self._store.info(key)
        except StorageError:
            # Some servers answer no HEAD, such as to URLs that are signed for GET.
            return self._by_get(key)
        return file_version(entry.etag, entry.size_bytes)

    def _by_get(self, key: str) -> int:
        try:
            blob = self._store.get(key, 0, 1)
            if blob.size_bytes is not None:
                return file_version(blob.etag, blob.size_bytes)
            # As readers do. An empty file has no first byte to answer with, either.
            size_bytes = self._store.info(key).size_bytes
        except NotFoundError:
            return _GONE
        return file_version(blob.etag, size_bytes)
