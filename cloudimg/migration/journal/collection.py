"""`Collection`: the list of images at a destination that has each of them as a copy of its own.

Each image is a complete copy in a folder below, with its own plan, lease, commit records and end
mark; its folder is named after its number in the source. The destination itself has this list,
twice, its lease, and the metadata that leads readers to the images, which is stored last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from cloudimg.errors import ArgumentError, CorruptFileError
from cloudimg.errors.checked_json import (
    checked_choice,
    checked_int,
    checked_ints,
    checked_list,
    checked_object,
    checked_text,
)
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.layout import COLLECTION, COLLECTION_COPY
from cloudimg.migration.journal.sealing import get_sealed
from cloudimg.migration.plan.plan import FORMATS
from cloudimg.tiff import FileImage

_FORMAT = 1
"""Format number of the lists that this version writes and reads."""
_MOST_IMAGES = 2**20
_FIELDS = ("series", "role", "name", "shape", "dtype")


@dataclass(frozen=True, slots=True)
class Collection:
    """The images of a collection."""

    zarr_format: int
    """Version of Zarr, 3 or 2."""
    images: tuple[FileImage, ...]
    """The images as the source lists them, in their order there."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Folders of the images."""
        return tuple(str(image.series) for image in self.images)

    def copies(self, destination: Destination) -> tuple[Destination, ...]:
        """Destinations of the images."""
        return tuple(destination.below(path) for path in self.paths)

    def to_json(self) -> dict[str, Any]:
        """The list as JSON for the journal."""
        images = [{**asdict(image), "shape": list(image.shape)} for image in self.images]
        return {"format": _FORMAT, "zarr_format": self.zarr_format, "images": images}

    @classmethod
    def from_json(cls, stored: Any) -> Self:
        """Restore the list from `to_json`.

        Raises
        ------
        ValueError
            If a field is missing or unknown, or has another type or size than it can have.
        """
        fields = checked_object(
            stored, "the collection", required=("format", "zarr_format", "images")
        )
        checked_choice(fields["format"], "format", (_FORMAT,))
        zarr_format = checked_choice(fields["zarr_format"], "zarr_format", FORMATS)
        listed = checked_list(fields["images"], "images", most=_MOST_IMAGES)
        images = tuple(_image(each) for each in listed)
        numbers = [image.series for image in images]
        if not images or numbers != sorted(set(numbers)):
            raise ValueError("images are not listed by number, each once")
        return cls(zarr_format, images)


def _image(stored: Any) -> FileImage:
    fields: Mapping[str, Any] = checked_object(stored, "an image", required=_FIELDS)
    return FileImage(
        checked_int(fields["series"], "series", greatest=2**31),
        checked_text(fields["role"], "role", most=64),
        checked_text(fields["name"], "name"),
        checked_ints(fields["shape"], "shape"),
        checked_text(fields["dtype"], "dtype", most=256),
    )


def read_collection(destination: Destination) -> tuple[Collection | None, tuple[str, ...]]:
    """The collection at a destination, and the keys of its copies that are missing or damaged.

    Returns
    -------
    Collection or None
        None if there is neither a collection nor a damaged list of one.

    Raises
    ------
    CorruptFileError
        If both copies of the list are lost or damaged, and one of them is there.
    """
    found: dict[str, Collection] = {}
    damaged: CorruptFileError | None = None
    for key in (COLLECTION, COLLECTION_COPY):
        try:
            content = get_sealed(destination, key)
            if content is not None:
                found[key] = Collection.from_json(content)
        except CorruptFileError as exc:
            damaged = exc
        except ValueError as exc:
            url = destination.display(key)
            damaged = CorruptFileError(f"{url} is damaged: {exc}", url=url)
    if not found:
        if damaged is not None:
            raise damaged
        return None, ()
    collection = found.get(COLLECTION) or found[COLLECTION_COPY]
    keys = (COLLECTION, COLLECTION_COPY)
    return collection, tuple(key for key in keys if found.get(key) != collection)


def is_collection(destination: Destination, collection: Collection) -> ArgumentError:
    """The error for a call that takes one image, but was given a collection of them."""
    example = destination.below(collection.paths[0]).url
    n_images = len(collection.images)
    return ArgumentError(
        f"{destination.url} is a collection of {n_images} images, each of which is a copy of its"
        f" own: name one of them, such as {example}",
        url=destination.url,
    )
