"""Micro-Manager's image file stacks and NDTiff."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudimg.tiff.flavours.facts import (
    MICROMETRE,
    HeaderFacts,
    MetadataSource,
    iso_time,
    mapping,
    number,
    positive,
    rgba,
    seconds,
)

_METADATA_TAG = 51123


def read_micromanager(source: MetadataSource) -> HeaderFacts:
    """Read the summary and the tag of the first page ("Micro-Manager File Formats").

    The summary is written before the acquisition and may hold zeros, so the page comes first.
    """
    summary = mapping(mapping(source.tiff.micromanager_metadata).get("Summary"))
    plane = mapping(source.tag(_METADATA_TAG, source.first))
    facts = facts_of_plane(summary, plane)
    _channels(summary, plane, source, facts)
    return facts


def facts_of_plane(summary: Mapping[str, Any], plane: Mapping[str, Any]) -> HeaderFacts:
    """Return what the summary and the metadata of a plane say, without channels."""
    facts = HeaderFacts()
    for dim in "xy":
        facts.put_size(dim, plane.get("PixelSizeUm"), MICROMETRE)
        facts.put_size(dim, summary.get("PixelSize_um"), MICROMETRE)
    facts.put_size("z", abs(number(summary.get("z-step_um")) or 0.0), MICROMETRE)
    interval = positive(summary.get("Interval_ms"))
    facts.put("time_step_s", interval / 1000 if interval else None)
    facts.put_stage(plane.get("XPositionUm"), plane.get("YPositionUm"), MICROMETRE)
    facts.put_stage_z(plane.get("ZPositionUm"), MICROMETRE)
    for name in ("Exposure-ms", "Exposure"):
        facts.put("exposure_s", positive(seconds(plane.get(name), "ms")))
    facts.put("elapsed_s", seconds(plane.get("ElapsedTime-ms"), "ms"))
    for when in (plane.get("ReceivedTime"), plane.get("Time"), summary.get("StartTime")):
        facts.put("acquired", iso_time(when))
    return facts


def _channels(summary: Any, plane: Any, source: MetadataSource, facts: HeaderFacts) -> None:
    names, colors = summary.get("ChNames"), summary.get("ChColors")
    if isinstance(names, list):
        facts.put_channels(names, [_from_java(color) for color in _list(colors)])
    elif len(source.series) == 1:
        facts.put_channels([plane.get("Channel")])


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _from_java(color: Any) -> int | None:
    """Convert a colour from `java.awt.Color.getRGB` (ARGB); its opacity is ignored."""
    value = number(color)
    if value is None:
        return None
    packed = int(value)
    return rgba(packed >> 16 & 255, packed >> 8 & 255, packed & 255)
