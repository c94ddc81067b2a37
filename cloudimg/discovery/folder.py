"""List a folder and propose patterns for the names in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cloudimg.discovery.unmatched import IMAGE_NAME
from cloudimg.errors import NoMatchError, PatternError
from cloudimg.pattern import compile_pattern, propose
from cloudimg.storage import Location, Store, redact, split_url

MAX_NAMES = 100_000
"""Most names that are listed: enough to recognize the patterns, and at most a hundred requests."""


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
    proposals: tuple[tuple[str, int], ...] = field(repr=False)
    """Patterns to open and the number of files that each covers, most first."""


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
    return any(batch for batch in store.list_objects(folder, folder + "/", 1))


def list_folder(
    store: Store, url: str, key: str | None, progress: Callable[[str, int], object] | None
) -> Folder:
    """List a folder and propose patterns for the names in it.

    Parameters
    ----------
    store : Store
    url : str
        URL as the user gave it.
    key : str, optional
        Key of the folder; None for the root of the store.
    progress : callable, optional
        Called with the kind of item counted and the count so far.

    Raises
    ------
    NoMatchError
        If the folder is empty.
    StorageError
    """
    location = store.location
    folder = (key or "").rstrip("/")
    # Links of a web page can lead anywhere, also upwards: only the page itself is read.
    depth = 1 if location.protocol in ("http", "https") else None
    names: list[str] = []
    for batch in store.list_objects(folder, folder + "/", depth):
        names += [location.pattern_text(e.key) for e in batch if not e.key.endswith("/")]
        if progress is not None:
            progress("names listed", len(names))
        if len(names) > MAX_NAMES:
            break
    listed = names[:MAX_NAMES]
    images = [name for name in listed if IMAGE_NAME.fullmatch(name)]
    proposals = tuple(
        (f"{location.before}{pattern}{location.after}", n_covered)
        for pattern, n_covered in propose(images or listed)
    )
    if not proposals:
        raise NoMatchError(f"{redact(url)} is an empty folder", url=redact(url))
    return Folder(
        url=url,
        n_objects=len(listed),
        is_truncated=len(names) > MAX_NAMES,
        n_images=len(images),
        proposals=proposals,
    )
