"""Electron microscopes, scientific cameras, and detectors of beamlines."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from cloudimg.tiff.flavours.facts import (
    MICROMETRE,
    HeaderFacts,
    MetadataSource,
    iso_time,
    mapping,
    number,
    positive,
    seconds,
    time_of,
)
from cloudimg.tiff.markup import children, parse_xml, text_of

_METRE_UM = 1e6
_SEM_MAGNIFICATION = re.compile(r"([\d.]+)\s*(K?)\s*X?", re.IGNORECASE)
_EPICS_EPOCH = datetime(1990, 1, 1, tzinfo=UTC)


def read_eer(source: MetadataSource) -> HeaderFacts:
    """Read Thermo Fisher EER, tag 65001: nominal pixel size at the specimen, in metres."""
    facts = HeaderFacts()
    root = parse_xml(source.tag(65001, source.first))
    items = {item.get("name"): (text_of(item), item.get("unit")) for item in children(root, "item")}
    for dim, side in (("x", "width"), ("y", "height")):
        size, unit = items.get(f"sensorPixelSize.{side}", ("", None))
        if unit == "m":
            facts.put_size(dim, size, MICROMETRE, factor=_METRE_UM)
    exposure, unit = items.get("exposureTime", ("", None))
    frames = positive(items.get("numberOfFrames", ("", None))[0])
    total = positive(seconds(exposure, unit or ""))
    facts.put("exposure_s", total)
    facts.put("time_step_s", total / frames if total and frames else None)
    facts.put("acquired", iso_time(items.get("timestamp", ("", None))[0]))
    return facts


def read_tvips(source: MetadataSource) -> HeaderFacts:
    """Read TVIPS EM-MENU, second version of the header: pixel size in nanometres."""
    facts = HeaderFacts()
    metadata = mapping(source.tiff.tvips_metadata)
    for dim in "xy":
        facts.put_size(dim, metadata.get(f"PixelSize{dim.upper()}"), "nm")
    facts.put("magnification", positive(metadata.get("TemMagnification")))
    return facts


def read_fei(source: MetadataSource) -> HeaderFacts:
    """Read FEI and Thermo Fisher scanning microscopes: text in sections, lengths in metres."""
    facts = HeaderFacts()
    metadata = mapping(source.tiff.fei_metadata)
    for section in ("Scan", "EScan", "IScan"):
        scan = mapping(metadata.get(section))
        facts.put_size("x", scan.get("PixelWidth"), MICROMETRE, factor=_METRE_UM)
        facts.put_size("y", scan.get("PixelHeight"), MICROMETRE, factor=_METRE_UM)
    stage = mapping(metadata.get("Stage"))
    facts.put_stage(stage.get("StageX"), stage.get("StageY"), MICROMETRE, factor=_METRE_UM)
    return facts


def read_sem(source: MetadataSource) -> HeaderFacts:
    """Read Zeiss SmartSEM: each item has a name, a value and usually a unit."""
    facts = HeaderFacts()
    metadata = mapping(source.tiff.sem_metadata)
    for key in ("ap_image_pixel_size", "ap_pixel_size"):
        size, unit = _item(metadata, key)
        for dim in "xy":
            facts.put_size(dim, size, unit)
    (x, unit), (y, y_unit) = _item(metadata, "ap_stage_at_x"), _item(metadata, "ap_stage_at_y")
    if unit == y_unit:
        facts.put_stage(x, y, unit)
    magnification, thousands = _item(metadata, "ap_mag")
    match = _SEM_MAGNIFICATION.fullmatch(f"{magnification} {thousands}".strip())
    if match:
        facts.put("magnification", positive(float(match[1]) * (1000 if match[2] else 1)))
    day, hour = _item(metadata, "ap_date")[0], _item(metadata, "ap_time")[0]
    facts.put("acquired", time_of(f"{day} {hour}", "%d %b %Y %H:%M:%S"))
    return facts


def _item(metadata: Any, key: str) -> tuple[Any, str]:
    """Value and unit of an item of SmartSEM."""
    item = metadata.get(key, ())
    return (item[1] if len(item) > 1 else ""), str(item[2] if len(item) > 2 else "")


def read_epics(source: MetadataSource) -> HeaderFacts:
    """Read EPICS areaDetector: seconds and nanoseconds since 1990, in UTC."""
    facts = HeaderFacts()
    metadata = mapping(source.tiff.epics_metadata)
    elapsed = positive(metadata.get("epicsTSSec"))
    if elapsed:
        part = (number(metadata.get("epicsTSNsec")) or 0.0) // 1000
        moment = _EPICS_EPOCH + timedelta(seconds=elapsed, microseconds=part)
        facts.put("acquired", iso_time(moment))
    return facts


def read_pilatus(source: MetadataSource) -> HeaderFacts:
    """Read Dectris camserver ("PILATUS CBF Header Specification" 1.4): sizes in metres, x first."""
    facts = HeaderFacts()
    metadata = mapping(source.tiff.pilatus_metadata)
    for dim, size in zip("xy", metadata.get("Pixel_size", ()), strict=False):
        facts.put_size(dim, size, MICROMETRE, factor=_METRE_UM)
    facts.put("time_step_s", positive(metadata.get("Exposure_period")))
    facts.put("exposure_s", positive(metadata.get("Exposure_time")))
    facts.put("acquired", iso_time(metadata.get("DateTime")))
    return facts


def read_andor(source: MetadataSource) -> HeaderFacts:
    """Read Andor cameras: seconds from one frame of a kinetic series to the next."""
    facts = HeaderFacts()
    metadata = mapping(source.tiff.andor_metadata)
    facts.put("time_step_s", positive(metadata.get("KineticCycleTime")))
    facts.put("exposure_s", positive(metadata.get("ExposureTime")))
    return facts


def read_astrotiff(source: MetadataSource) -> HeaderFacts:
    """Read FITS keywords in the description ("FITS Standard" 4.0); DATE-OBS is in UTC, unmarked."""
    facts = HeaderFacts()
    metadata = mapping(source.tiff.astrotiff_metadata)
    facts.put("acquired", iso_time(metadata.get("DATE-OBS")))
    facts.put("exposure_s", positive(metadata.get("EXPTIME")))
    return facts
