"""Units of length and of time: which OME-Zarr has, and how long the others are. Pure.

OME-Zarr's are names of UDUNITS: https://ngff.openmicroscopy.org/0.5/#axes-md. The symbols are those
of OME-XML, https://www.openmicroscopy.org/Schemas/Documentation/Generated/OME-2016-06/ome_xsd.html
(UnitsLength and UnitsTime), and what programs write in their place.
"""

from __future__ import annotations

from collections.abc import Mapping

_PREFIXES = {
    "yotta": ("Y", 24), "zetta": ("Z", 21), "exa": ("E", 18), "peta": ("P", 15), "tera": ("T", 12),
    "giga": ("G", 9), "mega": ("M", 6), "kilo": ("k", 3), "hecto": ("h", 2), "deci": ("d", -1),
    "centi": ("c", -2), "milli": ("m", -3), "micro": ("\u00b5", -6), "nano": ("n", -9),
    "pico": ("p", -12), "femto": ("f", -15), "atto": ("a", -18), "zepto": ("z", -21),
    "yocto": ("y", -24),
}  # fmt: skip
"""Symbols and powers of ten of the prefixes with which OME-Zarr has units."""
_OTHER_LENGTHS = {
    "angstrom": 1e-10, "inch": 0.0254, "foot": 0.3048, "yard": 0.9144, "mile": 1609.344,
    "parsec": 3.0856775814913673e16,
}  # fmt: skip
_NOT_OF_OME_ZARR = {
    "thou": 2.54e-5, "line": 0.0254 / 12, "point": 0.0254 / 72, "decameter": 10.0,
    "astronomical unit": 1.495978707e11, "light year": 9.4607304725808e15,
}  # fmt: skip
"""Units of OME-XML that OME-Zarr lacks, in metres."""
_OTHER_TIMES = {"minute": 60.0, "hour": 3600.0, "day": 86400.0}
_METRES: Mapping[str, float] = {
    "meter": 1.0,
    **{f"{name}meter": 10.0**power for name, (_, power) in _PREFIXES.items()},
    **_OTHER_LENGTHS,
    **_NOT_OF_OME_ZARR,
}
_SECONDS: Mapping[str, float] = {
    "second": 1.0,
    **{f"{name}second": 10.0**power for name, (_, power) in _PREFIXES.items()},
    **_OTHER_TIMES,
}
_LENGTHS = {
    "m": "meter", **{f"{symbol}m": f"{name}meter" for name, (symbol, _) in _PREFIXES.items()},
    "um": "micrometer", "micron": "micrometer", "dam": "decameter", "\u00c5": "angstrom",
    "\u212b": "angstrom", "in": "inch", "inches": "inch", '"': "inch", "ft": "foot", "feet": "foot",
    "yd": "yard", "mi": "mile", "li": "line", "pt": "point", "pc": "parsec",
    "ua": "astronomical unit", "ly": "light year", "dekameter": "decameter",
}  # fmt: skip
_TIMES = {
    "s": "second", **{f"{symbol}s": f"{name}second" for name, (symbol, _) in _PREFIXES.items()},
    "us": "microsecond", "sec": "second", "min": "minute", "h": "hour", "hr": "hour", "d": "day",
}  # fmt: skip
_SYMBOLS = {"thou": "thou"} | {
    name: text for names in (_LENGTHS, _TIMES) for text, name in reversed(list(names.items()))
}
"""Of each unit the first spelling, which is that of OME-XML."""
_LONGEST_SYMBOL = 3
"""Greatest length of the symbol of a unit; anything longer is a word."""


def unit_name(dim: str, text: str) -> str | None:
    """Name in UDUNITS of a unit of an axis, of time along ``t``; None if it is not known."""
    symbols, names = (_TIMES, _SECONDS) if dim == "t" else (_LENGTHS, _METRES)
    text = text.strip().replace("\u03bc", "\u00b5").replace("metre", "meter")
    for spelled in (text, text.lower(), text.lower().removesuffix("s")):
        # Case and plural can be ignored in words only: as symbols, "mm" is not "Mm".
        if spelled == text or len(text) > _LONGEST_SYMBOL:
            name = spelled if spelled in names else symbols.get(spelled)
            if name is not None:
                return name
    return None


def is_length(unit: str | None) -> bool:
    """Whether a unit, by its name, is one of length."""
    return unit in _METRES


def symbol_of(unit: str | None) -> str | None:
    """Symbol of a unit in OME-XML, by its name; None if it is not known."""
    return _SYMBOLS.get(unit or "")


def is_of_ome_zarr(unit: str) -> bool:
    """Whether OME-Zarr has a unit."""
    return unit not in _NOT_OF_OME_ZARR


def ratio(unit: str, other: str) -> float:
    """How many of another unit of the same kind make a unit."""
    sizes = _METRES if unit in _METRES else _SECONDS
    return sizes[unit] / sizes[other]


def converted(value: float, unit: str | None, other: str | None) -> float:
    """A value in another unit, without the digits that rounding added.

    It stays as it is where one of the units is not known, or is of another kind.
    """
    if unit == other or unit is None or other is None:
        return value
    if not any({unit, other} <= sizes.keys() for sizes in (_METRES, _SECONDS)):
        return value
    return float(f"{value * ratio(unit, other):.14g}")
