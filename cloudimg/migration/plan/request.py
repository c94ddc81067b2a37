"""What the user requests of a copy: checked, normalized, storable in the journal. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from cloudimg.errors import ArgumentError, counted
from cloudimg.errors.checked_json import (
    checked_int,
    checked_list,
    checked_mapping,
    checked_number,
    checked_object,
    checked_optional_text,
    checked_plain,
    checked_text,
    checked_texts,
)
from cloudimg.migration.plain_json import to_plain
from cloudimg.migration.plan.plan import FORMATS, METHODS

_MOST_OF_CODEC = 4096
_FIELDS = (
    "zarr_format", "chunks", "shards", "levels", "factors", "downsampling", "codec", "name",
    "pixel_size", "translation", "channel_names", "plate", "overview", "grow", "companions",
)  # fmt: skip
OF_METADATA = ("name", "pixel_size", "translation", "channel_names", "companions")
"""Fields that change only documents, and maybe which axes are halved first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRequest:
    """The arguments that determine which bytes are written. None: chosen from the image."""

    zarr_format: int = 3
    """3 or 2."""
    chunks: Any = None
    """Lengths by dim, a tuple in the order of the image's dims, or a number for y and x."""
    shards: Any = None
    """Lengths in the same forms as `chunks`."""
    levels: int | None = None
    """Number of levels, including the full one."""
    factors: Any = None
    """Factors by dim from each level to the next; a list has one item for each step."""
    downsampling: str | None = None
    """How levels are downsampled: mean, nearest or mode. None: by what the header says."""
    codec: Any = None
    """The codec in JSON; see `codecs.make_codec`."""
    name: str | None = None
    """Name of the image."""
    pixel_size: Mapping[str, str] | None = None
    """Distance of pixels with its unit by dim, such as ``"0.325micrometer"``; either may lack."""
    translation: Mapping[str, float] | None = None
    """Position of the first pixel by dim, in the unit of its axis."""
    channel_names: Sequence[str] | None = None
    """Names of the channels, with samples as channels."""
    plate: bool | None = None
    """Whether the images are the fields of a plate. None: if their axes are those of one."""
    overview: bool | None = None
    """Whether to make a small image of each image in one array."""
    grow: str | None = None
    """The axis along which the copy may grow."""

    companions: bool | None = None
    """Whether to keep the files with metadata beside the images."""

    def __post_init__(self) -> None:
        if self.zarr_format not in FORMATS or isinstance(self.zarr_format, bool):
            raise ArgumentError(f"zarr_format={self.zarr_format!r} must be 3 or 2")
        if self.downsampling not in (None, *METHODS):
            raise ArgumentError(
                f"downsampling={self.downsampling!r} must be one of {', '.join(METHODS)}"
            )
        if self.shards is not None and self.zarr_format == 2:
            raise ArgumentError("Zarr 2 has no shards: leave out shards=, or use zarr_format=3")
        if self.name is not None and not isinstance(self.name, str):
            raise ArgumentError(f"name={self.name!r} must be a string")
        if self.grow is not None and not (isinstance(self.grow, str) and self.grow):
            raise ArgumentError(f"grow={self.grow!r} must be the name of an axis, such as 't'")
        for name in ("plate", "overview", "companions"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, bool):
                raise ArgumentError(f"{name}={value!r} must be True or False")
        self._check_levels()

    def _check_levels(self) -> None:
        if self.levels is None:
            return
        _positive(self.levels, "levels")
        n_steps = len(self.factors) if isinstance(self.factors, list | tuple) else None
        if n_steps is not None and n_steps != self.levels - 1:
            raise ArgumentError(
                f"levels={self.levels}, but factors= has {counted(n_steps, 'step')}: pass one of"
                " the two, or one step fewer than there are levels"
            )

    def to_json(self) -> dict[str, Any]:
        """The request as JSON, as the journal stores it; equal requests give equal JSON."""
        plain: dict[str, Any] = to_plain(asdict(self))
        # Without these, the plan has the bytes that versions before them gave it.
        return {
            name: plain[name]
            for name in plain
            if name in _FIELDS[:8] or plain[name] or plain[name] is False
        }

    def resolved(self, dims: Sequence[str]) -> dict[str, Any]:
        """`to_json`, in a form that is equal for all ways to request the same.

        Raises
        ------
        ArgumentError
            If an argument does not fit the dims.
        """
        return {
            **self.to_json(),
            "chunks": by_dim(self.chunks, dims, "chunks"),
            "shards": by_dim(self.shards, dims, "shards"),
            "factors": factors_of(self, dims),
        }

    @classmethod
    def from_json(cls, stored: Any) -> Self:
        """Restore a request from `to_json`.

        Raises
        ------
        ValueError
            If it is not a request that could have been made.
        """
        checked_object(stored, "request", optional=_FIELDS)
        for name in ("chunks", "shards", "factors"):
            for each in _each_step(stored.get(name)):
                _check_lengths(each, f"request.{name}")
        codec = checked_plain(stored.get("codec"), "request.codec")
        checked_text(json.dumps(codec), "request.codec", most=_MOST_OF_CODEC)
        checked_optional_text(stored.get("downsampling"), "request.downsampling", most=256)
        checked_optional_text(stored.get("name"), "request.name")
        checked_optional_text(stored.get("grow"), "request.grow", most=256)
        _check_calibration(stored)
        invalid = ""
        try:
            return cls(**stored)
        except ArgumentError as exc:
            invalid = exc.message
        raise ValueError(f"request: {invalid}")


def _each_step(value: Any) -> list[Any]:
    """The items of a list of factors of several steps; other values are one."""
    has_steps = isinstance(value, list) and any(isinstance(each, list | Mapping) for each in value)
    return checked_list(value, "request.factors", most=64) if has_steps else [value]


def _check_calibration(stored: Mapping[str, Any]) -> None:
    for dim, size in _given(stored, "pixel_size").items():
        checked_text(size, f"request.pixel_size.{dim}", most=256)
    for dim, origin in _given(stored, "translation").items():
        checked_number(origin, f"request.translation.{dim}")
    checked_texts(stored.get("channel_names", []), "request.channel_names")


def _given(stored: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return checked_mapping(stored.get(name, {}), f"request.{name}", most=64)


def _check_lengths(value: Any, where: str) -> None:
    """A number, or numbers in a list or by dim: errors repeat what is requested."""
    if isinstance(value, Mapping):
        value = list(checked_mapping(value, where, most=64).values())
    if value is not None:
        for each in checked_list(value, where, most=64) if isinstance(value, list) else [value]:
            checked_int(each, where, least=1)


def _positive(value: Any, what: str) -> int:
    is_whole = hasattr(value, "__index__") and getattr(value, "ndim", 0) == 0
    if isinstance(value, bool) or not is_whole or int(value) < 1:
        raise ArgumentError(f"{what}={value!r} must be a positive integer")
    return int(value)


def by_dim(value: Any, dims: Sequence[str], what: str) -> dict[str, int]:
    """Lengths by dim, for those dims that were given one.

    Raises
    ------
    ArgumentError
        If a dim does not exist or a number is not positive.
    """
    if value is None:
        return {}
    if isinstance(value, Mapping):
        unknown = set(value) - set(dims)
        if unknown:
            names = sorted(unknown, key=str)
            raise ArgumentError(f"{what}= names {names}, but the image has {tuple(dims)}")
        return {dim: _positive(n, f"{what}[{dim!r}]") for dim, n in value.items()}
    if isinstance(value, list | tuple):
        if len(value) != len(dims):
            raise ArgumentError(
                f"{what}= has {len(value)} numbers for the {len(dims)} dims {tuple(dims)}"
            )
        return {dim: _positive(n, what) for dim, n in zip(dims, value, strict=True)}
    if isinstance(value, str):
        raise ArgumentError(f"{what}={value!r} must be a number, a tuple or a mapping by dim")
    extent = _positive(value, what)
    return {dim: extent for dim in dims if dim in ("y", "x")}


Factors = tuple[int, ...]


def factors_of(request: WriteRequest, dims: Sequence[str]) -> Factors | list[Factors] | None:
    """Factors by dim: a list of those of each step, the same for all steps, or None if unset.

    Raises
    ------
    ArgumentError
        If a dim does not exist or a factor is not positive.
    """
    requested = request.factors
    if requested is None:
        return None
    if isinstance(requested, list | tuple):
        return [_step(each, dims) for each in requested]
    return _step(requested, dims)


def _step(requested: Any, dims: Sequence[str]) -> Factors:
    """Factors of one step, 1 along dims that were given none."""
    if not isinstance(requested, Mapping):
        factor = _positive(requested, "factors")
        return tuple(factor if dim in ("y", "x") else 1 for dim in dims)
    factors = by_dim(requested, dims, "factors")
    return tuple(factors.get(dim, 1) for dim in dims)
