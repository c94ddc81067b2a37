"""Metadata documents of Zarr groups and arrays: which there are, and reading them.

A document stands for its image as a file stands for others: it has a name, a size and a version.
Documents are read up to a limit, and whatever is in them is checked before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cloudimg.errors import AccessDeniedError, CorruptFileError, LimitError, NotFoundError
from cloudimg.errors.checked_json import damage
from cloudimg.storage import Blob, Store, engine, map_ahead

NODE_3, ATTRIBUTES_2, ARRAY_2, GROUP_2 = "zarr.json", ".zattrs", ".zarray", ".zgroup"
DOCUMENTS = (NODE_3, ATTRIBUTES_2, ARRAY_2, GROUP_2)
"""Names of the documents, of version 3 and of version 2."""
_MOST_BYTES = 64 * 2**20
_READ_AHEAD = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A group or an array."""

    folder: str
    """Key of its folder."""
    zarr_format: int
    """2 or 3."""
    attributes: Mapping[str, Any]
    array: Mapping[str, Any] | None
    """Metadata of the array; None of a group."""
    key: str
    """Key of the document that stands for it: that with its attributes, if it has any."""
    etag: str | None = None
    size_bytes: int | None = None
    below: Mapping[str, Any] = field(default_factory=dict)
    """Documents of the nodes below it by relative name, where they are consolidated."""

    @property
    def ome(self) -> Mapping[str, Any]:
        """Its attributes of OME-Zarr."""
        ome = self.attributes.get("ome") if self.zarr_format == 3 else self.attributes
        return ome if isinstance(ome, Mapping) else {}


def is_document(key: str) -> bool:
    """Whether a key is that of a metadata document of Zarr."""
    return key.rpartition("/")[2] in DOCUMENTS


def folder_of(key: str) -> str:
    """Key of the folder that a document describes; any other key is that of a folder itself."""
    return key.rpartition("/")[0] if is_document(key) else key.rstrip("/")


def read_node(store: Store, folder: str) -> Node | None:
    """Read the documents of a folder; None if it is neither a group nor an array.

    Raises
    ------
    CorruptFileError, LimitError, StorageError
    """
    denied: AccessDeniedError | None = None
    try:
        blob = _get(store, f"{folder}/{NODE_3}")
    except AccessDeniedError as exc:
        blob, denied = None, exc
    if blob is not None:
        return node_of(store, f"{folder}/{NODE_3}", blob)
    found = dict(_documents(store, folder, (ARRAY_2, ATTRIBUTES_2, GROUP_2)))
    if denied is not None and not found:
        raise denied
    return _node_2(store, folder, found)


def read_nodes(store: Store, parent: Node, paths: Sequence[str]) -> list[Node | None]:
    """Read the nodes at some paths below a group, of the same version; None where there is none.

    Raises
    ------
    CorruptFileError, LimitError, StorageError
    """
    known = [_consolidated(parent, path) for path in paths]

    def read(path: str) -> Node | None:
        folder = f"{parent.folder}/{path}"
        if parent.zarr_format == 3:
            blob = _get_here(store, f"{folder}/{NODE_3}")
            return None if blob is None else node_of(store, f"{folder}/{NODE_3}", blob)
        found = {}
        for name in (ARRAY_2, ATTRIBUTES_2):
            blob = _get_here(store, f"{folder}/{name}")
            if blob is not None:
                found[name] = blob
        return _node_2(store, folder, found)

    unknown = [path for path, node in zip(paths, known, strict=True) if node is None]
    fetched = iter(
        list(
            map_ahead(
                lambda path: engine().fetch_window(partial(read, path)),
                unknown,
                n_ahead=_READ_AHEAD,
            )
        )
    )
    return [next(fetched) if node is None else node for node in known]


def node_of(store: Store, key: str, blob: Blob) -> Node:
    """The node that a document stands for, given its content; others beside it may be read.

    Raises
    ------
    CorruptFileError, LimitError, StorageError
    """
    folder, _, name = key.rpartition("/")
    if name != NODE_3:
        others = [each for each in (ARRAY_2, ATTRIBUTES_2) if each != name]
        found = {name: blob, **dict(_documents(store, folder, others))}
        node = _node_2(store, folder, found)
        assert node is not None
        return node
    url = store.location.display(key)
    content = _parsed(url, blob)
    kind = content.get("node_type")
    if content.get("zarr_format") != 3 or kind not in ("group", "array"):
        raise CorruptFileError(
            f"{url} is not metadata of Zarr 3: zarr_format is {_short(content.get('zarr_format'))}"
            f" and node_type {_short(kind)}",
            url=url,
        )
    consolidated = _object(content.get("consolidated_metadata"))
    return Node(
        folder=folder,
        zarr_format=3,
        attributes=_object(content.get("attributes")),
        array=content if kind == "array" else None,
        key=key,
        etag=blob.etag,
        size_bytes=blob.size_bytes,
        below=_object(consolidated.get("metadata")),
    )


def _node_2(store: Store, folder: str, found: Mapping[str, Blob]) -> Node | None:
    name = next((each for each in (ARRAY_2, ATTRIBUTES_2, GROUP_2) if each in found), None)
    if name is None:
        return None
    parsed = {
        each: _parsed(store.location.display(f"{folder}/{each}"), blob)
        for each, blob in found.items()
    }
    return Node(
        folder=folder,
        zarr_format=2,
        attributes=parsed.get(ATTRIBUTES_2, {}),
        array=parsed.get(ARRAY_2),
        key=f"{folder}/{name}",
        etag=found[name].etag,
        size_bytes=found[name].size_bytes,
    )


def _consolidated(parent: Node, path: str) -> Node | None:
    """A node as the consolidated metadata of a group have it."""
    content = parent.below.get(path)
    if not isinstance(content, Mapping) or content.get("node_type") not in ("group", "array"):
        return None
    folder = f"{parent.folder}/{path}"
    return Node(
        folder=folder,
        zarr_format=3,
        attributes=_object(content.get("attributes")),
        array=content if content["node_type"] == "array" else None,
        key=f"{folder}/{NODE_3}",
    )


def _documents(store: Store, folder: str, names: Sequence[str]) -> Iterator[tuple[str, Blob]]:
    """Read documents of a folder at the same time; those that do not exist are left out."""
    blobs = map_ahead(
        lambda name: engine().fetch_window(partial(_get_here, store, f"{folder}/{name}")),
        names,
        n_ahead=len(names),
    )
    for name, blob in zip(names, blobs, strict=True):
        if blob is not None:
            yield name, blob


def _get(store: Store, key: str) -> Blob | None:
    # In a thread of the engine, so that Ctrl-C interrupts this one.
    return engine().fetch_window(partial(_get_here, store, key, is_certain=True)).result()


def _get_here(store: Store, key: str, *, is_certain: bool = False) -> Blob | None:
    """Read a document; None if it does not exist, as far as the store says so.

    S3 denies access to objects that do not exist to those who may not list the bucket.
    """
    try:
        return store.get(key, 0, _MOST_BYTES)
    except NotFoundError:
        return None
    except AccessDeniedError:
        if is_certain:
            raise
        return None


def _parsed(url: str, blob: Blob) -> dict[str, Any]:
    if (blob.size_bytes or 0) > len(blob.data):
        raise LimitError(
            f"{url} has {blob.size_bytes} bytes, and metadata of Zarr at most {_MOST_BYTES}",
            url=url,
        )
    try:
        content = json.loads(bytes(blob.data))
    except (ValueError, RecursionError) as exc:
        raise CorruptFileError(f"{url} is not JSON: {damage(exc)}", url=url) from exc
    if not isinstance(content, dict):
        raise CorruptFileError(f"{url} is not a JSON object, as metadata of Zarr are", url=url)
    return content


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _short(value: Any) -> str:
    return repr(value)[:40]
