"""What a migration of an array reads: Dask computes its pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np

from cloudimg.__about__ import __version__
from cloudimg.distributed.on_worker import warn
from cloudimg.errors import ArgumentError
from cloudimg.migration.metadata.calibration import Calibration
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.metadata.facts_of_array import facts_of_array
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.migration.plan.reduction import nodata_of, reduction_of
from cloudimg.migration.run.dask_input import DaskInput, refuse_mask
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.reading.source import make_token

_OF_USER = 6
"""Frames between a warning and the call of the user."""
_LAST_DIMS = ("t", "c", "z", "y", "x")
_N_COLOURS = (3, 4)


def write_input_of_array(
    array: Any,
    *,
    dims: Sequence[str] | None,
    name: str | None = None,
    identity: str | None,
    calibration: Calibration | None = None,
) -> WriteInput:
    """The input for a Dask array, an `xarray.DataArray` or a NumPy array.

    Parameters
    ----------
    array : dask.array.Array, xarray.DataArray or ndarray
    dims : sequence of str, optional
        Names of the axes; by default those of the DataArray, or the last of t, c, z, y, x.
    name : str, optional
        Name of the image.
    identity : str, optional
        Names the content of an array whose name in Dask differs in each run.
    calibration : Calibration, optional
        What the user states of the array.

    Raises
    ------
    ArgumentError
    """
    is_xarray = hasattr(array, "dims") and hasattr(array, "coords") and hasattr(array, "data")
    if is_xarray and dims is None:
        dims = tuple(str(dim) for dim in array.dims)
    data = _as_dask_array(array.data if is_xarray else array)
    names = _checked_dims(dims, data.shape)
    _refuse_unwritable(data)
    axes_mapping = AxesMapping(names, data.shape)
    description = {
        "kind": "array",
        "dims": list(names),
        "shape": list(data.shape),
        "dtype": data.dtype.str,
        "fingerprint": make_token(identity if identity is not None else data.name, names),
        "identity": identity,
    }
    facts = facts_of_array(
        axes_mapping,
        dtype=data.dtype,
        name=name,
        provenance={"source": "array", "cloudimg": __version__},
        xarray=array if is_xarray else None,
        dims=names,
        calibration=calibration,
    )
    stated = _stated_nodata(array) if is_xarray else None
    boundaries = [np.cumsum((0, *lengths)).astype(np.int64) for lengths in data.chunks]
    return WriteInput(
        pixels=DaskInput(data, axes_mapping),
        axes_mapping=axes_mapping,
        dtype=data.dtype,
        fill_value=0 if stated is None else nodata_of(stated, data.dtype) or 0,
        nodata=nodata_of(stated, data.dtype),
        reduction=reduction_of(
            facts.attrs, facts.channel_names, data.dtype, axes_mapping.n_samples
        ),
        source_boundaries=boundaries,
        facts=facts,
        source=description,
    )


def warn_of_no_scale(facts: ImageFacts) -> None:
    """Warn if nothing says how large the pixels of an array are, and say how to state it."""
    unknown = [dim for dim in ("y", "x") if dim not in facts.scales]
    if not unknown:
        return
    along = f" along {unknown[0]}" if len(unknown) == 1 else ""
    warn(
        f"the array has no coordinates that say how large its pixels are{along}, so that its copy"
        " has the scale 1 and no units: pass scale={'y': 0.325, 'x': 0.325} and units={'y':"
        " 'micrometer', 'x': 'micrometer'} (scale={} if nobody knows it), or an array that has"
        " them, as Image.to_xarray() returns it",
        level=_OF_USER,
    )


def warn_of_colours(axes_mapping: AxesMapping) -> None:
    """Warn if the last axis of an array without names is taken for x, but looks like colours."""
    names, shape = axes_mapping.source_dims, axes_mapping.source_shape
    if len(shape) < 3 or shape[-1] not in _N_COLOURS or min(shape[-3:-1]) <= max(_N_COLOURS):
        return
    named = (*_LAST_DIMS[len(_LAST_DIMS) + 1 - len(shape) :], "s")
    warn(
        f"the axes of the array, of lengths {shape}, are taken for {', '.join(names)}: pass"
        f" dims={named} if the last one is of colours",
        level=_OF_USER,
    )


def _stated_nodata(array: Any) -> Any:
    """The value without data that a DataArray states, by the conventions of CF and of TIFFs."""
    named = (array.attrs.get("nodata"), array.attrs.get("_FillValue"))
    found = next((each for each in named if each is not None), array.encoding.get("_FillValue"))
    return found.item() if isinstance(found, np.generic) else found


def _as_dask_array(data: Any) -> Any:
    """A Dask or NumPy array as a Dask array.

    Raises
    ------
    ArgumentError
        If it is something else, is masked, or has pixels of a type that cannot be written.
    """
    import dask.array as da
    from dask.array.utils import meta_from_array

    is_lazy = isinstance(data, da.Array)
    refuse_mask(cast(Any, meta_from_array)(data) if is_lazy else data)
    if not is_lazy:
        if not isinstance(data, np.ndarray | np.generic):
            raise ArgumentError(
                f"expected an Image, a dask.array, an xarray.DataArray or a NumPy array, not"
                f" {type(data).__name__}"
            )
        data = np.asarray(data)
    if data.dtype.kind not in "biufc" or data.dtype.char in "gG":
        raise ArgumentError(
            f"cannot write an array of dtype {data.dtype}: convert it to integers, floats or"
            " booleans of up to 64 bits, or to complex numbers"
        )
    return data if is_lazy else cast(Any, da).from_array(data, chunks="auto")


def _checked_dims(dims: Sequence[str] | None, shape: Sequence[int]) -> tuple[str, ...]:
    if dims is None:
        if len(shape) > len(_LAST_DIMS):
            raise ArgumentError(
                f"an array of {len(shape)} axes needs names for them, such as dims=(..., 'y', 'x')"
            )
        return _LAST_DIMS[len(_LAST_DIMS) - len(shape) :]
    if not isinstance(dims, Iterable):
        raise ArgumentError(f"dims={dims!r} must be names of axes, such as dims=('z', 'y', 'x')")
    names = tuple(dims)  # "zyx" too
    if len(names) != len(shape) or len(set(names)) != len(names):
        raise ArgumentError(f"dims={names} must name each of {len(shape)} axes once")
    return names


def _refuse_unwritable(data: Any) -> None:
    if any(n != n for n in data.shape):  # NaN
        raise ArgumentError(
            "the array's shape is unknown until it is computed: call compute_chunk_sizes() on it"
            " first"
        )
    if 0 in data.shape:
        raise ArgumentError(f"an array of shape {data.shape} has no pixels")
