"""What is noticed about files without being an error.

A `Remark` is about one file, without its URL, so that it can be kept with a header that is reused
for files with identical headers. A `Note` sums up the remarks of one kind about all files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

N_EXAMPLES = 3
"""Number of URLs that a note gives as examples."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something noticed about one file."""

    kind: str
    """A short name in lower case with hyphens, such as ``"further-images"``; equal for all remarks
    that belong into one note."""
    text: str
    """What was noticed, as a sentence without the URL, without a capital letter and full stop."""


class Note(str):
    """Something noticed about one or more files: a text with a kind and examples.

    Parameters
    ----------
    text : str
        What was noticed about the first file.
    kind : str
        Name of the kind of remark.
    n_files : int
        Number of files that it is about.
    urls : iterable of str
        URLs of up to three of them.
    """

    __slots__ = ("kind", "n_files", "text", "urls")

    kind: str
    n_files: int
    text: str
    urls: tuple[str, ...]

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


def _restored(text: str, kind: str, n_files: int, urls: tuple[str, ...]) -> Note:
    return Note(text, kind=kind, n_files=n_files, urls=urls)


def merge(notes: Iterable[Note]) -> tuple[Note, ...]:
    """Sum up notes about different files: one note per kind, in the order of the first of each."""
    merged: dict[str, Note] = {}
    for note in notes:
        known = merged.get(note.kind)
        if known is not None:
            n_files, urls = known.n_files + note.n_files, (*known.urls, *note.urls)
            note = Note(known.text, kind=known.kind, n_files=n_files, urls=urls)
        merged[note.kind] = note
    return tuple(merged.values())


def notes_of(remarks: Iterable[Remark], url: str) -> tuple[Note, ...]:
    """The notes about one file; of several remarks of one kind, the texts are joined."""
    texts: dict[str, list[str]] = {}
    for remark in remarks:
        texts.setdefault(remark.kind, []).append(remark.text)
    return tuple(
        Note("; ".join(dict.fromkeys(found)), kind=kind, n_files=1, urls=(url,))
        for kind, found in texts.items()
    )
