"""Yokogawa's CellVoyager (CV7000, CV8000): ``MeasurementData.mlf``, and what it leaves to others.

The .mlf has a record for each image: its time, well, stage position in micrometres from the centre
of the well, and the number of its channel. ``MeasurementDetail.mrf`` has the sizes of pixels by
channel, and the name of the settings, the .mes: they have the names, colours (#AARRGGBB), exposures
in milliseconds and objectives of the channels.

Facts: files of a CV8000 (zenodo.org/records/8375233).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from cloudimg.discovery.fact_kinds import Fact
from cloudimg.discovery.facts_of_attributes import time_facts
from cloudimg.errors import CloudimgError, NotFoundError
from cloudimg.opening.index_files.content import (
    Content,
    size_of_pixels,
    stage,
    well_label,
)
from cloudimg.opening.index_files.objects import IndexObject
from cloudimg.opening.index_files.xml_stream import Attributes, stream_xml
from cloudimg.storage import Store
from cloudimg.tiff.flavours.facts import positive, rgba, seconds

_DETAIL = "MeasurementDetail.mrf"
_MOST_CHANNELS = 1000
_COLOR = re.compile(r"#[0-9A-Fa-f]{2}([0-9A-Fa-f]{2})([0-9A-Fa-f]{2})([0-9A-Fa-f]{2})")
_SETTINGS = re.compile(r"(?i)[^/\\]+\.mes")


@dataclass(frozen=True, slots=True)
class _Channel:
    """What the settings say of a channel."""

    facts: Mapping[str, Fact | None]
    color: int | None = None
    pixel_size: tuple[float, float] | None = None


_UNKNOWN = _Channel({})


def read_mlf(content: Content, found: IndexObject, store: Store) -> None:
    """Read a .mlf, and the .mrf and .mes beside it if they are there.

    Raises
    ------
    ValueError, LimitError, ChangedError, StorageError
        Of the .mlf; others that cannot be used are remarks.
    """
    folder = found.key.rpartition("/")[0] + "/"
    channels = _channels(content, folder, store)
    record: Attributes = {}
    is_first = True

    def start(name: str, attrs: Attributes) -> None:
        nonlocal record, is_first
        if is_first and name != "MeasurementData":
            raise ValueError(f"its first element is {name[:80]}, not MeasurementData")
        is_first = False
        record = attrs

    def end(name: str, text: str) -> None:
        # Records of errors name no image.
        if name == "MeasurementRecord" and record.get("Type", "IMG") == "IMG":
            channel = channels.get(record.get("Ch", ""), _UNKNOWN)
            facts: dict[str, Fact | None] = {
                **channel.facts,
                **stage(record.get("X"), record.get("Y"), record.get("Z")),
                **time_facts(record.get("Time", "")),
                "well": well_label(record.get("Row"), record.get("Column")),
            }
            content.add(folder, text, facts, channel.pixel_size)

    stream_xml(found.pieces(), start, end)
    for channel in channels.values():
        name = channel.facts.get("channel")
        if name is not None and channel.color is not None:
            content.colors[str(name)] = channel.color


def _channels(content: Content, folder: str, store: Store) -> dict[str, _Channel]:
    """What is known of channels, by number as the files write it."""
    channels: dict[str, _Channel] = {}
    settings: list[str] = []
    _read_beside(content, store, f"{folder}{_DETAIL}", partial(_detail, channels, settings))
    if settings and _SETTINGS.fullmatch(settings[0]):
        _read_beside(content, store, f"{folder}{settings[0]}", partial(_setting, channels))
    return channels


def _read_beside(
    content: Content, store: Store, key: str, start: Callable[[str, Attributes], None]
) -> None:
    try:
        stream_xml(IndexObject(store, key).pieces(), start, lambda name, text: None)
    except NotFoundError:
        pass  # not all of them are copied everywhere
    except (CloudimgError, ValueError) as exc:
        name = key.rpartition("/")[2]
        content.remarks.append(f"{name}, which names channels and sizes, is not used: {exc}")


def _detail(
    channels: dict[str, _Channel], settings: list[str], name: str, attrs: Attributes
) -> None:
    """Handle an element of the .mrf."""
    if name == "MeasurementDetail":
        settings.append(attrs.get("MeasurementSettingFileName", ""))
    elif name == "MeasurementChannel" and len(channels) < _MOST_CHANNELS:
        number = attrs.get("Ch", "")
        size = size_of_pixels(
            attrs.get("HorizontalPixelDimension"), attrs.get("VerticalPixelDimension")
        )
        channels[number] = replace(channels.get(number, _UNKNOWN), pixel_size=size)


def _setting(channels: dict[str, _Channel], name: str, attrs: Attributes) -> None:
    """Handle an element of the .mes."""
    if name != "Channel" or "Ch" not in attrs or len(channels) >= _MOST_CHANNELS:
        return
    number = attrs["Ch"]
    color = _COLOR.fullmatch(attrs.get("Color", ""))
    channels[number] = replace(
        channels.get(number, _UNKNOWN),
        facts={
            # Users may name a channel by its fluorophore; the target is the line of the laser.
            "channel": attrs.get("Fluorophore", "").strip()
            or attrs.get("Target", "").strip()
            or None,
            "exposure_s": positive(seconds(attrs.get("ExposureTime"), "ms")),
            "objective": attrs.get("Objective", "").strip() or None,
            "magnification": positive(attrs.get("Magnification")),
        },
        color=rgba(*(int(part, 16) for part in color.groups())) if color else None,
    )
