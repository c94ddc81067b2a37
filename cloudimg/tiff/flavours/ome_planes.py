"""The Plane elements of OME-XML as columns. There may be millions of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from cloudimg.tiff.flavours.facts import MICROMETRE, micrometres, number, seconds
from cloudimg.tiff.flavours.planes import Column, PlaneColumns
from cloudimg.tiff.markup import Element

NO_LENGTH = "reference frame"
"""The schema's default unit of positions, which is not a length."""
_AXES = ("X", "Y", "Z")


def plane_columns(planes: Sequence[Element], channel_names: Sequence[str]) -> PlaneColumns:
    """Return where and when each plane was taken.

    Parameters
    ----------
    planes : sequence of Element
    channel_names : sequence of str
        Names of all channels; empty if any has none.
    """
    at = {letter: _steps(planes, f"The{letter}") for letter in "ZCT"}
    columns = _stage(planes)
    columns["elapsed_s"] = _times(planes, "DeltaT")
    exposures = _times(planes, "ExposureTime")
    columns["exposure_s"] = np.where(exposures > 0, exposures, np.nan)
    if channel_names:
        texts = np.array([*channel_names, ""], object)
        is_channel = (at["C"] >= 0) & (at["C"] < len(channel_names))
        columns["channel"] = texts[np.where(is_channel, at["C"], -1)]
    return PlaneColumns(at, columns)


def _stage(planes: Sequence[Element]) -> dict[str, Column]:
    """Positions in micrometres; as they are where none is a length and all have one unit."""
    given = {axis: _numbers(planes, f"Position{axis}") for axis in _AXES}
    lacks = np.isnan(given["X"]) | np.isnan(given["Y"])  # one alone does not locate a plane
    given["X"][lacks] = given["Y"][lacks] = np.nan
    units = {axis: _units(planes, f"Position{axis}Unit", NO_LENGTH) for axis in _AXES}
    lengths = {axis: given[axis] * _factors(units[axis], _in_micrometres) for axis in _AXES}
    is_length = ~np.isnan([lengths[axis] for axis in _AXES]).all(0)
    own, is_one = np.full(len(planes), "", object), np.ones(len(planes), bool)
    for axis in _AXES:
        is_given = ~np.isnan(given[axis])
        is_one &= ~is_given | (own == "") | (own == units[axis])
        own = np.where(is_given, units[axis], own)
    columns: dict[str, Column] = {
        f"stage_{axis.lower()}": np.where(
            is_length, lengths[axis], np.where(is_one, given[axis], np.nan)
        )
        for axis in _AXES
    }
    return {**columns, "stage_unit": np.where(is_length, MICROMETRE, np.where(is_one, own, ""))}


def depths(planes: Sequence[Element], unit: str) -> Column:
    """Positions along z in a unit of length; unchanged where their own unit is not a length."""
    units = _units(planes, "PositionZUnit", NO_LENGTH)
    return _numbers(planes, "PositionZ") * _factors(units, partial(_per, unit))


def _per(unit: str, own: str) -> float:
    """Factor from one unit to another."""
    if own in (NO_LENGTH, unit):
        return 1.0
    length, one = micrometres(1.0, own), micrometres(1.0, unit)
    return length / one if length is not None and one is not None else np.nan


def _in_micrometres(unit: str) -> float:
    length = micrometres(1.0, unit)
    return np.nan if length is None else length


def _in_seconds(unit: str) -> float:
    time = seconds(1.0, unit)
    return np.nan if time is None else time


def _times(planes: Sequence[Element], name: str) -> Column:
    """Seconds."""
    return _numbers(planes, name) * _factors(_units(planes, f"{name}Unit", "s"), _in_seconds)


def _steps(planes: Sequence[Element], name: str) -> Column:
    """Numbers of planes along an axis, -1 where there is none."""
    numbers = _numbers(planes, name)
    fits = (numbers >= 0) & (numbers < 2**31)
    return np.where(fits, numbers, -1).astype(np.int64)


def _numbers(planes: Sequence[Element], name: str) -> Column:
    """Finite numbers, NaN where there is none."""
    texts = [plane.get(name, "nan") for plane in planes]
    try:
        numbers = np.array(list(map(float, texts)))
    except ValueError:
        numbers = np.array(list(map(number, texts)), np.float64)  # None is NaN
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


def _units(planes: Sequence[Element], name: str, default: str) -> Column:
    """Units of all planes; one if they have the same."""
    texts = [plane.get(name, default) for plane in planes]
    return np.array(texts[:1] if len(set(texts)) == 1 else texts, object)


def _factors(units: Column, factor: Callable[[str], float]) -> Column:
    by_unit = {unit: factor(unit) for unit in set(units.tolist())}
    return np.array([by_unit[unit] for unit in units.tolist()], np.float64)
