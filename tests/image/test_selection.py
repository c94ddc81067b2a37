"""`Image.sel`, `Image.isel` and ``select=``: the part of an image, and all that is said of it."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import zarr
from dask.base import tokenize

import cloudimg
from cloudimg.errors import ArgumentError, GridError, MissingFilesError, NoMatchError
from tests.support import seed, staged
from tests.support.differing import geotiff, moved
from tests.support.metering import Meter
from tests.support.ome_set import write_dataset

Array = npt.NDArray[Any]

PIXELS = np.random.default_rng(19).integers(0, 2**16, (3, 2, 4, 20, 30), np.uint16)
"""t, c, z, y and x: files by t and by halves of y."""
PATTERN = "t{t}_y{y}.tif"


def put(folder: Path, name: str, pixels: Array, **options: Any) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(seed.encode(pixels, **options))


def put_all(folder: Path) -> str:
    """Files with t of 0, 2 and 4 that hold z and c, and halves of y; ImageJ's sizes of pixels."""
    for t in range(3):
        for y in range(2):
            part = PIXELS[t, :, :, 10 * y : 10 * y + 10].transpose(1, 0, 2, 3)
            metadata = {"axes": "ZCYX", "spacing": 3.0, "unit": "um", "finterval": 2.0}
            name = f"t{2 * t}_y{y}.tif"
            put(folder, name, part, imagej=True, metadata=metadata, resolution=(2, 2))
    return str(folder / PATTERN)


def taken(pixels: Array, dims: tuple[str, ...], chosen: dict[str, Any]) -> Array:
    """Pixels at positions along some axes, one axis after another."""
    for axis in reversed(range(len(dims))):
        if dims[axis] in chosen:
            at = np.arange(pixels.shape[axis])[chosen[dims[axis]]]
            pixels = np.take(pixels, at, axis)
    return pixels


def draw(rng: random.Random, length: int) -> Any:
    """A position, a slice, a list, or a mask."""
    kind = rng.randrange(4)
    some = sorted(rng.sample(range(length), rng.randint(1, length)))
    if kind == 0:
        return rng.randrange(-length, length)
    if kind == 1:
        return slice(some[0], some[-1] + 1, rng.randint(1, 3))
    return some if kind == 2 else np.isin(np.arange(length), some)


@pytest.mark.parametrize(
    "number", [n if n < 12 else pytest.param(n, marks=pytest.mark.slow) for n in range(60)]
)
def test_parts_of_parts_are_those_of_numpy(tmp_path: Path, number: int) -> None:
    rng = random.Random(number)
    url = put_all(tmp_path)
    whole = image = cloudimg.open(url)
    labelled = whole.to_xarray()
    expected = PIXELS
    for _ in range(rng.randint(1, 3)):
        chosen = {
            dim: draw(rng, length)
            for dim, length in zip(image.dims, image.shape, strict=True)
            if rng.random() < 0.5
        }
        expected = taken(expected, image.dims, chosen)
        labelled = labelled.isel(chosen)
        image = image.isel(chosen)
    assert image.shape == expected.shape
    np.testing.assert_array_equal(image.read(), expected)
    array = image.to_dask(chunks=2) if image.ndim else image.to_dask()
    np.testing.assert_array_equal(array.compute(), expected)
    # Coordinates stay where they were, those of axes that were dropped too.
    ours, theirs = image.to_xarray(), labelled
    assert {name: c.dims for name, c in ours.coords.items()} == {
        name: c.dims for name, c in theirs.coords.items()
    }
    for name in ours.coords:
        np.testing.assert_array_equal(ours.coords[name], theirs.coords[name], err_msg=str(name))
    arrived = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(arrived.read(), expected)
    assert arrived.attrs == image.attrs
    assert tokenize(arrived) == tokenize(image)
    assert tokenize(image) != tokenize(whole) or image.shape == whole.shape


def test_labels_of_files_channels_and_positions(tmp_path: Path) -> None:
    image = cloudimg.open(put_all(tmp_path))
    part = image.sel(t=slice(1, 4), z=slice(1, 3), y=12)  # labels 2 and 4, positions 1 and 2
    assert part.dims == ("t", "c", "z", "x")
    np.testing.assert_array_equal(part.read(), PIXELS[1:, :, 1:3, 12])
    assert list(part.coords["t"]) == [2, 4]
    assert part.coords["y"] == 12
    assert part.coords["y_label"] == 1
    assert part.sel(t=[4]).shape == (1, 2, 2, 30)
    assert part.isel(t=[0]).coords["t"] == [2]
    assert [file.url for file in part.files] == [str(tmp_path / f"t{t}_y1.tif") for t in (2, 4)]
    assert part.n_files == part.report.n_files == 2
    assert part.stored_nbytes == sum((tmp_path / f"t{t}_y1.tif").stat().st_size for t in (2, 4))
    assert image.sel().shape == image.shape
    assert image.sel({"t": 0}, c=1).dims == ("z", "y", "x")


def test_distances_between_pixels_follow_the_selection(tmp_path: Path) -> None:
    image = cloudimg.open(put_all(tmp_path))
    assert image.attrs["pixel_size"] == {"x": 0.5, "y": 0.5, "z": 3.0}
    part = image.isel(t=slice(None, None, 2), z=[0, 2], x=[0, 1, 5])
    assert part.attrs["pixel_size"] == {"y": 0.5, "z": 6.0}  # x is at uneven distances
    assert part.attrs["pixel_size_unit"] == {"y": "µm", "z": "µm"}
    assert part.attrs["time_step_s"] == 4.0
    assert image.attrs["time_step_s"] == 2.0
    assert part.isel(z=1).attrs["pixel_size"]["z"] == 3.0


def test_channels_have_names(tmp_path: Path) -> None:
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP", "Cy5", "BF"]}}
    pixels = np.arange(4 * 16 * 24, dtype=np.uint16).reshape(4, 16, 24)
    put(tmp_path, "one.ome.tif", pixels, ome=True, metadata=metadata)
    image = cloudimg.open(tmp_path / "one.ome.tif")
    np.testing.assert_array_equal(image.sel(c="GFP").read(), pixels[1])
    some = image.sel(c=["DAPI", "GFP", "BF"])
    np.testing.assert_array_equal(some.read(), pixels[[0, 1, 3]])
    assert some.attrs["channel_names"] == ["DAPI", "GFP", "BF"]
    np.testing.assert_array_equal(some.sel(c="BF").read(), pixels[3])
    np.testing.assert_array_equal(image.sel(c=slice("GFP", "BF")).read(), pixels[1:])
    np.testing.assert_array_equal(image.sel(c=2).read(), pixels[2])
    with pytest.raises(ArgumentError, match=r"c.*'DAP'.*named DAPI, GFP, Cy5, BF.*nearest: DAPI"):
        image.sel(c="DAP")


def test_channels_in_files_of_their_own_have_names(tmp_path: Path) -> None:
    for c, name in enumerate(("DAPI", "GFP"), start=1):
        metadata = {"axes": "YX", "Channel": {"Name": [name]}}
        put(tmp_path, f"c{c}.ome.tif", np.full((16, 24), c, np.uint16), ome=True, metadata=metadata)
    image = cloudimg.open(tmp_path / "c{c}.ome.tif")
    assert (image.sel(c="GFP").read() == 2).all()
    assert (image.sel(c=1).read() == 1).all()
    assert (image.sel(c="1").read() == 1).all()
    assert (cloudimg.open(tmp_path / "c{c}.ome.tif", select={"c": "GFP"}).read() == 2).all()


def test_text_time_and_number_labels(tmp_path: Path) -> None:
    for well in ("A1", "B03", "B10"):
        for hour in (9, 10, 11):
            name = f"{well}_20260131T{hour:02d}0000.tif"
            put(tmp_path, name, np.full((4, 5), hour, np.uint8))
    image = cloudimg.open(tmp_path / "{well:s}_{t:%Y%m%dT%H%M%S}.tif")
    assert image.sel(well="B03").dims == ("t", "y", "x")
    assert list(image.sel(well=slice("B03", None)).coords["well"]) == ["B03", "B10"]
    assert image.sel(well="A1:B03").shape[0] == 2
    ten = np.datetime64("2026-01-31T10:00")
    for value in (ten, "2026-01-31T10:00:00", ten.astype(object)):
        assert (image.sel(t=value).read() == 10).all()
    for part in (
        slice(ten, None),
        "2026-01-31T09:30:2026-01-31T12:00",
        slice("2026-01-31T10", None),
    ):
        assert image.sel(t=part).shape == (3, 2, 4, 5)
    with pytest.raises(ArgumentError, match=r"well.*'B3'.*A1, B03, B10.*nearest: B03"):
        image.sel(well="B3")


def test_what_cannot_be_selected(tmp_path: Path) -> None:
    image = cloudimg.open(put_all(tmp_path))
    for part, message in (
        ({"t": 3}, r'sel={"t": 3} is not there: t has 0, 2, 4; the nearest: 0, 2, 4'),
        ({"q": 0}, "names the axis 'q', but the axes of the image are t, c, z, y, x"),
        ({"z": 4}, "positions along z are 0 to 3"),
        ({"z": 1.5}, r"1.5} must be a position.*to_xarray\(\).sel\(\)"),
        ({"t": slice(5, 9)}, "selects nothing: t has 0, 2, 4"),
        ({"t": [4, 0]}, "in the order of the image"),
        ({"z": [1, 1]}, "name each position once"),
        ({"z": slice(3, 0, -1)}, "step must be a positive integer"),
        ({"z": "a:b"}, "positions along z are 0 to 3"),
        ({"z": [True, False]}, "a mask of 2 values for z, which has 4"),
        ({"z": True}, "must be a position"),
        ({"t": None}, "t has 0, 2, 4"),
    ):
        with pytest.raises(ArgumentError, match=message):
            image.sel(part)
    with pytest.raises(ArgumentError, match="expected a mapping"):
        image.sel("t=0")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="select='t=0' must map names of axes"):
        cloudimg.open(str(tmp_path / PATTERN), select="t=0")  # type: ignore[arg-type]


@pytest.mark.parametrize("number", range(12))
def test_open_selects_as_sel_does(tmp_path: Path, number: int) -> None:
    rng = random.Random(number)
    url = put_all(tmp_path)
    image = cloudimg.open(url)
    part: dict[str, Any] = {
        "t": rng.choice([0, [0, 4], slice(2, None), "2:4", ["0", "2"]]),
        "y": rng.choice([slice(12, 15), 3, [0, 9, 10], "8:12"]),
        "c": rng.choice([1, [0], "1"]),
        "x": rng.choice([slice(0, 30, 7), "3:20:2"]),
    }
    for axis in rng.sample(sorted(part), rng.randint(0, 2)):
        del part[axis]
    first, second = image.sel(part), cloudimg.open(url, select=part)
    np.testing.assert_array_equal(second.read(), first.read())
    assert second.dims == first.dims
    assert second.attrs == first.attrs
    assert list(second.files) == list(first.files)
    for name, values in first.coords.items():
        np.testing.assert_array_equal(second.coords[name], values)


def test_files_that_are_left_out_need_not_be_there_nor_be_right(tmp_path: Path) -> None:
    for t in range(3):
        for z in range(2):
            put(tmp_path, f"t{t}_z{z}.tif", np.full((4, 5), 10 * t + z, np.uint8))
    (tmp_path / "t1_z1.tif").unlink()
    (tmp_path / "t2_z0.tif").write_bytes(b"no image")
    url = str(tmp_path / "t{t}_z{z}.tif")
    with pytest.raises(MissingFilesError):
        cloudimg.open(url)
    image = cloudimg.open(url, select={"t": 0}, validate="all")
    assert (image.read()[:, 0, 0] == [0, 1]).all()
    with pytest.raises(MissingFilesError, match="t=1, z=1"):
        cloudimg.open(url, select={"t": [0, 1]})
    filled = cloudimg.open(url, missing="fill", bad="fill", validate="all")
    assert filled.report.total == 2
    part = filled.sel(t=1)
    assert part.missing == ({"t": 1, "z": 1},)
    assert part.n_missing == 1
    assert [each.kind for each in part.report.kinds] == ["missing"]
    assert not filled.sel(t=0).report
    with pytest.raises(NoMatchError, match="none of the files that were selected exist"):
        filled.sel(t=1, z=1)


def test_a_part_of_which_whole_rows_are_missing(tmp_path: Path) -> None:
    for name in ("t0_z0_c0", "t0_z1_c0", "t1_z1_c0", "t0_z0_c1"):
        put(tmp_path, f"{name}.tif", np.full((4, 5), 7, np.uint8))
    url = str(tmp_path / "t{t}_z{z}_c{c}.tif")
    image = cloudimg.open(url, select={"c": 1}, missing="fill")
    assert (image.read()[:, :, 0, 0] == [[7, 0], [0, 0]]).all()
    with pytest.raises(MissingFilesError, match="t=0 has only z=0, t=1 has no files"):
        cloudimg.open(url, select={"c": 1})


def test_levels_show_the_same_part(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (100, 130), np.uint8)
    with tifffile.TiffWriter(tmp_path / "slide.tif") as file:
        file.write(pixels, subifds=2, tile=(32, 32))
        for step in (2, 4):
            file.write(pixels[::step, ::step], subfiletype=1, tile=(32, 32))
    image = cloudimg.open(tmp_path / "slide.tif")
    part = image.isel(x=slice(11, 90), y=slice(40, None))
    assert [level.shape for level in part.levels] == [(60, 79), (30, 40), (15, 21)]
    assert part.levels[1].downsampling == (2, 2)
    np.testing.assert_array_equal(part.read(level=1), pixels[::2, ::2][20:, 5:45])
    np.testing.assert_array_equal(part.read(level=2), pixels[::4, ::4][10:, 2:23])
    assert len(image.isel(x=slice(0, 90, 2)).levels) == 1  # no level has every second pixel
    assert image.isel(y=41).read(level=1).tolist() == pixels[::2, ::2][20].tolist()


def test_planes_of_a_dataset(tmp_path: Path) -> None:
    pixels = write_dataset(tmp_path / "set")
    image = cloudimg.open(tmp_path / "set" / "t0.ome.tif")
    part = image.sel(t=[0, 2], z=1, y=slice(8, 16))
    np.testing.assert_array_equal(part.read(), pixels[::2, 1, 8:16])
    assert part.n_files == 2
    assert {file.url.rpartition("/")[2] for file in part.files} == {"t0.ome.tif", "t2.ome.tif"}
    (tmp_path / "set" / "t1.ome.tif").unlink()
    filled = cloudimg.open(tmp_path / "set" / "t0.ome.tif", missing="fill")
    assert filled.sel(t=[0, 1]).n_missing == 2
    with pytest.raises(NoMatchError, match="none of the files that were selected exist"):
        filled.sel(t=1)
    assert not filled.sel(t=2).report
    chosen = cloudimg.open(tmp_path / "set" / "t0.ome.tif", missing="fill", select={"t": "2"})
    np.testing.assert_array_equal(chosen.read(), pixels[2])


def test_selecting_asks_the_store_for_nothing(meter: Meter, bucket: str) -> None:
    whole = np.arange(6 * 8 * 9, dtype=np.uint16).reshape(6, 8, 9)
    for z in range(6):
        meter.put(bucket, f"z{z}.tif", seed.encode(whole[z]))
    url, options = f"s3://{bucket}/z{{z}}.tif", meter.storage_options
    image = cloudimg.open(url, storage_options=options)
    with meter.measure() as traffic:
        part = image.sel(z=[1, 4]).isel(y=slice(2, 5))
        assert part.to_dask().shape == (2, 3, 9)
    assert not traffic.requests
    with meter.measure() as traffic:
        np.testing.assert_array_equal(part.read(), whole[[1, 4], 2:5])
    assert {request.key for request in traffic.requests} == {"z1.tif", "z4.tif"}


def test_pixels_of_one_segment_are_read_at_once(meter: Meter, bucket: str) -> None:
    whole = np.random.default_rng(0).integers(0, 2**16, (3, 64, 96), np.uint16)
    meter.put(bucket, "z.tif", seed.encode(whole, tile=(32, 32), photometric="minisblack"))
    image = cloudimg.open(f"s3://{bucket}/z.tif", storage_options=meter.storage_options)
    first = image.dims[0]
    with meter.measure() as traffic:
        image.isel({first: slice(0, 3, 2), "y": slice(0, 32), "x": slice(32, 64)}).read()
    n_plain = traffic.gets
    rows, columns = [1, 3, 4, 9, 30], [33, 34, 37, 41, 42, 50, 63]
    with meter.measure() as traffic:
        found = image.isel({first: [0, 2], "y": rows, "x": columns}).read()
    np.testing.assert_array_equal(found, whole[[0, 2]][:, rows][:, :, columns])
    assert traffic.gets <= n_plain


def test_a_part_opens_with_one_listing(meter: Meter, bucket: str) -> None:
    whole = np.arange(6 * 8 * 9, dtype=np.uint16).reshape(6, 8, 9)
    for z in range(6):
        meter.put(bucket, f"z{z}.tif", seed.encode(whole[z]))
    url, options = f"s3://{bucket}/z{{z}}.tif", meter.storage_options
    with meter.measure() as plain:
        cloudimg.open(url, storage_options=options)
    with meter.measure() as selected:
        part = cloudimg.open(url, storage_options=options, select={"z": slice(3, 4)})
    assert part.shape == (2, 8, 9)
    # The first file says what the axes are, the first selected one speaks for the part.
    assert (selected.lists, selected.gets) == (plain.lists, plain.gets + 1)


def test_a_part_of_a_map_stays_where_it_is(tmp_path: Path) -> None:
    whole = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40)
    for y, x in np.ndindex(2, 2):
        tile = whole[12 * y : 12 * y + 12, 20 * x : 20 * x + 20]
        geotiff(tmp_path / f"{x}_{y}.tif", moved(20 * x, 12 * y), pixels=tile)
    url = str(tmp_path / "{x}_{y}.tif")
    image = cloudimg.open(url)
    labelled = image.to_xarray()
    for part in (
        {"x": slice(3, 33), "y": slice(14, 20)},
        {"x": slice(21, None, 3), "y": slice(1, None, 2)},
        {"x": 25, "y": [13]},
        {"x": [1, 2, 30]},
    ):
        for found in (image.sel(part), cloudimg.open(url, select=part)):
            array, expected = found.to_xarray(), labelled.isel(part)
            np.testing.assert_array_equal(array, expected)
            np.testing.assert_allclose(array.x, expected.x)
            np.testing.assert_allclose(array.y, expected.y)
            geo = found.attrs["geo"]
            assert geo["epsg"] == 32633
            if "transform" in geo:
                a, _, c, _, e, f = geo["transform"]
                np.testing.assert_allclose(array.x.values.ravel()[0], c + a / 2)
                np.testing.assert_allclose(array.y.values.ravel()[0], f + e / 2)
                placed = array.spatial_ref.attrs.get("GeoTransform", f"{c} {a} 0 {f} 0 {e}")
                assert ("x" in array.dims) == ("GeoTransform" in array.spatial_ref.attrs)
                numbers = [float(number) for number in placed.split()]
                assert numbers == pytest.approx([c, a, 0, f, 0, e])
            assert ("transform" in geo) == (part != {"x": [1, 2, 30]})


@pytest.mark.parametrize("options", [{}, {"align": "outer"}], ids=["by name", "by transform"])
def test_a_map_of_which_one_tile_is_left_stays_where_it_is(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    for t, y in ((0, 0), (0, 1), (1, 1)):
        pixels = np.full((12, 20), 10 * t + y + 1, np.uint8)
        geotiff(tmp_path / f"t{t}_y{y}.tif", moved(0, 12 * y), pixels=pixels)
    url = str(tmp_path / "t{t}_y{y}.tif")
    expected = cloudimg.open(url, missing="fill", **options).to_xarray().isel(t=1)
    chosen = cloudimg.open(url, missing="fill", select={"t": 1}, **options)
    array = chosen.to_xarray()
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(array.y, expected.y)
    assert chosen.attrs["geo"]["transform"] == list(moved(0, 0))[:6]


def test_fields_on_a_canvas(tmp_path: Path) -> None:
    fields = {}
    for t in range(2):
        for number, (row, column) in enumerate(((0, 0), (4, 5), (2, 20))):
            pixels = np.full((6, 8), 10 * t + number + 1, np.uint16)
            data = staged.encode(pixels, 0.5 * row, 0.5 * column)
            (tmp_path / f"t{t}_f{number}.tif").write_bytes(data)
            fields[t, number] = pixels
    url = str(tmp_path / "t{t}_f{field}.tif")
    image = cloudimg.open(url, place="stage")
    whole = image.read()
    for part in ({"t": 1}, {"y": slice(3, 8), "x": slice(4, 25, 2)}, {"t": [1], "x": [3, 4, 24]}):
        expected = taken(whole, image.dims, part)
        np.testing.assert_array_equal(image.sel(part).read(), expected)
        chosen = cloudimg.open(url, place="stage", select=part)
        np.testing.assert_array_equal(chosen.read(), expected)


@pytest.mark.parametrize("options", [{"allow_differences": "origin"}, {"align": "outer"}], ids=str)
@pytest.mark.parametrize("part", [{"t": 2}, {"t": slice(0, 2)}, {"y": slice(2, 5)}], ids=str)
def test_a_copy_of_a_part_has_the_files_of_the_part(
    tmp_path: Path, options: dict[str, Any], part: dict[str, Any]
) -> None:
    """Files that came since the image was opened do not take the place of others."""
    for t in (0, 2, 4):
        geotiff(tmp_path / f"t{t}.tif", moved(t, t), pixels=np.full((12, 20), t + 1, np.uint8))
    url, out = str(tmp_path / "t{t}.tif"), tmp_path / "copy.zarr"
    image = cloudimg.open(url, **options).sel(part)
    geotiff(tmp_path / "t1.tif", moved(1, 1), pixels=np.full((12, 20), 2, np.uint8))
    image.to_zarr(out)
    copied = zarr.open_group(out, mode="r")["0"]
    np.testing.assert_array_equal(copied[:], image.read())
    assert cloudimg.verify(out, against_source=True)


def test_a_copy_of_a_part_refuses_files_that_it_cannot_tell_from_its_own(tmp_path: Path) -> None:
    for name in ("t0_z0_c0", "t0_z1_c0", "t1_z1_c0", "t0_z0_c1"):
        put(tmp_path, f"{name}.tif", np.full((4, 5), 7, np.uint8))
    part = cloudimg.open(tmp_path / "t{t}_z{z}_c{c}.tif", missing="fill").sel(c=1)
    put(tmp_path, "t1_z0_c1.tif", np.full((4, 5), 9, np.uint8))
    with pytest.raises(GridError, match=r"1 file added \(.*t1_z0_c1.*open it again"):
        part.to_zarr(tmp_path / "copy.zarr")


def test_a_copy_of_a_part_of_a_table_is_complete(tmp_path: Path) -> None:
    table = cloudimg.open(put_all(tmp_path)).table()
    part = cloudimg.open(table).sel(t=[0, 4], z=slice(1, 3))
    for n_objects in (True, False):
        done = part.to_zarr(tmp_path / "copy.zarr")
        assert bool(done.n_objects) == n_objects
        assert "newer-files" not in {note.kind for note in done.notes}
    copied = zarr.open_group(tmp_path / "copy.zarr", mode="r")["0"]
    np.testing.assert_array_equal(copied[:], PIXELS[::2, :, 1:3])


def test_a_copy_of_one_label_on_a_canvas_is_not_that_of_another(tmp_path: Path) -> None:
    for t in (0, 2):
        geotiff(tmp_path / f"t{t}.tif", moved(t, t), pixels=np.full((12, 20), t + 1, np.uint8))
    url, out = str(tmp_path / "t{t}.tif"), str(tmp_path / "copy.zarr")
    cloudimg.migrate(url, out, align="outer", select={"t": 2})
    geotiff(tmp_path / "t1.tif", moved(1, 1), pixels=np.full((12, 20), 2, np.uint8))
    with pytest.raises(ArgumentError, match="another part of the image"):
        cloudimg.migrate(url, out, align="outer", select={"t": 1})


def test_lists_tables_and_imread(tmp_path: Path) -> None:
    url = put_all(tmp_path)
    urls = [str(tmp_path / f"t{t}_y0.tif") for t in (4, 0, 2)]
    listed = cloudimg.open(urls, select={"file": ["t4_y0.tif", "t2_y0.tif"]})
    np.testing.assert_array_equal(listed.read(), PIXELS[[2, 1], :, :, :10].transpose(0, 1, 2, 3, 4))
    first = cloudimg.open(urls, select={"file": slice("t4_y0.tif", "t0_y0.tif")})
    assert first.coords["file"].tolist() == ["t4_y0.tif", "t0_y0.tif"]
    tabled = cloudimg.open(cloudimg.open(url).table(), select={"t": slice(2, 4), "y": slice(8, 12)})
    np.testing.assert_array_equal(tabled.read(), PIXELS[1:, :, :, 8:12])
    array = cloudimg.imread(url, select={"t": 2, "c": 0})
    np.testing.assert_array_equal(array.compute(), PIXELS[1, 0])
