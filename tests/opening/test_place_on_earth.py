"""Georeferenced files lie where their transforms say, or are refused with advice."""

from __future__ import annotations

import json
import pickle
import re
import tempfile
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import rasterio.shutil
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.merge import merge
from rasterio.transform import Affine

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError, BadFilesError, CloudimgWarning, GridError, MismatchError
from tests.support.differing import HEIGHT, NORTH_UP, PLANE, WIDTH, geotiff, moved
from tests.support.metering import Meter

Array = npt.NDArray[Any]

pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),  # of rasterio's own code
]


def pixels_of(number: int) -> Array:
    return np.random.default_rng(number).integers(1, 255, (HEIGHT, WIDTH), np.uint8)


# -------------------------------------------------------------------------- mosaics by transforms


@pytest.mark.parametrize("validate", ["first", "all"])
@pytest.mark.parametrize(
    ("columns", "rows", "shape"),
    [
        (WIDTH + 1, 0, (HEIGHT, 2 * WIDTH + 1)),
        (-WIDTH, 0, (HEIGHT, 2 * WIDTH)),
        (WIDTH, 3, (HEIGHT + 3, 2 * WIDTH)),
        (-WIDTH - 2, -3, (HEIGHT + 3, 2 * WIDTH + 2)),
    ],
    ids=["gap", "backwards", "further down", "up, and a gap"],
)
def test_tiles_lie_where_their_transforms_say(
    tmp_path: Path, columns: int, rows: int, shape: tuple[int, int], validate: str
) -> None:
    first, second = pixels_of(0), pixels_of(1)
    geotiff(tmp_path / "0.tif", pixels=first, nodata=255)
    geotiff(tmp_path / "1.tif", moved(columns, rows), pixels=second, nodata=255)
    image = cloudimg.open(f"{tmp_path}/{{x}}.tif", validate=validate)
    with rasterio.open(tmp_path / "0.tif") as a, rasterio.open(tmp_path / "1.tif") as b:
        expected, transform = merge([a, b])
    assert image.shape == shape == expected[0].shape
    np.testing.assert_array_equal(image.read(), expected[0])  # nodata where no tile is
    np.testing.assert_array_equal(image.to_dask(chunks=7).compute(), expected[0])
    assert image.attrs["geo"]["transform"] == list(transform)[:6]
    assert image.attrs["nodata"] == 255


@pytest.mark.parametrize("scale", [0.0, 1e-320, 1e200])
def test_scales_by_which_no_place_can_be_computed(tmp_path: Path, scale: float) -> None:
    for x in range(2):
        tags = [
            (33550, "d", 3, (scale, scale, 0.0), True),
            (33922, "d", 6, (0.0, 0.0, 0.0, 100.0 * x, 0.0, 0.0), True),
            (34735, "H", 12, (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633), True),
        ]
        tifffile.imwrite(tmp_path / f"{x}.tif", pixels_of(x), extratags=tags, metadata=None)
    image = cloudimg.open(f"{tmp_path}/{{x}}.tif")
    assert "transform" not in image.attrs["geo"]
    np.testing.assert_array_equal(image.read(), np.hstack([pixels_of(0), pixels_of(1)]))
    with pytest.raises(MismatchError, match="no affine transform"):
        cloudimg.open(f"{tmp_path}/{{x}}.tif", align="outer")


def test_rows_that_count_northwards_with_smaller_tiles_at_the_edges(tmp_path: Path) -> None:
    whole = np.arange(30 * 50, dtype=np.uint16).reshape(30, 50)
    rows, columns = [slice(0, 12), slice(12, 24), slice(24, 30)], [slice(0, 20), slice(20, 50)]
    for y, row in enumerate(rows[::-1]):
        for x, column in enumerate(columns):
            geotiff(
                tmp_path / f"{x}_{y}.tif", moved(column.start, row.start), pixels=whole[row, column]
            )
    image = cloudimg.open(f"{tmp_path}/{{x}}_{{y}}.tif")
    np.testing.assert_array_equal(image.read(), whole)
    assert image.attrs["geo"]["transform"] == list(NORTH_UP)[:6]


def test_a_bad_tile_among_others_that_lie_where_they_say(tmp_path: Path) -> None:
    for number, rows in enumerate((24, 12, 0)):  # northwards
        geotiff(tmp_path / f"{number}.tif", moved(0, rows), pixels=PLANE + number)
    (tmp_path / "0.tif").write_bytes(b"")
    with pytest.raises(BadFilesError, match=r"0\.tif"):
        cloudimg.open(f"{tmp_path}/{{y}}.tif", validate="all")
    image = cloudimg.open(f"{tmp_path}/{{y}}.tif", bad="fill")
    with pytest.warns(CloudimgWarning, match=r"0\.tif"):
        np.testing.assert_array_equal(image.read(), np.concatenate([PLANE + 2, PLANE + 1]))
    assert image.report.total == 1


def test_a_mosaic_that_lies_as_its_names_say_costs_no_more_headers(
    meter: Meter, bucket: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tile.tif"
        for y, x in np.ndindex(4, 5):
            geotiff(path, moved(x * WIDTH, y * HEIGHT))
            meter.put(bucket, f"{x}_{y}.tif", path.read_bytes())
    with meter.measure() as traffic:
        image = cloudimg.open(
            f"s3://{bucket}/{{x}}_{{y}}.tif", storage_options=meter.storage_options
        )
    assert image.shape == (4 * HEIGHT, 5 * WIDTH)
    assert traffic.gets <= 3


@pytest.mark.parametrize("align", [None, "outer"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"crs": "EPSG:32634"}, ["EPSG:32634", "EPSG:32633"]),
        ({"transform": Affine(20, 0, 500200, 0, -20, 4600000)}, ["20", "10"]),
        ({"transform": moved(WIDTH + 0.6, 0)}, ["20.6 columns"]),
        ({"transform": NORTH_UP @ Affine.rotation(30)}, ["pixel size"]),
    ],
    ids=["reference system", "resolution", "grid", "rotated"],
)
def test_tiles_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, Any], words: list[str], align: Any
) -> None:
    geotiff(tmp_path / "0.tif")
    geotiff(tmp_path / "1.tif", **{"transform": moved(WIDTH, 0), **changes})
    with pytest.raises(MismatchError) as caught:
        cloudimg.open(f"{tmp_path}/{{x}}.tif", align=align)
    message = caught.value.message
    for word in (*words, f"{tmp_path}/0.tif", f"{tmp_path}/1.tif", "odc-stac", "rioxarray"):
        assert word in message


def test_tiles_that_overlap_are_refused_unless_one_may_be_on_top(tmp_path: Path) -> None:
    first, second = pixels_of(0), pixels_of(1)
    geotiff(tmp_path / "0.tif", pixels=first)
    geotiff(tmp_path / "1.tif", moved(WIDTH - 6, 2), pixels=second)
    pattern = f"{tmp_path}/{{x}}.tif"
    with pytest.raises(MismatchError, match=f"{HEIGHT - 2} rows and 6 columns") as caught:
        cloudimg.open(pattern)
    assert 'align="outer"' in caught.value.message
    expected = np.zeros((HEIGHT + 2, 2 * WIDTH - 6), np.uint8)
    expected[:HEIGHT, :WIDTH] = first
    expected[2:, WIDTH - 6 :] = second
    image = cloudimg.open(pattern, align="outer")
    np.testing.assert_array_equal(image.read(), expected)
    np.testing.assert_array_equal(image.to_dask(chunks=5).compute(), expected)
    stacked = cloudimg.open(pattern, align="inner", place="stack")
    assert stacked.dims == ("tile_x", "y", "x")
    np.testing.assert_array_equal(
        stacked.read(), [first[2:, WIDTH - 6 :], second[: HEIGHT - 2, :6]]
    )


# ------------------------------------------------------------------------------ scenes in a stack


@st.composite
def archives(draw: st.DrawFn) -> dict[str, Any]:
    """Scenes or tiles of one grid, some missing, and a region to read."""
    n_tiles, n_times = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    indices = [(x, t) for x in range(n_tiles) for t in range(n_times)]
    offset, length = st.integers(-7, 7), st.integers(1, 9)
    box = st.tuples(offset, offset, length, length)
    boxes = {index: draw(box) for index in indices if draw(st.integers(0, 4)) or index == (0, 0)}
    # A number that no file has is not part of an axis.
    xs, ts = (sorted({index[i] for index in boxes}) for i in range(2))
    boxes = {(xs.index(x), ts.index(t)): each for (x, t), each in boxes.items()}
    return {
        "boxes": boxes,
        "shape": (len(xs), len(ts)),
        "place": draw(st.sampled_from(["index", "stack"])),
        "align": draw(st.sampled_from(["outer", "outer", "inner"])),
        "bounds": draw(st.lists(st.floats(0, 1), min_size=8, max_size=8)),
        "chunks": draw(st.integers(1, 8)),
        "step": draw(st.integers(1, 3)),
    }


def aligned(
    pixels: dict[tuple[int, int], Array], archive: dict[str, Any]
) -> tuple[Array, tuple[int, int]] | None:
    """The image that an archive should be, from its definition, and where it begins."""
    boxes, (n_x, n_t) = archive["boxes"], archive["shape"]
    group = (lambda x, t: (x, t)) if archive["place"] == "stack" else (lambda x, t: (0, t))
    spans: dict[tuple[int, int], list[int]] = {}
    for index, (row, column, height, width) in boxes.items():
        mine = [row, column, row + height, column + width]
        span = spans.setdefault(group(*index), mine)
        spans[group(*index)] = [*map(min, span[:2], mine[:2]), *map(max, span[2:], mine[2:])]
    corners = np.array(list(spans.values()))
    near, far = (np.min, np.max) if archive["align"] == "outer" else (np.max, np.min)
    top, left = near(corners[:, :2], axis=0)
    bottom, right = far(corners[:, 2:], axis=0)
    if bottom <= top or right <= left:
        return None
    shape = (n_x if archive["place"] == "stack" else 1, n_t, bottom - top, right - left)
    image = np.full(shape, 250, np.uint8)
    for index, (row, column, height, width) in sorted(boxes.items()):
        plane = np.full((60, 60), -1)
        plane[row + 20 : row + 20 + height, column + 20 : column + 20 + width] = pixels[index]
        seen = plane[top + 20 : bottom + 20, left + 20 : right + 20]
        target = image[group(*index)]
        target[seen >= 0] = seen[seen >= 0]
    return image, (int(left), int(top))


@pytest.mark.slow
@given(archives())
@settings(max_examples=60)
def test_files_on_one_grid(archive: dict[str, Any]) -> None:
    """Any scenes and tiles of one grid, read in any parts, are what their transforms say."""
    with tempfile.TemporaryDirectory() as folder:
        pixels = {}
        for number, (index, (row, column, height, width)) in enumerate(archive["boxes"].items()):
            rng = np.random.default_rng(number)
            pixels[index] = rng.integers(1, 249, (height, width), np.uint8)
            path = Path(folder) / f"{index[0]}_{index[1]}.tif"
            geotiff(path, moved(column, row), pixels=pixels[index], nodata=250)
        options = {"align": archive["align"], "place": archive["place"], "missing": "fill"}
        expected = aligned(pixels, archive)
        if expected is None:
            with pytest.raises(GridError, match="no pixels in common"):
                cloudimg.open(f"{folder}/{{x}}_{{t}}.tif", **options)
            return
        image = cloudimg.open(f"{folder}/{{x}}_{{t}}.tif", **options)
        whole, (left, top) = expected
        if archive["place"] == "index":
            whole = whole[0]
        assert image.dims[-2:] == ("y", "x")
        order = [image.dims.index(d) for d in ("tile_x", "t", "y", "x") if d in image.dims]
        whole = whole.transpose(np.argsort(order))
        np.testing.assert_array_equal(image.read(), whole)
        assert image.attrs["geo"]["transform"] == list(moved(left, top))[:6]
        region = tuple(
            slice(int(min(a, b) * n), int(max(a, b) * n) + 1, archive["step"])
            for n, a, b in zip(
                whole.shape, archive["bounds"][:4], archive["bounds"][4:], strict=False
            )
        )
        np.testing.assert_array_equal(image.read(region), whole[region])
        lazy = image.to_dask(chunks=archive["chunks"])
        np.testing.assert_array_equal(lazy[region].compute(), whole[region])


@pytest.mark.parametrize("align", ["outer", "inner"])
def test_scenes_300_metres_apart_are_aligned(corpus: Path, align: Any) -> None:
    folder = corpus / "reports" / "geo-frames"
    image = cloudimg.open(f"{folder}/SH_{{t:%Y%m%d}}_B4.TIF", align=align)
    scenes = []
    for date in ("20200908", "20200924"):
        with rasterio.open(folder / f"SH_{date}_B4.TIF") as file:
            scenes.append(file.read(1))
    if align == "inner":
        expected = np.stack([scenes[0][:, 30:], scenes[1][:, :-30]])
    else:
        expected = np.stack([np.pad(scenes[0], ((0, 0), (0, 30))),
                             np.pad(scenes[1], ((0, 0), (30, 0)))])  # fmt: skip
    np.testing.assert_array_equal(image.read(), expected)
    corner = 500000 if align == "outer" else 500300
    assert image.attrs["geo"]["transform"] == [10, 0, corner, 0, -10, 4600000]


def test_scenes_are_compared_when_they_are_read(tmp_path: Path) -> None:
    """Opening reads the first and the last header; the scene between them lies elsewhere."""
    for t, columns in enumerate((0, 4, 0)):
        geotiff(tmp_path / f"{t}.tif", moved(columns, 0), pixels=PLANE)
    image = cloudimg.open(f"{tmp_path}/{{t}}.tif")
    np.testing.assert_array_equal(image.read({"t": 2}), PLANE)
    for lazy in (image.to_dask(), pickle.loads(pickle.dumps(image.to_dask()))):
        with pytest.raises(MismatchError, match=r"1\.tif .*origin is .*align="):
            lazy[1].compute(scheduler="synchronous")
    with pytest.raises(MismatchError, match=r"1\.tif"):
        cloudimg.open(f"{tmp_path}/{{t}}.tif", bad="fill").read()


def test_only_what_is_needed_is_read(meter: Meter, bucket: str) -> None:
    """Tiles of 16 x 16 of two scenes of which a window needs one each."""
    pixels = np.random.default_rng(0).integers(0, 255, (1600, 1600), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.tif"
        for t, columns in enumerate((0, 64)):
            geotiff(
                path, moved(columns, 0), pixels=pixels, tiled=True, blockxsize=16, blockysize=16
            )
            meter.put(bucket, f"{t}.tif", path.read_bytes())
    options = meter.storage_options
    image = cloudimg.open(f"s3://{bucket}/{{t}}.tif", align="outer", storage_options=options)
    window = {"y": slice(800, 816), "x": slice(832, 848)}
    with meter.measure() as traffic:
        found = image.read(window)
    np.testing.assert_array_equal(found[0], pixels[800:816, 832:848])
    np.testing.assert_array_equal(found[1], pixels[800:816, 768:784])
    ranges = [request for request in traffic.requests if request.bytes_sent == 256]
    assert len(ranges) == 2


def test_levels_are_kept_where_they_lie_on_one_grid(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (512, 512), np.uint8)
    for name, columns in (("even_0", 0), ("even_1", 8), ("odd_0", 0), ("odd_1", 3)):
        geotiff(tmp_path / "plain.tif", moved(columns, 0), pixels=pixels)
        rasterio.shutil.copy(
            tmp_path / "plain.tif", tmp_path / f"{name}.tif", driver="COG", blocksize=128
        )
    even = cloudimg.open(f"{tmp_path}/even_{{t}}.tif", align="outer")
    assert [level.shape for level in even.levels] == [(2, 512, 520), (2, 256, 260), (2, 128, 130)]
    with rasterio.open(tmp_path / "even_1.tif", overview_level=0) as file:
        np.testing.assert_array_equal(even.read(level=1)[1, :, 4:], file.read(1))
    odd = cloudimg.open(f"{tmp_path}/odd_{{t}}.tif", align="outer")
    assert len(odd.levels) == 1
    assert "levels-off-grid" in {note.kind for note in odd.notes}


@pytest.mark.parametrize(
    ("columns", "options", "error"),
    [(31, {}, MismatchError), (65, {"align": "inner", "place": "stack"}, GridError)],
    ids=["overlap", "nothing in common"],
)
def test_levels_off_the_grid_do_not_hide_that_tiles_do_not_fit(
    tmp_path: Path, columns: int, options: dict[str, Any], error: type[Exception]
) -> None:
    for x in range(2):
        path = tmp_path / f"{x}.tif"
        geotiff(path, moved(columns * x, 0), pixels=np.zeros((32, 64), np.uint8))
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2])
    with pytest.raises(error, match=r"in common"):
        cloudimg.open(f"{tmp_path}/{{x}}.tif", **options)


def test_a_level_on_which_nothing_is_in_common_is_left_out(tmp_path: Path) -> None:
    """Of levels whose lengths were rounded down."""
    keys = (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633)
    for t, (column, width) in enumerate(((0, 9), (8, 16))):
        pixels = np.full((16, width), t, np.uint8)
        corner = (0.0, 0.0, 0.0, 500000.0 + 10 * column, 4600000.0, 0.0)
        tags: list[Any] = [(33550, 12, 3, (10.0, 10.0, 0.0), True), (33922, 12, 6, corner, True)]
        with tifffile.TiffWriter(tmp_path / f"{t}.tif") as file:
            tags.append((34735, 3, len(keys), keys, True))
            file.write(pixels, subifds=1, extratags=tags, metadata=None)
            file.write(pixels[::2, : width // 2], subfiletype=1, metadata=None)
    image = cloudimg.open(f"{tmp_path}/{{t}}.tif", align="inner")
    assert [level.shape for level in image.levels] == [(2, 16, 1)]
    assert (image.read()[:, 0, 0] == [0, 1]).all()


# --------------------------------------------------------------------------------------- bad input


def test_files_without_a_transform_cannot_be_aligned(tmp_path: Path) -> None:
    """A reference system without transform, and the reverse."""
    geotiff(tmp_path / "a_0.tif")
    geotiff(tmp_path / "a_1.tif", transform=None)
    with pytest.raises(MismatchError, match=r"a_1\.tif .*no affine transform.*-a_ullr"):
        cloudimg.open(f"{tmp_path}/a_{{t}}.tif", align="outer")
    with pytest.raises(MismatchError, match=r"a_1\.tif .*origin is none"):
        cloudimg.open(f"{tmp_path}/a_{{t}}.tif")
    geotiff(tmp_path / "b_0.tif", crs=None)
    geotiff(tmp_path / "b_1.tif", moved(3, 0), crs=None)
    with pytest.raises(MismatchError, match=r"b_0\.tif .*no coordinate reference system.*-a_srs"):
        cloudimg.open(f"{tmp_path}/b_{{t}}.tif", align="outer")


def test_align_is_checked(tmp_path: Path) -> None:
    geotiff(tmp_path / "0.tif")
    with pytest.raises(ArgumentError, match="'outer', 'inner'"):
        cloudimg.open(f"{tmp_path}/0.tif", align="left")
    with pytest.raises(ArgumentError, match="align="):
        cloudimg.open(f"{tmp_path}/{{f}}.tif", align="outer", place="stage")
    with pytest.raises(ArgumentError, match="axes y and x"):
        cloudimg.open(f"{tmp_path}/{{f}}.tif", align="outer", axes={"y": "row"})


# ---------------------------------------------------------------------- copies and the command line


def test_a_copy_of_aligned_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for t, columns in enumerate((0, 5, -3)):
        geotiff(tmp_path / f"{t}.tif", moved(columns, t), pixels=pixels_of(t), nodata=255)
    pattern = f"{tmp_path}/{{t}}.tif"
    expected = cloudimg.open(pattern, align="inner").read()
    assert main(["migrate", pattern, f"{tmp_path}/copy", "--align", "inner"]) == 0
    assert main(["verify", f"{tmp_path}/copy", "--against-source"]) == 0
    import zarr

    np.testing.assert_array_equal(
        zarr.open(f"{tmp_path}/copy")["0"][:].reshape(expected.shape), expected
    )
    # The same call continues a copy, another one is refused.
    assert main(["migrate", pattern, f"{tmp_path}/copy", "--align", "inner"]) == 0
    capsys.readouterr()
    assert main(["migrate", pattern, f"{tmp_path}/copy", "--align", "outer"]) != 0
    # Files that are written again lack pixels, and do not say that they begin where they did.
    written = cloudimg.export(f"{tmp_path}/copy", f"{tmp_path}/again")
    assert any('align="inner"' in part.why for part in written.not_written)
    assert any(part.what == "ModelTiepointTag" for part in written.not_written)
    (path,) = (tmp_path / "again").rglob("1.tif")
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), expected[1])
        assert file.transform == Affine.identity()
    with pytest.raises(ArgumentError, match="align"):
        cloudimg.retire(f"{tmp_path}/copy", move_to=f"{tmp_path}/old")
    stored = json.loads((tmp_path / "copy" / ".cloudimg" / "plan.json").read_text())
    assert stored["source"]["open"]["align"] == "inner"


def test_the_advice_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    geotiff(tmp_path / "0.tif")
    geotiff(tmp_path / "1.tif", moved(3, 0))
    assert main(["info", f"{tmp_path}/{{t}}.tif"]) == 4
    assert "--align outer" in capsys.readouterr().err
    assert main(["info", f"{tmp_path}/{{t}}.tif", "--align", "outer"]) == 0
    assert re.search(rf"x +{WIDTH + 3}\b", capsys.readouterr().out)


def test_tokens_change_with_the_places(tmp_path: Path) -> None:
    geotiff(tmp_path / "0.tif")
    geotiff(tmp_path / "1.tif", moved(3, 0))
    pattern = f"{tmp_path}/{{t}}.tif"
    tokens = {
        dask.base.tokenize(cloudimg.open(pattern, **options))
        for options in ({"align": "outer"}, {"align": "inner"}, {"allow_differences": "origin"})
    }
    assert len(tokens) == 3
    same = [dask.base.tokenize(cloudimg.open(pattern, align="outer")) for _ in range(2)]
    assert same[0] == same[1]
