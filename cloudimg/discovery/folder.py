"""List a folder, and find the layout of its files or propose patterns for them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cloudimg.discovery.exclusion import Exclusion
from cloudimg.discovery.index_names import INDEX_NAME, MOST_NAMES, IndexNames
from cloudimg.discovery.proposals import Proposal, propose_patterns
from cloudimg.discovery.unmatched import IMAGE_NAME
from cloudimg.errors import NoMatchError, NotFoundError, PatternError
from cloudimg.pattern import compile_pattern
from cloudimg.storage import Location, Store, is_aside, redact, split_url

MAX_NAMES = 100_000
"""Most names that are listed: enough to recognize the patterns, and at most a hundred requests."""
_NAMES_WITHOUT_IMAGE = 10_000
"""Names without an image after which a folder is looked at for being a Zarr."""
_ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray")
"""Names of the metadata of Zarr groups and arrays, of version 3 and 2."""


@dataclass(frozen=True, slots=True)
class Target:
    """Location, key and kind of a URL, as far as the URL alone determines them."""

    location: Location
    key: str | None
    """Key of the object or folder; None for a pattern."""
    is_folder: bool
    """Whether the URL can only name a folder."""

    @property
    def may_be_page(self) -> bool:
        """Whether an object that is not an image may be a web server's index page of a folder."""
        is_web = self.location.protocol in ("http", "https")
        return is_web and "." not in (self.key or "").rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A listed folder and the patterns proposed for it."""

    url: str = field(repr=False)
    """URL as the user gave it."""
    n_objects: int
    """Number of names listed."""
    is_truncated: bool
    """Whether the folder has more names."""
    n_images: int
    """Number of names with the extension of an image format."""
    proposals: tuple[Proposal, ...] = field(repr=False)
    """Patterns to open, known layouts first, then most files first; none in a Zarr."""
    zarrs: tuple[str, ...] = ()
    """Zarr groups and arrays in it, by their names below it; empty for the folder itself."""
    index_names: IndexNames | None = None
    """Index files in it; None where not all of it was listed."""


def parse_target(url: str) -> Target:
    """Decide from a URL alone whether it names a pattern, or may name a folder.

    Raises
    ------
    ArgumentError
    """
    location, key = split_url(url)
    if key.endswith("/") or (location.protocol == "file" and Path(key).is_dir()):
        return Target(location, key, True)
    try:
        pattern = compile_pattern(location.pattern_text(key))
    except PatternError:
        return Target(location, None, False)  # opening it reports the syntax error
    if not pattern.is_literal:
        return Target(location, None, False)
    key = location.key_of(pattern.stem)
    return Target(location, key, key.endswith("/") or key == location.root)


def is_folder(store: Store, key: str) -> bool:
    """Whether a name without an object is that of a folder.

    On a disk an empty folder is one, too; elsewhere objects must lie below the name.
    """
    location = store.location
    if location.protocol == "file" and not location.before and not location.after:
        return Path(key).is_dir()
    if location.protocol in ("http", "https"):
        return False  # a web server answers with a page
    folder = key.rstrip("/")
    # It holds files, or else folders with files.
    return any(any(store.list_objects(folder, folder + "/", depth)) for depth in (1, None))


def list_folder(
    store: Store,
    url: str,
    key: str | None,
    progress: Callable[[str, int], object] | None,
    exclude: str | Sequence[str] | None = None,
) -> Folder:
    """List a folder, and find the layout of its files or propose patterns for them.

    Parameters
    ----------
    store : Store
    url : str
        URL as the user gave it.
    key : str, optional
        Key of the folder; None for the root of the store.
    progress : callable, optional
        Called with the kind of item counted and the count so far.
    exclude : str or sequence of str, optional
        Globs of files for which no pattern is needed; see `cloudimg.open`.

    Raises
    ------
    NoMatchError
        If the folder is empty.
    StorageError
    """
    location = store.location
    folder = (key or "").rstrip("/")
    names, is_zarr = _list_names(store, folder, progress)
    if not names:
        raise NoMatchError(f"{redact(url)} is an empty folder", url=redact(url))
    prefix = _common_prefix(names, location.pattern_text(f"{folder}/"))
    listed = [name.removeprefix(prefix) for name in names[:MAX_NAMES]]
    is_truncated = len(names) > MAX_NAMES
    is_partial = is_truncated or is_zarr
    zarrs = ("",) if is_zarr else _zarrs_in(listed)
    seen = [name for name in listed if not _is_below(name, zarrs)]
    files = _not_excluded(seen, prefix, Exclusion(exclude))
    images = [name for name in files if IMAGE_NAME.fullmatch(name)]
    if not files and not zarrs:
        raise _nothing_left(url, listed[0])
    chosen = images if images or zarrs else files
    proposals = propose_patterns(chosen, prefix, is_truncated=is_truncated)
    return Folder(
        url=url,
        n_objects=len(listed),
        is_truncated=is_partial,
        n_images=len(images),
        proposals=tuple(_in_chain(each, location) for each in proposals),
        zarrs=zarrs,
        index_names=_index_names(names, prefix, is_partial=is_partial),
    )


def _index_names(names: Sequence[str], prefix: str, *, is_partial: bool) -> IndexNames | None:
    if is_partial:
        return None
    found = [name for name in names if INDEX_NAME.fullmatch(name)]
    return IndexNames(prefix, frozenset(found[:MOST_NAMES]))


def _not_excluded(names: Sequence[str], prefix: str, exclusion: Exclusion) -> list[str]:
    return [name for name in names if not exclusion.excludes(f"{prefix}{name}")]


def _nothing_left(url: str, name: str) -> NoMatchError:
    return NoMatchError(
        f"{redact(url)} has only hidden files, and files that exclude= leaves out, such as {name}",
        url=redact(url),
    )


def _in_chain(proposal: Proposal, location: Location) -> Proposal:
    """The proposal with a pattern that has the other parts of a chained URL."""
    return replace(proposal, pattern=f"{location.before}{proposal.pattern}{location.after}")


def _common_prefix(names: Sequence[str], prefix: str) -> str:
    """The prefix if all names have it; the links of a web page may lead elsewhere."""
    return prefix if all(name.startswith(prefix) for name in names) else ""


def _list_names(
    store: Store, folder: str, progress: Callable[[str, int], object] | None
) -> tuple[list[str], bool]:
    """Names in a folder, one more than `MAX_NAMES` at least if there are more.

    The listing of a Zarr without images ends early, and then the second value is True.
    """
    location = store.location
    # Links of a web page can lead anywhere, also upwards: only the page itself is read.
    depth = 1 if location.protocol in ("http", "https") else None
    names: list[str] = []
    may_be_zarr = depth is None
    for batch in store.list_objects(folder, folder + "/", depth):
        names += [location.pattern_text(e.key) for e in batch if not e.key.endswith("/")]
        if progress is not None:
            progress("names listed", len(names))
        if may_be_zarr and len(names) > _NAMES_WITHOUT_IMAGE:
            may_be_zarr = False
            if not any(map(IMAGE_NAME.fullmatch, names)) and _is_zarr(store, folder):
                return names, True
        if len(names) > MAX_NAMES:
            break
    return names, False


def _is_zarr(store: Store, folder: str) -> bool:
    """Whether a folder is a Zarr group or array."""
    for mark in _ZARR_MARKS:
        with contextlib.suppress(NotFoundError):
            store.info(f"{folder}/{mark}")
            return True
    return False


def _zarrs_in(names: Sequence[str]) -> tuple[str, ...]:
    """The outermost folders that are Zarr groups or arrays."""
    found: set[str] = set()
    for name in names:
        folder, _, last = name.rpartition("/")
        named = re.match(r"(?:[^/]+/)*?[^/]*\.zarr(?=/)", name)
        if named:
            found.add(named[0])
        elif last in _ZARR_MARKS:
            found.add(folder)
    return tuple(sorted(each for each in found if not _is_below(each, found - {each})))


def _is_below(name: str, folders: Collection[str]) -> bool:
    """Whether a name lies in some folders, or in a hidden one."""
    parents = name.split("/")[:-1]
    return (
        any(map(is_aside, parents))
        or "" in folders
        or any("/".join(parents[: i + 1]) in folders for i in range(len(parents)))
    )
