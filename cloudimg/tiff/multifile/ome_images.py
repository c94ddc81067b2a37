"""The images of an OME-XML: their axes, and which TiffData place their planes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloudimg.errors import (
    ArgumentError,
    CorruptFileError,
    FormatError,
    UnsupportedFormatError,
    counted,
)
from cloudimg.tiff.images import role_in_ome
from cloudimg.tiff.markup import Element, children
from cloudimg.tiff.multifile.planes import count_planes
from cloudimg.tiff.ome_xml import COLUMNS, OmeDocument
from cloudimg.tiff.parsed import IMAGE, FileImage

_ORDERS = {"XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC"}

Rows = npt.NDArray[np.int64]
"""Rows of `OmeDocument.rows`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OmeImage:
    """An image of an OME-XML and its leading axes."""

    image: Element
    pixels: Element
    letters: str
    """Letters of the leading axes, slowest first."""
    shape: tuple[int, ...]
    """Lengths of the leading axes."""
    samples: int
    """Samples per pixel of each channel."""
    height: int
    width: int

    @property
    def plane_shape(self) -> tuple[int, ...]:
        """Lengths of the axes of a plane, y, x and the samples, if there are several."""
        return (self.height, self.width, self.samples)[: 3 if self.samples > 1 else 2]


def choose_image(document: OmeDocument, source: str, index: int) -> tuple[OmeImage, Rows]:
    """An image and its rows of TiffData.

    Parameters
    ----------
    document : OmeDocument
    source : str
        What holds the OME-XML, for messages.
    index : int
        Number of the image, without images that have no planes.

    Raises
    ------
    ArgumentError, CorruptFileError, UnsupportedFormatError, LimitError
    """
    n_images = 0
    for pixels in _all_pixels(document):
        candidate = pixels.read(source)
        if candidate is None:
            continue
        if n_images == index:
            return candidate
        n_images += 1
    found = counted(n_images, "image")
    raise ArgumentError(f"series={index}, but the OME-XML of {source} has {found}")


def list_images(document: OmeDocument, source: str) -> tuple[FileImage, ...]:
    """All images that have planes, by number; empty if there is only one.

    Images that cannot be read are listed without a shape.
    """
    found: list[tuple[str, str, OmeImage | None]] = []
    for pixels in _all_pixels(document):
        image = None
        try:
            candidate = pixels.read(source)
        except FormatError:
            pass
        else:
            if candidate is None:
                continue
            image, _ = candidate
        found.append((pixels.image.get("Name", ""), pixels.pixels.get("Type", ""), image))
    if len(found) < 2:
        return ()
    largest = max(image.height * image.width for _, _, image in found if image is not None)
    return tuple(
        FileImage(
            number,
            IMAGE if image is None else role_in_ome(name, image.height * image.width, largest),
            name,
            () if image is None else (*(n for n in image.shape if n > 1), *image.plane_shape),
            dtype,
        )
        for number, (name, dtype, image) in enumerate(found)
    )


@dataclass(frozen=True, slots=True)
class _Pixels:
    """A Pixels element with the rows of its TiffData."""

    image: Element
    pixels: Element
    rows: Rows

    def read(self, source: str) -> tuple[OmeImage, Rows] | None:
        """The image and the rows that place its planes, None if it has none.

        TiffData that start outside the image are dropped, as tifffile does: ImageJ leaves such ones
        when it crops.
        """
        if not len(self.rows):
            return None
        image = _image(self.image, self.pixels, source)
        firsts = self.rows[:, [COLUMNS.index(letter) for letter in image.letters]]
        rows = self.rows[((firsts >= 0) & (firsts < image.shape)).all(axis=1)]
        return (image, rows) if len(rows) else None


def _all_pixels(document: OmeDocument) -> Iterator[_Pixels]:
    elements = [
        (image, pixels)
        for image in children(document.root, "Image")
        for pixels in children(image, "Pixels")
    ]
    stops = [*document.first_rows[1:], len(document.rows)]
    for (image, pixels), start, stop in zip(elements, document.first_rows, stops, strict=True):
        yield _Pixels(image, pixels, document.rows[start:stop])


def _image(image: Element, pixels: Element, source: str) -> OmeImage:
    order = pixels.get("DimensionOrder", "")
    if order not in _ORDERS:
        raise CorruptFileError(f"the OME-XML of {source} has the DimensionOrder {order!r:.20}")
    letters = order[:1:-1]
    size = {letter: _size(pixels, letter, source) for letter in order}
    texts = {channel.get("SamplesPerPixel", "1") for channel in children(pixels, "Channel")}
    samples = {_integer(text, "SamplesPerPixel", source) for text in texts} or {1}
    if len(samples) > 1:
        raise UnsupportedFormatError(
            f"the OME-XML of {source} has channels of different SamplesPerPixel"
        )
    per_pixel = samples.pop()
    # SizeC counts samples, FirstC channels.
    if per_pixel < 1 or size["C"] % per_pixel:
        raise CorruptFileError(
            f"the OME-XML of {source} has {per_pixel} samples per pixel but SizeC={size['C']}"
        )
    size["C"] //= per_pixel
    shape = tuple(size[letter] for letter in letters)
    count_planes(shape, f"the OME-XML of {source}")
    return OmeImage(
        image=image,
        pixels=pixels,
        letters=letters,
        shape=shape,
        samples=per_pixel,
        height=size["Y"],
        width=size["X"],
    )


def _size(pixels: Element, letter: str, source: str) -> int:
    size = _integer(pixels.get(f"Size{letter}", ""), f"Size{letter}", source)
    if size < 1:
        raise CorruptFileError(f"the OME-XML of {source} has Size{letter}={size}")
    return size


def _integer(text: str, attribute: str, source: str) -> int:
    try:
        return int(text)
    except ValueError as exc:
        raise CorruptFileError(
            f"the OME-XML of {source} has {text[:50]!r} for {attribute}, which is not an integer"
        ) from exc
