"""The OME-XML of source files, which a copy keeps beside its own as it was. Pure.

Each text is kept once, as ``OME/source/0.ome.xml`` and so on, in the order of the files. The table
of originals has the OME-XML of every file.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from cloudimg.errors.checked_json import checked_int, checked_list, checked_object, checked_text
from cloudimg.errors.notes import Remark
from cloudimg.migration.plan.places import SOURCE_XML

MOST_FILES = 1000
"""Files whose OME-XML is kept: the first ones of the grid."""
_MOST_BYTES = 2**26
"""Bytes of OME-XML of a file after the first, at most, times its position."""
_MOST_OF_ONE = 2**28
_MOST_BASE64 = 2**27

NOT_KEPT = Remark(
    "ome-xml-not-beside",
    f"its OME-XML is in the table of originals and not in {SOURCE_XML}, which has that of the"
    f" first {MOST_FILES} files, unless it is very large",
)


@dataclass(frozen=True, slots=True)
class SourceXml:
    """OME-XML of one or more source files."""

    text: bytes
    """As the files have it, which need not be XML that can be parsed."""
    files: tuple[tuple[int, str], ...]
    """Position in C order of the grid and key of each file that has it."""

    def to_json(self) -> dict[str, Any]:
        """As a commit record has it."""
        packed = base64.b64encode(zlib.compress(self.text, 6)).decode()
        return {"text": packed, "files": [list(each) for each in self.files]}

    @classmethod
    def from_json(cls, stored: Any) -> Self:
        """Restore it from `to_json`.

        Raises
        ------
        ValueError
            If it is anything else.
        """
        where = "ome_xml"
        checked_object(stored, where, required=("text", "files"))
        files = checked_list(stored["files"], f"{where}.files", most=MOST_FILES)
        pairs = [checked_list(each, f"{where}.files", n=2) for each in files]
        of_text = tuple(
            (
                checked_int(position, f"{where}.files", greatest=MOST_FILES - 1),
                checked_text(key, f"{where}.files"),
            )
            for position, key in pairs
        )
        if not of_text:
            raise ValueError(f"{where}.files is empty")
        last = max(position for position, _ in of_text)
        text = checked_text(stored["text"], f"{where}.text", most=_MOST_BASE64)
        return cls(_unpacked(text, _MOST_BYTES // last if last else _MOST_OF_ONE), of_text)


def _unpacked(text: str, most: int) -> bytes:
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(text, validate=True), most + 1)
    except (zlib.error, binascii.Error) as exc:
        raise ValueError("ome_xml.text cannot be unpacked") from exc
    if not unpacker.eof or len(data) > most:
        raise ValueError(f"ome_xml.text is cut off, or larger than {most} bytes")
    return data


def is_ome_xml(text: str) -> bool:
    """Whether a description is OME-XML, or was meant to be."""
    return "<OME" in text[:2000]


def is_kept(position: int, n_bytes: int) -> bool:
    """Whether a copy keeps the OME-XML of a file; the same wherever and whenever it is read."""
    most = _MOST_BYTES // position if position else _MOST_OF_ONE
    return position < MOST_FILES and n_bytes <= most


def merged(found: Iterable[SourceXml]) -> tuple[SourceXml, ...]:
    """Each text once, with all of its files, in the order of the files."""
    files: dict[bytes, list[tuple[int, str]]] = {}
    for each in found:
        files.setdefault(each.text, []).extend(each.files)
    texts = (SourceXml(text, tuple(sorted(of_text))) for text, of_text in files.items())
    return tuple(sorted(texts, key=lambda each: each.files))


def named_texts(found: Sequence[SourceXml]) -> Iterator[tuple[str, bytes]]:
    """Yield the name of each text below `SOURCE_XML`, and the text."""
    for number, each in enumerate(found):
        yield f"{number}.ome.xml", each.text


def files_by_name(found: Sequence[SourceXml]) -> dict[str, list[str]]:
    """Return the files that have each text, by its name below `SOURCE_XML`."""
    return {
        name: [key for _, key in each.files]
        for (name, _), each in zip(named_texts(found), found, strict=True)
    }
