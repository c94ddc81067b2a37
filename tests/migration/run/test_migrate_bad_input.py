"""Refused and failing migrations: the right error, before anything is read, and nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.errors import (
    AccessDeniedError,
    ArgumentError,
    CloudimgError,
    FormatError,
    NoMatchError,
    NoRoomError,
    NotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from tests.conftest import WebServer
from tests.support import copies, seed
from tests.support.metering import Meter, Traffic

pytestmark = pytest.mark.slow

SECRET = "TOP-SECRET-VALUE"


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Eight small files."""
    return write_source(tmp_path / "source")


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same, for tests that only read."""
    return write_source(tmp_path_factory.mktemp("unchanged") / "source")


def write_source(folder: Path) -> str:
    folder.mkdir()
    for t, z in np.ndindex(2, 4):
        pixels = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96) + 10 * t + z
        tifffile.imwrite(folder / f"a_{t}_{z}.tif", pixels, photometric="minisblack")
    return f"{folder}/a_{{t}}_{{z}}.tif"


@pytest.fixture
def archive(meter: Meter, bucket: str) -> str:
    for t, z in np.ndindex(2, 4):
        meter.put(bucket, f"src/a_{t}_{z}.tif", seed.encode(pixels_of(t, z)))
    return f"s3://{bucket}/src/a_{{t}}_{{z}}.tif"


def pixels_of(t: int, z: int) -> Any:
    return np.arange(64 * 96, dtype=np.uint16).reshape(64, 96) + 10 * t + z


CELLS: dict[str, Any] = {"chunks": 32, "shards": {"t": 1, "z": 1, "y": 64, "x": 96}, "levels": 2}
"""One file a cell."""
SLOWLY: dict[str, Any] = {**CELLS, "max_mem": 100_000}
"""One cell or two at a time."""


def migrate(meter: Meter, source: str, url: str, **arguments: Any) -> Any:
    options = meter.storage_options
    return cloudimg.migrate(
        source,
        url,
        source_options=options,
        target_options=options,
        **{**SLOWLY, **arguments},
    )


def assert_right(meter: Meter, url: str) -> None:
    options = meter.storage_options
    proof = cloudimg.verify(
        url, against_source=True, storage_options=options, source_options=options
    )
    assert proof, str(proof)


def files_in(folder: Path) -> dict[str, bytes]:
    """All files but leases, which remain: their numbers are never used again."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "/.cloudimg/lease/" not in str(path)
    }


def objects_in(url: str, options: dict[str, Any]) -> dict[str, bytes]:
    """All objects but leases."""
    found = copies.objects(url, options)
    return {key: data for key, data in found.items() if ".cloudimg/lease/" not in key}


def source_reads(traffic: Traffic) -> list[str]:
    return [r.key for r in traffic.requests if r.method == "GET" and r.key.startswith("src/")]


# ---------------------------------------------------------------------------------------- arguments

BAD_ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "chunks that do not divide shards": (
        {"chunks": {"y": 20, "x": 20}, "shards": {"y": 50, "x": 40}},
        r"50 along y is not a multiple of the chunk, 20: use 60",
    ),
    "shards without chunks": ({"chunks": {"x": 32}, "shards": {"x": 48}}, "use 64"),
    "negative chunks": ({"chunks": -1}, "chunks=-1 must be a positive integer"),
    "chunks of zero": ({"chunks": {"y": 0}}, r"chunks\['y'\]=0 must be a positive integer"),
    "chunks of a half": ({"chunks": 32.5}, "chunks=32.5 must be a positive integer"),
    "chunks of a float": (
        {"chunks": (1, 1, 32.0, 32)},
        "chunks=32.0 must be a positive integer",
    ),
    "chunks of True": ({"chunks": True}, "chunks=True must be a positive integer"),
    "chunks of text": ({"chunks": "32"}, "chunks='32' must be a number, a tuple or a mapping"),
    "chunks of too few": ({"chunks": (32, 32)}, "chunks= has 2 numbers for the 4 dims"),
    "chunks of NaN": ({"chunks": float("nan")}, "chunks=nan must be a positive integer"),
    "chunks of objects": ({"chunks": object()}, "chunks="),
    "chunks along c": ({"chunks": {"c": 1}}, r"chunks= names \['c'\], but the image has"),
    "chunks along 1": ({"chunks": {1: 1, "q": 3}}, "chunks= names"),
    "shards along w": ({"shards": {"w": 1}}, r"shards= names \['w'\], but the image has"),
    "negative shards": (
        {"shards": {"y": -64}},
        r"shards\['y'\]=-64 must be a positive integer",
    ),
    "shards of text": ({"shards": "auto"}, "shards='auto' must be"),
    "shards in Zarr 2": ({"shards": 64, "zarr_format": 2}, "Zarr 2 has no shards"),
    "factors of zero": ({"factors": 0}, "factors=0 must be a positive integer"),
    "negative factors": (
        {"factors": {"y": -2}},
        r"factors\['y'\]=-2 must be a positive integer",
    ),
    "factors of a half": ({"factors": [1.5]}, "factors=1.5 must be a positive integer"),
    "factors along q": ({"factors": {"q": 2}}, r"factors= names \['q'\]"),
    "factors of nothing": ({"factors": [{"y": 1}]}, "would be as large as the level below it"),
    "factors of text": ({"factors": "2"}, "factors='2' must be a positive integer"),
    "factors and other levels": ({"factors": [2, 2], "levels": 2}, "factors= has 2 steps"),
    "no levels": ({"levels": 0}, "levels=0 must be a positive integer"),
    "negative levels": ({"levels": -1}, "levels=-1 must be a positive integer"),
    "levels of a float": ({"levels": 2.0}, "levels=2.0 must be a positive integer"),
    "levels of True": ({"levels": True}, "levels=True must be a positive integer"),
    "levels of text": ({"levels": "3"}, "levels='3' must be a positive integer"),
    "too many levels": ({"levels": 99}, "would be as large as the level below it"),
    "zarr_format": ({"zarr_format": 4}, "zarr_format=4 must be 3 or 2"),
    "zarr_format of text": ({"zarr_format": "3"}, "zarr_format='3' must be 3 or 2"),
    "zarr_format of True": ({"zarr_format": True}, "zarr_format=True must be 3 or 2"),
    "zarr_format of a list": ({"zarr_format": [3]}, "must be 3 or 2"),
    "downsampling": ({"downsampling": "median"}, "must be one of mean, nearest, mode"),
    "downsampling of a number": ({"downsampling": 2}, "must be one of mean, nearest, mode"),
    "downsampling of a list": ({"downsampling": ["mean"]}, "must be one of mean, nearest, mode"),
    "codec": ({"codec": "zstdd"}, "codec 'zstdd' is unknown: use one of .*zstd"),
    "lossy codec": ({"codec": "zfpy"}, "may return other pixels than were written"),
    "another lossy codec": ({"codec": {"id": "fixedscaleoffset"}}, "may return other pixels"),
    "jpeg": ({"codec": {"name": "imagecodecs_jpeg"}}, "is unknown: use one of"),
    "level of codec": ({"codec": "zstd:high"}, "the colon must be followed by a level"),
    "large level of codec": ({"codec": "zstd:99"}, "level=99 must be an integer from"),
    "option of codec": (
        {"codec": {"name": "zstd", "configuration": {"lvl": 1}}},
        "unknown parameter lvl",
    ),
    "codec without name": ({"codec": {"level": 3}}, "has no name"),
    "codec of a number": ({"codec": 5}, "codec=5 is not a name"),
    "codec with odd configuration": ({"codec": {"name": "zstd", "configuration": 5}}, "codec"),
    "codec of None in a list": ({"codec": ["zstd", 7]}, "codec=7 is not a name"),
    "name of a number": ({"name": 7}, "name=7 must be a string"),
    "name of bytes": ({"name": b"a"}, "name=b'a' must be a string"),
    "little memory": ({"max_mem": 1000, "shards": {"y": 64, "x": 64}}, "or use smaller shards"),
    "memory of 0": ({"max_mem": 0}, "max_mem=0 must be a positive size in bytes, such as"),
    "negative memory": ({"max_mem": -5}, "max_mem=-5 must be a positive size"),
    "memory of a float": ({"max_mem": 1e9}, "max_mem=1000000000.0 must be a positive size"),
    "memory of text": ({"max_mem": "lots"}, "max_mem='lots' must be a positive size"),
    "memory of an odd unit": ({"max_mem": "2XB"}, "max_mem='2XB' must be a positive size"),
    "memory without number": ({"max_mem": "GB"}, "max_mem='GB' must be a positive size"),
    "memory of infinity": ({"max_mem": "infGB"}, "max_mem='infGB' must be a positive size"),
    "memory of NaN": ({"max_mem": "nan"}, "max_mem='nan' must be a positive size"),
    "memory of True": ({"max_mem": True}, "max_mem=True must be a positive size"),
    "overwrite": ({"overwrite": "yes"}, "overwrite='yes' must be True or False"),
    "resume": ({"resume": 1}, "resume=1 must be True or False"),
    "progress": ({"progress": 3}, "progress=3"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_arguments(unchanged: str, tmp_path: Path, name: str) -> None:
    source, (arguments, message) = unchanged, BAD_ARGUMENTS[name]
    out = tmp_path / "copy.zarr"
    with pytest.raises(ArgumentError, match=message):
        cloudimg.migrate(source, out, **arguments)
    assert not out.exists() or files_in(out) == {}
    if not {"overwrite", "resume", "progress"} & set(arguments):
        with pytest.raises(ArgumentError, match=message):
            cloudimg.dry_run(source, **arguments)


def test_arguments_are_checked_before_anything_is_stored(meter: Meter, bucket: str) -> None:
    """Also those that only the image shows to be wrong."""
    options = meter.storage_options
    meter.fill(bucket, [f"in/{z}.tif" for z in range(3)], seed.encode(pixels_of(0, 0)))
    url, copy = f"s3://{bucket}/in/{{z}}.tif", f"s3://{bucket}/copy.zarr"
    wrong: tuple[dict[str, Any], ...] = (
        {"shards": {"q": 64}},
        {"chunks": -5},
        {"levels": 99},
        {"max_mem": "100kB"},
        {"codec": "zstd:99"},
    )
    for given in wrong:
        with meter.measure() as traffic, pytest.raises(CloudimgError):
            cloudimg.migrate(url, copy, source_options=options, target_options=options, **given)
        assert traffic.puts == 0, given
    within = f"s3://{bucket}/in"
    with meter.measure() as traffic, pytest.raises(ArgumentError):
        cloudimg.migrate(url, within, source_options=options, target_options=options)
    assert traffic.puts == 0


def test_shards_larger_than_can_be_stored(tmp_path: Path) -> None:
    import dask.array as da

    array = da.zeros((100_000, 100_000), chunks=10_000, dtype="u2")
    with pytest.raises(ArgumentError, match="at most 4294967296 can be stored at once"):
        cloudimg.to_zarr(array, tmp_path / "copy.zarr", chunks=1000, shards=100_000)
    with pytest.raises(ArgumentError, match=r"chunks .* at most 4294967296 can be stored at once"):
        cloudimg.to_zarr(array, tmp_path / "copy.zarr", chunks=100_000)
    with pytest.raises(ArgumentError, match=r"too little memory: .*max_mem= or use smaller shards"):
        cloudimg.to_zarr(array, tmp_path / "a.zarr", chunks=1000, shards=20_000, max_mem="1GB")
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize(
    "made",
    [
        lambda: np.array([["a"]]),
        lambda: np.zeros((4, 4), "O"),
        lambda: np.zeros((4, 4), "M8[s]"),
        lambda: np.zeros((4, 4), [("a", "u1")]),
        lambda: np.zeros((4, 4), "g"),
        lambda: np.zeros((0, 4), "u1"),
        lambda: np.zeros((2,) * 7, "u1"),
        lambda: "a.tif",
        lambda: [[1, 2], [3, 4]],
        lambda: None,
    ],
)
def test_arrays_that_cannot_be_written(tmp_path: Path, made: Callable[[], Any]) -> None:
    with pytest.raises((ArgumentError, UnsupportedFormatError)):
        cloudimg.to_zarr(made(), tmp_path / "copy.zarr")
    assert files_in(tmp_path) == {}


def test_dims_of_arrays(tmp_path: Path) -> None:
    pixels = np.zeros((4, 64, 64), np.uint8)
    for dims in (("y", "x"), ("y", "y", "x"), "yx", ("z", "y", "x", "c")):
        with pytest.raises(ArgumentError, match="must name each of 3 axes once"):
            cloudimg.to_zarr(pixels, tmp_path / "copy.zarr", dims=dims)
    number: Any = 3
    with pytest.raises(ArgumentError, match="dims=3 must be names of axes, such as"):
        cloudimg.to_zarr(pixels, tmp_path / "copy.zarr", dims=number)
    assert files_in(tmp_path) == {}


def test_sources_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "a_0.tif").write_bytes(b"hello")
    out = tmp_path / "copy.zarr"
    with pytest.raises(FormatError):
        cloudimg.migrate(f"{tmp_path}/a_{{z}}.tif", out)
    with pytest.raises(NoMatchError):
        cloudimg.migrate(f"{tmp_path}/b_{{z}}.tif", out)
    with pytest.raises(ArgumentError):
        cloudimg.migrate(f"{tmp_path}/b_{{z.tif", out)
    assert not out.exists() or files_in(out) == {}  # so that the next call can use it
    (tmp_path / "b_0.tif").write_bytes(seed.encode(pixels_of(0, 0)))
    cloudimg.migrate(f"{tmp_path}/b_{{z}}.tif", out, allow_unmatched=True)
    assert cloudimg.verify(out, against_source=True)


# ------------------------------------------------------------------------------------- destinations


@pytest.mark.long
@pytest.mark.parametrize(
    "url",
    ["/", "file:///", "s3://bucket", "s3://bucket/", "gs://bucket", "az://container/", "..", ""],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_whole_bucket_or_file_system(
    source: str, url: str, overwrite: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = files_in(tmp_path)
    with pytest.raises(ArgumentError):
        cloudimg.migrate(source, url, overwrite=overwrite)
    assert files_in(tmp_path) == before


def test_a_foreign_folder(source: str, tmp_path: Path) -> None:
    out = tmp_path / "thesis"
    (out / "chapters").mkdir(parents=True)
    (out / "chapters/1.tex").write_text("to be, or")
    (out / "zarr.json").write_text("{}")
    before = files_in(tmp_path)
    for arguments in ({}, {"resume": False}):
        with pytest.raises(
            ArgumentError, match="did not write: choose another destination, or pass"
        ):
            cloudimg.migrate(source, out, **arguments)
        assert files_in(tmp_path) == before
    with pytest.raises(ArgumentError, match="levels=0"):
        cloudimg.migrate(source, out, overwrite=True, levels=0)
    with pytest.raises(ArgumentError, match="levels=99"):
        cloudimg.migrate(source, out, overwrite=True, levels=99)
    with pytest.raises(NoMatchError):
        cloudimg.migrate(f"{tmp_path}/none_{{z}}.tif", out, overwrite=True)
    with pytest.raises(ArgumentError, match="max_mem"):
        cloudimg.migrate(source, out, overwrite=True, max_mem=100)
    assert files_in(tmp_path) == before
    cloudimg.migrate(source, out, overwrite=True)
    assert not (out / "chapters/1.tex").exists()
    assert cloudimg.verify(out, against_source=True)


def test_a_foreign_folder_on_s3(meter: Meter, bucket: str, archive: str) -> None:
    url = f"s3://{bucket}/copy.zarr"
    meter.put(bucket, "copy.zarr/precious", b"1")
    meter.put(bucket, "copy.zarr.old", b"2")  # begins with the same letters
    with meter.measure() as traffic, pytest.raises(ArgumentError, match="did not write"):
        migrate(meter, archive, url)
    assert {r.method for r in traffic.requests} <= {"GET", "HEAD"}
    assert source_reads(traffic) == []
    migrate(meter, archive, url, overwrite=True)
    assert_right(meter, url)
    found = copies.objects(f"s3://{bucket}", meter.storage_options)
    assert "copy.zarr/precious" not in found
    assert found["copy.zarr.old"] == b"2"


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_folder_of_the_source(source: str, tmp_path: Path, overwrite: bool) -> None:
    folder = tmp_path / "source"
    before = files_in(tmp_path)
    only = [str(path) for path in sorted(folder.iterdir())][:1]
    for urls, out in (
        (source, folder),
        (source, tmp_path),
        (source, f"{folder}/"),
        (source, f"file://{folder}"),
        (source, f"{folder}/../source"),
        (only, folder),
        (only, only[0]),
        (f"{folder}/*_{{t}}_{{z}}.tif", folder),
    ):
        with pytest.raises(CloudimgError):
            cloudimg.migrate(urls, out, overwrite=overwrite)
        assert files_in(tmp_path) == before
    cloudimg.migrate(source, folder / "copy.zarr", overwrite=overwrite)  # beside them is fine
    assert {f"source/{key}" for key in files_in(folder) if key.endswith("tif")} == set(before)


def test_the_folder_of_the_source_by_another_name(source: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "source")
    before = files_in(tmp_path / "source")
    with pytest.raises(ArgumentError):
        cloudimg.migrate(source, tmp_path / "link", overwrite=True)
    assert files_in(tmp_path / "source") == before


def test_what_links_lead_to_is_not_deleted(source: str, tmp_path: Path) -> None:
    """When foreign contents are overwritten."""
    out = tmp_path / "copy.zarr"
    out.mkdir()
    (out / "folder").symlink_to(tmp_path / "source")
    (out / "file").symlink_to(tmp_path / "source/a_0_0.tif")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("hello")
    (out / "another").symlink_to(tmp_path / "precious")
    before = files_in(tmp_path / "source")
    cloudimg.migrate(source, out, overwrite=True)
    assert files_in(tmp_path / "source") == before
    assert (tmp_path / "precious/file").read_text() == "hello"
    assert not (out / "file").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_folder_of_the_source_on_s3(
    meter: Meter, bucket: str, archive: str, overwrite: bool
) -> None:
    before = copies.objects(f"s3://{bucket}", meter.storage_options)
    with pytest.raises(ArgumentError):
        migrate(meter, archive, f"s3://{bucket}/src", overwrite=overwrite)
    assert objects_in(f"s3://{bucket}", meter.storage_options) == before


# ----------------------------------------------------------------------- what cannot be written to

AS_ANYBODY = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP of CAP_DAC_OVERRIDE: root as others are
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""
MIGRATE = """
import sys, cloudimg
from cloudimg.errors import CloudimgError
try:
    cloudimg.migrate(sys.argv[1], sys.argv[2], levels=1)
except CloudimgError as exc:
    print(type(exc).__name__, exc)
"""


def test_a_folder_that_is_read_only(source: str, tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o555)
    answer = subprocess.run(
        [sys.executable, "-c", AS_ANYBODY, MIGRATE, source, str(folder / "copy.zarr")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert answer.stdout.startswith("AccessDeniedError "), answer.stdout + answer.stderr
    assert str(folder) in answer.stdout
    assert list(folder.iterdir()) == []


def test_a_folder_in_a_file_or_nowhere(source: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    for out in (tmp_path / "file" / "copy.zarr", tmp_path / "file", "/proc/nowhere/copy.zarr"):
        with pytest.raises(CloudimgError) as caught:
            cloudimg.migrate(source, out)
        assert str(out) in str(caught.value)
    assert (tmp_path / "file").read_text() == "hello"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_web_server(source: str, httpd: WebServer, overwrite: bool) -> None:
    with pytest.raises(StorageError, match="a web server, which is read only; write to s3, gs"):
        cloudimg.migrate(source, f"{httpd.endpoint}/some/copy.zarr", overwrite=overwrite)


def test_a_chain_of_urls(source: str, tmp_path: Path) -> None:
    with pytest.raises(CloudimgError):
        cloudimg.migrate(source, f"simplecache::file://{tmp_path}/copy.zarr")


@pytest.mark.parametrize("status", [401, 403])
def test_s3_that_answers_403(meter: Meter, bucket: str, archive: str, status: int) -> None:
    """Known when only the first header, with which arguments are checked, was requested."""
    meter.faults([{"match": "^PUT", "status": status}])
    url = f"s3://{bucket}/copy.zarr"
    with meter.measure() as traffic, pytest.raises(AccessDeniedError, match=url):
        migrate(meter, archive, url)
    assert source_reads(traffic) == ["src/a_0_0.tif"]
    assert len([r for r in traffic.requests if r.method == "PUT"]) == 1  # not tried again
    meter.faults([])
    migrate(meter, archive, url)
    assert_right(meter, url)


def test_a_plan_that_cannot_be_stored(meter: Meter, bucket: str, archive: str) -> None:
    """The first cells are being read by then. Nothing else is stored, and only a lease is left."""
    meter.faults([{"match": r"^PUT .*plan\.json", "status": 403}])
    with meter.measure() as traffic, pytest.raises(AccessDeniedError, match=r"plan\.json"):
        migrate(meter, archive, f"s3://{bucket}/copy.zarr")
    meter.faults([])
    table, plan = (r.key for r in traffic.requests if r.method == "PUT" and "lease" not in r.key)
    assert table.startswith("copy.zarr/.cloudimg/files/")
    assert plan == "copy.zarr/.cloudimg/plan.json"
    assert objects_in(f"s3://{bucket}/copy.zarr", meter.storage_options) == {}


def test_s3_that_may_not_be_listed(meter: Meter, bucket: str, archive: str) -> None:
    meter.faults([{"match": f"^GET /{bucket}/(copy.zarr.*)?$", "status": 403}])
    with meter.measure() as traffic, pytest.raises(AccessDeniedError):
        migrate(meter, archive, f"s3://{bucket}/copy.zarr")
    assert {r.method for r in traffic.requests} <= {"GET", "HEAD"}
    assert source_reads(traffic) == []


def test_a_plan_that_is_stored_during_the_inspection(
    meter: Meter, bucket: str, archive: str
) -> None:
    """It was missing when it was requested, and exists when everything is listed: not foreign."""
    url = f"s3://{bucket}/copy.zarr"
    migrate(meter, archive, url)
    meter.faults([{"match": r"^GET .*/plan\.json", "status": 404, "times": 1}])
    assert migrate(meter, archive, url).n_objects == 0


def test_a_bucket_that_is_not_there(meter: Meter, archive: str) -> None:
    with meter.measure() as traffic, pytest.raises(NotFoundError):
        migrate(meter, archive, "s3://no-such-bucket-anywhere/copy.zarr")
    assert source_reads(traffic) == []


# -------------------------------------------------------------------------- a source that changes


def records(meter: Meter, url: str) -> int:
    return sum("/cells/" in key for key in copies.names(url, meter.storage_options))


def test_a_source_that_vanishes_and_comes_back(meter: Meter, bucket: str, archive: str) -> None:
    url = f"s3://{bucket}/copy.zarr"

    def vanish(advance: Any) -> None:
        if advance.n_done == 3:
            for t, z in np.ndindex(2, 4):
                meter.delete(bucket, f"src/a_{t}_{z}.tif")

    with pytest.raises(NotFoundError, match=f"s3://{bucket}/src/a_"):
        migrate(meter, archive, url, progress=vanish)
    assert 3 <= records(meter, url) < 8
    assert "copy.zarr/zarr.json" not in copies.objects(f"s3://{bucket}", meter.storage_options)
    with pytest.raises(NoMatchError):
        migrate(meter, archive, url)
    for t, z in np.ndindex(2, 4):
        meter.put(bucket, f"src/a_{t}_{z}.tif", seed.encode(pixels_of(t, z)))
    done = migrate(meter, archive, url)
    assert 3 <= done.n_done_before < done.n_cells == 8
    assert_right(meter, url)


@pytest.mark.parametrize("status", [404, 403])
def test_a_file_that_cannot_be_read_for_a_while(
    meter: Meter, bucket: str, archive: str, status: int
) -> None:
    url = f"s3://{bucket}/copy.zarr"
    meter.faults([{"match": "^(GET|HEAD) .*/src/a_1_2.tif", "status": status}])
    expected = NotFoundError if status == 404 else AccessDeniedError
    with pytest.raises(expected, match=f"s3://{bucket}/src/a_1_2.tif"):
        migrate(meter, archive, url)
    assert not any(key.endswith("zarr.json") for key in copies.names(url, meter.storage_options))
    meter.faults([])
    done = migrate(meter, archive, url)
    assert 0 < done.n_done_before < 8
    assert_right(meter, url)


def test_a_file_changed_between_two_runs(meter: Meter, bucket: str, archive: str) -> None:
    url = f"s3://{bucket}/copy.zarr"
    meter.faults([{"match": "^GET .*/src/a_1_3.tif", "status": 404}])
    with pytest.raises(NotFoundError):
        migrate(meter, archive, url)
    meter.faults([])
    before = copies.objects(url, meter.storage_options)
    meter.put(bucket, "src/a_0_1.tif", seed.encode(pixels_of(1, 1)))
    with pytest.raises(ArgumentError, match=r"unfinished migration: pass resume=True"):
        migrate(meter, archive, url, resume=False)
    after = copies.objects(url, meter.storage_options)
    assert copies.image_of(after) == copies.image_of(before)
    n_finished = records(meter, url)
    done = migrate(meter, archive, url, overwrite=True)
    assert done.n_done_before == n_finished - 1
    assert_right(meter, url)


@pytest.mark.parametrize("name", ["a_0_0.tif", "a_1_3.tif"])
def test_a_file_changed_during_the_run(meter: Meter, bucket: str, archive: str, name: str) -> None:
    """Whether it was read before the change or after."""
    url = f"s3://{bucket}/copy.zarr"

    def change(advance: Any) -> None:
        if advance.n_done == 3:
            meter.put(bucket, f"src/{name}", seed.encode(pixels_of(5, 5)))

    done = migrate(meter, archive, url, progress=change)
    assert (done.n_cells, done.n_done_before) == (8, 0)
    assert_right(meter, url)


@pytest.mark.parametrize("missing", ["raise", "fill"])
def test_a_file_of_a_list_changed_during_the_run(
    meter: Meter, bucket: str, archive: str, missing: str
) -> None:
    """A list of URLs is not listed in the store: each file is asked for its version."""
    urls = [f"s3://{bucket}/src/a_{t}_{z}.tif" for t in range(2) for z in range(4)]

    def change(advance: Any) -> None:
        if advance.n_done == 3:
            meter.put(bucket, "src/a_0_0.tif", seed.encode(pixels_of(5, 5)))

    options = meter.storage_options
    cloudimg.migrate(
        urls,
        f"s3://{bucket}/copy.zarr",
        source_options=options,
        target_options=options,
        missing=missing,
        progress=change,
        chunks=64,
        shards={"file": 1, "y": 64, "x": 128},
        max_mem=120_000,
        levels=1,
    )
    assert_right(meter, f"s3://{bucket}/copy.zarr")


def test_a_local_file_changed_during_the_run(source: str, tmp_path: Path) -> None:
    def change(advance: Any) -> None:
        if advance.n_done == 3:
            tifffile.imwrite(tmp_path / "source/a_0_0.tif", pixels_of(5, 5))

    out = tmp_path / "copy.zarr"
    cloudimg.migrate(source, out, progress=change, **SLOWLY)
    assert cloudimg.verify(out, against_source=True)


# ------------------------------------------------------------------------------- other arguments

OTHERS: dict[str, Any] = {
    "chunks": 16,
    "shards": {"t": 2, "y": 64, "x": 96},
    "levels": 1,
    "factors": {"y": 2, "x": 2, "z": 2},
    "downsampling": "nearest",
    "codec": "gzip",
    "name": "another",
}


@pytest.mark.parametrize("finished", [True, False])
def test_changed_arguments(source: str, tmp_path: Path, finished: bool) -> None:
    out = tmp_path / "copy.zarr"
    interrupted(source, out)
    if finished:
        cloudimg.migrate(source, out, **SLOWLY)
    before = copies.image_of(files_in(out))
    for argument, other in OTHERS.items():
        with pytest.raises(ArgumentError, match=rf"\b{argument}=.* (before|now),.*overwrite"):
            cloudimg.migrate(source, out, **{**SLOWLY, argument: other})
        with pytest.raises(ArgumentError, match=rf"\b{argument}=.* (before|now),"):
            cloudimg.open(source).to_zarr(out, **{**SLOWLY, argument: other})
    assert copies.image_of(files_in(out)) == before


def interrupted(source: str, out: Path) -> None:
    def stop(advance: Any) -> None:
        if advance.n_done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cloudimg.migrate(source, out, progress=stop, **SLOWLY)


def test_another_source_or_format(source: str, tmp_path: Path) -> None:
    out = tmp_path / "copy.zarr"
    cloudimg.migrate(source, out, levels=1)
    before = copies.image_of(files_in(out))
    with pytest.raises(ArgumentError, match="zarr_format=3 before, zarr_format=2 now"):
        cloudimg.migrate(source, out, levels=1, zarr_format=2)
    with pytest.raises(ArgumentError, match=r"the source's shape was \(.*\) and is now \("):
        cloudimg.migrate(source.replace("{t}", "0"), out, levels=1, allow_unmatched=True)
    with pytest.raises(ArgumentError, match=r"the source's axes were \('t', .* and are now \('c',"):
        cloudimg.migrate(source.replace("{t}", "{c}"), out, levels=1)
    with pytest.raises(ArgumentError, match="was an image in files and is now an array"):
        cloudimg.to_zarr(np.zeros((2, 4, 64, 96), np.uint16), out, levels=1)
    assert copies.image_of(files_in(out)) == before


def test_no_resuming(source: str, tmp_path: Path) -> None:
    out = tmp_path / "copy.zarr"
    interrupted(source, out)
    before = copies.image_of(files_in(out))
    with pytest.raises(
        ArgumentError, match="unfinished migration: pass resume=True to continue it, or"
    ):
        cloudimg.migrate(source, out, resume=False, **SLOWLY)
    assert copies.image_of(files_in(out)) == before
    done = cloudimg.migrate(source, out, **SLOWLY)
    assert done.n_done_before >= 3
    # Nothing is left to resume: the same as before.
    again = cloudimg.migrate(source, out, resume=False, **SLOWLY)
    assert again.n_objects == 0
    anew = cloudimg.migrate(source, out, resume=False, overwrite=True, **SLOWLY)
    assert anew.n_done_before == 0
    assert cloudimg.verify(out, against_source=True)


def test_a_damaged_journal(source: str, tmp_path: Path) -> None:
    out = tmp_path / "copy.zarr"
    interrupted(source, out)
    path = out / ".cloudimg/cells/0/000000000.json"
    path.write_bytes(path.read_bytes()[:20])
    done = cloudimg.migrate(source, out, **SLOWLY)  # that cell is done again
    assert 2 <= done.n_done_before < 8
    assert cloudimg.verify(out, against_source=True)
    (out / ".cloudimg/plan.json").write_text("{")
    with pytest.raises(CloudimgError, match=r"plan\.json is damaged"):
        cloudimg.migrate(source, out, **SLOWLY)


def test_a_damaged_plan_can_be_overwritten(source: str, tmp_path: Path) -> None:
    out = tmp_path / "copy.zarr"
    cloudimg.migrate(source, out, **SLOWLY)
    (out / ".cloudimg/plan.json").write_text("{")
    cloudimg.migrate(source, out, overwrite=True, **SLOWLY)
    assert cloudimg.verify(out, against_source=True)


# --------------------------------------------------------------------------------------------- room


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [{"status": 507}, {"status": 403, "code": "QuotaExceeded"}, {"status": 413}],
    ids=lambda fault: str(fault["status"]),
)
def test_a_quota_that_is_used_up_half_way(
    meter: Meter, bucket: str, archive: str, fault: dict[str, Any]
) -> None:
    url = f"s3://{bucket}/copy.zarr"
    meter.faults([{"match": "^PUT .*/copy.zarr/(0|1|originals)/", "skip": 8, **fault}])
    with pytest.raises(NoRoomError, match=r"no room to write .*quota.*try again"):
        migrate(meter, archive, url)
    assert 0 < records(meter, url) < 8
    meter.faults([])
    done = migrate(meter, archive, url)
    assert 0 < done.n_done_before < 8
    assert_right(meter, url)


@pytest.mark.parametrize("fault", [{"status": 507}, {"status": 403, "code": "QuotaExceeded"}])
def test_no_room_from_the_beginning(
    meter: Meter, bucket: str, archive: str, fault: dict[str, Any]
) -> None:
    meter.faults([{"match": "^PUT", **fault}])
    with meter.measure() as traffic, pytest.raises(NoRoomError):
        migrate(meter, archive, f"s3://{bucket}/copy.zarr")
    assert source_reads(traffic) == ["src/a_0_0.tif"]


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import cloudimg
from cloudimg.errors import CloudimgError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    cloudimg.migrate(sys.argv[1], sys.argv[2], chunks=32, levels=2, codec="none",
                     shards={"t": 1, "z": 1, "y": 64, "x": 96})
except CloudimgError as exc:
    print(type(exc).__name__, exc)
"""


@pytest.mark.slow
def test_files_that_may_not_be_so_large(source: str, tmp_path: Path) -> None:
    """Like a full disk, but without the rights to mount one."""
    out = tmp_path / "copy.zarr"
    answer = subprocess.run(
        [sys.executable, "-c", LIMITED, source, str(out), "10000"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert answer.stdout.startswith("NoRoomError no room to write "), answer.stdout + answer.stderr
    # Nothing half-written is left, under any name.
    assert all(path.stat().st_size < 10_000 for path in out.rglob("*") if path.is_file())
    assert [p for p in (out / "0").rglob("*") if p.is_file()] == []
    arguments = {**CELLS, "codec": "none"}
    cloudimg.migrate(source, out, **arguments)
    assert cloudimg.verify(out, against_source=True)


@pytest.fixture
def little_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=96k", "none", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(source: str, little_disk: Path, tmp_path: Path) -> None:
    arguments = {**CELLS, "codec": "none"}
    out = little_disk / "copy.zarr"
    with pytest.raises(NoRoomError, match="no room to write"):
        cloudimg.migrate(source, out, **arguments)
    assert not (out / "zarr.json").exists()
    subprocess.run(["mount", "-o", "remount,size=8m", str(little_disk)], check=True)
    cloudimg.migrate(source, out, **arguments)
    assert cloudimg.verify(out, against_source=True)


# ------------------------------------------------------------------------------------------ secrets


def parquet_texts(found: dict[str, bytes]) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [data for key, data in found.items() if key.endswith(".parquet")]
    assert tables
    return repr([pq.read_table(pa.BufferReader(data)).to_pylist() for data in tables])


def test_secrets_are_stored_nowhere(meter: Meter, bucket: str, archive: str) -> None:
    options = {**meter.storage_options, "key": f"KEY-{SECRET}", "secret": SECRET, "token": SECRET}
    url = f"s3://{bucket}/copy.zarr"
    both: dict[str, Any] = {"source_options": options, "target_options": options} | CELLS
    notes: list[str] = []
    done = cloudimg.migrate(archive, url, progress=lambda each: notes.append(repr(each)), **both)
    proof = cloudimg.verify(
        url, against_source=True, storage_options=options, source_options=options
    )
    assert proof
    expected = cloudimg.dry_run(archive, storage_options=options, **CELLS)
    texts = [repr(done), str(done), repr(proof), str(proof), repr(expected), str(expected), *notes]
    found = copies.objects(url, options)
    texts.append(parquet_texts(found))
    assert all(SECRET.encode() not in data for data in found.values())
    refused = [
        ({"levels": 1}, []),
        ({"overwrite": True}, [{"match": "^PUT", "status": 403}]),
        ({"overwrite": True}, [{"match": "^PUT .*/0/c/", "status": 507}]),
        ({"overwrite": True}, [{"match": "^GET .*/src/a_1", "status": 403}]),
    ]
    for arguments, faults in refused:
        meter.faults(faults)
        with pytest.raises(CloudimgError) as caught:
            cloudimg.migrate(archive, url, **{**both, **arguments})
        texts += [str(caught.value), repr(caught.value), repr(caught.value.__reduce__())]
        texts += [repr(caught.value.__cause__), repr(caught.value.__context__)]
        meter.faults([])
    for text in texts:
        assert SECRET not in text


def test_signed_urls(httpd: WebServer, bucket: str, tmp_path: Path) -> None:
    folder = httpd.root / bucket
    folder.mkdir()
    for z in range(2):
        (folder / f"a_{z}.tif").write_bytes(seed.encode(pixels_of(0, z)))
    query = f"X-Amz-Signature={SECRET}&token={SECRET}&sig={SECRET}&v=1"
    urls = [f"{httpd.endpoint}/{bucket}/a_{z}.tif?{query}" for z in range(2)]
    out = tmp_path / "copy.zarr"
    done = cloudimg.migrate(urls, out, levels=1)
    found = files_in(out)
    assert all(SECRET.encode() not in data for data in found.values())
    texts = [repr(done), str(done), parquet_texts(found)]
    assert f"{bucket}/a_0.tif" in texts[-1]
    assert "***" in json.loads((out / ".cloudimg/plan.json").read_text())["source"]["urls"][0]
    with pytest.raises(ArgumentError, match="the source's URL contained credentials") as caught:
        cloudimg.verify(out, against_source=True)
    texts.append(str(caught.value))
    proof = cloudimg.verify(out, against_source=cloudimg.open(urls))
    assert proof, str(proof)
    again = cloudimg.migrate(urls, out, levels=1)  # counts as the same call
    assert again.n_objects == 0
    with pytest.raises(ArgumentError) as caught:
        cloudimg.migrate(urls[:1], out, levels=1)
    texts.append(str(caught.value))
    (folder / "a_1.tif").unlink()
    with pytest.raises(CloudimgError) as caught:
        cloudimg.migrate(urls, out, levels=1, overwrite=True)
    texts += [str(caught.value), repr(caught.value)]
    with pytest.raises(StorageError) as caught:
        cloudimg.migrate(urls[:1], f"{httpd.endpoint}/{bucket}/copy.zarr?{query}")
    texts += [str(caught.value), repr(caught.value)]
    texts.append(str(cloudimg.verify(out)))
    for text in texts:
        assert SECRET not in text


SIGNATURES = {
    "S3": "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=2026010{n}T000000Z&X-Amz-Expires=3600"
    "&X-Amz-SignedHeaders=host&X-Amz-Credential=ID{n}&X-Amz-Signature=ab{n}"
    "&X-Amz-Security-Token=t{n}",
    "Azure": "sv=2024-0{n}-04&st=2026-01-0{n}&se=2026-02-0{n}&sr=b&sp=r&spr=https&sig=abc{n}",
    "CloudFront": "Expires=170000000{n}&Signature=ab~{n}&Key-Pair-Id=K{n}&Policy=xy{n}",
    "Google": "X-Goog-Date=2026010{n}&X-Goog-Expires=5&X-Goog-Signature={n}",
    "a token": "access_token={n}",
}


@pytest.mark.parametrize("kind", SIGNATURES)
@pytest.mark.parametrize("is_list", [True, False], ids=["list", "one"])
def test_urls_that_are_signed_anew(
    httpd: WebServer, bucket: str, tmp_path: Path, kind: str, is_list: bool
) -> None:
    folder = httpd.root / bucket
    folder.mkdir()
    for z in range(2):
        (folder / f"a_{z}.tif").write_bytes(seed.encode(pixels_of(0, z)))

    def signed(n: int, more: str = "v=1") -> Any:
        query = f"{more}&{SIGNATURES[kind].format(n=n)}"
        urls = [f"{httpd.endpoint}/{bucket}/a_{z}.tif?{query}" for z in range(2)]
        return urls if is_list else urls[0]

    def stop(advance: Any) -> None:
        if advance.n_done == 1:
            raise KeyboardInterrupt

    out = tmp_path / "copy.zarr"
    arguments: dict[str, Any] = {"chunks": 16, "shards": 32, "levels": 1, "max_mem": 30_000}
    with pytest.raises(KeyboardInterrupt):
        cloudimg.migrate(signed(1), out, progress=stop, **arguments)
    done = cloudimg.migrate(signed(2), out, **arguments)
    assert 0 < done.n_done_before < done.n_cells
    proof = cloudimg.verify(out, against_source=cloudimg.open(signed(3)))
    assert proof, str(proof)
    assert proof.n_compared > 0
    with pytest.raises(ArgumentError, match=r"the source's URLs were http.* and are now http"):
        cloudimg.migrate(signed(4, "v=2"), out, **arguments)
    (folder / "a_0.tif").write_bytes(seed.encode(pixels_of(1, 1)))
    with pytest.raises(ArgumentError, match="the source's files changed since"):
        cloudimg.migrate(signed(4), out, **arguments)
    text = str(cloudimg.verify(out, against_source=cloudimg.open(signed(5))))
    assert "source files changed since they were migrated" in text


@pytest.mark.parametrize("finished", [True, False])
def test_arguments_that_come_to_the_same(source: str, tmp_path: Path, finished: bool) -> None:
    out = tmp_path / "copy.zarr"
    interrupted(source, out)
    if finished:
        cloudimg.migrate(source, out, **SLOWLY)
    for same in (
        {"chunks": {"y": 32, "x": 32}},
        {"chunks": (1, 1, 32, 32)},
        {"shards": (1, 1, 64, 96)},
        {"factors": 2},
        {"factors": [{"y": 2, "x": 2}], "levels": None},
        {"downsampling": "mean"},
    ):
        done = cloudimg.migrate(source, out, **{**SLOWLY, **same})
        assert done.n_done_before > 0
    assert cloudimg.verify(out, against_source=True)
    with pytest.raises(ArgumentError) as caught:
        cloudimg.migrate(source, out, **{**SLOWLY, "chunks": {"y": 32, "x": 32}, "levels": 1})
    assert "levels=2 before, levels=1 now" in str(caught.value)
    assert "chunks" not in str(caught.value)


def test_arrays_with_names_that_differ_from_run_to_run(tmp_path: Path) -> None:
    import dask.array as da

    pixels = np.zeros((64, 64), np.uint8)
    for n, name in enumerate(("one", "another")):
        array = da.from_array(pixels, chunks=32, name=name)  # type: ignore[no-untyped-call]
        if n == 0:
            cloudimg.to_zarr(array, tmp_path / "copy.zarr")
            cloudimg.to_zarr(array, tmp_path / "named.zarr", identity="zeros")
        else:
            with pytest.raises(ArgumentError, match=r"array .*changed since.*identity="):
                cloudimg.to_zarr(array, tmp_path / "copy.zarr")
            cloudimg.to_zarr(array, tmp_path / "named.zarr", identity="zeros")
