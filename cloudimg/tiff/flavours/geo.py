"""Georeferencing: GeoTIFF tags ("OGC GeoTIFF Standard" 1.1) and those of GDAL."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import unescape

from cloudimg.tiff.fill_values import nodata_number
from cloudimg.tiff.flavours.facts import HeaderFacts, MetadataSource, number
from cloudimg.tiff.markup import descendants, parse_xml, text_of

PIXEL_SCALE, TIEPOINTS, TRANSFORMATION, GEO_KEYS = 33550, 33922, 34264, 34735
_GEO_DOUBLES, _GEO_TEXTS = 34736, 34737
GDAL_METADATA, GDAL_NODATA = 42112, 42113
_MODEL_TYPE, _RASTER_TYPE, _GEODETIC_CRS, _ANGULAR_UNITS = 1024, 1025, 2048, 2054
_PROJECTED_CRS, _LINEAR_UNITS, _VERTICAL_CRS = 3072, 3076, 4096
_CITATIONS = (3073, 1026, 2049, 4097)
"""Keys of names for people: of the projected system, of all, of the geodetic and the vertical one.
"""
_PROJECTED, _GEOGRAPHIC, _PIXEL_IS_POINT = 1, 2, 2
_DEFINING = {2050, 2056, 2057, 3074, 3075}
"""Keys of datum, ellipsoid, its axis, projection and its method: parameters define the system."""
_USER_DEFINED = 32767
_LEAST_AREA = 1e-300
"""Of a pixel: numbers that are divided by a smaller one overflow."""
_ENTITIES = {"&quot;": '"', "&apos;": "'"}
# EPSG codes of units of measure.
_UNITS = {9001: "m", 9002: "foot", 9003: "US survey foot", 9036: "km", 9102: "degree"}
# Common systems that most files give without their unit. In degrees: WGS 84, ETRS89, NAD27, NAD83.
# In metres: WGS 84 / UTM and Web Mercator.
_DEGREES = {4326, 4258, 4267, 4269}
_METRES = {3857, *range(32601, 32661), *range(32701, 32761)}

_OF_CATEGORIES = ("GDALRasterAttributeTable", "CategoryNames", "Item")
"""Elements of GDAL's XML that say that values are categories; of items, LAYER_TYPE (HFA)."""


def read_geo(source: MetadataSource) -> HeaderFacts:
    """Read scale, tiepoints, affine transformation and the code of the reference system."""
    facts = HeaderFacts()
    scale = _numbers(source.tag(PIXEL_SCALE))
    points = _numbers(source.tag(TIEPOINTS))
    matrix = _numbers(source.tag(TRANSFORMATION))
    keys = _short_keys(source.tag(GEO_KEYS))
    geo: dict[str, Any] = {}
    if scale:
        geo["pixel_scale"] = scale
    if points and len(points) % 6 == 0:
        geo["tiepoints"] = [points[i : i + 6] for i in range(0, len(points), 6)]
    transform = _transform(scale, points, matrix)
    if transform is not None:
        if keys.get(_RASTER_TYPE) == _PIXEL_IS_POINT:
            # The tags locate the centre of the first pixel, the attribute its corner.
            a, b, c, d, e, f = transform
            transform = [a, b, c - (a + b) / 2, d, e, f - (d + e) / 2]
        geo["transform"] = transform
    epsg = _epsg(keys)
    if epsg is not None:
        geo["epsg"] = epsg
    crs = _crs(source, keys, epsg)
    if crs:
        geo["crs"] = crs
    if crs and crs != f"EPSG:{epsg}":
        values = {0: int(source.tag(GEO_KEYS)[2]), **_key_values(source)}
        geo["keys"] = {str(key): value for key, value in values.items()}
    facts.put("geo", geo)
    unit = _unit(keys, epsg)
    if unit and transform is not None and transform[1] == transform[3] == 0:
        facts.put_size("x", abs(transform[0]), unit)
        facts.put_size("y", abs(transform[4]), unit)
    return facts


def _numbers(values: Any) -> list[float]:
    """Numbers of a tag; empty if it holds text, or if one of them is not finite."""
    if values is None or isinstance(values, str | bytes):
        return []
    finite = [n for value in values if (n := number(value)) is not None]
    return finite if len(finite) == len(values) else []


def _transform(
    scale: Sequence[float], points: Sequence[float], matrix: Sequence[float]
) -> list[float] | None:
    """Six numbers a..f: x = a column + b row + c, y = d column + e row + f.

    Computed from a scale and a tiepoint (I, J, K, X, Y, Z), as in section B.6 of the standard, or
    from the matrix. Several tiepoints without a scale are ground control points, which do not
    define an affine transformation, nor do numbers by which places cannot be computed.
    """
    if len(scale) >= 2 and scale[0] and scale[1] and len(points) >= 6:
        across, down = scale[0], -abs(scale[1])
        found = [
            across,
            0.0,
            points[3] - points[0] * across,
            0.0,
            down,
            points[4] - points[1] * down,
        ]
    elif len(matrix) == 16:
        found = [matrix[i] for i in (0, 1, 3, 4, 5, 7)]
    else:
        return None
    area = abs(found[0] * found[4] - found[1] * found[3])
    is_usable = _LEAST_AREA < area < math.inf and all(map(math.isfinite, found))
    return found if is_usable else None


def _short_keys(directory: Any) -> dict[int, int]:
    """Keys whose value is stored in the GeoKey directory itself; an entry has four numbers."""
    if directory is None or len(directory) < 4:
        return {}
    stop = min(len(directory), 4 + 4 * int(directory[3]))  # the count may be wrong
    entries = [directory[i : i + 4] for i in range(4, stop, 4)]
    return {
        int(key): int(value)
        for key, place, count, value in (entry for entry in entries if len(entry) == 4)
        if place == 0 and count == 1
    }


def _epsg(keys: dict[int, int]) -> int | None:
    """Code of the projected or else the geographic system; None if it is user-defined."""
    code = keys.get(_GEODETIC_CRS)
    if _PROJECTED_CRS in keys or keys.get(_MODEL_TYPE) == _PROJECTED:
        code = keys.get(_PROJECTED_CRS)
    return code if code is not None and 1024 <= code < _USER_DEFINED else None


def _crs(source: MetadataSource, keys: dict[int, int], epsg: int | None) -> str:
    """Name of the reference system by which systems can be compared; empty if there is none.

    Systems that are defined by parameters (sections 7.4 and 7.5 of the standard) are named by a
    digest of all their keys. What the file calls them may be about the file; it counts only where
    nothing else defines the system, as in files by ESRI's programs.
    """
    vertical = keys.get(_VERTICAL_CRS)
    height = f"+{vertical}" if vertical is not None and 1024 <= vertical < _USER_DEFINED else ""
    if epsg is not None:
        return f"EPSG:{epsg}{height}"
    values = _key_values(source)
    names = [str(values.pop(key)).strip() for key in _CITATIONS if key in values]
    values.pop(_RASTER_TYPE, None)
    model = values.pop(_MODEL_TYPE, None)
    if not values and not names:
        return ""
    title = "user-defined"
    if not values.keys() & _DEFINING:
        title = next(filter(None, names), title)
    else:
        names = []
    content = repr((model, sorted(values.items()), names))
    return f"{title} ({hashlib.sha256(content.encode()).hexdigest()[:12]})"


def _key_values(source: MetadataSource) -> dict[int, Any]:
    """All GeoKeys with their values, which may be in the tags of doubles and of texts."""
    directory = source.tag(GEO_KEYS)
    if directory is None or len(directory) < 4:
        return {}
    pools: Mapping[int, Any] = {
        _GEO_DOUBLES: _numbers(source.tag(_GEO_DOUBLES)),
        _GEO_TEXTS: source.tag(_GEO_TEXTS) or "",
        GEO_KEYS: directory,
    }
    values: dict[int, Any] = {}
    for i in range(4, min(len(directory) - 3, 4 + 4 * int(directory[3])), 4):
        key, place, count, value = (int(n) for n in directory[i : i + 4])
        if place == 0:
            values[key] = value
            continue
        part = pools.get(place, ())[value : value + count]
        # A "|" ends each text.
        values[key] = part.rstrip("|\0") if isinstance(part, str) else list(part)
    return values


def _unit(keys: dict[int, int], epsg: int | None) -> str | None:
    """Unit of the reference system, if the file gives it or the system is a common one."""
    if keys.get(_MODEL_TYPE) == _GEOGRAPHIC:
        return _UNITS.get(keys.get(_ANGULAR_UNITS, 9102 if epsg in _DEGREES else 0))
    if keys.get(_MODEL_TYPE) == _PROJECTED:
        return _UNITS.get(keys.get(_LINEAR_UNITS, 9001 if epsg in _METRES else 0))
    return None


def read_gdal(source: MetadataSource) -> HeaderFacts:
    """Read what GDAL's XML says of bands: names, units, scales and offsets.

    Names and units are read if all bands have one. A band without scale or offset has 1 and 0
    ("Raster Data Model" of GDAL). The writer escapes the text of an item, and then the document
    (gdal/frmts/gtiff).
    """
    facts = HeaderFacts()
    text = source.tag(GDAL_METADATA)
    if not text:
        return facts
    items: dict[str, dict[str, str]] = {}
    document = parse_xml(text)
    if any(_is_of_categories(document, name) for name in _OF_CATEGORIES):
        facts.put("has_categories", True)
    for item in descendants(document, "Item"):
        values = items.setdefault(item.get("role", ""), {})
        values.setdefault(item.get("sample", ""), unescape(text_of(item), _ENTITIES))
    bands = [str(band) for band in range(source.keyframe.samplesperpixel)]
    names = items.get("description", {})
    facts.put_channels([names.get(band) for band in bands])
    facts.put_coord("s", facts.attrs.get("channel_names", ()))
    units = [items.get("unittype", {}).get(band, "").strip() for band in bands]
    if all(units):
        facts.put("units", units)
    if items.keys() & {"scale", "offset"}:
        scales, offsets = (
            [_finite(items.get(role, {}).get(band), default) for band in bands]
            for role, default in (("scale", 1.0), ("offset", 0.0))
        )
        if any(scale != 1 for scale in scales) or any(offsets):
            facts.put("scale", scales)
            facts.put("offset", offsets)
    return facts


def _is_of_categories(document: Any, name: str) -> bool:
    """Whether elements of a name say that values are categories."""
    found = descendants(document, name)
    if name != "Item":
        return any(True for _ in found)
    kinds = (text_of(each) for each in found if each.get("name") == "LAYER_TYPE")
    return any(kind.strip().lower() == "thematic" for kind in kinds)


def _finite(text: str | None, default: float) -> float:
    """Number of an item; the default if there is none."""
    value = number(text)
    return default if value is None else value


def read_nodata(source: MetadataSource) -> HeaderFacts:
    """Read the value of pixels without data; GDAL writes a number as text, or "nan"."""
    facts = HeaderFacts()
    text = str(source.tag(GDAL_NODATA) or "").strip(" \0")
    if text:
        facts.put("nodata", nodata_number(text))
    return facts
