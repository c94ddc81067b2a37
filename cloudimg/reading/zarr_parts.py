"""Fetch and decode the parts of a region of a Zarr, each of one stored object."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy.typing as npt

from cloudimg.reading.run import FileSteps
from cloudimg.reading.sharing import Claim
from cloudimg.reading.zarr_images.level import StoredPart, ZarrLevel
from cloudimg.tiff import Region

Array = npt.NDArray[Any]


def start_parts(steps: FileSteps, level: ZarrLevel, region: Region, out: Array) -> None:
    """Start to fetch and decode all parts of a region.

    Parameters
    ----------
    steps : FileSteps
        The parts become steps of this image.
    level : ZarrLevel
    region : tuple of slice
    out : ndarray
        Array with the shape of the region, any strides.
    """
    for part in level.parts(region):
        steps.start(steps.engine.fetch, partial(_fetch, steps, level, part, out))


def _fetch(steps: FileSteps, level: ZarrLevel, part: StoredPart, out: Array) -> None:
    """Fetch an object, then start decoding it. Runs in a fetching thread."""
    if steps.failed:
        return
    claim = Claim(steps.engine, level.bytes_in_flight(part))
    try:
        fetched = level.fetch(part)
        if fetched is None:
            level.decode(part, None, out)
            claim.release()
            return
    except BaseException:
        claim.release()
        raise

    def decode() -> None:
        try:
            if not steps.failed:
                level.decode(part, fetched, out)
        finally:
            claim.release()

    steps.start(steps.engine.decode_file, decode)
