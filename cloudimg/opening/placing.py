"""Where the files of a grid lie in the image: by index, by their transforms, by the stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.grid import FileGrid
from cloudimg.errors.notes import Remark
from cloudimg.opening.header import Header, Index
from cloudimg.opening.header_columns import HeaderColumns
from cloudimg.opening.index_files.index_facts import IndexFacts
from cloudimg.opening.options import OpenArguments
from cloudimg.opening.place_by_stage import (
    MOST_APART,
    REPEATED,
    KnownPlaces,
    axes_of_fields,
    most_complete,
    pixels_per_unit,
    place_by_stage,
    refuse_fields_within,
)
from cloudimg.opening.place_on_earth import place_on_earth, tiles_among
from cloudimg.opening.read_headers import key_at
from cloudimg.reading.layout import Layout, arrange
from cloudimg.reading.reader import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """What places the files of a grid, besides their indices."""

    arguments: OpenArguments
    by_transforms: bool
    by_stage: bool
    known: tuple[KnownPlaces, ...]
    """Positions of the stage that are known without headers, the most trusted first."""
    index: IndexFacts | None

    @classmethod
    def of(
        cls,
        grid: FileGrid,
        arguments: OpenArguments,
        *,
        by_transforms: bool,
        index: IndexFacts | None,
        table: FactColumns | None,
    ) -> Self:
        """Decide what places the files.

        Parameters
        ----------
        grid : FileGrid
        arguments : OpenArguments
        by_transforms : bool
            Whether to place tiles by their transforms although the arguments do not say so.
        index : IndexFacts, optional
            What index files say.
        table : FactColumns, optional
            What the table of the files says.
        """
        known = [] if table is None else [KnownPlaces(table)]
        if index is not None:
            known.append(KnownPlaces(index.facts))
        return cls(
            arguments=arguments,
            by_transforms=by_transforms or (arguments.align is not None and bool(grid.fields)),
            by_stage=arguments.place == "stage" and bool(grid.fields),
            known=tuple(known),
            index=index,
        )

    def arrange(self, grid: FileGrid, first: Header, file_dims: tuple[str, ...]) -> list[Layout]:
        """Lay out the axes of the image, at each level, as if all files were as large as the first.

        Raises
        ------
        ArgumentError
        """
        is_mosaic = self.arguments.place == "index"
        on_canvas = tiles_among(grid.fields, self.arguments.place) if self.by_transforms else None
        if self.by_stage:
            on_canvas = axes_of_fields(grid.fields, file_dims)
        elif not grid.fields:
            refuse_fields_within(file_dims, first.url, self.arguments)
        return [
            arrange(
                grid.fields,
                grid.shape,
                file_dims,
                shape,
                mosaic=is_mosaic,
                dims=self.arguments.dims,
                on_canvas=on_canvas,
            )
            for shape in first.shapes
        ]

    def place(
        self,
        layouts: tuple[Layout, ...],
        grid: FileGrid,
        reader: Reader,
        headers: HeaderColumns,
        facts: FactColumns,
    ) -> tuple[tuple[Layout, ...], tuple[Remark, ...]]:
        """Return the layouts with the places of the files, and remarks on the first one.

        Parameters
        ----------
        layouts : tuple of Layout
            By level, of files on a canvas whose places are not known yet.
        grid : FileGrid
        reader : Reader
        headers : HeaderColumns
            Headers that were read.
        facts : FactColumns
            What these headers say of each file.

        Raises
        ------
        MismatchError, GridError
        """
        if self.by_transforms:
            return place_on_earth(layouts, headers, self.arguments)
        first = headers.first
        if self.index is not None:
            first = replace(first, attrs=self.index.filling(first.attrs))

        def url_at(index: Index) -> str:
            return reader.store.location.display(key_at(reader, grid, index))

        known = [*self.known, KnownPlaces(facts)]
        layout = place_by_stage(layouts[0], grid, known, first, self.arguments, url_at)
        assert layout.canvas is not None
        source = most_complete(known, grid)
        return (layout,), tuple(_on_moved_fields(grid, layout.canvas.fields, source, first))


def _on_moved_fields(
    grid: FileGrid, on_canvas: tuple[int, ...], source: KnownPlaces, first: Header
) -> Iterator[Remark]:
    """Yield a remark if fields lie elsewhere among each other at other times, channels or planes.

    Positions of other files than those that place the fields are only looked at if they are known.
    """
    repeated = tuple(i for i, name in enumerate(grid.fields) if name in REPEATED)
    rows = grid.positions
    rows = rows[np.isfinite(source.at(rows)).all(axis=-1)]
    units = np.unique(source.facts.column("stage_unit", rows))
    if not repeated or len(units) > 1:
        return
    places = np.full((grid.sizes.size, 2), np.nan)
    places[rows] = source.at(rows) * pixels_per_unit(source.facts, rows, first)
    places = places.reshape(*grid.shape, 2)
    at = np.isfinite(places[..., :1])
    for axis in repeated:  # the first along all of them
        chosen = np.expand_dims(at.argmax(axis), axis)
        moved = places - np.take_along_axis(places, chosen, axis)
        apart = np.fmax.reduce(moved, on_canvas) - np.fmin.reduce(moved, on_canvas)
        size = [first.shapes[0][first.dims.index(name)] for name in ("y", "x")]
        if (apart > MOST_APART * np.array(size)).any():
            n_rows, n_columns = np.fmax.reduce(apart.reshape(-1, 2), axis=0)
            name = grid.fields[axis]
            yield Remark(
                "fields-moved",
                f"along {name}, fields lie up to {n_rows:.0f} rows and {n_columns:.0f} columns"
                f" elsewhere among each other, and are shown where they were first; select one"
                f' {name} with select=, or stack the fields with place="stack"',
            )
