"""The table of files that a plan stores: resuming, the end check and `verify` go by it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

import cloudimg
from cloudimg.discovery.build_grid import short_etag
from cloudimg.errors import ArgumentError
from tests.support import copies, seed
from tests.support.metering import Meter, etag_of

FOLDER = ".cloudimg/files/"
N = 6


def plane(value: int) -> npt.NDArray[np.uint16]:
    return np.full((32, 48), value, np.uint16)


@pytest.fixture
def source(meter: Meter, bucket: str) -> str:
    for t in range(N):
        meter.put(bucket, f"src/t{t}.tif", seed.encode(plane(t)))
    return f"s3://{bucket}/src/t{{t}}.tif"


@pytest.fixture
def out(bucket: str) -> str:
    return f"s3://{bucket}/copy.ome.zarr"


@pytest.fixture
def options(meter: Meter) -> dict[str, Any]:
    return {"source_options": meter.storage_options, "target_options": meter.storage_options}


def verify(out: str, meter: Meter) -> cloudimg.Verification:
    return cloudimg.verify(
        out,
        against_source=True,
        storage_options=meter.storage_options,
        source_options=meter.storage_options,
    )


def test_the_table_is_stored_with_the_plan(
    meter: Meter, bucket: str, source: str, out: str, options: dict[str, Any]
) -> None:
    cloudimg.migrate(source, out, **options)
    stored = copies.objects(out, meter.storage_options)
    (data,) = (data for key, data in stored.items() if FOLDER in key)
    rows = pq.read_table(io.BytesIO(data)).to_pylist()
    assert [row["key"] for row in rows] == [f"s3://{bucket}/src/t{t}.tif" for t in range(N)]
    assert [row["axis.t"] for row in rows] == list(range(N))
    assert {row["size_bytes"] for row in rows} == {len(seed.encode(plane(0)))}
    etags = [short_etag(etag_of(seed.encode(plane(t)))) for t in range(N)]
    assert [row["etag"] for row in rows] == etags
    assert len({row["etag"] for row in rows}) == N
    assert verify(out, meter)


def test_verify_goes_by_the_files_that_were_copied(
    meter: Meter, bucket: str, source: str, out: str, options: dict[str, Any]
) -> None:
    cloudimg.migrate(source, out, **options)
    for t in (N, N + 1):
        meter.put(bucket, f"src/t{t}.tif", seed.encode(plane(t)))
    verification = verify(out, meter)
    assert verification, str(verification)
    (note,) = verification.notes
    assert "2 newer files are not in this copy" in note
    assert verification.n_compared == verification.n_cells


def test_verify_names_files_that_were_replaced_or_removed(
    meter: Meter, bucket: str, source: str, out: str, options: dict[str, Any]
) -> None:
    cloudimg.migrate(source, out, **options)
    meter.put(bucket, "src/t2.tif", seed.encode(plane(99)))
    verification = verify(out, meter)
    assert not verification
    shown = str(verification)
    assert f"1 file replaced (s3://{bucket}/src/t2.tif)" in shown
    meter.delete(bucket, "src/t5.tif")
    verification = verify(out, meter)
    assert f"1 file removed (s3://{bucket}/src/t5.tif)" in str(verification)


def test_a_damaged_table_is_a_problem(
    meter: Meter, bucket: str, source: str, out: str, options: dict[str, Any]
) -> None:
    cloudimg.migrate(source, out, **options)
    stored = copies.objects(out, meter.storage_options)
    ((key, data),) = ((key, data) for key, data in stored.items() if FOLDER in key)
    meter.put(bucket, f"copy.ome.zarr/{key}", data[:-1] + b"x")
    assert ".parquet is damaged" in str(verify(out, meter))
    meter.delete(bucket, f"copy.ome.zarr/{key}")
    verification = verify(out, meter)
    assert not verification
    assert ".parquet, the table of files, is missing" in str(verification)


def test_resuming_names_the_files_that_changed(
    meter: Meter, bucket: str, source: str, out: str, options: dict[str, Any]
) -> None:
    cloudimg.migrate(source, out, **options)
    meter.put(bucket, "src/t2.tif", seed.encode(plane(99)))
    with pytest.raises(ArgumentError) as caught:
        cloudimg.migrate(source, out, **options)
    assert f"1 file replaced (s3://{bucket}/src/t2.tif)" in str(caught.value)


def test_the_table_is_stored_again_when_files_changed(
    meter: Meter, bucket: str, source: str, out: str, options: dict[str, Any]
) -> None:
    def replace(advance: Any) -> None:
        meter.put(bucket, "src/t3.tif", seed.encode(plane(98)))

    shape = {"chunks": (1, 32, 48), "shards": (1, 32, 48), "levels": 1, "max_mem": 24_000}
    cloudimg.migrate(source, out, progress=replace, **shape, **options)
    stored = copies.objects(out, meter.storage_options)
    sha256 = json.loads(stored[".cloudimg/plan.json"])["files"]
    rows = pq.read_table(io.BytesIO(stored[f"{FOLDER}{sha256[:16]}.parquet"])).to_pylist()
    assert rows[3]["etag"] == short_etag(etag_of(seed.encode(plane(98))))
    assert verify(out, meter)


def test_copies_without_a_table_still_verify(tmp_path: Path) -> None:
    for t in range(2):
        (tmp_path / f"t{t}.tif").write_bytes(seed.encode(plane(t)))
    out = tmp_path / "copy.ome.zarr"
    cloudimg.migrate(f"{tmp_path}/t{{t}}.tif", out)
    from cloudimg.migration.journal.sealing import seal

    plan = out / ".cloudimg/plan.json"
    content = json.loads(plan.read_text())
    content.pop("sha256")
    content.pop("files")
    plan.write_bytes(seal(content))
    (out / ".cloudimg/plan-copy.json").unlink()
    end_mark = out / ".cloudimg/done.json"
    content = json.loads(end_mark.read_text())
    content.pop("sha256")
    content.pop("plan_sha256")  # older versions did not record it either
    end_mark.write_bytes(seal(content))
    (path,) = (out / FOLDER).iterdir()
    path.unlink()
    assert cloudimg.verify(out, against_source=True)
    assert cloudimg.migrate(f"{tmp_path}/t{{t}}.tif", out).n_objects == 0


def test_no_table_of_an_array(tmp_path: Path) -> None:
    out = tmp_path / "copy.ome.zarr"
    cloudimg.to_zarr(np.stack([plane(0), plane(1)]), out, dims=("t", "y", "x"))
    assert not (out / FOLDER).exists()
    assert cloudimg.verify(out)


def test_no_secret_in_the_table(
    meter: Meter, bucket: str, out: str, options: dict[str, Any]
) -> None:
    for t in range(2):
        meter.put(bucket, f"open/t{t}.tif", seed.encode(plane(t)))
    urls = [f"{meter.endpoint}/{bucket}/open/t{t}.tif?X-Amz-Signature=SECRET{t}" for t in range(2)]
    cloudimg.migrate(urls, out, target_options=meter.storage_options)
    for key, data in copies.objects(out, meter.storage_options).items():
        assert b"SECRET" not in data, key


def test_names_that_are_not_unicode(tmp_path: Path) -> None:
    folder = tmp_path / "f\udcff"
    folder.mkdir()
    for t in range(2):
        (folder / f"t{t}.tif").write_bytes(seed.encode(plane(t)))
    out = tmp_path / "copy.ome.zarr"
    cloudimg.migrate(f"{folder}/t{{t}}.tif", out)
    assert cloudimg.verify(out, against_source=cloudimg.open(f"{folder}/t{{t}}.tif"))
    (path,) = (out / FOLDER).iterdir()
    keys = pq.read_table(path)["key"].to_pylist()
    assert [key.rpartition("/")[2] for key in keys] == ["t0.tif", "t1.tif"]


def test_killed_before_the_plan_is_stored(
    meter: Meter, bucket: str, source: str, out: str, options: dict[str, Any]
) -> None:
    """The table that it left behind does not make the destination a foreign one."""
    meter.put(bucket, f"copy.ome.zarr/{FOLDER}0123456789abcdef.parquet", b"of a killed process")
    cloudimg.migrate(source, out, **options)
    assert verify(out, meter)
    # The plan of an interrupted migration keeps its own table.
    for key in copies.objects(out, meter.storage_options):
        if "/cells/" in key or key.endswith("done.json"):
            meter.delete(bucket, f"copy.ome.zarr/{key}")
    meter.put(bucket, f"copy.ome.zarr/{FOLDER}0123456789abcdef.parquet", b"of a killed process")
    assert cloudimg.migrate(source, out, **options).n_objects > 0
    assert verify(out, meter)
