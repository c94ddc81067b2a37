"""`Deletion`: what a migration with ``overwrite=True`` is about to delete."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a migration is about to delete."""

    url: str
    """URL of the destination."""
    n_objects: int
    """Number of objects there."""
    n_bytes: int
    """Bytes in them."""
