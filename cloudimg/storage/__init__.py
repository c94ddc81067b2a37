"""The only package that talks to stores."""

from cloudimg.storage.base import Blob, Data, Entry
from cloudimg.storage.limits import Engine, engine
from cloudimg.storage.store import Store
from cloudimg.storage.urls import Location, redact, split_url, unsigned

__all__ = [
    "Blob",
    "Data",
    "Engine",
    "Entry",
    "Location",
    "Store",
    "engine",
    "redact",
    "split_url",
    "unsigned",
]
