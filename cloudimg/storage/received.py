"""Whether a store received the bytes that were sent, by the MD5 that it answers with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable

from cloudimg.storage.base import Blob, Data, Stored
from cloudimg.storage.threads import engine

_LARGE_BYTES = 2**20
_have_md5s: set[Hashable] = set()
"""Stores of this process that have answered with the MD5 of what was sent."""
_have_other_etags: set[Hashable] = set()
"""Those whose ETags look like an MD5 and are something else."""


def start_md5(store: Hashable, data: Data) -> Callable[[], str]:
    """The MD5 of an object; computed beside its request where the answer will probably have it."""

    def compute() -> str:
        return hashlib.md5(data, usedforsecurity=False).hexdigest()

    is_wanted = store in _have_md5s and store not in _have_other_etags
    return (
        engine().fetch_window(compute).result
        if is_wanted and len(data) >= _LARGE_BYTES
        else compute
    )


def is_received(
    store: Hashable,
    stored: Stored,
    data: Data,
    md5: Callable[[], str],
    read_back: Callable[[], Data],
) -> bool:
    """Whether a store has the bytes that were sent; True where it does not say what it has.

    Parameters
    ----------
    store : hashable
        Identity of the store, so that it is asked once whether its ETags are MD5s.
    stored : Stored
        The store's answer.
    data : bytes-like
        What was sent.
    md5 : callable
        Returns its MD5, in hexadecimal.
    read_back : callable
        Reads the object. An ETag that is not the MD5 of what was sent is either that of other
        bytes, or not an MD5, as with keys of KMS and with some gateways.
    """
    if stored.md5 is None or store in _have_other_etags:
        return True
    if md5() == stored.md5:
        _have_md5s.add(store)
        return True
    if bytes(read_back()) != data:
        return False
    _have_other_etags.add(store)
    return True


def read_back(get: Callable[[], Blob]) -> Blob:
    """Read an object that is to be recorded as it is read: again if its MD5 is not the stated one.

    Its bytes changed on the way then, or the store states something else. Of an object that is
    larger than what `get` reads nothing is recorded.
    """
    blob = get()
    if blob.size_bytes is not None and blob.size_bytes > len(blob.data):
        return blob
    if blob.md5 in (None, hashlib.md5(blob.data, usedforsecurity=False).hexdigest()):
        return blob
    return get()
