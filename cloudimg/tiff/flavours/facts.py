"""What readers of metadata take and give, and the checks that every value passes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

MICROMETRE = "µm"
"""With U+00B5, as OME-XML's UnitsLength has it."""

# Spellings that are found in files, by the symbol of OME-XML's UnitsLength.
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
"""What may be the name of a unit, among what programs write in its place."""
_MAGNIFICATION = re.compile(r"(\d+(?:\.\d+)?)\s*[x×]", re.IGNORECASE)
_MAX_TAG_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class MetadataSource:
    """An image of a file that tifffile parsed."""

    tiff: Any
    series: Any
    dims: tuple[str, ...]
    """Names of the axes of `series`, in its order."""
    index: int
    """Which image of the file."""

    @property
    def first(self) -> Any:
        """The first page of the file, which speaks for the file in most flavours."""
        return self.tiff.pages.first

    @property
    def keyframe(self) -> Any:
        """The page that speaks for the image."""
        return self.series.keyframe

    @property
    def is_main(self) -> bool:
        """Whether it is the first image, not a label or a thumbnail beside it."""
        return self.index == 0

    def dim(self, letter: str) -> str | None:
        """Name of the axis that has one of tifffile's letters."""
        at = str(self.series.axes).find(letter)
        return self.dims[at] if 0 <= at < len(self.dims) else None

    def length(self, dim: str) -> int | None:
        """Length of an axis, None where there is none of that name."""
        return int(self.series.shape[self.dims.index(dim)]) if dim in self.dims else None

    def tag(self, code: int, page: Any = None) -> Any:
        """Value of a tag of the keyframe or of another page, None where it is absent.

        Raises
        ------
        ValueError
            The value is so large that fetching it would cost more than it tells.
        """
        tag = (self.keyframe if page is None else page).tags.get(code)
        if tag is None:
            return None
        if tag.valuebytecount > _MAX_TAG_BYTES:
            raise ValueError(f"tag {code} has {tag.valuebytecount} bytes")
        return tag.value


@dataclass(slots=True)
class HeaderFacts:
    """What was found. Of two findings of the same thing the first one counts."""

    attrs: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Size of a pixel and its unit, by dim."""
    stage: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Position of the stage and its unit, by dim."""
    coords: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def put(self, name: str, value: Any) -> None:
        """Note an attribute, unless there is nothing to note."""
        if value is not None and not (isinstance(value, str | list | dict) and not value):
            self.attrs.setdefault(name, value)

    def put_size(self, dim: str, size: Any, unit: str, *, factor: float = 1.0) -> None:
        """Note the size of a pixel, unless it is none that a pixel can have."""
        value = positive(size)
        unit = unit_name(unit)
        if value is not None and _UNIT.fullmatch(unit) and positive(value * factor):
            self.sizes.setdefault(dim, (value * factor, unit))

    def put_stage(self, x: Any, y: Any, unit: str, *, factor: float = 1.0) -> None:
        """Note the position of the stage: of one axis alone it says nothing about overlap."""
        values = {"x": number(x), "y": number(y)}
        if not self.stage:
            known = {dim: v * factor for dim, v in values.items() if v is not None}
            if len(known) == 2:
                self.stage = {dim: (v, unit_name(unit) or unit) for dim, v in known.items()}

    def put_channels(self, names: Iterable[Any], colors: Iterable[int | None] = ()) -> None:
        """Note names and colours of channels, where all of them have one."""
        texts = [str(name).strip() if name is not None else "" for name in names]
        if texts and all(texts):
            self.put("channel_names", texts)
        known = list(colors)
        if known and None not in known:
            self.put("channel_colors", known)

    def put_coord(self, dim: str | None, values: Iterable[Any]) -> None:
        """Note the coordinates of an axis, labels or numbers, if there are any."""
        known = tuple(values)
        if dim is not None and known:
            self.coords.setdefault(dim, known)

    def add(self, other: HeaderFacts) -> None:
        """Note what another reader found and nobody has found before."""
        for mine, theirs in (
            (self.attrs, other.attrs),
            (self.sizes, other.sizes),
            (self.coords, other.coords),
        ):
            mine |= {name: value for name, value in theirs.items() if name not in mine}
        self.stage = self.stage or other.stage


def number(value: Any) -> float | None:
    """A finite number from a number or a text, else None."""
    if value is None or isinstance(value, bool | bytes | list | tuple | dict):
        return None
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def positive(value: Any) -> float | None:
    """A finite number above zero, else None."""
    result = number(value)
    return result if result is not None and result > 0 else None


def mapping(value: Any) -> Mapping[str, Any]:
    """A mapping as it is, and an empty one for whatever else a file has in its place."""
    return value if isinstance(value, Mapping) else {}


def unit_name(text: str) -> str:
    """A unit of length in the spelling of OME-XML; empty for pixels, others as they are."""
    unit = text.strip(" \t\r\n\0")
    # The Greek letter, the escape that ImageJ writes, and UTF-8 that was read as Latin-1.
    for spelling in ("\u03bc", "\\u00B5", "\\u00b5", "\u00c2\u00b5"):
        unit = unit.replace(spelling, "\u00b5")
    return _UNITS.get(unit.lower(), unit)


def micrometres(value: float, unit: str) -> float | None:
    """A length in micrometres, None where the unit is no length."""
    factor = _MICROMETRES.get(unit_name(unit))
    return None if factor is None else value * factor


def seconds(value: Any, unit: str) -> float | None:
    """A time in seconds, None where it is none."""
    amount = number(value)
    factor = _SECONDS.get(unit.strip(" \0").replace("\u03bc", "\u00b5").lower())
    return None if amount is None or factor is None else amount * factor


def iso_time(value: Any) -> str | None:
    """A time as ISO 8601 writes it, None for what is no time; with a zone only where it has one."""
    if isinstance(value, datetime):
        return value.isoformat() if value.year > 1 else None
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    fraction = (fraction or "")[:7]
    text = f"{year}-{month}-{day}T{hour}:{minute}:{second}{fraction}{zone or ''}"
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:  # cameras that do not know write zeros or blanks
        return None


def time_of(text: str, *formats: str) -> str | None:
    """A time in one of the formats of `datetime.strptime`, as ISO 8601."""
    for form in formats:
        try:
            return datetime.strptime(text.strip(), form).isoformat()
        except ValueError:
            continue
    return None


def rgba(red: int, green: int, blue: int, alpha: int = 255) -> int:
    """A colour as OME-XML has it: RGBA in a signed integer of 32 bits."""
    return int.from_bytes(bytes((red, green, blue, alpha)), "big", signed=True)


def magnification_in(text: Any) -> float | None:
    """The magnification in the name of an objective, as in "Plan-Apochromat 63x/1.40 Oil"."""
    found = _MAGNIFICATION.search(text) if isinstance(text, str) else None
    return positive(found.group(1)) if found else None


def is_monotone(values: Sequence[float]) -> bool:
    """Whether numbers rise or fall all along, as coordinates do."""
    steps = [b - a for a, b in pairwise(values)]
    return all(step > 0 for step in steps) or all(step < 0 for step in steps)
