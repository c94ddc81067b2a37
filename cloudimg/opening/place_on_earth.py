"""Place georeferenced files by their transforms, in whole pixels of the grid of the first file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError, GridError, MismatchError
from cloudimg.errors.notes import Remark
from cloudimg.opening.header import Header
from cloudimg.opening.header_columns import HeaderColumns
from cloudimg.opening.options import OpenArguments
from cloudimg.reading.agreement import NO_REPROJECTION, ExpectedFacts, differing_files
from cloudimg.reading.canvas import Canvas
from cloudimg.reading.fact_differences import shared_differences, title_of
from cloudimg.reading.file_facts import FileFacts
from cloudimg.reading.layout import Layout, with_canvas

_TOLERANCE = 0.05
"""Greatest distance in pixels of a corner of a file from the grid of the first file: transforms are
rounded to a few decimals of a degree."""
_TILES = ("y", "x")
_AS_THEY_ARE = 'allow_differences=["origin"] to put them side by side as they are'
_LEVELS_DROPPED = Remark(
    "levels-off-grid",
    "has smaller levels whose pixels do not lie on the grid of those of the other files; the image"
    " does not have these levels",
)

Offsets = npt.NDArray[np.int64]


def tiles_among(fields: Sequence[str], place: str) -> tuple[int, ...]:
    """Return the axes of the grid whose files are tiles of one mosaic."""
    return tuple(i for i, name in enumerate(fields) if name in _TILES and place == "index")


def lie_elsewhere(expected: ExpectedFacts, headers: HeaderColumns, layout: Layout) -> bool:
    """Return whether tiles of a mosaic lie elsewhere on Earth than their indices say.

    False where other facts differ, too, or the user allows other places.
    """
    is_mosaic = any(
        axis.name in _TILES and axis.field is not None and not axis.is_stacked
        for axis in layout.axes
    )
    _, have_places = headers.have_transforms
    if not have_places or not is_mosaic:
        return False
    differing = {
        name
        for index, header in headers.items()
        for name in expected.refused(header.facts, index, layout)
    }
    return differing == {"origin"}


def place_on_earth(
    layouts: Sequence[Layout],
    headers: HeaderColumns,
    arguments: OpenArguments,
) -> tuple[tuple[Layout, ...], tuple[Remark, ...]]:
    """Place files by their transforms.

    Parameters
    ----------
    layouts : sequence of Layout
        Layouts by level, of files on a canvas whose places are not known yet.
    headers : HeaderColumns
        Headers of all files.
    arguments : OpenArguments
        `align` says what of the files the image has; None refuses tiles that overlap.

    Returns
    -------
    layouts : tuple of Layout
        Without smaller levels that do not lie on one grid.
    remarks : tuple of Remark
        What the first file's levels are not used for.

    Raises
    ------
    MismatchError, GridError, ArgumentError
    """
    if not {"y", "x"} <= set(layouts[0].dims):
        raise ArgumentError(f"align= needs the axes y and x, and the image has {layouts[0].dims}")
    canvas, align = layouts[0].canvas, arguments.align
    assert canvas is not None
    first = headers.first
    advice = NO_REPROJECTION if align else f"Pass {_AS_THEY_ARE}. {NO_REPROJECTION}"
    _refuse_unlike(headers, first, align, arguments.allowed_differences)
    offsets = np.zeros((*canvas.boxes.shape[:-1], 2), np.int64)
    for index, header in headers.items():
        offsets[index] = _offset(header, first, layouts[0].plane, advice)
    placed, remarks = _at_levels(layouts, headers, first, offsets, align or "outer")
    first_level = placed[0].canvas
    assert first_level is not None
    if 0 in first_level.shape:
        raise GridError(
            f'align="inner": the {len(headers)} files have no pixels in common, according to their'
            ' transforms; align="outer" keeps the pixels of all of them'
        )
    if align is None and (pair := first_level.overlapping()) is not None:
        one, other = (headers[headers.place_of(index) or 0] for index in pair[:2])
        raise _overlap_error(one, other, pair[2])
    return placed, remarks


def _at_levels(
    layouts: Sequence[Layout],
    headers: HeaderColumns,
    first: Header,
    offsets: Offsets,
    bounds: str,
) -> tuple[tuple[Layout, ...], tuple[Remark, ...]]:
    """Return the layouts of the levels that lie on one grid, and remarks on the others."""
    placed: list[Layout] = []
    remarks: tuple[Remark, ...] = ()
    for level, layout in enumerate(layouts):
        factors = np.array(_factors(first, level, layout.plane), np.int64)
        if (offsets % factors).any():
            remarks = (_LEVELS_DROPPED,)
            break
        sizes = np.zeros_like(offsets)
        for index, header in headers.items():
            sizes[index] = [header.shapes[level][axis] for axis in layout.plane]
        assert layout.canvas is not None
        there = Canvas.of(layout.canvas.fields, offsets // factors, sizes, bounds=bounds)
        if placed and 0 in there.shape:
            break  # what all files have in common is less than a pixel of the level
        placed.append(with_canvas(layout, there))
    return tuple(placed), remarks


def _refuse_unlike(
    headers: HeaderColumns, first: Header, align: str | None, allowed: Collection[str]
) -> None:
    """Refuse files without a place, and of other pixels or another reference system.

    Raises
    ------
    MismatchError
    """
    errors = []
    for header in headers:
        if header.facts is None or not header.facts.transform:
            raise MismatchError(
                f"{header.url} cannot be placed: its header has no affine transform. Add one with"
                " gdal_edit.py -a_ullr, leave the file out with exclude=, or open the files without"
                " align=",
                url=header.url,
            )
        if not header.facts.crs and align is not None:
            raise MismatchError(
                f"{header.url} cannot be placed: its header has no coordinate reference system, so"
                " that places in several files may not be of one map. Add it with gdal_edit.py"
                " -a_srs, leave the file out with exclude=, or open the files without align=",
                url=header.url,
            )
        assert first.facts is not None
        # Differences that are allowed still place a file wrongly.
        differing = [
            f"its {title_of(each.name)} is {each.found}, but {each.expected} in the first file,"
            f" {first.url}"
            for each in shared_differences(header.facts, first.facts, None)
            if each.name == "crs" or (each.name == "pixel_size" and each.name not in allowed)
        ]
        if differing:
            message = f"{header.url} cannot be placed on one grid: {'; '.join(differing)}"
            errors.append(MismatchError(f"{message}. {NO_REPROJECTION}", url=header.url))
    if errors:
        raise differing_files(errors)


def _offset(header: Header, first: Header, plane: tuple[int, int], advice: str) -> tuple[int, int]:
    """First row and column of a file, in pixels of the first file.

    Raises
    ------
    MismatchError
        Its corners do not lie on the grid of the first file.
    """
    assert header.facts is not None
    assert first.facts is not None
    height, width = (header.shapes[0][axis] for axis in plane)
    corners = list(_in_pixels(header.facts, first.facts, ((0, 0), (height, width))))
    row, column = (round(value) for value in corners[0])
    expected = ((row, column), (row + height, column + width))
    apart = max(
        abs(a - b)
        for found, whole in zip(corners, expected, strict=True)
        for a, b in zip(found, whole, strict=True)
    )
    if apart > _TOLERANCE:
        raise MismatchError(
            f"{header.url} does not lie on the grid of the first file, {first.url}: it begins"
            f" {corners[0][1]:.6g} columns and {corners[0][0]:.6g} rows from there, and ends up to"
            f" {apart:.3g} pixels from where whole pixels of the first file end. {advice}",
            url=header.url,
        )
    return row, column


def _in_pixels(
    found: FileFacts, first: FileFacts, points: Sequence[tuple[int, int]]
) -> Iterator[tuple[float, float]]:
    """Yield rows and columns of the first file of some rows and columns of another."""
    a, b, c, d, e, f = first.transform
    area = a * e - b * d
    own = found.transform
    for row, column in points:
        x = own[0] * column + own[1] * row + own[2] - c
        y = own[3] * column + own[4] * row + own[5] - f
        yield (a * y - d * x) / area, (e * x - b * y) / area


def _factors(first: Header, level: int, plane: tuple[int, int]) -> tuple[int, int]:
    """Pixels of level 0 per pixel of a level, along y and x."""
    rows, columns = (
        max(1, round(first.shapes[0][axis] / first.shapes[level][axis])) for axis in plane
    )
    return rows, columns


def _overlap_error(one: Header, other: Header, common: tuple[int, int]) -> MismatchError:
    return MismatchError(
        f"{other.url} does not lie beside the other tiles: according to their transforms, it has"
        f" {common[0]} rows and {common[1]} columns in common with {one.url}, and a mosaic would"
        ' show these twice. Pass align="outer" to put all tiles on one canvas, later ones on top,'
        f' or place="stack" to stack them, or {_AS_THEY_ARE}',
        url=other.url,
    )
