"""Access to object stores and local files: the only package that connects to them."""

from cloudimg.storage.base import Blob, Data, Entry, IncompleteListingError
from cloudimg.storage.store import Store
from cloudimg.storage.threads import Engine, engine, map_ahead
from cloudimg.storage.urls import Location, redact, split_url, unsigned

__all__ = [
    "Blob",
    "Data",
    "Engine",
    "Entry",
    "IncompleteListingError",
    "Location",
    "Store",
    "engine",
    "map_ahead",
    "redact",
    "split_url",
    "unsigned",
]
