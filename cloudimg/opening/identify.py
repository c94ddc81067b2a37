"""Which file of an OME-TIFF set is which, where names and UUIDs disagree.

OME-XML gives the name and the UUID of each file, and each file has its own UUID in its OME-XML
(OME-TIFF specification, "Multi-file OME-TIFF"). Names are believed as long as nothing contradicts
them, because finding each file by its UUID takes reading the headers of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from cloudimg.errors.notes import Remark
from cloudimg.opening.dataset_description import TIFF_ENDS, read_headers
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.identities import Identities
from cloudimg.reading.reader import Reader
from cloudimg.storage import Entry
from cloudimg.tiff.multifile import PlaneTable

_MAX_LISTED = 10_000
_MAX_CANDIDATES = 256
"""Files beside a set among which one that was renamed is looked for."""
_SHOWN = 3

Entries = Sequence[Entry | None]


def has_identities(planes: PlaneTable) -> bool:
    """Whether each file of a dataset has a UUID of its own."""
    return 0 < len(planes.files) == len(set(filter(None, planes.uuids)))


def is_another(
    opened: OpenFile | None, index: tuple[int, ...], identities: Identities | None
) -> bool:
    """Whether a file whose header was read has the UUID of another file of the dataset."""
    if opened is None or identities is None:
        return False
    return identities.belongs_elsewhere(index, opened.parsed.uuid)


def find_by_uuid(
    reader: Reader,
    planes: PlaneTable,
    entries: Entries,
    opened: tuple[str, str],
    *,
    all_files: bool,
) -> tuple[Entries, tuple[Remark, ...]]:
    """Find the file that has each UUID, or the one of its name where no UUID tells more.

    Parameters
    ----------
    reader : Reader
        Reads members of the dataset.
    planes : PlaneTable
    entries : sequence of Entry or None
        The files by their names; None where no file has the name.
    opened : tuple of str
        Key and UUID of the file that was opened.
    all_files : bool
        Whether to read the headers of all files, even if nothing contradicts their names.

    Returns
    -------
    entries : sequence of Entry or None
    remarks : tuple of Remark
        One if files whose headers were read have the same UUID.
    """
    if not has_identities(planes):
        return entries, ()
    by_key = {entry.key: entry for entry in entries if entry is not None}
    seen = {} if all_files else _at_odds(reader, planes, entries, opened)
    claims: dict[str, str] = {}
    if all_files or (seen and not _are_shared(planes.uuids, seen)):
        claims = _claims(reader, list(by_key))
    kept = _kept(planes.uuids, entries, claims)
    wanted = set(planes.uuids) - kept.keys() - set(claims.values())
    if wanted:
        beside = _beside(reader, by_key, opened[0])
        by_key |= beside
        found = _claims(reader, list(beside))
        claims |= {key: uuid for key, uuid in found.items() if uuid in wanted}
    if _are_shared(planes.uuids, claims):
        return entries, on_shared_uuids(planes, claims)
    by_uuid = {uuid: by_key[key] for key, uuid in claims.items()}
    resolved = [by_uuid.get(uuid, kept.get(uuid)) for uuid in planes.uuids]
    return resolved, on_shared_uuids(planes, seen)


def _kept(uuids: Sequence[str], entries: Entries, claims: Mapping[str, str]) -> dict[str, Entry]:
    """Files by UUID that keep their names: none of them has the UUID of another one."""
    others = set(uuids)
    return {
        uuid: entry
        for uuid, entry in zip(uuids, entries, strict=True)
        if entry is not None and claims.get(entry.key, uuid) not in others - {uuid}
    }


def _are_shared(uuids: Sequence[str], claims: Mapping[str, str]) -> bool:
    """Whether several files have one UUID, which then identifies none."""
    counts = Counter(claims.values())
    return any(counts[uuid] > 1 for uuid in uuids)


def on_shared_uuids(planes: PlaneTable, claims: Mapping[str, str]) -> tuple[Remark, ...]:
    """A remark about files that have the same UUID of a dataset, if there are any.

    Micro-Manager writes the UUID of the first file into all of them. A copy of one file that was
    stored under the name of another one looks the same.

    Parameters
    ----------
    planes : PlaneTable
    claims : mapping
        UUIDs in the headers of files, by key.
    """
    counts = Counter(claims.values())
    uuid = next((each for each in planes.uuids if counts[each] > 1), None)
    if not has_identities(planes) or uuid is None:
        return ()
    names = sorted(key.rpartition("/")[2] for key, each in claims.items() if each == uuid)
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    text = (
        f"{len(names)} files of the dataset have the same UUID, {uuid}: {shown}. Which planes each"
        " of them holds is known from its name alone"
    )
    return (Remark("duplicate-uuid", text),)


def _at_odds(
    reader: Reader, planes: PlaneTable, entries: Entries, opened: tuple[str, str]
) -> dict[str, str]:
    """UUIDs by key of the file that was opened and of the one whose UUID it has.

    Empty if its UUID does not contradict its name.
    """
    key, uuid = opened
    by_name = {entry.key: number for number, entry in enumerate(entries) if entry is not None}
    if key not in by_name or uuid not in planes.uuids:
        return {}
    number = planes.uuids.index(uuid)
    if number == by_name[key]:
        return {}
    other = entries[number]
    return {key: uuid} | ({} if other is None else _claims(reader, [other.key]))


def _claims(reader: Reader, keys: Sequence[str]) -> dict[str, str]:
    """UUIDs in the headers of files, by key; empty where a file has none or is not an image."""
    headers = read_headers(reader, keys)
    return {
        key: opened.parsed.uuid if isinstance(opened, OpenFile) else ""
        for key, opened in zip(keys, headers, strict=True)
    }


def _beside(reader: Reader, known: Mapping[str, Entry], key: str) -> dict[str, Entry]:
    """TIFFs in the folder of a dataset that are not among its files; none if there are too many."""
    found: dict[str, Entry] = {}
    listed = _listed(reader, key.rpartition("/")[0])
    for entry in islice(listed, _MAX_LISTED):
        if entry.key not in known and entry.key.lower().endswith(TIFF_ENDS):
            found[entry.key] = entry
    is_whole = next(listed, None) is None
    return found if is_whole and len(found) <= _MAX_CANDIDATES else {}


def _listed(reader: Reader, folder: str) -> Iterator[Entry]:
    if reader.store.location.protocol in ("http", "https"):
        return  # a web server need not list its files
    for batch in reader.store.list_objects(folder, "", 1):
        yield from batch
