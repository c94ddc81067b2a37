"""Notes of all cells, from their commit records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloudimg.errors.notes import N_EXAMPLES, Note


@dataclass(frozen=True, slots=True)
class _Kind:
    """Notes of one kind."""

    order: tuple[int, int]
    """Cell with the first note, and the position of the note there."""
    text: str
    """Text of the first note."""
    n_files: int
    examples: tuple[tuple[int, int, str], ...]
    """The first URLs, each with its cell and its position there."""


class NotesByCell:
    """Sums up the notes of cells, which can be added in any order, by kind."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def add(self, cell: int, notes: Sequence[Note]) -> None:
        """Add the notes of a cell, given by its number."""
        for position, note in enumerate(notes):
            examples = tuple((cell, i, url) for i, url in enumerate(note.urls))
            kind = _Kind((cell, position), note.text, note.n_files, examples)
            known = self._kinds.get(note.kind)
            if known is not None:
                first = min(known, kind, key=lambda each: each.order)
                kind = _Kind(
                    first.order,
                    first.text,
                    known.n_files + kind.n_files,
                    tuple(sorted(known.examples + kind.examples)[:N_EXAMPLES]),
                )
            self._kinds[note.kind] = kind

    def notes(self) -> tuple[Note, ...]:
        """One note per kind, in the order of the cells."""
        ordered = sorted(self._kinds.items(), key=lambda item: item[1].order)
        return tuple(
            Note(
                each.text,
                kind=kind,
                n_files=each.n_files,
                urls=[url for _, _, url in each.examples],
            )
            for kind, each in ordered
        )
