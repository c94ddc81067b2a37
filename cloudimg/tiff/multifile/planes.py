"""Table of the planes of a multi-file dataset, and checks common to all kinds of datasets."""

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
from cloudimg.tiff.parsed import FileImage

MAX_PLANES = 10**7
"""Most planes of one image; their table takes 120 MB."""

_ELSEWHERE = re.compile(r"^/|^[A-Za-z]:|://|::|(?:^|/)\.\.(?:/|$)|(?:^|/)\.?$|[\x00-\x1f\x7f]")
"""Parts of a name that could lead outside its folder: a root, a drive, a scheme, a chain of fsspec
URLs, a step up; also the end of a folder name, and control characters."""
_PLAIN = re.compile(r"\w[\w -]*(?:\.[\w -]+)*")
"""Names that need no further check; nearly all are like this."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PlaneTable:
    """The planes of an image that is stored in several files."""

    dims: tuple[str, ...]
    """Names of the leading axes, those before the axes of a plane; slowest first."""
    shape: tuple[int, ...]
    """Lengths of the leading axes, all above one."""
    plane: tuple[str, ...]
    """Axes of a plane. OME-XML does not distinguish interleaved samples, ``y x s``, from samples
    that are stored plane by plane, ``s y x``: if there is an ``s``, only the page shows which."""
    plane_shape: tuple[int, ...] | None
    """Expected lengths of the axes of a plane; None if the metadata does not give them."""
    files: tuple[str, ...]
    """Names of the files that have a plane of this image, relative to the folder of the file with
    the metadata: that file first, then the others in the order in which it lists them."""
    file_of: npt.NDArray[np.int32]
    """Index in `files` of the file of each plane, of shape `shape`; -1 if no file is given."""
    page_of: npt.NDArray[np.int64]
    """Location of each plane in its file, of shape `shape`; see `offsets_are`."""
    offsets_are: Literal["page", "directory", "pixels"]
    """Meaning of `page_of`: number of the page, or offset in bytes of its IFD ("directory") or of
    its uncompressed pixels ("pixels")."""
    coords: Mapping[str, tuple[Any, ...]]
    """Labels by leading dim, if the metadata has any."""
    name: str
    """Name of the image; empty if it has none."""
    dtype: str | None
    """numpy's name of the sample type; None if only the pages give it. The byte order is that of
    the file."""
    uuids: tuple[str, ...] = ()
    """UUIDs by which the files identify themselves, as the metadata gives them, by file number;
    empty if it has none."""
    n_placed: tuple[int, ...] = ()
    """Number of pages that the metadata places in any image, by file number, 0 where it places all
    pages without their number; empty if it is not known."""
    images: tuple[FileImage, ...] = ()
    """All images that the metadata describes, by number; empty if there is only one."""
    numbered_by: tuple[tuple[str, int], ...] = ()
    """Letters and lengths of the axes along which OME-XML numbers planes, slowest first: their C
    order is that of the leading axes."""
    shortfall: str = ""
    """Why planes are missing from a file that should have all of them."""


def make_plane_table(
    axes: Sequence[tuple[str, int]],
    labels: Mapping[int, tuple[Any, ...]],
    tables: tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]],
    names: Sequence[str],
    *,
    uuids: Sequence[str] = (),
    n_placed: Sequence[int] = (),
    **fields: Any,
) -> PlaneTable:
    """Make a table without axes of length one and without files that have no plane.

    Parameters
    ----------
    axes : sequence of (str, int)
        Names and lengths of all leading axes, also of those of length one.
    labels : mapping
        Labels by axis number; dropped if there are more or fewer than the axis is long.
    tables : tuple of array
        File number and page of each plane, flat and in C order of the axes.
    names : sequence of str
        File names by file number.
    uuids : sequence of str
        UUIDs by file number, empty for a file without one; none at all if there are none.
    n_placed : sequence of int
        See `PlaneTable.n_placed`.
    **fields
        The other fields of `PlaneTable`.

    Raises
    ------
    CorruptFileError
        No plane has a file.
    """
    file_of, page_of = tables
    used = np.unique(file_of[file_of >= 0])
    if not len(used):
        raise CorruptFileError("the metadata of a multi-file dataset gives no file for any plane")
    renumbered = np.full(len(names) + 1, -1, np.int32)  # index -1 is the last entry
    renumbered[used] = np.arange(len(used), dtype=np.int32)
    kept = [i for i, (_, length) in enumerate(axes) if length > 1]
    dims = unique_names([axes[i][0] for i in kept], fields["plane"])
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
        uuids=tuple(uuids[i] for i in used.tolist()) if uuids else (),
        n_placed=tuple(n_placed[i] for i in used.tolist()) if n_placed else (),
        file_of=renumbered[file_of].reshape(shape),
        page_of=page_of.reshape(shape),
        coords=coords,
        **fields,
    )


def unique_names(names: Iterable[str], taken: Iterable[str]) -> tuple[str, ...]:
    """Names of axes; repeated names are numbered from 2, as in single files."""
    used, result = set(taken), []
    for base in names:
        name, n = base, 2
        while name in used:
            name, n = f"{base}{n}", n + 1
        used.add(name)
        result.append(name)
    return tuple(result)


def count_planes(shape: Sequence[int], source: str) -> int:
    """Product of the lengths of the leading axes, which `source` describes.

    Raises
    ------
    LimitError
    """
    count = math.prod(shape)
    if count > MAX_PLANES:
        sizes = " x ".join(str(n)[:20] for n in shape)
        raise LimitError(f"{source} describes {sizes} planes; the limit is {MAX_PLANES}")
    return count


def checked_path(name: str) -> str:
    """Path of a file that a header refers to, relative to the folder of that header.

    Raises
    ------
    CorruptFileError
        The path leads outside that folder: a header must not direct requests elsewhere.
    """
    if _PLAIN.fullmatch(name):
        return name
    path = name.replace("\\", "/")  # written on Windows
    # Some clients decode percent escapes, so the decoded path is checked too.
    if _ELSEWHERE.search(path) or _ELSEWHERE.search(unquote(path).replace("\\", "/")):
        raise CorruptFileError(
            f"the metadata refers to the file {name[:200]!r}, which is not in its own folder"
        )
    return path
