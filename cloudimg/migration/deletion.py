"""What a user is asked: whether to delete what is in the way, or to open what a copy names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a migration with ``overwrite=True``, or a repair, is about to delete."""

    url: str
    """URL of the destination."""
    n_objects: int
    """Number of objects there."""
    n_bytes: int
    """Bytes in them."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What is about to be opened or acted on, because whoever wrote the copy named it."""

    url: str
    """URL of the copy."""
    place: str
    """Bucket and server, or host, of the files."""
