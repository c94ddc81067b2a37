"""Find the table of planes of a multi-file dataset, starting at one of its files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from cloudimg.errors import CorruptFileError, FormatError, LimitError, NotFoundError
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.headers import HeaderReader
from cloudimg.reading.reader import Reader
from cloudimg.settings import settings
from cloudimg.storage import engine, map_ahead
from cloudimg.tiff import NDTIFF_INDEX, check_description, check_ome
from cloudimg.tiff.multifile import PlaneTable, mmstack_planes, ndtiff_planes, ome_planes

_COMPANION_ENDS = (".companion.ome", ".ome.xml", ".ome")
"""Ends of names of files that hold the OME-XML of others (OME-TIFF specification)."""
_TIFF_ENDS = (".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class DatasetDescription:
    """The planes of a multi-file dataset, and the metadata that describes them."""

    planes: PlaneTable
    ome_xml: str
    """OME-XML from which the table was made, if any."""


def is_companion(name: str) -> bool:
    """Whether a file has no pixels and only describes other files, judging by its name."""
    return name.lower().endswith(_COMPANION_ENDS) or name.rpartition("/")[2] == NDTIFF_INDEX


def describe_dataset(
    reader: Reader, key: str, opened: OpenFile | None
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
        return _describe_by(reader, _join(folder, name))
    membership = opened.parsed.membership
    if membership is None:
        return None
    if membership.planes is not None:
        return DatasetDescription(membership.planes, membership.ome_xml)
    described_by = _join(folder, membership.described_by)
    if described_by.endswith("*"):
        return _describe_stack(reader, key, described_by[:-1], membership.part)
    try:
        return _describe_by(reader, described_by)
    except NotFoundError:
        return None  # only the pages of this file are left of the image


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _describe_by(reader: Reader, key: str) -> DatasetDescription | None:
    """Read the table in a TIFF or a companion file."""
    if key.lower().endswith(_TIFF_ENDS):
        membership = engine().fetch(partial(reader.headers.open, key)).result().parsed.membership
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
    return DatasetDescription(planes, text) if planes is not None else None


def _describe_stack(
    reader: Reader, key: str, prefix: str, own_part: Any
) -> DatasetDescription | None:
    """Build the table of a Micro-Manager stack, each file of which has an index of its planes."""
    folder, _, name = key.rpartition("/")
    siblings = {
        entry.key.rpartition("/")[2]: entry.key
        for batch in reader.store.list_objects(folder, prefix, 1)
        for entry in batch
        if entry.key.lower().endswith(_TIFF_ENDS)
    }
    siblings.pop(name, None)
    parts = {name: own_part}
    headers = read_headers(reader, list(siblings.values()))
    for sibling, opened in zip(siblings, headers, strict=True):
        if isinstance(opened, FormatError):
            raise opened
        membership = opened.parsed.membership
        if membership is not None and membership.part is not None:
            parts[sibling] = membership.part
    return DatasetDescription(mmstack_planes(parts), "") if len(parts) > 1 else None


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
