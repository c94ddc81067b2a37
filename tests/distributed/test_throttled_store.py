"""A store that refuses some requests, or all for a while, behind several workers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

import cloudimg
from cloudimg.errors import ServerError
from tests.support import seed
from tests.support.clusters import local_client
from tests.support.faulty_store import throttled
from tests.support.metering import Meter

pytestmark = pytest.mark.slow

N_FILES = 60


def plane(z: int) -> npt.NDArray[np.uint16]:
    """Pixels of one file."""
    return np.full((128, 128), z, np.uint16)


def test_throttled_requests_lose_nothing_and_never_hang(
    meter: Meter, bucket: str, set_variable: Callable[[str, str], None]
) -> None:
    set_variable("CLOUDIMG_TIMEOUT_S", "6")  # how long a store may accept nothing at all
    for z in range(N_FILES):
        meter.put(bucket, f"in/a_{z}z.tif", seed.encode(plane(z)))
    source, out = f"s3://{bucket}/in/a_{{z}}z.tif", f"s3://{bucket}/out.zarr"
    options = meter.storage_options
    some = [throttled("GET|PUT", bucket, probability=0.1)]
    shape = {"chunks": (1, 128, 128), "shards": (1, 128, 128), "levels": 1}
    with local_client(3, 2) as client:
        meter.faults(some)
        with meter.measure() as traffic:
            array = cloudimg.imread(source, storage_options=options, chunks={"z": 4})
            found = array.compute()
        assert any(request.status == 503 for request in traffic.requests)
        np.testing.assert_array_equal(found, np.stack([plane(z) for z in range(N_FILES)]))

        meter.faults([throttled("PUT", r"out\.zarr/0/c/5")])
        with pytest.raises(ServerError):
            cloudimg.migrate(
                source,
                out,
                client=client,
                source_options=options,
                target_options=options,
                **shape,
            )
        meter.faults(some)
        copy = cloudimg.migrate(
            source, out, client=client, source_options=options, target_options=options, **shape
        )
        assert 0 < copy.n_done_before < copy.n_cells
        assert cloudimg.verify(
            out,
            against_source=True,
            client=client,
            source_options=options,
            storage_options=options,
        )
        meter.faults([])
