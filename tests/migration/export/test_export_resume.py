"""Exports that are interrupted, go on, meet other files, or make a file that is not right."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.errors import ArgumentError, CorruptFileError
from cloudimg.migration.export import export as export_module
from cloudimg.migration.export import manifest
from cloudimg.migration.export.read_back import check_tags
from tests.support import copies, seed
from tests.support.metering import Meter

RNG = np.random.default_rng(23)
N_FILES = 12


class StopError(Exception):
    """Raised by a callback in place of a kill."""


def stop_after(n_files: int) -> Any:
    def progress(what: str, count: int) -> None:
        if count >= n_files:
            raise StopError

    return progress


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of some files."""
    for t in range(N_FILES):
        pixels = RNG.integers(0, 2**16, (40, 50), np.uint16)
        tifffile.imwrite(tmp_path / f"a_{t}.tif", pixels, photometric="minisblack")
    cloudimg.migrate(f"{tmp_path}/a_{{t}}.tif", tmp_path / "copy.zarr")
    return tmp_path / "copy.zarr"


def files_in(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time of writing and bytes of each file."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*.*")
            if path.is_file()}  # fmt: skip


def is_right(folder: Path) -> None:
    for t in range(N_FILES):
        np.testing.assert_array_equal(
            tifffile.imread(folder / f"a_{t}.tif"), tifffile.imread(folder.parent / f"a_{t}.tif")
        )


@pytest.mark.parametrize("n_files", [1, 4, 11])
def test_files_that_are_there_are_not_written_again(copy: Path, n_files: int) -> None:
    out = copy.parent / "back"
    with pytest.raises(StopError):
        cloudimg.export(copy, out, progress=stop_after(n_files))
    before = files_in(out)
    assert len(before) >= n_files
    result = cloudimg.export(copy, out)
    assert (result.n_files, result.n_present) == (N_FILES, len(before))
    after = files_in(out)
    assert {name: after[name] for name in before} == before
    is_right(out)
    again = cloudimg.export(copy, out)
    assert (again.n_files, again.n_present) == (N_FILES, N_FILES)
    assert files_in(out) == after


def test_a_second_export_reads_no_file(meter: Meter, bucket: str) -> None:
    """One listing says which files are there; neither they nor the pixels are read again."""
    for t in range(N_FILES):
        pixels = RNG.integers(0, 99, (40, 50), np.uint16)
        meter.put(bucket, f"src/a_{t}.tif", seed.encode(pixels))
    both = {"source_options": meter.storage_options, "target_options": meter.storage_options}
    url, out = f"s3://{bucket}/copy.zarr", f"s3://{bucket}/back"
    cloudimg.migrate(f"s3://{bucket}/src/a_{{t}}.tif", url, **both)
    with meter.measure() as first:
        cloudimg.export(url, out, **both)
    puts = [each for each in first.requests if each.method == "PUT"]
    assert len(puts) == N_FILES + 1  # and a part of the manifest
    stored = copies.objects(out, meter.storage_options)
    with meter.measure() as second:
        assert cloudimg.export(url, out, **both).n_present == N_FILES
    assert not [each for each in second.requests if each.method in ("PUT", "HEAD", "DELETE")]
    keys = [each.key for each in second.requests if each.method == "GET"]
    assert not [key for key in keys if "/back/a_" in f"/{key}" or "/c/" in f"/{key}"]
    assert copies.objects(out, meter.storage_options) == stored


@pytest.mark.parametrize("of_manifest", [True, False])
def test_a_copied_folder_goes_on(copy: Path, of_manifest: bool) -> None:
    """Files with other versions, or without a manifest, are compared by their bytes."""
    out, moved = copy.parent / "back", copy.parent / "moved"
    cloudimg.export(copy, out)
    shutil.copytree(out, moved)
    if not of_manifest:
        shutil.rmtree(moved / ".cloudimg-export")
    (moved / "a_3.tif").unlink()
    before = files_in(moved)
    result = cloudimg.export(copy, moved)
    assert (result.n_files, result.n_present) == (N_FILES, N_FILES - 1)
    after = files_in(moved)
    assert {name: after[name] for name in before} == before
    assert after["a_3.tif"][1] == (out / "a_3.tif").read_bytes()


def test_files_with_other_versions_are_read_in_parts(
    meter: Meter, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be larger than the memory."""
    monkeypatch.setattr(manifest, "_PART_BYTES", 1000)
    meter.put(bucket, "src/a_0.tif", seed.encode(RNG.integers(0, 2**16, (40, 50), np.uint16)))
    both = {"source_options": meter.storage_options, "target_options": meter.storage_options}
    url, out = f"s3://{bucket}/copy.zarr", f"s3://{bucket}/back"
    cloudimg.migrate(f"s3://{bucket}/src/a_0.tif", url, **both)
    cloudimg.export(url, out, **both)
    stored = copies.objects(out, meter.storage_options)
    (part,) = (key for key in stored if key.startswith(".cloudimg-export/"))
    content = json.loads(stored[part])
    content["a_0.tif"][2] = "another version"
    meter.put(bucket, f"back/{part}", json.dumps(content).encode())
    with meter.measure() as traffic:
        assert cloudimg.export(url, out, **both).n_present == 1
    requests = [each for each in traffic.requests if each.key == "back/a_0.tif"]
    assert [each.range for each in requests if each.kind == "get"] == [
        (start, min(start + 1000, len(stored["a_0.tif"])))
        for start in range(0, len(stored["a_0.tif"]), 1000)
    ]
    meter.put(bucket, "back/a_0.tif", stored["a_0.tif"][:-1] + b"\1")
    with pytest.raises(ArgumentError, match=r"a_0.tif already exists"):
        cloudimg.export(url, out, **both)


@pytest.mark.parametrize("data", [b"precious", None])
def test_changed_files_are_not_replaced_without_asking(copy: Path, data: bytes | None) -> None:
    out = copy.parent / "back"
    cloudimg.export(copy, out)
    changed = bytearray((out / "a_5.tif").read_bytes())
    changed[100] ^= 1
    other = bytes(changed) if data is None else data  # of the same size, or of another one
    (out / "a_5.tif").write_bytes(other)
    with pytest.raises(ArgumentError, match=r"a_5.tif already exists.*overwrite=True"):
        cloudimg.export(copy, out)
    assert (out / "a_5.tif").read_bytes() == other
    result = cloudimg.export(copy, out, overwrite=True)
    assert (result.n_files, result.n_present) == (N_FILES, N_FILES - 1)
    is_right(out)


CHILD = """
import os, sys, cloudimg
copy, out, n_files = sys.argv[1], sys.argv[2], int(sys.argv[3])
def progress(what, count):
    print(count, flush=True)
cloudimg.export(copy, out, progress=progress, compression="lzma")
"""


@pytest.mark.slow
def test_a_killed_export_leaves_only_whole_files(copy: Path) -> None:
    out = copy.parent / "back"
    for n_files in (1, 3, 6):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(copy), str(out), str(n_files)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= n_files:
                break
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        for name in files_in(out):
            expected = tifffile.imread(copy.parent / name)
            np.testing.assert_array_equal(tifffile.imread(out / name), expected)
    there = files_in(out)
    result = cloudimg.export(copy, out, compression="lzma")
    assert (result.n_files, result.n_present) == (N_FILES, len(there))
    is_right(out)


def test_large_files_appear_as_a_whole(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are too large for one request, where the disk fails half way."""
    out = copy.parent / "back"
    monkeypatch.setattr(export_module, "_MAX_PUT_BYTES", 1000)
    copy_bytes = shutil.copyfileobj

    def fail(source: Any, target: Any) -> None:
        target.write(source.read(1000))
        raise OSError("no space left")

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(OSError, match="no space left"):
        cloudimg.export(copy, out)
    assert not files_in(out)
    monkeypatch.setattr(shutil, "copyfileobj", copy_bytes)
    assert cloudimg.export(copy, out).n_present == 0
    is_right(out)


def test_large_files_ask_nothing_of_the_bucket(
    copy: Path, meter: Meter, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may only store objects could not, and a wrong name would make a bucket."""
    monkeypatch.setattr(export_module, "_MAX_PUT_BYTES", 1000)
    options = {"target_options": meter.storage_options}
    with meter.measure() as traffic:
        assert cloudimg.export(copy, f"s3://{bucket}/back", **options).n_files == N_FILES
    assert {each.kind for each in traffic.requests if not each.key} == {"list"}


# A file that is not right


@pytest.mark.parametrize("layout", ["originals", "ome-tiff"])
def test_wrong_pixels_are_not_stored(
    copy: Path, monkeypatch: pytest.MonkeyPatch, layout: Any
) -> None:
    """A codec that loses a bit."""
    encode = imagecodecs.zlib_encode

    def broken(data: Any, *args: Any, **options: Any) -> Any:
        spoiled = bytearray(memoryview(data).cast("B"))
        spoiled[7] ^= 4
        return encode(bytes(spoiled), *args, **options)

    monkeypatch.setattr(imagecodecs, "zlib_encode", broken)
    monkeypatch.setattr(tifffile.TIFF, "COMPRESSORS", CompressorsOf(broken), raising=False)
    out = copy.parent / "back"
    what = "page 0" if layout == "originals" else "level 0"
    with pytest.raises(CorruptFileError, match=rf"tif was written and read back.*pixels in {what}"):
        cloudimg.export(copy, out, layout=layout)
    assert not out.exists() or not files_in(out)


class CompressorsOf:
    """What tifffile looks its encoders up in."""

    def __init__(self, encode: Any) -> None:
        self._encode = encode

    def __getitem__(self, key: int) -> Any:
        return self._encode


def test_a_wrong_tag_is_found(tmp_path: Path) -> None:
    from cloudimg.migration.export.tiff_writer import Directory, Tag, TiffWriter
    from cloudimg.tiff.ifd import Dialect

    inner = Directory((Tag(37500, 7, 9, b"maker\0\1\2\3"),))
    chain = [Directory((Tag(305, 2, 9, b"software\0"),), ((34665, 4, (inner,)),)), inner]
    with (tmp_path / "a.tif").open("w+b") as file:
        TiffWriter(file, Dialect(">", False)).write_directories(chain)
        check_tags(file, chain, "x.tif")
        data = (tmp_path / "a.tif").read_bytes()
        for text, tag in ((b"software", "IFD 0 .*tag 305"), (b"maker", "IFD 0, tag 34665.* 37500")):
            file.seek(data.index(text))
            file.write(b"x")
            with pytest.raises(CorruptFileError, match=rf"x.tif: {tag}"):
                check_tags(file, chain, "x.tif")
            file.seek(data.index(text))
            file.write(text[:1])
        with pytest.raises(CorruptFileError, match="further IFDs"):
            check_tags(file, chain[:1], "x.tif")


def test_the_temporary_files_are_gone(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    folder = copy.parent / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(StopError):
        cloudimg.export(copy, copy.parent / "back", progress=stop_after(2))
    assert not list(folder.iterdir())
