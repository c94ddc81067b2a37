"""Fields of view that are placed where the stage was, compared with canvases made by hand."""

from __future__ import annotations

import json
import pickle
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import (
    ArgumentError,
    CloudimgWarning,
    GridError,
    MismatchError,
    MissingFilesError,
)
from tests.support import index_files, staged
from tests.support.metering import Meter

Array = npt.NDArray[Any]
PIXEL = 0.5
HEIGHT, WIDTH = 6, 8


def pixels_of(number: int, dtype: Any = np.uint16) -> Array:
    """Pixels of a field, none of them 0."""
    rng = np.random.default_rng(number)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=(HEIGHT, WIDTH)).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(max(1, info.min), info.max, (HEIGHT, WIDTH), dtype, endpoint=True)


def write(folder: Path, places: Mapping[str, tuple[float, float]], **options: Any) -> list[Array]:
    """Write a field for each name, at rows and columns; returns their pixels."""
    fields = []
    for number, (name, (row, column)) in enumerate(places.items()):
        fields.append(pixels_of(number))
        data = staged.encode(fields[-1], PIXEL * row, PIXEL * column, **options)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return fields


def on_canvas(
    places: Mapping[str, tuple[float, float]], fields: list[Array], *, blend: str = "last"
) -> Array:
    """The canvas of fields that were written."""
    rows, columns = zip(*places.values(), strict=True)
    at = [(round(r - min(rows)), round(c - min(columns))) for r, c in places.values()]
    shape = (max(r for r, _ in at) + HEIGHT, max(c for _, c in at) + WIDTH)
    return staged.canvas(dict(zip(at, fields, strict=True)), 0, blend, shape)


THREE = {"f0.tif": (0, 0), "f1.tif": (4, 5), "f2.tif": (2, 20)}
"""Two fields that overlap, and one beyond a gap."""


# --------------------------------------------------------------------------------------- the pixels


@st.composite
def acquisitions(draw: st.DrawFn) -> dict[str, Any]:
    """Fields at different pixels, with channels, and how they are opened."""
    at = st.tuples(st.integers(-9, 9), st.integers(-12, 12))
    return {
        "places": draw(st.lists(at, min_size=1, max_size=6, unique=True)),
        "n_channels": draw(st.integers(1, 2)),
        "dtype": draw(st.sampled_from(["uint8", "uint16", "int16", "float32"])),
        "blend": draw(st.sampled_from(["last", "mean"])),
        "flip": draw(st.sampled_from([None, "x", "y", "xy"])),
        "fill": draw(st.integers(0, 9)),
        "jitter": draw(st.floats(-0.49, 0.49)),
        "tile": draw(st.booleans()),
        "chunks": draw(st.integers(1, 17)),
    }


@pytest.mark.slow
@settings(max_examples=40)
@given(acquisition=acquisitions())
def test_random_places(acquisition: dict[str, Any]) -> None:
    """Whole, by chunks of any size and by slices, bit for bit."""
    places, flip = acquisition["places"], acquisition["flip"]
    dtype, fill, blend = (acquisition[name] for name in ("dtype", "fill", "blend"))
    signs = [-1 if name in (flip or "") else 1 for name in ("y", "x")]
    fields: dict[tuple[int, int], Array] = {}
    with tempfile.TemporaryDirectory() as folder:
        for n, (row, column) in enumerate(places):
            for c in range(acquisition["n_channels"]):
                fields[n, c] = pixels_of(10 * n + c, dtype)
                # All positions are off by the same part of a pixel, and those of the second
                # channel are not used.
                y, x = (PIXEL * (at + acquisition["jitter"] + 100 * c) for at in (row, column))
                options = {"tile": (16, 16)} if acquisition["tile"] else {}
                data = staged.encode(fields[n, c], y, x, **options)
                (Path(folder) / f"f{n}_c{c}.ome.tif").write_bytes(data)
        image = cloudimg.open(
            f"{folder}/f{{field}}_c{{c}}.ome.tif",
            place="stage", blend=blend, flip=flip, fill_value=fill,
        )  # fmt: skip
        at = np.array(places) * signs
        at -= at.min(axis=0)
        height, width = at.max(axis=0).tolist()
        shape = (height + HEIGHT, width + WIDTH)
        expected = np.stack(
            [
                staged.canvas(
                    {tuple(at[n].tolist()): fields[n, c] for n in range(len(places))},
                    fill, blend, shape,
                )
                for c in range(acquisition["n_channels"])
            ]
        )  # fmt: skip
        assert image.dims == ("c", "y", "x")
        assert image.dtype == dtype
        np.testing.assert_array_equal(image.read(), expected)
        array = image.to_dask(chunks=acquisition["chunks"])
        np.testing.assert_array_equal(array.compute(), expected)
        part = {"c": 0, "y": slice(1, shape[0], 2), "x": slice(2, shape[1], 3)}
        np.testing.assert_array_equal(image.read(part), expected[0, 1::2, 2::3])
        np.testing.assert_array_equal(array[:, ::2, 3:].compute(), expected[:, ::2, 3:])


@pytest.mark.parametrize("blend", ["last", "mean"])
def test_overlap_and_gap(tmp_path: Path, blend: str) -> None:
    fields = write(tmp_path, THREE)
    image = cloudimg.open(f"{tmp_path}/f{{field}}.tif", place="stage", blend=blend)
    found = image.read()
    np.testing.assert_array_equal(found, on_canvas(THREE, fields, blend=blend))
    assert found.shape == (10, 28)
    assert (found[:, 13:20] == 0).all()
    both = np.stack([fields[0][4:6, 5:8], fields[1][0:2, 0:3]]).astype(int)
    np.testing.assert_array_equal(
        found[4:6, 5:8], both[1] if blend == "last" else (both.sum(axis=0) + 1) // 2
    )


def test_means_are_rounded_half_up_and_do_not_overflow(tmp_path: Path) -> None:
    for dtype, values, mean in (
        (np.uint8, (254, 255), 255),
        (np.int16, (-3, -2), -2),
        (np.uint32, (2**32 - 1, 2**32 - 2), 2**32 - 1),
    ):
        folder = tmp_path / np.dtype(dtype).name
        folder.mkdir()
        for n, value in enumerate(values):
            data = staged.encode(np.full((4, 4), value, dtype), 0, n * PIXEL)
            (folder / f"{n}.tif").write_bytes(data)
        image = cloudimg.open(f"{folder}/{{pos}}.tif", place="stage", blend="mean")
        assert image.read({"y": 0}).tolist() == [values[0], mean, mean, mean, values[1]]


def test_positions_between_pixels_are_rounded(tmp_path: Path) -> None:
    """And a pixel may have another length along y than along x, in other units."""
    for n, (row, column) in enumerate([(0, 0), (3.4, 9.6)]):
        metadata = {
            "axes": "YX",
            "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": 2000.0, "PhysicalSizeYUnit": "nm",
            "Plane": {
                "PositionX": [7 + 0.25 * column], "PositionXUnit": ["µm"],
                "PositionY": [0.007 + 0.002 * row], "PositionYUnit": ["mm"],
            },
        }  # fmt: skip
        data = staged.seed.encode(pixels_of(n), ome=True, metadata=metadata)
        (tmp_path / f"{n}.tif").write_bytes(data)
    image = cloudimg.open(f"{tmp_path}/{{fov}}.tif", place="stage")
    places = {"0": (0, 0), "1": (3, 10)}
    np.testing.assert_array_equal(image.read(), on_canvas(places, [pixels_of(0), pixels_of(1)]))


def test_stacked_fields_keep_their_positions(tmp_path: Path) -> None:
    fields = write(tmp_path, THREE)
    image = cloudimg.open(f"{tmp_path}/f{{field}}.tif", place="stack", validate="all")
    np.testing.assert_array_equal(image.read(), np.stack(fields))
    assert image.coords["stage_y"].tolist() == [PIXEL * row for row, _ in THREE.values()]
    assert image.coords["stage_x"].tolist() == [PIXEL * column for _, column in THREE.values()]


def test_tiles_of_the_fields_x_and_y(tmp_path: Path) -> None:
    """By index they are refused, because they overlap; by the stage they are not."""
    places = {f"y{y}_x{x}.tif": (5 * y + x, 7 * x) for y in range(2) for x in range(3)}
    fields = write(tmp_path, places)
    pattern = f"{tmp_path}/y{{y}}_x{{x}}.tif"
    with pytest.raises(GridError, match='Pass place="stage"'):
        cloudimg.open(pattern)
    image = cloudimg.open(pattern, place="stage")
    assert image.dims == ("y", "x")
    np.testing.assert_array_equal(image.read(), on_canvas(places, fields))
    assert cloudimg.open(pattern, place="stack").shape == (2, 3, HEIGHT, WIDTH)


# ---------------------------------------------------------------------------------- the other axes


def test_each_well_has_a_canvas_of_its_own(tmp_path: Path) -> None:
    """As large as the largest, whatever the way from well to well."""
    wells = {"A01": (0, 0), "B02": (18_000, 18_000), "C03": (36_000, 36_000)}
    at = {"A01": [(0, 0), (5, 7)], "B02": [(0, 0), (5, 7)], "C03": [(9, 0), (0, 3)]}
    places = {
        f"{well}_f{n}_z{z}.tif": (top + row, left + column)
        for well, (top, left) in wells.items()
        for n, (row, column) in enumerate(at[well])
        for z in range(2)
    }
    fields = dict(zip(places, write(tmp_path, places), strict=True))
    image = cloudimg.open(f"{tmp_path}/{{well:s}}_f{{field}}_z{{z}}.tif", place="stage")
    assert image.dims == ("well", "z", "y", "x")
    assert image.shape == (3, 2, HEIGHT + 9, WIDTH + 7)
    assert image.coords["well"].tolist() == list(wells)
    for w, well in enumerate(wells):
        for z in range(2):
            own = {at[well][n]: fields[f"{well}_f{n}_z{z}.tif"] for n in range(2)}
            expected = staged.canvas(own, 0, "last", image.shape[-2:])
            np.testing.assert_array_equal(image.read({"well": w, "z": z}), expected)


def test_files_that_are_missing_leave_a_gap(tmp_path: Path) -> None:
    """A field has the place of its first file that exists, at whatever time."""
    places = {
        f"t{t}_f{n}.tif": (4 * n, 5 * n) for t in range(2) for n in range(3) if (t, n) != (0, 1)
    }
    fields = dict(zip(places, write(tmp_path, places), strict=True))
    pattern = f"{tmp_path}/t{{t}}_f{{field}}.tif"
    with pytest.raises(MissingFilesError):
        cloudimg.open(pattern, place="stage")
    image = cloudimg.open(pattern, place="stage", missing="fill", fill_value=0)
    for t in range(2):
        own = {places[name]: fields[name] for name in places if name.startswith(f"t{t}")}
        expected = staged.canvas(own, 0, "last", (HEIGHT + 8, WIDTH + 10))
        np.testing.assert_array_equal(image.read({"t": t}), expected)


@pytest.mark.parametrize("blend", ["last", "mean"])
def test_bad_files(tmp_path: Path, blend: str) -> None:
    """Pixels of a bad file are the fill value; a mean is that of the other fields."""
    places = {f"t{t}_f{n}.tif": (2 * n, 3 * n) for t in range(2) for n in range(2)}
    fields = write(tmp_path, places)
    (tmp_path / "t1_f1.tif").write_bytes(b"not an image")
    image = cloudimg.open(
        f"{tmp_path}/t{{t}}_f{{field}}.tif", place="stage", bad="fill", blend=blend
    )
    with pytest.warns(CloudimgWarning, match=r"t1_f1\.tif"):
        found = image.read({"t": 1})
    expected = staged.canvas({(0, 0): fields[2]}, 0, blend, (HEIGHT + 2, WIDTH + 3))
    if blend == "last":
        expected[2:, 3:] = 0
    np.testing.assert_array_equal(found, expected)


def test_an_axis_that_may_be_another_place(tmp_path: Path) -> None:
    """Cycles come back to the same fields, not quite; regions do not."""
    cycles = {f"n{n}_f{f}.tif": (n, 7 * f + n) for n in range(2) for f in range(2)}
    fields = write(tmp_path, cycles)
    image = cloudimg.open(f"{tmp_path}/n{{n}}_f{{field}}.tif", place="stage")
    assert image.dims == ("n", "y", "x")
    for n in range(2):
        own = {(0, 0): fields[2 * n], (0, 7): fields[2 * n + 1]}
        expected = staged.canvas(own, 0, "last", image.shape[-2:])
        np.testing.assert_array_equal(image.read({"n": n}), expected)
    regions = {f"n{n}_f{f}.tif": (500 * n, 7 * f) for n in range(2) for f in range(2)}
    write(tmp_path, regions)
    with pytest.raises(GridError, match=r'along n, .* 500 rows .*"field" .* or "region"'):
        cloudimg.open(f"{tmp_path}/n{{n}}_f{{field}}.tif", place="stage")
    apart = cloudimg.open(f"{tmp_path}/n{{region}}_f{{field}}.tif", place="stage")
    assert apart.shape == (2, HEIGHT, WIDTH + 7)


# ----------------------------------------------------------------------------------------- traffic


def test_headers_of_the_first_planes_are_read(meter: Meter, bucket: str) -> None:
    for t, c, f in np.ndindex(3, 2, 4):
        data = staged.encode(pixels_of(f), 0, PIXEL * 7 * f)
        meter.put(bucket, f"t{t}_c{c}_f{f}.tif", data)
    url = f"s3://{bucket}/t{{t}}_c{{c}}_f{{field}}.tif"
    with meter.measure() as traffic:
        image = cloudimg.open(url, place="stage", storage_options=meter.storage_options)
    assert image.shape == (3, 2, HEIGHT, WIDTH + 21)
    assert traffic.gets == 4


def test_a_chunk_moves_the_files_that_show_there(meter: Meter, bucket: str) -> None:
    """Each file of 100 KB shows a part; one is below others, and a gap needs no request."""
    places = [(0, 0), (200, 0), (0, 2000), (0, 60)]
    size = 0
    for n, (row, column) in enumerate(places):
        pixels = np.random.default_rng(n).integers(1, 2**16, (220, 220), np.uint16)
        data = staged.encode(pixels, PIXEL * row, PIXEL * column)
        size = len(data)
        meter.put(bucket, f"f{n}.tif", data)
    image = cloudimg.open(
        f"s3://{bucket}/f{{field}}.tif", place="stage", storage_options=meter.storage_options
    )
    array = image.to_dask(chunks=220)
    for region, n_files in (
        ((slice(100, 150), slice(0, 50)), 1),  # the first
        ((slice(100, 150), slice(100, 150)), 1),  # the last one, over the first
        ((slice(100, 150), slice(0, 150)), 2),
        ((slice(350, 400), slice(100, 200)), 1),  # the second
        ((slice(0, 420), slice(500, 1900)), 0),  # between them
    ):
        with meter.measure() as traffic:
            image.read({"y": region[0], "x": region[1]})
        assert len({request.key for request in traffic.requests}) == n_files
        assert traffic.bytes_sent <= n_files * size
    with meter.measure() as traffic, dask.config.set(scheduler="synchronous"):
        array[350:400, 100:200].compute()
    assert {request.key for request in traffic.requests} == {"f1.tif"}


def test_a_million_files_are_pickled_small() -> None:
    """The places of fields that are the same at each time and depth take next to nothing."""
    from cloudimg.reading.canvas import Canvas

    offsets = np.zeros((10_000, 100, 2), np.int64)
    offsets[...] = np.random.default_rng(0).integers(0, 10**6, (100, 2))
    canvas = Canvas.of((1,), offsets, np.full_like(offsets, 2048))
    data = pickle.dumps(canvas)
    assert len(data) < 2**20
    assert pickle.loads(data) == canvas


def test_the_token_is_that_of_the_places(tmp_path: Path) -> None:
    write(tmp_path, THREE)
    pattern = f"{tmp_path}/f{{field}}.tif"

    def token(**options: Any) -> str:
        image = cloudimg.open(pattern, **{"place": "stage", **options})
        return str(image.to_dask(chunks=-1).name)

    tokens = [token(), token(blend="mean"), token(flip="x"), token(place="stack")]
    assert len(set(tokens)) == 4
    assert token() == tokens[0]
    image = cloudimg.open(pattern, place="stage")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image)).read(), image.read())


# ------------------------------------------------------------------------------- what is impossible


def refused(folder: Path, pattern: str = "f{field}.tif", **options: Any) -> str:
    with pytest.raises((GridError, ArgumentError)) as caught:
        cloudimg.open(f"{folder}/{pattern}", place="stage", **options)
    assert 'place="stack"' in caught.value.message or "pattern" in caught.value.message
    return caught.value.message


def test_files_without_positions(tmp_path: Path) -> None:
    write(tmp_path, THREE)
    (tmp_path / "f1.tif").write_bytes(staged.encode(pixels_of(1), None, None))
    message = refused(tmp_path)
    assert f"not known for 1 of 3 files: {tmp_path}/f1.tif" in message
    assert "stage_x, stage_y, stage_unit" in message
    (tmp_path / "f1.tif").write_bytes(staged.encode(pixels_of(1), 4, None))
    assert "not known for 1 of 3 files" in refused(tmp_path)
    assert cloudimg.open(f"{tmp_path}/f{{field}}.tif", place="stack").shape == (3, HEIGHT, WIDTH)


@pytest.mark.parametrize("value", ["NaN", "INF"])
def test_positions_that_are_no_numbers(tmp_path: Path, value: str) -> None:
    write(tmp_path, THREE)
    data = staged.encode(pixels_of(1), 1234.5, 2)
    assert data.count(b"1234.5") == 1
    (tmp_path / "f1.tif").write_bytes(data.replace(b"1234.5", value.encode().ljust(6)))
    assert f"not known for 1 of 3 files: {tmp_path}/f1.tif" in refused(tmp_path)


def test_fields_at_one_place(tmp_path: Path) -> None:
    write(tmp_path, {f"f{n}.tif": (3, 4) for n in range(3)})
    message = refused(tmp_path)
    assert f"{tmp_path}/f0.tif and {tmp_path}/f1.tif are at one place" in message
    assert "2 of 3 fields would be hidden" in message
    write(tmp_path, {"f2.tif": (9, 9)})
    assert "1 of 3 fields would be hidden" in refused(tmp_path)


def test_a_canvas_of_mostly_nothing(tmp_path: Path) -> None:
    """Two fields in opposite corners of a plate, which its wells tell apart."""
    places = {"B02_f0.tif": (0, 0), "G11_f1.tif": (10_000, 10_000)}
    write(tmp_path, places)
    message = refused(tmp_path, "*_f{field}.tif")
    assert "10006 x 10008 pixels, of which 2 fields cover 9.6e-05 %" in message
    assert '"well" or "region"' in message
    beyond = {"f0.tif": (0, 0), "f1.tif": (2**31, 0)}
    write(tmp_path, beyond)
    assert "2.14748e+09 x 8 pixels" in refused(tmp_path)


def test_sizes_and_units_that_are_unknown(tmp_path: Path) -> None:
    write(tmp_path, THREE, pixel=None)
    assert f"{tmp_path}/f0.tif does not say how long a pixel is along y" in refused(tmp_path)
    write(tmp_path, THREE, unit="reference frame")
    assert "those of the files are in 'reference frame'" in refused(tmp_path)
    write(tmp_path, {name: (2 * row, 2 * column) for name, (row, column) in THREE.items()},
          unit="pixel", pixel=None)  # fmt: skip
    image = cloudimg.open(f"{tmp_path}/f{{field}}.tif", place="stage")
    assert image.shape == (10, 28)


def test_a_pattern_without_fields(tmp_path: Path) -> None:
    write(tmp_path, {f"t{n}.tif": (0, 9 * n) for n in range(2)})
    assert "the pattern has t: call the axis field" in refused(tmp_path, "t{t}.tif")
    # A single file lies where it lies.
    image = cloudimg.open(tmp_path / "t0.tif", place="stage")
    np.testing.assert_array_equal(image.read(), pixels_of(0))


def test_fields_within_one_file(tmp_path: Path) -> None:
    seven = np.stack([pixels_of(n) for n in range(7)])
    tifffile.imwrite(tmp_path / "all.tif", seven, photometric="minisblack")
    options = {"place": "stage", "axes": {"page": "position"}}
    with pytest.raises(ArgumentError, match=r"all\.tif has fields along position itself"):
        cloudimg.open(tmp_path / "all.tif", **options)
    assert cloudimg.open(tmp_path / "all.tif", place="stage").dims == ("page", "y", "x")


def test_a_part_of_a_canvas(tmp_path: Path) -> None:
    """Selected before and after the files are placed."""
    wells = {"A01": [(0, 0), (5, 7)], "B02": [(40_000, 0), (40_003, 9)]}
    places = {
        f"{well}_f{n}_z{z}.tif": at
        for well, fields in wells.items()
        for n, at in enumerate(fields)
        for z in range(2)
    }
    write(tmp_path, places)
    pattern = f"{tmp_path}/{{well:s}}_f{{field}}_z{{z}}.tif"
    image = cloudimg.open(pattern, place="stage")
    whole = image.read()
    part = image.isel(well=1, z=[0], y=slice(3, 9), x=slice(2, None, 3))
    np.testing.assert_array_equal(part.read(), whole[1, :1, 3:9, 2::3])
    np.testing.assert_array_equal(part.to_dask(chunks=2).compute(), whole[1, :1, 3:9, 2::3])
    chosen = cloudimg.open(pattern, place="stage", select={"well": "B02"})
    np.testing.assert_array_equal(chosen.read(), whole[1, :, : chosen.shape[1]])


def test_a_field_of_another_size(tmp_path: Path) -> None:
    write(tmp_path, THREE)
    (tmp_path / "f1.tif").write_bytes(staged.encode(pixels_of(1)[:-1], 2, 2))
    with pytest.raises(MismatchError, match=r"f1\.tif"):
        cloudimg.open(f"{tmp_path}/f{{field}}.tif", place="stage")


@pytest.mark.parametrize(
    "options", [{"place": "mosaic"}, {"blend": "max"}, {"flip": "z"}, {"place": True}], ids=str
)
def test_arguments_that_do_not_exist(tmp_path: Path, options: dict[str, Any]) -> None:
    write(tmp_path, THREE)
    with pytest.raises(ArgumentError, match="must be one of"):
        cloudimg.open(f"{tmp_path}/f{{field}}.tif", **options)


@pytest.mark.parametrize(
    "options",
    [{"flip": "y"}, {"blend": "mean"}, {"place": "stage", "align": "outer"}],
    ids=str,
)
def test_arguments_that_mean_nothing_together(tmp_path: Path, options: dict[str, Any]) -> None:
    write(tmp_path, THREE)
    with pytest.raises(ArgumentError, match='place="stage"'):
        cloudimg.open(f"{tmp_path}/f{{field}}.tif", **options)


# -------------------------------------------------------------------- positions from elsewhere


def test_positions_from_a_table(meter: Meter, bucket: str) -> None:
    """In pixels, as a program that registers fields finds them; one header is read."""
    fields = [pixels_of(n) for n in range(3)]
    for n, pixels in enumerate(fields):
        meter.put(bucket, f"f{n}.tif", staged.encode(pixels, 100 * n, 0))  # which are not used
    table = pa.table(
        {
            "url": [f"s3://{bucket}/f{n}.tif" for n in range(3)],
            "field": list(range(3)),
            "stage_y": [float(row) for row, _ in THREE.values()],
            "stage_x": [float(column) for _, column in THREE.values()],
            "stage_unit": ["pixel"] * 3,
        }
    )
    with meter.measure() as traffic:
        image = cloudimg.open(table, place="stage", storage_options=meter.storage_options)
    assert traffic.lists == 0
    assert traffic.gets == 1
    np.testing.assert_array_equal(image.read(), on_canvas(THREE, fields))


def test_a_table_says_in_which_direction_its_positions_grow(tmp_path: Path) -> None:
    fields = write(tmp_path, THREE)
    table = pa.table(
        {
            "url": [f"{tmp_path}/{name}" for name in THREE],
            "field": list(range(3)),
            "stage_y": [-float(row) for row, _ in THREE.values()],
            "stage_x": [(-1.0) ** n * column for n, (_, column) in enumerate(THREE.values())],
            "stage_unit": ["pixel"] * 3,
            "stage_flip": ["y", "xy", "y"],
        }
    )
    image = cloudimg.open(table, place="stage")
    np.testing.assert_array_equal(image.read(), on_canvas(THREE, fields))
    unknown = table.set_column(5, "stage_flip", [["y", "upwards", "y"]])
    with pytest.raises(GridError, match="stage_flip 'upwards', which is not x, y or xy"):
        cloudimg.open(unknown, place="stage")


def test_fields_that_moved_between_times_are_told(tmp_path: Path) -> None:
    """All fields moved by 50 columns, which changes nothing; then one moved by itself."""
    fields = [pixels_of(n) for n in range(4)]
    for n, pixels in enumerate(fields):
        (tmp_path / f"t{n // 2}_f{n % 2}.tif").write_bytes(staged.encode(pixels, None, None))

    def opened(*columns: float) -> Any:
        table = pa.table(
            {
                "url": [f"{tmp_path}/t{n // 2}_f{n % 2}.tif" for n in range(4)],
                "t": [0, 0, 1, 1],
                "field": [0, 1, 0, 1],
                "stage_y": [0.0] * 4,
                "stage_x": columns,
                "stage_unit": ["pixel"] * 4,
            }
        )
        return cloudimg.open(table, place="stage")

    assert opened(0.0, 8.0, 50.0, 58.0).notes == ()
    image = opened(0.0, 8.0, 0.0, 19.0)
    (note,) = image.notes
    assert note.kind == "fields-moved"
    assert "along t, fields lie up to 0 rows and 11 columns elsewhere" in note
    np.testing.assert_array_equal(image.read()[1], np.hstack(fields[2:]))


def harmony(folder: Path, places: Mapping[int, tuple[int, int]]) -> None:
    data = index_files.harmony_index(
        [(1, 1, field, 1, 1) for field in places],
        channels={1: "DAPI"},
        position=lambda field: (2.9695e-7 * places[field][1], -2.9695e-7 * places[field][0]),
    )
    (folder / "Index.idx.xml").write_bytes(data)


def yokogawa(folder: Path, places: Mapping[int, tuple[int, int]]) -> None:
    records = index_files.yokogawa_records(["B02"], len(places), 1, 1)
    for record, (row, column) in zip(records, places.values(), strict=True):
        record |= {"X": PIXEL * column, "Y": -PIXEL * row}
    (folder / "MeasurementData.mlf").write_bytes(index_files.mlf(records))


@pytest.mark.parametrize(
    ("write_index", "name_of"),
    [
        (harmony, lambda field: index_files.harmony_name(1, 1, field, 1, 1)),
        (yokogawa, lambda field: index_files.yokogawa_name("B02", field, 1, 1)),
    ],
    ids=["Harmony", "Yokogawa"],
)
def test_positions_from_an_index_file(
    tmp_path: Path, write_index: Callable[..., None], name_of: Callable[[int], str]
) -> None:
    """Their y grows upwards, from the centre of a well."""
    places = dict(enumerate(THREE.values(), 1))
    fields = [pixels_of(n) for n in range(3)]
    for field, pixels in zip(places, fields, strict=True):
        # Harmony's size of a pixel is that of its index file.
        size = None if write_index is harmony else PIXEL
        data = staged.encode(pixels, None, None, pixel=size)
        (tmp_path / name_of(field)).write_bytes(data)
    write_index(tmp_path, places)
    image = cloudimg.open(tmp_path, place="stage")
    assert image.dims == ("y", "x")
    np.testing.assert_array_equal(image.read(), on_canvas(THREE, fields))
    assert str(image.coords["stage_flip"]) == "y"
    if write_index is yokogawa:  # a table does not have the size of a pixel
        from_table = cloudimg.open(image.table(), place="stage")
        np.testing.assert_array_equal(from_table.read(), image.read())
        assert from_table.to_dask().name == image.to_dask().name
    as_it_is = cloudimg.open(tmp_path, place="stage", flip="none")
    upside_down = {name: (-row, column) for name, (row, column) in THREE.items()}
    np.testing.assert_array_equal(as_it_is.read(), on_canvas(upside_down, fields))
    with pytest.raises(GridError, match="not known for 3 of 3 files"):
        cloudimg.open(tmp_path, place="stage", index_files=False)


def copied(folder: Path) -> tuple[Path, Path, dict[int, tuple[int, int]]]:
    """An archive that its index file places, its copy, and the places of its fields."""
    source, out = folder / "in", folder / "out" / "copy.zarr"
    source.mkdir()
    places = dict(enumerate([(0, 0), (0, 8)], 1))
    for field in places:
        data = staged.encode(pixels_of(field), None, None, pixel=PIXEL)
        (source / index_files.yokogawa_name("B02", field, 1, 1)).write_bytes(data)
    yokogawa(source, places)
    cloudimg.migrate(source, out, place="stage")
    return source, out, places


def test_an_unfinished_copy_keeps_to_the_positions_with_which_it_began(tmp_path: Path) -> None:
    """The index file was written again between two runs: fields change places, files do not."""
    source, out, places = copied(tmp_path)
    (out / ".cloudimg/done.json").unlink()
    yokogawa(source, dict(enumerate(reversed(places.values()), 1)))
    with pytest.raises(ArgumentError, match="files lie at other places in the image"):
        cloudimg.migrate(source, out, place="stage")
    assert not cloudimg.verify(out, against_source=True)
    yokogawa(source, places)
    cloudimg.migrate(source, out, place="stage")
    assert cloudimg.verify(out, against_source=True)


def test_a_copy_of_a_table_is_compared_by_the_positions_of_the_table(tmp_path: Path) -> None:
    """Also if headers have other ones, and all were read; it is mended by the same positions."""
    source, out = tmp_path / "in", tmp_path / "out" / "copy.zarr"
    fields = write(source, THREE)
    elsewhere = {name: (column, row) for name, (row, column) in THREE.items()}
    table = pa.table(
        {
            "url": [f"{source}/{name}" for name in elsewhere],
            "field": list(range(3)),
            "stage_y": [float(row) for row, _ in elsewhere.values()],
            "stage_x": [float(column) for _, column in elsewhere.values()],
            "stage_unit": ["pixel"] * 3,
        }
    )
    cloudimg.migrate(table, out, place="stage", validate="all")
    assert cloudimg.verify(out, against_source=True)
    stored = out / "0/c/0/0"
    stored.write_bytes(bytes(50))
    assert cloudimg.repair(out, from_source=True)
    import zarr

    np.testing.assert_array_equal(zarr.open(out)["0"][:], on_canvas(elsewhere, fields))


def test_a_copy_is_not_mended_with_fields_at_other_places(tmp_path: Path) -> None:
    """The index file was written again since: the files are those that were copied."""
    source, out, places = copied(tmp_path)
    stored = out / "0/c/0/0"
    before = stored.read_bytes()
    stored.write_bytes(bytes(50))
    yokogawa(source, dict(enumerate(reversed(places.values()), 1)))
    found = cloudimg.repair(out, from_source=True)
    assert "its source has other pixels than were copied" in str(found)
    yokogawa(source, places)
    assert cloudimg.repair(out, from_source=True)
    assert stored.read_bytes() == before


def test_a_copy_made_without_index_files_is_compared_without_them(tmp_path: Path) -> None:
    """They say otherwise than the headers by which the fields were placed."""
    source, out = tmp_path / "in", tmp_path / "out" / "copy.zarr"
    source.mkdir()
    places = dict(enumerate([(0, 0), (0, 8)], 1))
    for field, (row, column) in places.items():
        data = staged.encode(pixels_of(field), PIXEL * row, PIXEL * column)
        (source / index_files.yokogawa_name("B02", field, 1, 1)).write_bytes(data)
    yokogawa(source, dict(enumerate(reversed(places.values()), 1)))
    cloudimg.migrate(source, out, place="stage", index_files=False)
    assert cloudimg.verify(out, against_source=True)


# -------------------------------------------------------------------------------- the command line


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = write(tmp_path, THREE)
    url, out = f"{tmp_path}/f{{field}}.tif", f"{tmp_path}/copy.zarr"
    assert main(["info", "--json", url, "--place", "stage"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["shape"] == [10, 28]
    assert facts["canvas"] == {"shape": [10, 28], "axes": ["field"]}
    assert main(["info", url, "--place", "stage"]) == 0
    shown = capsys.readouterr().out
    assert "10 x 28, on which files along field have places of their own" in shown
    assert main(["info", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["canvas"] is None
    assert main(["migrate", url, out, "--place", "stage", "--blend", "mean", "--flip", "y"]) == 0
    assert main(["verify", out, "--against-source"]) == 0
    import zarr

    flipped = {name: (-row, column) for name, (row, column) in THREE.items()}
    found = zarr.open(out)["0"][:]
    np.testing.assert_array_equal(found, on_canvas(flipped, fields, blend="mean"))
    (tmp_path / "f1.tif").write_bytes(staged.encode(pixels_of(1), None, None))
    capsys.readouterr()
    assert main(["info", url, "--place", "stage"]) == 4
    assert "--place stack stacks the fields" in capsys.readouterr().err


# -------------------------------------------------------------------------- a real acquisition


def test_fields_of_an_imagexpress_overlap_where_they_show_the_same(corpus: Path) -> None:
    """Their headers say 26 pixels, within which the pixels of both agree."""
    folder = corpus / "acquisitions/metaxpress"
    stacked = cloudimg.open(folder).read({"well": 1, "c": 0, "z": 0})
    image = cloudimg.open(folder, place="stage")
    found = image.read({"well": 1, "c": 0, "z": 0})
    assert found.shape == (256, 2 * 256 - 26)
    np.testing.assert_array_equal(found[:, :230], stacked[0, :, :230])
    np.testing.assert_array_equal(found[:, 230:], stacked[1])
    both = (stacked[0, :, 230:], stacked[1, :, :26])
    assert np.corrcoef(*(each.ravel().astype(float) for each in both))[0, 1] > 0.8
