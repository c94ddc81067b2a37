"""What is noticed about files without being an error.

A `Remark` is about one file, without its URL, so that it can be kept with a header that is reused
for files with identical headers. A `Note` sums up the remarks of one kind about all files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

MARK = "note: "
"""What a note begins with among other messages."""
N_EXAMPLES = 3
"""Number of URLs that a note gives as examples."""
_MAX_TEXTS = 3
"""Remarks of one kind about one file that are repeated; further ones are counted."""
_MAX_CHARACTERS = 500
"""Greatest length of one of them: files determine what remarks repeat."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something noticed about one file."""

    kind: str
    """A short name in lower case with hyphens, such as ``"further-images"``; equal for all remarks
    that belong into one note."""
    text: str
    """What was noticed, as a sentence without the URL, without a capital letter and full stop."""


class Note(str):
    """Something noticed about one or more files: a text that names an example."""

    __slots__ = ("kind", "n_files", "text", "urls")

    text: str
    """What was noticed about the first file, without its URL."""
    kind: str
    """Name of the kind of remark, such as ``"metadata-problem"``; one note has all of a kind."""
    n_files: int
    """Number of files that it is about, among those whose headers were read."""
    urls: tuple[str, ...]
    """URLs of up to three of them, without credentials."""

    def __new__(cls, text: str, *, kind: str, n_files: int, urls: Iterable[str]) -> Self:
        examples = tuple(urls)[:N_EXAMPLES]
        where = examples[0] if examples else "the image"
        if n_files > 1:
            where = f"{n_files} files, for example {where}"
        note = super().__new__(cls, f"{where}: {text}")
        note.text = text
        note.kind = kind
        note.n_files = n_files
        note.urls = examples
        return note

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.text, self.kind, self.n_files, self.urls)

    def to_json(self) -> dict[str, Any]:
        """The note as a JSON object."""
        return {
            "kind": self.kind,
            "text": self.text,
            "n_files": self.n_files,
            "urls": list(self.urls),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Restore a note from `to_json`."""
        return cls(
            stored["text"], kind=stored["kind"], n_files=stored["n_files"], urls=stored["urls"]
        )


def _restored(*state: Any) -> Note:
    try:
        text, kind, n_files, urls = state
        return Note(text, kind=kind, n_files=n_files, urls=urls)
    except (TypeError, ValueError):  # Dask only logs what is raised here
        text = "a note arrived that another version of cloudimg has made"
        return Note(text, kind="unknown", n_files=1, urls=())


@dataclass(slots=True)
class _Sum:
    """The remarks of one kind."""

    text: str
    n_files: int = 0
    urls: list[str] = field(default_factory=list)


class NoteSums:
    """Sums up remarks about many files: one note per kind, in the order of the first of each.

    It takes memory for the kinds only, not for the files.
    """

    def __init__(self) -> None:
        self._sums: dict[str, _Sum] = {}

    def add(self, remarks: Iterable[Remark], url: str) -> None:
        """Add all remarks about one file, which must not be added twice."""
        texts: dict[str, dict[str, None]] = {}
        for remark in remarks:
            texts.setdefault(remark.kind, {})[remark.text] = None
        for kind, found in texts.items():
            known = self._sums.get(kind)
            self._count(kind, _joined(list(found)) if known is None else known.text, 1, (url,))

    def add_notes(self, notes: Iterable[Note]) -> None:
        """Add notes about other files."""
        for note in notes:
            self._count(note.kind, note.text, note.n_files, note.urls)

    def _count(self, kind: str, text: str, n_files: int, urls: Iterable[str]) -> None:
        known = self._sums.setdefault(kind, _Sum(text))
        known.n_files += n_files
        if len(known.urls) < N_EXAMPLES:
            known.urls = [*known.urls, *urls][:N_EXAMPLES]

    def notes(self) -> tuple[Note, ...]:
        """One note for each kind."""
        return tuple(
            Note(each.text, kind=kind, n_files=each.n_files, urls=each.urls)
            for kind, each in self._sums.items()
        )


def _joined(texts: list[str]) -> str:
    """The texts of one file and kind as one, without line breaks and of limited length."""
    shown = [" ".join(text.split()) for text in texts[:_MAX_TEXTS]]
    shown = [
        text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 3]}..."
        for text in shown
    ]
    more = [f"and {len(texts) - _MAX_TEXTS} more"] if len(texts) > _MAX_TEXTS else []
    return "; ".join([*shown, *more])


def joined_notes(first: Iterable[Note], second: Iterable[Note]) -> tuple[Note, ...]:
    """Join notes of two passes over the same files, one note per kind.

    A file may have been counted in both passes, so the greater number counts. It is less than the
    true number only if each pass noticed something of one kind about files where the other did not.
    """
    joined = {note.kind: note for note in first}
    for note in second:
        known = joined.get(note.kind)
        if known is not None:
            urls = dict.fromkeys((*known.urls, *note.urls))
            n_files = max(known.n_files, note.n_files)
            note = Note(known.text, kind=note.kind, n_files=n_files, urls=urls)
        joined[note.kind] = note
    return tuple(joined.values())


def notes_as_json(key: str, notes: Iterable[Note]) -> dict[str, Any]:
    """A JSON object with notes under a key; an empty one if there are none."""
    stored = [note.to_json() for note in notes]
    return {key: stored} if stored else {}


def notes_from_json(stored: Mapping[str, Any], key: str) -> tuple[Note, ...]:
    """The notes that `notes_as_json` put into an object."""
    return tuple(Note.from_json(each) for each in stored.get(key, ()))
