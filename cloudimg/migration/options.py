"""Types of the keyword arguments of the functions that make copies, for users."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

from cloudimg.opening.options import URL, FileOptions, StorageOptions

if TYPE_CHECKING:
    from cloudimg.distributed.run import Client
    from cloudimg.migration.deletion import Deletion
    from cloudimg.migration.progress import AdvanceCallback

Extents = int | Sequence[int] | Mapping[str, int]
"""A length for y and x, a length for each dim in their order, or lengths by dim."""


class PlanOptions(TypedDict, total=False):
    """Keyword arguments that determine which bytes are written; see `cloudimg.to_zarr`."""

    zarr_format: Literal[2, 3]
    chunks: Extents | None
    shards: Extents | None
    levels: int | None
    factors: Extents | Sequence[Extents] | None
    downsampling: Literal["mean", "nearest", "mode"] | None
    codec: object
    name: str | None
    plate: bool | None
    overview: bool | None
    grow: str | None


class CalibrationOptions(TypedDict, total=False):
    """Keyword arguments that state what an image or its files do not; see `cloudimg.to_zarr`."""

    pixel_size: float | str | Mapping[str, float | str] | None
    scale: Mapping[str, float] | None
    units: Mapping[str, str] | None
    translation: Mapping[str, float] | None
    channel_names: Sequence[str] | None


class RunKeywords(PlanOptions, CalibrationOptions, total=False):
    """Keyword arguments of every function that writes; see `cloudimg.to_zarr`."""

    max_mem: int | str | None
    overwrite: bool
    yes: bool
    confirm: Callable[[Deletion], bool] | None
    resume: bool
    client: Client | None
    progress: bool | AdvanceCallback


class WriteOptions(RunKeywords, total=False):
    """Keyword arguments of `cloudimg.Image.to_zarr`; see `cloudimg.to_zarr`."""

    labels_of: URL | None
    storage_options: StorageOptions | None


class MigrateOptions(FileOptions, RunKeywords, total=False):
    """Keyword arguments of `cloudimg.migrate`."""

    allow_unmatched: bool
    companions: bool
    labels_of: URL | None
    part: str | None
    source_options: StorageOptions | None
    target_options: StorageOptions | None


class DryRunOptions(FileOptions, PlanOptions, CalibrationOptions, total=False):
    """Keyword arguments of `cloudimg.dry_run`."""

    allow_unmatched: bool
    client: Client | None
    companions: bool
    max_mem: int | str | None
    overwrite: bool
    prices: Mapping[str, float] | None
    probe: bool
    resume: bool
    storage_options: StorageOptions | None
    target_options: StorageOptions | None
    yes: bool


PLAN_OPTIONS = tuple(PlanOptions.__annotations__)
"""Names of the arguments that determine which bytes are written."""
WRITE_DEFAULTS = {
    "zarr_format": 3,
    "overwrite": False,
    "yes": False,
    "resume": True,
    "progress": False,
}
"""Defaults of the arguments of `cloudimg.to_zarr` whose default is not None."""
