"""Input and output of the readers of metadata, and the checks that every value passes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from cloudimg.tiff.flavours.planes import PlaneColumns

MICROMETRE = "µm"
"""Spelled with U+00B5, as in OME-XML's UnitsLength."""

# Spellings in files, by the symbol of OME-XML's UnitsLength.
_SPELLINGS = {
    MICROMETRE: "um micron microns micrometer micrometers micrometre micrometres",
    "nm": "nanometer nanometers nanometre nanometres",
    "mm": "millimeter millimeters millimetre millimetres",
    "cm": "centimeter centimeters centimetre centimetres",
    "m": "meter meters metre metres",
    "inch": 'in inches "',
    "Å": "å angstrom angstroms ångström",
    "": "pixel pixels px none",
}
_UNITS = {word: unit for unit, words in _SPELLINGS.items() for word in words.split()}
_MICROMETRES = {"pm": 1e-6, "Å": 1e-4, "nm": 1e-3, MICROMETRE: 1.0, "mm": 1e3, "cm": 1e4}
_MICROMETRES |= {"m": 1e6, "km": 1e9, "inch": 25400.0}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "second": 1.0}
_SECONDS |= {"seconds": 1.0, "min": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0}
_SECONDS |= {"hr": 3600.0, "hour": 3600.0, "hours": 3600.0, "d": 86400.0, "day": 86400.0}
_TIME = re.compile(
    r"\s*(\d{4})[:/-](\d\d)[:/-](\d\d)[ T]+(\d\d):(\d\d):(\d\d)(\.\d+)? ?(Z|[+-]\d\d:?\d\d)?\s*"
)
_UNIT = re.compile(r"[^\W\d_][\w .]{0,31}")
"""Texts that may be the name of a unit; some programs write other things in its place."""
_MAGNIFICATION = re.compile(r"(\d+(?:\.\d+)?)\s*[x×]", re.IGNORECASE)
_MAX_TAG_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class MetadataSource:
    """An image of a file that tifffile parsed."""

    tiff: Any
    """The `tifffile.TiffFile`, or an object with the attributes that the readers use."""
    series: Any
    """The `tifffile.TiffPageSeries`, or an object with the attributes that the readers use."""
    dims: tuple[str, ...]
    """Names of the axes of `series`, in its order."""
    index: int
    """Number of the image in the file."""

    @property
    def first(self) -> Any:
        """First page of the file, which holds the metadata of the file in most flavours."""
        return self.tiff.pages.first

    @property
    def keyframe(self) -> Any:
        """Page whose tags describe all pages of the image."""
        return self.series.keyframe

    @property
    def is_main(self) -> bool:
        """Whether it is the first image of the file; the others may be labels or thumbnails."""
        return self.index == 0

    def dim(self, letter: str) -> str | None:
        """Name of the axis with one of tifffile's letters, None if there is no such axis."""
        at = str(self.series.axes).find(letter)
        return self.dims[at] if 0 <= at < len(self.dims) else None

    def length(self, dim: str) -> int | None:
        """Length of an axis, None if there is no such axis."""
        return int(self.series.shape[self.dims.index(dim)]) if dim in self.dims else None

    def tag(self, code: int, page: Any = None) -> Any:
        """Value of a tag of the keyframe or of another page, None if it is absent.

        Raises
        ------
        ValueError
            The value is too large to be worth fetching.
        """
        tag = (self.keyframe if page is None else page).tags.get(code)
        if tag is None:
            return None
        if tag.valuebytecount > _MAX_TAG_BYTES:
            raise ValueError(f"tag {code} has {tag.valuebytecount} bytes")
        return tag.value


@dataclass(slots=True)
class HeaderFacts:
    """Metadata of an image. The first value of each item is kept."""

    attrs: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Pixel size and its unit, by dim."""
    stage: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Stage position and its unit, by dim."""
    coords: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Coordinates, by dim."""
    moving: set[str] = field(default_factory=set)
    """Dims along which the stage is elsewhere at another plane."""
    planes: PlaneColumns | None = None
    """What is said of each plane; None if nothing is."""

    def put(self, name: str, value: Any) -> None:
        """Set an attribute, unless the value is None or empty."""
        if value is not None and not (isinstance(value, str | list | dict) and not value):
            self.attrs.setdefault(name, value)

    def put_size(self, dim: str, size: Any, unit: str, *, factor: float = 1.0) -> None:
        """Set the pixel size, unless it is not a size that a pixel can have."""
        value = positive(size)
        unit = unit_name(unit)
        if value is not None and _UNIT.fullmatch(unit) and positive(value * factor):
            self.sizes.setdefault(dim, (value * factor, unit))

    def put_stage(self, x: Any, y: Any, unit: str, *, factor: float = 1.0) -> None:
        """Set the stage position, if both axes have one: one alone does not locate an image."""
        values = {"x": number(x), "y": number(y)}
        if "x" not in self.stage:
            lengths = {dim: v * factor for dim, v in values.items() if v is not None}
            if len(lengths) == 2:
                self.stage |= {dim: (v, unit_name(unit) or unit) for dim, v in lengths.items()}

    def put_stage_z(self, z: Any, unit: str, *, factor: float = 1.0) -> None:
        """Set the stage position along z, which is meaningful without the other two."""
        value = number(z)
        if value is not None:
            self.stage.setdefault("z", (value * factor, unit_name(unit) or unit))

    def put_channels(self, names: Iterable[Any], colors: Iterable[int | None] = ()) -> None:
        """Set names and colours of channels, if all of them have one."""
        texts = [str(name).strip() if name is not None else "" for name in names]
        if texts and all(texts):
            self.put("channel_names", texts)
        all_colors = list(colors)
        if all_colors and None not in all_colors:
            self.put("channel_colors", all_colors)

    def put_coord(self, dim: str | None, values: Iterable[Any]) -> None:
        """Set the coordinates of an axis, labels or numbers, unless there are none."""
        labels = tuple(values)
        if dim is not None and labels:
            self.coords.setdefault(dim, labels)

    def add(self, other: HeaderFacts) -> None:
        """Add the items of another reader that are not set yet."""
        for mine, theirs in (
            (self.attrs, other.attrs),
            (self.sizes, other.sizes),
            (self.stage, other.stage),
            (self.coords, other.coords),
        ):
            mine |= {name: value for name, value in theirs.items() if name not in mine}
        self.planes = self.planes or other.planes


def number(value: Any) -> float | None:
    """Convert a number or a text to a finite number; None if it is not one."""
    if value is None or isinstance(value, bool | bytes | list | tuple | dict):
        return None
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def positive(value: Any) -> float | None:
    """Convert a number or a text to a finite number above zero; None if it is not one."""
    result = number(value)
    return result if result is not None and result > 0 else None


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty mapping."""
    return value if isinstance(value, Mapping) else {}


def unit_name(text: str) -> str:
    """A unit of length in the spelling of OME-XML; empty for pixels, other texts unchanged."""
    unit = text.strip(" \t\r\n\0")
    # The Greek letter, the escape that ImageJ writes, and UTF-8 that was read as Latin-1.
    for spelling in ("\u03bc", "\\u00B5", "\\u00b5", "\u00c2\u00b5"):
        unit = unit.replace(spelling, "\u00b5")
    return _UNITS.get(unit.lower(), unit)


def micrometres(value: float, unit: str) -> float | None:
    """A length in micrometres, None if the unit is not a length."""
    factor = _MICROMETRES.get(unit_name(unit))
    return None if factor is None else value * factor


def seconds(value: Any, unit: str) -> float | None:
    """A time in seconds, None if the value is not a number or the unit not a time."""
    amount = number(value)
    factor = _SECONDS.get(unit.strip(" \0").replace("\u03bc", "\u00b5").lower())
    return None if amount is None or factor is None else amount * factor


def iso_time(value: Any) -> str | None:
    """A time in ISO 8601, with a zone only if it has one; None if the value is not a time."""
    if isinstance(value, datetime):
        return value.isoformat() if value.year > 1 else None
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    fraction = (fraction or "")[:7]
    text = f"{year}-{month}-{day}T{hour}:{minute}:{second}{fraction}{zone or ''}"
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:  # cameras without a clock write zeros or blanks
        return None


def time_of(text: str, *formats: str) -> str | None:
    """Parse a time by the first `datetime.strptime` format that fits, and return it in ISO 8601."""
    for form in formats:
        try:
            return datetime.strptime(text.strip(), form).isoformat()
        except ValueError:
            continue
    return None


def rgba(red: int, green: int, blue: int, alpha: int = 255) -> int:
    """A colour as in OME-XML: RGBA in a signed 32-bit integer."""
    return int.from_bytes(bytes((red, green, blue, alpha)), "big", signed=True)


def magnification_in(text: Any) -> float | None:
    """Magnification in the name of an objective, as in "Plan-Apochromat 63x/1.40 Oil"."""
    match = _MAGNIFICATION.search(text) if isinstance(text, str) else None
    return positive(match.group(1)) if match else None


def is_monotone(values: Sequence[float]) -> bool:
    """Whether numbers strictly increase or strictly decrease, as coordinates do."""
    steps = [b - a for a, b in pairwise(values)]
    return all(step > 0 for step in steps) or all(step < 0 for step in steps)
