"""TIFF archives in object storage as one lazy Dask array.

>>> import cloudimg
>>> a = cloudimg.imread("s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")
>>> a.shape
(2, 2, 10, 48, 72)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cloudimg.__about__ import __version__

if TYPE_CHECKING:
    from cloudimg import cluster, errors
    from cloudimg.api.copies import export, verify
    from cloudimg.api.descriptions import info, preview, validate
    from cloudimg.api.following import follow
    from cloudimg.api.images import imread, open
    from cloudimg.api.indexes import FileIndex, index
    from cloudimg.api.migrations import dry_run, migrate
    from cloudimg.api.repairs import repair
    from cloudimg.api.retirements import retire
    from cloudimg.api.write_arrays import to_zarr
    from cloudimg.errors import CloudimgError
    from cloudimg.errors.file_report import FileReport
    from cloudimg.errors.notes import Note
    from cloudimg.formats.registry import register_format
    from cloudimg.image.attributes import ImageAttributes
    from cloudimg.image.image import Image
    from cloudimg.image.parts import File, LevelInfo
    from cloudimg.image.preview import Preview
    from cloudimg.image.validation import Validation
    from cloudimg.migration.deletion import Deletion, Opening
    from cloudimg.migration.export.result import ExportResult, NotWritten
    from cloudimg.migration.progress import Advance
    from cloudimg.migration.repair.result import Repair
    from cloudimg.migration.retire.result import Left, Retirement
    from cloudimg.migration.run.estimate import Estimate
    from cloudimg.migration.run.result import Migration
    from cloudimg.migration.verify.result import Problem, Verification

_MODULES = {
    "Advance": "cloudimg.migration.progress",
    "CloudimgError": "cloudimg.errors",
    "Deletion": "cloudimg.migration.deletion",
    "Estimate": "cloudimg.migration.run.estimate",
    "ExportResult": "cloudimg.migration.export.result",
    "File": "cloudimg.image.parts",
    "FileIndex": "cloudimg.api.indexes",
    "FileReport": "cloudimg.errors.file_report",
    "Image": "cloudimg.image.image",
    "ImageAttributes": "cloudimg.image.attributes",
    "Left": "cloudimg.migration.retire.result",
    "LevelInfo": "cloudimg.image.parts",
    "Migration": "cloudimg.migration.run.result",
    "NotWritten": "cloudimg.migration.export.result",
    "Note": "cloudimg.errors.notes",
    "Opening": "cloudimg.migration.deletion",
    "Preview": "cloudimg.image.preview",
    "Problem": "cloudimg.migration.verify.result",
    "Repair": "cloudimg.migration.repair.result",
    "Retirement": "cloudimg.migration.retire.result",
    "Validation": "cloudimg.image.validation",
    "Verification": "cloudimg.migration.verify.result",
    "dry_run": "cloudimg.api.migrations",
    "export": "cloudimg.api.copies",
    "follow": "cloudimg.api.following",
    "imread": "cloudimg.api.images",
    "index": "cloudimg.api.indexes",
    "info": "cloudimg.api.descriptions",
    "migrate": "cloudimg.api.migrations",
    "open": "cloudimg.api.images",
    "preview": "cloudimg.api.descriptions",
    "register_format": "cloudimg.formats.registry",
    "repair": "cloudimg.api.repairs",
    "retire": "cloudimg.api.retirements",
    "to_zarr": "cloudimg.api.write_arrays",
    "validate": "cloudimg.api.descriptions",
    "verify": "cloudimg.api.copies",
}
"""The module that defines each public name; imported on first use."""

__all__ = [
    "Advance",
    "CloudimgError",
    "Deletion",
    "Estimate",
    "ExportResult",
    "File",
    "FileIndex",
    "FileReport",
    "Image",
    "ImageAttributes",
    "Left",
    "LevelInfo",
    "Migration",
    "NotWritten",
    "Note",
    "Opening",
    "Preview",
    "Problem",
    "Repair",
    "Retirement",
    "Validation",
    "Verification",
    "__version__",
    "cluster",
    "dry_run",
    "errors",
    "export",
    "follow",
    "imread",
    "index",
    "info",
    "migrate",
    "open",
    "preview",
    "register_format",
    "repair",
    "retire",
    "to_zarr",
    "validate",
    "verify",
]


if not TYPE_CHECKING:  # type checkers know the names above, and no others

    def __getattr__(name: str) -> Any:
        if name in ("cluster", "errors"):
            return importlib.import_module(f"cloudimg.{name}")
        if name not in _MODULES:
            raise AttributeError(f"module 'cloudimg' has no attribute {name!r}")
        value = getattr(importlib.import_module(_MODULES[name]), name)
        globals()[name] = value  # so that this function runs once per name
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
