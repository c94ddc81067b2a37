"""`Multiscale`: an image of OME-Zarr, as the attributes of its group describe it. Pure.

Versions 0.4 and 0.5 (https://ngff.openmicroscopy.org), and earlier ones, whose axes have no types.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from cloudimg.errors import UnsupportedFormatError

_OF_OLDER = ("t", "c", "z", "y", "x")
"""Axes of versions without names of axes."""
_MOST_LEVELS = 64
_MOST_AXES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiscale:
    """Axes, levels and coordinates of an image."""

    name: str
    dims: tuple[str, ...]
    units: tuple[str, ...]
    """Unit of each axis; empty if there is none."""
    paths: tuple[str, ...]
    """Path of the array of each level."""
    scale: tuple[float, ...]
    """Distance of pixels of level 0, by axis."""
    translation: tuple[float, ...] | None
    """Position of the first pixel of level 0 by axis; None if it is not stated."""
    method: str
    """How levels are made; empty if it is not stated."""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """Take it from an entry of ``multiscales``.

        Raises
        ------
        KeyError, TypeError, ValueError, AttributeError, IndexError
            If it is not one.
        UnsupportedFormatError
            If it is one of a later version, whose axes are stated elsewhere.
        """
        if "axes" not in stored and "coordinateSystems" in stored:
            raise UnsupportedFormatError(
                "its axes are those of coordinateSystems, as OME-Zarr 0.6 has them, and versions up"
                " to 0.5 are supported: open its arrays by their own URLs, or write it as 0.5"
            )
        datasets = list(stored["datasets"])[:_MOST_LEVELS]
        paths = tuple(_path(each["path"]) for each in datasets)
        if not paths:
            raise ValueError("it lists no arrays")
        transforms = list(datasets[0].get("coordinateTransformations") or ())
        transforms += list(stored.get("coordinateTransformations") or ())
        axes = _axes(stored.get("axes"), transforms)
        scale, translation = _coordinates(transforms, len(axes))
        return cls(
            name=str(stored.get("name") or "")[:255],
            dims=tuple(_dims(axes)),
            units=tuple(unit if isinstance(unit, str) else "" for _, _, unit in axes),
            paths=paths,
            scale=scale,
            translation=translation,
            method=str(stored.get("type") or "")[:80],
        )


def _path(value: Any) -> str:
    """A path below the group: never one that leads out of it."""
    parts = [part for part in str(value).split("/") if part not in ("", ".")]
    if not isinstance(value, str) or not parts or ".." in parts:
        raise ValueError("the path of an array leads out of its group")
    return "/".join(parts)


def _axes(stored: Any, transforms: Sequence[Any]) -> list[tuple[str, Any, Any]]:
    """Name, type and unit of each axis."""
    if stored is None:
        scales = [each["scale"] for each in transforms if each.get("type") == "scale"]
        n_axes = len(scales[0]) if scales else len(_OF_OLDER)
        return [(name, None, None) for name in _OF_OLDER[-n_axes:]]
    axes = [
        (each, None, None)
        if isinstance(each, str)
        else (str(each["name"]), each.get("type"), each.get("unit"))
        for each in stored
    ]
    names = [name for name, _, _ in axes]
    if not 2 <= len(names) <= _MOST_AXES or len(set(names)) < len(names) or not all(names):
        raise ValueError("it has no axes, or two of one name")
    return axes


def _dims(axes: Sequence[tuple[str, Any, Any]]) -> list[str]:
    """Names of the axes; the only one of channels or of time is c or t, whatever its name."""
    names = [name for name, _, _ in axes]
    lower = [name.lower() if len(name) == 1 else name for name in names]
    names = lower if len(set(lower)) == len(names) else names
    for kind, usual in (("channel", "c"), ("time", "t")):
        of_kind = [i for i, (_, each, _) in enumerate(axes) if each == kind]
        if len(of_kind) == 1 and usual not in names:
            names[of_kind[0]] = usual
    return names


def _coordinates(
    transforms: Sequence[Any], n_axes: int
) -> tuple[tuple[float, ...], tuple[float, ...] | None]:
    """Scale and translation, from transformations that apply one after another."""
    scale, origin, has_origin = [1.0] * n_axes, [0.0] * n_axes, False
    for each in transforms:
        if each["type"] == "scale":
            factors = _numbers(each["scale"], n_axes)
            scale = [a * b for a, b in zip(scale, factors, strict=True)]
            origin = [a * b for a, b in zip(origin, factors, strict=True)]
        elif each["type"] == "translation":
            shifts = _numbers(each["translation"], n_axes)
            origin = [a + b for a, b in zip(origin, shifts, strict=True)]
            has_origin = True
    return tuple(scale), tuple(origin) if has_origin else None


def _numbers(stored: Any, n_axes: int) -> list[float]:
    numbers = [float(each) for each in stored]
    if len(numbers) != n_axes or not all(map(math.isfinite, numbers)):
        raise ValueError("a transformation has not a number for each axis")
    return numbers
