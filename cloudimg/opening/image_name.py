"""The name of an image: the one that its source gives it, or else that of its files."""

from __future__ import annotations

import re
from itertools import takewhile

from cloudimg.discovery.find_files import locate
from cloudimg.discovery.listing import Tabled
from cloudimg.opening.opened import Opened
from cloudimg.opening.options import OpenArguments, URLs, as_texts
from cloudimg.reading.zarr_images.documents import folder_of, is_document
from cloudimg.storage import Location
from cloudimg.tiff import IMAGE, SLIDES

_LONGEST = 255
_WILD = re.compile(r"[{*?\[]")
_SUFFIX = re.compile(r"(\.ome)?\.\w{1,5}(\.gz)?$", re.IGNORECASE)
_SEPARATORS = "-_ .,="


def image_name(opened: Opened, urls: URLs, arguments: OpenArguments) -> str | None:
    """The name of an image in a copy.

    Parameters
    ----------
    opened : Opened
    urls : str, path, sequence of them, or table
        What the user opened.
    arguments : OpenArguments

    Returns
    -------
    str or None
        The name that the file gives the image (that of OME-XML, where one file or one dataset has
        the image, or all files name it so); otherwise the name of the file without its extension,
        or what the names of the files begin with, and for one of several images also its role or
        number. None if nothing is known.
    """
    name = urls.name if isinstance(urls, Tabled) and urls.name else None
    name = name or _own_name(opened, arguments.series_number)
    if name is None:
        name = _name_of_files(opened, urls, arguments)
        among = _among_others(opened, arguments.series_number)
        name = f"{name} {among}" if name and among else name
    return " ".join(name.split())[:_LONGEST] or None


def _own_name(opened: Opened, series: int) -> str | None:
    """The name that the source gives the image."""
    headers = opened.inspection.headers
    attrs = headers[0].attrs
    # tifffile names the images of slides itself, by their role.
    if attrs.get("kind") in SLIDES or not attrs.get("name"):
        return None
    if opened.n_files > 1 and opened.sources[0].files.pages is None:
        of_kinds = (kind.images for kind in headers.kinds)
        names = {images[series].name if len(images) > series else "" for images in of_kinds}
        return names.pop() or None if len(names) == 1 else None
    return str(attrs["name"])


def _among_others(opened: Opened, series: int) -> str:
    """What tells an image from others of its file: its role, or its number."""
    images = opened.inspection.headers[0].images
    if len(images) <= series:
        return ""
    if images[series].role != IMAGE:
        return images[series].role
    return f"#{series}" if sum(each.role == IMAGE for each in images) > 1 else ""


def _name_of_files(opened: Opened, urls: URLs, arguments: OpenArguments) -> str:
    pattern = _pattern(urls, arguments)
    if pattern is not None:
        *folders, last = pattern.rstrip("/").split("/")
        if not opened.grid.fields or not _WILD.search(last):
            return _SUFFIX.sub("", last)
        return _literal(last) or _folder_of(folders)
    grid, location = opened.grid, opened.sources[0].reader.store.location
    first, last = (_path(grid.keys(index), location) for index in (grid.first(), grid.last()))
    if first == last:
        named = folder_of(first) if is_document(first) else first
        return _SUFFIX.sub("", named.rpartition("/")[2])
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    folder, _, name = "".join(letter for letter, _ in same).rpartition("/")
    # What is the same may end within a number.
    return _without_field(name.rstrip("0123456789")) or _folder_of(folder.split("/"))


def _pattern(urls: URLs, arguments: OpenArguments) -> str | None:
    """The only pattern or URL; None if there are several."""
    if arguments.pattern is not None:
        return arguments.pattern
    if isinstance(urls, Tabled):
        return None
    location, texts = locate(as_texts(urls))
    return None if len(texts) > 1 else _path(texts[0], location)


def _path(text: str, location: Location) -> str:
    """A URL or pattern without its host and its query, which may hold secrets."""
    path = text.partition("://")[2].partition("/")[2] if "://" in text else text
    # Elsewhere than on web servers, ? is part of names.
    return path.partition("?")[0] if location.protocol in ("http", "https") else path


def _literal(pattern: str) -> str:
    """What a pattern begins with, without the word that names its first field."""
    beginning = _WILD.split(pattern)[0]
    return _without_field(beginning)


def _without_field(beginning: str) -> str:
    """The beginning of names without a last word that belongs to what follows, as ``ch`` does."""
    words = re.split("[-_ ]", beginning)
    kept = beginning if len(words) == 1 else beginning[: len(beginning) - len(words[-1])]
    return kept.strip(_SEPARATORS)


def _folder_of(folders: list[str]) -> str:
    """The name of the innermost folder that has one in a pattern."""
    for folder in reversed(folders):
        name = _literal(folder) if _WILD.search(folder) else folder
        if name:
            return name
    return ""
