"""`ImagePlace`: where the stage was at an image, as the cell knows that read it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from cloudimg.errors.checked_json import checked_int, checked_list, checked_number, checked_text


class ImagePlace(NamedTuple):
    """The position of the stage at the first file of an image of a collection."""

    image: int
    """Number of the image."""
    x: float | None
    y: float | None
    z: float | None
    unit: str
    """Unit of the positions, as in the column ``stage_unit`` of the table of files."""

    @classmethod
    def of(cls, image: int, facts: Mapping[str, Any]) -> Self | None:
        """The place of an image whose first file has some facts; None if it does not say it."""
        unit = facts.get("stage_unit")
        x, y, z = (facts.get(f"stage_{dim}") for dim in "xyz")
        is_known = unit is not None and any(each is not None for each in (x, y, z))
        return cls(image, x, y, z, str(unit)) if is_known else None

    def to_json(self) -> list[Any]:
        """The place as a commit record has it."""
        return list(self)

    @classmethod
    def from_json(cls, stored: Any, where: str) -> Self:
        """Restore it from `to_json`.

        Raises
        ------
        ValueError
            If it is anything else.
        """
        image, *at, unit = checked_list(stored, where, n=5)
        x, y, z = (None if each is None else checked_number(each, where) for each in at)
        return cls(checked_int(image, where), x, y, z, checked_text(unit, where, most=256))
