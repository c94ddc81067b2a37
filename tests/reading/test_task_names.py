"""Names of arrays and tasks: what Dask's dashboard shows, and what Dask takes for the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from dask.base import tokenize
from dask.utils import key_split

import cloudimg
from cloudimg.errors import ArgumentError
from tests.conftest import WebServer
from tests.support import clusters, seed
from tests.support.metering import Meter

PIXELS = np.arange(64, dtype=np.uint16).reshape(8, 8)
SECRET = "wJalrXUtnFEMIKEY"


def put(folder: Path, *names: str) -> None:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(seed.encode(PIXELS + i))


@pytest.mark.parametrize(
    ("names", "url", "shown"),
    [
        (["mydata_ch0_1t.tif"], "mydata_ch{c}_{t}t.tif", "cloudimg-read-mydata"),
        (["cells_001.tif"], "cells_{z:03d}.tif", "cloudimg-read-cells"),
        (["DAPI_z1.tif", "GFP_z1.tif"], "{c:s}_z{z}.tif", "cloudimg-read"),
        (["my plate-B_1.tif"], "my plate-B_{t}.tif", "cloudimg-read-my-plate-B"),
        (["confocal_scan_1.tif"], "confocal_scan_{t}.tif", "cloudimg-read-Confocal-scan"),
        (["img1.tif"], "img{t}.tif", "cloudimg-read-img"),
        (["20260301_scan_1.tif"], "20260301_scan_{t}.tif", "cloudimg-read-scan"),
        (["TimePoint_1/a.tif"], "TimePoint_{t}/a.tif", "cloudimg-read-a"),
        (["slide.ome.tif"], "slide.ome.tif", "cloudimg-read-slide"),
        (["scan01.tif", "scan02.tif"], "scan*.tif", "cloudimg-read-scan"),
        (["µ_1.tif"], "µ_{t}.tif", "cloudimg-read"),
        (["001.tif"], "001.tif", "cloudimg-read"),
        (["x" * 90 + ".tif"], "x" * 90 + ".tif", f"cloudimg-read-{'x' * 40}"),
    ],
)
def test_the_dashboard_shows_the_step_and_the_image(
    tmp_path: Path, names: list[str], url: str, shown: str
) -> None:
    put(tmp_path, *names)
    array = cloudimg.imread(tmp_path / url)
    assert key_split(array.name) == shown
    assert cloudimg.imread(tmp_path / url).name == array.name


def test_a_list_is_named_by_its_first_file(tmp_path: Path) -> None:
    put(tmp_path, "left.tif", "right.tif")
    array = cloudimg.imread([tmp_path / "left.tif", tmp_path / "right.tif"])
    assert key_split(array.name) == "cloudimg-read-left"


@pytest.mark.parametrize("name", ["cells.tif", "cells"])
def test_signatures_of_urls_are_in_no_name(httpd: WebServer, name: str) -> None:
    (httpd.root / name).write_bytes(seed.encode(PIXELS))
    array = cloudimg.imread(f"{httpd.endpoint}/{name}?X-Amz-Signature={SECRET}")
    assert key_split(array.name) == ("cloudimg-read-cells" if "." in name else "cloudimg-read")
    assert SECRET not in repr(list((array + 1).__dask_graph__()))
    np.testing.assert_array_equal(np.asarray(array), PIXELS)


def test_a_name_is_taken_as_dask_takes_it(tmp_path: Path) -> None:
    put(tmp_path, "a.tif")
    image = cloudimg.open(tmp_path / "a.tif")
    assert image.to_dask(name="mine").name == "mine"
    assert cloudimg.imread(tmp_path / "a.tif", name="mine").name == "mine"
    np.testing.assert_array_equal(np.asarray(image.to_dask(name="mine")), PIXELS)
    default = image.to_dask().name
    assert image.to_dask(name=True).name == image.to_dask(name=None).name == default
    assert len({default, image.to_dask(name=False).name, image.to_dask(name=False).name}) == 3
    for wrong in ("", 3, b"a"):
        with pytest.raises(ArgumentError, match="name="):
            image.to_dask(name=wrong)  # type: ignore[arg-type]


def test_images_are_one_to_dask_if_their_files_are(meter: Meter, bucket: str) -> None:
    options = meter.storage_options
    url = f"s3://{bucket}/a_{{z}}.tif"
    for z in range(3):
        meter.put(bucket, f"a_{z}.tif", seed.encode(PIXELS + z))
    image, same = (
        cloudimg.open(url, storage_options=options),
        cloudimg.open(url, storage_options=options),
    )
    with meter.measure() as traffic:
        token = tokenize(image)
        assert token == tokenize(same)
    assert not traffic.requests
    others = [
        cloudimg.open(f"s3://{bucket}/a_{{t}}.tif", storage_options=options),
        cloudimg.open(f"s3://{bucket}/a_{{z:s}}.tif", storage_options=options),
        cloudimg.open(url, storage_options=options, exclude="a_2.tif"),
        cloudimg.open(url, storage_options=options, dims=("y", "x", "z")),
    ]
    meter.put(bucket, "a_1.tif", seed.encode(PIXELS))
    others.append(cloudimg.open(url, storage_options=options))
    assert len({token, *map(tokenize, others)}) == 1 + len(others)


def test_images_of_one_file_differ_to_dask(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(PIXELS)
        writer.write(PIXELS[:4] + 1)
    first, second = (cloudimg.open(tmp_path / "a.tif", series=i) for i in range(2))
    assert tokenize(first) != tokenize(second)
    before = tokenize(first)
    put(tmp_path, "a.tif")
    os.utime(tmp_path / "a.tif", (1, 1))
    assert tokenize(cloudimg.open(tmp_path / "a.tif")) != before


@pytest.mark.slow
def test_the_scheduler_knows_steps_and_images_and_no_secret(meter: Meter, bucket: str) -> None:
    for z in range(600):  # so many that workers read the headers
        meter.put(bucket, f"in/cells_{z}.tif", seed.encode(PIXELS + z))
    options = {**meter.storage_options, "secret": SECRET}
    url, out = f"s3://{bucket}/in/cells_{{z}}.tif", f"s3://{bucket}/exp.ome.zarr"

    def prefixes(dask_scheduler: Any) -> list[str]:
        return list(dask_scheduler.task_prefixes)

    def shown(do: Callable[[], object]) -> set[str]:
        do()
        return {name for name in client.run_on_scheduler(prefixes) if name.startswith("cloudimg")}

    from distributed import wait

    with clusters.local_client(n_threads=2) as client:
        source: Any = {"source_options": options, "target_options": options, "client": client}
        image: Any = cloudimg.open(url, storage_options=options, validate="all", client=client)
        assert "cloudimg-headers-cells" in shown(lambda: None)
        assert "cloudimg-read-cells" in shown(lambda: wait(image.to_dask().persist()))
        assert "cloudimg-migrate-exp" in shown(lambda: cloudimg.migrate(url, out, **source))
        verify = shown(lambda: cloudimg.verify(out, storage_options=options, client=client))
        assert "cloudimg-verify-exp" in verify
        assert SECRET not in client.run_on_scheduler(clusters.remembered)
