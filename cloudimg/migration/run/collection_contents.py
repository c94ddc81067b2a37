"""What a collection holds beside the objects of its images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cloudimg.migration.journal.clearing import leftovers
from cloudimg.migration.journal.collection import Collection
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.state import State
from cloudimg.migration.metadata.documents import collection_documents
from cloudimg.migration.run.committed import committed_cells


def documents_of(
    destination: Destination, states: Mapping[str, State]
) -> list[tuple[str, bytes]] | None:
    """The metadata of a collection, given the journals of its images by folder.

    None if an image is not finished, or commit records of the first one are lost.
    """
    found = []
    for path, state in states.items():
        if state.end_mark is None:
            return None
        found.append((path, state.plan, state.facts.with_notes(state.end_mark.notes)))
    path, first = next(iter(states.items()))
    committed = committed_cells(destination.below(path), first)
    if committed is None:
        return None
    return collection_documents(found, committed.contrast.histograms())


def own_leftovers(destination: Destination, collection: Collection) -> list[Path]:
    """What killed processes left in a local folder, except in the folders of images."""
    root = Path(destination.root)
    return [
        path
        for path in leftovers(destination)
        if path.relative_to(root).parts[0] not in collection.paths
    ]
