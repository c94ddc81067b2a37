"""`Plate`: which axes of a source are the wells of a plate, and where its images lie. Pure.

OME-Zarr stores a plate as groups of rows, of wells in them, and of images in these
(https://ngff.openmicroscopy.org/0.5/index.html#hcs-layout). Rows and columns have alphanumeric
names, which may not differ in case only. Names of wells are kept as the source spells them, ``B03``
as ``B/03``, unless it spells a row or a column in two ways; a row with a number gets the letters
that are printed on plates, 2 becomes B.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.errors.checked_json import (
    checked_ints,
    checked_list,
    checked_object,
    checked_optional_text,
    checked_text,
    checked_texts,
)

Shape = tuple[int, ...]

_WELL, _ROW_DIM, _COLUMNS = "well", "row", ("col", "column")
_FIELDS = (
    "field", "f", "fov", "site", "position", "pos", "p", "point", "xy", "tile", "m", "tile_y",
    "tile_x",
)  # fmt: skip
"""Names of axes along which each index is a field of view of a well."""
_ACQUISITIONS = ("acquisition", "acq", "run", "measurement", "cycle", "round")
"""Names of axes along which a plate was imaged again."""
_OF_WELL = re.compile(r"([A-Za-z]{1,2})[ _-]*([0-9]{1,4})")
_BY_NUMBERS = re.compile(r"[Rr]([0-9]{1,4})[ _-]*[Cc]([0-9]{1,4})")
_ROW = re.compile(r"[A-Za-z]{1,2}|[0-9]{1,4}")
_COLUMN = re.compile(r"[0-9]{1,4}")
_PATH = re.compile(rf"(?:{_ROW.pattern})/{_COLUMN.pattern}")
_MOST_LETTERS = 26 * 27
"""Number of rows that have one or two letters."""
_MOST_WELLS = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class Plate:
    """The plate whose fields of view are the images of a plan."""

    lead_dims: tuple[str, ...]
    """Axes of the source along which each index is an image, see `Plan.lead_dims`."""
    lead_shape: Shape
    well_dims: tuple[str, ...]
    """Those along which each index is another well, or another row or column."""
    acquisition_dim: str | None
    """The one along which the plate was imaged again."""
    wells: tuple[str, ...]
    """Path of each well, in C order of its dims."""
    absent: tuple[int, ...] = ()
    """Positions of the wells of which the source has no file: groups that the plate does not
    list."""
    _absent: frozenset[int] = field(init=False, repr=False, compare=False)
    _groups: frozenset[str] = field(init=False, repr=False, compare=False)
    """Paths of all rows and wells."""
    _strides: tuple[tuple[int, int, int], ...] = field(init=False, repr=False, compare=False)
    """By lead dim, the last one first: its length, and what a step along it adds to the position of
    the well, and to the number of the image in it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_absent", frozenset(self.absent))
        rows = (path.partition("/")[0] for path in self.wells)
        object.__setattr__(self, "_groups", frozenset((*rows, *self.wells)))
        of_well, of_inner = (self._strides_along(d) for d in (self.well_dims, self.inner_dims))
        strides = [
            (n, of_well.get(dim, 0), of_inner.get(dim, 0))
            for dim, n in zip(self.lead_dims, self.lead_shape, strict=True)
        ]
        object.__setattr__(self, "_strides", tuple(reversed(strides)))

    def _strides_along(self, dims: tuple[str, ...]) -> dict[str, int]:
        lengths = self._lengths(dims)
        return {dim: math.prod(lengths[i + 1 :]) for i, dim in enumerate(dims)}

    @property
    def inner_dims(self) -> tuple[str, ...]:
        """Axes along which each index is an image of the same well, that of acquisitions first."""
        acquisitions = () if self.acquisition_dim is None else (self.acquisition_dim,)
        outer = (*self.well_dims, *acquisitions)
        return (*acquisitions, *(dim for dim in self.lead_dims if dim not in outer))

    @property
    def n_acquisitions(self) -> int:
        """Number of acquisitions, 1 if no axis says so."""
        return math.prod(self._lengths(self.inner_dims[: self.acquisition_dim is not None]))

    @property
    def n_of_well(self) -> int:
        """Number of images of a well."""
        return math.prod(self._lengths(self.inner_dims))

    def listed(self) -> Iterable[int]:
        """Positions of the wells that have a file."""
        return (i for i in range(len(self.wells)) if i not in self._absent)

    def place(self, image: int) -> tuple[int, int]:
        """Position of the well of an image, and number of the image in it."""
        well = number = 0
        for n, of_well, of_inner in self._strides:
            image, at = divmod(image, n)
            well += of_well * at
            number += of_inner * at
        return well, number

    def is_listed(self, image: int) -> bool:
        """Whether the well of an image has a file."""
        return not self._absent or self.place(image)[0] not in self._absent

    def path(self, image: int) -> str:
        """Path of an image."""
        well, number = self.place(image)
        return f"{self.wells[well]}/{number}"

    def depth(self, folders: Sequence[str]) -> int:
        """How many folders of a path are groups of the plate, up to that of an image."""
        if not folders or folders[0] not in self._groups:
            return 0
        if len(folders) < 2 or "/".join(folders[:2]) not in self._groups:
            return 1
        return 3 if len(folders) > 2 and is_number_below(folders[2], self.n_of_well) else 2

    def _lengths(self, dims: Iterable[str]) -> Shape:
        length = dict(zip(self.lead_dims, self.lead_shape, strict=True))
        return tuple(length[dim] for dim in dims)

    def to_json(self) -> dict[str, Any]:
        """The plate as JSON, without the axes that the plan has."""
        return {
            "well_dims": list(self.well_dims),
            "acquisition_dim": self.acquisition_dim,
            "wells": list(self.wells),
            "absent": list(self.absent),
        }

    @classmethod
    def from_json(cls, stored: Any, lead_dims: Sequence[str], lead_shape: Shape) -> Self:
        """Restore a plate from `to_json`.

        Raises
        ------
        ValueError
            If it is not one whose axes are those of the plan and whose wells have names of wells.
        """
        where = "plan.plate"
        checked_object(stored, where, required=("well_dims", "acquisition_dim", "wells", "absent"))
        well_dims = checked_texts(stored["well_dims"], f"{where}.well_dims", most=2)
        acquisition_dim = checked_optional_text(
            stored["acquisition_dim"], f"{where}.acquisition_dim"
        )
        named = [*well_dims, *([] if acquisition_dim is None else [acquisition_dim])]
        if not well_dims or len(set(named)) < len(named) or not set(named) <= set(lead_dims):
            raise ValueError(f"{where} has other axes than the plan")
        n_wells = math.prod(lead_shape[lead_dims.index(dim)] for dim in well_dims)
        wells = checked_list(stored["wells"], f"{where}.wells", n=n_wells, most=_MOST_WELLS)
        for i, path in enumerate(wells):
            checked_text(path, f"{where}.wells[{i}]", most=16, pattern=_PATH)
        if _has_twice(wells):
            raise ValueError(f"{where}.wells has a name twice")
        absent = checked_ints(
            stored["absent"], f"{where}.absent", most=n_wells - 1, greatest=n_wells - 1
        )
        if list(absent) != sorted(set(absent)):
            raise ValueError(f"{where}.absent does not increase")
        return cls(
            lead_dims=tuple(lead_dims),
            lead_shape=lead_shape,
            well_dims=tuple(well_dims),
            acquisition_dim=acquisition_dim,
            wells=tuple(wells),
            absent=absent,
        )


def is_number_below(text: str, limit: int) -> bool:
    """Whether a text is a number from zero to a limit, as it is written in a path."""
    return is_number(text) and str(int(text)) == text and int(text) < limit


def is_number(text: str) -> bool:
    """Whether a text is a number, as Zarr 2 has them in the names of chunks."""
    return text.isascii() and text.isdecimal() and len(text) < 20


def in_order(names: Iterable[str]) -> list[str]:
    """Names of rows or columns, each once, in the order in which they lie on a plate."""
    return sorted(
        set(names),
        key=lambda name: (int(name) if name.isdecimal() else 0, len(name), name),
    )


# ---------------------------------------------------------------------------------- recognition


def plate_of(
    dims: Mapping[str, int],
    labels: Callable[[str], Sequence[Any]],
    has_files: Callable[[tuple[str, ...]], npt.NDArray[np.bool_] | None],
) -> Plate | str | None:
    """The plate that the axes of a source are, if they are one.

    Parameters
    ----------
    dims : mapping
        The axes that are not of an image (see `AxesMapping`), and their lengths.
    labels : callable
        The labels along one of them.
    has_files : callable
        By index along some of them, whether the source has any file; None if that is not known.

    Returns
    -------
    Plate, str or None
        The plate; why axes with the names of wells are none, as a part of a sentence; None if there
        are no such axes.
    """
    well_dims = _well_dims(dims)
    if not well_dims:
        return None
    inner = [dim for dim in dims if dim not in well_dims and dims[dim] > 1]
    acquisitions = [dim for dim in inner if dim in _ACQUISITIONS]
    others = [dim for dim in inner if dim not in (*_FIELDS, *acquisitions[:1])]
    if others:
        return f"the axis {others[0]} is neither one of fields nor one of acquisitions"
    wells = _wells(well_dims, labels)
    if isinstance(wells, str):
        return wells
    found = has_files(well_dims)
    absent = () if found is None else tuple(int(i) for i in np.flatnonzero(~found.ravel()))
    return Plate(
        lead_dims=tuple(dims),
        lead_shape=tuple(dims.values()),
        well_dims=well_dims,
        acquisition_dim=acquisitions[0] if acquisitions else None,
        wells=tuple(wells),
        absent=absent,
    )


def _well_dims(dims: Mapping[str, int]) -> tuple[str, ...]:
    """The axis of wells, or those of rows and columns; empty if there are none."""
    if _WELL in dims:
        return (_WELL,)
    column = next((dim for dim in _COLUMNS if dim in dims), None)
    return () if column is None or _ROW_DIM not in dims else (_ROW_DIM, column)


def _wells(well_dims: tuple[str, ...], labels: Callable[[str], Sequence[Any]]) -> list[str] | str:
    """Paths of the wells, or why there are none."""
    wells = _paths(well_dims, labels)
    if isinstance(wells, str):
        return wells
    if len(wells) > _MOST_WELLS:
        return f"it would have {len(wells)} wells"
    return "two of its wells would have the same name" if _has_twice(wells) else wells


def _paths(well_dims: tuple[str, ...], labels: Callable[[str], Sequence[Any]]) -> list[str] | str:
    """Paths of the wells, or the first label that does not look like one."""
    if len(well_dims) == 1:
        places = []
        for label in labels(_WELL):
            match = _OF_WELL.fullmatch(str(label)) or _BY_NUMBERS.fullmatch(str(label))
            if match is None:
                return f"{str(label)[:40]!r} is not the name of a well, such as B03"
            places.append((match[1], match[2]))
        rows, columns = zip(*places, strict=True)
        pairs: Iterable[tuple[str, str]] = zip(
            _spelled_alike(_letters(rows)), _spelled_alike(columns), strict=True
        )
    else:
        found = [[str(label) for label in labels(dim)] for dim in well_dims]
        for names, pattern, dim in zip(found, (_ROW, _COLUMN), well_dims, strict=True):
            for name in names:
                if not pattern.fullmatch(name):
                    what = "row" if dim == _ROW_DIM else "column"
                    return f"{name[:40]!r} is not the name of a {what}"
        pairs = product(_spelled_alike(_letters(found[0])), _spelled_alike(found[1]))
    return [f"{row}/{column}" for row, column in pairs]


def _letters(rows: Sequence[str]) -> list[str]:
    """Rows by the letters that are printed on plates, where they are counted from one."""
    if not all(0 < int(row) <= _MOST_LETTERS for row in rows if row.isdecimal()):
        return list(rows)
    return [_of_number(int(row) - 1) if row.isdecimal() else row for row in rows]


def _of_number(position: int) -> str:
    """Letters of a row: after Z comes AA."""
    tens, ones = divmod(position, 26)
    return "".join(chr(64 + n) for n in (tens, ones + 1) if n)


def _spelled_alike(names: Sequence[str]) -> list[str]:
    """Rows or columns in one spelling each, where b is beside B, or 3 beside 03."""
    plain = [str(int(name)) if name.isdecimal() else name.upper() for name in names]
    return list(names) if len(set(plain)) == len(set(names)) else plain


def _has_twice(wells: Sequence[str]) -> bool:
    return len({path.lower() for path in wells}) < len(wells)
