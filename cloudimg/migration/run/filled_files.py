"""Files that are missing or bad, as the commit records of all cells list them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from cloudimg.errors import file_report
from cloudimg.errors.file_report import KINDS, BadFile, FileCounts, FileReport
from cloudimg.errors.notes import Note

MOST_LISTED = 1000
"""Missing files of a cell, and files of each kind of a copy, that are listed; further ones are only
counted."""
_FILLED = "filled-"
"""What the kinds of notes on filled files begin with."""


class FilledFiles:
    """Sums up the files that cells filled. Cells can be added in any order.

    A bad file that several cells read is counted once. Takes memory for the digest of each bad
    file, and for the files that a report lists.
    """

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._n: Counter[str] = Counter()
        self._first: dict[str, dict[str, tuple[int, int, BadFile]]] = {}

    def add(self, cell: int, files: Sequence[BadFile], n_missing: int) -> None:
        """Add what a cell filled, given by its number; see `CommitRecord`."""
        self._n["missing"] += n_missing
        for position, file in enumerate(files):
            if file.kind != "missing":
                identity = f"{file.kind}\0{file.url}".encode("utf-8", "surrogatepass")
                digest = hashlib.blake2b(identity, digest_size=8).digest()
                self._n[file.kind] += digest not in self._seen
                self._seen.add(digest)
            first = self._first.setdefault(file.kind, {})
            known = first.get(file.url)
            if known is None or known[:2] > (cell, position):
                first[file.url] = (cell, position, file)
            if len(first) > 2 * file_report.MOST_LISTED:
                self._first[file.kind] = _smallest(first)

    def __bool__(self) -> bool:
        return any(self._n.values())

    def listed(self) -> tuple[BadFile, ...]:
        """The files by kind, in the order of the cells; at most `MOST_LISTED` of each kind."""
        return tuple(file for kind in KINDS for file in self._of_kind(kind)[:MOST_LISTED])

    def _of_kind(self, kind: str) -> list[BadFile]:
        return [file for _, _, file in _smallest(self._first.get(kind, {})).values()]

    def notes(self) -> tuple[Note, ...]:
        """One note for each kind."""
        notes = []
        for kind in KINDS:
            if n_files := self._n[kind]:
                files = self._of_kind(kind)
                text = files[0].text or "there is no such file"
                text += "; pixels of such files are the fill value"
                urls = [file.url for file in files]
                notes.append(Note(text, kind=f"{_FILLED}{kind}", n_files=n_files, urls=urls))
        return tuple(notes)

    def report(self, of_source: dict[str, Any]) -> FileReport:
        """The report on all files.

        Parameters
        ----------
        of_source : dict
            Number of files and of those that were excluded, as `WriteInput.source` has them.
        """
        counts = FileCounts()
        for kind in KINDS:
            counts.add_many(kind, self._n[kind], self._of_kind(kind))
        return _report(counts, of_source)


def _smallest(
    first: dict[str, tuple[int, int, BadFile]],
) -> dict[str, tuple[int, int, BadFile]]:
    """The files of the first cells."""
    ordered = sorted(first.items(), key=lambda item: item[1][:2])
    return dict(ordered[: file_report.MOST_LISTED])


def report_of_notes(notes: Iterable[str], of_source: dict[str, Any]) -> FileReport:
    """The report on the files of a finished copy, from its notes; see `FilledFiles.report`."""
    counts = FileCounts()
    by_kind = {note.kind: note for note in notes if isinstance(note, Note)}
    for kind in KINDS:
        note = by_kind.get(f"{_FILLED}{kind}")
        if note is not None:
            counts.add_many(kind, note.n_files, (BadFile(url, kind, "") for url in note.urls))
    return _report(counts, of_source)


def _report(counts: FileCounts, of_source: dict[str, Any]) -> FileReport:
    return FileReport(
        n_files=of_source.get("n_files", 0),
        n_excluded=of_source.get("n_excluded", 0),
        kinds=counts.kinds(),
    )
