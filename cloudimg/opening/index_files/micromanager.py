"""Micro-Manager: ``metadata.txt`` in the folder of a position, when each plane has its own file.

One JSON object: ``Summary``, and an object for each plane, called ``FrameKey-t-c-z`` with a
``FileName`` (version 1.4), or ``Metadata-`` and the name of the file (version 2). It is written
during the acquisition, so it may end early.

Facts: micro-manager.org/Micro-Manager_File_Formats.
"""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cloudimg.discovery.fact_kinds import Fact
from cloudimg.discovery.facts_of_attributes import facts_in
from cloudimg.errors import counted
from cloudimg.opening.index_files.content import Content, size_of_pixels
from cloudimg.opening.index_files.objects import IndexObject
from cloudimg.tiff.flavours.facts import mapping
from cloudimg.tiff.flavours.micromanager import facts_of_plane
from cloudimg.tiff.markup import XML_PADDING

_MOST_CHARACTERS = 16 * 2**20
"""Greatest length of the metadata of one plane."""
_DECODER = json.JSONDecoder(strict=False)
_BLANK = re.compile(r"[\s,]*")
_COLON = re.compile(r"\s*:\s*")
_CHANNEL = re.compile(r"_channel(\d{3})_")


class _EndError(Exception):
    """The JSON object ends."""


_DAMAGED = (json.JSONDecodeError, RecursionError, ValueError)


def read_metadata(content: Content, found: IndexObject) -> None:
    """Read a ``metadata.txt``.

    Raises
    ------
    ValueError, LimitError, ChangedError, StorageError
    """
    folder = found.key.rpartition("/")[0] + "/"
    summary: Mapping[str, Any] = {}
    n_planes = 0
    items = _items(found.pieces())
    while True:
        try:
            key, value = next(items)
        except StopIteration:
            break
        except _DAMAGED as exc:
            if not n_planes:
                raise ValueError(f"it is not the JSON of Micro-Manager: {exc}") from exc
            content.remarks.append(
                f"it ends inside the metadata of a plane, after those of"
                f" {counted(n_planes, 'plane')}"
            )
            break
        plane = mapping(value)
        if key == "Summary":
            summary = plane
        name = _file_name(key, plane)
        if name is not None:
            _add(content, folder, name, summary, plane)
            n_planes += 1
    if not summary and not n_planes:
        raise ValueError("it has neither a Summary nor planes of Micro-Manager")


def _items(pieces: Iterable[bytes]) -> Iterator[tuple[str, Any]]:
    """Yield names and values of a JSON object one by one."""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    text, is_begun = "", False
    for piece in itertools.chain(pieces, [b""]):
        text += decode(piece, not piece)
        if not is_begun:
            text = text.lstrip(XML_PADDING)
            if text and not text.startswith("{"):
                raise ValueError("it is not a JSON object")
            text, is_begun = text[1:], bool(text)
        at = 0
        try:
            while True:
                key, value, at = _item(text, at)
                yield key, value
        except _EndError:
            return
        except _DAMAGED:
            # It may only be cut where a piece ends.
            if not piece or len(text) - at > _MOST_CHARACTERS:
                raise
        text = text[at:]


def _item(text: str, at: int) -> tuple[str, Any, int]:
    """The name and the value that begin at a position, and where they end."""
    blank = _BLANK.match(text, at)
    at = blank.end() if blank else at
    if text[at : at + 1] == "}":
        raise _EndError
    key, at = _DECODER.raw_decode(text, at)
    colon = _COLON.match(text, at)
    if colon is None or not isinstance(key, str):
        raise json.JSONDecodeError("a name and a colon are expected", text, at)
    value, at = _DECODER.raw_decode(text, colon.end())
    if at == len(text):  # a number might go on
        raise json.JSONDecodeError("a comma or brace is expected", text, at)
    return key, value, at


def _file_name(key: str, plane: Mapping[str, Any]) -> str | None:
    """Name of the file of a plane; None if the item is not a plane."""
    if key.startswith("FrameKey-"):
        name = plane.get("FileName")
        return name if isinstance(name, str) else None
    if key.startswith("Metadata-"):
        return key.removeprefix("Metadata-").replace("\\", "/").rpartition("/")[2]
    return None


def _add(
    content: Content, folder: str, name: str, summary: Mapping[str, Any], plane: Mapping[str, Any]
) -> None:
    known = facts_of_plane(summary, plane)
    step = known.attrs.pop("time_step_s", None)
    if step is not None:
        content.time_step_s = step
    if known.stage:
        known.attrs["stage_position"] = {dim: value for dim, (value, _) in known.stage.items()}
        known.attrs["stage_position_unit"] = {dim: unit for dim, (_, unit) in known.stage.items()}
    sizes = [known.sizes.get(dim, (None,))[0] for dim in "xy"]
    facts: dict[str, Fact | None] = {
        **facts_in(known.attrs),
        "channel": _channel(name, summary, plane),
    }
    content.add(folder, name, facts, size_of_pixels(*sizes))
    if "z" in known.sizes:
        content.z_step = known.sizes["z"][0]


def _channel(name: str, summary: Mapping[str, Any], plane: Mapping[str, Any]) -> str | None:
    if isinstance(plane.get("Channel"), str) and plane["Channel"]:
        return str(plane["Channel"])
    match, names = _CHANNEL.search(name), summary.get("ChNames")
    number = int(match[1]) if match else plane.get("ChannelIndex")
    if isinstance(names, list) and isinstance(number, int) and 0 <= number < len(names):
        return str(names[number]) or None
    return None
