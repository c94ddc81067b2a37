"""MetaMorph: stacks with UIC tags (STK), and the XML of MetaSeries and MetaXpress."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
    seconds,
)
from cloudimg.tiff.flavours.planes import Column, PlaneColumns
from cloudimg.tiff.markup import refuse_document_type

# tifffile reads numerators as unsigned, so that negative positions become impossibly large.
_LARGEST_STAGE_UM = 1e5
_TIME = re.compile(r"([\d.]+) *([a-zµ]+)")


def read_stk(source: MetadataSource) -> HeaderFacts:
    """Read the UIC tags ("MetaMorph Stack (STK) Image File Format").

    ZDistance is the distance of a plane from the previous one, in micrometres, and AbsoluteZ the
    position of the drive, if AbsoluteZValid is set.
    """
    facts = HeaderFacts()
    metadata = source.tiff.stk_metadata or {}
    # SpatialCalibration switches the calibration on.
    if metadata.get("SpatialCalibration", 1):
        unit = str(metadata.get("CalibrationUnits") or "")
        facts.put_size("x", metadata.get("XCalibration"), unit)
        facts.put_size("y", metadata.get("YCalibration"), unit)
    steps = _numbers(metadata.get("ZDistance"))
    if steps and max(steps) - min(steps) <= 1e-6 * abs(max(steps)):
        facts.put_size("z", abs(steps[0]), MICROMETRE)
    facts.put_coord("z", _depths(metadata, steps))
    _times(metadata, facts)
    position = metadata.get("StagePosition")
    if position is not None and len(position):
        x, y = (number(value) for value in position[0])
        if max(x or 0.0, y or 0.0) < _LARGEST_STAGE_UM:
            facts.put_stage(x, y, MICROMETRE)
    facts.planes = _planes(metadata, str(source.series.axes)[:1])
    return facts


def _planes(metadata: dict[str, Any], letter: str) -> PlaneColumns | None:
    """Where and when each plane was taken, by its number along the axis of the stack."""
    columns: dict[str, Column] = {}
    created, position = metadata.get("DatetimeCreated"), metadata.get("StagePosition")
    if created is not None and len(created):
        columns["elapsed_s"] = (np.asarray(created) - created[0]) / np.timedelta64(1, "s")
    if position is not None and np.shape(position)[1:] == (2,):
        stage = np.asarray(position, np.float64)
        stage[~(stage < _LARGEST_STAGE_UM).all(1)] = np.nan
        columns |= {"stage_x": stage[:, 0], "stage_y": stage[:, 1]}
    numbers = np.arange(min(map(len, columns.values()), default=0))
    cut = {name: column[: len(numbers)] for name, column in columns.items()}
    return PlaneColumns({letter: numbers}, cut) if len(numbers) else None


def _times(metadata: dict[str, Any], facts: HeaderFacts) -> None:
    """Read the time of the first plane, and the seconds since then of all planes."""
    created = metadata.get("DatetimeCreated")
    if created is not None and len(created):
        facts.put("acquired", iso_time(created[0].astype("datetime64[us]").item()))
        elapsed = [float(dt / np.timedelta64(1, "s")) for dt in created - created[0]]
        facts.put_coord("t", elapsed if is_monotone(elapsed) else [])


def _numbers(values: Iterable[Any] | None) -> list[float]:
    """Numbers; empty if any of them is not finite."""
    converted = [number(value) for value in values] if values is not None else []
    finite = [value for value in converted if value is not None]
    return finite if len(finite) == len(converted) else []


def _depths(metadata: dict[str, Any], steps: list[float]) -> list[float]:
    """Positions of the planes: those of the drive, or else the sum of the distances."""
    absolute = _numbers(metadata.get("AbsoluteZ"))
    is_valid = bool(np.all(metadata.get("AbsoluteZValid", False)))
    if absolute and is_valid and is_monotone(absolute) and max(absolute) < _LARGEST_STAGE_UM:
        return absolute
    return np.cumsum([0.0, *steps[1:]]).tolist() if steps and 0.0 not in steps else []


def read_metaseries(source: MetadataSource) -> HeaderFacts:
    """Read the properties of the first plane, as MetaXpress writes them."""
    facts = HeaderFacts()
    refuse_document_type(source.first.description)
    metadata = source.tiff.metaseries_metadata or {}
    plane = mapping(metadata.get("PlaneInfo"))
    if plane.get("spatial-calibration-state", True) not in (False, "off"):
        unit = str(plane.get("spatial-calibration-units", ""))
        facts.put_size("x", plane.get("spatial-calibration-x"), unit)
        facts.put_size("y", plane.get("spatial-calibration-y"), unit)
    facts.put_stage(plane.get("stage-position-x"), plane.get("stage-position-y"), MICROMETRE)
    facts.put_stage_z(plane.get("z-position"), MICROMETRE)
    facts.put("acquired", iso_time(plane.get("acquisition-time-local")))
    facts.put("exposure_s", _exposure(plane.get("Exposure Time")))
    objective = plane.get("_MagSetting_")
    facts.put("magnification", magnification_in(objective))
    facts.put("objective", objective.strip() if isinstance(objective, str) else None)
    if len(source.series) == 1:
        facts.put_channels([plane.get("_IllumSetting_")])
    return facts


def _exposure(text: Any) -> float | None:
    """Seconds of a text such as "15 ms"."""
    match = _TIME.fullmatch(text.strip()) if isinstance(text, str) else None
    return positive(seconds(match[1], match[2])) if match else None
