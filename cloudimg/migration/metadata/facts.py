"""`ImageFacts`: what is known about an image besides its pixels. Pure; storable as JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np

from cloudimg.errors.notes import Note, joined_notes, notes_as_json
from cloudimg.migration.metadata.attributes import small_attributes
from cloudimg.migration.metadata.calibration import Calibration
from cloudimg.migration.metadata.channels import channels_of
from cloudimg.migration.metadata.companions import LEFT_OUT, Companions
from cloudimg.migration.metadata.coordinates import (
    compact_coordinates,
    expand_coordinates,
)
from cloudimg.migration.metadata.facts_from_json import checked_facts
from cloudimg.migration.metadata.positions import (
    in_one_unit,
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
from cloudimg.tiff.colours.channels import PixelColours


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """Everything besides the plan from which the metadata is made, in the terms of OME-Zarr."""

    name: str | None = None
    """Name of the image."""
    scales: Mapping[str, tuple[float, str | None]] = field(default_factory=dict)
    """Distance between neighbouring pixels and its unit, by dim."""
    origins: Mapping[str, float] = field(default_factory=dict)
    """Position of the first pixel in the same unit, by dim."""
    image_origins: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """The same by the position of the stage, by dim: an item for each image, None if it is not
    known. Empty in plans of older versions."""
    stage_starts: Mapping[str, float] = field(default_factory=dict)
    """Where cells report the places of images: by dim, how far the first pixel is from there."""
    stated: tuple[str, ...] = ()
    """What the user stated: "channel_names", "scale x", "origin x" and the like."""
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
    """OME-XML that describes the source and is in none of the files with its pixels; in plans of
    older versions that of its first file."""
    companion: str | None = None
    """Key of the file that `ome_xml` is the text of, if it is known."""
    companions: Companions = ()
    """Files with metadata beside the images, which the copy keeps."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Source, options and version of the copy, without credentials."""
    notes: tuple[str, ...] = ()
    """Messages about what the source has and the copy lacks."""
    source_notes: tuple[Note, ...] = ()
    """What was noticed about the source's files."""
    label_of: str | None = None
    """Relative path to the image whose labels this is; None if it is not labels."""

    @property
    def is_of_older(self) -> bool:
        """Whether they are those of an older version, whose documents follow other rules."""
        return self.colours is None

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
        kept = replace(self, companions=before.companions)
        if before.is_of_older:
            kept = replace(kept, colours=None, ome_xml=before.ome_xml, companion=None)
        earlier = (
            note
            for note in before.source_notes
            if (differing_facts([note]) or note.kind == LEFT_OUT) and note.kind not in known
        )
        return kept.with_notes([*earlier, *differences_since(is_now, was, allowed)])

    def _without(self, names: Collection[str]) -> Self:
        """The facts without some that files do not share; see `cloudimg.reading.agreement`."""
        attrs = without_facts(self.attrs, names)
        coords = {name: self.coords[name] for name in without_coordinates(self.coords, names)}
        lost = set(self.coords) - set(coords)
        unknown = self._unknown_sizes(names, attrs, lost)
        stated = {dim for dim in lost if f"origin {dim}" in self.stated}
        # Channels that are samples have names that no attribute gives.
        dropped = set(self.attrs) - set(attrs)
        has_other_names = "channel_names" in dropped and "channel_names" not in self.stated
        return replace(
            self,
            attrs=attrs,
            coords=coords,
            scales={dim: scale for dim, scale in self.scales.items() if dim not in unknown},
            origins={dim: at for dim, at in self.origins.items() if dim not in lost - stated},
            image_origins={dim: at for dim, at in self.image_origins.items() if dim not in unknown},
            channel_names=() if has_other_names else self.channel_names,
            channel_colors=() if "channel_colors" in dropped else self.channel_colors,
            colours=None if self.colours is None else self.colours.without(dropped),
        )

    def _unknown_sizes(
        self, names: Collection[str], attrs: Mapping[str, Any], lost: Collection[str]
    ) -> set[str]:
        """Dims whose pixels have no known size without some facts, and the coordinates `lost`."""
        unknown = set(lost)
        unknown -= {*attrs.get("pixel_size", ()), *(("t",) if "time_step_s" in attrs else ())}
        unknown |= set("xyz") if "pixel_size" in names else set()
        unknown |= {"t"} if "time_step_s" in names else set()
        return {dim for dim in unknown if f"scale {dim}" not in self.stated}

    def origin(self, dim: str, image: int) -> float:
        """Position of the first pixel of an image along a dim; 0 if it is not known."""
        own = self.image_origins.get(dim, ())
        at = own[image] if image < len(own) else None
        return self.origins.get(dim, 0.0) if at is None else at

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
        for name in ("image_origins", "stage_starts", "stated", "companions"):
            if not plain[name]:
                del plain[name]
        if self.label_of is None:
            del plain["label_of"]
        if self.companion is None:
            del plain["companion"]
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
    provenance: Mapping[str, Any],
    ome_xml: str | None = None,
    companion: str | None = None,
    source_notes: Iterable[Note] = (),
    calibration: Calibration | None = None,
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
    provenance : mapping
    ome_xml, companion : str, optional
        See `ImageFacts`.
    source_notes : iterable of Note
        See `cloudimg.Image.notes`.
    calibration : Calibration, optional
        What the user states, which counts before what headers say.

    Raises
    ------
    ArgumentError
        If the calibration does not fit the image.
    """
    calibration = calibration or Calibration()
    calibration.check(axes_mapping)
    positions, coord_attrs = positions_of_headers(axes_mapping, coords, attrs)
    of_channels = coords.get("c")
    if of_channels is not None and np.ndim(of_channels) == 0:
        of_channels = None  # the label of the only channel, whose axis was dropped
    names, colors = channels_of(axes_mapping, attrs, of_channels)
    of_part = {dim: at for dim, at in origins.items() if dim in axes_mapping.dims}
    positions.origins = {**of_part, **positions.origins}
    calibration.applied(positions)
    small_attrs, attribute_notes = small_attributes(calibration.without_stated(attrs))
    scales, all_origins, units = in_one_unit(positions.scales, positions.origins, positions.units)
    return ImageFacts(
        name=name,
        scales=scales,
        origins=all_origins,
        stated=calibration.stated,
        channel_names=calibration.channel_names or names,
        channel_colors=colors,
        colours=PixelColours.of(attrs, dtype, axes_mapping.n_samples),
        coords=compact_coordinates(coords),
        coord_attrs=coord_attrs,
        units=units,
        attrs=small_attrs,
        ome_xml=ome_xml,
        companion=companion,
        provenance=_with_images_left_out(provenance, attrs),
        notes=(*positions.notes, *attribute_notes),
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
