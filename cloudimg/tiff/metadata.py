"""What a TIFF says of its image besides pixels: sizes, channels, times."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any
from xml.etree import ElementTree

# TIFF 6.0, section 8: ResolutionUnit 2 is inch, 3 is centimetre; 1 has no absolute unit.
_UNIT_UM = {2: 25400.0, 3: 10000.0}
# OME-XML's UnitsLength default, and how ImageJ writes the same.
_MICROMETRE = "µm"
_UNIT_NAMES = {"um": _MICROMETRE, "micron": _MICROMETRE, "microns": _MICROMETRE, "μm": _MICROMETRE}
_UNIT_NAMES |= {"\\u00B5m": _MICROMETRE}


def describe(
    tiff: Any, series: Any, dims: Sequence[str], index: int
) -> tuple[dict[str, Any], dict[str, Sequence[Any]]]:
    """Attributes and coordinates that the file gives.

    Returns
    -------
    attrs : dict
        ``pixel_size`` and ``pixel_size_unit`` by dim, ``channel_names``, ``channel_colors``
        (RGBA integers as in OME), ``time_step_s``, ``stage_position`` (with unit), and
        the storage: ``compression``, ``photometric``, ``kind``. Each only where the file says it.
    coords : dict
        Coordinates by dim.
    """
    import tifffile

    keyframe = series.keyframe
    attrs: dict[str, Any] = {
        "kind": series.kind,
        "compression": _name(tifffile.COMPRESSION, keyframe.compression),
        "photometric": _name(tifffile.PHOTOMETRIC, keyframe.photometric),
    }
    if series.name:
        attrs["name"] = series.name
    if tiff.is_ome:
        attrs |= _ome(tiff.ome_metadata, index)
    elif tiff.is_imagej:
        attrs |= _imagej(tiff.imagej_metadata or {}, keyframe)
    elif tiff.is_lsm:
        attrs |= _lsm(tiff.lsm_metadata or {})
    if "pixel_size" not in attrs:
        attrs |= _resolution(keyframe)
    coords: dict[str, Sequence[Any]] = {}
    names = attrs.get("channel_names")
    if names and "c" in dims and len(names) == series.shape[list(dims).index("c")]:
        coords["c"] = tuple(names)
    return attrs, coords


def _name(codes: type[IntEnum], value: int) -> str:
    """Name of a tag's value, or its number where it has none."""
    try:
        return codes(value).name
    except ValueError:
        return str(value)


def _resolution(keyframe: Any) -> dict[str, Any]:
    unit = _UNIT_UM.get(int(keyframe.resolutionunit)) if 296 in keyframe.tags else None
    if unit is None or 282 not in keyframe.tags or 283 not in keyframe.tags:
        return {}
    across, down = keyframe.resolution
    if not (across > 0 and down > 0):
        return {}
    return _sizes({"x": unit / across, "y": unit / down}, _MICROMETRE)


def _sizes(sizes: dict[str, float], unit: str) -> dict[str, Any]:
    return {"pixel_size": sizes, "pixel_size_unit": dict.fromkeys(sizes, unit)}


def _imagej(metadata: dict[str, Any], keyframe: Any) -> dict[str, Any]:
    attrs: dict[str, Any] = {}
    unit = str(metadata.get("unit", "")).strip()
    unit = _UNIT_NAMES.get(unit, unit)
    across, down = keyframe.resolution if 282 in keyframe.tags and 283 in keyframe.tags else (0, 0)
    if unit and unit != "pixel" and across > 0 and down > 0:
        sizes = {"x": 1 / across, "y": 1 / down}
        if isinstance(metadata.get("spacing"), int | float):
            sizes["z"] = abs(float(metadata["spacing"]))
        attrs |= _sizes(sizes, unit)
    if isinstance(metadata.get("finterval"), int | float):
        attrs["time_step_s"] = float(metadata["finterval"])
    return attrs


def _lsm(metadata: dict[str, Any]) -> dict[str, Any]:
    attrs: dict[str, Any] = {}
    sizes = {d: metadata.get(f"VoxelSize{d.upper()}") for d in "xyz"}
    known = {d: float(v) * 1e6 for d, v in sizes.items() if isinstance(v, int | float) and v > 0}
    if known:
        attrs |= _sizes(known, _MICROMETRE)
    colors = metadata.get("ChannelColors") or {}
    if isinstance(colors, dict) and colors.get("ColorNames"):
        attrs["channel_names"] = [str(name) for name in colors["ColorNames"]]
    if isinstance(metadata.get("TimeIntervall"), int | float) and metadata["TimeIntervall"] > 0:
        attrs["time_step_s"] = float(metadata["TimeIntervall"])
    return attrs


def _ome(text: str | None, index: int) -> dict[str, Any]:
    """From the schema OME 2016-06: Pixels, its Channels and the Plane of the first page."""
    try:
        root = ElementTree.fromstring(text or "")
    except ElementTree.ParseError:
        return {}
    images = [child for child in root if child.tag.endswith("}Image") or child.tag == "Image"]
    if index >= len(images):
        return {}
    pixels = next((c for c in images[index] if c.tag.endswith("Pixels")), None)
    if pixels is None:
        return {}
    attrs: dict[str, Any] = {}
    sizes, units = {}, {}
    for dim in "xyz":
        size = _number(pixels.get(f"PhysicalSize{dim.upper()}"))
        if size:
            sizes[dim] = size
            units[dim] = pixels.get(f"PhysicalSize{dim.upper()}Unit", _MICROMETRE)
    if sizes:
        attrs |= {"pixel_size": sizes, "pixel_size_unit": units}
    step = _number(pixels.get("TimeIncrement"))
    if step and pixels.get("TimeIncrementUnit", "s") == "s":
        attrs["time_step_s"] = step
    channels = [child for child in pixels if child.tag.endswith("Channel")]
    names = [channel.get("Name") for channel in channels]
    if channels and all(names):
        attrs["channel_names"] = names
    colors = [_number(channel.get("Color")) for channel in channels]
    if channels and all(color is not None for color in colors):
        attrs["channel_colors"] = [int(color or 0) for color in colors]
    return attrs | _stage(pixels)


def other_ome_files(text: str, own_name: str) -> set[str]:
    """The other files over which an OME-XML says that its pixels are spread.

    The file itself is known by its UUID or its name; one name alone is the file before somebody
    renamed it.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return set()
    named = {
        (element.get("FileName"), (element.text or "").strip())
        for element in root.iter()
        if element.tag.endswith("UUID") and element.get("FileName")
    }
    if len({name for name, _ in named}) < 2:
        return set()
    own_uuid = root.get("UUID")
    return {str(name) for name, uuid in named if name != own_name and uuid != own_uuid}


def _stage(pixels: ElementTree.Element) -> dict[str, Any]:
    plane = next((child for child in pixels if child.tag.endswith("Plane")), None)
    if plane is None:
        return {}
    position = {dim: _number(plane.get(f"Position{dim.upper()}")) for dim in "xy"}
    if None in position.values():
        return {}
    # The schema's default unit of a position is "reference frame", which has no length.
    units = {dim: plane.get(f"Position{dim.upper()}Unit", "reference frame") for dim in "xy"}
    return {"stage_position": position, "stage_position_unit": units}


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
