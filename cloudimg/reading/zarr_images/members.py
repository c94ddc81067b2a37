"""The images of a collection: of a plate, a well, or a group that lists several images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloudimg.errors import CorruptFileError, LimitError
from cloudimg.errors.checked_json import damage
from cloudimg.reading.zarr_images.documents import ATTRIBUTES_2, NODE_3, Node, read_node, read_nodes
from cloudimg.reading.zarr_images.parse import own_attributes
from cloudimg.storage import Store

WELL, ROW, COLUMN, FIELD, ACQUISITION = "well", "row", "col", "field", "acquisition"
_DAMAGED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)
_MOST_MEMBERS = 2**20

Labels = Mapping[str, int | float | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An image of a collection."""

    key: str
    """Key of the document of its group."""
    labels: Labels
    """Label by axis of the collection; empty if the collection has no axes."""
    path: str
    """Path below the collection."""
    etag: str | None = None
    size_bytes: int | None = None
    is_known_missing: bool = False
    """Whether it is listed, and is known not to exist."""


def is_plate(root: Node) -> bool:
    """Whether a group is that of a plate, or of a well of one."""
    return isinstance(root.ome.get("plate"), Mapping) or isinstance(root.ome.get("well"), Mapping)


def members_of(store: Store, root: Node) -> list[Member] | None:
    """The images of a collection; None of a group that is an image itself, or has none.

    Raises
    ------
    CorruptFileError, LimitError, StorageError
    """
    try:
        return _members_of(store, root)
    except _DAMAGED as exc:
        url = store.location.display(root.folder)
        raise CorruptFileError(
            f"the metadata of the images of {url} are damaged: {damage(exc)}", url=url
        ) from exc


def _members_of(store: Store, root: Node) -> list[Member] | None:
    ome = root.ome
    has_own = "provenance" in own_attributes(root)
    if has_own and ("plate" in ome or "bioformats2raw.layout" in ome):
        return _of_copy(store, root, _series(store, root))
    missing: list[tuple[str, Labels]] = []
    if isinstance(ome.get("plate"), Mapping):
        found, missing = _of_plate(store, root, ome["plate"])
    elif isinstance(ome.get("well"), Mapping):
        found = list(_of_well(ome["well"], has_several=False))
    elif "bioformats2raw.layout" in ome:
        found = [(path, {}) for path in _series(store, root)]
    else:
        return None
    if len(found) > _MOST_MEMBERS:
        url = store.location.display(root.folder)
        raise LimitError(f"{url} lists {len(found)} images, more than {_MOST_MEMBERS}", url=url)
    name = NODE_3 if root.zarr_format == 3 else ATTRIBUTES_2
    return [
        Member(
            key=f"{root.folder}/{path}/{name}",
            labels=labels,
            path=path,
            is_known_missing=i >= len(found),
        )
        for i, (path, labels) in enumerate([*found, *missing])
    ]


def collection_name(root: Node, members: Sequence[Member]) -> str:
    """Name of a collection: that of its plate, or of its images without their labels."""
    plate, images = root.ome.get("plate"), root.ome.get("multiscales")
    named = plate if isinstance(plate, Mapping) else None
    if named is None and isinstance(images, list) and images and isinstance(images[0], Mapping):
        named = images[0]
    name = named.get("name") if named is not None else None
    labels = ", ".join(f"{axis}={label}" for axis, label in members[0].labels.items())
    if isinstance(name, str) and name:
        return name.removesuffix(labels).strip()
    return root.folder.rpartition("/")[2].removesuffix(".zarr").removesuffix(".ome")


def _of_copy(store: Store, root: Node, paths: Sequence[str]) -> list[Member]:
    """The images of a copy of cloudimg's, each of which has its labels."""
    nodes = read_nodes(store, root, paths)
    found = [
        (path, node, own_attributes(node).get("labels") or {})
        for path, node in zip(paths, nodes, strict=True)
        if node is not None
    ]
    # Images that do not exist are holes, unless they had labels that no other image has.
    axes = found[0][2] if found else {}
    places = math.prod(len({str(labels[axis]) for _, _, labels in found}) for axis in axes)
    if found and places < len(paths):
        url = store.location.display(root.folder)
        lost = next(path for path, node in zip(paths, nodes, strict=True) if node is None)
        raise CorruptFileError(
            f"{url} lists {len(paths)} images, of which {len(paths) - len(found)} do not exist, as"
            f" {lost}: their places are not known. Open the others by their own URLs",
            url=url,
        )
    order = _slowest_first([labels for _, _, labels in found])
    return [
        Member(
            key=node.key,
            labels={axis: _label(labels[axis]) for axis in order},
            path=path,
            etag=node.etag,
            size_bytes=node.size_bytes,
        )
        for path, node, labels in found
    ]


def _slowest_first(labels: Sequence[Mapping[str, Any]]) -> list[str]:
    """Axes of a collection whose images are listed in C order: the slowest one first."""
    n = len(labels)

    def first_other(axis: str) -> int:
        first = labels[0][axis]
        return next((i for i, each in enumerate(labels) if each[axis] != first), -1)

    return sorted(labels[0] if n else (), key=first_other, reverse=True)


def _label(value: Any) -> int | float | str:
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        raise ValueError("the label of an image is neither a text nor a number")
    return value


def _of_plate(
    store: Store, root: Node, plate: Mapping[str, Any]
) -> tuple[list[tuple[str, Labels]], list[tuple[str, Labels]]]:
    """Path and labels of each field of a plate, and of a field of each well that does not exist.

    The axes are row and column if the plate has a well at each of them, or else wells.
    """
    paths = [_checked(each["path"]) for each in plate["wells"]]
    names = [path.split("/") for path in paths]
    if any(len(each) != 2 for each in names):
        raise ValueError("the path of a well is not that of a row and a column")
    rows, columns = ({each[i] for each in names} for i in (0, 1))
    is_full = len(rows) * len(columns) == len(set(paths))
    has_several = len(plate.get("acquisitions") or ()) > 1
    found: list[tuple[str, Labels]] = []
    absent: list[tuple[str, Labels]] = []
    for path, (row, column), node in zip(paths, names, read_nodes(store, root, paths), strict=True):
        of_well: Labels = {ROW: row, COLUMN: column} if is_full else {WELL: f"{row}{column}"}
        if node is None:
            absent.append((path, of_well))
            continue
        for field, labels in _of_well(node.ome["well"], has_several=has_several):
            found.append((f"{path}/{field}", {**of_well, **labels}))
    # The wells that exist say which fields a well has.
    any_labels = found[0][1] if found else {}
    return found, [(f"{path}/0", {**any_labels, **of_well}) for path, of_well in absent]


def _of_well(well: Mapping[str, Any], *, has_several: bool) -> Iterator[tuple[str, Labels]]:
    """Path and labels of each field of a well, counted in each of several acquisitions."""
    numbers: Counter[Any] = Counter()
    for image in well["images"]:
        acquisition = int(image["acquisition"]) if has_several else None
        labels = {FIELD: numbers[acquisition]}
        numbers[acquisition] += 1
        if acquisition is not None:
            labels[ACQUISITION] = acquisition
        yield _checked(image["path"]), labels


def _checked(path: Any) -> str:
    """A path below the collection: never one that leads out of it."""
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") for part in parts):
        raise ValueError("the path of an image leads out of its collection")
    return str(path)


def _series(store: Store, root: Node) -> list[str]:
    """Paths of the images of a group with the layout of bioformats2raw."""
    listing = read_node(store, f"{root.folder}/OME")
    listed = None if listing is None else listing.ome.get("series")
    if isinstance(listed, list) and listed:
        return [_checked(each) for each in listed]
    # Without a list, images are counted from 0.
    paths: list[str] = []
    while len(paths) < _MOST_MEMBERS:
        more = [str(len(paths) + i) for i in range(16)]
        nodes = read_nodes(store, root, more)
        there = [
            path
            for path, node in zip(more, nodes, strict=True)
            if node is not None and node.array is None
        ]
        paths += there
        if len(there) < len(more):
            break
    return paths
