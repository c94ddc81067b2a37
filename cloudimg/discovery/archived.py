"""Files in an archive, such as S3 Glacier, by what a listing says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from cloudimg.errors.notes import N_EXAMPLES, Note
from cloudimg.pattern import Pattern
from cloudimg.storage import Entries

KIND = "archived"
"""Kind of the note."""


class Archived:
    """Counts the files of a pattern that are in an archive.

    Parameters
    ----------
    display : callable
        Returns the URL of a name, for messages.
    """

    def __init__(self, display: Callable[[str], str]) -> None:
        self._display = display
        self._n_of_class: Counter[str] = Counter()
        self._examples: list[str] = []

    def add(self, pattern: Pattern, batch: Entries) -> None:
        """Count those of a part of a listing."""
        if not batch.archives:
            return
        for name, archive in zip(batch.keys, batch.archives, strict=True):
            if archive is not None and pattern.split(name) is not None:
                self._n_of_class[archive] += 1
                if len(self._examples) < N_EXAMPLES:
                    self._examples.append(self._display(name))

    def notes(self) -> tuple[Note, ...]:
        """The note about them, if there are any."""
        if not self._n_of_class:
            return ()
        classes = ", ".join(f"{name}: {n}" for name, n in sorted(self._n_of_class.items()))
        note = Note(
            f"in an archive ({classes}): only what has been restored can be read",
            kind=KIND,
            n_files=self._n_of_class.total(),
            urls=self._examples,
        )
        return (note,)
