"""`Against`: the source that a copy is compared with, opened again."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.table_changes import TableChanges
from cloudimg.errors import ArgumentError
from cloudimg.errors.notes import Note
from cloudimg.migration.run.inputs import Input
from cloudimg.migration.run.source_files import is_comparable
from cloudimg.migration.run.write_input import WriteInput


@dataclass(frozen=True, slots=True)
class Against:
    """The source that a copy is compared with."""

    write_input: WriteInput
    """The source, opened again."""
    n_sampled: int | None
    """Number of cells to compare, chosen at random; None: all."""
    changes: TableChanges | None = None
    """How the source's files differ from those that were copied; None where that is not known."""
    compares_versions: bool = False
    """Whether the files are those that were copied, so that their versions can be compared."""

    def sampled(self, n_cells: int) -> npt.NDArray[np.bool_] | None:
        """By number of the cell, whether to compare it; None: all."""
        if self.n_sampled is None:
            return None
        sampled = np.zeros(n_cells, bool)
        sampled[random.sample(range(n_cells), min(n_cells, self.n_sampled))] = True
        return sampled

    def compared(self, recorded: Mapping[str, Any]) -> tuple[Input | None, list[str]]:
        """Pixels to compare with, and how the source changed since the migration.

        Parameters
        ----------
        recorded : mapping
            `State.source` of the migration.

        Returns
        -------
        tuple
            The pixels, or None if the source changed so that none can be compared; and sentences.

        Raises
        ------
        ArgumentError
            If the copy cannot have been made from the source.
        """
        given, changes = self.write_input.source, self.changes
        found = []
        if changes is not None and (changes.n_replaced or changes.n_removed):
            found.append(f"the source changed since it was migrated: {changes}")
        for name in ("dims", "shape", "dtype"):
            if given[name] == recorded[name]:
                continue
            what = (
                f"the source to compare with has {name} {given[name]}, but the copy was made from"
                f" one with {name} {recorded[name]}"
            )
            if not found:
                raise ArgumentError(what)
            return None, [*found, what]
        # The name of an array may differ between runs: its pixels are compared.
        is_named = changes is None and given["kind"] != "array"
        is_named = is_named and is_comparable(recorded["fingerprint"])
        if is_named and given["fingerprint"] != recorded["fingerprint"]:
            found.append("the source changed since it was migrated")
        return self.write_input.pixels, found

    def newer(self, recorded: Mapping[str, Any], *, may_grow: bool) -> tuple[Note, ...]:
        """Notes on files and images that the source has now, but not when it was migrated."""
        notes = []
        if self.changes is not None and self.changes.n_added:
            notes.append(self.changes.newer_files(may_grow=may_grow))
        beside, then = self.write_input.unmatched, recorded.get("files", {})
        if beside is not None and then.get("lists_folder") != beside.is_narrow:
            note = beside.newer_images(then.get("n_unmatched_images", beside.n_images))
            notes += [] if note is None else [note]
        return tuple(notes)
