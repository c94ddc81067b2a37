"""The list of the files that are retired, which is stored before anything is done to them.

Below ``.cloudimg/retired`` in the copy: parts with up to ten thousand files each, then the head,
which says what is done with them. Without its head a list does not exist. Whoever continues or goes
back reads which files it is about; how far it came, the stores themselves say.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cloudimg.errors import CorruptFileError
from cloudimg.errors.checked_json import checked_int, checked_list, checked_object, checked_text
from cloudimg.migration.journal.clearing import delete_all
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.layout import RETIRED, RETIRED_LIST
from cloudimg.migration.journal.sealing import checksum, create_sealed, get_sealed
from cloudimg.migration.retire.action import Action, Original, Tag, action_from_json

_FORMAT = 1
_ID = re.compile("[0-9a-f]{32}")
_FILES_IN_PART = 10_000
_FIELDS = ("format", "id", "plan", "action", "proof", "n_files", "n_bytes", "n_parts", "parts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The head of a list of files that are retired."""

    id: str
    """Random name of the list."""
    plan: str
    """`State.id` of the copy."""
    action: Action
    proof: str
    """How it was found that the copy has the pixels of the files."""
    n_files: int
    n_bytes: int
    n_parts: int
    parts: str
    """Digest of the checksums of all parts."""

    def to_json(self) -> dict[str, Any]:
        """The head as JSON."""
        return {
            "format": _FORMAT,
            "id": self.id,
            "plan": self.plan,
            "action": self.action.to_json(),
            "proof": self.proof,
            "n_files": self.n_files,
            "n_bytes": self.n_bytes,
            "n_parts": self.n_parts,
            "parts": self.parts,
        }


def read_manifest(copy: Destination, plan: str) -> Manifest | None:
    """Read the head of the list; None if the originals are not retired.

    Raises
    ------
    CorruptFileError
        If it is damaged, or of another copy.
    """
    content = get_sealed(copy, RETIRED_LIST)
    if content is None:
        return None
    url = copy.display(RETIRED_LIST)
    try:
        checked_object(content, "the manifest", required=_FIELDS)
        if checked_int(content["format"], "format") != _FORMAT:
            raise ValueError(f"format is {content['format']}, and this version reads {_FORMAT}")
        if content["plan"] != plan:
            raise ValueError("it is of another copy")
        return Manifest(
            id=checked_text(content["id"], "id", pattern=_ID),
            plan=plan,
            action=action_from_json(content["action"]),
            proof=checked_text(content["proof"], "proof"),
            n_files=checked_int(content["n_files"], "n_files"),
            n_bytes=checked_int(content["n_bytes"], "n_bytes"),
            n_parts=checked_int(content["n_parts"], "n_parts"),
            parts=checked_text(content["parts"], "parts"),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        problem = str(exc)
    raise CorruptFileError(f"{url} is damaged: {problem}", url=url)


def originals_of(copy: Destination, manifest: Manifest) -> Iterator[Original]:
    """The files of a list, each of which was checked.

    Raises
    ------
    CorruptFileError
    """
    for number in range(manifest.n_parts):
        yield from _read_part(copy, manifest, number)[0]


def check_parts(copy: Destination, manifest: Manifest) -> None:
    """Check that all parts are there, before anything is done by them.

    Raises
    ------
    CorruptFileError
    """
    digest = hashlib.sha256()
    n_files = 0
    for number in range(manifest.n_parts):
        originals, sha256 = _read_part(copy, manifest, number)
        digest.update(sha256.encode())
        n_files += len(originals)
    if (digest.hexdigest(), n_files) != (manifest.parts, manifest.n_files):
        url = copy.display(RETIRED_LIST)
        raise CorruptFileError(
            f"{url} is damaged: its parts are not those it was made with", url=url
        )


def write_manifest(
    copy: Destination, plan: str, action: Action, proof: str, originals: Iterable[Original]
) -> Manifest:
    """Store a list of files: its parts, then its head.

    Parameters
    ----------
    copy : Destination
        Guarded by a lease.
    """
    remove_manifest(copy)  # parts without a head, of a process that was killed
    name, left = uuid.uuid4().hex, iter(originals)
    digest = hashlib.sha256()
    n_files = n_bytes = n_parts = 0
    while batch := list(islice(left, _FILES_IN_PART)):
        files = [original.to_json() for original in batch]
        part = {"id": name, "number": n_parts, "files": files}
        create_sealed(copy, _part_key(name, n_parts), part, fences=True)
        digest.update(checksum(part).encode())
        n_parts += 1
        n_files += len(batch)
        n_bytes += sum(original.size_bytes for original in batch)
    manifest = Manifest(
        id=name,
        plan=plan,
        action=action,
        proof=proof,
        n_files=n_files,
        n_bytes=n_bytes,
        n_parts=n_parts,
        parts=digest.hexdigest(),
    )
    create_sealed(copy, RETIRED_LIST, manifest.to_json(), fences=True)
    return manifest


def remove_manifest(copy: Destination) -> None:
    """Delete the list, its head first."""
    copy.delete([RETIRED_LIST])
    delete_all(copy, [entry.key for entry in copy.list(RETIRED)])


def _part_key(name: str, number: int) -> str:
    return f"{RETIRED}/{name}/{number:06d}.json"


def _read_part(copy: Destination, manifest: Manifest, number: int) -> tuple[list[Original], str]:
    """The files of a part, and its checksum."""
    key = _part_key(manifest.id, number)
    url = copy.display(key)
    content = get_sealed(copy, key)
    if content is None:
        raise CorruptFileError(f"{url}, a part of the list of retired files, is missing", url=url)
    try:
        checked_object(content, "the part", required=("id", "number", "files"))
        if (content["id"], content["number"]) != (manifest.id, number):
            raise ValueError("it is another part")
        files = checked_list(content["files"], "files", most=_FILES_IN_PART)
        originals = list(map(Original.from_json, files))
        if not isinstance(manifest.action, Tag):
            for original in originals:
                manifest.action.target_of(original.key)
        return originals, checksum(content)
    except ValueError as exc:
        problem = str(exc)
    raise CorruptFileError(f"{url} is damaged: {problem}", url=url)
