"""Find the table of planes of a multi-file dataset, starting at one of its files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cloudimg.errors import CorruptFileError, FormatError, LimitError, NotFoundError, counted
from cloudimg.errors.notes import Note, NoteSums, Remark
from cloudimg.opening.header import remarks_of
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.headers import HeaderReader
from cloudimg.reading.reader import Reader
from cloudimg.settings import settings
from cloudimg.storage import engine, map_ahead
from cloudimg.tiff import NDTIFF_INDEX, check_description, check_ome
from cloudimg.tiff.multifile import PlaneTable, has_gaps, mmstack_planes, ndtiff_planes, ome_planes

_COMPANION_ENDS = (".companion.ome", ".ome.xml", ".ome")
"""Ends of names of files that hold the OME-XML of others (OME-TIFF specification)."""
TIFF_ENDS = (".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class DatasetDescription:
    """The planes of a multi-file dataset, and the metadata that describes them."""

    planes: PlaneTable
    ome_xml: str
    """OME-XML from which the table was made, if any."""
    companion_key: str | None = None
    """Key of the companion file that has it; None if it is in a TIFF."""

    @property
    def companion(self) -> tuple[str, str] | None:
        """Key and text of the companion file, if there is one."""
        return None if self.companion_key is None else (self.companion_key, self.ome_xml)


class DatasetNotes:
    """What is noticed about the files of a dataset, some of which are read several times."""

    def __init__(self) -> None:
        self._sums = NoteSums()
        self._known: set[tuple[str, str]] = set()

    def add(self, remarks: Sequence[Remark], url: str) -> None:
        """Add what was noticed about a file, once for each kind."""
        self._sums.add([each for each in remarks if (url, each.kind) not in self._known], url)
        self._known.update((url, remark.kind) for remark in remarks)

    def notes(self) -> tuple[Note, ...]:
        """One note for each kind."""
        return self._sums.notes()


def is_companion(name: str) -> bool:
    """Whether a file has no pixels and only describes other files, judging by its name."""
    return name.lower().endswith(_COMPANION_ENDS) or name.rpartition("/")[2] == NDTIFF_INDEX


def describe_dataset(
    reader: Reader, key: str, opened: OpenFile | None, notes: DatasetNotes, *, fill: bool
) -> DatasetDescription | None:
    """Find the table of planes of the dataset that a file belongs to.

    The table is in the file itself, in another TIFF or a companion file beside it, or it is built
    from the headers of all files of a stack.

    Parameters
    ----------
    reader : Reader
    key : str
        Key of the file.
    opened : OpenFile, optional
        The open file; None for a companion file.
    notes : DatasetNotes
        What is noticed about files that are read is added to it.
    fill : bool
        Whether planes that are missing are filled, instead of taking only those that one file has.

    Returns
    -------
    DatasetDescription or None
        None if the file holds its whole image, or the file with the table is missing.

    Raises
    ------
    StorageError, FormatError
    """
    folder, _, name = key.rpartition("/")
    if opened is None:
        return _describe_by(reader, _join(folder, name), notes)
    notes.add(remarks_of(opened), opened.url)
    membership = opened.parsed.membership
    if membership is None:
        return None
    if membership.planes is not None:
        return DatasetDescription(membership.planes, membership.ome_xml)
    described_by = _join(folder, membership.described_by)
    if described_by.endswith("*"):
        prefix = described_by[:-1]
        return _describe_stack(reader, key, prefix, membership.part, notes, fill=fill)
    try:
        return _describe_by(reader, described_by, notes)
    except NotFoundError:
        return None  # only the pages of this file are left of the image


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _describe_by(reader: Reader, key: str, notes: DatasetNotes) -> DatasetDescription | None:
    """Read the table in a TIFF or a companion file."""
    if key.lower().endswith(TIFF_ENDS):
        opened = engine().fetch(partial(reader.headers.open, key)).result()
        notes.add(remarks_of(opened), opened.url)
        membership = opened.parsed.membership
        if membership is None or membership.planes is None:
            return None
        return DatasetDescription(membership.planes, membership.ome_xml)
    blob = reader.store.get(key, 0, reader.headers.limits.header_bytes)
    url = reader.store.location.display(key)
    if blob.size_bytes is not None and blob.size_bytes > len(blob.data):
        raise LimitError(
            f"{url} has {blob.size_bytes} bytes; set CLOUDIMG_MAX_HEADER_BYTES higher if you trust"
            " it",
            url=url,
        )
    try:
        return _parse_companion(bytes(blob.data), key, url, reader.headers)
    except FormatError as exc:
        if url in exc.message:
            raise
        raise type(exc)(f"{url}: {exc.message}", url=url) from exc


def _parse_companion(
    data: bytes, key: str, url: str, headers: HeaderReader
) -> DatasetDescription | None:
    if key.rpartition("/")[2] == NDTIFF_INDEX:
        return DatasetDescription(ndtiff_planes(data), "")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise CorruptFileError(f"{url} is not OME-XML: it is not UTF-8", url=url) from exc
    check_description(text, url, headers.limits)
    check_ome(text, url)
    planes = ome_planes(text, "", headers.context.series)
    return DatasetDescription(planes, text, key) if planes is not None else None


def _describe_stack(
    reader: Reader, key: str, prefix: str, own_part: Any, notes: DatasetNotes, *, fill: bool
) -> DatasetDescription | None:
    """Build the table of a Micro-Manager stack, each file of which has an index of its planes."""
    folder, _, name = key.rpartition("/")
    siblings = {
        entry.key.rpartition("/")[2]: entry.key
        for batch in reader.store.list_objects(folder, prefix, 1)
        for entry in batch
        if entry.key.lower().endswith(TIFF_ENDS)
    }
    siblings.pop(name, None)
    parts = {name: own_part}
    headers = read_headers(reader, list(siblings.values()))
    for sibling, opened in zip(siblings, headers, strict=True):
        if isinstance(opened, FormatError):
            raise opened
        notes.add(remarks_of(opened), opened.url)
        membership = opened.parsed.membership
        if membership is not None and membership.part is not None:
            parts[sibling] = membership.part
    planes = mmstack_planes(parts)
    if len(parts) == 1:
        # One file of several, of which only a part of the image is left, or all that was acquired.
        if not fill and not has_gaps(own_part):
            return None
        n_planes = int((planes.file_of >= 0).sum())
        shortfall = (
            f"the metadata of {name} describe {counted(planes.file_of.size, 'plane')}, but the file"
            f" has {n_planes}"
        )
        planes = replace(planes, shortfall=shortfall)
    return DatasetDescription(planes, "")


def read_headers(reader: Reader, keys: Sequence[str]) -> Iterator[OpenFile | FormatError]:
    """Yield the headers of files, many read at a time; a file that is not an image as its error."""

    def read(key: str) -> OpenFile | FormatError:
        try:
            return reader.headers.open(key)
        except FormatError as exc:
            return exc

    # The bound limits the memory of headers that wait to be yielded.
    n_ahead = 4 * settings().max_requests
    return map_ahead(lambda key: engine().fetch(partial(read, key)), keys, n_ahead=n_ahead)
