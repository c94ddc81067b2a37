"""Deleting what a destination holds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from cloudimg.migration.journal.destination import ROOT_METADATA, Destination
from cloudimg.migration.journal.lease import LEASES
from cloudimg.migration.journal.state import PLAN, put_clearing_mark
from cloudimg.storage.local import PASSING

_DELETED_AT_ONCE = 1000


def clear(destination: Destination) -> None:
    """Delete everything at a destination except leases and a mark that this was begun."""
    put_clearing_mark(destination)
    # First the objects that readers look for, so that half an image is not mistaken for a whole.
    destination.delete(ROOT_METADATA)
    delete_all(
        destination,
        (
            entry.key
            for entry in destination.list()
            if entry.key != PLAN and not entry.key.startswith(f"{LEASES}/")
        ),
    )
    for path in (*destination.links(), *leftovers(destination)):
        path.unlink()


def delete_all(destination: Destination, keys: Iterable[str]) -> None:
    """Delete any number of objects, in batches."""
    remaining = iter(keys)
    while batch := list(islice(remaining, _DELETED_AT_ONCE)):
        destination.delete(batch)


def leftovers(destination: Destination) -> list[Path]:
    """Temporary files that killed writes left in a local folder; listings omit them."""
    if destination.store.location.protocol != "file":
        return []
    return [
        Path(folder, name)
        for folder, _, names in os.walk(destination.root)
        for name in sorted(names)
        if name.endswith(PASSING)
    ]
