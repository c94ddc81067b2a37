"""Names and colours of channels. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.tiff.colours.channels import rrggbb

_RGB = ("red", "green", "blue", "alpha")
_YCBCR = {"luma": "Y", "cb": "Cb", "cr": "Cr"}
_OPACITY = "alpha: "
_BY_CHANNEL = ("channel_names", "channel_colors", "display_ranges")
"""Attributes with an item for each channel."""


def channels_of(
    axes_mapping: AxesMapping, attrs: Mapping[str, Any], coords: Any
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and colours of the channels of each image; empty if they are unknown.

    Parameters
    ----------
    axes_mapping : AxesMapping
    attrs : mapping
        Attributes of the headers.
    coords : sequence or None
        Coordinates along the channel axis of the source.
    """
    names = tuple(str(each) for each in attrs.get("channel_names") or ())
    colors = tuple(rrggbb(each) for each in attrs.get("channel_colors") or ())
    if "c" not in axes_mapping.dims:
        return names[:1], colors[:1]
    n_channels = axes_mapping.shape[axes_mapping.dims.index("c")]
    names = _distinct(names, coords)
    if "s" in axes_mapping.source_dims:
        samples = _names_of_samples(attrs, axes_mapping.n_samples)
        if samples and len(names) != n_channels:
            names = _samples(names, coords, samples, n_channels)
    return (
        names if len(names) == n_channels else (),
        colors if len(colors) == n_channels else (),
    )


def attributes_of_chosen(
    attrs: Mapping[str, Any], names: Sequence[str], n_channels: int
) -> dict[str, Any]:
    """Attributes of an array of which channels were chosen, maybe in another order, or named anew.

    Parameters
    ----------
    attrs : mapping
        Attributes of the image from which it was made.
    names : sequence of str
        Names of its channels; empty if coordinates do not have them.
    n_channels : int
        Length of its axis c, 1 without one.
    """
    known = {name: attrs[name] for name in _BY_CHANNEL if isinstance(attrs.get(name), list)}
    kept = {name: value for name, value in attrs.items() if name not in _BY_CHANNEL}
    before = known.get("channel_names", [])
    positions = _positions_of_chosen(before, names)
    if positions is None and all(len(each) == n_channels for each in known.values()):
        positions = list(range(n_channels))
    for name, values in known.items():
        if positions and len(values) > max(positions):
            kept[name] = [values[i] for i in positions]
    return {**kept, "channel_names": list(names)} if names and before else kept


def _positions_of_chosen(before: Sequence[str], names: Sequence[str]) -> list[int] | None:
    """Positions of channels before they were chosen; empty if that is not clear.

    None if they were not chosen by these names: all are kept, have none, or were named anew.
    """
    if list(names) == list(before) or not set(names) & set(before):
        return None
    is_clear = len(set(before)) == len(before) and set(names) <= set(before)
    return [before.index(each) for each in names] if is_clear else []


def _names_of_samples(attrs: Mapping[str, Any], n_samples: int) -> tuple[str, ...]:
    """Names of the samples of a pixel; empty if they have none, or several of grey the same."""
    space = attrs.get("color_space", "rgb")
    samples = tuple(attrs.get("samples") or ())
    if not samples and space == "rgb" and n_samples in (3, 4):
        return _RGB[:n_samples]
    names = ["alpha" if each.startswith(_OPACITY) else _YCBCR.get(each, each) for each in samples]
    if len(names) != n_samples:
        return ()
    if len(set(names)) < n_samples:
        if str(space).startswith("gray"):
            return ()
        names = [f"{each} {i}" if names.count(each) > 1 else each for i, each in enumerate(names)]
    return tuple(names)


def _samples(
    names: tuple[str, ...], coords: Any, samples: tuple[str, ...], n_channels: int
) -> tuple[str, ...]:
    """Names of the samples of each channel of the source: "GFP red" and so on."""
    n_source = n_channels // len(samples)
    if len(names) != n_source:
        labels = range(n_source) if coords is None or len(coords) != n_source else coords
        names = tuple(map(str, labels)) if n_source > 1 else ("",)
    return tuple(f"{name} {sample}".strip() for name in names for sample in samples)


def _distinct(names: tuple[str, ...], coords: Any) -> tuple[str, ...]:
    """Names of channels, preceded by their coordinates if several channels share a name."""
    labels = () if coords is None else tuple(map(str, coords))
    if len(set(names)) == len(names) or len(set(labels)) != len(names):
        return names
    return tuple(f"{label} {name}" for label, name in zip(labels, names, strict=True))
