"""``cloudimg index``, and copies of files that a table lists."""

from __future__ import annotations

import json
import pickle
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError, ChangedError
from tests.support import seed
from tests.support.metering import Meter, Traffic
from tests.support.ome_set import write_dataset
from tests.support.servers import FileHandler


def put(folder: Path, n: int = 6) -> pa.Table:
    """Files, and the table that lists them in another order than by name."""
    rows = []
    for t in range(n):
        path = folder / f"img_{n - t}.ome.tif"
        path.write_bytes(plane(t))
        rows.append({"url": str(path), "t": t})
    return pa.Table.from_pylist(rows)


def plane(t: int) -> bytes:
    """A file whose OME-XML says where it was taken."""
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" Type="uint16" DimensionOrder="XYZTC" SizeX="40" SizeY="32" SizeZ="1"'
        ' SizeT="1" SizeC="1"><Channel ID="Channel:0:0"/><TiffData/>'
        f'<Plane TheZ="0" TheT="0" TheC="0" PositionX="{t}" PositionXUnit="µm"'
        ' PositionY="0" PositionYUnit="µm"/>'
        "</Pixels></Image></OME>"
    )
    pixels = np.full((32, 40), t, np.uint16)
    return seed.encode(pixels, description=xml.encode(), metadata=None)


def test_the_command_stores_an_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path)
    index = tmp_path / "files.parquet"
    pattern = str(tmp_path / "img_{t}.ome.tif")
    assert main(["index", pattern, "-o", str(index)]) == 0
    assert capsys.readouterr().out.startswith(f"{index}: 6 files, 1 header, ")
    found = pq.read_table(index)
    assert found["stage_x"].to_pylist() == [5, 4, 3, 2, 1, 0]
    assert sum(header is not None for header in found["header"].to_pylist()) == 1
    assert cloudimg.open(index).coords["stage_x"].tolist() == [5, 4, 3, 2, 1, 0]
    assert main(["info", "--json", str(index)]) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [6, 32, 40]
    assert main(["index", pattern, "-o", str(index), "--validate", "first"]) == 0
    assert "stage_x" not in pq.read_schema(index).names


def test_an_index_has_a_name_by_which_it_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path)
    target = tmp_path / "img_1.ome.tif"
    before = target.read_bytes()
    assert main(["index", str(tmp_path / "img_{t}.ome.tif"), "-o", str(target)]) == 2
    assert "must have a name that ends in .parquet" in capsys.readouterr().err
    assert target.read_bytes() == before


def test_messages_name_the_options_of_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = put(tmp_path).rename_columns(["where", "t"])
    path = tmp_path / "files.parquet"
    pq.write_table(table, path)
    assert main(["info", str(path)]) == 2
    assert "pass --url-column" in capsys.readouterr().err
    assert main(["info", "--url-column", "where", str(path)]) == 0
    pq.write_table(table.select(["where"]), path)
    copy = str(tmp_path / "copy.ome.zarr")
    options = ["--url-column", "where", "--pattern", "img_{t}.ome.tif"]
    assert main(["migrate", str(path), copy, *options]) == 0
    # Whoever wrote a table chose the stores that it names: nobody opens them unasked.
    capsys.readouterr()
    assert main(["verify", copy, "--against-source"]) == 2
    assert "files.parquet names" in capsys.readouterr().err
    assert main(["verify", copy, "--against-source", "--source", str(path)]) == 0


def test_an_index_of_other_formats_has_no_headers(tmp_path: Path) -> None:
    for t in range(3):
        np.save(tmp_path / f"{t}.npy", np.full((4, 5), t, np.uint8))
    done = cloudimg.index(tmp_path / "{t}.npy", tmp_path / "files.parquet")
    assert (done.n_files, done.n_headers) == (3, 0)
    assert cloudimg.open(tmp_path / "files.parquet").read()[:, 0, 0].tolist() == [0, 1, 2]


def test_an_index_of_a_list_has_versions(meter: Meter, bucket: str, tmp_path: Path) -> None:
    urls = []
    for t in range(3):
        meter.put(bucket, f"{t}.tif", plane(t))
        urls.append(f"s3://{bucket}/{t}.tif")
    index = tmp_path / "files.parquet"
    cloudimg.index(urls, index, pattern="{t}.tif", source_options=meter.storage_options)
    found = pq.read_table(index)
    assert found["size_bytes"].to_pylist() == [len(plane(t)) for t in range(3)]
    assert None not in found["etag"].to_pylist()
    meter.reset()
    image = cloudimg.open(index, storage_options=meter.storage_options)
    assert Traffic(meter.log()).requests == []
    assert image.read()[:, 0, 0].tolist() == [0, 1, 2]


def test_segments_save_the_requests_for_headers(meter: Meter, bucket: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 2**16, (3, 512, 512), np.uint16)
    for t in range(3):
        meter.put(bucket, f"{t}.tif", seed.encode(pixels[t], tile=(64, 64)))
    index = tmp_path / "files.parquet"
    options = meter.storage_options
    done = cloudimg.index(f"s3://{bucket}/{{t}}.tif", index, segments=True, source_options=options)
    assert done.n_headers == 3
    image = pickle.loads(pickle.dumps(cloudimg.open(index, storage_options=options)))
    meter.reset()
    region = {"y": slice(64, 128), "x": slice(128, 192)}
    assert np.array_equal(image.read(region), pixels[:, 64:128, 128:192])
    assert len(Traffic(meter.log()).requests) == 3  # a tile of each
    meter.put(bucket, "1.tif", seed.encode(pixels[0], tile=(64, 64)))
    image = cloudimg.open(index, storage_options=options)
    with pytest.raises(ChangedError, match=r"1\.tif"):
        image.read(region)


class _WithoutVersions(FileHandler):
    def send_header(self, keyword: str, value: str) -> None:
        if keyword != "ETag":
            super().send_header(keyword, value)


def test_segments_are_not_used_where_no_version_tells_that_they_are_old(tmp_path: Path) -> None:
    old, new = (np.random.default_rng(i).integers(0, 2**16, (512, 512), np.uint16) for i in (0, 1))
    data = seed.encode(new, tile=(64, 64))
    before = seed.encode(old, tile=(64, 64), description=b"x" * 900, metadata=None)
    data += b"\0" * (len(before) - len(data))
    files = tmp_path / "files"
    files.mkdir()
    for t in range(2):
        (files / f"{t}.tif").write_bytes(before)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_WithoutVersions, files))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        urls = [f"http://127.0.0.1:{server.server_port}/{t}.tif" for t in range(2)]
        index = tmp_path / "files.parquet"
        cloudimg.index(pa.table({"url": urls, "t": [0, 1]}), index, segments=True)
        assert len(data) == len(before)
        (files / "1.tif").write_bytes(data)
        region = {"t": 1, "y": slice(64, 128), "x": slice(128, 192)}
        assert np.array_equal(cloudimg.open(index).read(region), new[64:128, 128:192])
    finally:
        server.shutdown()
        server.server_close()


def test_edges_of_a_mosaic_are_among_the_headers(tmp_path: Path) -> None:
    whole = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
    for y, x in np.ndindex(2, 3):
        tile = whole[y * 16 : (y + 1) * 16, x * 12 : (x + 1) * 12]
        tifffile.imwrite(tmp_path / f"{y}_{x}.tif", tile)
    index = tmp_path / "files.parquet"
    assert cloudimg.index(tmp_path / "{y}_{x}.tif", index).n_headers == 3
    away = tmp_path / "away"
    away.mkdir()
    for path in tmp_path.glob("*.tif"):
        path.rename(away / path.name)
    image = cloudimg.open(index)  # without the files
    assert image.shape == (20, 30)
    for path in away.iterdir():
        path.rename(tmp_path / path.name)
    assert np.array_equal(image.read(), whole)


def test_a_multi_file_dataset_needs_no_index(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set")
    with pytest.raises(ArgumentError, match="describes itself"):
        cloudimg.index(tmp_path / "set" / "t0.ome.tif", tmp_path / "files.parquet")


# ----------------------------------------------------------------------------------------- copies


@pytest.mark.parametrize("kind", ["in memory", "file"])
def test_a_copy_of_a_table_resumes_and_is_verified(tmp_path: Path, kind: str) -> None:
    source: Any = put(tmp_path)
    if kind == "file":
        source = tmp_path / "files.parquet"
        pq.write_table(put(tmp_path), source)
    copy = tmp_path / "copy.ome.zarr"
    (tmp_path / "img_2.ome.tif").rename(tmp_path / "away")
    with pytest.raises(cloudimg.CloudimgError, match="img_2"):
        cloudimg.migrate(source, copy, shards=(1, 32, 40), chunks=(1, 32, 40), levels=1)
    (tmp_path / "away").rename(tmp_path / "img_2.ome.tif")
    done = cloudimg.migrate(source, copy, shards=(1, 32, 40), chunks=(1, 32, 40), levels=1)
    assert 0 < done.n_done_before < done.n_cells == 6
    assert cloudimg.verify(copy, against_source=True)
    again = cloudimg.migrate(source, copy, shards=(1, 32, 40), chunks=(1, 32, 40), levels=1)
    assert again.n_done_before == 6
    (tmp_path / "img_3.ome.tif").write_bytes(plane(77))
    assert not cloudimg.verify(copy, against_source=True)


def test_a_copy_is_not_continued_from_files_at_other_places(tmp_path: Path) -> None:
    source = put(tmp_path)
    copy = tmp_path / "copy.ome.zarr"
    cloudimg.migrate(source, copy)
    swapped = source.set_column(0, "url", source["url"].take(pa.array([1, 0, 2, 3, 4, 5])))
    for given in (tmp_path / "files.parquet", swapped):
        pq.write_table(swapped, tmp_path / "files.parquet")
        with pytest.raises(ArgumentError, match="other arguments"):
            cloudimg.migrate(given, copy)
    index, other = tmp_path / "files.parquet", tmp_path / "other.ome.zarr"
    pq.write_table(source, index)
    cloudimg.migrate(index, other)
    pq.write_table(swapped, index)
    with pytest.raises(ArgumentError, match="none is new or gone, but places, pages or URLs"):
        cloudimg.migrate(index, other)
    assert not cloudimg.verify(other, against_source=True)


def test_a_copy_of_stale_files_is_refused(tmp_path: Path) -> None:
    put(tmp_path)
    index = tmp_path / "files.parquet"
    cloudimg.index(tmp_path / "img_{t}.ome.tif", index)
    (tmp_path / "img_3.ome.tif").write_bytes(plane(77) + b"\0" * 100)
    with pytest.raises(ChangedError, match=r"img_3\.ome\.tif"):
        cloudimg.migrate(index, tmp_path / "copy.ome.zarr")
