"""The axis along which a copy may grow: checked against what else is requested of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from cloudimg.errors import ArgumentError
from cloudimg.migration.plan.request import WriteRequest, by_dim, factors_of

_NEVER = {
    "y": "images would get other sizes",
    "x": "images would get other sizes",
    "c": "the metadata describes each channel",
    "s": "the metadata describes each channel",
}


def growing_axis(request: WriteRequest, dims: Sequence[str], lead_dims: Sequence[str]) -> int:
    """Position of the axis along which a copy may grow.

    Parameters
    ----------
    request : WriteRequest
        With `grow`.
    dims, lead_dims : sequences of str
        Axes of each image, and axes along which each index is a separate image.

    Raises
    ------
    ArgumentError
        If a copy cannot grow along it, or chunks, shards or factors along it are not 1.
    """
    grow = request.grow
    assert grow is not None
    given = f"grow={grow!r}"
    if grow in _NEVER:
        raise ArgumentError(
            f"{given}: a copy cannot grow along {grow}, because {_NEVER[grow]}: name an axis such"
            " as t or z"
        )
    if grow in lead_dims:
        raise ArgumentError(
            f"{given}: each index of {grow} would be an image of its own, and a copy cannot grow by"
            " images: copy those that come later to a destination of their own"
        )
    if grow not in dims:
        raise ArgumentError(f"{given} is not an axis of the image, which has {tuple(dims)}")
    if request.overview:
        raise ArgumentError(f"{given} and overview=True exclude each other")
    lengths = {name: by_dim(getattr(request, name), dims, name) for name in ("chunks", "shards")}
    axis, requested = list(dims).index(grow), factors_of(request, dims)
    steps = requested if isinstance(requested, list) else [requested or (1,) * len(dims)]
    factors = [dict(zip(dims, step, strict=True)) for step in steps]
    for name, by_axis in (*lengths.items(), *(("factors", each) for each in factors)):
        if by_axis.get(grow, 1) != 1:
            raise ArgumentError(
                f"{name}= has {by_axis[grow]} along {grow}, but a copy that grows along it has 1"
                f" there: leave {grow} out of {name}="
            )
    return axis
