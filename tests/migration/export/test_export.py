"""Files exported from a copy, compared with the originals as tifffile reads both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError, CorruptFileError, NotFoundError
from cloudimg.migration.export.manifest import FOLDER as MANIFEST
from cloudimg.migration.export.originals import read_rows
from cloudimg.migration.journal.destination import open_destination
from cloudimg.migration.journal.inspecting import load
from cloudimg.migration.metadata.originals import part_bytes, part_key
from tests.conftest import Place, WebServer
from tests.migration.metadata.test_originals import ome_planes
from tests.support import copies, seed
from tests.support.counting import counted
from tests.support.metering import Meter

pytestmark = pytest.mark.slow  # all of them together

RNG = np.random.default_rng(6)
PALETTE = RNG.integers(0, 2**16, (3, 256), np.uint16)
Array = np.ndarray[Any, Any]


def some(shape: tuple[int, ...], dtype: str = "u2") -> Array:
    """Pixels of any type."""
    if np.dtype(dtype).kind in "fc":
        return RNG.random(shape).astype(dtype)
    return RNG.integers(0, 2 if dtype == "?" else 100, shape).astype(dtype)


def read(path: Path, **options: Any) -> tuple[str, Array]:
    """Axes and pixels of the first image of a file, and of that file alone."""
    with tifffile.TiffFile(path, _multifile=False, **options) as tiff:
        return tiff.series[0].axes, tiff.series[0].asarray()


def names_in(folder: Path) -> list[str]:
    """Names of the exported files."""
    return sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)


def same(path: Path, original: Path) -> None:
    """Check that two files have the same pixels and description."""
    axes, pixels = read(path)
    _, expected = read(original)
    assert pixels.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(pixels, expected)
    with tifffile.TiffFile(path) as tiff, tifffile.TiffFile(original) as before:
        assert tiff.pages.first.description == before.pages.first.description
        assert tiff.series[0].kind == before.series[0].kind
        first, was = tiff.pages.first, before.pages.first
        assert first.photometric == was.photometric
        assert first.samplesperpixel == was.samplesperpixel
        assert first.shape == was.shape
        if was.colormap is not None:
            np.testing.assert_array_equal(first.colormap, was.colormap)
    assert len(axes) == pixels.ndim


GREY = {"photometric": "minisblack"}
VARIETIES: dict[str, tuple[Array, dict[str, Any]]] = {
    "plane": (some((20, 30)), GREY),
    "a pixel": (some((1, 1)), GREY),
    "stack": (some((3, 4, 20, 30)), GREY | {"metadata": {"axes": "TZYX"}}),
    "length 1": (some((1, 1, 20, 30)), GREY | {"metadata": {"axes": "TZYX"}}),
    "pages": (some((4, 20, 30)), GREY | {"metadata": None}),
    "ImageJ": (some((3, 2, 4, 20, 30)), {"imagej": True, "metadata": {"axes": "TZCYX"}}),
    "OME": (some((3, 2, 4, 20, 30)), GREY | {"ome": True, "metadata": {"axes": "TZCYX"}}),
    "OME, channels first": (
        some((2, 3, 4, 20, 30)), GREY | {"ome": True, "metadata": {"axes": "CTZYX"}}
    ),
    "colours": (some((20, 30, 3), "u1"), {"photometric": "rgb"}),
    "colours and alpha": (some((20, 30, 4), "u1"), {"photometric": "rgb"}),
    "stack of colours": (some((4, 20, 30, 3)), {"photometric": "rgb"}),
    "planar": (some((3, 20, 30)), {"photometric": "rgb", "planarconfig": "separate"}),
    "stack, planar": (some((2, 3, 20, 30)), {"photometric": "rgb", "planarconfig": "separate"}),
    "5 samples": (some((20, 30, 5), "u1"), GREY | {"planarconfig": "contig"}),
    "palette": (some((20, 30), "u1"), {"photometric": "palette", "colormap": PALETTE}),
    "white is 0": (some((20, 30), "u1"), {"photometric": "miniswhite"}),
    "BigTIFF, big-endian": (some((2, 20, 30)), GREY | {"byteorder": ">", "bigtiff": True}),
    "CMYK": (some((20, 30, 4), "u1"), {"photometric": "separated"}),
    "Lab": (some((20, 30, 3), "u1"), {"photometric": "cielab"}),
    "YCbCr": (some((20, 30, 3), "u1"), {"photometric": "ycbcr", "compression": "lzw"}),
    "2 samples": (some((20, 30, 2), "u1"), GREY | {"planarconfig": "contig"}),
    "3 samples": (some((20, 30, 3), "u1"), GREY | {"planarconfig": "contig"}),
    "5 samples, planar": (some((5, 20, 30), "u1"), GREY | {"planarconfig": "separate"}),
    "palette of 16 bits": (
        some((20, 30)),
        {"photometric": "palette", "colormap": RNG.integers(0, 2**16, (3, 2**16), np.uint16)},
    ),
    "tiles": (some((40, 50)), GREY | {"tile": (16, 16), "compression": "zstd"}),
    "text in Latin-1": (some((9, 8)), GREY | {"metadata": None, "description": b"\xb5m"}),
    "text in UTF-8": (some((9, 8)), GREY | {"metadata": None, "description": "µm".encode()}),
    **{t: (some((3, 9, 11), t), GREY) for t in ("?", "i1", "u4", "i8", "f2", "f4", "f8", "c8")},
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", VARIETIES)
def test_originals_come_back(tmp_path: Path, name: str) -> None:
    pixels, options = VARIETIES[name]
    for n in range(2):
        part = pixels if n == 0 else pixels[..., ::-1].copy()
        tifffile.imwrite(tmp_path / f"a_{n}.tif", part, **options)
    cloudimg.migrate(f"{tmp_path}/a_{{n}}.tif", tmp_path / "copy.zarr")
    assert cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back").n_files == 2
    assert names_in(tmp_path / "back") == ["a_0.tif", "a_1.tif"]
    for n in range(2):
        same(tmp_path / "back" / f"a_{n}.tif", tmp_path / f"a_{n}.tif")


def test_plain_tags_come_back(tmp_path: Path) -> None:
    own: list[Any] = [
        (65000, 2, 0, "text", True),
        (65001, 3, 3, (1, 2, 3), True),
        (65002, 12, 1, 1.5, True),
        (65003, 7, 4, b"\0ab\xff", True),
        (65004, 9, 1, -3, True),
        (65005, 16, 1, 2**40, True),
        (65006, 5, 1, (1, 3), True),
        (65007, 10, 2, (1, -3, 2, 7), True),
        (33432, 2, 0, "someone", True),
    ]
    tifffile.imwrite(
        tmp_path / "a.tif", some((8, 9)), **GREY, metadata=None, description="what it is",
        resolution=((3, 7), (5, 1)), resolutionunit="CENTIMETER", software="scope",
        datetime="2020:01:02 03:04:05", extratags=own,
    )  # fmt: skip
    cloudimg.migrate(tmp_path / "a.tif", tmp_path / "copy.zarr")
    cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back", compression=None)
    with (
        tifffile.TiffFile(tmp_path / "a.tif") as before,
        tifffile.TiffFile(tmp_path / "back" / "a.tif") as after,
    ):
        known = {tag.name: tag.value for tag in before.pages.first.tags}
        found = {tag.name: tag.value for tag in after.pages.first.tags}
    # Where the strip begins depends on the order of what is before it.
    assert found | {"StripOffsets": 0} == known | {"StripOffsets": 0}


@pytest.mark.filterwarnings("ignore:the store of gs.*does not refuse to create")
def test_from_store_to_store(place: Place) -> None:
    if place.name.startswith("http"):
        pytest.skip("http cannot be written to")
    image = some((2, 3, 20, 30))
    for t, z in np.ndindex(2, 3):
        place.put(f"a_{t}_{z}.tif", seed.encode(image[t, z]))
    options = place.storage_options
    cloudimg.migrate(
        f"{place.url}/a_{{t}}_{{z}}.tif",
        f"{place.url}/copy.zarr",
        source_options=options,
        target_options=options,
    )
    calls: list[tuple[str, int]] = []
    count = cloudimg.export(
        f"{place.url}/copy.zarr",
        f"{place.url}/back",
        source_options=options,
        target_options=options,
        progress=lambda what, n: calls.append((what, n)),
    )
    assert count.n_files == 6
    assert calls == [("files", n) for n in range(1, 7)]
    back = cloudimg.open(f"{place.url}/back/a_{{t}}_{{z}}.tif", storage_options=options)
    np.testing.assert_array_equal(back.read(), image)


@pytest.mark.parametrize("zarr_format", [3, 2])
@pytest.mark.parametrize("layout", ["originals", "ome-tiff"])
def test_whatever_the_cells(tmp_path: Path, zarr_format: int, layout: str) -> None:
    """Cells and chunks that cut files, files that lie in several cells, cells that are empty."""
    pixels = some((7, 90, 70))
    pixels[:, 50:] = pixels[3] = 0
    for y in range(3):
        part = pixels[:, 30 * y : 30 * y + 30]
        tifffile.imwrite(tmp_path / f"a_{y}.tif", part, **GREY, metadata={"axes": "ZYX"})
    cloudimg.migrate(
        f"{tmp_path}/a_{{y}}.tif",
        tmp_path / "copy.zarr",
        zarr_format=zarr_format,
        chunks={"z": 2, "y": 16, "x": 16},
        shards={"z": 4, "y": 32, "x": 64} if zarr_format == 3 else None,
    )
    cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back", layout=layout)
    if layout == "originals":
        for y in range(3):
            same(tmp_path / "back" / f"a_{y}.tif", tmp_path / f"a_{y}.tif")
    else:
        _, found = read(tmp_path / "back" / "image.ome.tif")
        np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize(
    "dims", [None, ("x", "y", "t", "z"), ("z", "t", "y", "x"), ("t", "y", "z", "x")]
)
def test_whatever_the_order_of_the_axes(tmp_path: Path, dims: tuple[str, ...] | None) -> None:
    for t in range(3):
        tifffile.imwrite(
            tmp_path / f"a_{t}.tif", some((4, 9, 11)), **GREY, metadata={"axes": "ZYX"}
        )
    cloudimg.migrate(f"{tmp_path}/a_{{t}}.tif", tmp_path / "copy.zarr", dims=dims)
    cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back")
    for t in range(3):
        same(tmp_path / "back" / f"a_{t}.tif", tmp_path / f"a_{t}.tif")


def test_mosaics_and_axes_without_a_place_and_missing_files(tmp_path: Path) -> None:
    """Two wells by two positions are images of their own; tiles differ in size; one is missing."""
    names = []
    for well, pos, x in np.ndindex(2, 2, 3):
        name = f"plate/{'AB'[well]}/p{pos}_x{x}.tif"
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if (well, pos, x) != (1, 0, 1):
            names.append(name)
            tifffile.imwrite(tmp_path / name, some((2, 9, 7 + x, 3), "u1"), photometric="rgb")
    cloudimg.migrate(
        f"{tmp_path}/plate/{{well:s}}/p{{pos}}_x{{x}}.tif",
        tmp_path / "copy.zarr",
        missing="fill",
        validate="all",
    )
    assert cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back").n_files == len(names) == 11
    for name in names:
        same(tmp_path / "back" / name.removeprefix("plate/"), tmp_path / name)
    count = cloudimg.export(tmp_path / "copy.zarr", tmp_path / "ome", layout="ome-tiff")
    written = names_in(tmp_path / "ome")
    images = count.n_files
    assert written == sorted(f"{i}.ome.tif" for i in range(images))
    for i in range(images):
        group = zarr.open_group(str(tmp_path / "copy.zarr"), mode="r")
        _, found = read(tmp_path / "ome" / f"{i}.ome.tif")
        np.testing.assert_array_equal(found, np.squeeze(group[f"{i}/0"][...]))


def test_multi_file_datasets_come_back_by_their_members(tmp_path: Path) -> None:
    pixels = ome_planes(tmp_path, 5)
    cloudimg.migrate(tmp_path / "c0.ome.tif", tmp_path / "copy.zarr", shards={"c": 1, "z": 2})
    assert cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back").n_files == 2
    for c in range(2):
        name = f"c{c}.ome.tif"
        with tifffile.TiffFile(tmp_path / "back" / name, is_ome=False) as tiff:
            pages = [page.asarray() for page in tiff.pages]
        np.testing.assert_array_equal(pages, pixels[c])
        same(tmp_path / "back" / name, tmp_path / name)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "back" / "c0.ome.tif"), pixels)


def test_files_of_other_formats_become_tiff(tmp_path: Path) -> None:
    import imagecodecs

    for t in range(2):
        (tmp_path / f"a_{t}.png").write_bytes(imagecodecs.png_encode(some((9, 8), "u1")))
    cloudimg.migrate(f"{tmp_path}/a_{{t}}.png", tmp_path / "copy.zarr")
    cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back")
    for t in range(2):
        expected = imagecodecs.png_decode((tmp_path / f"a_{t}.png").read_bytes())
        np.testing.assert_array_equal(read(tmp_path / "back" / f"a_{t}.png.tif")[1], expected)


@pytest.mark.parametrize("compression", [None, "zlib", "zstd", "lzw"])
def test_one_ome_tiff_with_all_levels(tmp_path: Path, compression: str | None) -> None:
    pixels = some((2, 2, 3, 300, 530))
    metadata = {
        "axes": "TCZYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25,
        "PhysicalSizeYUnit": "µm", "PhysicalSizeZ": 2.0, "PhysicalSizeZUnit": "µm",
        "TimeIncrement": 3.0, "TimeIncrementUnit": "s", "Channel": {"Name": ["DAPI", "GFP & co"]},
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, **GREY, metadata=metadata)
    cloudimg.migrate(tmp_path / "a.ome.tif", tmp_path / "copy.zarr", levels=3)
    out = tmp_path / "back"
    options: dict[str, Any] = {"layout": "ome-tiff", "compression": compression}
    assert cloudimg.export(tmp_path / "copy.zarr", out, **options).n_files == 1
    steps = [(1, 1, 1, 2, 1), (1, 1, 1, 2, 2)]  # of x only where its pixels are not larger
    with tifffile.TiffFile(out / "image.ome.tif") as tiff:
        (series,) = tiff.series
        assert (series.axes, series.kind) == ("TCZYX", "ome")
        for level, expected in zip(series.levels, copies.mean_levels(pixels, steps), strict=True):
            np.testing.assert_array_equal(level.asarray(), expected)
        assert tiff.pages.first.is_tiled
        assert not tiff.is_bigtiff
    image = cloudimg.open(out / "image.ome.tif")
    before = cloudimg.open(tmp_path / "a.ome.tif")
    for name in ("pixel_size", "pixel_size_unit", "channel_names", "time_step_s"):
        assert image.attrs[name] == before.attrs[name], name
    assert len(image.levels) == 3
    again = cloudimg.export(tmp_path / "copy.zarr", out, **options)
    assert (again.n_files, again.n_present) == (1, 1)
    other = {**options, "compression": "packbits"}
    with pytest.raises(ArgumentError, match=r"image.ome.tif already exists"):
        cloudimg.export(tmp_path / "copy.zarr", out, **other)
    replaced = cloudimg.export(tmp_path / "copy.zarr", out, overwrite=True, **other)
    assert (replaced.n_files, replaced.n_present) == (1, 0)


@pytest.mark.parametrize("dtype", ["?", "i1", "u4", "f4", "f8", "c8", "c16"])
def test_all_types_of_ome_tiff(tmp_path: Path, dtype: str) -> None:
    import dask.array as da

    pixels = some((3, 20, 30), dtype)
    cloudimg.to_zarr(da.from_array(pixels), tmp_path / "copy.zarr", downsampling="nearest")
    cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back", layout="ome-tiff")
    _, found = read(tmp_path / "back" / "image.ome.tif")
    assert found.dtype == pixels.dtype
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("dtype", ["f2", "i8", "u8"])
def test_types_that_ome_tiff_lacks(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", some((9, 8), dtype))
    cloudimg.migrate(tmp_path / "a.tif", tmp_path / "copy.zarr")
    with pytest.raises(ArgumentError, match=r'no pixels of type .*layout="originals"'):
        cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back", layout="ome-tiff")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("layout", ["originals", "ome-tiff"])
def test_chunks_are_read_once_however_many_planes_they_have(
    meter: Meter, bucket: str, tmp_path: Path, layout: str
) -> None:
    """Cubes of 64 planes: were each plane to read its chunks, it would be 64 times as much."""
    pixels = some((64, 128, 128))
    for z in range(64):
        meter.put(bucket, f"src/a_{z}.tif", seed.encode(pixels[z]))
    options = meter.storage_options
    url = f"s3://{bucket}/copy.zarr"
    cloudimg.migrate(
        f"s3://{bucket}/src/a_{{z}}.tif",
        url,
        source_options=options,
        target_options=options,
        chunks=64,
        levels=1,
    )
    stored = sum(len(v) for k, v in copies.objects(url, options).items() if "/c/" in k)
    with meter.measure() as traffic:
        cloudimg.export(url, tmp_path / "back", layout=layout, source_options=options)
    sent = sum(r.bytes_sent for r in traffic.requests if "/c/" in r.key)
    assert sent < 1.5 * stored
    expected: dict[str, Array] = {"image.ome.tif": pixels}
    if layout == "originals":
        expected = {f"a_{z}.tif": pixels[z] for z in range(64)}
    for name, part in expected.items():
        np.testing.assert_array_equal(read(tmp_path / "back" / name)[1], part)


def test_names_hold_no_credentials_and_do_not_collide(
    httpd: WebServer, bucket: str, tmp_path: Path
) -> None:
    folder = httpd.root / bucket
    folder.mkdir()
    (folder / "a.tif").write_bytes(seed.encode(some((8, 9))))
    urls = [f"{httpd.endpoint}/{bucket}/a.tif?key=SECRET{t}" for t in range(3)]
    cloudimg.migrate(urls, tmp_path / "copy.zarr")
    for again in ("back", "again"):
        assert cloudimg.export(tmp_path / "copy.zarr", tmp_path / again).n_files == 3
        names = names_in(tmp_path / again)
        assert names == ["a.tif", "a_1.tif", "a_2.tif"]
        for name in names:
            same(tmp_path / again / name, folder / "a.tif")


@pytest.mark.parametrize("key", ["../../evil.tif", "a/../../evil.tif", "//evil.tif", "./evil.tif"])
def test_names_stay_in_the_folder(tmp_path: Path, key: str) -> None:
    """Keys of object stores may hold what a file system understands otherwise."""
    (tmp_path / "src").mkdir()
    for t in range(2):
        tifffile.imwrite(tmp_path / "src" / f"a_{t}.tif", some((8, 9)))
    cloudimg.migrate(f"{tmp_path}/src/a_{{t}}.tif", tmp_path / "copy.zarr")
    copy = open_destination(tmp_path / "copy.zarr", None)
    rows = list(read_rows(copy, load(copy).source))
    keys = ["bucket/a.tif", f"bucket/{key}"]
    changed = [row | {"key": k, "url": f"s3://{k}"} for row, k in zip(rows, keys, strict=True)]
    copy.put(part_key(0), part_bytes(changed))
    before = set(tmp_path.rglob("*"))
    assert cloudimg.export(tmp_path / "copy.zarr", tmp_path / "x" / "y" / "back").n_files == 2
    new = {path for path in set(tmp_path.rglob("*")) - before if path.suffix == ".tif"}
    assert len(new) == 2
    assert all(path.is_relative_to(tmp_path / "x" / "y" / "back") for path in new)


# What cannot be done


@pytest.fixture
def small(tmp_path: Path) -> Path:
    for t in range(2):
        tifffile.imwrite(tmp_path / f"a_{t}.tif", some((8, 9)))
    cloudimg.migrate(f"{tmp_path}/a_{{t}}.tif", tmp_path / "copy.zarr")
    return tmp_path


def test_existing_files_are_replaced_only_on_request(small: Path) -> None:
    (small / "back").mkdir()
    (small / "back" / "a_1.tif").write_bytes(b"precious")
    with pytest.raises(ArgumentError, match=r"a_1.tif already exists.*overwrite=True"):
        cloudimg.export(small / "copy.zarr", small / "back")
    assert (small / "back" / "a_1.tif").read_bytes() == b"precious"
    assert cloudimg.export(small / "copy.zarr", small / "back", overwrite=True).n_files == 2
    same(small / "back" / "a_1.tif", small / "a_1.tif")


def test_files_that_were_filled_are_named(tmp_path: Path) -> None:
    for z in range(3):
        tifffile.imwrite(tmp_path / f"a_{z}.tif", some((8, 9)))
    (tmp_path / "a_1.tif").write_bytes(b"")
    cloudimg.migrate(f"{tmp_path}/a_{{z}}.tif", tmp_path / "copy.zarr", bad="fill")
    done = cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back")
    assert names_in(tmp_path / "back") == ["a_0.tif", "a_2.tif"]
    (filled,) = (each for each in done.not_written if each.what == "all")
    assert (filled.n_files, filled.example) == (1, f"{tmp_path}/a_1.tif")
    assert "all of 1 file: not written (empty, so the copy has the fill value" in str(done)
    assert f"{tmp_path}/a_1.tif" in str(done)


@pytest.mark.parametrize("layout", ["originals", "ome-tiff"])
@pytest.mark.parametrize("below", ["", "/", "/0", "/deep/er"])
def test_an_export_into_the_copy_is_rejected(small: Path, layout: str, below: str) -> None:
    before = copies.objects(str(small / "copy.zarr"), {})
    with pytest.raises(ArgumentError, match="which is part of the copy"):
        cloudimg.export(small / "copy.zarr", f"{small}/copy.zarr{below}", layout=layout)
    assert copies.objects(str(small / "copy.zarr"), {}) == before
    beside = f"{small}/copy.zarr-back"
    assert cloudimg.export(small / "copy.zarr", beside, layout=layout).n_files > 0


def test_arrays_have_no_originals(tmp_path: Path) -> None:
    import dask.array as da

    cloudimg.to_zarr(da.zeros((8, 9), dtype="u1"), tmp_path / "copy.zarr")
    with pytest.raises(ArgumentError, match=r'no table of originals.*layout="ome-tiff"'):
        cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back")
    exported = cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back", layout="ome-tiff")
    assert exported.n_files == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "tiff"}, "layout='tiff' must be one of originals, ome-tiff"),
        ({"compression": "jpeg"}, "compression='jpeg' must be one of"),
    ],
)
def test_invalid_arguments(small: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        cloudimg.export(small / "copy.zarr", small / "back", **options)


def _no_copy(folder: Path) -> None:
    for name in ("plan.json", "plan-copy.json"):
        (folder / "copy.zarr" / ".cloudimg" / name).unlink()


def _not_finished(folder: Path) -> None:
    (folder / "copy.zarr" / ".cloudimg" / "done.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(_no_copy, "was not written by cloudimg"), (_not_finished, "is not finished")],
)
def test_copies_that_are_missing_or_unfinished(
    small: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(small)
    with pytest.raises(ArgumentError, match=message):
        cloudimg.export(small / "copy.zarr", small / "back")
    assert not (small / "back").exists()


@pytest.mark.parametrize("layout", ["originals", "ome-tiff"])
def test_damaged_copies_are_not_exported(small: Path, layout: str) -> None:
    """Pixels of another copy are valid, too; a missing object is not mistaken for an empty one."""
    (shard,) = (path for path in (small / "copy.zarr" / "0" / "c").rglob("*") if path.is_file())
    pixels = zarr.open_array(small / "copy.zarr" / "0", mode="r")[...]
    cloudimg.to_zarr(pixels + 1, small / "other.zarr", dims="zyx"[-pixels.ndim :], scale={})
    shard.write_bytes((small / "other.zarr" / shard.relative_to(small / "copy.zarr")).read_bytes())
    with pytest.raises(CorruptFileError, match=r"its SHA-256 is not that of its commit record"):
        cloudimg.export(small / "copy.zarr", small / "back", layout=layout)
    shard.unlink()
    with pytest.raises(NotFoundError):
        cloudimg.export(small / "copy.zarr", small / "back", layout=layout)
    assert not list(small.glob("back/*"))


def test_the_command(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", str(small / "copy.zarr"), str(small / "back")]
    assert main(arguments) == 0
    assert f"2 files written to {small / 'back'}" in capsys.readouterr().out
    for t in range(2):
        same(small / "back" / f"a_{t}.tif", small / f"a_{t}.tif")
    assert main(arguments) == 0
    assert f"2 files written to {small / 'back'}, 2 of them before" in capsys.readouterr().out
    (small / "back" / "a_1.tif").write_bytes(b"precious")
    assert main(arguments) != 0
    assert (
        "already exists and is not what this export writes: export to another folder, or pass"
        " --overwrite" in capsys.readouterr().err
    )
    assert main([*arguments, "--layout", "ome-tiff", "--compression", "none"]) == 0
    assert (small / "back" / "image.ome.tif").exists()


def test_many_planes_take_few_steps_and_little_memory_each(tmp_path: Path) -> None:
    """Of a set with as many planes the table says each thing once: see the test of the table."""
    n_planes = 60
    ome_planes(tmp_path, n_planes)
    cloudimg.migrate(tmp_path / "c0.ome.tif", tmp_path / "copy.zarr")
    cloudimg.export(tmp_path / "copy.zarr", tmp_path / "imports")  # which are not what is counted
    with counted() as cost:
        assert cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back").n_files == 2
    print(f"a plane: {cost.steps / n_planes:.0f} steps, {cost.peak_bytes / n_planes:.0f} bytes")
    assert cost.steps < 30_000 * n_planes
    assert cost.peak_bytes < 100_000 * n_planes


# What pages say


def pages_of(path: Path) -> list[dict[str, Any]]:
    """Tags of each page that tell of it, not of how it is stored."""
    names = ("ImageDescription", "DateTime", "Software", "XResolution", "PageName", "65000")
    with tifffile.TiffFile(path, _multifile=False) as tiff:
        found = [{tag.name: tag.value for tag in page.tags} for page in tiff.pages]
    return [{name: tags[name] for name in names if name in tags} for tags in found]


def write_pages(path: Path, n_pages: int, *, second: int = 0) -> Array:
    """Pages of which each says something else, and some further ones of another shape."""
    pixels = some((n_pages, 20, 30))
    times = ["2020:01:02 03:04:05", "2020:01:02 03:04:15", None, "2021-05-06", ""]
    with tifffile.TiffWriter(path) as tiff:
        for i in range(n_pages + second):
            own: list[Any] = [(285, 2, 0, f"name {i}", True), (65000, 12, 1, i / 2, True)]
            if times[i % 5]:
                own.append((306, 2, 0, times[i % 5], True))
            tiff.write(
                pixels[i] if i < n_pages else some((9, 8), "u1"),
                **GREY,
                metadata=None,
                description=f"page {i}" if i != 1 else None,
                software=False if i == 3 else "scope",
                resolution=(i + 1, 1) if i < 4 else None,
                extratags=own[: 1 if i == 2 else None],
            )
    return pixels


def test_each_page_keeps_its_tags(tmp_path: Path) -> None:
    for t in range(2):
        write_pages(tmp_path / f"a_{t}.tif", 5 + t)
    write_pages(tmp_path / "a_1.tif", 5)
    cloudimg.migrate(f"{tmp_path}/a_{{t}}.tif", tmp_path / "copy.zarr")
    cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back")
    for t in range(2):
        expected = pages_of(tmp_path / f"a_{t}.tif")
        assert [each.get("DateTime") for each in expected][2:] == [None, "2021-05-06", None]
        assert pages_of(tmp_path / "back" / f"a_{t}.tif") == expected
        same(tmp_path / "back" / f"a_{t}.tif", tmp_path / f"a_{t}.tif")


@pytest.mark.parametrize("series", [0, 1])
def test_pages_of_each_image_keep_their_own_tags(tmp_path: Path, series: int) -> None:
    """A file with two images, of which a copy has one."""
    write_pages(tmp_path / "a.tif", 3, second=2)
    cloudimg.migrate(tmp_path / "a.tif", tmp_path / "copy.zarr", series=series)
    exported = cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        expected = tiff.series[series].asarray()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "back" / "a.tif"), expected)
    own = slice(0, 3) if series == 0 else slice(3, 5)
    assert pages_of(tmp_path / "back" / "a.tif") == pages_of(tmp_path / "a.tif")[own]
    assert [one.what for one in exported.not_written] == ["further pages"]


def test_one_ifd_for_all_pages_is_that_of_the_first(tmp_path: Path) -> None:
    """ImageJ writes stacks above 4 GB so: all planes one after the other, and one directory."""
    pixels = some((3, 20, 30))
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": "ZYX"},
        datetime="2020:01:02 03:04:05", software="scope",
    )  # fmt: skip
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        end = tiff.pages.first.offset + 2 + 12 * len(tiff.pages.first.tags)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[end : end + 4] = bytes(4)  # no directory after the first one
    (tmp_path / "a.tif").write_bytes(data)
    cloudimg.migrate(tmp_path / "a.tif", tmp_path / "copy.zarr")
    cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back")
    same(tmp_path / "back" / "a.tif", tmp_path / "a.tif")
    np.testing.assert_array_equal(read(tmp_path / "back" / "a.tif")[1], pixels)
    times = [page.get("DateTime") for page in pages_of(tmp_path / "back" / "a.tif")]
    assert times == ["2020:01:02 03:04:05", None, None]


def test_members_of_multi_file_datasets_keep_their_tags(tmp_path: Path) -> None:
    ome_planes(tmp_path, 4)
    for c in range(2):
        path = tmp_path / f"c{c}.ome.tif"
        with tifffile.TiffFile(path, is_ome=False) as tiff:
            pages = [page.asarray() for page in tiff.pages]
            text = tiff.pages.first.description
        with tifffile.TiffWriter(path) as tiff:
            for z, page in enumerate(pages):
                own = [(306, 2, 0, f"2020:01:02 03:0{c}:0{z}", True)]
                tiff.write(
                    page, **GREY, metadata=None, contiguous=False, extratags=own,
                    description=text.encode() if z == 0 else f"plane {c} {z}",
                )  # fmt: skip
    # Each part of the table has a row of a file that tells of it as a whole.
    cloudimg.migrate(tmp_path / "c0.ome.tif", tmp_path / "copy.zarr", shards={"c": 1, "z": 2})
    cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back")
    for c in range(2):
        expected = pages_of(tmp_path / f"c{c}.ome.tif")
        assert expected[3]["DateTime"] == f"2020:01:02 03:0{c}:03"
        found = pages_of(tmp_path / "back" / f"c{c}.ome.tif")
        keys = ("ImageDescription", "DateTime")
        for page, was in zip(found, expected, strict=True):
            assert [page.get(key) for key in keys] == [was.get(key) for key in keys]


@pytest.mark.parametrize("dtype", ["f2", "i8", "u8"])
def test_arrays_of_types_that_ome_tiff_lacks_become_a_tiff(tmp_path: Path, dtype: str) -> None:
    import dask.array as da

    pixels = some((3, 2, 300, 280), dtype)
    cloudimg.to_zarr(
        da.from_array(pixels), tmp_path / "copy.zarr", dims="tcyx", levels=2,
        downsampling="nearest",
    )  # fmt: skip
    with pytest.raises(ArgumentError, match=r'no table of originals.*layout="ome-tiff"'):
        cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back")
    exported = cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back", layout="ome-tiff")
    assert exported.n_files == 1
    assert names_in(tmp_path / "back") == ["image.tif"]
    axes, found = read(tmp_path / "back" / "image.tif")
    assert (axes, found.dtype) == ("TCYX", pixels.dtype)
    np.testing.assert_array_equal(found, pixels)
    group = zarr.open_group(str(tmp_path / "copy.zarr"), mode="r")
    with tifffile.TiffFile(tmp_path / "back" / "image.tif") as tiff:
        levels = [level.asarray() for level in tiff.series[0].levels]
    assert len(levels) == 2
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(level, group[str(number)][...])
    image = cloudimg.open(tmp_path / "back" / "image.tif")
    np.testing.assert_array_equal(image.read(), pixels)


def test_pages_are_ordered_as_in_ome_xml(tmp_path: Path) -> None:
    """In OME-TIFF any page may be any plane: here the last one is the first."""
    pixels = some((2, 3, 8, 9))
    order = [(c, z) for z in (2, 0, 1) for c in (1, 0)]
    data = "".join(
        f'<TiffData FirstC="{c}" FirstZ="{z}" IFD="{i}" PlaneCount="1"/>'
        for i, (c, z) in enumerate(order)
    )
    channels = "".join(f'<Channel ID="Channel:0:{c}" SamplesPerPixel="1"/>' for c in range(2))
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="9"'
        f' SizeY="8" SizeZ="3" SizeC="2" SizeT="1">{channels}{data}</Pixels></Image></OME>'
    )
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tiff:
        for i, (c, z) in enumerate(order):
            tiff.write(
                pixels[c, z], **GREY, metadata=None, contiguous=False,
                description=f"page {i}" if i else xml, datetime=f"2020:01:02 03:04:0{i}",
            )  # fmt: skip
    np.testing.assert_array_equal(read(tmp_path / "a.ome.tif")[1], pixels)
    cloudimg.migrate(tmp_path / "a.ome.tif", tmp_path / "copy.zarr")
    cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back")
    same(tmp_path / "back" / "a.ome.tif", tmp_path / "a.ome.tif")
    assert pages_of(tmp_path / "back" / "a.ome.tif") == pages_of(tmp_path / "a.ome.tif")
    with (
        tifffile.TiffFile(tmp_path / "a.ome.tif") as before,
        tifffile.TiffFile(tmp_path / "back" / "a.ome.tif") as after,
    ):
        for was, page in zip(before.pages, after.pages, strict=True):
            np.testing.assert_array_equal(page.asarray(), was.asarray())
