"""What lies in a folder: its names, and the patterns that they suggest."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cloudimg.errors import NoMatchError, PatternError
from cloudimg.pattern import compile_pattern, propose
from cloudimg.storage import Location, Store, redact, split_url

MAX_NAMES = 100_000
"""Names of a folder that are looked at: enough to see its patterns, and a hundred requests."""
_IMAGE_NAME = re.compile(
    r"(?i)(?:.*/)?[^/.][^/]*\.(?:tiff?|btf|tf[28]|svs|lsm|stk|ndpi|scn|bif|qptiff|flex|gel)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL names, as far as the URL alone decides it."""

    location: Location
    key: str | None
    """None for a pattern."""
    is_folder: bool
    """Whether it can only be a folder."""

    @property
    def may_be_page(self) -> bool:
        """Whether a file that is not an image may be a web server's page of links of a folder."""
        is_web = self.location.protocol in ("http", "https")
        return is_web and "." not in (self.key or "").rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """What the names in a folder suggest."""

    url: str = field(repr=False)
    n_objects: int
    """Names that were looked at."""
    is_truncated: bool
    """Whether there are more."""
    n_images: int
    """How many of the names are names of images."""
    proposals: tuple[tuple[str, int], ...] = field(repr=False)
    """Patterns to open and how many files each covers, most first."""


def parse_target(url: str) -> Target:
    """Decide from a URL alone whether it names a pattern, or may name a folder.

    Raises
    ------
    ArgumentError
    """
    location, key = split_url(url)
    if location.protocol == "file" and Path(key).is_dir():
        return Target(location, key, True)
    try:
        pattern = compile_pattern(location.pattern_text(key))
    except PatternError:
        return Target(location, None, False)  # opening it reports what is wrong with it
    if not pattern.is_literal:
        return Target(location, None, False)
    key = location.key_of(pattern.stem)
    return Target(location, key, key.endswith("/") or key == location.root)


def list_folder(
    store: Store, url: str, key: str | None, progress: Callable[[str, int], object] | None
) -> Folder:
    """List a folder and propose patterns for the names in it.

    Parameters
    ----------
    store : Store
    url : str
        As the user gave it.
    key : str, optional
        Of the folder; None for the root of the store.
    progress : callable, optional
        Called with what is counted and the count so far.

    Raises
    ------
    NoMatchError
        If the folder is empty.
    StorageError
    """
    location = store.location
    folder = (key or "").rstrip("/")
    # A web server's links lead anywhere, also upwards: only the page itself is read.
    depth = 1 if location.protocol in ("http", "https") else None
    texts: list[str] = []
    for batch in store.list_objects(folder, folder + "/", depth):
        texts += [location.pattern_text(e.key) for e in batch if not e.key.endswith("/")]
        if progress is not None:
            progress("names looked at", len(texts))
        if len(texts) > MAX_NAMES:
            break
    n_objects = min(len(texts), MAX_NAMES)
    images = [text for text in texts[:n_objects] if _IMAGE_NAME.fullmatch(text)]
    proposals = tuple(
        (f"{location.before}{pattern}{location.after}", covered)
        for pattern, covered in propose(images or texts[:n_objects])
    )
    if not proposals:
        raise NoMatchError(f"{redact(url)} is an empty folder", url=redact(url))
    return Folder(
        url=url,
        n_objects=n_objects,
        is_truncated=len(texts) > MAX_NAMES,
        n_images=len(images),
        proposals=proposals,
    )
