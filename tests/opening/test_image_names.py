"""The name of an image in a copy: the one that its source gives it, or that of its files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tifffile

import cloudimg
from tests.conftest import WebServer

PIXELS = np.ones((8, 8), np.uint8)


def name_of(copy: Path) -> str:
    ome = json.loads((copy / "zarr.json").read_text())["attributes"]["ome"]
    return str(ome["multiscales"][0]["name"])


def ome_tiff(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path, ome=True) as writer:
        for name in names:
            metadata = {"axes": "YX", **({"Name": name} if name else {})}
            writer.write(PIXELS, photometric="minisblack", metadata=metadata)
    return path


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("slide.tif", "slide"),
        ("day 1.v2.ome.tif", "day 1.v2"),
        ("stack.lsm.tiff", "stack.lsm"),
        ("x.ome.tf8", "x"),
        ("no suffix", "no suffix"),
    ],
)
def test_a_file_without_a_name_of_its_own(tmp_path: Path, file: str, expected: str) -> None:
    tifffile.imwrite(tmp_path / file, PIXELS, metadata=None, ome=False)
    cloudimg.migrate(tmp_path / file, tmp_path / "copy.zarr")
    assert name_of(tmp_path / "copy.zarr") == expected


def test_a_name_in_ome_xml(tmp_path: Path) -> None:
    path = ome_tiff(tmp_path / "a.ome.tif", "  an \n embryo " + "x" * 300)
    cloudimg.migrate(path, tmp_path / "copy.zarr")
    assert name_of(tmp_path / "copy.zarr") == ("an embryo " + "x" * 300)[:255]
    cloudimg.migrate(path, tmp_path / "named.zarr", name="mine")
    assert name_of(tmp_path / "named.zarr") == "mine"
    # One that is none of several files does not name their image.
    for t in range(2):
        ome_tiff(tmp_path / f"exp/scan_t{t}.ome.tif", f"time {t}")
    cloudimg.migrate(f"{tmp_path}/exp/scan_t{{t}}.ome.tif", tmp_path / "several.zarr")
    assert name_of(tmp_path / "several.zarr") == "scan"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("exp/mydata_ch{c}_{t}t.tif", "mydata"),
        ("exp/scan-{c}-{t}.tif", "scan"),
        ("exp/img{c}_{t}.tif", "img"),
        ("exp/{c}_{t}.tif", "exp"),
        ("exp/{c}/{t}.tif", "exp"),
        ("exp/day{c}/{t}.tif", "day"),
        ("exp/*_{t}.tif", "exp"),
    ],
)
def test_the_literal_part_of_a_pattern(tmp_path: Path, pattern: str, expected: str) -> None:
    for c in range(2):
        for t in range(10, 12):
            file = pattern.replace("*", "{c}").format(c=c, t=t)
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(tmp_path / file, PIXELS, metadata=None)
    exclude = "1_*" if "*" in pattern else None
    cloudimg.migrate(f"{tmp_path}/{pattern}", tmp_path / "copy.zarr", exclude=exclude)
    found = json.loads((tmp_path / "copy.zarr/.cloudimg/plan.json").read_text())
    assert found["facts"]["name"] == expected


def test_files_without_a_pattern(tmp_path: Path) -> None:
    paths = [tmp_path / "exp" / f"liver_s{i}.tif" for i in (10, 11)]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, PIXELS, metadata=None)
    cloudimg.migrate(paths, tmp_path / "list.zarr")
    assert name_of(tmp_path / "list.zarr") == "liver"
    table = pa.table({"url": list(map(str, paths)), "t": [10, 11]})
    cloudimg.migrate(table, tmp_path / "table.zarr")
    assert name_of(tmp_path / "table.zarr") == "liver"
    cloudimg.migrate(f"{tmp_path}/exp/*.tif", tmp_path / "glob.zarr")
    assert name_of(tmp_path / "glob.zarr") == "exp"


def test_hosts_and_queries_are_not_part_of_names(httpd: WebServer, tmp_path: Path) -> None:
    for s in (1, 2):
        tifffile.imwrite(httpd.root / f"liver_{s}.tif", PIXELS, metadata=None)
        tifffile.imwrite(httpd.root / f"{s}.tif", PIXELS, metadata=None)
    signed = [f"{httpd.endpoint}/liver_1.tif?X-Amz-Signature=abcdef{n}" for n in (1, 2)]
    plain = [f"{httpd.endpoint}/{s}.tif".replace("://", "://me:secret@") for s in (1, 2)]
    cloudimg.migrate(plain, tmp_path / "plain.zarr")
    assert name_of(tmp_path / "plain.zarr") == "image"
    for number, urls in enumerate((signed[0], signed[:1], signed)):
        cloudimg.migrate(urls, tmp_path / f"{number}.zarr")
        assert name_of(tmp_path / f"{number}.zarr") == "liver_1"
    cloudimg.migrate(signed[0], labels_of=tmp_path / "0.zarr")
    assert name_of(tmp_path / "0.zarr/labels/liver_1") == "liver_1"


def test_images_of_one_file(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "scans.tif") as writer:
        for n in (8, 9):
            writer.write(np.ones((n, n), np.uint8), metadata=None)
        writer.write(PIXELS[:4], metadata=None, subfiletype=1)
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(tmp_path / "scans.tif", copy, series="all")
    names = [name_of(copy / str(series)) for series in range(3)]
    assert names == ["scans #0", "scans #1", "scans thumbnail"]


def test_an_array_has_no_name_unless_one_is_given(tmp_path: Path) -> None:
    cloudimg.to_zarr(PIXELS, tmp_path / "a.zarr")
    assert name_of(tmp_path / "a.zarr") == "image"
