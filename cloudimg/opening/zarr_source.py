"""Open a Zarr: an image of OME-Zarr, a plain array, or a collection whose images form a grid.

The document that describes an image stands for it as a file does: all that is done with files, from
selections to the table that a plan stores, is done with documents.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from cloudimg.discovery.build_grid import listed_grid, short_etag
from cloudimg.discovery.folder import parse_target
from cloudimg.discovery.grid import FileGrid, Keys
from cloudimg.discovery.listing import Listing, Tabled
from cloudimg.discovery.names import NameColumn, name_digests
from cloudimg.discovery.places import Places, sorted_labels
from cloudimg.discovery.unmatched import IMAGE_NAME
from cloudimg.errors import (
    ArgumentError,
    DuplicateIndexError,
    FolderError,
    NotFoundError,
    StorageError,
)
from cloudimg.opening.options import OpenArguments, URLs
from cloudimg.pattern import Label
from cloudimg.reading.zarr_images.documents import Node, folder_of, is_document, read_node
from cloudimg.reading.zarr_images.members import Member, collection_name, is_plate, members_of
from cloudimg.reading.zarr_images.parse import own_attributes
from cloudimg.storage import Entry, Location, Store, engine, map_ahead, redact, unsigned

_ENDING = ".zarr"
_JOURNAL = ".cloudimg"
"""Folder of the journal of a copy, see `cloudimg.migration.journal.layout`."""
_PLAN, _END_MARK = "plan.json", "done.json"
_SHOWN = 10
_LOOKS_AHEAD = 256
_OPTIONS = {
    "imread": None, "rgb": False, "palette": "index", "exclude": None, "pattern": None,
    "listing": "full",
}  # fmt: skip
"""Arguments that are for files, and their defaults."""


def zarr_source(
    urls: URLs, arguments: OpenArguments, *, is_certain: bool = False
) -> tuple[URLs, OpenArguments] | None:
    """A Zarr as a table of documents, and the arguments to open it; None of anything else.

    Parameters
    ----------
    urls : str, path, sequence of them, or table
    arguments : OpenArguments
    is_certain : bool
        Whether to look whatever the URL is; by default only where it says that it may be a Zarr.

    Raises
    ------
    ArgumentError, FormatError, GridError, StorageError
    """
    if not isinstance(urls, str | os.PathLike):
        return None
    url = os.fspath(urls)
    target = parse_target(url)
    key = target.key
    if key is None or not (is_certain or _may_be_zarr(target.location, key, target.is_folder)):
        return None
    store = Store(target.location, arguments.storage_options)
    root = read_node(store, folder_of(key))
    if root is None:
        _refuse_unfinished(store, folder_of(key))
        _refuse_inside(store, folder_of(key), is_folder=target.is_folder)
        return None
    _refuse_options(arguments, url)
    return _of_root(store, root, url, arguments)


def _may_be_zarr(location: Location, key: str, is_folder: bool) -> bool:
    *folders, last = key.rstrip("/").split("/")
    if is_document(key):
        return True
    if IMAGE_NAME.fullmatch(last) and not is_folder:
        return False
    on_disk = location.protocol == "file" and is_folder
    return on_disk or any(part.lower().endswith(_ENDING) for part in (*folders, last))


def _refuse_options(arguments: OpenArguments, url: str) -> None:
    for name, default in _OPTIONS.items():
        if getattr(arguments, name) != default:
            raise ArgumentError(
                f"{redact(url)} is a Zarr, and {name}= is for files: leave it out", url=redact(url)
            )


def _refuse_unfinished(store: Store, folder: str) -> None:
    """Refuse a copy whose group was not written yet."""
    try:
        engine().fetch(partial(store.info, f"{folder}/{_JOURNAL}/{_PLAN}")).result()
    except NotFoundError:
        return
    url = store.location.display(folder)
    raise FolderError(
        f"{url} is a copy that is not finished: run the same migration again, which continues it,"
        " and then open it",
        url=url,
    )


def _refuse_inside(store: Store, key: str, *, is_folder: bool) -> None:
    """Refuse what lies inside a Zarr and is no part of it that can be opened."""
    parts = key.split("/")
    ends = [i for i, part in enumerate(parts[:-1], 1) if part.lower().endswith(_ENDING)]
    if not ends:
        return
    above = "/".join(parts[: ends[-1]])
    root = read_node(store, above)
    if root is None:
        _refuse_unfinished(store, above)
    elif not is_folder:
        url, of = store.location.display(key), store.location.display(above)
        images = root.ome.get("multiscales")
        image = images[0] if isinstance(images, list) and images else None
        listed = image.get("datasets") if isinstance(image, Mapping) else None
        levels = listed if isinstance(listed, list) else []
        paths = [str(each.get("path"))[:80] for each in levels if isinstance(each, Mapping)]
        arrays = f", whose arrays are {', '.join(paths[:_SHOWN])}" if paths else ""
        raise NotFoundError(
            f"{url} is neither an image nor an array of the Zarr {of}{arrays}", url=url
        )


def _of_root(
    store: Store, root: Node, url: str, arguments: OpenArguments
) -> tuple[URLs, OpenArguments]:
    members = members_of(store, root) if root.array is None else None
    versions = _end_mark(store, root)
    if members is None:
        _refuse_no_image(store, root)
        grid = _of_one(store.location, root.key, root.etag, root.size_bytes)
        return _tabled(store, grid, versions, url, arguments), arguments
    if all(member.is_known_missing for member in members):
        shown = redact(url)
        raise FolderError(f"{shown} lists no images that exist", url=shown)
    # A plan records the number 0 where none was chosen, and an image that was by its own URL.
    is_again = arguments.purpose.files is not None
    is_one_wanted = arguments.series is not None and not (is_again or is_plate(root))
    if is_one_wanted or not members[0].labels:
        member = _chosen(members, arguments, url)
        grid = _of_one(store.location, member.key, member.etag, member.size_bytes)
        # It is recorded by its own URL: the number is not that of an image in its group.
        url = store.location.url(folder_of(member.key))
        return _tabled(store, grid, versions, url, arguments), replace(arguments, series=None)
    found = [member for member in members if not member.is_known_missing]
    if arguments.missing == "fill" or arguments.validate == "all":
        found = _existing(store, found) or found
    grid = _grid(store.location, found, members)
    tabled = _tabled(store, grid, versions, url, arguments)
    return replace(tabled, name=collection_name(root, members)), arguments


def _existing(store: Store, members: Sequence[Member]) -> list[Member]:
    """The images that exist, with their versions: metadata may list others, too."""

    def look(member: Member) -> Member | None:
        if member.size_bytes is not None:
            return member
        try:
            entry = store.info(member.key)
        except NotFoundError:
            return None
        return replace(member, etag=entry.etag, size_bytes=entry.size_bytes)

    found = map_ahead(
        lambda member: engine().fetch(partial(look, member)), members, n_ahead=_LOOKS_AHEAD
    )
    return [member for member in found if member is not None]


def _refuse_no_image(store: Store, root: Node) -> None:
    """Refuse a group that has no image, with the arrays in it."""
    if root.array is not None or root.ome.get("multiscales"):
        return
    url = store.location.display(root.folder)
    below: list[str] = []
    if store.location.protocol not in ("http", "https"):  # a page of a web server is no listing
        folder = f"{root.folder}/"
        for batch in store.list_objects(root.folder, folder, 2):
            parts = [entry.key.removeprefix(folder).split("/") for entry in batch]
            below += [p[0] for p in parts if len(p) == 2 and is_document(p[1]) and p[0] != _JOURNAL]
    names = list(dict.fromkeys(below))
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    what = f"what it has is {shown}" if names else "its attributes list none"
    raise FolderError(
        f"{url} is a Zarr group, and no image of OME-Zarr: {what}. Open an image or an array by"
        " its own URL",
        url=url,
    )


def _chosen(members: Sequence[Member], arguments: OpenArguments, url: str) -> Member:
    """The image that `series` names among several."""
    number = arguments.series
    if number is None and len(members) == 1:
        return members[0]
    if number is not None and number < len(members):
        return members[number]
    shown = redact(url)
    names = ", ".join(f"{i}: {each.path}" for i, each in enumerate(members[:_SHOWN]))
    more = ", ..." if len(members) > _SHOWN else ""
    raise ArgumentError(
        f"{shown} has {len(members)} images: pass series=N to choose one ({names}{more})", url=shown
    )


def _end_mark(store: Store, root: Node) -> str:
    """The version of the end mark of a copy, which changes when its pixels do; empty of others."""
    if not own_attributes(root):
        return ""
    try:
        key = f"{root.folder}/{_JOURNAL}/{_END_MARK}"
        entry = engine().fetch(partial(store.info, key)).result()
    except StorageError:  # a collection's image has none, and a copy may be without its journal
        return ""
    return f"{entry.etag} {entry.size_bytes}"


def _of_one(location: Location, key: str, etag: str | None, size_bytes: int | None) -> FileGrid:
    entry = Entry(location.pattern_text(key), size_bytes, etag)
    return listed_grid([entry], axis=None, name_of=unsigned)


def _grid(location: Location, members: Sequence[Member], listed: Sequence[Member]) -> FileGrid:
    """The images of a collection by their labels.

    Parameters
    ----------
    location : Location
    members : sequence of Member
        Those that exist, as far as it is known.
    listed : sequence of Member
        All, whose labels are those of the axes.

    Raises
    ------
    DuplicateIndexError, GridError
    """
    fields = tuple(listed[0].labels)
    codes: list[list[int]] = []
    labels: list[tuple[Label, ...]] = []
    for field in fields:
        values: dict[Label, int] = {}
        for each in listed:
            values.setdefault(each.labels.get(field, ""), len(values))
        coded = [values[each.labels.get(field, "")] for each in members]
        ordered, rank = sorted_labels(values)
        labels.append(ordered)
        codes.append([int(rank[code]) for code in coded])
    places = Places.of(fields, tuple(labels), map(np.asarray, codes), len(members))
    twice = places.twice()
    if twice is not None:
        first, second = (members[i].path for i in twice)
        raise DuplicateIndexError(
            f"two images at {places.labels_of(twice[0])}: {first} and {second}; open each by its"
            " own URL"
        )
    names = NameColumn()
    texts = [location.pattern_text(each.key) for each in members]
    for text in texts:
        names.append(text)
    sizes = [-1 if each.size_bytes is None else each.size_bytes for each in members]
    etags = np.array([short_etag(each.etag) for each in members], np.uint64)
    return places.grid(
        Keys(None, (), names, places.rows),
        np.array(sizes, np.int64),
        etags if etags.any() else None,
        np.frombuffer(name_digests(texts), np.uint64),
        has_versions=bool(etags.all()),
    )


def _tabled(
    store: Store, grid: FileGrid, versions: str, url: str, arguments: OpenArguments
) -> Tabled:
    digest = hashlib.sha256(f"{grid.digest} {versions}".encode()).hexdigest()
    listing = Listing(replace(grid, digest=digest), None, is_complete=False)
    location = store.location
    text = url if location.protocol != "file" else location.url(parse_target(url).key or url)
    return Tabled(listing=listing, location=location, url=text, axes=dict(arguments.axes or {}))
