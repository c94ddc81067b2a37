"""Source files that are replaced between the runs of a migration, or during one."""

from __future__ import annotations

import contextlib
import itertools
import json
import uuid
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.errors import ArgumentError, BadFilesError, ChangedError, CloudimgError
from cloudimg.migration.journal.sealing import seal, unsealed
from tests.conftest import WebServer
from tests.support import copies, seed
from tests.support.changing_files import COUNTED, Files, N, big_tiff, files_of_kind, plane, tiff
from tests.support.clusters import local_client
from tests.support.metering import Meter, etag_of

pytestmark = pytest.mark.slow  # all of them together

# ------------------------------------------------------------------------------------- between runs


def test_files_replaced_between_kill_and_resume(files: Files) -> None:
    files.stop_after(4)
    n_before = files.n_records()
    assert 4 <= n_before < N
    files.put("t1.tif", tiff(41))
    with files.meter.measure() as traffic:
        done = files.migrate()
    assert done.n_done_before == n_before - 1
    left = {1, *range(n_before, N)}
    assert files.stored_in(traffic) == left
    if files.kind in COUNTED:
        # Opening reads the header of the first file.
        assert files.read_in(traffic) <= {"t0.tif", *(f"t{t}.tif" for t in left)}
    expected = [plane(41 if t == 1 else t) for t in range(N)]
    np.testing.assert_array_equal(files.pixels(), expected)
    files.assert_as_fresh()


def test_a_file_replaced_after_it_was_read(files: Files) -> None:
    with files.meter.measure() as traffic:
        done = files.migrate_and_replace("t1.tif", tiff(77), after_cell=3)
    assert (done.n_cells, done.n_done_before) == (N, 0)
    assert files.stored_in(traffic) == set(range(N))
    if files.kind in COUNTED:
        n_stored = [
            sum(
                f"/0/c/{t}/" in r.key and r.method == "PUT" and r.status < 300
                for r in traffic.requests
            )
            for t in range(N)
        ]
        assert n_stored == [1, 2, 1, 1, 1, 1]
    files.assert_as_fresh()


@pytest.mark.parametrize("name", ["t0.tif", "t5.tif"])
def test_the_file_whose_header_was_read_at_open(archive: Files, name: str) -> None:
    """Whether it is replaced before its cell reads it, or after."""
    archive.migrate_and_replace(name, tiff(77), after_cell=2)
    archive.assert_as_fresh()


def test_equal_bytes_written_again(files: Files) -> None:
    files.stop_after(4)
    files.put("t1.tif", tiff(1))
    files.migrate()
    files.assert_as_fresh()


def test_a_writer_that_does_not_stop(some_files: Files) -> None:
    """It replaces a file whenever that was read, and before the end check."""
    values = itertools.count(100)
    is_written = True

    def read(file: Any, url: str) -> Any:
        pixels = tifffile.imread(file)
        if url.endswith("t3.tif") and is_written:
            some_files.put("t3.tif", tiff(next(values)))
        return pixels

    with pytest.raises(ChangedError, match=r"t3\.tif.*Stop whatever writes to the source"):
        some_files.migrate(imread=read)
    assert next(values) == 100 + 4
    names = copies.names(some_files.url(), some_files.meter.storage_options)
    assert "zarr.json" not in names
    assert ".cloudimg/done.json" not in names
    # The same command continues.
    is_written = False
    done = some_files.migrate(imread=read)
    assert done.n_done_before == N - 1
    np.testing.assert_array_equal(some_files.pixels()[3], plane(103))
    some_files.migrate("fresh", imread=read)
    np.testing.assert_array_equal(some_files.pixels(), some_files.pixels("fresh"))


def test_a_file_that_two_cells_read_in_two_versions(some_files: Files) -> None:
    """Also if the second version has become the first one again by the end."""
    cells: dict[str, Any] = {"shards": {some_files.axis: 1, "y": 16, "x": 48}, "levels": 1}
    values = {3: 50, 5: 1}
    changes = []

    def replace(advance: Any) -> None:
        if advance.n_done in values:
            changes.append(advance.n_done)
            some_files.put("t1.tif", tiff(values.pop(advance.n_done)))

    some_files.migrate(progress=replace, **cells)
    assert changes == [3, 5]
    some_files.assert_as_fresh(**cells)


def test_what_all_runs_stored_is_counted(archive: Files) -> None:
    """An object of the copy is deleted during the first run, a file replaced during the second."""
    runs: list[str] = []

    def change(advance: Any) -> None:
        if not runs and advance.n_done == N:
            runs.append("first")
            archive.meter.delete(archive.bucket, "copy.zarr/0/c/3/0/0")
        elif "missing or replaced" in advance.note:
            runs.append("second")
            archive.put("t1.tif", tiff(77))

    done = archive.migrate(progress=change)
    assert runs == ["first", "second"]
    assert (done.n_cells, done.n_done_before) == (N, 0)
    assert done.n_objects == 2 * (N + 1 + 1)  # two levels
    archive.assert_as_fresh()


# ---------------------------------------------------------------------------- cells of later stages


def test_cells_that_were_made_from_changed_ones(archive: Files) -> None:
    archive.source = f"s3://{archive.bucket}/src/a{{a}}_b{{b}}.tif"
    for a, b in np.ndindex(3, 2):
        archive.put(f"a{a}_b{b}.tif", big_tiff(10 * a + b))
    arguments: dict[str, Any] = {
        "chunks": 16,
        "shards": {"y": 32, "x": 32},
        "levels": 4,
        "max_mem": "4MB",
        "allow_unmatched": True,
    }
    n_cells = archive.migrate(**arguments).n_cells
    url, options = archive.url(), archive.meter.storage_options
    plan = json.loads(copies.objects(url, options)[".cloudimg/plan.json"])["plan"]
    assert plan["lead_shape"] == [3, 2]
    assert n_cells == 6 * (4 * 4 + 1)
    for name in (".cloudimg/done.json", "zarr.json"):
        archive.meter.delete(archive.bucket, f"copy.zarr/{name}")
    archive.put("a1_b0.tif", big_tiff(42))
    with archive.meter.measure() as traffic:
        done = archive.migrate(**arguments)
    assert done.n_cells - done.n_done_before == 4 * 4 + 1
    images = {r.key.split("/")[1] for r in traffic.requests if r.kind == "put" and "/c/" in r.key}
    assert images == {"2"}
    archive.assert_as_fresh(**arguments)


# ---------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("change", ["shape", "dtype"])
def test_files_that_no_longer_fit_are_refused(some_files: Files, change: str) -> None:
    some_files.stop_after(4)
    pixels = plane(0)[:16] if change == "shape" else plane(0).astype(np.uint8)
    for t in range(N):
        some_files.put(f"t{t}.tif", seed.encode(pixels))
    with pytest.raises(ArgumentError, match=rf"the source's {change} was"):
        some_files.migrate()


def test_a_finished_copy_is_not_changed(some_files: Files) -> None:
    some_files.migrate()
    before = copies.image_of(copies.objects(some_files.url(), some_files.meter.storage_options))
    some_files.put("t2.tif", tiff(99))
    if some_files.kind.endswith("pattern"):
        with pytest.raises(ArgumentError, match=r"1 file replaced \(.*t2\.tif\)"):
            some_files.migrate()
    after = copies.image_of(copies.objects(some_files.url(), some_files.meter.storage_options))
    assert after == before
    proof = some_files.verify()
    assert not proof
    assert "t2.tif" in str(proof)


# -------------------------------------------------------------------------- bad files, other images


def test_a_filled_file_that_is_mended_between_kill_and_resume(files: Files) -> None:
    """Its version is known although its header could not be read."""
    files.put("t1.tif", b"not a TIFF")
    files.put("t2.tif", b"")
    files.stop_after(4, bad="fill")
    files.put("t1.tif", tiff(1))
    files.put("t2.tif", tiff(2))
    done = files.migrate(bad="fill")
    assert done.notes == ()
    files.assert_as_fresh(bad="fill")


def test_a_file_that_becomes_bad(some_files: Files) -> None:
    some_files.stop_after(4)
    some_files.put("t1.tif", b"")
    with pytest.raises(BadFilesError, match=r"t1\.tif"):
        some_files.migrate()
    some_files.migrate(bad="fill")
    some_files.assert_as_fresh(bad="fill")


@pytest.mark.parametrize("change", [False, True])
def test_one_file_of_many_cells(archive: Files, change: bool) -> None:
    archive.source = f"s3://{archive.bucket}/src/one.tif"
    archive.put("one.tif", big_tiff(0))
    cells: dict[str, Any] = {"shards": {"y": 32, "x": 32}}
    archive.stop_after(4, **cells)
    if change:
        archive.put("one.tif", big_tiff(7))
    done = archive.migrate(**cells)
    assert (done.n_done_before == 0) == change
    archive.assert_as_fresh(**cells)


def test_one_file_that_is_replaced_while_its_cells_are_read(archive: Files) -> None:
    archive.source = f"s3://{archive.bucket}/src/one.tif"
    archive.put("one.tif", big_tiff(0))
    cells: dict[str, Any] = {"shards": {"y": 32, "x": 32}}
    archive.migrate_and_replace("one.tif", big_tiff(7), after_cell=4, **cells)
    archive.assert_as_fresh(**cells)


def test_files_of_a_dataset(archive: Files) -> None:
    """A multi-file OME-TIFF, of which only the first file is opened."""

    def write(value: int, t: int) -> None:
        tiffs = [
            f'<TiffData FirstT="{i}" PlaneCount="1"><UUID FileName="ome{i}.ome.tif">'
            f"urn:uuid:{uuid.UUID(int=i)}</UUID></TiffData>"
            for i in range(N)
        ]
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
            f' UUID="urn:uuid:{uuid.UUID(int=t)}"><Image ID="Image:0"><Pixels ID="Pixels:0"'
            ' DimensionOrder="XYZCT" Type="uint16" SizeX="48" SizeY="32" SizeZ="1" SizeC="1"'
            f' SizeT="{N}"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{"".join(tiffs)}'
            "</Pixels></Image></OME>"
        )
        archive.put(f"ome{t}.ome.tif", tiff(value, description=xml, metadata=None))

    for t in range(N):
        write(t, t)
    archive.source = f"s3://{archive.bucket}/src/ome0.ome.tif"
    archive.stop_after(4)
    n_before = archive.n_records()
    write(33, 2)
    done = archive.migrate()
    assert done.n_done_before == n_before - 1
    np.testing.assert_array_equal(archive.pixels(), [plane(33 if t == 2 else t) for t in range(N)])
    archive.assert_as_fresh()


def test_files_without_versions_in_memory(meter: Meter, bucket: str) -> None:
    fs = fsspec.filesystem("memory")
    base = f"memory://{bucket}"

    def put(name: str, data: bytes) -> object:
        return fs.pipe_file(f"{base}/{name}", data)

    for t in range(N):
        put(f"t{t}.tif", tiff(t))
    files = Files("memory-pattern", f"{base}/t{{t}}.tif", {}, put, fs.rm_file, meter, bucket)
    files.stop_after(4)
    put("t1.tif", tiff(41, compression="zlib"))  # of another size
    files.migrate()
    files.assert_as_fresh()


# ----------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    "request_", ["^POST .*delete", "^DELETE ", "^PUT .*/0/c/1/", "^PUT .*cells"]
)
def test_failures_while_changed_cells_are_done_again(archive: Files, request_: str) -> None:
    archive.stop_after(4)
    archive.put("t1.tif", tiff(41))
    archive.meter.faults([{"match": request_, "status": 403}])
    with contextlib.suppress(CloudimgError):
        archive.migrate()
    archive.meter.faults([])
    archive.migrate()
    archive.assert_as_fresh()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("is_list", [False, True])
def test_ended_at_every_write_while_changed_cells_are_done_again(
    archive: Files, is_list: bool
) -> None:
    if is_list:
        archive.source = [f"s3://{archive.bucket}/src/t{t}.tif" for t in range(N)]
        archive.kind = "s3-list"
    meter, value = archive.meter, 10
    for n_writes in itertools.count():
        archive.put("t1.tif", tiff(1))
        archive.stop_after(4)
        archive.put("t1.tif", tiff(value := value + 1))
        # Nothing more is written, as after a kill.
        writes = "^(PUT|POST|DELETE) .*copy"
        meter.faults([{"match": writes, "status": 403, "skip": n_writes}])
        try:
            archive.migrate()
            is_finished = True
        except CloudimgError:
            is_finished = False
        meter.faults([])
        archive.migrate()
        archive.assert_as_fresh()
        for name in ("copy", "fresh"):
            for key in copies.names(archive.url(name), meter.storage_options):
                meter.delete(archive.bucket, f"{name}.zarr/{key}")
        if is_finished:
            break
    assert n_writes > 8


def test_a_server_that_answers_no_head(archive: Files) -> None:
    archive.source = [f"s3://{archive.bucket}/src/t{t}.tif" for t in range(N)]
    archive.kind = "s3-list"
    archive.meter.faults([{"match": "^HEAD .*/src/", "status": 403}])
    archive.stop_after(4)
    archive.put("t1.tif", tiff(41))
    archive.delete("t0.tif")
    archive.put("t0.tif", tiff(0))
    done = archive.migrate()
    assert 3 <= done.n_done_before < N
    archive.assert_as_fresh()


# --------------------------------------------------------------------------------- other ways to it


def test_other_arguments_are_no_newer_files(archive: Files) -> None:
    archive.stop_after(4, exclude="t5.tif")
    with pytest.raises(ArgumentError, match="the source's shape was"):
        archive.migrate()
    archive.migrate(exclude="t5.tif")
    assert archive.pixels().shape[0] == N - 1


def test_records_of_older_versions(archive: Files) -> None:
    """They have ETags by key."""
    archive.stop_after(4)
    n_before = archive.n_records()
    for key, data in copies.objects(archive.url(), archive.meter.storage_options).items():
        if "/cells/0/" in key:
            record: Any = unsealed(data)
            t = record["number"]
            del record["files"]
            record["sources"] = {f"{archive.bucket}/src/t{t}.tif": etag_of(tiff(t))}
            archive.meter.put(archive.bucket, f"copy.zarr/{key}", seal(record))
    archive.put("t1.tif", tiff(41))
    done = archive.migrate()
    assert done.n_done_before == n_before - 1
    archive.assert_as_fresh()


def test_on_a_cluster(archive: Files) -> None:
    with local_client(2, 1) as client:
        archive.migrate_and_replace("t0.tif", tiff(77), after_cell=2, client=client)
        archive.assert_as_fresh(client=client)


# ----------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize("kind", ["s3-pattern", "s3-glob", "s3-list"])
def test_requests_of_the_end_check(
    kind: str, meter: Meter, bucket: str, httpd: WebServer, tmp_path: Path
) -> None:
    """One listing, or one HEAD for each file of a list."""
    files = files_of_kind(kind, meter, bucket, httpd, tmp_path)
    with meter.measure() as traffic:
        files.migrate()
    requests = [r for r in traffic.requests if r.key.startswith("src/") or r.kind == "list"]
    heads = sum(r.method == "HEAD" and r.key.startswith("src/") for r in requests)
    lists = sum(r.query.get("prefix", "").startswith("src") for r in requests if r.kind == "list")
    gets = sum(r.method == "GET" and r.key.startswith("src/") for r in requests)
    assert gets == N
    if kind == "s3-list":
        assert (heads, lists) == (N, 0)
    else:
        # Each listing and the check of its end.
        assert (heads, lists) == (0, 4)


def test_records_take_few_bytes_a_file(archive: Files) -> None:
    n_files = 300
    archive.source = f"s3://{archive.bucket}/many/t{{t}}.tif"
    for t in range(n_files):
        archive.meter.put(archive.bucket, f"many/t{t}.tif", seed.encode(np.full((2, 2), t, "u2")))
    archive.migrate(chunks=None, shards=None, levels=1, max_mem="1GB")
    stored = copies.objects(archive.url(), archive.meter.storage_options)
    (data,) = (data for key, data in stored.items() if "/cells/0/" in key)
    assert len(data) <= 12 * n_files


def test_records_of_plates_take_few_bytes_a_file(tmp_path: Path) -> None:
    """Each image has an object and a histogram of its own."""
    draw = np.random.default_rng(0)
    for well, field in itertools.product(("B03", "B04", "C03", "C04"), range(16)):
        pixels = draw.integers(100, 400, (64, 64), np.uint16)
        (tmp_path / f"{well}_f{field}.tif").write_bytes(seed.encode(pixels))
    cloudimg.migrate(tmp_path / "{well:s}_f{f}.tif", tmp_path / "plate.zarr")
    records = list((tmp_path / "plate.zarr/.cloudimg/cells").rglob("*.json"))
    assert sum(path.stat().st_size for path in records) <= 450 * 64
    assert cloudimg.verify(tmp_path / "plate.zarr")
