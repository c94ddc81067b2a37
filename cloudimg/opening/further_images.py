"""Files with several images, of which a copy takes one: that one must be chosen."""

from __future__ import annotations

from collections.abc import Sequence

from cloudimg.errors import ArgumentError, counted
from cloudimg.opening.opened import Opened
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
    headers = opened.inspection.headers
    for number, kind in enumerate(headers.kinds):
        if has_further_images(kind.images):
            header = headers.first_of_kind(number)
            raise ArgumentError(
                f"{header.url} has {len(header.images)} images, and a copy takes one of them: pass"
                ' series=N to choose it, or series="all" to migrate to copy all of them as a'
                f" collection ({_listed(header.images)})",
                url=header.url,
            )


def has_further_images(images: Sequence[FileImage]) -> bool:
    """Whether a copy of the first image of a file leaves out another one that is an image."""
    return any(image.role == IMAGE for image in images[1:])


def further_images_in(files: Sequence[tuple[str, Sequence[FileImage]]]) -> ArgumentError:
    """Return the error for files that turn out to have several images while they are copied.

    Parameters
    ----------
    files : sequence of tuple
        URL and images of each of these files, of which there is at least one.
    """
    url, images = files[0]
    more = f"; {counted(len(files) - 1, 'more file has', 'more files have')} several images, too"
    return ArgumentError(
        f"{url} has {len(images)} images, and a copy takes one of them: pass series=0 to copy the"
        f" first image of each file ({_listed(images)}){more if len(files) > 1 else ''}",
        url=url,
    )


def _listed(images: Sequence[FileImage]) -> str:
    listed = "; ".join(map(_described, images[:_SHOWN]))
    more = len(images) - _SHOWN
    return f"{listed}; and {more} more" if more > 0 else listed


def _described(image: FileImage) -> str:
    shape = " x ".join(map(str, image.shape)) or "unknown shape"
    name = f" {image.name[:50]!r}" if image.name else ""
    role = f", {image.role}" if image.role != IMAGE else ""
    return f"series={image.series}: {shape} {image.dtype}{name}{role}"
