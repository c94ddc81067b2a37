"""What a contest is made of: the job, the contenders, and the list that they register in.

A contender is a function that imports what it needs and returns the read itself: imports are not
timed, but everything after them is, from making the client and listing to the last pixel.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]

DASK_THREADS = 2
CLIENT_THREADS = 64
"""Threads of the readers by hand and of rasterio; 32, 128 and 256 made no clear difference."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a child shall read, from where."""

    kind: str
    """What a contender registers for: files, image, window, overview, chunks or pages."""
    contender: str
    endpoint: str
    region: str
    bucket: str
    pattern: str
    """URL pattern of the small files."""
    keys: tuple[str, ...]
    """Of the small files, for the contenders that cannot list."""
    image: str
    """Key of the one file."""
    window: tuple[int, int, int, int]
    """Of the one file: first and last row, first and last column, half-open."""
    level: int
    """The one that is read of a pyramid."""
    chunk: int
    """Extent of the chunks of Dask, where they are given."""

    @property
    def storage_options(self) -> dict[str, Any]:
        """For fsspec and cloudimg."""
        client = {"endpoint_url": self.endpoint, "region_name": self.region}
        return {"key": "x", "secret": "y", "client_kwargs": client}

    @property
    def url(self) -> str:
        """Of the one file."""
        return f"s3://{self.bucket}/{self.image}"

    @property
    def folder(self) -> str:
        """Of the small files, with the bucket."""
        return f"{self.bucket}/{self.keys[0].rpartition('/')[0]}"

    @property
    def region_slices(self) -> tuple[slice, slice]:
        """What is to be read of the one file."""
        if self.kind != "window":
            return slice(None), slice(None)
        top, bottom, left, right = self.window
        return slice(top, bottom), slice(left, right)

    def obstore_arguments(self) -> dict[str, Any]:
        """For obstore's S3Store and the copy of it that async-tiff has."""
        return {
            "endpoint": self.endpoint,
            "region": self.region,
            "access_key_id": "x",
            "secret_access_key": "y",
            "client_options": {"allow_http": True},
        }


Read = Callable[[], int | Array]
"""Makes one read and returns the sum of the small files, or the pixels of the one file."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to read."""

    name: str
    what: str
    """For the table's legend."""
    kinds: tuple[str, ...]
    """Of the cases that it takes part in."""
    packages: tuple[str, ...]
    """As pip and importlib.metadata call them."""
    prepare: Callable[[Job], Read]


CONTENDERS: list[Contender] = []


def contender(
    name: str, what: str, kinds: str, packages: str
) -> Callable[[Callable[[Job], Read]], Callable[[Job], Read]]:
    """Register a contender for some kinds of cases."""

    def register(prepare: Callable[[Job], Read]) -> Callable[[Job], Read]:
        CONTENDERS.append(
            Contender(name, what, tuple(kinds.split()), tuple(packages.split()), prepare)
        )
        return prepare

    return register


def find(kind: str, name: str) -> Contender:
    """The contender of that name in cases of that kind."""
    return next(c for c in CONTENDERS if c.name == name and kind in c.kinds)


def missing_packages(contender: Contender) -> list[str]:
    """What pip would have to install."""
    missing = []
    for package in contender.packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    return missing


def imported_cloudimg() -> Any:
    """cloudimg with all that it imports only when it is needed, as nobody's imports are timed."""
    for name in ("botocore.configprovider", "botocore.session", "dask.array", "tifffile"):
        importlib.import_module(name)
    cloudimg = importlib.import_module("cloudimg")
    for module in pkgutil.walk_packages(cloudimg.__path__, "cloudimg."):
        with contextlib.suppress(ImportError):  # optional dependencies, which no case needs
            importlib.import_module(module.name)
    return cloudimg


def gdal(job: Job) -> Any:
    """The environment of GDAL; it belongs to a thread. Credentials are the process's."""
    import rasterio

    return rasterio.Env(
        AWS_S3_ENDPOINT=job.endpoint.removeprefix("http://"),
        AWS_HTTPS="NO",
        AWS_VIRTUAL_HOSTING="FALSE",
        AWS_REGION=job.region,
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
        GDAL_NUM_THREADS="ALL_CPUS",
    )
