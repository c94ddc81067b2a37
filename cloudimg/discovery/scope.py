"""What to list for a pattern: names that begin with its stem, or the stem's folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from cloudimg.errors import ArgumentError, NotFoundError
from cloudimg.pattern import Pattern
from cloudimg.storage import Entry, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What to list for a pattern."""

    folder: str
    """Key of the folder that holds the last part of the stem."""
    depth: int | None
    """Number of levels of folders to list; None for any depth."""
    begins_with: str
    """Pattern text with which all listed names begin."""
    is_whole_folder: bool
    """Whether that is the whole folder."""

    @property
    def below(self) -> str:
        """What is not listed below the folder, as text in parentheses."""
        if self.depth is None:
            return ""
        return " (without subfolders)" if self.depth == 1 else f" (to a depth of {self.depth})"

    def reaches(self, key: str) -> bool:
        """Whether an object lies in the folders to list; listings of S3 and the like have all."""
        return self.depth is None or key.count("/") <= self.folder.count("/") + self.depth

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
        )


def list_scope(
    store: Store,
    pattern: Pattern,
    scope: Scope,
    progress: Callable[[str, int], object] | None,
    end_checks: list[Future[None]] | None,
) -> Iterator[list[Entry]]:
    """Yield the listing of a scope in batches, with keys as pattern texts.

    Parameters
    ----------
    store : Store
    pattern : Pattern
        The pattern of the scope.
    scope : Scope
    progress : callable, optional
        Called with the kind of item counted and the count so far.
    end_checks : list of Future, optional
        See `Store.list_objects`.

    Raises
    ------
    StorageError
    """
    location = store.location
    beginning = location.key_of(scope.begins_with)
    if pattern.split(scope.begins_with) is not None:
        # A listing that starts after a name omits an object of exactly that name.
        with contextlib.suppress(NotFoundError):
            yield [store.info(beginning)._replace(key=scope.begins_with)]
    n_listed = 0
    for batch in store.list_objects(scope.folder, beginning, scope.depth, end_checks=end_checks):
        n_listed += len(batch)
        if progress is not None:
            progress("names listed", n_listed)
        yield [
            entry._replace(key=location.pattern_text(entry.key))
            for entry in batch
            if entry.key != beginning and scope.reaches(entry.key)
        ]
