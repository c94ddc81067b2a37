"""`ImageFacts`: what is known about an image besides its pixels. Pure; storable as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from cloudimg.migration.metadata.attributes import small_attributes
from cloudimg.migration.metadata.channels import channels_of
from cloudimg.migration.metadata.coordinates import (
    compact_coordinates,
    expand_coordinates,
    xarray_coordinates,
)
from cloudimg.migration.metadata.positions import positions_of_coordinates, positions_of_headers
from cloudimg.migration.plain_json import to_plain
from cloudimg.migration.plan.axes_mapping import AxesMapping


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
    coords: Mapping[str, Any] = field(default_factory=dict)
    """Coordinates by name: lists, or start, step and count if they are regular."""
    coord_attrs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Attributes of coordinates by name, such as ``units``, or ``dims`` if along other axes."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Units of dims without a known distance between pixels, such as those with one pixel."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Attributes from the first header, or of an `xarray.DataArray`."""
    ome_xml: str | None = None
    """OME-XML of the source, unchanged."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Source, options and version of the copy, without credentials."""
    notes: tuple[str, ...] = ()
    """Messages about what the source has and the copy lacks."""

    def coordinates(self, dim: str) -> Sequence[Any]:
        """Coordinates along a dim; empty if there are none."""
        return expand_coordinates(self.coords.get(dim, ()))

    def to_json(self) -> dict[str, Any]:
        """The facts as JSON, as the journal stores them."""
        plain: dict[str, Any] = to_plain(asdict(self))
        return plain

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Restore facts from `to_json`."""
        scales = {dim: (value, unit) for dim, (value, unit) in stored["scales"].items()}
        return cls(
            **{
                **stored,
                "scales": scales,
                "channel_names": tuple(stored["channel_names"]),
                "channel_colors": tuple(stored["channel_colors"]),
                "notes": tuple(stored.get("notes", ())),
            }
        )


def facts_of_image(
    axes_mapping: AxesMapping,
    coords: Mapping[str, Any],
    attrs: Mapping[str, Any],
    *,
    name: str | None,
    ome_xml: str | None,
    provenance: Mapping[str, Any],
    is_multifile: bool = False,
) -> ImageFacts:
    """Collect the facts of an image that is read from files.

    Parameters
    ----------
    axes_mapping : AxesMapping
    coords, attrs : mappings
        See `cloudimg.Image.coords` and `cloudimg.Image.attrs`.
    name : str, optional
    ome_xml : str, optional
    provenance : mapping
    is_multifile : bool
        Whether the files are a multi-file dataset, whose images are spread over the files.
    """
    positions, coord_attrs = positions_of_headers(axes_mapping, coords, attrs)
    names, colors = channels_of(axes_mapping, attrs, coords.get("c"))
    small_attrs, attribute_notes = small_attributes(attrs)
    full_provenance, image_notes = _note_further_images(
        attrs, provenance, is_multifile=is_multifile
    )
    return ImageFacts(
        name=name,
        scales=positions.scales,
        origins=positions.origins,
        channel_names=names,
        channel_colors=colors,
        coords=compact_coordinates(coords),
        coord_attrs=coord_attrs,
        units=positions.units,
        attrs=small_attrs,
        ome_xml=ome_xml,
        provenance=full_provenance,
        notes=(*image_notes, *attribute_notes),
    )


def _note_further_images(
    attrs: Mapping[str, Any], provenance: Mapping[str, Any], *, is_multifile: bool
) -> tuple[dict[str, Any], list[str]]:
    """Provenance, and a note, about further images in the files, which are not copied."""
    plain = to_plain(provenance)
    n_images = attrs.get("n_series", 1)
    if n_images <= 1:
        return plain, []
    series = (provenance.get("options") or {}).get("series", 0)
    plain |= {"image": series, "images_left_out": n_images - 1}
    # The first file stands for all others, as it does for their shape.
    files = "the set of files holds" if is_multifile else "each file holds"
    return plain, [f"{files} {n_images} images; image {series} is copied (series= chooses it)"]


def facts_of_array(
    axes_mapping: AxesMapping,
    *,
    name: str | None,
    provenance: Mapping[str, Any],
    xarray: Any = None,
    dims: Sequence[str] | None = None,
) -> ImageFacts:
    """Collect the facts of an array.

    Parameters
    ----------
    axes_mapping : AxesMapping
    name : str, optional
    provenance : mapping
    xarray : xarray.DataArray, optional
        The array, if it is one.
    dims : sequence of str, optional
        Names of its axes that replace its own.
    """
    if xarray is None:
        return ImageFacts(name=name, provenance=to_plain(provenance))
    coords, coord_attrs, coordinate_notes = xarray_coordinates(
        xarray, dims or axes_mapping.source_dims
    )
    positions = positions_of_coordinates(axes_mapping, coords, coord_attrs)
    names = coords.get("c")
    is_named = names is not None and names.ndim == 1 and names.dtype.kind in "UO"
    small_attrs, attribute_notes = small_attributes(xarray.attrs)
    return ImageFacts(
        name=name or (str(xarray.name) if xarray.name is not None else None),
        scales=positions.scales,
        origins=positions.origins,
        channel_names=tuple(map(str, names)) if is_named and names is not None else (),
        coords=compact_coordinates(coords),
        coord_attrs=coord_attrs,
        units=positions.units,
        attrs=small_attrs,
        provenance=to_plain(provenance),
        notes=(*coordinate_notes, *attribute_notes),
    )
