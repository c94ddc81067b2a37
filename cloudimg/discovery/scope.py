"""What to list for a pattern: names that begin with its stem, or the stem's folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from cloudimg.errors import ArgumentError, NotFoundError
from cloudimg.pattern import Pattern, Step, steps_of
from cloudimg.storage import (
    UNREADABLE,
    Delimiter,
    Entries,
    Entry,
    Location,
    Outline,
    Store,
    is_aside,
)

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

    def kept(self, batch: Sequence[Entry]) -> Entries:
        """Count a part of a listing; what may match the pattern, or is reported beside it."""
        entries = Entries.of(batch)
        depth = self.scope.depth
        n_parts = None if depth is None else self.scope.folder.count("/") + 1 + depth
        if UNREADABLE in entries.etags or entries.are_near(n_parts):
            return entries.kept(map(self._is_kept, entries))
        return entries

    def _is_kept(self, entry: Entry) -> bool:
        if entry.etag == UNREADABLE:
            self.n_unreadable += 1
            return False
        if self.scope.reaches(entry.key):
            return True
        self.n_names += self.scope.with_below
        return self.scope.with_below and not self.scope.is_aside(entry.key)

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


def outline_of(scope: Scope, pattern: Pattern, location: Location) -> Outline:
    """What is known of the keys of a pattern before they are listed."""

    def delimiter(step: Step) -> Delimiter:
        regex = step.regex
        if regex is None or not step.is_narrow:
            return Delimiter(step.literal)

        def accepts(key: str) -> bool:
            text = location.pattern_text(key)
            # A name may look like a pattern.
            return regex.fullmatch(text) is not None or pattern.text.startswith(text)

        return Delimiter(step.literal, accepts)

    return Outline(
        stem=location.key_of(pattern.stem),
        delimiters=tuple(map(delimiter, steps_of(pattern))),
        is_narrow=not scope.is_whole_folder,
    )


def list_scope(
    store: Store,
    pattern: Pattern,
    below: Below,
    progress: Callable[[str, int], object] | None,
    end_checks: list[Future[None]] | None,
    outline: Outline | None,
) -> Iterator[Entries]:
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
    outline : Outline, optional
        None for a store that does not list in order.

    Raises
    ------
    UnorderedListingError
        List again without an outline.
    StorageError
    """
    location, scope = store.location, below.scope
    beginning_of_text = location.pattern_text("")
    beginning = location.key_of(scope.begins_with)
    if pattern.split(scope.begins_with) is not None:
        # A listing that starts after a name omits an object of exactly that name.
        with contextlib.suppress(NotFoundError):
            yield Entries.of([store.info(beginning)._replace(key=scope.begins_with)])
    n_listed = 0
    for batch in store.list_objects(
        scope.folder,
        beginning,
        scope.depth,
        end_checks=end_checks,
        n_below=MOST_BELOW if scope.with_below else 0,
        with_dangling=True,
        outline=outline,
    ):
        n_listed += len(batch)
        if progress is not None:
            progress("names listed", n_listed)
        kept = below.kept(batch)
        if beginning in kept.keys:
            kept = kept.kept(key != beginning for key in kept.keys)
        if kept:
            yield replace(kept, keys=[beginning_of_text + key for key in kept.keys])
