"""`PlannedLevel` and `Stage`: the levels of a plan, and the passes that write them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from cloudimg.errors.checked_json import checked_int, checked_ints, checked_list

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PlannedLevel:
    """One resolution level of each image."""

    shape: Shape
    """Shape of the array, in the plan's dims."""
    shard: Shape
    """Shape of what one cell stores: a shard, which is whole chunks. In Zarr 2 several chunks."""
    factors: Shape
    """By dim, the number of pixels of the level below that make one pixel; ones at level 0."""

    def to_json(self) -> list[Any]:
        """The level as JSON for the plan."""
        return [list(self.shape), list(self.shard), list(self.factors)]

    @classmethod
    def from_json(cls, stored: Any, where: str, n_dims: int) -> Self:
        """Restore a level from `to_json`.

        Raises
        ------
        ValueError
        """
        parts = checked_list(stored, where, n=3)
        return cls(
            *(
                checked_ints(part, f"{where}.{name}", n=n_dims, least=1)
                for part, name in zip(parts, ("shape", "shard", "factors"), strict=True)
            )
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """One pass over the images, which reads one level and writes one or more."""

    input_level: int | None
    """The level that is read back. None: the source is read."""
    first_level: int
    """First level that is written."""
    last_level: int
    """Last level that is written, inclusive."""
    cell: Shape
    """Extent of a cell in pixels of the input level."""
    grid: Shape
    """Number of cells of one image, by dim."""
    images: Shape = ()
    """By lead dim, the number of indices whose images a cell covers: some of one dim, and all of
    the dims after it. Empty where a cell covers one image or a part of it, and in plans of older
    versions."""

    def to_json(self) -> list[Any]:
        """The stage as JSON for the plan."""
        levels = [self.input_level, self.first_level, self.last_level]
        images = [list(self.images)] if self.images else []
        return [*levels, list(self.cell), list(self.grid), *images]

    @classmethod
    def from_json(cls, stored: Any, where: str, n_dims: int, n_lead_dims: int) -> Self:
        """Restore a stage from `to_json`.

        Raises
        ------
        ValueError
        """
        has_images = n_lead_dims > 0 and isinstance(stored, list) and len(stored) == 6
        before, first, last, cell, grid, *images = checked_list(stored, where, n=5 + has_images)
        return cls(
            None if before is None else checked_int(before, f"{where}.input_level"),
            checked_int(first, f"{where}.first_level"),
            checked_int(last, f"{where}.last_level"),
            checked_ints(cell, f"{where}.cell", n=n_dims, least=1),
            checked_ints(grid, f"{where}.grid", n=n_dims, least=1),
            checked_ints(images[0], f"{where}.images", n=n_lead_dims, least=1) if images else (),
        )
