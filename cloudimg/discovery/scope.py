"""What to list for a pattern: names that begin with its stem, or the stem's folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from cloudimg.errors import ArgumentError, NotFoundError
from cloudimg.pattern import Pattern
from cloudimg.storage import UNREADABLE, Entry, Store, is_aside

MOST_BELOW = 100_000
"""Names deeper than a pattern reaches that are listed; it should not take a bucket of another
billion objects to copy a few files at its root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What to list for a pattern."""

    folder: str
    """Key of the folder that holds the last part of the stem."""
    depth: int | None
    """Number of levels of folders that the pattern reaches; None for any depth."""
    begins_with: str
    """Pattern text with which all listed names begin."""
    is_whole_folder: bool
    """Whether that is the whole folder."""
    with_below: bool
    """Whether what is deeper than `depth` is listed, too."""

    def reaches(self, key: str) -> bool:
        """Whether an object lies in the folders that the pattern reaches."""
        return self.depth is None or key.count("/") <= self.folder.count("/") + self.depth

    def is_aside(self, key: str) -> bool:
        """Whether an object lies in a folder of a Zarr array, or in a hidden one."""
        return any(map(is_aside, key[len(self.folder) + 1 :].split("/")[:-1]))

    @classmethod
    def of(cls, store: Store, pattern: Pattern, *, whole_folder: bool) -> Scope:
        """Return the scope of a pattern.

        Parameters
        ----------
        store : Store
        pattern : Pattern
        whole_folder : bool
            List the whole folder, not only names that begin with the stem.

        Raises
        ------
        ArgumentError
            If the pattern leaves the bucket or the host open.
        """
        location = store.location
        stem_key = location.key_of(pattern.stem) if "://" in pattern.stem else pattern.stem
        if location.root and not stem_key.startswith(location.root + "/"):
            raise ArgumentError(
                f"the bucket or host of a pattern must be written out, but it is {location.root!r}"
            )
        folder = stem_key.rpartition("/")[0]
        crosses = "**" in pattern.text or any(
            "/" in f.regex and "[^/]" not in f.regex for f in pattern.occurrences
        )
        # The names of a bucket begin with its own name.
        beginning = stem_key[: len(folder) + 1] if whole_folder else stem_key
        return cls(
            folder=folder,
            # Escapes make the text longer than the stem, but have no slash.
            depth=None if crosses else pattern.text.count("/") - pattern.stem.count("/") + 1,
            begins_with=location.pattern_text(beginning),
            is_whole_folder=beginning.endswith("/"),
            with_below=whole_folder and not crosses and store.lists_below,
        )


@dataclass(slots=True)
class Below:
    """What a listing has deeper than the pattern reaches."""

    scope: Scope
    n_names: int = 0
    """Number of names that were listed there."""
    n_unreadable: int = 0
    """Number of folders there that could not be listed."""

    def kept(self, batch: Iterable[Entry]) -> Iterator[Entry]:
        """Count a part of a listing; yield what may match the pattern, or is reported beside it."""
        for entry in batch:
            if entry.etag == UNREADABLE:
                self.n_unreadable += 1
            elif self.scope.reaches(entry.key):
                yield entry
            elif self.scope.with_below:
                self.n_names += 1
                if not self.scope.is_aside(entry.key):
                    yield entry

    def __str__(self) -> str:
        """What was listed there and what was not, as text in parentheses."""
        if self.scope.depth is None:
            return ""
        if not self.scope.with_below:
            depth = self.scope.depth
            return " (without subfolders)" if depth == 1 else f" (to a depth of {depth})"
        if self.n_names >= MOST_BELOW:
            return f" (with the first {self.n_names:,} names in subfolders)"
        unread = ""
        if self.n_unreadable:
            unread = f", of which {self.n_unreadable} cannot be listed"
        return f" (with subfolders{unread})"


def list_scope(
    store: Store,
    pattern: Pattern,
    below: Below,
    progress: Callable[[str, int], object] | None,
    end_checks: list[Future[None]] | None,
) -> Iterator[list[Entry]]:
    """Yield the listing of a scope in batches, with keys as pattern texts.

    Parameters
    ----------
    store : Store
    pattern : Pattern
        The pattern of the scope.
    below : Below
        Counts what is deeper than the pattern of its scope reaches.
    progress : callable, optional
        Called with the kind of item counted and the count so far.
    end_checks : list of Future, optional
        See `Store.list_objects`.

    Raises
    ------
    StorageError
    """
    location, scope = store.location, below.scope
    beginning = location.key_of(scope.begins_with)
    if pattern.split(scope.begins_with) is not None:
        # A listing that starts after a name omits an object of exactly that name.
        with contextlib.suppress(NotFoundError):
            yield [store.info(beginning)._replace(key=scope.begins_with)]
    n_listed = 0
    for batch in store.list_objects(
        scope.folder,
        beginning,
        scope.depth,
        end_checks=end_checks,
        n_below=MOST_BELOW if scope.with_below else 0,
        with_dangling=True,
    ):
        n_listed += len(batch)
        if progress is not None:
            progress("names listed", n_listed)
        yield [
            entry._replace(key=location.pattern_text(entry.key))
            for entry in below.kept(batch)
            if entry.key != beginning
        ]
