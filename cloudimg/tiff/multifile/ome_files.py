"""The files that an OME-XML names: which of them is the one that holds it, and all their paths."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from cloudimg.errors import UnsupportedFormatError
from cloudimg.tiff.multifile.planes import checked_path
from cloudimg.tiff.ome_xml import COLUMNS, OWN_FILE, OmeDocument

_FILE = COLUMNS.index("file")
_UUID_ELEMENT = re.compile(
    r"<(?:\w+:)?UUID\b(?P<attrs>[^>]*?)(?:/>|>(?P<uuid>[^<]*)</(?:\w+:)?UUID\s*>)"
)
"""UUID of a TiffData."""
_FILE_NAME = re.compile(r"""\bFileName\s*=\s*("[^"]*"|'[^']*')""")
_ROOT_UUID = re.compile(r"""<(?:\w+:)?OME\b[^>]*?\sUUID\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_HEAD_CHARACTERS = 10_000
"""The start tag of the root is within them."""


def root_uuid(xml: str) -> str:
    """UUID by which an OME-XML identifies the file that holds it; empty if it has none."""
    match = _ROOT_UUID.search(xml, 0, _HEAD_CHARACTERS)
    return (match[1] or match[2] or "").strip() if match else ""


def without_own_name(xml: str) -> str | None:
    """The OME-XML without the name of a file, if it names only one; None if it names others too.

    The only file that is named is the one that holds the OME-XML, whatever it is called now.
    """
    known: str | None = None
    for match in _UUID_ELEMENT.finditer(xml):
        name = _FILE_NAME.search(match["attrs"])
        key = name[1][1:-1] if name else f"uuid {match['uuid']}"
        if known not in (None, key):
            return None
        known = key
    return None if known is None else _UUID_ELEMENT.sub("", xml)


def file_numbers(document: OmeDocument, own_name: str) -> npt.NDArray[np.int32]:
    """File numbers by file number, where entries for the same file are merged into one.

    The file that holds the XML becomes `OWN_FILE`. It is recognized by its name rather than by the
    UUID of the root: Micro-Manager writes the same OME-XML, with the UUID of the first file, into
    all files of a dataset. The UUID only identifies a file that was renamed.
    """
    names = document.files
    root_uuid = document.root.get("UUID", "").strip()
    numbers = np.arange(len(names), dtype=np.int32)
    if own_name:
        own = [own_name] if own_name in names else _former_names(document, root_uuid, own_name)
        numbers[[names.index(name) for name in own]] = OWN_FILE
    _merge_nameless(numbers, document, root_uuid)
    if own_name and len(names) == 2 and OWN_FILE not in document.rows[:, _FILE]:
        numbers[:] = OWN_FILE  # the only file that is named must be this one, which was renamed
    return numbers


def own_uuid(document: OmeDocument, numbers: npt.NDArray[np.int32]) -> str:
    """UUID that the OME-XML gives to the file by which it is held.

    Parameters
    ----------
    document : OmeDocument
    numbers : ndarray
        See `file_numbers`.
    """
    given = (document.uuids[i] for i in np.flatnonzero(numbers == OWN_FILE) if i != OWN_FILE)
    return next(filter(None, given), document.root.get("UUID", "").strip())


def _merge_nameless(numbers: npt.NDArray[np.int32], document: OmeDocument, root_uuid: str) -> None:
    """Give files without a name the number of the file with the same UUID."""
    both = list(enumerate(zip(document.files, document.uuids, strict=True)))
    by_uuid = {uuid: numbers[i] for i, (name, uuid) in both if name and uuid}
    if root_uuid:
        by_uuid.setdefault(root_uuid, np.int32(OWN_FILE))
    for i, (name, uuid) in both:
        if not name and i != OWN_FILE:
            numbers[i] = by_uuid.get(uuid, i)


def _former_names(document: OmeDocument, root_uuid: str, own_name: str) -> list[str]:
    """The name that the OME-XML gives to the file that holds it, if it was renamed since."""
    names = [name for name in document.files if name.lower() == own_name.lower()]
    if not names and root_uuid:
        both = zip(document.files, document.uuids, strict=True)
        names = [name for name, uuid in both if name and uuid == root_uuid]
    return names if len(names) == 1 else []  # a UUID that several files share identifies none


def member_path(name: str, source: str) -> str:
    """Path of another file of the dataset, relative to the folder of `source`."""
    if not name:
        raise UnsupportedFormatError(
            f"the OME-XML of {source} does not name a file, or gives only its UUID; finding it"
            " would take reading every file of the folder"
        )
    return checked_path(name)
