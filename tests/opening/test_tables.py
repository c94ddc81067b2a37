"""Files that a table lists: data frames, CSV, Parquet, inventories of S3 and catalogues."""

from __future__ import annotations

import csv
import datetime
import gzip
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dask.base import tokenize

import cloudimg
from cloudimg.errors import (
    ArgumentError,
    ChangedError,
    CorruptFileError,
    DuplicateIndexError,
    GridError,
    MissingFilesError,
    UnsupportedFormatError,
)
from tests.conftest import PLACES, Place
from tests.support import seed
from tests.support.clusters import local_client
from tests.support.metering import Meter, Traffic
from tests.support.ome_set import write_dataset

SHAPE = (2, 3)
Rows = list[dict[str, Any]]


def value(t: int, z: int) -> int:
    return 10 * t + z


EXPECTED = [[value(t, z) for z in range(2)] for t in range(3)]


def put(place: Place, **options: Any) -> Rows:
    """Six files, and the rows that list them."""
    rows = []
    for t in range(3):
        for z in range(2):
            data = seed.encode(np.full(SHAPE, value(t, z), np.uint8), **options)
            url = place.put(f"day{t}/z{z:02d}.tif", data)
            rows.append({"url": url, "t": t, "z": z, "size": len(data)})
    return rows


def table(rows: Rows, **more: Any) -> pa.Table:
    return pa.Table.from_pylist([{**row, **more} for row in rows])


@pytest.fixture
def local(request: pytest.FixtureRequest) -> Iterator[Place]:
    with PLACES["local"](request) as place:
        yield place


@pytest.fixture
def s3(request: pytest.FixtureRequest) -> Iterator[Place]:
    with PLACES["s3-meter"](request) as place:
        yield place


def pixels(image: cloudimg.Image) -> Any:
    return image.read()[..., 0, 0].tolist()


def message(error: pytest.ExceptionInfo[Exception]) -> str:
    return str(error.value)


# ------------------------------------------------------------------------------------ where it is


def test_a_table_gives_its_files_axes_on_every_store(place: Place) -> None:
    rows = put(place)
    image = cloudimg.open(table(rows[::-1]), storage_options=place.storage_options)
    assert image.dims == ("t", "z", "y", "x")
    assert pixels(image) == EXPECTED


def test_data_frames_and_readers_are_tables(local: Place) -> None:
    pandas = pytest.importorskip("pandas")
    rows = put(local)
    frame = pandas.DataFrame(rows)
    for given in (frame, frame.set_index(["t", "z"]), frame.iloc[::-1], table(rows).to_reader()):
        assert pixels(cloudimg.open(given)) == EXPECTED
    assert pixels(cloudimg.open(frame[frame.t > 0])) == EXPECTED[1:]


def test_a_frame_of_polars_is_a_table(local: Place) -> None:
    polars = pytest.importorskip("polars")
    assert pixels(cloudimg.open(polars.DataFrame(put(local)))) == EXPECTED


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_a_table_may_be_a_file_in_a_store(place: Place, suffix: str) -> None:
    if place.name == "http":
        pytest.skip("the tables of this place are those of others")
    rows = put(place)
    for row in rows:  # relative ones belong to the folder of the table
        row["url"] = row["url"].removeprefix(f"{place.url}/")
    url = place.put(f"files.{suffix}", encoded(table(rows), suffix))
    image = cloudimg.open(url, storage_options=place.storage_options)
    assert pixels(image) == EXPECTED
    assert cloudimg.info(url, storage_options=place.storage_options)["shape"] == [3, 2, *SHAPE]


def encoded(rows: pa.Table, suffix: str) -> bytes:
    if suffix == "parquet":
        out = pa.BufferOutputStream()
        pq.write_table(rows, out)
        return out.getvalue().to_pybytes()
    lines = [",".join(rows.schema.names)]
    lines += [",".join(str(cell) for cell in row.values()) for row in rows.to_pylist()]
    data = "\n".join(lines).encode()
    return gzip.compress(data) if suffix.endswith("gz") else data


@pytest.mark.slow
def test_a_table_is_opened_by_a_worker_of_a_cluster(local: Place) -> None:
    pandas = pytest.importorskip("pandas")
    rows = put(local)
    with local_client(1, 1) as client:
        image = cloudimg.open(pandas.DataFrame(rows), client=client)
        assert pixels(image) == EXPECTED
        assert image.to_dask().compute()[..., 0, 0].tolist() == EXPECTED


def test_labels_are_numbers_texts_and_times(local: Place) -> None:
    urls = [row["url"] for row in put(local)][:2]
    noon = datetime.datetime(2026, 11, 30, 12)
    cases = {
        "t": [noon, noon + datetime.timedelta(seconds=1.5)],
        "well": ["A2", "A10"],
        "v": [0.25, 0.5],
    }
    for axis, labels in cases.items():
        coord = cloudimg.open(pa.table({"url": urls, axis: labels})).coords[axis]
        assert coord.tolist() == labels
    image = cloudimg.open(pa.table({"url": urls, "t": [noon.date(), datetime.date(2027, 1, 1)]}))
    assert image.coords["t"][1] == np.datetime64("2027-01-01")
    aware = [label.replace(tzinfo=datetime.UTC) for label in cases["t"]]
    image = cloudimg.open(pa.table({"url": urls, "t": aware}))
    assert image.coords["t"].tolist() == cases["t"]


def test_a_table_with_urls_alone_is_a_list(local: Place) -> None:
    rows = put(local)
    urls = [row["url"] for row in rows][::-1]
    image = cloudimg.open(pa.table({"path": urls}))
    assert image.dims == ("file", "y", "x")
    assert np.array_equal(image.read(), cloudimg.open(urls).read())


def test_a_pattern_gives_axes_to_the_urls_of_a_table(local: Place) -> None:
    rows = put(local)
    given = table(rows).select(["url", "size"])
    image = cloudimg.open(given, pattern="day{t}/z{z:02d}.tif", exclude="day1/*")
    assert pixels(image) == [EXPECTED[0], EXPECTED[2]]
    with pytest.raises(GridError, match="6 URLs of the 6 in the table do not match"):
        cloudimg.open(given, pattern="night{t}/z{z:02d}.tif")


# ---------------------------------------------------------------------------------- what it costs


def test_a_table_with_sizes_takes_no_listing(meter: Meter, bucket: str) -> None:
    rows = []
    for t in range(4):
        meter.put(bucket, f"t{t}.tif", seed.encode(np.full(SHAPE, t, np.uint8)))
        rows.append({"url": f"s3://{bucket}/t{t}.tif", "t": t, "size": 400})
    size = len(seed.encode(np.full(SHAPE, 0, np.uint8)))
    meter.reset()
    given = table([{**row, "size": size} for row in rows])
    image = cloudimg.open(given, storage_options=meter.storage_options)
    traffic = Traffic(meter.log())
    assert traffic.lists == 0
    assert len(traffic.requests) == 1  # the header of the first file
    assert image.read()[:, 0, 0].tolist() == [0, 1, 2, 3]


def test_an_index_is_opened_without_a_request(meter: Meter, bucket: str, tmp_path: Path) -> None:
    image = seed.write(lambda key, data: meter.put(bucket, key, data))
    pattern, options = f"s3://{bucket}/{seed.PATTERN}", meter.storage_options
    first = cloudimg.open(pattern, storage_options=options)
    index = tmp_path / "files.parquet"
    done = cloudimg.index(pattern, index, source_options=options, validate="first")
    assert (done.n_files, done.n_bytes) == (360, index.stat().st_size)
    meter.reset()
    opened = cloudimg.open(index, storage_options=options)
    assert Traffic(meter.log()).requests == []
    assert np.array_equal(opened.read(), image)
    assert opened.attrs == first.attrs
    assert list(opened.coords) == list(first.coords)


def test_a_pattern_its_index_and_its_tables_have_one_token(s3: Place, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    put(s3)
    s3.delete("day1/z01.tif")
    options: dict[str, Any] = {"storage_options": s3.storage_options, "missing": "fill"}
    image = cloudimg.open(f"{s3.url}/day{{t}}/z{{z:02d}}.tif", **options)
    index = tmp_path / "files.parquet"
    cloudimg.index(
        f"{s3.url}/day{{t}}/z{{z:02d}}.tif",
        index,
        source_options=s3.storage_options,
        missing="fill",
    )
    frame = image.table().to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    (tmp_path / "files.csv").write_text(frame.to_csv(index=False))
    others = [
        cloudimg.open(index, **options),
        cloudimg.open(image.table(), **options),
        cloudimg.open(frame.sample(frac=1, random_state=0), **options),
        cloudimg.open(tmp_path / "files.csv", **options),
        cloudimg.open(image.table().drop_columns(["axis.t", "axis.z"]), **options),
    ]
    for other in others:
        assert np.array_equal(other.read(), image.read())
        assert tokenize(other) == tokenize(image)
        assert other.to_dask().name == image.to_dask().name
    s3.put("day0/z00.tif", seed.encode(np.full(SHAPE, 9, np.uint8)))
    newer = cloudimg.open(f"{s3.url}/day{{t}}/z{{z:02d}}.tif", **options)
    assert newer.to_dask().name != image.to_dask().name


def test_the_table_of_an_image_lists_its_files(s3: Place) -> None:
    rows = put(s3)
    image = cloudimg.open(f"{s3.url}/day{{t}}/z{{z:02d}}.tif", storage_options=s3.storage_options)
    found = image.table()
    assert found["key"].to_pylist() == [row["url"] for row in rows]
    assert found["size_bytes"].to_pylist() == [row["size"] for row in rows]
    for axis in ("t", "z"):
        assert found[axis].to_pylist() == [row[axis] for row in rows]
    assert all(etag.startswith("blake2b:") for etag in found["etag"].to_pylist())


@pytest.mark.parametrize("order", [1, -1])
def test_lists_and_single_files_come_back_from_their_tables(local: Place, order: int) -> None:
    urls = [row["url"] for row in put(local)]
    for given in (urls[::order], urls[0], f"{local.url}/day*/z00.tif"):
        image = cloudimg.open(given)
        again = cloudimg.open(image.table())
        assert (again.dims, again.shape) == (image.dims, image.shape)
        assert np.array_equal(again.read(), image.read())


def test_axes_keep_their_names_whatever_they_are(local: Place) -> None:
    urls = [row["url"] for row in put(local)]
    image = cloudimg.open(urls, pattern="day{channel}/z{page:02d}.tif")
    again = cloudimg.open(image.table())
    assert (again.dims, pixels(again)) == (("channel", "page", "y", "x"), EXPECTED)


def test_signatures_are_not_in_tables(local: Place) -> None:
    rows = put(local)
    image = cloudimg.open([row["url"] for row in rows])
    signed = [f"https://host/{i}.tif?X-Amz-Signature=verysecret" for i in range(2)]
    assert "verysecret" not in repr(image.table().to_pylist())
    with pytest.raises(Exception, match="host") as error:
        cloudimg.open(pa.table({"url": signed, "t": [0, "x"][:1] * 2}))
    assert "verysecret" not in message(error)


def test_secrets_of_tables_are_not_shown(local: Place) -> None:
    rows = put(local)
    thumb = "https://host/{}.jpg?X-Amz-Signature=verysecret&code=verysecret"
    image = cloudimg.open(
        table([{"url": r["url"], "thumb": thumb.format(r["z"])} for r in rows[:2]])
    )
    assert "verysecret" not in repr(image) + repr(image.coords)
    signed = [{**row, "url": thumb.format("x")} for row in rows]
    lines = ["url,t", *(thumb.format("x") for _ in rows)]
    torn = local.put("torn.csv", "\n".join(lines).encode())
    for given in (
        table([{"url": row["url"], "thumb": thumb.format(0)} for row in rows]),
        table([{**row, "url": "x.tif?code=verysecret"} for row in rows]),
        table([{**row, "size": "s3://user:verysecret@b/x.tif"} for row in rows]),
        torn,
    ):
        with pytest.raises(cloudimg.CloudimgError) as error:
            cloudimg.open(given)
        assert "verysecret" not in message(error)
    cloudimg.migrate(table(rows), f"{local.url}/copy.zarr")
    with pytest.raises(ArgumentError) as error:
        cloudimg.verify(f"{local.url}/copy.zarr", against_source=True, source=table(signed))
    assert "verysecret" not in message(error)


# ------------------------------------------------------------------------------------------ facts


def test_facts_in_a_table_are_coordinates(local: Place) -> None:
    rows = put(local)
    begun = datetime.datetime(2026, 11, 30, tzinfo=datetime.UTC)
    for row in rows:
        row["acquired"] = begun + datetime.timedelta(minutes=row["t"])
        row["stage_z"], row["stage_unit"] = 2.5 * row["z"], "µm"
    image = cloudimg.open(table(rows, exposure_s=0.02))
    assert image.coords["stage_z"].tolist() == [0, 2.5]
    assert image.coord_dims["acquired"] == ("t",)
    assert image.coords["exposure_s"].item() == 0.02
    again = cloudimg.open(image.table())
    assert again.coords["acquired"].tolist() == image.coords["acquired"].tolist()
    part = cloudimg.open(table(rows), select={"t": 1})
    assert part.coords["acquired"].item() == rows[2]["acquired"].replace(tzinfo=None)


def test_a_fact_is_an_axis_where_the_user_says_so(local: Place) -> None:
    rows = put(local)
    for row in rows:
        row["channel"] = f"C{row.pop('z')}"
    with pytest.raises(
        DuplicateIndexError, match=r'as in axes=\{"t": "t", "channel": "c"\}'
    ) as error:
        cloudimg.open(table(rows))
    assert "rows 0 and 1 of the table" in message(error)
    image = cloudimg.open(table(rows), axes={"t": "t", "channel": "c"})
    assert (image.dims, pixels(image)) == (("t", "c", "y", "x"), EXPECTED)


def test_other_axes_of_files_are_renamed_beside_columns(local: Place) -> None:
    volumes = [
        local.put(f"{t}.tif", seed.encode(np.full((4, *SHAPE), t, np.uint8))) for t in range(2)
    ]
    given = pa.table({"url": volumes, "when": [0, 1], "remark": ["a", "b"]})
    image = cloudimg.open(given, axes={"when": "t", "page": "z"})
    assert image.shape == (2, 4, *SHAPE)
    assert image.dims == ("t", "z", "y", "x")


def test_rows_may_be_pages_of_files(local: Place, tmp_path: Path) -> None:
    stack = np.arange(6 * 2 * 3, dtype=np.uint8).reshape(6, 2, 3)
    urls = [local.put(f"{n}.tif", seed.encode(stack[3 * n : 3 * n + 3])) for n in range(2)]
    rows = [{"url": urls[n], "page": p, "z": 2 * p + n} for n in range(2) for p in range(3)]
    image = cloudimg.open(table(rows))
    assert image.dims == ("z", "y", "x")
    expected = stack[[0, 3, 1, 4, 2, 5]]
    assert np.array_equal(image.read(), expected)
    assert np.array_equal(cloudimg.open(image.table()).read(), expected)
    assert np.array_equal(cloudimg.open(table(rows), select={"z": [1, 5]}).read(), expected[[1, 5]])
    assert image.n_files == 2
    rows[3]["page"] = 17
    with pytest.raises(CorruptFileError, match="has no page 17"):
        cloudimg.open(table(rows)).read()


def test_a_multi_file_dataset_comes_back_from_its_table(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set")
    image = cloudimg.open(tmp_path / "set" / "t0.ome.tif")
    again = cloudimg.open(image.table())
    assert again.dims == image.dims
    assert np.array_equal(again.read(), image.read())
    assert again.to_dask().name == image.to_dask().name


# ------------------------------------------------------------------------------- stale, and stores


@pytest.mark.parametrize("kind", ["size", "etag", "index"])
def test_a_file_that_is_not_the_one_of_the_table_is_an_error(
    s3: Place, kind: str, tmp_path: Path
) -> None:
    rows = put(s3)
    options = {"storage_options": s3.storage_options}
    pattern = f"{s3.url}/day{{t}}/z{{z:02d}}.tif"
    given: Any = cloudimg.open(pattern, **options).table()
    if kind == "index":
        given = tmp_path / "files.parquet"
        cloudimg.index(pattern, given, source_options=s3.storage_options)
    if kind == "size":
        given = table(rows)
        s3.put("day1/z01.tif", seed.encode(np.full((4, 4), 1, np.uint8)))
    else:
        s3.put("day1/z01.tif", seed.encode(np.full(SHAPE, 77, np.uint8)))
        s3.put("day0/z00.tif", seed.encode(np.full(SHAPE, 78, np.uint8)))
    if kind == "etag":
        with pytest.raises(ChangedError, match=r"day0/z00.tif is not the file that the table"):
            cloudimg.open(given, **options)
        return
    image = cloudimg.open(given, **options)
    assert image.read({"t": 2})[..., 0, 0].tolist() == EXPECTED[2]
    with pytest.raises(ChangedError, match=r"day1/z01.tif is not the file .*cloudimg.index"):
        image.read({"t": 1})
    if kind == "index":  # the header in the index is not believed when pixels are read
        with pytest.raises(ChangedError, match=r"day0/z00.tif"):
            image.read({"t": 0})


def test_a_table_may_have_files_in_several_buckets(meter: Meter, bucket: str) -> None:
    second = f"{bucket}-2"
    meter.create(second)
    try:
        rows = []
        for t in range(4):
            at = (bucket, second)[t % 2]
            meter.put(at, f"dir/t{t}.tif", seed.encode(np.full(SHAPE, t, np.uint8)))
            rows.append({"url": f"s3://{at}/dir/t{t}.tif", "t": t})
        options = meter.storage_options
        image = cloudimg.open(table(rows), storage_options=options)
        assert image.read()[:, 0, 0].tolist() == [0, 1, 2, 3]
        again = cloudimg.open(image.table(), storage_options=options)
        assert again.to_dask().compute()[:, 0, 0].tolist() == [0, 1, 2, 3]
        of_list = cloudimg.open([row["url"] for row in rows], storage_options=options)
        assert np.array_equal(of_list.read(), image.read())
    finally:
        meter.drop(second)


@pytest.mark.slow
def test_files_in_several_buckets_of_google_and_s3(request: pytest.FixtureRequest) -> None:
    for name in ("s3-moto", "gs"):
        with PLACES[name](request) as first:
            rows = put(first)
            image = cloudimg.open(table(rows), storage_options=first.storage_options)
            missing = {**rows[5], "url": rows[5]["url"].replace("://", "://no-such-bucket-")}
            with pytest.raises(cloudimg.CloudimgError, match="no-such-bucket"):
                cloudimg.open(
                    table([*rows[:5], missing]), storage_options=first.storage_options
                ).read()
            assert pixels(image) == EXPECTED


# ------------------------------------------------------------------------- inventories, catalogues


def inventory(meter: Meter, bucket: str, kind: str, **further: str) -> str:
    """An inventory of the files of `seed`, some of them deleted, beside others."""
    keys = [f"exp/my data+{key}" for key in ("1_0.tif", "1_1.tif", "2_0.tif", "2_1.tif")]
    rows = []
    for key in keys:
        t, z = key.removeprefix("exp/my data+").removesuffix(".tif").split("_")
        data = seed.encode(np.full(SHAPE, value(int(t), int(z)), np.uint8))
        meter.put(bucket, key, data)
        rows.append((bucket, key, "true", "false", len(data)))
    rows.append((bucket, "exp/my data+3_0.tif", "true", "true", None))
    rows.append((bucket, keys[0], "false", "false", 17))
    rows.append((bucket, "exp/readme.txt", "true", "false", 5))
    names = ["Bucket", "Key", "IsLatest", "IsDeleteMarker", "Size"]
    if kind == "CSV":
        text = "\n".join(
            ",".join(f'"{"" if cell is None else cell}"' for cell in encode_key(row))
            for row in rows
        )
        data, name = gzip.compress(text.encode()), "inv/data/1.csv.gz"
    else:
        lower = ["bucket", "key", "is_latest", "is_delete_marker", "size"]
        columns = dict(zip(lower, map(list, zip(*rows, strict=True)), strict=True))
        for flag in ("is_latest", "is_delete_marker"):
            columns[flag] = [each == "true" for each in columns[flag]]
        out = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), out)
        data, name = out.getvalue().to_pybytes(), "inv/data/1.parquet"
    meter.put(bucket, name, data)
    manifest = {
        "sourceBucket": bucket,
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "fileFormat": kind,
        "fileSchema": ", ".join(names),
        "files": [{"key": name, "size": len(data)}],
        **further,
    }
    meter.put(bucket, "inv/2026-11-30T00-00Z/manifest.json", json.dumps(manifest).encode())
    return f"s3://{bucket}/inv/2026-11-30T00-00Z/manifest.json"


def encode_key(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Keys in CSV are encoded as in forms."""
    return (row[0], row[1].replace("+", "%2B").replace(" ", "+"), *row[2:])


@pytest.mark.parametrize("kind", ["CSV", "Parquet"])
def test_an_inventory_takes_the_place_of_a_listing(meter: Meter, bucket: str, kind: str) -> None:
    url, options = inventory(meter, bucket, kind), {"storage_options": meter.storage_options}
    with pytest.raises(ArgumentError, match="pass pattern="):
        cloudimg.open(url, **options)
    meter.reset()
    image = cloudimg.open(url, pattern=f"s3://{bucket}/exp/my data+{{t}}_{{z}}.tif", **options)
    assert Traffic(meter.log()).lists == 0
    assert pixels(image) == [[10, 11], [20, 21]]
    assert image.unmatched == (1, (f"s3://{bucket}/exp/readme.txt",))


def test_a_manifest_of_thousands_of_data_files_is_read_whole(meter: Meter, bucket: str) -> None:
    url = inventory(meter, bucket, "CSV", unused="x" * 5_000_000)
    options = {"storage_options": meter.storage_options}
    pattern = f"s3://{bucket}/exp/my data+{{t}}_{{z}}.tif"
    assert pixels(cloudimg.open(url, pattern=pattern, **options)) == [[10, 11], [20, 21]]


def test_numbers_too_long_for_a_column_become_texts(tmp_path: Path) -> None:
    ids = [12345678901234567890123, 12345678901234567890124]
    for number, value in enumerate(ids):
        data = seed.encode(np.full((16, 16), number, np.uint8))
        (tmp_path / f"a_{value}.tif").write_bytes(data)
    image = cloudimg.open(f"{tmp_path}/a_{{id}}.tif")
    again = cloudimg.open(image.table())
    assert list(again.coords["id"]) == list(map(str, ids))
    np.testing.assert_array_equal(again.read(), image.read())


@pytest.mark.parametrize("etag", ["blake2b:" + "f" * 40, "blake2b:-1", "blake2b:x"])
def test_digests_that_nobody_has_made_are_those_of_other_versions(local: Place, etag: str) -> None:
    with pytest.raises(ChangedError):
        cloudimg.open(table(put(local), etag=etag))


def test_times_that_microseconds_cannot_hold_are_named(local: Place) -> None:
    rows = put(local)
    far = pa.array([0, 1, 2, 2**55, 4, 5], pa.timestamp("s"))
    with pytest.raises(ArgumentError, match=f"row 3 of .* has '{2**55}' in the column 'acquired'"):
        cloudimg.open(table(rows).append_column("acquired", far))
    fine = pa.array([1_600_000_000 * 10**9 + 7] * 6, pa.timestamp("ns"))
    found = cloudimg.open(table(rows).append_column("acquired", fine)).coords["acquired"]
    assert found == np.datetime64("2020-09-13T12:26:40")


def test_an_inventory_of_another_format_says_what_is_possible(meter: Meter, bucket: str) -> None:
    url = inventory(meter, bucket, "ORC")
    with pytest.raises(UnsupportedFormatError, match="CSV and Parquet"):
        cloudimg.open(url, pattern="{t}.tif", storage_options=meter.storage_options)


def test_a_catalogue_names_its_files_in_structures(local: Place) -> None:
    rows = put(local)
    items = [
        {
            "stac_version": "1.0.0",
            "id": str(i),
            "geometry": b"wkb",
            "datetime": datetime.datetime(2026, 1, 1 + row["t"]),
            "depth": row["z"],
            "assets": {"red": {"href": row["url"], "title": "r"}, "qa": {"href": "/no.tif"}},
        }
        for i, row in enumerate(rows)
    ]
    url = local.put("items.parquet", encoded(pa.Table.from_pylist(items), "parquet"))
    with pytest.raises(ArgumentError, match=r'axes=, such as \{"datetime": "t"\}'):
        cloudimg.open(url, url="assets.red.href")
    for given in (url, pa.Table.from_pylist(items)):
        image = cloudimg.open(given, url="assets.red.href", axes={"datetime": "t", "depth": "z"})
        assert (image.dims, pixels(image)) == (("t", "z", "y", "x"), EXPECTED)
        assert image.coords["t"].dtype.kind == "M"
    with pytest.raises(ArgumentError, match=r"assets\.blue\.href"):
        cloudimg.open(url, url="assets.blue.href")


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"z": 0}, "rows 0 and 1 of the table, counted from 0, are both at t=0, z=0"),
        ({"z": None}, "row 3 of the table, counted from 0, has no value in the column 'z'"),
        ({"z": float("nan")}, "row 3 of the table, counted from 0, has NaN in the column 'z'"),
        ({"url": "day1/z01.tif"}, "row 3 .* relative URL 'day1/z01.tif'.* write whole URLs"),
        ({"url": "s3://bucket/x.tif"}, "row 3 of the table: .* in one store, .* on local disks"),
        ({"url": None}, "row 3 of the table, counted from 0, has no URL in url"),
        ({"size": -4}, "row 3 .* has '-4' in the column 'size'"),
        ({"stage_x": "left"}, "row 3 .* has 'left' in the column 'stage_x', where a number"),
        ({"acquired": "yesterday"}, "row 3 .* has 'yesterday' in the column 'acquired'"),
        ({"size": 2.5}, "row 3 .* has '2.5' in the column 'size', where a whole number"),
    ],
)
def test_a_bad_row_is_named(local: Place, change: dict[str, Any], expected: str) -> None:
    rows = put(local)
    (name, bad), *_ = change.items()
    every = bad == 0  # a duplicate needs all of them
    column = [bad if i == 3 or every else row.get(name) for i, row in enumerate(rows)]
    if isinstance(bad, float):
        column = [float(each) for each in column]
    given = table(rows)
    where = given.schema.names.index(name) if name in given.schema.names else None
    given = (
        given.append_column(name, pa.array(column))
        if where is None
        else given.set_column(where, name, pa.array(column))
    )
    with pytest.raises((ArgumentError, GridError), match=expected):
        cloudimg.open(given)


@pytest.mark.parametrize(
    ("drops", "more", "expected"),
    [
        (["url"], {}, "no column with URLs: it has t, z, size. .*url_column="),
        ([], {"path": "/x.tif"}, "each of the columns url, path .* url_column='url'"),
        ([], {"ok": True}, "column 'ok' of the table has the type bool, .* leave it out"),
        ([], {"axis.t": 0}, "another label in the column 't'"),
    ],
)
def test_bad_columns_are_named(
    local: Place, drops: list[str], more: dict[str, Any], expected: str
) -> None:
    given = table(put(local), **more).drop_columns(drops)
    with pytest.raises(ArgumentError, match=expected):
        cloudimg.open(given)


@pytest.mark.parametrize(
    ("name", "value"),
    [("url", ["/x.tif"]), ("etag", [1]), ("size", [1]), ("page", {"a": 1}), ("axis.q", [1]),
     ("channel", [1]), ("stage_x", [1]), ("acquired", {"a": 1}), ("size", True)],
)  # fmt: skip
def test_columns_of_other_types_are_named(local: Place, name: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=f"the column '{name}'"):
        cloudimg.open(table([{**row, name: value} for row in put(local)]))


@pytest.mark.parametrize("name", ["axis.t", "size", "page"])
def test_whole_numbers_may_be_texts_with_a_point(local: Place, name: str) -> None:
    rows = put(local)
    exact = [{"t": row["t"], "size": row["size"], "page": 0}[name.removeprefix("axis.")]
             for row in rows]  # fmt: skip
    rows = [{"url": row["url"], "t": row["t"], "z": row["z"]} for row in rows]
    given = [{**row, name: f"{number}.0"} for row, number in zip(rows, exact, strict=True)]
    if name == "axis.t":
        for row in given:
            del row["t"]
    assert pixels(cloudimg.open(table(given).sort_by("url"))) in (
        EXPECTED,
        np.transpose(EXPECTED).tolist(),
    )
    for bad in ("9" * 20, "\u0663"):
        with pytest.raises(ArgumentError, match=f"row 0 .* has '{bad}' in the column '{name}'"):
            cloudimg.open(table([{**row, name: bad} for row in given]))


def test_labels_may_be_views_of_texts(local: Place) -> None:
    given = table(put(local))
    views = pa.array([f"t{t}" for t in given["t"].to_pylist()], pa.string_view())
    assert pixels(cloudimg.open(given.set_column(1, "t", views))) == EXPECTED


@pytest.mark.parametrize("prefix", ["", "file://", "simplecache::file://", "zip://x.tif::"])
def test_a_table_in_a_store_names_no_local_files(s3: Place, tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "z.tif"
    path.write_bytes(seed.encode(np.zeros(SHAPE, np.uint8)))
    url = s3.put("files.parquet", encoded(pa.table({"url": [f"{prefix}{path}"]}), "parquet"))
    with pytest.raises(ArgumentError, match=r"row 0 .* object stores"):
        cloudimg.open(url, storage_options=s3.storage_options)
    with pytest.raises(ArgumentError, match="Store the index on this machine"):
        cloudimg.index(path, url, target_options=s3.storage_options)


@pytest.mark.parametrize(
    "kind", ["url", "label", "structure", pytest.param("header", marks=pytest.mark.slow)]
)
def test_values_that_are_repeated_take_no_memory_each(tmp_path: Path, kind: str) -> None:
    n = 2**14
    same = pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), pa.array(["/x" + "a" * 2**20]))
    columns: dict[str, Any] = {"url": [f"/x/{i}.tif" for i in range(n)], "t": np.arange(n)}
    if kind == "header":
        part = pa.StructArray.from_arrays([np.zeros(n, np.int64), same], ["start", "data"])
        parts = pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32), part)
        columns["header"] = pa.StructArray.from_arrays([parts], ["parts"])
    elif kind == "structure":
        columns["url"] = pa.StructArray.from_arrays([same], ["href"])
    else:
        columns[{"url": "url", "label": "t"}[kind]] = same
    bomb = tmp_path / "files.parquet"
    pq.write_table(pa.table(columns), bomb, store_schema=False, dictionary_pagesize_limit=2**26)
    with pytest.raises(CorruptFileError, match="bytes of"):
        cloudimg.open(bomb, url="url.href" if kind == "structure" else None)
    assert pa.default_memory_pool().max_memory() < 2**31  # the values have 16 GiB


def test_what_is_not_an_axis_is_named() -> None:
    n = 250_000
    given = pa.table({"url": ["/data/x.tif"] * n, "id": np.arange(n), "t": np.zeros(n, np.int64)})
    with pytest.raises(GridError, match=r"column 'id' of the table has .* leave the column out"):
        cloudimg.open(given)


def test_a_table_that_is_not_one_is_refused(local: Place, tmp_path: Path) -> None:
    for name, data in (
        ("x.parquet", b"PAR1 but not a table PAR1"),
        ("y.parquet", b""),
        ("x.csv.gz", b"not packed"),
        ("manifest.json", b"{}"),
        ("z.parquet", encoded(table(put(local)), "parquet")[:-60] + b"\0" * 60),
    ):
        url = local.put(f"bad/{name}", data)
        with pytest.raises(CorruptFileError, match=name):
            cloudimg.open(url, pattern="{t}.tif")
    with pytest.raises(ArgumentError, match="no table is given"):
        cloudimg.open(f"{local.url}/day{{t}}/z{{z}}.tif", url="href")
    with pytest.raises(GridError, match="0 rows"):
        cloudimg.open(table(put(local)).slice(0, 0))


def test_headers_of_a_table_that_was_tampered_with_are_bounded(local: Place) -> None:
    put(local)
    pattern, index = f"{local.url}/day{{t}}/z{{z:02d}}.tif", f"{local.url}/files.parquet"
    cloudimg.index(pattern, index)
    good = pq.read_table(index)
    header = good["header"].to_pylist()
    for parts in (
        [{"start": 8, "data": b"x"}],
        [{"start": 0, "data": b"II*\0"}, {"start": 2, "data": b"xx"}],
        [{"start": 0, "data": b"x" * 10_000}],
    ):
        bad = [header[0] | {"parts": parts}, *header[1:]]
        at = good.schema.names.index("header")
        changed = good.set_column(at, "header", pa.array(bad, good.schema.field("header").type))
        if parts[0]["start"] == 8:  # without its beginning a header is not used
            assert pixels(cloudimg.open(changed)) == EXPECTED
            continue
        with pytest.raises(CorruptFileError, match="header"):
            cloudimg.open(changed)
    lying = [header[0] | {"parts": [{"start": 0, "data": b"GIF89a"}]}, *header[1:]]
    changed = good.set_column(at, "header", pa.array(lying, good.schema.field("header").type))
    assert pixels(cloudimg.open(changed)) == EXPECTED  # the file's own header is read


def test_a_hole_in_a_table_is_a_missing_file(local: Place) -> None:
    rows = put(local)
    with pytest.raises(MissingFilesError, match="t=1, z=1"):
        cloudimg.open(table([*rows[:3], *rows[4:]]))
    image = cloudimg.open(table([*rows[:3], *rows[4:]]), missing="fill", fill_value=200)
    assert pixels(image)[1] == [10, 200]


@pytest.mark.slow
def test_a_million_rows_take_no_object_each() -> None:
    """At most 150 bytes a row with all optional columns, batches included."""
    from cloudimg.opening.options import OpenArguments
    from cloudimg.opening.tables import read_table

    n = 100_000
    i = np.arange(n)
    given: dict[str, Any] = {
        "url": [f"s3://lab/exp/img_t{t:04d}_z{z:03d}.tif" for t, z in zip(i // 100, i % 100,
                                                                         strict=True)],
        "size_bytes": np.full(n, 2**20),
        "etag": [f"{each:032x}" for each in range(n)],
        "t": i // 100,
        "z": i % 100,
        "page": np.zeros(n, np.int64),
        "acquired": pa.array(i * 10**6, pa.timestamp("us")),
        "channel": [f"C{each % 5}" for each in range(n)],
        "objective": ["20x"] * n,
        "stage_unit": ["µm"] * n,
        "acquired_offset": ["+02:00"] * n,
    }  # fmt: skip
    for name in ("stage_x", "stage_y", "stage_z", "elapsed_s", "exposure_s", "magnification"):
        given[name] = i * 0.5
    rows = pa.table(given)
    read_table(rows.slice(0, 200), OpenArguments())  # what is imported first is not counted
    tracemalloc.start()
    try:
        tabled: Any = read_table(rows, OpenArguments())[0]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert tabled.listing.grid.n_files == n
    assert set(tabled.listing.table.facts.names) >= {"stage_x", "acquired", "channel"}
    assert peak <= 150 * n + 12 * 2**20


def test_tables_of_csv_keep_quotes_and_times(local: Place) -> None:
    rows = put(local)
    path = Path(local.url.removeprefix("file://")) / "files.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "acquired", "channel"], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "acquired": "2026-11-30T12:00:00", "channel": "a, b"})
    image = cloudimg.open(path)
    assert pixels(image) == EXPECTED
    assert image.coords["channel"].item() == "a, b"
    assert image.coords["acquired"].item() == datetime.datetime(2026, 11, 30, 12)


@pytest.mark.slow
def test_a_process_ends_after_a_part_of_a_large_csv(tmp_path: Path) -> None:
    """No thread goes on to read it: some of these processes were aborted, and some never ended."""
    rows = [f"{tmp_path}/a_{t}.tif,{t}\n" for t in range(300_000)]
    torn = tmp_path / "files.csv"
    torn.write_text("".join(["url,t\n", *rows[:10], "a,b,c\n", *rows[10:]]))
    assert torn.stat().st_size > 2 * 4 * 2**20  # more than what is fetched at once
    code = (
        "import sys, cloudimg\n"
        "try:\n"
        "    cloudimg.open(sys.argv[1])\n"
        "except cloudimg.errors.CorruptFileError:\n"
        "    print('torn')\n"
    )
    words = [sys.executable, "-c", code, str(torn)]
    processes = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(8)]
    try:
        said = [process.communicate(timeout=100)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert said == [b"torn\n"] * 8
    assert [process.wait() for process in processes] == [0] * 8
