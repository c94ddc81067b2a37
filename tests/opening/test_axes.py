"""The one rule of axes, order, labels and coordinates, holes, renaming, chunks."""

from __future__ import annotations

import datetime
import io
import os
import pickle
import time
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.errors import ArgumentError, GridError, MismatchError, MissingFilesError
from tests.conftest import Place
from tests.support import seed


def put(folder: Path, name: str, pixels: Any, **options: Any) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(seed.encode(np.asarray(pixels), **options))


def plane(value: int) -> np.ndarray[Any, Any]:
    return np.full((16, 24), value, np.uint16)


def test_files_stack_along_an_axis_that_they_lack(tmp_path: Path) -> None:
    for z in range(3):
        put(tmp_path, f"z{z}.tif", plane(z))
    image = cloudimg.open(tmp_path / "z{z}.tif")
    assert image.dims == ("z", "y", "x")
    assert image.shape == (3, 16, 24)
    assert (image.read()[:, 0, 0] == [0, 1, 2]).all()


def test_files_concatenate_along_an_axis_that_they_have(tmp_path: Path) -> None:
    """Slabs of z, the last one shorter."""
    stack = np.arange(8 * 16 * 24, dtype=np.uint16).reshape(8, 16, 24)
    for i, part in enumerate((stack[:3], stack[3:6], stack[6:])):
        put(tmp_path, f"slab{i}.tif", part, imagej=True, metadata={"axes": "ZYX"})
    image = cloudimg.open(tmp_path / "slab{z}.tif")
    assert image.dims == ("z", "y", "x")
    assert image.shape == (8, 16, 24)
    np.testing.assert_array_equal(image.read(), stack)
    np.testing.assert_array_equal(image.read((slice(1, 8, 3), 4)), stack[1:8:3, 4])
    assert list(image.coords["z"]) == list(range(8))
    assert list(image.coords["z_label"]) == [0, 0, 0, 1, 1, 1, 2, 2]


def test_pages_can_be_named_and_then_concatenate(tmp_path: Path) -> None:
    stack = np.arange(6 * 16 * 24, dtype=np.uint16).reshape(6, 16, 24)
    for i in range(3):
        put(tmp_path, f"slab{i}.tif", stack[2 * i : 2 * i + 2], metadata=None)
    stacked = cloudimg.open(tmp_path / "slab{z}.tif")
    assert stacked.dims == ("page", "z", "y", "x")
    joined = cloudimg.open(tmp_path / "slab{z}.tif", axes={"page": "z"})
    assert joined.dims == ("z", "y", "x")
    np.testing.assert_array_equal(joined.read(), stack)
    with pytest.raises(ArgumentError, match="but the files have"):
        cloudimg.open(tmp_path / "slab{z}.tif", axes={"slice": "z"})


def test_order_of_axes(tmp_path: Path) -> None:
    rgb = np.zeros((16, 24, 3), np.uint8)
    put(tmp_path, "B03/x1_f2_z3_ch0_t5.tif", rgb, photometric="rgb")
    pattern = tmp_path / "{well:s}/x1_f{f}_z{z}_ch{c}_t{t}.tif"
    image = cloudimg.open(pattern)
    assert image.dims == ("well", "f", "t", "c", "z", "y", "x", "s")
    dims = ["s", "z", "x", "y", "well", "t", "c", "f"]
    chosen = cloudimg.open(pattern, dims=dims)
    assert chosen.dims == tuple(dims)
    assert chosen.shape == (3, 1, 24, 16, 1, 1, 1, 1)
    with pytest.raises(ArgumentError, match="must name each axis"):
        cloudimg.open(pattern, dims=["y", "x"])


def test_reordered_axes_hold_the_same_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (4, 16, 24, 3), np.uint8)
    for t in range(4):
        put(tmp_path, f"t{t}.tif", pixels[t], photometric="rgb", compression="zlib", tile=(16, 16))
    image = cloudimg.open(tmp_path / "t{t}.tif", dims=["s", "x", "t", "y"])
    np.testing.assert_array_equal(image.read(), pixels.transpose(3, 2, 0, 1))
    lazy = image.to_dask(chunks={"x": 5, "t": 3})
    np.testing.assert_array_equal(lazy.compute(), pixels.transpose(3, 2, 0, 1))


def test_labels_stay_labels(tmp_path: Path) -> None:
    for position in (2, 76, 218):
        for well in ("B03", "B10", "A1"):
            put(tmp_path, f"{well}_p{position}.tif", plane(position))
    image = cloudimg.open(tmp_path / "{well:s}_p{pos}.tif")
    assert list(image.coords["pos"]) == [2, 76, 218]
    assert list(image.coords["well"]) == ["A1", "B03", "B10"]
    assert (image.read()[0, :, 0, 0] == [2, 76, 218]).all()
    array = image.to_xarray()
    assert array.sel(pos=76, well="B10").dims == ("y", "x")
    assert int(array.sel(pos=76, well="B10")[0, 0]) == 76


def test_times_floats_and_negatives(tmp_path: Path) -> None:
    for hour in (9, 10):
        for dose in (-1.5, 0.25):
            put(tmp_path, f"t20260131T{hour:02d}0000_d{dose:.2f}.tif", plane(hour))
    image = cloudimg.open(tmp_path / "t{t:%Y%m%dT%H%M%S}_d{dose:f}.tif")
    assert image.dims == ("dose", "t", "y", "x")
    assert list(image.coords["dose"]) == [-1.5, 0.25]
    assert image.coords["t"].dtype.kind == "M"
    assert image.coords["t"][1].astype(object) == datetime.datetime(2026, 1, 31, 10)


def test_a_plain_glob_stacks_in_natural_order(tmp_path: Path) -> None:
    for i in (1, 2, 10):
        put(tmp_path, f"img{i}.tif", plane(i))
    image = cloudimg.open(str(tmp_path / "img*.tif"))
    assert image.dims == ("file", "y", "x")
    assert (image.read()[:, 0, 0] == [1, 2, 10]).all()
    assert list(image.coords["file"]) == ["img1.tif", "img2.tif", "img10.tif"]


def test_a_list_keeps_its_order_and_one_file_is_itself(tmp_path: Path) -> None:
    for i in (1, 2, 3):
        put(tmp_path, f"img{i}.tif", plane(i))
    image = cloudimg.open([tmp_path / "img3.tif", str(tmp_path / "img1.tif")])
    assert (image.read()[:, 0, 0] == [3, 1]).all()
    assert cloudimg.open(tmp_path / "img2.tif").dims == ("y", "x")
    with pytest.raises(ArgumentError, match="empty list"):
        cloudimg.open([])


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "sub/z1.tif", plane(1))
    monkeypatch.chdir(tmp_path)
    assert cloudimg.open("sub/z{z}.tif").shape == (1, 16, 24)
    assert cloudimg.open("./sub/z1.tif").shape == (16, 24)


def test_wildcards_name_no_axis(tmp_path: Path) -> None:
    for z in range(3):
        put(tmp_path, f"run_{z * 7919:x}/img_{z}_guid{z * 104729:x}.tif", plane(z))
    image = cloudimg.open(tmp_path / "run_*/img_{z}_guid*.tif")
    assert image.dims == ("z", "y", "x")
    assert (image.read()[:, 0, 0] == [0, 1, 2]).all()
    assert (image.to_dask(chunks=1).compute()[:, 0, 0] == [0, 1, 2]).all()


def test_numbers_written_in_two_ways(tmp_path: Path) -> None:
    """{z} matches 7 and 08 alike; names must then be remembered, not made."""
    for name, z in (("7", 7), ("08", 8), ("9", 9)):
        put(tmp_path, f"a{name}_b{z}.tif", plane(z))
    image = cloudimg.open(tmp_path / "a{z}_b{z}.tif")
    assert list(image.coords["z"]) == [7, 8, 9]
    assert (image.read()[:, 0, 0] == [7, 8, 9]).all()


def test_holes_raise_or_fill(tmp_path: Path) -> None:
    for t in range(2):
        for z in range(3):
            if (t, z) != (1, 1):
                put(tmp_path, f"t{t}_z{z}.tif", plane(10 * t + z))
    pattern = tmp_path / "t{t}_z{z}.tif"
    with pytest.raises(MissingFilesError, match=r"1 file of.*t=1, z=1.*missing=\"fill\""):
        cloudimg.open(pattern)
    image = cloudimg.open(pattern, missing="fill", fill_value=999)
    assert image.missing == ({"t": 1, "z": 1},)
    assert image.n_missing == 1
    assert image.n_files == 5
    assert (image.read()[:, :, 0, 0] == [[0, 1, 2], [10, 999, 12]]).all()
    assert (image.to_dask(chunks=1).compute()[:, :, 0, 0] == [[0, 1, 2], [10, 999, 12]]).all()
    with pytest.raises(ArgumentError, match="fill_value"):
        cloudimg.open(pattern, missing="fill", fill_value=-1)
    with pytest.raises(ArgumentError, match="missing='maybe'"):
        cloudimg.open(pattern, missing="maybe")  # type: ignore[arg-type]


def test_a_hole_at_the_corner_of_a_mosaic(tmp_path: Path) -> None:
    """The last tile along an axis is found although the first of that row is missing."""
    for y in range(2):
        for x in range(2):
            if (y, x) != (1, 0):
                put(tmp_path, f"{x}x_{y}y.tif", np.full((16 - 6 * y, 24), 1 + x + 2 * y, "u2"))
    image = cloudimg.open(tmp_path / "{x}x_{y}y.tif", missing="fill")
    assert image.shape == (26, 48)
    pixels = image.read()
    assert (pixels[16:, :24] == 0).all()
    assert (pixels[16:, 24:] == 4).all()


def test_tiles_are_stacked(tmp_path: Path) -> None:
    for y in range(2):
        for x in range(3):
            put(tmp_path, f"{x}x_{y}y.tif", plane(10 * y + x))
    image = cloudimg.open(tmp_path / "{x}x_{y}y.tif", place="stack")
    assert image.dims == ("tile_x", "tile_y", "y", "x")
    assert (image.read()[:, :, 0, 0] == [[0, 10], [1, 11], [2, 12]]).all()


def ome_tile(position: float) -> bytes:
    return seed.encode(
        plane(1),
        ome=True,
        metadata={
            "axes": "YX",
            "PhysicalSizeX": 0.5,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": 0.5,
            "PhysicalSizeYUnit": "µm",
            "Plane": {
                "PositionX": [position],
                "PositionXUnit": ["µm"],
                "PositionY": [0.0],
                "PositionYUnit": ["µm"],
            },
        },
    )


def test_overlapping_stage_positions_are_refused(tmp_path: Path) -> None:
    for step, name in ((24 * 0.5, "apart"), (20 * 0.5, "overlapping")):
        for x in range(3):
            (tmp_path / f"{name}{x}.ome.tif").write_bytes(ome_tile(x * step))
    assert cloudimg.open(tmp_path / "apart{x}.ome.tif").shape == (16, 72)
    with pytest.raises(GridError, match=r'20 pixels apart, but each is 24 .*place="stack"'):
        cloudimg.open(tmp_path / "overlapping{x}.ome.tif")
    assert cloudimg.open(tmp_path / "overlapping{x}.ome.tif", place="stack").shape == (3, 16, 24)
    assert cloudimg.open(tmp_path / "overlapping{pos}.ome.tif").dims == ("pos", "y", "x")


def test_validate_first_finds_the_odd_file_when_it_is_read(tmp_path: Path) -> None:
    for z in range(4):
        put(tmp_path, f"z{z}.tif", plane(z) if z != 2 else np.zeros((16, 25), np.uint16))
    image = cloudimg.open(tmp_path / "z{z}.tif")
    assert (image.read({"z": 1}) == 1).all()
    with pytest.raises(MismatchError, match=r"z2\.tif.*\(16, 25\) instead of \(16, 24\).*z0\.tif"):
        image.read()
    with pytest.raises(MismatchError, match=r"z2\.tif.*pass validate=\"all\" to list every file"):
        image.to_dask().compute()


def test_validate_all_reports_every_odd_file(tmp_path: Path) -> None:
    odd = {2: np.zeros((16, 25), np.uint16), 4: np.zeros((16, 24), np.uint8)}
    for z in range(6):
        put(tmp_path, f"z{z}.tif", odd.get(z, plane(z)))
    (tmp_path / "z5.tif").write_bytes(b"no image")
    with pytest.raises(MismatchError) as caught:
        cloudimg.open(tmp_path / "z{z}.tif", validate="all")
    text = str(caught.value)
    assert text.startswith("3 of 6 files do not fit the grid: ")
    assert "validate=" not in text  # as the call has it
    for part in ("z2.tif", "(16, 25)", "z4.tif", "uint8", "z5.tif", "not a TIFF"):
        assert part in text
    for z in odd:
        put(tmp_path, f"z{z}.tif", plane(z))
    put(tmp_path, "z5.tif", plane(5))
    image = cloudimg.open(tmp_path / "z{z}.tif", validate="all")
    assert (image.read()[:, 0, 0] == range(6)).all()


def test_validate_all_allows_irregular_tiles_in_the_middle(tmp_path: Path) -> None:
    widths = [24, 10, 30]
    for y in range(2):
        for x, width in enumerate(widths):
            put(tmp_path, f"{x}x_{y}y.tif", np.full((16, width), x + 10 * y, np.uint16))
    image = cloudimg.open(tmp_path / "{x}x_{y}y.tif", validate="all")
    assert image.shape == (32, 64)
    assert (image.read()[0] == np.repeat([0, 1, 2], widths)).all()
    put(tmp_path, "1x_1y.tif", np.zeros((16, 11), np.uint16))
    with pytest.raises(MismatchError, match=r"1x_\dy\.tif") as caught:
        cloudimg.open(tmp_path / "{x}x_{y}y.tif", validate="all")
    assert "validate=" not in str(caught.value)


def test_one_file_of_a_multi_file_ome_set_is_read_alone(tmp_path: Path) -> None:
    """Its OME-XML describes planes of other files, which must not be read as zeros."""
    import uuid

    names = [f"set_z{z}.ome.tif" for z in range(2)]
    ids = [f"urn:uuid:{uuid.UUID(int=z + 1)}" for z in range(2)]
    data = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{names[z]}">{ids[z]}'
        "</UUID></TiffData>"
        for z in range(2)
    )
    for z in range(2):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?><OME '
            'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{ids[z]}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
            'Type="uint16" SizeX="24" SizeY="16" SizeZ="2" SizeC="1" SizeT="1">'
            f"{data}</Pixels></Image></OME>"
        )
        put(tmp_path, names[z], plane(z + 1), description=xml, metadata=None)
    image = cloudimg.open(tmp_path / "set_z{z}.ome.tif")
    assert image.dims == ("z", "y", "x")
    assert (image.read()[:, 0, 0] == [1, 2]).all()
    followed = cloudimg.open(tmp_path / names[0])
    assert (followed.dims, followed.n_files) == (("z", "y", "x"), 2)
    assert (followed.read()[:, 0, 0] == [1, 2]).all()
    assert (cloudimg.open([tmp_path / names[0]]).read() == 1).all()
    (tmp_path / names[1]).unlink()
    with pytest.raises(MissingFilesError, match=r"1 of 2 planes .* set_z1\.ome\.tif"):
        cloudimg.open(tmp_path / names[0])


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (-1, ((4,), (16,), (24,))),
        (8, ((4,), (8, 8), (8, 8, 8))),
        ((1, 16, 24), ((1,) * 4, (16,), (24,))),
        ({"z": 3}, ((3, 1), (16,), (24,))),
        ({"z": 2, "x": -1}, ((2, 2), (16,), (24,))),
        (((1, 3), (16,), (20, 4)), ((1, 3), (16,), (20, 4))),
        (("auto", 8, -1), ((4,), (8, 8), (24,))),
        ("auto", ((4,), (16,), (24,))),
    ],
    ids=str,
)
def test_chunks(tmp_path: Path, chunks: Any, expected: Any) -> None:
    for z in range(4):
        put(tmp_path, f"z{z}.tif", plane(z))
    image = cloudimg.open(tmp_path / "z{z}.tif")
    array = image.to_dask(chunks=chunks)
    assert array.chunks == expected
    np.testing.assert_array_equal(array.compute(), image.read())
    assert cloudimg.imread(tmp_path / "z{z}.tif", chunks=chunks).chunks == expected


@pytest.mark.parametrize("chunks", [0, -2, (1, 2), {"q": 1}, "huge", ((1, 1), (16,), (24,))])
def test_impossible_chunks(tmp_path: Path, chunks: Any) -> None:
    for z in range(4):
        put(tmp_path, f"z{z}.tif", plane(z))
    with pytest.raises(ArgumentError, match="chunk"):
        cloudimg.imread(tmp_path / "z{z}.tif", chunks=chunks)


def test_automatic_chunks_cut_no_tile(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (1000, 1300), np.uint8)
    put(tmp_path, "big.tif", pixels, tile=(64, 128))
    with dask.config.set({"array.chunk-size": "100kB"}):
        array = cloudimg.imread(tmp_path / "big.tif")
    assert array.npartitions > 10
    for lengths, tile in zip(array.chunks, (64, 128), strict=True):
        assert all(n % tile == 0 for n in lengths[:-1])
        assert max(lengths) * min(max(c) for c in array.chunks) <= 100_000
    np.testing.assert_array_equal(array.compute(), pixels)


def test_equal_images_have_equal_names_and_changed_ones_do_not(tmp_path: Path) -> None:
    for z in range(3):
        put(tmp_path, f"z{z}.tif", plane(z))
    pattern = tmp_path / "z{z}.tif"
    first, again = cloudimg.imread(pattern), cloudimg.imread(pattern)
    assert first.name == again.name
    assert cloudimg.imread(pattern, chunks=1).name != first.name
    put(tmp_path, "z1.tif", plane(7))
    changed = cloudimg.imread(pattern)
    assert changed.name != first.name
    both = dask.compute(first[0, 0, 0], cloudimg.imread(pattern, chunks=1)[1, 0, 0])
    assert both == (0, 7)


def test_repr_and_files(tmp_path: Path) -> None:
    for z in range(3):
        put(tmp_path, f"z{z}.tif", plane(z))
    image = cloudimg.open(tmp_path / "z{z}.tif")
    text = repr(image)
    for part in ("z: 3, y: 16, x: 24", "uint16", "files: 3", "z: 0 1 2", "z{z}.tif"):
        assert part in text
    files = list(image.files)
    assert [Path(file.url).name for file in files] == ["z0.tif", "z1.tif", "z2.tif"]
    assert files[1].labels == {"z": 1}
    assert files[1].index == {"z": 1}
    assert files[1].size_bytes == (tmp_path / "z1.tif").stat().st_size
    assert image.nbytes == 3 * 16 * 24 * 2
    assert np.asarray(image).shape == (3, 16, 24)
    assert image.levels[0].segment == {"y": 16, "x": 24}


def test_series(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(plane(1), photometric="minisblack")
        writer.write(np.zeros((5, 8, 8), np.uint8), photometric="minisblack")
    (tmp_path / "two.tif").write_bytes(file.getvalue())
    assert cloudimg.open(tmp_path / "two.tif").shape == (16, 24)
    assert cloudimg.open(tmp_path / "two.tif", series=1).shape == (5, 8, 8)
    with pytest.raises(cloudimg.CloudimgError, match=r"series=2, but .* has 2 images"):
        cloudimg.open(tmp_path / "two.tif", series=2)


@pytest.mark.parametrize(
    "odd",
    [
        plane(1).astype(np.int16),
        np.zeros((24, 16), np.uint16),
        np.zeros((16, 12), np.uint32),
    ],
    ids=["sign", "transposed", "wider type"],
)
def test_headers_that_differ_in_one_byte_are_not_taken_for_equal(
    tmp_path: Path, odd: np.ndarray[Any, Any]
) -> None:
    """Files of one size and layout share a parsed header only where every byte of it agrees."""
    for z in range(6):
        put(tmp_path, f"z{z}.tif", plane(z) if z != 4 else odd, metadata=None)
    for path in tmp_path.iterdir():  # to one size, whatever the tags take
        path.write_bytes(path.read_bytes().ljust(2000, b"\0"))
    image = cloudimg.open(tmp_path / "z{z}.tif")
    assert (image.read({"z": slice(0, 4)})[:, 0, 0] == [0, 1, 2, 3]).all()
    for _ in range(2):
        with pytest.raises(MismatchError, match=r"z4\.tif"):
            image.read()
    with pytest.raises(MismatchError, match=r"1 of 6 files does not fit.*z4\.tif"):
        cloudimg.open(tmp_path / "z{z}.tif", validate="all")


def test_equal_headers_over_different_offsets(tmp_path: Path) -> None:
    """Compressed files differ in length and byte counts, and are parsed each for themselves."""
    rng = np.random.default_rng(0)
    planes = [rng.integers(0, 2 + 40 * z, (64, 64), np.uint16) for z in range(8)]
    for z, pixels in enumerate(planes):
        put(tmp_path, f"z{z}.tif", pixels, compression="zlib", tile=(16, 16))
    array = cloudimg.imread(tmp_path / "z{z}.tif", chunks=-1)
    np.testing.assert_array_equal(array.compute(), np.stack(planes))


@pytest.mark.parametrize("imagej", [True, False])
def test_the_last_slab_may_be_a_single_plane(tmp_path: Path, imagej: bool) -> None:
    """Writers then leave its axis out."""
    stack = np.arange(7 * 16 * 24, dtype=np.uint16).reshape(7, 16, 24)
    axes = {} if imagej else {"page": "z"}
    for i, part in enumerate((stack[:3], stack[3:6], stack[6])):
        options = {"imagej": True} if imagej else {"metadata": None}
        if imagej and part.ndim == 3:
            options["metadata"] = {"axes": "ZYX"}
        put(tmp_path, f"slab{i}.tif", part, **options)
    image = cloudimg.open(tmp_path / "slab{z}.tif", axes=axes)
    assert image.shape == (7, 16, 24)
    np.testing.assert_array_equal(image.read(), stack)
    np.testing.assert_array_equal(image.to_dask(chunks=2).compute(), stack)
    checked = cloudimg.open(tmp_path / "slab{z}.tif", axes=axes, validate="all")
    np.testing.assert_array_equal(checked.read({"z": slice(5, 7)}), stack[5:])


@pytest.mark.slow
def test_opening_again_reads_again(place: Place) -> None:
    """Whatever an earlier image remembers of files that were replaced since."""
    urls = []
    for z in range(3):
        urls.append(place.put(f"z{z}.tif", seed.encode(plane(z))))
    options = place.storage_options
    pattern = f"{place.url}/z{{z}}.tif"
    first = cloudimg.open(pattern, storage_options=options)
    listed = cloudimg.open(urls, storage_options=options)
    for image in (first, listed):
        assert list(image.read((slice(None), 0, 0))) == [0, 1, 2]
        assert list(image.read()[:, 0, 0]) == [0, 1, 2]
    time.sleep(1.1 if place.name == "http" else 0)  # a Last-Modified has seconds
    for z in range(3):
        place.put(f"z{z}.tif", seed.encode(plane(100 + z)))
    for again in (
        cloudimg.open(pattern, storage_options=options),
        cloudimg.open(urls, storage_options=options),
    ):
        assert list(again.read((slice(None), 0, 0))) == [100, 101, 102]
        assert list(again.read()[:, 0, 0]) == [100, 101, 102]
        assert list(again.to_dask()[:, 0, 0].compute()) == [100, 101, 102]


def test_images_pickle(tmp_path: Path) -> None:
    for z in range(3):
        put(tmp_path, f"z{z}.tif", plane(z))
    image = pickle.loads(pickle.dumps(cloudimg.open(tmp_path / "z{z}.tif")))
    assert (image.read()[:, 0, 0] == [0, 1, 2]).all()
    assert "z: 0 1 2" in repr(image)


def test_two_fields_that_would_be_one_axis(tmp_path: Path) -> None:
    put(tmp_path, "p1_2.tif", plane(0))
    with pytest.raises(ArgumentError, match="tile_x"):
        cloudimg.open(tmp_path / "p{x}_{tile_x}.tif", place="stack")


def test_fill_values_are_rounded_for_floats_and_exact_for_integers(tmp_path: Path) -> None:
    for z in (0, 2):
        put(tmp_path, f"a{z}_b{z}.tif", plane(z).astype(np.float32))
    pattern = tmp_path / "a{a}_b{b}.tif"
    image = cloudimg.open(pattern, missing="fill", fill_value=0.1)
    assert image.read()[0, 1, 0, 0] == np.float32(0.1)
    assert np.isnan(cloudimg.open(pattern, missing="fill", fill_value=np.nan).read()[0, 1, 0, 0])
    for wrong in ([1, 2], "0"):
        with pytest.raises(ArgumentError, match="fill_value"):
            cloudimg.open(pattern, missing="fill", fill_value=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments",
    [
        {"axes": 5},
        {"axes": {"y": 5}},
        {"dims": 5},
        {"place": "no"},
        {"series": "0"},
        {"series": -1},
        {"validate": "some"},
        {"storage_options": "anon"},
    ],
    ids=str,
)
def test_arguments_of_a_wrong_kind(tmp_path: Path, arguments: dict[str, Any]) -> None:
    put(tmp_path, "z1.tif", plane(1))
    with pytest.raises(ArgumentError):
        cloudimg.open(tmp_path / "z{z}.tif", **arguments)


@pytest.mark.parametrize("urls", [None, b"x", 5, [None], {"a": 1}])
def test_urls_of_a_wrong_kind(urls: Any) -> None:
    with pytest.raises(ArgumentError, match="URL"):
        cloudimg.open(urls)


def test_a_list_with_missing_files(tmp_path: Path) -> None:
    for z in (0, 2):
        put(tmp_path, f"z{z}.tif", plane(z))
    urls = [tmp_path / f"z{z}.tif" for z in (1, 0, 2, 3)]
    image = cloudimg.open(urls, missing="fill", fill_value=9)
    assert list(image.read()[:, 0, 0]) == [9, 0, 2, 9]
    assert [labels["file"] for labels in image.missing] == ["z1.tif", "z3.tif"]
    with pytest.raises(cloudimg.errors.NotFoundError, match=r"z1\.tif"):
        cloudimg.open(urls).read()
    with pytest.raises(cloudimg.errors.NoMatchError, match="none of the 2 files"):
        cloudimg.open(urls[::3], missing="fill")


def test_a_hole_that_makes_the_first_file_one_of_the_edge(tmp_path: Path) -> None:
    """Its width must not stand for the columns in the middle."""
    image = np.arange(32 * 62, dtype=np.uint16).reshape(32, 62)
    edges = [0, 24, 48, 62]
    for y in range(2):
        for x in range(3):
            if (y, x) not in ((0, 0), (0, 1)):
                part = image[16 * y : 16 * y + 16, edges[x] : edges[x + 1]]
                put(tmp_path, f"{y}y_{x}x.tif", part)
    for validate in ("first", "all"):
        found = cloudimg.open(tmp_path / "{y}y_{x}x.tif", missing="fill", validate=validate)
        assert found.shape == (32, 62)
        pixels = found.read()
        np.testing.assert_array_equal(pixels[16:], image[16:])
        np.testing.assert_array_equal(pixels[:16, 48:], image[:16, 48:])
        assert not pixels[:16, :48].any()


def test_headers_that_call_the_file_by_another_name(tmp_path: Path) -> None:
    """The only file that OME-XML names is the one that holds it, whatever it is called now."""

    def xml() -> str:
        pages = "".join(
            f'<TiffData FirstZ="{z}" IFD="{1 - z}" PlaneCount="1"><UUID FileName="a0.ome.tif">'
            "urn:uuid:00000000-0000-0000-0000-000000000000</UUID></TiffData>"
            for z in range(2)
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?><OME '
            'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="24" SizeY="16" '
            f'SizeZ="2" SizeC="1" SizeT="1">{pages}</Pixels></Image></OME>'
        )

    for name, base in (("a0", 0), ("a1", 10)):
        pixels = np.stack([plane(base), plane(base + 1)])
        put(tmp_path, f"{name}.ome.tif", pixels, description=xml(), metadata=None)

    def values(name: str) -> tuple[Any, list[int]]:
        found = cloudimg.open([tmp_path / f"{name}.ome.tif"])
        return found.dims, [int(v) for v in found.read().reshape(2, -1)[:, 0]]

    alone = values("a0")
    assert alone == (("file", "z", "y", "x"), [1, 0])
    other = values("a1")
    assert other == (alone[0], [11, 10])
    assert values("a0") == alone
    assert values("a1") == other


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX alone")
def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    for name in (b"im_\xff.tif", b"im_a.tif"):
        (tmp_path / os.fsdecode(name)).write_bytes(seed.encode(plane(1)))
    for pattern in ("im_{w:s}.tif", "im_*.tif"):
        image = cloudimg.open(tmp_path / pattern)
        assert image.n_files == 2
        assert (image.to_dask(chunks=1).compute() == 1).all()


@pytest.mark.parametrize("value", [70000, 1e300])
def test_fill_values_that_overflow(tmp_path: Path, value: float) -> None:
    put(tmp_path, "z0.tif", plane(0).astype(np.float16))
    with pytest.raises(ArgumentError, match="fill_value"):
        cloudimg.open(tmp_path / "z{z}.tif", missing="fill", fill_value=value)
