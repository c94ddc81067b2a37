"""`Overview`: how one small image of each image of a plan lies in a single array. Pure.

The wells of a plate lie as on the plate, the fields of a well in rows that are as long as they are
many. The images of a collection lie in such rows, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from cloudimg.errors import ArgumentError
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.plate import in_order

PATH = "overview"
"""Path of the image below the destination."""
_SIDES = (64, 32, 16, 8, 4)
"""Longest side of a small image in pixels: the first one with which the array is small enough."""
_NAMES_2 = ("0/.zarray", "0/.zattrs", ".zattrs", ".zgroup")
_MOST_BYTES = 16 * 2**20
"""Size of the array, if small images are large enough then: it is one object, which a viewer
fetches as a whole."""
_MOST_STORED = 2**28


class Overview:
    """The overview of a plan that has one.

    Parameters
    ----------
    plan : Plan

    Attributes
    ----------
    dims, shape : tuples
        Axes of the array: those of an image except t and z, of which it has the first and the
        middle index.
    factor : int
        Number of pixels of the last level, along y and x, that make one pixel.
    tile : tuple of int
        Height and width of each small image.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        last = dict(zip(plan.dims, plan.levels[-1].shape, strict=True))
        self.factor = 1
        while -(-max(last["y"], last["x"]) // self.factor) > (plan.overview or 1):
            self.factor *= 2
        self.tile = tuple(-(-last[dim] // self.factor) for dim in ("y", "x"))
        self.dims = tuple(dim for dim in plan.dims if dim not in ("t", "z"))
        n_inner = plan.n_images if plan.plate is None else plan.plate.n_of_well
        self._n_columns = math.isqrt(n_inner - 1) + 1
        self._n_rows = -(-n_inner // self._n_columns)
        wells = [] if plan.plate is None else [plan.plate.wells[i] for i in plan.plate.listed()]
        names = [path.split("/") for path in wells] or [["", ""]]
        self._row, self._column = (
            {name: i for i, name in enumerate(in_order(each))} for each in zip(*names, strict=True)
        )
        height = len(self._row) * self._n_rows * self.tile[0]
        width = len(self._column) * self._n_columns * self.tile[1]
        self.shape = tuple({"y": height, "x": width}.get(dim, last[dim]) for dim in self.dims)

    def region(self, image: int) -> tuple[slice, ...]:
        """Where an image lies that the metadata lists."""
        row = column = 0
        number, plate = image, self._plan.plate
        if plate is not None:
            well, number = plate.place(image)
            names = plate.wells[well].split("/")
            row, column = self._row[names[0]], self._column[names[1]]
        down, right = divmod(number, self._n_columns)
        at = {"y": row * self._n_rows + down, "x": column * self._n_columns + right}
        size = dict(zip(("y", "x"), self.tile, strict=True))
        return tuple(
            slice(at[dim] * size[dim], (at[dim] + 1) * size[dim]) if dim in at else slice(None)
            for dim in self.dims
        )

    def source(self) -> tuple[slice, ...]:
        """The region of the last level of each image that it is made from."""
        middle = {"t": 0, "z": self._plan.levels[-1].shape[self._z] // 2 if self._z >= 0 else 0}
        return tuple(
            slice(middle[dim], middle[dim] + 1) if dim in middle else slice(0, length)
            for dim, length in zip(self._plan.dims, self._plan.levels[-1].shape, strict=True)
        )

    @property
    def _z(self) -> int:
        return self._plan.dims.index("z") if "z" in self._plan.dims else -1

    @property
    def array_key(self) -> str:
        """Key of the array's only chunk."""
        position = "/".join("0" for _ in self.dims)
        return f"{PATH}/0/{'c/' if self._plan.zarr_format == 3 else ''}{position}"


def is_of_overview(plan: Plan, key: str) -> bool:
    """Whether a key is one of the overview's."""
    return key.startswith(f"{PATH}/") and key in overview_keys(plan)


def overview_keys(plan: Plan) -> tuple[str, ...]:
    """Keys of the overview; none if the plan has none."""
    if plan.overview is None:
        return ()
    names = ("0/zarr.json", "zarr.json") if plan.zarr_format == 3 else _NAMES_2
    return (Overview(plan).array_key, *(f"{PATH}/{name}" for name in names))


def without_pixels_of_overview(plan: Plan, documents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Documents by key, for a copy with damaged pixels: its overview may have been made of others.

    Parameters
    ----------
    plan : Plan
    documents : mapping
        With an overview that is made of the pixels as they are now.
    """
    key = "" if plan.overview is None else Overview(plan).array_key
    return {each: data for each, data in documents.items() if each != key}


def with_overview(plan: Plan) -> Plan:
    """A plan with an overview.

    Raises
    ------
    ArgumentError
        If the plan has only one image.
    """
    if not plan.lead_dims:
        raise ArgumentError(
            "overview=True is for copies of several images, and this one is of a single image, of"
            " which a viewer reads the last level: leave it out"
        )
    candidates = [replace(plan, overview=side) for side in _SIDES]
    found = next((each for each in candidates if _n_bytes(each) <= _MOST_BYTES), candidates[-1])
    if _n_bytes(found) > _MOST_STORED:
        raise ArgumentError(
            f"overview=True: {plan.n_images} images are too many for one array; leave it out"
        )
    return found


def check_overview(plan: Plan) -> None:
    """Check that the overview of a plan, if it has one, fits into memory.

    Raises
    ------
    ValueError
    """
    if plan.overview is not None and not (plan.lead_dims and _n_bytes(plan) <= _MOST_STORED):
        raise ValueError("plan.overview is of one image, or takes too much memory")


def _n_bytes(plan: Plan) -> int:
    return math.prod(Overview(plan).shape) * int(plan.dtype[2:])
