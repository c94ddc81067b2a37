"""Files with several images, of which a copy takes one: that one must be chosen."""

from __future__ import annotations

from cloudimg.errors import ArgumentError
from cloudimg.opening.open_files import Opened
from cloudimg.opening.options import OpenArguments
from cloudimg.tiff import IMAGE, FileImage

_SHOWN = 10


def refuse_further_images(opened: Opened, arguments: OpenArguments) -> None:
    """Refuse to copy one of several images that nobody chose.

    Thumbnails, labels and the like do not count: they are never copied unasked.

    Raises
    ------
    ArgumentError
    """
    if arguments.series is not None:
        return
    for header in opened.inspection.headers:
        if any(image.role == IMAGE for image in header.images[1:]):
            listed = "; ".join(_described(image) for image in header.images[:_SHOWN])
            more = len(header.images) - _SHOWN
            raise ArgumentError(
                f"{header.url} has {len(header.images)} images, and a copy takes one of them: pass"
                f" series=N to choose it ({listed}{f'; and {more} more' if more > 0 else ''})",
                url=header.url,
            )


def _described(image: FileImage) -> str:
    shape = " x ".join(map(str, image.shape)) or "unknown shape"
    name = f" {image.name[:50]!r}" if image.name else ""
    role = f", {image.role}" if image.role != IMAGE else ""
    return f"series={image.series}: {shape} {image.dtype}{name}{role}"
