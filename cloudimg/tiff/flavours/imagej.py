"""ImageJ and NIH Image: `ij.io.FileSaver` writes the description, `ij.io.TiffEncoder` the tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudimg.tiff.flavours.facts import (
    HeaderFacts,
    MetadataSource,
    number,
    positive,
    rgba,
    seconds,
)

_MAX_TEXT = 4096
# ij.io.TiffDecoder.getNIHImageHeader
_NIH_UNITS = {5: "nm", 6: "µm", 7: "mm", 8: "cm", 9: "m", 10: "km", 11: "inch"}


def read_imagej(source: MetadataSource) -> HeaderFacts:
    """Read the lines of the description and the tag IJMetadata.

    The resolution tags count pixels per ``unit`` of the description, whatever ResolutionUnit is
    (`ij.io.TiffDecoder`); ``spacing`` is in the same unit unless ``zunit`` is given.
    """
    facts = HeaderFacts()
    metadata = source.tiff.imagej_metadata or {}
    unit = str(metadata.get("unit", ""))
    page = source.keyframe
    if 282 in page.tags and 283 in page.tags:
        across, down = page.resolution
        if across > 0 and down > 0:
            facts.put_size("x", 1 / across, unit)
            facts.put_size("y", 1 / down, str(metadata.get("yunit", unit)))
    # The spacing of a stack that runs downwards is negative.
    spacing = number(metadata.get("spacing"))
    facts.put_size("z", abs(spacing or 0.0), str(metadata.get("zunit", unit)))
    facts.put("time_step_s", _interval(metadata))
    if isinstance(metadata.get("Info"), str) and len(metadata["Info"]) <= _MAX_TEXT:
        facts.put("info", metadata["Info"].strip())
    _channels(metadata, facts)
    _labels(metadata, source, facts)
    return facts


def _interval(metadata: Mapping[str, Any]) -> float | None:
    """Seconds between frames, from ``finterval`` or else from ``fps``, the playback speed."""
    step = positive(seconds(metadata.get("finterval"), str(metadata.get("tunit", "sec"))))
    rate = positive(metadata.get("fps"))
    return step if step is not None or rate is None else positive(1 / rate)


def _channels(metadata: Mapping[str, Any], facts: HeaderFacts) -> None:
    """Read colours (the last entry of each lookup table) and display ranges of the channels."""
    count = int(metadata.get("channels", 1))
    tables = metadata.get("LUTs", [])
    tables = tables if isinstance(tables, list) else [tables]
    colors = [rgba(*(int(value) for value in table[:3, 255])) for table in tables]
    # The last entry of an inverted table is black, which is not the colour of the channel.
    if len(colors) == count and rgba(0, 0, 0) not in colors:
        facts.put("channel_colors", colors)
    bounds = [number(bound) for bound in metadata.get("Ranges", ())]
    if not bounds and count == 1:
        bounds = [number(metadata.get("min")), number(metadata.get("max"))]
    if len(bounds) == 2 * count and None not in bounds:
        facts.put("display_ranges", [bounds[i : i + 2] for i in range(0, len(bounds), 2)])


def _labels(metadata: Mapping[str, Any], source: MetadataSource, facts: HeaderFacts) -> None:
    """Read the labels of slices: coordinates if the stack has a single axis, else a list."""
    labels = metadata.get("Labels", [])
    labels = [label.strip("\0 ") for label in ([labels] if isinstance(labels, str) else labels)]
    if len(labels) != len(source.series) or not any(labels):
        return
    stacked = [dim for dim in source.dims if dim not in "yxs"]
    if stacked == ["c"]:
        facts.put_channels(labels)
    elif stacked == ["page"]:
        facts.put_coord("page", labels)
    else:
        facts.put("plane_labels", labels)


def read_nih(source: MetadataSource) -> HeaderFacts:
    """Read the header of NIH Image, Object Image and Scion Image, as ImageJ's TiffDecoder does."""
    facts = HeaderFacts()
    header = source.tiff.nih_metadata or {}
    scale, unit = positive(header.get("XScale")), _NIH_UNITS.get(header.get("UnitsID", 0), "")
    if scale:
        facts.put_size("x", 1 / scale, unit)
        facts.put_size("y", 1 / scale, unit)
    facts.put_size("z", header.get("SliceSpacing"), unit)
    facts.put("time_step_s", positive(header.get("FrameInterval")))
    return facts
