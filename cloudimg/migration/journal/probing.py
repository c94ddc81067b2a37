"""Finding out whether a store lets us write, and refuses to create an object that exists.

No request without an effect tells that for certain, so an object is stored and deleted. Its name is
one that migrations ignore: left by a process that was killed in between, it does no harm.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass

from cloudimg.errors import (
    AccessDeniedError,
    CloudimgError,
    NotConditionalError,
    StorageError,
)
from cloudimg.migration.journal.destination import Destination, as_json
from cloudimg.migration.journal.layout import LEASES

_under_way = threading.Lock()
"""Held while a probe may be stored."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What was found out."""

    fences: bool
    """Whether the store refuses to create an object that exists."""
    left: str = ""
    """What is left of the probe, as a message; empty if nothing is."""


def probe(destination: Destination) -> Probed:
    """Store an object, try to create it again, and delete it.

    Raises
    ------
    StorageError
        If nothing can be stored; its message says so if the probe may be left.
    """
    with _under_way:
        return _probed(destination)


def wait_for_probe(timeout_s: float) -> None:
    """Wait until a probe that is under way is deleted: before a process ends by a signal."""
    if _under_way.acquire(timeout=timeout_s):
        _under_way.release()


def _probed(destination: Destination) -> Probed:
    key = f"{LEASES}/probe-{uuid.uuid4().hex}.json"
    try:
        fences = _fences(destination, key)
    except AccessDeniedError:
        raise  # nothing was stored
    except BaseException as exc:
        left = _removed(destination, key)
        if left and isinstance(exc, CloudimgError):
            exc.message = f"{exc.message}; {left}"
            exc.args = (exc.message,)
        raise
    return Probed(fences, _removed(destination, key))


def _fences(destination: Destination, key: str) -> bool:
    """Store the probe; return whether the store refused to create it once more.

    Raises
    ------
    StorageError
    """
    first, second = (as_json({"probe": number}) for number in (1, 2))
    try:
        destination.create(key, first)
        return not destination.replaces_existing(key, second)
    except StorageError as exc:
        # Some servers answer 400 to a header that they do not know, and do not name it.
        if type(exc) not in (NotConditionalError, StorageError):
            raise
    destination.put(key, first)
    return False


def _removed(destination: Destination, key: str) -> str:
    """Delete the probe; return what is left of it, as a message."""
    try:
        destination.delete([key])
    except CloudimgError as exc:
        return (
            f"{destination.display(key)}, by which the destination was tried, could not be deleted"
            f" ({exc.message}): delete it"
        )
    return ""
