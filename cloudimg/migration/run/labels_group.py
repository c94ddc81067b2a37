"""The group "labels" of an image: the list of its labels, to which several processes may add names.

Not every store replaces an object on the condition that it is the one that was read. So who adds a
name has the lease of the image, and waits for others that do the same.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

from cloudimg.errors import CorruptFileError, LeaseError, NotFoundError
from cloudimg.migration.journal.acquiring import acquire
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.lease import Lease
from cloudimg.migration.metadata.edits import parsed
from cloudimg.settings.operating_system import elapsed_s

GROUP = "labels"
"""Path of the group in the image."""
_DOCUMENTS = {3: f"{GROUP}/zarr.json", 2: f"{GROUP}/.zattrs"}
_NEW: dict[int, dict[str, Any]] = {
    3: {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": "0.5"}}},
    2: {},
}
_GROUP_2 = b'{\n  "zarr_format": 2\n}\n'
_MOST_ATTEMPTS = 4
_LONGEST_WAIT_S = 120.0
_PAUSE_S = 0.5


def add_to_group(
    image: Destination, name: str, zarr_format: int, *, notify: Callable[[str], None]
) -> None:
    """Add a name to the list of labels of an image, unless it has it.

    Parameters
    ----------
    image : Destination
    name : str
    zarr_format : int
    notify : callable
        Called with one line of text about what is being waited for.

    Raises
    ------
    CorruptFileError
        If the group has other metadata.
    LeaseError
        If another process writes to the image for long.
    StorageError
    """
    if _new_list(image, name, zarr_format)[0] is None:
        return
    with _lease_of(image, notify) as lease:
        image = lease.guarded()
        if zarr_format == 2:
            image.create(f"{GROUP}/.zgroup", _GROUP_2)
        key = _DOCUMENTS[zarr_format]
        for _ in range(_MOST_ATTEMPTS):
            new, version, exists = _new_list(image, name, zarr_format)
            if new is None:
                return
            if exists:
                image.replace(key, new, version)
            else:
                image.create(key, new)
    url = image.display(key)
    raise LeaseError(
        f"{url} was replaced {_MOST_ATTEMPTS} times while {name!r} was to be added to it: another"
        " program writes to it. Stop it, then run the same migration again",
        url=url,
    )


def _lease_of(image: Destination, notify: Callable[[str], None]) -> Lease:
    """The lease of an image; waits for others that add names."""
    deadline = elapsed_s() + _LONGEST_WAIT_S
    while True:
        try:
            return acquire(image, notify=notify)
        except LeaseError:
            if elapsed_s() > deadline:
                raise
        time.sleep(random.uniform(_PAUSE_S / 10, _PAUSE_S))


def _new_list(
    image: Destination, name: str, zarr_format: int
) -> tuple[bytes | None, str | None, bool]:
    """The list with one more name, None if it has it; its version, and whether there is a list."""
    key = _DOCUMENTS[zarr_format]
    try:
        data, version = image.get_with_etag(key)
    except NotFoundError:
        return _as_bytes(_with_name(_NEW[zarr_format], name, zarr_format)), None, False
    content = _checked(image, key, data, zarr_format)
    is_listed = name in _list_of(content, zarr_format)
    return None if is_listed else _as_bytes(_with_name(content, name, zarr_format)), version, True


def _ome(content: dict[str, Any], zarr_format: int) -> dict[str, Any]:
    """The attributes of OME-Zarr in the document of a group."""
    if zarr_format == 2:
        return content
    ome: dict[str, Any] = content["attributes"].get("ome", {})
    return ome


def _list_of(content: dict[str, Any], zarr_format: int) -> list[Any]:
    listed: list[Any] = _ome(content, zarr_format).get("labels", [])
    return listed


def _checked(image: Destination, key: str, data: bytes, zarr_format: int) -> dict[str, Any]:
    """The document of a group of labels.

    Raises
    ------
    CorruptFileError
        If it is something else.
    """
    content = parsed(data)
    try:
        if content is not None and isinstance(_list_of(content, zarr_format), list):
            return content
    except (KeyError, AttributeError):
        pass
    url = image.display(key)
    raise CorruptFileError(
        f"{url} is not the metadata of a group of labels, and was left as it is: the labels are"
        " complete, but not listed. Mend or delete it, then run the same migration again",
        url=url,
    )


def _with_name(content: dict[str, Any], name: str, zarr_format: int) -> dict[str, Any]:
    """A document with one more name; everything else in it stays."""
    ome = {**_ome(content, zarr_format), "labels": [*_list_of(content, zarr_format), name]}
    if zarr_format == 2:
        return ome
    return {**content, "attributes": {**content["attributes"], "ome": ome}}


def _as_bytes(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
