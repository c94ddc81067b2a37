"""Whether a store received the bytes that were sent, by the MD5 that it answers with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable

from cloudimg.storage.base import Data, Stored

_have_other_etags: set[Hashable] = set()
"""Stores of this process whose ETags look like an MD5 and are something else."""


def is_received(store: Hashable, stored: Stored, data: Data, read_back: Callable[[], Data]) -> bool:
    """Whether a store has the bytes that were sent; True where it does not say what it has.

    Parameters
    ----------
    store : hashable
        Identity of the store, so that it is asked once whether its ETags are MD5s.
    stored : Stored
        The store's answer.
    data : bytes-like
        What was sent.
    read_back : callable
        Reads the object. An ETag that is not the MD5 of what was sent is either that of other
        bytes, or not an MD5, as with keys of KMS and with some gateways.
    """
    if stored.md5 is None or store in _have_other_etags:
        return True
    if hashlib.md5(data, usedforsecurity=False).hexdigest() == stored.md5:
        return True
    if bytes(read_back()) != data:
        return False
    _have_other_etags.add(store)
    return True
