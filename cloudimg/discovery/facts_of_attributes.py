"""What the attributes of one file say, as values of the columns of facts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cloudimg.discovery.fact_kinds import Fact
from cloudimg.tiff.flavours.facts import MICROMETRE, micrometres

_AS_THEY_ARE = ("elapsed_s", "exposure_s", "objective", "magnification")
_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)


def facts_in(attrs: Mapping[str, Any]) -> dict[str, Fact]:
    """Return what the attributes of one file say, by column; see `cloudimg.tiff.metadata`."""
    found: dict[str, Fact] = {name: attrs[name] for name in _AS_THEY_ARE if name in attrs}
    if "stage_position" in attrs:
        found |= _stage(attrs["stage_position"], attrs["stage_position_unit"])
    if "acquired" in attrs:
        found |= time_facts(attrs["acquired"])
    channels = attrs.get("channel_names", ())
    if len(channels) == 1:
        found["channel"] = channels[0]
    return found


def _stage(position: Mapping[str, float], units: Mapping[str, str]) -> dict[str, Fact]:
    """Positions in micrometres; as they are if none is a length and all have one unit."""
    lengths = {dim: micrometres(value, units[dim]) for dim, value in position.items()}
    known: dict[str, Fact] = {f"stage_{d}": v for d, v in lengths.items() if v is not None}
    if known:
        return {**known, "stage_unit": MICROMETRE}
    if len(set(units.values())) > 1:
        return {}
    as_given: dict[str, Fact] = {f"stage_{dim}": value for dim, value in position.items()}
    return {**as_given, "stage_unit": next(iter(units.values()))}


def time_facts(text: str) -> dict[str, Fact]:
    """Return the columns of a time in ISO 8601; none if it is not one."""
    try:
        moment = datetime.fromisoformat(text)
        own = moment.replace(tzinfo=None)
        utc = own if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return {}
    offset = moment.isoformat().removeprefix(own.isoformat())
    facts: dict[str, Fact] = {"acquired": (utc - _EPOCH) // _MICROSECOND}
    return {**facts, "acquired_offset": offset} if offset else facts
