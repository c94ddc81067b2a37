"""`FileReport`: which files of an image cannot be used, by kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from cloudimg.errors import CloudimgError

KINDS = (
    "missing",
    "empty",
    "truncated",
    "not-an-image",
    "corrupt",
    "unsupported",
    "other-axes",
    "other-shape",
    "other-dtype",
    "mismatch",
)
"""Kinds of files that cannot be used, in the order of a report:

================  ================================================================================
``missing``       the file does not exist
``empty``         the file has 0 bytes
``truncated``     the file ends too early
``not-an-image``  the file is not a TIFF or an image of another known format
``corrupt``       its content is damaged, or contradicts itself
``unsupported``   cloudimg cannot decode its compression, or another feature of its format
``other-axes``    its axes differ from those of the first file
``other-shape``   its shape differs
``other-dtype``   its data type differs
``mismatch``      it differs in another way from what is expected of it
================  ================================================================================
"""
OTHER_THAN_FIRST = ("other-axes", "other-shape", "other-dtype", "mismatch")
"""Kinds of files that differ from the first one, and may be good in themselves."""
N_EXAMPLES = 5
"""Number of files of each kind in the table and among the examples of a report."""
MOST_LISTED = 100_000
"""Number of files of each kind that a report lists; further ones are only counted."""
_TEXT_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file that is missing or bad, whose pixels are the fill value."""

    url: str
    """URL without credentials; labels by axis of a missing file whose name is not known."""
    kind: str
    """One of `KINDS`."""
    text: str
    """What is wrong with it, without the URL."""

    @classmethod
    def of(cls, url: str, kind: str, message: str) -> Self:
        """Return a bad file, given the message of its error."""
        name = "" if message.startswith(url) else "the file"
        if url:  # "no such file: URL" is "no such file"
            message = message.replace(f": {url}", "", 1)
        text = " ".join(message.replace(url, name, 1).split())
        if len(text) > _TEXT_CHARACTERS:
            text = f"{text[: _TEXT_CHARACTERS - 3]}..."
        return cls(url, kind, text)

    def __str__(self) -> str:
        text = f": {self.text}" if self.text else ""
        return f"{self.url} ({self.kind}){text}"

    def to_json(self) -> dict[str, str]:
        """The file as a JSON object, without its kind."""
        return {"url": self.url, "text": self.text}


@dataclass(frozen=True, slots=True)
class FilesOfKind:
    """The files of one kind."""

    kind: str
    """One of `KINDS`."""
    n_files: int
    """Number of files."""
    files: tuple[BadFile, ...]
    """The files; of very many, the first hundred thousand."""

    @property
    def examples(self) -> tuple[BadFile, ...]:
        """The first few."""
        return self.files[:N_EXAMPLES]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """Which files of an image cannot be used, by kind. False if all can.

    ``str()`` of it is a table with a few files of each kind, `table` one with all. The kinds are
    ``missing``, ``empty``, ``truncated``, ``not-an-image``, ``corrupt``, ``unsupported``,
    ``other-axes``, ``other-shape``, ``other-dtype`` and ``mismatch``.
    """

    n_files: int
    """Number of files that the image should have, with those that are missing."""
    kinds: tuple[FilesOfKind, ...] = ()
    """Files that are missing or bad, by kind; kinds without files are left out."""
    n_excluded: int = 0
    """Number of listed files that ``exclude=`` left out."""
    is_complete: bool = True
    """Whether all files were looked at; otherwise there may be more bad ones."""

    @property
    def total(self) -> int:
        """Number of files that are missing or bad."""
        return sum(each.n_files for each in self.kinds)

    def count(self, kind: str) -> int:
        """Number of files of a kind."""
        return next((each.n_files for each in self.kinds if each.kind == kind), 0)

    def __bool__(self) -> bool:
        return self.total > 0

    @property
    def summary(self) -> str:
        """The numbers as one line."""
        counts = ", ".join(f"{each.n_files} {each.kind}" for each in self.kinds) or "none"
        found = "" if self.is_complete else ", as far as they were read"
        excluded = f"; {self.n_excluded} excluded" if self.n_excluded else ""
        files = f"{self.total} of {self.n_files} files {'is' if self.total == 1 else 'are'}"
        return f"{files} missing or bad{found}: {counts}{excluded}"

    def __str__(self) -> str:
        return self.table(N_EXAMPLES)

    def table(self, most: int | None = None) -> str:
        """The report as text, with a line for each file.

        Parameters
        ----------
        most : int, optional
            Number of files of each kind to name; all by default.
        """
        width = max((len(each.kind) for each in self.kinds), default=0)
        digits = max((len(str(each.n_files)) for each in self.kinds), default=0)
        lines = [self.summary]
        for each in self.kinds:
            start = f"  {each.kind:<{width}}  {each.n_files:>{digits}}  "
            shown = each.files[:most]
            for file in shown:
                text = f": {file.text}" if file.text else ""
                lines.append(f"{start}{file.url}{text}")
                start = " " * len(start)
            if each.n_files > len(shown):
                lines.append(f"{start}and {each.n_files - len(shown)} more")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {
            "n_files": self.n_files,
            "total": self.total,
            "is_complete": self.is_complete,
            "n_excluded": self.n_excluded,
            "kinds": [
                {
                    "kind": each.kind,
                    "n_files": each.n_files,
                    "examples": [file.to_json() for file in each.examples],
                    "files": [file.to_json() for file in each.files],
                }
                for each in self.kinds
            ],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Restore a report from `to_json`."""
        kinds = tuple(
            FilesOfKind(
                each["kind"],
                each["n_files"],
                tuple(
                    BadFile(file["url"], each["kind"], file["text"])
                    for file in each.get("files", each["examples"])
                ),
            )
            for each in stored["kinds"]
        )
        return cls(
            n_files=stored["n_files"],
            kinds=kinds,
            n_excluded=stored["n_excluded"],
            is_complete=stored["is_complete"],
        )


class FileCounts:
    """Counts and lists bad files by kind, at most `MOST_LISTED` of each kind."""

    def __init__(self) -> None:
        self._n: dict[str, int] = {}
        self._files: dict[str, list[BadFile]] = {}

    def add(self, file: BadFile) -> None:
        """Count a file, which must not be counted twice."""
        self.add_many(file.kind, 1, (file,))

    def add_error(self, error: CloudimgError) -> None:
        """Count the file that an error is about."""
        self.add(BadFile.of(error.url or "", error.bad_file or "corrupt", error.message))

    def add_many(self, kind: str, n_files: int, files: Iterable[BadFile]) -> None:
        """Count several files of a kind, of which not all need be given."""
        if n_files:
            self._n[kind] = self._n.get(kind, 0) + n_files
            known = self._files.setdefault(kind, [])
            known.extend(islice(files, MOST_LISTED - len(known)))

    def kinds(self) -> tuple[FilesOfKind, ...]:
        """The files by kind, as a report has them."""
        return tuple(
            FilesOfKind(kind, self._n[kind], tuple(self._files[kind]))
            for kind in KINDS
            if kind in self._n
        )
