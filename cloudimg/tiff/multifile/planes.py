"""The table of planes that every kind of set comes to, and the checks that all of them share."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError, LimitError

MAX_PLANES = 10**7
"""Of one image; the tables of as many take 120 MB."""

_ELSEWHERE = re.compile(r"^/|^[A-Za-z]:|://|::|(?:^|/)\.\.(?:/|$)|(?:^|/)\.?$|[\x00-\x1f\x7f]")
"""What a name has that is no name of a file below a folder: a root, a drive, a scheme, a chain of
fsspec's, a step up, a folder; and characters that are in no name."""
_PLAIN = re.compile(r"\w[\w -]*(?:\.[\w -]+)*")
"""Names that need no closer look, as nearly all."""


@dataclass(frozen=True, slots=True, eq=False)
class PlaneTable:
    """Where the planes of an image are that lies in several files."""

    dims: tuple[str, ...]
    """Names of the axes before those of a plane, slowest first."""
    shape: tuple[int, ...]
    """Lengths of these axes, all above one."""
    plane: tuple[str, ...]
    """Axes of a page. OME-XML does not tell samples that are interleaved, ``y x s``, from those
    that are stored plane by plane, ``s y x``: where there is an ``s``, ask the page which it is."""
    plane_shape: tuple[int, ...] | None
    """Expected lengths of the axes of a page; None where the metadata does not tell."""
    files: tuple[str, ...]
    """Names relative to the folder of the file that told of the set: itself first, the others in
    the order that it names them; only those that have a plane of this image."""
    file_of: npt.NDArray[np.int32]
    """Number in `files` of each plane's file, of shape `shape`; -1 where no file is named."""
    page_of: npt.NDArray[np.int64]
    """Where in its file each plane is; see `offsets_are`."""
    offsets_are: Literal["page", "directory", "pixels"]
    """What `page_of` counts: pages (IFDs) from the first, or bytes from the start of the file to
    the IFD or to the uncompressed pixels."""
    coords: Mapping[str, tuple[Any, ...]]
    """Labels by leading dim, where the metadata has some."""
    name: str
    """Of the image; empty where it has none."""
    dtype: str | None
    """numpy's name of the samples' type without byte order, which is that of the file; None where
    the pages tell it."""


def make_plane_table(
    axes: Sequence[tuple[str, int]],
    labels: Mapping[int, tuple[Any, ...]],
    tables: tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]],
    names: Sequence[str],
    **known: Any,
) -> PlaneTable:
    """A set without axes of length one and without files that are not used.

    Parameters
    ----------
    axes : sequence of (str, int)
        Names and lengths of the leading axes, also of those of length one.
    labels : mapping
        Labels by number of the axis; left out where they are not as many as the axis is long.
    tables : tuple of array
        File and page of each plane in the order of the axes; flat.
    names : sequence of str
        File names by number.
    **known
        The other fields of `PlaneSet`.

    Raises
    ------
    CorruptFileError
        No plane has a file.
    """
    file_of, page_of = tables
    used = np.unique(file_of[file_of >= 0])
    if not len(used):
        raise CorruptFileError("the metadata of a set of files names no file for any plane")
    renumbered = np.full(len(names) + 1, -1, np.int32)  # the last one is where -1 looks
    renumbered[used] = np.arange(len(used), dtype=np.int32)
    kept = [i for i, (_, length) in enumerate(axes) if length > 1]
    dims = unique_names([axes[i][0] for i in kept], known["plane"])
    shape = tuple(axes[i][1] for i in kept)
    coords = {
        dim: labels[i]
        for dim, i in zip(dims, kept, strict=True)
        if len(labels.get(i, ())) == axes[i][1]
    }
    return PlaneTable(
        dims=dims,
        shape=shape,
        files=tuple(names[i] for i in used.tolist()),
        file_of=renumbered[file_of].reshape(shape),
        page_of=page_of.reshape(shape),
        coords=coords,
        **known,
    )


def unique_names(names: Iterable[str], taken: Iterable[str]) -> tuple[str, ...]:
    """Names of axes, numbered from 2 where one comes again, as those of single files are."""
    known, result = set(taken), []
    for base in names:
        name, n = base, 2
        while name in known:
            name, n = f"{base}{n}", n + 1
        known.add(name)
        result.append(name)
    return tuple(result)


def count_planes(shape: Sequence[int], what: str) -> int:
    """Product of the lengths of the leading axes.

    Raises
    ------
    LimitError
    """
    count = math.prod(shape)
    if count > MAX_PLANES:
        sizes = " x ".join(str(n)[:20] for n in shape)
        raise LimitError(f"{what} describes {sizes} planes; at most {MAX_PLANES} are planned")
    return count


def followed(name: str) -> str:
    """A file name that a header gives, if it stays below the header's own folder.

    Raises
    ------
    CorruptFileError
        Following it would let a header send requests wherever it likes.
    """
    if _PLAIN.fullmatch(name):
        return name
    path = name.replace("\\", "/")  # writers on Windows separate folders their way
    # A client that decodes what it is given must not find more than is checked here.
    if _ELSEWHERE.search(path) or _ELSEWHERE.search(unquote(path).replace("\\", "/")):
        raise CorruptFileError(
            f"the metadata names the file {name[:200]!r}, which is not in its own folder or below"
        )
    return path
