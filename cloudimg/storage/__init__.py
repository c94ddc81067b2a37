"""Access to object stores and local files: the only package that connects to them.

Its names are imported on first use: a command that only shows its help needs no store.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudimg.storage.attempts import pause
    from cloudimg.storage.base import (
        DANGLING,
        UNREADABLE,
        Blob,
        Created,
        Data,
        Entries,
        Entry,
        IncompleteListingError,
        Mover,
        Standing,
        WriteGuard,
        is_aside,
    )
    from cloudimg.storage.endpoints import endpoint_of
    from cloudimg.storage.pacing import ahead_of_others
    from cloudimg.storage.ranged_listing import UnorderedListingError
    from cloudimg.storage.several_roots import common_location
    from cloudimg.storage.splitting import Delimiter, Outline
    from cloudimg.storage.store import Store
    from cloudimg.storage.threads import Engine, engine, map_ahead
    from cloudimg.storage.urls import Location, redact, split_url, step_of, unsigned

_MODULES = {
    "Blob": "base",
    "Created": "base",
    "DANGLING": "base",
    "Data": "base",
    "Delimiter": "splitting",
    "Engine": "threads",
    "Entries": "base",
    "Entry": "base",
    "IncompleteListingError": "base",
    "Location": "urls",
    "Mover": "base",
    "Outline": "splitting",
    "Standing": "base",
    "Store": "store",
    "UNREADABLE": "base",
    "UnorderedListingError": "ranged_listing",
    "WriteGuard": "base",
    "ahead_of_others": "pacing",
    "common_location": "several_roots",
    "endpoint_of": "endpoints",
    "engine": "threads",
    "is_aside": "base",
    "map_ahead": "threads",
    "pause": "attempts",
    "redact": "urls",
    "split_url": "urls",
    "step_of": "urls",
    "unsigned": "urls",
}
"""The module of this package that defines each name."""

__all__ = [
    "DANGLING",
    "UNREADABLE",
    "Blob",
    "Created",
    "Data",
    "Delimiter",
    "Engine",
    "Entries",
    "Entry",
    "IncompleteListingError",
    "Location",
    "Mover",
    "Outline",
    "Standing",
    "Store",
    "UnorderedListingError",
    "WriteGuard",
    "ahead_of_others",
    "common_location",
    "endpoint_of",
    "engine",
    "is_aside",
    "map_ahead",
    "pause",
    "redact",
    "split_url",
    "step_of",
    "unsigned",
]


if not TYPE_CHECKING:  # type checkers know the names above, and no others

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module 'cloudimg.storage' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"cloudimg.storage.{_MODULES[name]}"), name)
        globals()[name] = value  # so that this function runs once per name
        return value
