"""Bytes that change between a store and this process, where no checksum of the format tells."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr

import cloudimg
from cloudimg.errors import CloudimgError, ServerError
from cloudimg.errors.notes import Note
from cloudimg.migration.journal.layout import PLAN, PLAN_COPY
from tests.conftest import WebServer
from tests.support import copies, faulty_store, seed
from tests.support.metering import Meter

pytestmark = pytest.mark.slow  # all of them together

N_FILES = 4
SMALL = np.random.default_rng(0).integers(0, 255, (N_FILES, 60, 70), np.uint8)
"""Files that come with the first request for their header."""
LARGER = np.random.default_rng(1).integers(0, 255, (N_FILES, 300, 200), np.uint8)
"""Files that come as a whole with one further request."""
SIZES = {"small": SMALL, "larger": LARGER}
MD5 = "[0-9a-f]{32}"

sizes = pytest.mark.parametrize("size", SIZES)
ways = pytest.mark.parametrize("way", ["s3", "http"])


@pytest.fixture(params=["obstore", "fsspec"], autouse=True)
def backend(request: pytest.FixtureRequest, set_variable: Callable[[str, str], None]) -> str:
    set_variable("CLOUDIMG_BACKEND", "" if request.param == "obstore" else "fsspec")
    return str(request.param)


def stored(meter: Meter, bucket: str, size: str, way: str = "s3") -> list[str]:
    """Store a file for each plane; their URLs."""
    for z, plane in enumerate(SIZES[size]):
        meter.put(bucket, f"z{z}.tif", seed.encode(plane, compression=None))
    root = f"s3://{bucket}" if way == "s3" else f"{meter.endpoint}/{bucket}"
    return [f"{root}/z{z}.tif" for z in range(N_FILES)]


def options(meter: Meter, way: str = "s3") -> dict[str, Any]:
    return {"source_options": meter.storage_options} if way == "s3" else {}


def kinds(notes: tuple[str, ...]) -> dict[str, int]:
    assert all(isinstance(note, Note) for note in notes)
    return {note.kind: note.n_files for note in notes if isinstance(note, Note)}


def pixels(copy: Path) -> np.ndarray[Any, Any]:
    return np.squeeze(np.asarray(zarr.open_array(copy / "0", mode="r")[...]))


@pytest.mark.long
@ways
@pytest.mark.parametrize(
    ("size", "z", "nth"),
    [
        *(("small", z, 1) for z in range(1, N_FILES)),
        *(("larger", z, 1) for z in range(1, N_FILES)),
        ("larger", 0, 2),  # after its header
    ],
)
def test_a_file_that_changes_once_is_read_again(
    meter: Meter, bucket: str, tmp_path: Path, size: str, way: str, z: int, nth: int
) -> None:
    urls = stored(meter, bucket, size, way)
    flip = faulty_store.flipped("GET", f"z{z}.tif$", nth=nth)
    meter.faults([flip])
    copy = tmp_path / "copy.zarr"
    done = cloudimg.migrate(urls, copy, **options(meter, way))
    assert done.notes == ()
    np.testing.assert_array_equal(pixels(copy), SIZES[size])
    meter.faults([flip])
    proof = cloudimg.verify(copy, against_source=True, **options(meter, way))
    assert proof, str(proof)
    assert proof.notes == ()


@sizes
@ways
def test_a_file_that_changes_each_time_is_an_error(
    meter: Meter, bucket: str, tmp_path: Path, size: str, way: str
) -> None:
    urls = stored(meter, bucket, size, way)
    given = options(meter, way)
    flips = [faulty_store.flipped("GET", "z2.tif$", at=at, nth=1) for at in (3000, 3001)]
    meter.faults(flips)
    copy = tmp_path / "copy.zarr"
    stated = hashlib.md5(seed.encode(SIZES[size][2], compression=None)).hexdigest()
    text = rf"bytes of \S*/z2\.tif changed in transit.* MD5s {MD5} and {MD5}, .* states {stated}"
    with pytest.raises(ServerError, match=text) as caught:
        cloudimg.migrate(urls, copy, **given)
    assert caught.value.bad_file is None
    first, second, third = re.findall(MD5, str(caught.value))
    assert len({first, second, third}) == 3
    # Nothing was certified; the same command then ends with the right pixels.
    meter.faults([])
    assert not (copy / "zarr.json").exists()
    cloudimg.migrate(urls, copy, **given)
    np.testing.assert_array_equal(pixels(copy), SIZES[size])
    meter.faults(flips)
    proof = cloudimg.verify(copy, against_source=True, **given)
    assert not proof
    assert re.search(text, str(proof))


@sizes
def test_bad_files_that_are_filled_are_others(
    meter: Meter, bucket: str, tmp_path: Path, size: str
) -> None:
    urls = stored(meter, bucket, size)
    flips = [faulty_store.flipped("GET", "z2.tif$", at=at, nth=1) for at in (3000, 3001)]
    meter.faults(flips)
    with pytest.raises(ServerError, match="changed in transit"):
        cloudimg.migrate(urls, tmp_path / "copy.zarr", bad="fill", **options(meter))


@sizes
@pytest.mark.parametrize("kind", [faulty_store.kms, faulty_store.parts])
def test_etags_that_are_no_md5s_are_noted(
    meter: Meter, bucket: str, tmp_path: Path, size: str, kind: Any
) -> None:
    urls = stored(meter, bucket, size)
    meter.create(f"{bucket}-md5")
    for z in range(N_FILES):
        meter.put(f"{bucket}-md5", f"z{z}.tif", seed.encode(SIZES[size][z], compression=None))
    with meter.measure() as usual:
        with_md5s = [url.replace(bucket, f"{bucket}-md5") for url in urls]
        cloudimg.migrate(with_md5s, tmp_path / "usual.zarr", **options(meter))
    meter.drop(f"{bucket}-md5")
    meter.faults([kind()])
    copy = tmp_path / "copy.zarr"
    with meter.measure() as first:
        done = cloudimg.migrate(urls, copy, **options(meter))
    assert kinds(done.notes) == {"etag-not-md5": N_FILES}
    np.testing.assert_array_equal(pixels(copy), SIZES[size])
    assert kinds(cloudimg.verify(copy).notes) == kinds(done.notes)
    proof = cloudimg.verify(copy, against_source=True, source_options=meter.storage_options)
    assert proof, str(proof)
    assert proof.notes == done.notes
    # From then on, this process knows that the bucket's ETags are no MD5s.
    with meter.measure() as second:
        again = cloudimg.migrate(urls, tmp_path / "again.zarr", **options(meter))
    assert again.notes == done.notes
    assert second.gets == usual.gets
    assert (first.gets > usual.gets) == (kind is faulty_store.kms)


def test_a_web_server_without_etags(httpd: WebServer, bucket: str, tmp_path: Path) -> None:
    """It states nothing that could be compared, so there is nothing to say of its ETags."""
    (httpd.root / bucket).mkdir()
    for z, plane in enumerate(LARGER):
        data = seed.encode(plane, compression=None)
        (httpd.root / bucket / f"z{z}.tif").write_bytes(data)
    urls = [f"{httpd.endpoint}/{bucket}/z{z}.tif" for z in range(N_FILES)]
    assert cloudimg.migrate(urls, tmp_path / "copy.zarr").notes == ()
    assert cloudimg.verify(tmp_path / "copy.zarr", against_source=True).notes == ()
    np.testing.assert_array_equal(pixels(tmp_path / "copy.zarr"), LARGER)


def test_some_etags_that_are_no_md5s(meter: Meter, bucket: str, tmp_path: Path) -> None:
    """Where other ETags are MD5s, each file that differs is read once more."""
    urls = stored(meter, bucket, "larger")
    meter.faults([faulty_store.kms("GET|HEAD", "z1.tif$")])
    done = cloudimg.migrate(urls, tmp_path / "copy.zarr", **options(meter))
    assert kinds(done.notes) == {"etag-not-md5": 1}
    assert f"s3://{bucket}/z1.tif" in done.notes[0]
    flip = faulty_store.flipped("GET", "z2.tif$", nth=1)
    meter.faults([faulty_store.kms("GET|HEAD", "z1.tif$"), flip])
    again = cloudimg.migrate(urls, tmp_path / "again.zarr", **options(meter))
    assert again.notes == done.notes
    np.testing.assert_array_equal(pixels(tmp_path / "again.zarr"), LARGER)


@pytest.mark.parametrize("way", ["s3", "http", "local"])
def test_files_that_are_read_by_ranges_are_noted(
    meter: Meter, bucket: str, tmp_path: Path, way: str
) -> None:
    plane = np.zeros((4200, 4200), np.uint8)  # more than is fetched with one request
    data = seed.encode(plane, compression=None)
    meter.put(bucket, "z0.tif", data)
    (tmp_path / "z0.tif").write_bytes(data)
    url = {
        "s3": f"s3://{bucket}/z0.tif",
        "http": f"{meter.endpoint}/{bucket}/z0.tif",
        "local": str(tmp_path / "z0.tif"),
    }[way]
    copy = tmp_path / "copy.zarr"
    given = options(meter, way)
    done = cloudimg.migrate(url, copy, **given)
    assert kinds(done.notes) == ({} if way == "local" else {"read-by-ranges": 1})
    assert cloudimg.verify(copy).notes == done.notes
    proof = cloudimg.verify(copy, against_source=True, **given)
    assert proof, str(proof)
    assert proof.notes == done.notes


def test_files_that_several_cells_read_are_noted_once(
    meter: Meter, bucket: str, tmp_path: Path
) -> None:
    urls = stored(meter, bucket, "larger")
    done = cloudimg.migrate(
        urls, tmp_path / "copy.zarr", chunks=(1, 16, 64), shards=(1, 128, 256), **options(meter)
    )
    assert done.n_cells > N_FILES
    assert kinds(done.notes) == {"read-by-ranges": N_FILES}


def test_small_files_that_several_cells_read(meter: Meter, bucket: str, tmp_path: Path) -> None:
    """They come as a whole with their headers, also where a cell needs a part of them."""
    urls = stored(meter, bucket, "small")
    meter.faults([faulty_store.flipped("GET", f"z{z}.tif$", nth=1) for z in range(1, N_FILES)])
    copy = tmp_path / "copy.zarr"
    parts: dict[str, Any] = {"chunks": (1, 16, 16), "shards": (1, 32, 32)}
    done = cloudimg.migrate(urls, copy, **parts, **options(meter))
    assert done.n_cells > N_FILES
    assert done.notes == ()
    np.testing.assert_array_equal(pixels(copy), SMALL)


@sizes
def test_a_header_that_changed_at_open(
    meter: Meter, bucket: str, tmp_path: Path, size: str
) -> None:
    """Here in a text, of which only the metadata of a copy are made."""
    for z, plane in enumerate(SIZES[size]):
        meter.put(bucket, f"z{z}.tif", seed.encode(plane, compression=None))
    data = seed.encode(SIZES[size][0], compression=None)
    urls = [f"s3://{bucket}/z{z}.tif" for z in range(N_FILES)]
    at = data.index(b"tifffile")
    meter.faults([faulty_store.flipped("GET", "z0.tif$", at=at, nth=1)])
    with pytest.raises(ServerError, match=r"header of \S*/z0\.tif changed in transit.* overwrite"):
        cloudimg.migrate(urls, tmp_path / "copy.zarr", **options(meter))
    assert not (tmp_path / "copy.zarr" / "zarr.json").exists()


def test_levels_that_are_read_back(meter: Meter, bucket: str) -> None:
    """A level above is made of the one below as it is stored, not of what a network makes of it."""
    urls = stored(meter, bucket, "larger")
    target = f"{bucket}-target"
    meter.create(target)
    both = {**options(meter), "target_options": meter.storage_options}
    parts: dict[str, Any] = {"chunks": (1, 16, 16), "shards": (1, 32, 32), "levels": 4}
    try:
        # Of different objects: an object that is flipped twice is an error.
        meter.faults([faulty_store.flipped("GET", f"copy/1/c/0/0/{i}$", nth=1) for i in range(3)])
        with meter.measure() as traffic:
            cloudimg.migrate(urls, f"s3://{target}/copy", **both, **parts)
        read = [r.key for r in traffic.requests if r.method == "GET" and "/c/" in r.key]
        assert len(read) > len(set(read))
        meter.faults([])
        assert cloudimg.verify(f"s3://{target}/copy", storage_options=meter.storage_options)
    finally:
        meter.drop(target)


def test_other_formats(meter: Meter, bucket: str, tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    for z, plane in enumerate(LARGER):
        meter.put(bucket, f"z{z}.bmp", imagecodecs.bmp_encode(plane))
    urls = [f"s3://{bucket}/z{z}.bmp" for z in range(N_FILES)]
    rules = [faulty_store.flipped("GET", f"z{z}.bmp$", nth=1) for z in range(1, N_FILES)]
    meter.faults([*rules, faulty_store.flipped("GET", "z0.bmp$", nth=3)])
    done = cloudimg.migrate(urls, tmp_path / "copy.zarr", **options(meter))
    assert done.notes == ()
    np.testing.assert_array_equal(pixels(tmp_path / "copy.zarr"), LARGER)


@sizes
def test_plain_reading_reads_once(meter: Meter, bucket: str, size: str) -> None:
    """It compares nothing, so that ETags that are no MD5s make no difference to it."""
    urls = stored(meter, bucket, size)
    meter.faults([faulty_store.kms()])
    with meter.measure() as traffic:
        image = cloudimg.open(urls, storage_options=meter.storage_options)
        np.testing.assert_array_equal(image.read(), SIZES[size])
        np.testing.assert_array_equal(np.asarray(image.to_dask()), SIZES[size])
    assert image.notes == ()
    n_headers = 0 if size == "small" else 1
    assert sum(r.method == "GET" for r in traffic.requests) <= 2 * N_FILES + n_headers


def test_google_states_md5s(gcs: str, bucket: str, tmp_path: Path) -> None:
    import gcsfs

    given = {"endpoint_url": gcs, "token": "anon"}
    fs = gcsfs.GCSFileSystem(**given)
    fs.mkdir(bucket)
    urls = [f"gs://{bucket}/z{z}.tif" for z in range(N_FILES)]
    for url, plane in zip(urls, LARGER, strict=True):
        fs.pipe_file(url, seed.encode(plane, compression=None))
    copy = tmp_path / "copy.zarr"
    done = cloudimg.migrate(urls, copy, source_options=given)
    # Unlike Google, the emulator states none where it answers with a range, as of the first file.
    assert kinds(done.notes) == {"etag-not-md5": 1}
    assert urls[0] in done.notes[0]
    assert cloudimg.verify(copy, against_source=True, source_options=given)


@pytest.mark.parametrize("lost", [PLAN, PLAN_COPY])
def test_a_repair_stores_no_plan_that_changed_in_transit(
    meter: Meter, bucket: str, lost: str
) -> None:
    """Whichever of its readings of the other plan has other bytes."""
    urls, copy = stored(meter, bucket, "small"), f"s3://{bucket}/copy.zarr"
    cloudimg.migrate(urls, copy, **options(meter), target_options=meter.storage_options)
    other = PLAN_COPY if lost == PLAN else PLAN
    plan = copies.objects(copy, meter.storage_options)[other]
    fs, root = fsspec.core.url_to_fs(copy, **meter.storage_options)
    for nth in range(1, 6):
        fs.rm_file(f"{root}/{lost}")
        meter.faults([faulty_store.flipped("GET", f"{other}$", nth=nth)])
        with suppress(CloudimgError):
            cloudimg.repair(copy, storage_options=meter.storage_options)
        meter.faults([])
        found = copies.objects(copy, meter.storage_options)
        assert found[other] == plan
        assert found.get(lost) in (None, plan)
        assert cloudimg.repair(copy, storage_options=meter.storage_options)
        assert copies.objects(copy, meter.storage_options)[lost] == plan


def test_an_object_in_the_place_of_a_chunk_is_not_read_whole(meter: Meter, bucket: str) -> None:
    """Somebody's large object, where an unfinished copy goes on, is replaced."""
    urls, copy = stored(meter, bucket, "small"), f"s3://{bucket}/copy.zarr"
    both: dict[str, Any] = {**options(meter), "target_options": meter.storage_options}
    meter.put(bucket, "z3.tif", b"II*")
    with pytest.raises(CloudimgError):
        cloudimg.migrate(urls, copy, **both)
    stored(meter, bucket, "small")
    place = "copy.zarr/0/c/0/0/0"
    meter.put(bucket, place, bytes(32 * 2**20))
    with meter.measure() as traffic:
        cloudimg.migrate(urls, copy, **both)
    read = [r.bytes_sent for r in traffic.requests if r.key == place and r.method == "GET"]
    assert 0 < sum(read) < 8 * 2**20
    assert cloudimg.verify(copy, storage_options=meter.storage_options)


def test_a_throttled_store(meter: Meter, bucket: str) -> None:
    """A store that answers 503 for a while is waited for, in reading and in writing."""
    urls = stored(meter, bucket, "larger")
    meter.create(f"{bucket}-target")
    rules = [faulty_store.throttled("GET", f"z{z}.tif$", times=3) for z in range(N_FILES)]
    rules += [faulty_store.throttled("GET", f"{bucket}-target/$", times=2)]
    rules += [faulty_store.throttled("PUT", "c/0|zarr.json|cells", times=3)]
    meter.faults(rules)
    target = f"s3://{bucket}-target/copy.zarr"
    given = {**options(meter), "target_options": meter.storage_options}
    try:
        assert cloudimg.migrate(urls, target, **given).notes == ()
        meter.faults([faulty_store.throttled("GET", "", probability=0.2)])
        assert cloudimg.verify(target, storage_options=meter.storage_options)
    finally:
        meter.faults([])
        meter.drop(f"{bucket}-target")


def test_a_store_that_is_throttled_for_too_long(
    meter: Meter, bucket: str, tmp_path: Path, set_variable: Callable[[str, str], None]
) -> None:
    set_variable("CLOUDIMG_ATTEMPTS", "2")
    urls = stored(meter, bucket, "larger")
    image_urls = urls[1:]
    meter.faults([faulty_store.throttled("GET", "z3.tif$")])
    copy = tmp_path / "copy.zarr"
    with pytest.raises(CloudimgError, match=r"z3\.tif.*gave up after 2 attempts"):
        cloudimg.migrate(image_urls, copy, **options(meter))
    meter.faults([])
    cloudimg.migrate(image_urls, copy, **options(meter))
    np.testing.assert_array_equal(pixels(copy), LARGER[1:])
