"""Harmony (Opera Phenix, Operetta): ``Index.idx.xml``, which later versions call ``Index.xml``.

It has an ``Image`` for each image, whose elements have its values, with lengths in metres and times
in seconds unless ``Unit`` says otherwise. From version 5 on, what all images of a channel share is
in the ``Entry`` of the channel, in the ``Maps`` before them. Positions count from the centre of the
well.

Facts: bio-formats.readthedocs.io, "PerkinElmer Operetta"; forum.image.sc/t/16389.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudimg.discovery.fact_kinds import Fact
from cloudimg.discovery.facts_of_attributes import time_facts
from cloudimg.opening.index_files.content import (
    Content,
    size_of_pixels,
    stage,
    well_label,
)
from cloudimg.opening.index_files.objects import IndexObject
from cloudimg.opening.index_files.xml_stream import Attributes, stream_xml
from cloudimg.tiff.flavours.facts import micrometres, number, positive, seconds

_MOST_CHANNELS = 1000
_MOST_VALUES = 1000
_Values = dict[str, tuple[str, str]]
"""Text and unit by name."""


def read_harmony(content: Content, found: IndexObject) -> None:
    """Read an index of Harmony.

    Raises
    ------
    ValueError, LimitError, ChangedError, StorageError
    """
    folder = found.key.rpartition("/")[0] + "/"
    of_channels: dict[str, _Values] = {}
    values: _Values | None = None
    unit, is_first = "", True

    def start(name: str, attrs: Attributes) -> None:
        nonlocal values, unit, is_first
        if is_first and name != "EvaluationInputData":
            raise ValueError(f"its first element is {name[:80]}, not EvaluationInputData")
        is_first, unit = False, attrs.get("Unit", "")
        if name == "Image":
            values = {}
        elif name == "Entry" and len(of_channels) < _MOST_CHANNELS:
            # Several maps may have an entry of one channel.
            values = of_channels.setdefault(attrs.get("ChannelID", ""), {})

    def end(name: str, text: str) -> None:
        nonlocal values
        if values is None:
            return
        if name == "Image":
            if "URL" in values:  # wells list their images, too
                shared = of_channels.get(values.get("ChannelID", ("", ""))[0], {})
                _add(content, folder, {**shared, **values})
            values = None
        elif name == "Entry":
            values = None
        elif len(values) < _MOST_VALUES:
            values[name] = text.strip(), unit

    stream_xml(found.pieces(), start, end)


def _add(content: Content, folder: str, values: Mapping[str, tuple[str, str]]) -> None:
    z = "PositionZ" if "PositionZ" in values else "AbsPositionZ"
    facts: dict[str, Fact | None] = {
        **stage(*(_length(values, name) for name in ("PositionX", "PositionY", z))),
        **time_facts(_text(values, "AbsTime") or ""),
        "elapsed_s": _seconds(values, "MeasurementTimeOffset"),
        "exposure_s": positive(_seconds(values, "ExposureTime")),
        "channel": _text(values, "ChannelName"),
        "magnification": positive(_text(values, "ObjectiveMagnification")),
        "well": well_label(_text(values, "Row"), _text(values, "Col")),
    }
    size = size_of_pixels(_length(values, "ImageResolutionX"), _length(values, "ImageResolutionY"))
    content.add(folder, values["URL"][0], facts, size)


def _text(values: Mapping[str, Any], name: str) -> str | None:
    return values.get(name, ("", ""))[0] or None


def _length(values: Mapping[str, tuple[str, str]], name: str) -> float | None:
    """A length in micrometres."""
    text, unit = values.get(name, ("", ""))
    value = number(text)
    return None if value is None else micrometres(value, unit or "m")


def _seconds(values: Mapping[str, tuple[str, str]], name: str) -> float | None:
    text, unit = values.get(name, ("", ""))
    return seconds(text, unit or "s")
