"""Check the facts of an image as a journal has them, field by field. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cloudimg.errors.checked_json import (
    checked_bool,
    checked_int,
    checked_list,
    checked_mapping,
    checked_notes,
    checked_number,
    checked_object,
    checked_optional_text,
    checked_plain,
    checked_text,
    checked_texts,
)
from cloudimg.migration.metadata.companions import checked_companions
from cloudimg.tiff.colours.channels import PixelColours

_REQUIRED = (
    "name", "scales", "origins", "channel_names", "channel_colors", "coords", "coord_attrs",
    "units", "attrs", "ome_xml", "provenance",
)  # fmt: skip
_OPTIONAL = (
    "image_origins",
    "stage_starts",
    "stated",
    "colours",
    "notes",
    "source_notes",
    "label_of",
    "companion",
    "companions",
)
_OF_COLOURS = ("space", "n_samples", "has_opacity", "n_bits", "ranges")
_MOST_OME_XML = 2**28
_COLOR = re.compile(r"[0-9A-Fa-f]{6}")
_MOST_STEPS = 2**26
_MOST_EQUAL = 2**20
"""Most coordinates that are all equal: these alone are made as a list."""


def checked_facts(stored: Any) -> dict[str, Any]:
    """The fields of `ImageFacts`, from its JSON.

    Raises
    ------
    ValueError
        If a field is missing or unknown, or has another type or size than it can have.
    """
    checked_object(stored, "facts", required=_REQUIRED, optional=_OPTIONAL)
    checked_optional_text(stored["name"], "facts.name")
    checked_optional_text(stored["ome_xml"], "facts.ome_xml", most=_MOST_OME_XML)
    starts = checked_mapping(stored.get("stage_starts", {}), "facts.stage_starts")
    origins = checked_mapping(stored["origins"], "facts.origins")
    for name, origin in (*origins.items(), *starts.items()):
        checked_number(origin, f"facts.origins.{name}")
    image_origins = {
        name: tuple(_optional_numbers(each, f"facts.image_origins.{name}"))
        for name, each in checked_mapping(
            stored.get("image_origins", {}), "facts.image_origins"
        ).items()
    }
    for name, unit in checked_mapping(stored["units"], "facts.units").items():
        checked_text(unit, f"facts.units.{name}")
    for name, coord in checked_mapping(stored["coords"], "facts.coords").items():
        _check_coordinate(coord, f"facts.coords.{name}")
    for name, attrs in checked_mapping(stored["coord_attrs"], "facts.coord_attrs").items():
        where = f"facts.coord_attrs.{name}"
        checked_plain(checked_mapping(attrs, where), where)
        if "dims" in attrs:
            checked_texts(attrs["dims"], f"{where}.dims", most=64)
    for name in ("attrs", "provenance"):
        checked_plain(checked_mapping(stored[name], f"facts.{name}"), f"facts.{name}")
    colors = checked_texts(stored["channel_colors"], "facts.channel_colors")
    for i, color in enumerate(colors):
        checked_text(color, f"facts.channel_colors[{i}]", pattern=_COLOR)
    return {
        **stored,
        "scales": _scales(stored["scales"]),
        "image_origins": image_origins,
        "stated": tuple(checked_texts(stored.get("stated", []), "facts.stated")),
        "channel_names": tuple(checked_texts(stored["channel_names"], "facts.channel_names")),
        "channel_colors": tuple(colors),
        "colours": _colours(stored.get("colours")),
        "companion": checked_optional_text(stored.get("companion"), "facts.companion"),
        "companions": checked_companions(stored.get("companions", []), "facts.companions"),
        "label_of": checked_optional_text(stored.get("label_of"), "facts.label_of", most=256),
        "notes": tuple(checked_texts(stored.get("notes", []), "facts.notes")),
        "source_notes": checked_notes(stored.get("source_notes", []), "facts.source_notes"),
    }


def _colours(stored: Any) -> PixelColours | None:
    if stored is None:
        return None
    where = "facts.colours"
    checked_object(stored, where, required=_OF_COLOURS)
    n_bits = stored["n_bits"]
    ranges = checked_list(stored["ranges"], f"{where}.ranges")
    windows = [checked_list(each, f"{where}.ranges", n=2) for each in ranges]
    return PixelColours(
        space=checked_text(stored["space"], f"{where}.space", most=256),
        n_samples=checked_int(stored["n_samples"], f"{where}.n_samples", least=1),
        has_opacity=checked_bool(stored["has_opacity"], f"{where}.has_opacity"),
        n_bits=None if n_bits is None else checked_int(n_bits, f"{where}.n_bits", greatest=64),
        ranges=tuple(
            (
                checked_number(low, f"{where}.ranges"),
                checked_number(high, f"{where}.ranges"),
            )
            for low, high in windows
        ),
    )


def _optional_numbers(stored: Any, where: str) -> Iterator[float | None]:
    for each in checked_list(stored, where):
        yield None if each is None else checked_number(each, where)


def _scales(stored: Any) -> dict[str, tuple[float, str | None]]:
    scales = {}
    for dim, each in checked_mapping(stored, "facts.scales").items():
        value, unit = checked_list(each, f"facts.scales.{dim}", n=2)
        number = checked_number(value, f"facts.scales.{dim}")
        scales[dim] = number, checked_optional_text(unit, f"the unit in facts.scales.{dim}")
    return scales


def _check_coordinate(stored: Any, where: str) -> None:
    """Check a coordinate in the form of `cloudimg.migration.metadata.coordinates`."""
    if not isinstance(stored, Mapping):
        checked_plain(stored, where)
        return
    checked_object(stored, where, required=("start", "step", "count"))
    # Labels are integers of 64 bits.
    checked_int(stored["start"], f"{where}.start", least=-(2**63), greatest=2**64)
    step = checked_int(stored["step"], f"{where}.step", least=-(2**63), greatest=2**63)
    most = _MOST_STEPS if step else _MOST_EQUAL
    checked_int(stored["count"], f"{where}.count", greatest=most)
