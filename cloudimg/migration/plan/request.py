"""What users ask of a copy: checked, in one form, and storable with the plan. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from cloudimg.errors import ArgumentError
from cloudimg.migration.plain_json import to_plain

METHODS = ("mean", "nearest", "mode")
FORMATS = (3, 2)


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """The arguments that decide which bytes are written. None: chosen from the image alone."""

    zarr_format: int = 3
    chunks: Any = None
    """By dim, a tuple in the order of the image's dims, or a number for y and x."""
    shards: Any = None
    """Likewise."""
    levels: int | None = None
    """Number of levels, the full one too."""
    factors: Any = None
    """From each level to the next by dim; a list has one for each step."""
    downsampling: str | None = None
    codec: Any = None
    """See `codecs.make_codec`; JSON."""
    name: str | None = None
    """Of the image."""

    def __post_init__(self) -> None:
        if self.zarr_format not in FORMATS or isinstance(self.zarr_format, bool):
            raise ArgumentError(f"zarr_format={self.zarr_format!r} must be 3 or 2")
        if self.downsampling not in (None, *METHODS):
            raise ArgumentError(
                f"downsampling={self.downsampling!r} must be one of {', '.join(METHODS)}"
            )
        if self.levels is not None:
            _positive(self.levels, "levels")
        if self.shards is not None and self.zarr_format == 2:
            raise ArgumentError("shards: Zarr 2 has none; leave them out, or use zarr_format=3")
        n_steps = len(self.factors) if isinstance(self.factors, list | tuple) else None
        if self.levels is not None and n_steps not in (None, self.levels - 1):
            raise ArgumentError(
                f"levels={self.levels}, but factors= has {n_steps} steps: give one of them, or one"
                " step less than there are levels"
            )
        if self.name is not None and not isinstance(self.name, str):
            raise ArgumentError(f"name={self.name!r} must be a text")

    def to_json(self) -> dict[str, Any]:
        """For the journal; equal where the request is."""
        found: dict[str, Any] = to_plain(asdict(self))
        return found

    def resolved(self, dims: Sequence[str]) -> dict[str, Any]:
        """As `to_json`; equal where two requests ask for the same by other means.

        Raises
        ------
        ArgumentError
            For what does not fit the dims.
        """
        return {
            **self.to_json(),
            "chunks": by_dim(self.chunks, dims, "chunks"),
            "shards": by_dim(self.shards, dims, "shards"),
            "factors": factors_of(self, dims),
            "downsampling": method_of(self),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """The request again."""
        return cls(**found)


def _positive(value: Any, what: str) -> int:
    is_whole = hasattr(value, "__index__") and getattr(value, "ndim", 0) == 0
    if isinstance(value, bool) or not is_whole or int(value) < 1:
        raise ArgumentError(f"{what}={value!r} must be a whole number from 1 on")
    return int(value)


def by_dim(value: Any, dims: Sequence[str], what: str) -> dict[str, int]:
    """Extents by dim, of those dims that are told of.

    Raises
    ------
    ArgumentError
        For dims that do not exist and numbers that are not positive.
    """
    if value is None:
        return {}
    if isinstance(value, Mapping):
        unknown = set(value) - set(dims)
        if unknown:
            names = sorted(unknown, key=str)
            raise ArgumentError(f"{what} name {names}, the image has {tuple(dims)}")
        return {dim: _positive(n, f"{what}[{dim!r}]") for dim, n in value.items()}
    if isinstance(value, list | tuple):
        if len(value) != len(dims):
            raise ArgumentError(f"{len(value)} {what} for the {len(dims)} dims {tuple(dims)}")
        return {dim: _positive(n, what) for dim, n in zip(dims, value, strict=True)}
    if isinstance(value, str):
        raise ArgumentError(f"{what}={value!r} must be a number, a tuple or a mapping by dim")
    extent = _positive(value, what)
    return {dim: extent for dim in dims if dim in ("y", "x")}


Factors = tuple[int, ...]


def factors_of(request: WriteRequest, dims: Sequence[str]) -> Factors | list[Factors] | None:
    """Factors by dim of each step, one for every step, or None where they are to be chosen.

    Raises
    ------
    ArgumentError
    """
    asked = request.factors
    if asked is None:
        return None
    if isinstance(asked, list | tuple):
        return [_step(each, dims) for each in asked]
    return _step(asked, dims)


def _step(asked: Any, dims: Sequence[str]) -> Factors:
    if not isinstance(asked, Mapping):
        extent = _positive(asked, "factors")
        return tuple(extent if dim in ("y", "x") else 1 for dim in dims)
    found = by_dim(asked, dims, "factors")
    return tuple(found.get(dim, 1) for dim in dims)


def method_of(request: WriteRequest) -> str:
    """How levels are made."""
    return request.downsampling or "mean"
