"""Laser scanning microscopes: Zeiss LSM, Olympus FluoView and SIS, ScanImage."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from cloudimg.tiff.flavours.facts import (
    MICROMETRE,
    HeaderFacts,
    MetadataSource,
    is_monotone,
    iso_time,
    magnification_in,
    mapping,
    number,
    positive,
    rgba,
    seconds,
)

_METRE_UM = 1e6
_DAY_ZERO = datetime(1899, 12, 30)
"""Day 0 of OLE automation dates."""
_EPOCH = re.compile(r"^epoch\s*=\s*[\[{]([^\]}]*)", re.MULTILINE)


def read_lsm(source: MetadataSource) -> HeaderFacts:
    """Read CZ_LSMINFO (Carl Zeiss, "LSM File Format Description"); lengths are in metres.

    The other series of the file are thumbnails.
    """
    facts = HeaderFacts()
    metadata = source.tiff.lsm_metadata
    if not source.is_main or not isinstance(metadata, Mapping):
        return facts
    for dim in "xyz":
        facts.put_size(dim, metadata.get(f"VoxelSize{dim.upper()}"), MICROMETRE, factor=_METRE_UM)
    facts.put("time_step_s", positive(metadata.get("TimeIntervall")))
    colors = mapping(metadata.get("ChannelColors"))
    facts.put_channels(
        colors.get("ColorNames", ()), [rgba(*color[:3]) for color in colors.get("Colors", ())]
    )
    stamps = metadata.get("TimeStamps")
    if stamps is not None:
        facts.put_coord("t", _since_first([float(stamp) for stamp in stamps]))
    positions = metadata.get("Positions")
    if positions is not None and len(positions) == 1:
        facts.put_stage(positions[0][0], positions[0][1], MICROMETRE, factor=_METRE_UM)
    scan = mapping(metadata.get("ScanInformation"))
    objective = scan.get("Objective")
    facts.put("magnification", magnification_in(objective))
    facts.put("objective", objective.strip("\0 ") if isinstance(objective, str) else None)
    days = positive(scan.get("Sample0time"))
    if days:
        facts.put("acquired", iso_time(_DAY_ZERO + timedelta(days=days)))
    return facts


def _since_first(stamps: Sequence[float]) -> list[float]:
    """Seconds since the first of several times, whose origin is unknown."""
    return [stamp - stamps[0] for stamp in stamps] if is_monotone(stamps) else []


def read_fluoview(source: MetadataSource) -> HeaderFacts:
    """Read MM_Head: each dimension has a name, a resolution (size of a step) and a unit."""
    facts = HeaderFacts()
    metadata = source.tiff.fluoview_metadata or {}
    for name, _, _, resolution, unit in metadata.get("Dimensions", ()):
        if name.upper() in ("X", "Y", "Z"):
            facts.put_size(name.lower(), resolution, unit)
        elif name.upper() in ("T", "TIME"):
            facts.put("time_step_s", positive(seconds(resolution, unit)))
    return facts


def read_sis(source: MetadataSource) -> HeaderFacts:
    """Read the tags of Olympus Soft Imaging Solutions, as tifffile parses them.

    There is no specification; sizes are in metres, as in Bio-Formats' SISReader.
    """
    facts = HeaderFacts()
    metadata = source.tiff.sis_metadata or {}
    for dim in "xy":
        facts.put_size(dim, metadata.get(f"pixelsize{dim}"), MICROMETRE, factor=_METRE_UM)
    facts.put("magnification", positive(metadata.get("magnification")))
    facts.put("acquired", iso_time(metadata.get("datetime")))
    depths = mapping(metadata.get("Z")).get("ZPos")
    if depths is not None:
        values = [float(depth) for depth in depths]
        facts.put_coord("z", values if is_monotone(values) else [])
    return facts


def read_scanimage(source: MetadataSource) -> HeaderFacts:
    """Read the frame data of ScanImage 2016 and later ("ScanImage BigTiff Specification").

    Lengths are in micrometres. Versions before 5 use other names, which are not read.
    """
    import tifffile

    facts = HeaderFacts()
    page = source.first
    metadata = mapping(mapping(source.tiff.scanimage_metadata).get("FrameData"))
    if not metadata:
        text = page.software if page.software.startswith("SI.") else page.description
        metadata = mapping(tifffile.matlabstr2py(text))
    settings = {
        name.removeprefix("scanimage.").removeprefix("SI."): v for name, v in metadata.items()
    }
    _field_of_view(settings, source, facts)
    step = settings.get(
        "hStackManager.actualStackZStepSize", settings.get("hStackManager.stackZStepSize")
    )
    facts.put_size("z", abs(number(step) or 0.0), MICROMETRE)
    # With a fast z drive every volume is a time point, else every frame is.
    is_volume = settings.get("hFastZ.enable") is True
    rate = positive(settings.get("hRoiManager.scan" + ("VolumeRate" if is_volume else "FrameRate")))
    averaged = positive(settings.get("hScan2D.logAverageFactor")) or 1.0
    facts.put("time_step_s", positive(averaged / rate) if rate else None)
    facts.put_channels(_saved_channels(settings))
    motor = settings.get("hMotors.motorPosition")
    if isinstance(motor, list) and len(motor) >= 2:
        facts.put_stage(motor[0], motor[1], MICROMETRE)
        facts.put_stage_z(motor[2] if len(motor) > 2 else None, MICROMETRE)
    facts.put("acquired", _epoch(page.description))
    return facts


def _saved_channels(settings: Mapping[str, Any]) -> list[Any]:
    """Names of the channels in the file; Matlab counts from 1 and writes a row or a column."""
    names, saved = settings.get("hChannels.channelName"), settings.get("hChannels.channelSave")
    if not isinstance(names, list) or saved is None:
        return []
    return [names[int(channel) - 1] for channel in np.ravel(saved)]


def _field_of_view(settings: Mapping[str, Any], source: MetadataSource, facts: HeaderFacts) -> None:
    """Read the pixel size from the corners of the field of view, each [x, y] in micrometres."""
    corners = settings.get("hRoiManager.imagingFovUm")
    if isinstance(corners, list) and len(corners) == 4:
        for at, dim in enumerate("xy"):
            values = [float(corner[at]) for corner in corners]
            facts.put_size(dim, (max(values) - min(values)) / (source.length(dim) or 1), MICROMETRE)


def _epoch(description: str) -> str | None:
    """Time of the start, which is written as [year, month, day, hour, minute, second]."""
    match = _EPOCH.search(description)
    parts = re.split(r"[\s,;]+", match.group(1).strip()) if match else []
    if len(parts) != 6:
        return None
    year, month, day, hour, minute = (int(part) for part in parts[:5])
    second = f"{float(parts[5]):09.6f}"
    return iso_time(f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second}")
