"""Source files that are replaced, come or go between the runs of a migration, or during one."""

from __future__ import annotations

import contextlib
import itertools
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import zarr

import cloudimg
from cloudimg.errors import ArgumentError, BadFilesError, ChangedError, CloudimgError
from cloudimg.migration.journal.sealing import seal
from tests.conftest import WebServer
from tests.support import copies, seed
from tests.support.clusters import local_client
from tests.support.metering import Meter, Traffic, etag_of

pytestmark = pytest.mark.slow  # all of them together

N = 6
CELLS: dict[str, Any] = {
    "chunks": 16,
    "shards": {"t": 1, "y": 32, "x": 48},
    "levels": 2,
    "max_mem": 24_000,
}
"""One file a cell, one or two cells at a time."""


def plane(value: int) -> npt.NDArray[np.uint16]:
    return np.arange(32 * 48, dtype=np.uint16).reshape(32, 48) + 100 * value


def tiff(value: int, **options: Any) -> bytes:
    return seed.encode(plane(value), **options)


def texts(notes: Any) -> list[str]:
    return [note.text.partition(";")[0] for note in notes]


class Stop(Exception):  # noqa: N818
    """Raised by the callbacks of these tests, to end a migration as Ctrl-C does."""


@dataclass
class Files:
    """An archive of numbered files on some store, and a place for copies."""

    kind: str
    source: Any
    options: dict[str, Any] = field(repr=False)
    put: Callable[[str, bytes], object]
    delete: Callable[[str], object]
    meter: Meter
    bucket: str

    @property
    def axis(self) -> str:
        return "file" if self.kind.endswith(("list", "glob")) else "t"

    def url(self, name: str = "copy") -> str:
        return f"s3://{self.bucket}/{name}.zarr"

    def migrate(self, name: str = "copy", **arguments: Any) -> Any:
        cells = {**CELLS, "shards": {self.axis: 1, "y": 32, "x": 48}}
        return cloudimg.migrate(
            self.source,
            self.url(name),
            source_options=self.options,
            target_options=self.meter.storage_options,
            **{**cells, **arguments},
        )

    def stop_after(self, n_cells: int, **arguments: Any) -> None:
        """Migrate some cells."""

        def stop(advance: Any) -> None:
            if advance.n_done >= n_cells:
                raise Stop

        with pytest.raises(Stop):
            self.migrate(progress=stop, **arguments)

    def pixels(self, name: str = "copy") -> Any:
        stored = copies.objects(self.url(name), self.meter.storage_options)
        image: Any = zarr.open_group(store=memory_store(stored), mode="r")["0"]
        return image[:].reshape(-1, 32, 48)

    def verify(self, name: str = "copy", **arguments: Any) -> cloudimg.Verification:
        return cloudimg.verify(
            self.url(name),
            against_source=True,
            storage_options=self.meter.storage_options,
            source_options=self.options,
            source=self.source if "signed" in self.kind else None,
            **arguments,
        )

    def assert_as_fresh(self, **arguments: Any) -> None:
        """The copy has the same objects as one that is made from the files as they are now."""
        self.migrate("fresh", **arguments)
        fresh, copy = (
            copies.image_of(copies.objects(self.url(name), self.meter.storage_options))
            for name in ("fresh", "copy")
        )
        assert copy == fresh
        proof = self.verify()
        assert proof, str(proof)

    def read_in(self, traffic: Traffic) -> set[str]:
        """Names of the files from which more than a byte was requested."""
        return {
            request.key.rpartition("/")[2]
            for request in traffic.requests
            if request.method == "GET"
            and request.key.startswith("src/")
            and request.range != (0, 1)
        }

    def stored_in(self, traffic: Traffic) -> set[int]:
        """Numbers of the planes whose shards were stored."""
        return {
            int(request.key.split("/0/c/")[1].split("/")[0])
            for request in traffic.requests
            if request.method == "PUT" and "/0/c/" in request.key and request.status < 300
        }

    def n_records(self) -> int:
        names = copies.names(self.url(), self.meter.storage_options)
        return sum(".cloudimg/cells/0/" in name for name in names)


def memory_store(objects: dict[str, bytes]) -> Any:
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    prototype = default_buffer_prototype()
    return MemoryStore(
        {key: prototype.buffer.from_bytes(data) for key, data in objects.items()}, read_only=True
    )


KINDS = (
    "s3-pattern",
    "s3-glob",
    "s3-list",
    "s3-signed-list",
    "http-pattern",
    "http-list",
    "local-pattern",
    "local-list",
)
QUICK = ("s3-pattern", "s3-list")
COUNTED = ("s3-pattern", "s3-glob", "s3-list", "s3-signed-list")


def files_of_kind(
    kind: str, meter: Meter, bucket: str, httpd: WebServer, tmp_path: Path
) -> Iterator[Files]:
    store, _, how = kind.partition("-")
    options: dict[str, Any] = {}
    if store == "s3":
        base, options = f"s3://{bucket}/src", meter.storage_options

        def put(name: str, data: bytes) -> None:
            meter.put(bucket, f"src/{name}", data)

        def delete(name: str) -> None:
            meter.delete(bucket, f"src/{name}")
    else:
        folder = tmp_path / "src" if store == "local" else httpd.root / bucket
        folder.mkdir()
        base = str(folder) if store == "local" else f"{httpd.endpoint}/{bucket}"

        def put(name: str, data: bytes) -> None:
            path = folder / name
            path.with_suffix(".new").write_bytes(data)
            path.with_suffix(".new").replace(path)

        def delete(name: str) -> None:
            (folder / name).unlink()

    names = [f"t{t}.tif" for t in range(N)]
    for t, name in enumerate(names):
        put(name, tiff(t))
    source: Any = f"{base}/t{{t}}.tif"
    if how == "glob":
        source = f"{base}/t*.tif"
    elif how == "list":
        source = [f"{base}/{name}" for name in names]
    elif how == "signed-list":
        options = {}
        source = [f"{meter.endpoint}/{bucket}/src/{n}?X-Amz-Signature=SECRET" for n in names]
    yield Files(kind, source, options, put, delete, meter, bucket)


@pytest.fixture(
    params=[kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def files(
    request: pytest.FixtureRequest, meter: Meter, bucket: str, httpd: WebServer, tmp_path: Path
) -> Iterator[Files]:
    yield from files_of_kind(request.param, meter, bucket, httpd, tmp_path)


@pytest.fixture
def archive(meter: Meter, bucket: str, httpd: WebServer, tmp_path: Path) -> Iterator[Files]:
    """Files of a pattern on S3."""
    yield from files_of_kind("s3-pattern", meter, bucket, httpd, tmp_path)


@pytest.fixture(params=["s3-pattern", "s3-list", "local-pattern"])
def some_files(
    request: pytest.FixtureRequest, meter: Meter, bucket: str, httpd: WebServer, tmp_path: Path
) -> Iterator[Files]:
    yield from files_of_kind(request.param, meter, bucket, httpd, tmp_path)


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
    was_replaced = False

    def replace(advance: Any) -> None:
        nonlocal was_replaced
        if advance.n_done >= 3 and not was_replaced:
            was_replaced = True
            files.put("t1.tif", tiff(77))

    with files.meter.measure() as traffic:
        done = files.migrate(progress=replace)
    assert was_replaced
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
    was_replaced = False

    def replace(advance: Any) -> None:
        nonlocal was_replaced
        if advance.n_done >= 2 and not was_replaced:
            was_replaced = True
            archive.put(name, tiff(77))

    archive.migrate(progress=replace)
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


# ---------------------------------------------------------------------------- cells of later stages


@pytest.mark.slow
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


def big_tiff(value: int) -> bytes:
    pixels = np.arange(128 * 128, dtype=np.uint16).reshape(128, 128) + value
    return seed.encode(pixels, tile=(32, 32))


# -------------------------------------------------------------------------------- files come and go


def test_newer_files_are_a_note(some_files: Files) -> None:
    files = some_files
    files.stop_after(3)
    for t in (N, N + 1):
        files.put(f"t{t}.tif", tiff(t))
    done = files.migrate()
    np.testing.assert_array_equal(files.pixels(), [plane(t) for t in range(N)])
    expected = [] if files.kind.endswith("list") else ["2 newer files are not in this copy"]
    assert texts(done.notes) == expected
    proof = files.verify()
    assert proof, str(proof)
    assert texts(proof.notes) == expected
    again = files.migrate()
    assert (again.n_objects, again.notes) == (0, done.notes)


def test_newer_files_during_the_run(some_files: Files) -> None:
    def add(advance: Any) -> None:
        some_files.put(f"t{N}.tif", tiff(N))

    done = some_files.migrate(progress=add)
    expected = [] if some_files.kind.endswith("list") else ["1 newer file is not in this copy"]
    assert texts(done.notes) == expected
    assert some_files.verify()


def test_newer_files_that_leave_holes_in_the_grid(archive: Files) -> None:
    archive.source = f"s3://{archive.bucket}/src/t{{t}}_c{{c}}.tif"
    for t, c in np.ndindex(3, 2):
        archive.put(f"t{t}_c{c}.tif", tiff(10 * t + c))
    cells: dict[str, Any] = {"shards": {"t": 1, "c": 1, "y": 32, "x": 48}, "allow_unmatched": True}
    archive.stop_after(3, **cells)
    archive.put("t3_c0.tif", tiff(30))  # of an acquisition that goes on
    done = archive.migrate(**cells)
    assert any("1 newer file is not in this copy" in note for note in done.notes)
    assert archive.pixels().shape[0] == 6
    assert archive.verify()


@pytest.mark.parametrize("kind", ["s3-pattern", "local-pattern", "http-pattern", "s3-list"])
def test_a_file_that_comes_late_stays_missing_in_all_cells(
    kind: str, meter: Meter, bucket: str, httpd: WebServer, tmp_path: Path
) -> None:
    """Every cell goes by the files of the plan, whether it was finished before or not."""
    (files,) = files_of_kind(kind, meter, bucket, httpd, tmp_path)
    files.delete("t1.tif")
    cells: dict[str, Any] = {
        "shards": {files.axis: 1, "y": 16, "x": 48},
        "levels": 1,
        "missing": "fill",
    }
    files.stop_after(4, **cells)
    files.put("t1.tif", tiff(1))
    done = files.migrate(**cells)
    image = files.pixels()
    present = [0, 2, 3, 4, 5]
    if files.axis == "file":
        expected = [plane(t) if t != 1 else 0 * plane(0) for t in range(N)]
        np.testing.assert_array_equal(image, expected)
    else:
        np.testing.assert_array_equal(image, [plane(t) for t in present])
    assert any("1 newer file is not in this copy" in note for note in done.notes)
    proof = files.verify()
    assert proof, str(proof)


def test_newer_files_that_do_not_fit_the_grid(archive: Files) -> None:
    """Two files at one index: the files of the plan are asked for one by one."""
    archive.source = f"s3://{archive.bucket}/src/t{{t}}.*"
    archive.stop_after(4)
    n_before = archive.n_records()
    archive.put("t3.tiff", tiff(3))
    archive.put("t1.tif", tiff(41))
    done = archive.migrate()
    assert done.n_done_before == n_before - 1
    expected = [plane(41 if t == 1 else t) for t in range(N)]
    np.testing.assert_array_equal(archive.pixels(), expected)
    archive.put("t4.tiff", tiff(4))
    assert archive.verify()


def test_a_hole_of_a_grid_that_is_filled_late(archive: Files) -> None:
    archive.source = f"s3://{archive.bucket}/src/t{{t}}_c{{c}}.tif"
    for t, c in np.ndindex(3, 2):
        archive.put(f"t{t}_c{c}.tif", tiff(10 * t + c))
    archive.delete("t0_c1.tif")
    archive.delete("t2_c0.tif")
    cells: dict[str, Any] = {
        "shards": {"t": 1, "c": 1, "y": 32, "x": 48},
        "allow_unmatched": True,
        "missing": "fill",
    }
    archive.stop_after(3, **cells)
    archive.put("t0_c1.tif", tiff(1))
    archive.put("t2_c0.tif", tiff(20))
    done = archive.migrate(**cells)
    assert any("2 newer files are not in this copy" in note for note in done.notes)
    missing = {(0, 1), (2, 0)}
    expected = [
        plane(0) * 0 if place in missing else plane(10 * place[0] + place[1])
        for place in np.ndindex(3, 2)
    ]
    np.testing.assert_array_equal(archive.pixels(), expected)
    proof = archive.verify()
    assert proof, str(proof)
    assert proof.report is not None
    assert {each.kind: each.n_files for each in proof.report.kinds} == {"missing": 2}


def test_a_file_that_is_gone_after_it_was_read(files: Files) -> None:
    files.stop_after(4)
    files.delete("t1.tif")
    done = files.migrate()
    assert texts(done.notes) == ["1 source file is gone since it was copied"]
    np.testing.assert_array_equal(files.pixels(), [plane(t) for t in range(N)])
    assert cloudimg.verify(files.url(), storage_options=files.meter.storage_options)


def test_a_file_that_is_gone_before_it_was_read(files: Files) -> None:
    files.stop_after(2)
    files.delete("t5.tif")
    with pytest.raises(CloudimgError, match=r"t5\.tif"):
        files.migrate()
    names = copies.names(files.url(), files.meter.storage_options)
    assert "zarr.json" not in names
    files.put("t5.tif", tiff(5))
    files.migrate()
    files.assert_as_fresh()


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
    was_replaced = False

    def replace(advance: Any) -> None:
        nonlocal was_replaced
        if advance.n_done >= 4 and not was_replaced:
            was_replaced = True
            archive.put("one.tif", big_tiff(7))

    cells: dict[str, Any] = {"shards": {"y": 32, "x": 32}}
    archive.migrate(progress=replace, **cells)
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


@pytest.mark.slow
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


def test_an_image_that_was_opened_with_newer_files(archive: Files) -> None:
    cells: dict[str, Any] = {**CELLS, "storage_options": archive.meter.storage_options}

    def stop(advance: Any) -> None:
        if advance.n_done >= 4:
            raise Stop

    def opened() -> cloudimg.Image:
        return cloudimg.open(archive.source, storage_options=archive.options)

    with pytest.raises(Stop):
        opened().to_zarr(archive.url(), progress=stop, **cells)
    archive.put(f"t{N}.tif", tiff(N))
    archive.put("t1.tif", tiff(41))
    image = opened()
    assert image.shape[0] == N + 1
    done = image.to_zarr(archive.url(), **cells)
    assert texts(done.notes)[-1] == "1 newer file is not in this copy"
    assert archive.pixels().shape[0] == N
    np.testing.assert_array_equal(archive.pixels()[1], plane(41))


@pytest.mark.parametrize("is_finished", [False, True])
def test_a_new_plan_has_the_newer_files(archive: Files, is_finished: bool) -> None:
    if is_finished:
        archive.migrate()
    else:
        archive.stop_after(4)
    archive.put(f"t{N}.tif", tiff(N))
    archive.migrate(overwrite=True, codec="gzip")
    np.testing.assert_array_equal(archive.pixels(), [plane(t) for t in range(N + 1)])


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
            record = json.loads(data)
            t = record["number"]
            del record["sha256"], record["files"]
            record["sources"] = {f"{archive.bucket}/src/t{t}.tif": etag_of(tiff(t))}
            archive.meter.put(archive.bucket, f"copy.zarr/{key}", seal(record))
    archive.put("t1.tif", tiff(41))
    done = archive.migrate()
    assert done.n_done_before == n_before - 1
    archive.assert_as_fresh()


@pytest.mark.slow
def test_on_a_cluster(archive: Files) -> None:
    was_replaced = False

    def replace(advance: Any) -> None:
        nonlocal was_replaced
        if advance.n_done >= 2 and not was_replaced:
            was_replaced = True
            archive.put("t0.tif", tiff(77))

    with local_client(2, 1) as client:
        archive.migrate(progress=replace, client=client)
        assert was_replaced
        archive.assert_as_fresh(client=client)


# ----------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize("kind", ["s3-pattern", "s3-glob", "s3-list"])
def test_requests_of_the_end_check(
    kind: str, meter: Meter, bucket: str, httpd: WebServer, tmp_path: Path
) -> None:
    """One listing, or one HEAD for each file of a list."""
    (files,) = files_of_kind(kind, meter, bucket, httpd, tmp_path)
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


@pytest.mark.slow
def test_records_take_few_bytes_a_file(archive: Files) -> None:
    n_files = 300
    archive.source = f"s3://{archive.bucket}/many/t{{t}}.tif"
    for t in range(n_files):
        archive.meter.put(archive.bucket, f"many/t{t}.tif", seed.encode(np.full((2, 2), t, "u2")))
    archive.migrate(chunks=None, shards=None, levels=1, max_mem="1GB")
    stored = copies.objects(archive.url(), archive.meter.storage_options)
    (record,) = (json.loads(data) for key, data in stored.items() if "/cells/0/" in key)
    assert len(json.dumps(record["files"])) <= 40 * n_files
