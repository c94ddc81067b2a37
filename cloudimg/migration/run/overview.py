"""Make the overview of a copy from the last level of its images, and store it as a document.

It is not compressed, so that the same pixels have the same bytes whichever library is installed:
whoever verifies or repairs the copy makes it again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError, NotFoundError
from cloudimg.migration.encode.downsample import downsample
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.metadata.documents import overview_documents
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.metadata.image_attributes import Histograms
from cloudimg.migration.plan.overview import Overview
from cloudimg.migration.plan.plan import Plan, fill_scalar, nodata_scalar
from cloudimg.migration.run.inputs import LevelInput
from cloudimg.migration.run.local_executor import run_locally

_READ_AHEAD = 32


def documents_of_overview(
    destination: Destination, plan: Plan, facts: ImageFacts, histograms: Histograms
) -> Iterator[tuple[str, bytes]]:
    """Keys and bytes of the overview; none if the plan has none, or the copy lacks what it shows.

    Raises
    ------
    StorageError
    """
    if plan.overview is None:
        return
    overview = Overview(plan)
    try:
        pixels = _pixels(destination, plan, overview)
    except (NotFoundError, CorruptFileError):
        return  # a problem of the cell that stored it
    yield overview.array_key, pixels.tobytes()
    yield from overview_documents(plan, facts, histograms, overview)


def _pixels(destination: Destination, plan: Plan, overview: Overview) -> npt.NDArray[np.generic]:
    pixels = np.full(overview.shape, fill_scalar(plan), plan.dtype)
    source = LevelInput(plan, destination, len(plan.levels) - 1)
    dropped = tuple(i for i, dim in enumerate(plan.dims) if dim not in overview.dims)
    factors = [overview.factor if dim in ("y", "x") else 1 for dim in overview.dims]

    def read(image: int) -> None:
        whole = source.read_image(image, overview.source()).squeeze(dropped)
        small = downsample(whole, factors, plan.method, nodata_scalar(plan))
        pixels[overview.region(image)] = small

    listed = filter(plan.is_listed, range(plan.n_images))
    run_locally(read, listed, in_flight=_READ_AHEAD, report=lambda _: None)
    return pixels
