"""Read the index files of an image, whatever they are like: what cannot be used becomes a note."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from cloudimg.discovery.listing import Listing
from cloudimg.errors import (
    AccessDeniedError,
    CloudimgError,
    LimitError,
    NotFoundError,
)
from cloudimg.errors.notes import Note
from cloudimg.opening.index_files.content import Content
from cloudimg.opening.index_files.find import Candidate, find_candidates
from cloudimg.opening.index_files.harmony import read_harmony
from cloudimg.opening.index_files.index_facts import UNUSED, IndexFacts
from cloudimg.opening.index_files.metaxpress import read_htd
from cloudimg.opening.index_files.micromanager import read_metadata
from cloudimg.opening.index_files.objects import IndexObject
from cloudimg.opening.index_files.places import Places
from cloudimg.opening.index_files.yokogawa import read_mlf
from cloudimg.opening.options import OpenArguments
from cloudimg.storage import Store, engine, map_ahead

_AHEAD = 4
"""First pieces that are fetched at once."""


@dataclass(frozen=True, slots=True)
class _Unusable:
    """Why an index file is not used."""

    url: str
    reason: str


def start_index_files(
    store: Store, listing: Listing, arguments: OpenArguments
) -> Future[IndexFacts | None] | None:
    """Start to read the index files of a grid; None where there cannot be any.

    They are looked for only where files were listed: where the listing has shown one, and where the
    names are those of an instrument that writes one and nobody has looked.

    Parameters
    ----------
    store : Store
    listing : Listing
    arguments : OpenArguments
    """
    grid = listing.grid
    if listing.index_names is None or not grid.fields or not arguments.index_files:
        return None
    return engine().fetch(partial(_read, store, listing, arguments))


def _read(store: Store, listing: Listing, arguments: OpenArguments) -> IndexFacts | None:
    grid, location, names = listing.grid, store.location, listing.index_names
    assert names is not None
    assert names.pattern is not None
    try:
        candidates = find_candidates(grid, location, names, arguments.purpose.index_names)
    except LimitError as exc:
        return IndexFacts.unused(_notes([_Unusable("", exc.message)]))
    if not candidates:
        return None
    places = Places(
        names.pattern, grid, location, arguments.exclude, is_part=bool(arguments.select)
    )
    content, urls = Content(places), []
    problems: list[_Unusable] = []
    found = map_ahead(
        lambda each: engine().fetch_window(partial(_find, store, each)), candidates, n_ahead=_AHEAD
    )
    for candidate, each in zip(candidates, found, strict=True):
        if isinstance(each, IndexObject):
            part = Content(places)
            problem = _use(part, each, candidate, store)
            if problem is None:
                content.add_content(part)
                urls.append(each.url)
                continue
            each = problem
        if each is not None:
            problems.append(each)
    if not urls and not problems:
        return None
    return IndexFacts.of(content, urls, _notes(problems))


def _find(store: Store, candidate: Candidate) -> IndexObject | _Unusable | None:
    """The index file; None if there is none, and nobody has said so."""
    for key in candidate.keys:
        url = store.location.display(key)
        try:
            return IndexObject(store, key)
        except (NotFoundError, AccessDeniedError) as exc:
            # Stores that do not list say 403 for what does not exist.
            if candidate.is_listed and key == candidate.keys[0]:
                return _Unusable(url, exc.message)
        except CloudimgError as exc:
            return _Unusable(url, exc.message)
    return None


def _use(
    content: Content, found: IndexObject, candidate: Candidate, store: Store
) -> _Unusable | None:
    """Read an index file; returns why it is not used, None if it is."""
    name = found.key.rpartition("/")[2].lower()
    try:
        if name.endswith(".mlf"):
            read_mlf(content, found, store)
        elif name.endswith(".htd"):
            read_htd(content, found, candidate.rows, candidate.channel)
        elif name.endswith(".xml"):
            read_harmony(content, found)
        else:
            read_metadata(content, found)
    except CloudimgError as exc:
        return _Unusable(found.url, exc.message)
    except (ValueError, RecursionError) as exc:
        return _Unusable(found.url, str(exc))
    return None


def _notes(problems: Sequence[_Unusable]) -> list[Note]:
    if not problems:
        return []
    text = (
        f"this index file of the instrument is not used: {problems[0].reason}; index_files=False"
        " leaves index files unread"
    )
    urls = [each.url for each in problems if each.url]
    return [Note(text, kind=UNUSED, n_files=len(problems), urls=urls)]
