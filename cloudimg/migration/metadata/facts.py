"""`ImageFacts`: what is known about an image besides its pixels. Pure; storable as JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np

from cloudimg.colours.channels import PixelColours
from cloudimg.errors.notes import Note, joined_notes, notes_as_json
from cloudimg.migration.metadata.attributes import small_attributes
from cloudimg.migration.metadata.channels import channels_of
from cloudimg.migration.metadata.coordinates import (
    compact_coordinates,
    expand_coordinates,
    xarray_coordinates,
)
from cloudimg.migration.metadata.facts_from_json import checked_facts
from cloudimg.migration.metadata.positions import (
    in_one_unit,
    positions_of_coordinates,
    positions_of_headers,
)
from cloudimg.migration.plain_json import to_plain
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.reading.agreement import (
    differences_since,
    differing_facts,
    without_coordinates,
    without_facts,
)
from cloudimg.reading.file_facts import FileFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """Everything besides the plan from which the metadata is made, in the terms of OME-Zarr."""

    name: str | None = None
    """Name of the image."""
    scales: Mapping[str, tuple[float, str | None]] = field(default_factory=dict)
    """Distance between neighbouring pixels and its unit, by dim."""
    origins: Mapping[str, float] = field(default_factory=dict)
    """Position of the first pixel in the same unit, by dim."""
    channel_names: tuple[str, ...] = ()
    """Names of the channels, with samples as channels; empty if unknown."""
    channel_colors: tuple[str, ...] = ()
    """Colours of the channels as RRGGBB; empty if unknown."""
    colours: PixelColours | None = None
    """What decides how the channels are shown, except their own colours; None in plans of older
    versions, whose copies are shown by other rules."""
    coords: Mapping[str, Any] = field(default_factory=dict)
    """Coordinates by name: lists, or start, step and count if they are regular."""
    coord_attrs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Attributes of coordinates by name, such as ``units``, or ``dims`` if along other axes."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Units of dims without a known distance between pixels, such as those with one pixel."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Attributes that all headers share, as far as they were read, or of an `xarray.DataArray`."""
    ome_xml: str | None = None
    """OME-XML of the source, unchanged."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Source, options and version of the copy, without credentials."""
    notes: tuple[str, ...] = ()
    """Messages about what the source has and the copy lacks."""
    source_notes: tuple[Note, ...] = ()
    """What was noticed about the source's files."""

    @property
    def spacing(self) -> Mapping[str, float]:
        """Distance between pixels by axis of space, if all have one unit."""
        known = {dim: self.scales[dim] for dim in ("z", "y", "x") if dim in self.scales}
        has_one = len({unit for _, unit in known.values()}) == 1
        return {dim: size for dim, (size, _) in known.items()} if has_one else {}

    @property
    def all_notes(self) -> tuple[str, ...]:
        """What the copy lacks, and what was noticed about the source's files."""
        return (*self.notes, *self.source_notes)

    def with_notes(self, found: Iterable[Note]) -> Self:
        """The facts with what the cells noticed about the source's files, too.

        What notes say to differ from file to file is left out.
        """
        notes = joined_notes(self.source_notes, found)
        differing = differing_facts(notes)
        facts = self._without(differing) if differing else self
        return replace(facts, source_notes=notes)

    def following(self, before: Self) -> Self:
        """The facts of a migration that goes on after files were replaced, maybe the first one.

        Finished cells compared their files with what was known `before`; what differs from that
        is left out.

        Raises
        ------
        MismatchError
            If it must not differ.
        """
        was, is_now = (FileFacts.of(each.to_json()["attrs"], {}) for each in (before, self))
        if was is None or is_now is None:
            return self
        allowed = (self.provenance.get("options") or {}).get("allow_differences", ())
        known = {note.kind for note in self.source_notes}
        # A migration goes on by the rules that it began with.
        kept = self if before.colours is not None else replace(self, colours=None)
        earlier = (n for n in before.source_notes if differing_facts([n]) and n.kind not in known)
        return kept.with_notes([*earlier, *differences_since(is_now, was, allowed)])

    def _without(self, names: Collection[str]) -> Self:
        """The facts without some that files do not share; see `cloudimg.reading.agreement`."""
        attrs = without_facts(self.attrs, names)
        coords = {name: self.coords[name] for name in without_coordinates(self.coords, names)}
        lost = set(self.coords) - set(coords)
        unknown = set(lost)
        unknown -= {*attrs.get("pixel_size", ()), *(("t",) if "time_step_s" in attrs else ())}
        unknown |= set("xyz") if "pixel_size" in names else set()
        unknown |= {"t"} if "time_step_s" in names else set()
        # Channels that are samples have names that no attribute gives.
        dropped = set(self.attrs) - set(attrs)
        return replace(
            self,
            attrs=attrs,
            coords=coords,
            scales={dim: scale for dim, scale in self.scales.items() if dim not in unknown},
            origins={dim: at for dim, at in self.origins.items() if dim not in lost},
            channel_names=() if "channel_names" in dropped else self.channel_names,
            channel_colors=() if "channel_colors" in dropped else self.channel_colors,
            colours=None if self.colours is None else self.colours.without(dropped),
        )

    def coordinates(self, dim: str) -> Sequence[Any]:
        """Coordinates along a dim; empty if there are none."""
        return expand_coordinates(self.coords.get(dim, ()))

    def to_json(self) -> dict[str, Any]:
        """The facts as JSON, as the journal stores them."""
        plain: dict[str, Any] = to_plain(asdict(self))
        # Without notes, the plan has the bytes that versions before them gave it.
        del plain["source_notes"]
        if self.colours is None:
            del plain["colours"]
        return plain | notes_as_json("source_notes", self.source_notes)

    @classmethod
    def from_json(cls, stored: Any) -> Self:
        """Restore facts from `to_json`.

        Raises
        ------
        ValueError
            If a field is missing or unknown, or has another type or size than it can have.
        """
        return cls(**checked_facts(stored))


def facts_of_image(
    axes_mapping: AxesMapping,
    coords: Mapping[str, Any],
    attrs: Mapping[str, Any],
    *,
    origins: Mapping[str, float],
    dtype: np.dtype[Any],
    name: str | None,
    ome_xml: str | None,
    provenance: Mapping[str, Any],
    source_notes: Iterable[Note] = (),
) -> ImageFacts:
    """Collect the facts of an image that is read from files.

    Parameters
    ----------
    axes_mapping : AxesMapping
    coords, attrs : mappings
        See `cloudimg.Image.coords` and `cloudimg.Image.attrs`.
    origins : mapping
        Where a part of an image begins, by dim, unless coordinates say so.
    dtype : numpy.dtype
    name : str, optional
    ome_xml : str, optional
    provenance : mapping
    source_notes : iterable of Note
        See `cloudimg.Image.notes`.
    """
    positions, coord_attrs = positions_of_headers(axes_mapping, coords, attrs)
    of_channels = coords.get("c")
    if of_channels is not None and np.ndim(of_channels) == 0:
        of_channels = None  # the label of the only channel, whose axis was dropped
    names, colors = channels_of(axes_mapping, attrs, of_channels)
    small_attrs, attribute_notes = small_attributes(attrs)
    of_part = {dim: at for dim, at in origins.items() if dim in axes_mapping.dims}
    scales, all_origins, units = in_one_unit(
        positions.scales, {**of_part, **positions.origins}, positions.units
    )
    return ImageFacts(
        name=name,
        scales=scales,
        origins=all_origins,
        channel_names=names,
        channel_colors=colors,
        colours=PixelColours.of(attrs, dtype, axes_mapping.n_samples),
        coords=compact_coordinates(coords),
        coord_attrs=coord_attrs,
        units=units,
        attrs=small_attrs,
        ome_xml=ome_xml,
        provenance=_with_images_left_out(provenance, attrs),
        notes=tuple(attribute_notes),
        source_notes=tuple(source_notes),
    )


def _with_images_left_out(
    provenance: Mapping[str, Any], attrs: Mapping[str, Any]
) -> dict[str, Any]:
    """Provenance, with the number of images in the files that are not copied, if there are any.

    The first file stands for all others, as it does for their shape.
    """
    plain: dict[str, Any] = to_plain(provenance)
    n_images = attrs.get("n_series", 1)
    if n_images > 1:
        series = (provenance.get("options") or {}).get("series", 0)
        plain |= {"image": series, "images_left_out": n_images - 1}
    return plain


def facts_of_array(
    axes_mapping: AxesMapping,
    *,
    dtype: np.dtype[Any],
    name: str | None,
    provenance: Mapping[str, Any],
    xarray: Any = None,
    dims: Sequence[str] | None = None,
) -> ImageFacts:
    """Collect the facts of an array.

    Parameters
    ----------
    axes_mapping : AxesMapping
    dtype : numpy.dtype
    name : str, optional
    provenance : mapping
    xarray : xarray.DataArray, optional
        The array, if it is one.
    dims : sequence of str, optional
        Names of its axes that replace its own.
    """
    attrs = {} if xarray is None else xarray.attrs
    colours = PixelColours.of(attrs, dtype, axes_mapping.n_samples)
    if xarray is None:
        return ImageFacts(
            name=name,
            channel_names=channels_of(axes_mapping, {}, None)[0],
            colours=colours,
            provenance=to_plain(provenance),
        )
    coords, coord_attrs, coordinate_notes = xarray_coordinates(
        xarray, dims or axes_mapping.source_dims
    )
    positions = positions_of_coordinates(axes_mapping, coords, coord_attrs)
    scales, origins, units = in_one_unit(positions.scales, positions.origins, positions.units)
    names = coords.get("c")
    is_named = names is not None and names.ndim == 1 and names.dtype.kind in "UO"
    small_attrs, attribute_notes = small_attributes(xarray.attrs)
    return ImageFacts(
        name=name or (str(xarray.name) if xarray.name is not None else None),
        scales=scales,
        origins=origins,
        channel_names=tuple(map(str, names)) if is_named and names is not None else (),
        colours=colours,
        coords=compact_coordinates(coords),
        coord_attrs=coord_attrs,
        units=units,
        attrs=small_attrs,
        provenance=to_plain(provenance),
        notes=(*coordinate_notes, *attribute_notes),
    )
