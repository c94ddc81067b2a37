"""Labels of an image: a copy of their own in the image's group "labels", which lists them.

Their name is added to the list last. Where a process was killed before, the next run finds the copy
finished, and adds the name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from cloudimg.errors import ArgumentError, CorruptFileError, NotFoundError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.metadata.labelled import LabelledImage, check_name
from cloudimg.migration.plan.reduction import Reduction
from cloudimg.migration.run.labels_group import GROUP, add_to_group
from cloudimg.migration.run.result import Migration
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.storage import engine

_OF_IMAGE = (
    "levels", "factors", "pixel_size", "scale", "units", "translation", "channel_names", "plate",
    "overview",
)  # fmt: skip
"""Arguments whose values follow from the image."""
_COLLECTIONS = {"bioformats2raw.layout", "plate"}
"""Attributes of groups of several images; the first also has the first image's, for viewers."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels that are written for an image."""

    image: LabelledImage
    folder: Destination
    """The image."""
    name: str
    """Name of the labels in the group "labels" of the image."""
    is_consolidated: bool
    """Whether others consolidated the metadata of the image, which readers then take from there."""

    @property
    def destination(self) -> Destination:
        """Where the labels are written."""
        return replace(self.folder, root=f"{self.folder.root}/{GROUP}/{self.name}")

    def request(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a migration, with those that follow from the image.

        Raises
        ------
        ArgumentError
            If one of these was given, or levels would be averaged.
        """
        for name in _OF_IMAGE:
            if given.get(name):
                raise ArgumentError(
                    f"{name}= is not for labels, which have the levels and coordinates of their"
                    " image: leave it out"
                )
        if given.get("downsampling") == "mean":
            raise ArgumentError(
                'downsampling="mean" would make labels that do not exist: use "mode" or "nearest"'
            )
        zarr_format = self.image.zarr_format
        if given.get("zarr_format", zarr_format) != zarr_format:
            raise ArgumentError(
                f"zarr_format={given['zarr_format']}, but {self.image.url} has Zarr {zarr_format},"
                " and so must its labels: leave it out"
            )
        factors = self.image.factors()
        of_image = {"zarr_format": zarr_format, "levels": len(factors) + 1, "name": self.name}
        # The image may have an axis of wells: a plan of an older version has them as one.
        of_image["plate"] = False
        return {**given, **of_image, **({"factors": factors} if factors else {})}

    def of(self, write_input: WriteInput) -> WriteInput:
        """What is read, as labels of the image.

        Raises
        ------
        ArgumentError
            If it cannot be.
        """
        axes_mapping, dtype = write_input.axes_mapping, write_input.dtype
        self.image.check(axes_mapping, dtype)
        is_mask = dtype.kind == "b"
        return replace(
            write_input,
            dtype=np.dtype(np.uint8) if is_mask else dtype,
            fill_value=int(write_input.fill_value),
            reduction=Reduction("mode", "its pixels are labels"),
            facts=self.image.facts_of_labels(write_input.facts, axes_mapping.dims),
        )

    def listed(self, done: Migration, notify: Callable[[str], None]) -> Migration:
        """Add the finished labels to the list in their group; see `add_to_group`."""
        add_to_group(self.folder, self.name, self.image.zarr_format, notify=notify)
        if not self.is_consolidated:
            return done
        note = (
            f"the metadata of {self.image.url} was consolidated, and readers do not find these"
            " labels before it is consolidated again (zarr.consolidate_metadata)"
        )
        return replace(done, notes=(*done.notes, note))


def labels_of(folder: Destination, name: str) -> Labels:
    """Prepare to write labels of an image.

    Parameters
    ----------
    folder : Destination
        The image: a copy, or any other image of OME-Zarr.
    name : str
        Name of the labels.

    Raises
    ------
    ArgumentError
        If the image is missing or unfinished, or cannot have labels.
    StorageError
    """
    check_name(name)
    zarr_format, content = 3, _json(folder, "zarr.json")
    attributes = (content or {}).get("attributes", {})
    ome = attributes.get("ome", {}) if isinstance(attributes, dict) else {}
    if content is None:
        zarr_format, content = 2, _json(folder, ".zattrs")
        ome = content or {}
    if content is None:
        raise ArgumentError(
            f"{folder.url} is not a finished image of OME-Zarr, since it has neither zarr.json nor"
            " .zattrs: check the URL, or finish the copy first",
            url=folder.url,
        )
    if isinstance(ome, dict) and _COLLECTIONS & set(ome):
        raise ArgumentError(
            f"{folder.url} is a collection of images or a plate: name the folder of one image, such"
            f" as {folder.display(_first(ome))}",
            url=folder.url,
        )
    if not isinstance(ome, dict) or "multiscales" not in ome:
        raise ArgumentError(
            f"{folder.url} is not an image of OME-Zarr, although it is a Zarr: check the URL",
            url=folder.url,
        )
    try:
        multiscale = ome["multiscales"][0]
        paths = [str(each["path"]) for each in multiscale["datasets"]]
        requests = [engine().fetch(partial(_shape, folder, path, zarr_format)) for path in paths]
        shapes = [request.result() for request in requests]
        image = LabelledImage.of(folder.url, zarr_format, multiscale, shapes)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as exc:
        raise ArgumentError(
            f"the metadata of {folder.url} are not those of an image of OME-Zarr: {exc!r}",
            url=folder.url,
        ) from exc
    return Labels(image, folder, name, _is_consolidated(folder, content, zarr_format))


def _first(ome: Any) -> str:
    """Path of the first image of a collection or plate, as far as its metadata says."""
    try:
        return f"{ome['plate']['wells'][0]['path']}/0"
    except (KeyError, IndexError, TypeError):
        return "0"


def _is_consolidated(folder: Destination, content: Mapping[str, Any], zarr_format: int) -> bool:
    if zarr_format == 3:
        return content.get("consolidated_metadata") is not None
    try:
        folder.info(".zmetadata")
    except NotFoundError:
        return False
    return True


def _json(folder: Destination, key: str) -> dict[str, Any] | None:
    """A document of an image; None if there is none.

    Raises
    ------
    CorruptFileError
        If it is not a JSON object.
    """
    content = folder.get_json(key)
    if content is None or isinstance(content, dict):
        return content
    url = folder.display(key)
    raise CorruptFileError(f"{url} is damaged: not a JSON object", url=url)


def _shape(folder: Destination, path: str, zarr_format: int) -> list[int]:
    document = _json(folder, f"{path}/{'zarr.json' if zarr_format == 3 else '.zarray'}")
    if document is None:
        raise ValueError(f"the array {path} is missing")
    return [int(n) for n in document["shape"]]
