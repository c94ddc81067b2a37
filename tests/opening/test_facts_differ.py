"""The first file does not speak for all: what is said of the whole image is compared."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from rasterio.transform import Affine

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError, BadFilesError, MismatchError
from cloudimg.image.attributes import ImageAttributes
from tests.support.clusters import local_client
from tests.support.differing import (
    EQUAL,
    HEIGHT,
    NORTH_UP,
    PLANE,
    SHARED,
    UTM,
    WIDTH,
    geotiff,
    moved,
    palette,
)

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def refused(pattern: str, **options: Any) -> MismatchError:
    with pytest.raises(MismatchError) as caught:
        cloudimg.open(pattern, **{"validate": "all", **options})
    return caught.value


# ------------------------------------------------------------------- frames of maps: place on Earth


@pytest.mark.parametrize("validate", ["first", "all"])
def test_scenes_300_metres_apart(corpus: Path, validate: str) -> None:
    """Stacked, they would be compared pixel by pixel."""
    folder = corpus / "reports" / "geo-frames"
    same = cloudimg.open(f"{folder}/LC08_{{t:%Y%m%d}}_B4.TIF", validate=validate)
    assert same.shape == (2, 512, 640)
    assert same.attrs["geo"]["transform"] == [10, 0, 500000, 0, -10, 4600000]
    pattern = f"{folder}/SH_{{t:%Y%m%d}}_B4.TIF"
    message = refused(pattern, validate=validate).message
    assert f"{folder}/SH_20200908_B4.TIF" in message
    assert f"{folder}/SH_20200924_B4.TIF" in message
    assert "(500000, 4600000)" in message
    assert "(500300, 4600000)" in message
    assert 'allow_differences=["origin"]' in message
    assert 'align="outer"' in message


def test_allowed_difference_of_origins(corpus: Path) -> None:
    pattern = f"{corpus}/reports/geo-frames/SH_{{t:%Y%m%d}}_B4.TIF"
    image = cloudimg.open(pattern, validate="all", allow_differences="origin")
    assert image.read({"t": 1}).shape == (512, 640)
    # Where the image lies is not known, but its reference system and scale are.
    assert image.attrs["geo"] == {
        "pixel_scale": [10, 10, 0],
        "epsg": 32633,
        "crs": UTM,
    }
    (note,) = image.notes
    assert note.kind == "facts-differ-origin"
    assert note.urls[0].endswith("SH_20200924_B4.TIF")
    assert "SH_20200908_B4.TIF" in note
    assert "note:" in repr(image)


UNCONFIRMED: dict[str, set[str]] = {
    "pixel_size": {"epsg", "crs"},
    "crs": {"pixel_scale"},
    "origin": {"epsg", "crs", "pixel_scale"},
}
"""Facts that may differ, and what is known of the georeference without them."""


@pytest.mark.parametrize("fact", UNCONFIRMED)
def test_an_allowed_fact_is_left_out_until_all_headers_agree(tmp_path: Path, fact: str) -> None:
    """The files agree, but a header that was not read is not known to."""
    for t in range(3):
        geotiff(tmp_path / f"a_{t}.tif")
    pattern = f"{tmp_path}/a_{{t}}.tif"
    first = cloudimg.open(pattern).attrs
    assert first["pixel_size"]["x"] == 10
    assert {"transform", "tiepoints", *UNCONFIRMED["origin"]} == first["geo"].keys()
    unconfirmed = cloudimg.open(pattern, allow_differences=fact)
    assert unconfirmed.attrs["geo"].keys() == UNCONFIRMED[fact]
    lost = {"pixel_size", "pixel_size_unit"} if fact == "pixel_size" else set()
    assert unconfirmed.attrs.keys() == first.keys() - lost
    assert unconfirmed.notes == ()
    same = cloudimg.open(pattern, allow_differences=fact, validate="all")
    assert same.attrs.keys() == first.keys()
    assert same.attrs["geo"] == first["geo"]
    # One file speaks for itself, and so do two tiles whose headers are both read.
    one = cloudimg.open(f"{tmp_path}/a_0.tif", allow_differences=fact)
    assert one.attrs["geo"] == first["geo"]
    for x in range(2):
        geotiff(tmp_path / f"x_{x}.tif", moved(x * WIDTH, 0))
    tiles = cloudimg.open(f"{tmp_path}/x_{{x}}.tif", allow_differences=fact)
    assert tiles.attrs["geo"] == first["geo"]
    assert tiles.attrs["pixel_size"] == first["pixel_size"]


@pytest.mark.parametrize("name", SHARED)
def test_what_may_not_differ(tmp_path: Path, name: str) -> None:
    """Refused with both files and both values; opened if the user allows what the message says."""
    write_first, write_other, fact, first_value, other_value = SHARED[name]
    write_first(tmp_path / "a_0.tif")
    write_first(tmp_path / "a_1.tif")
    write_other(tmp_path / "a_2.tif")
    pattern = f"{tmp_path}/a_{{t}}.tif"
    error = refused(pattern)
    assert error.url == f"{tmp_path}/a_2.tif"
    assert f"{tmp_path}/a_0.tif" in error.message
    assert "a_1.tif" not in error.message
    assert first_value in error.message
    assert other_value in error.message
    facts = cloudimg.open(f"{tmp_path}/a_{{t:[01]}}.tif", validate="all").attrs
    named = error.message.partition("allow_differences=")[2].partition("]")[0] + "]"
    assert f'"{fact}"' in named
    allowed = tuple(part.strip('" []') for part in named.split(","))
    image = cloudimg.open(pattern, validate="all", allow_differences=allowed)
    assert f"facts-differ-{fact.replace('_', '-')}" in {note.kind for note in image.notes}
    for key in (fact, f"{fact}_unit"):
        assert key not in image.attrs
    if fact in facts:
        np.testing.assert_equal(facts[fact], cloudimg.open(f"{tmp_path}/a_0.tif").attrs[fact])


@pytest.mark.parametrize("name", EQUAL)
def test_what_counts_as_equal(tmp_path: Path, name: str) -> None:
    write_first, write_other = EQUAL[name]
    write_first(tmp_path / "a_0.tif")
    write_other(tmp_path / "a_1.tif")
    for urls in (f"{tmp_path}/a_{{t}}.tif", [str(tmp_path / f"a_{t}.tif") for t in (1, 0)]):
        image = cloudimg.open(urls, validate="all")
        assert {note.kind for note in image.notes} <= {"facts-differ-compression"}


def test_a_sample_format_is_part_of_the_type(tmp_path: Path) -> None:
    """The files are not of one type then; their pixels are filled where the user allows that."""
    for t in range(3):
        dtype = np.int8 if t == 1 else np.uint8
        tifffile.imwrite(tmp_path / f"a_{t}.tif", PLANE.astype(dtype))
    pattern = f"{tmp_path}/a_{{t}}.tif"
    with pytest.raises(BadFilesError, match=r"a_1\.tif.*dtype int8 instead of uint8") as caught:
        cloudimg.open(pattern, validate="all")
    assert 'bad="fill"' in caught.value.message
    image = cloudimg.open(pattern, validate="all", bad="fill")
    assert image.report.count("other-dtype") == 1


def test_colour_spaces_differ_although_the_stored_photometric_is_the_same(tmp_path: Path) -> None:
    """JPEG in YCbCr is decoded to RGB, other codecs leave YCbCr as it is."""
    pixels = np.full((32, 32, 3), 128, np.uint8)
    options: dict[str, Any] = {"photometric": "ycbcr", "subsampling": (1, 1)}
    tifffile.imwrite(tmp_path / "a_0.tif", pixels, compression="zlib", **options)
    tifffile.imwrite(tmp_path / "a_1.tif", pixels, compression="jpeg", **options)
    message = refused(f"{tmp_path}/a_{{t}}.tif").message
    assert "its color space is rgb, but ycbcr" in message
    assert 'allow_differences=["color_space"]' in message


def test_palettes_may_differ_where_each_is_expanded(tmp_path: Path) -> None:
    for z in range(2):
        tifffile.imwrite(tmp_path / f"a_{z}.tif", PLANE, photometric="palette", colormap=palette(z))
    image = cloudimg.open(f"{tmp_path}/a_{{z}}.tif", validate="all", palette="rgb")
    for z in range(2):
        np.testing.assert_array_equal(
            image.read({"z": z}), np.moveaxis(palette(z)[:, PLANE], 0, -1)
        )
    assert "colormap" not in image.attrs


@pytest.mark.parametrize("equal", [(-1.0, -1.0), (0, 0.0), (float("nan"), float("nan"))])
def test_equal_values_of_nodata(tmp_path: Path, equal: tuple[float, float]) -> None:
    pixels = PLANE.astype(np.float32)
    for t, value in enumerate(equal):
        geotiff(tmp_path / f"a_{t}.tif", nodata=value, pixels=pixels)
    nodata = cloudimg.open(f"{tmp_path}/a_{{t}}.tif", validate="all").attrs["nodata"]
    np.testing.assert_equal(nodata, equal[0])


def test_rounding_of_scale_and_origin_is_no_difference(tmp_path: Path) -> None:
    geotiff(tmp_path / "a_0.tif")
    geotiff(tmp_path / "a_1.tif", Affine(10.0001, 0, 500001, 0, -10, 4599996))
    assert cloudimg.open(f"{tmp_path}/a_{{t}}.tif", validate="all").shape == (2, HEIGHT, WIDTH)


def test_half_a_pixel_is_a_difference(tmp_path: Path) -> None:
    """That is the distance between the corner and the centre of the first pixel."""
    geotiff(tmp_path / "a_0.tif")
    geotiff(tmp_path / "a_1.tif", moved(0.5, 0.5))
    assert "(500005, 4599995)" in refused(f"{tmp_path}/a_{{t}}.tif").message


# ------------------------------------------------------------------------------ mosaics of maps


@pytest.mark.parametrize("validate", ["first", "all"])
def test_a_mosaic_of_maps(tmp_path: Path, validate: str) -> None:
    """The tiles of one raster, the last of which are smaller; the image has the frame of all."""
    for y, x in np.ndindex(2, 3):
        pixels = PLANE[: HEIGHT - 3 * y, : WIDTH - 7 * (x == 2)]
        geotiff(tmp_path / f"{x}_{y}.tif", moved(x * WIDTH, y * HEIGHT), pixels=pixels)
    image = cloudimg.open(f"{tmp_path}/{{x}}_{{y}}.tif", validate=validate)
    assert image.shape == (2 * HEIGHT - 3, 3 * WIDTH - 7)
    assert image.attrs["geo"]["transform"] == list(NORTH_UP)[:6]


def test_a_rotated_mosaic(tmp_path: Path) -> None:
    rotated = NORTH_UP @ Affine.rotation(30)
    for x in range(2):
        geotiff(tmp_path / f"{x}.tif", rotated @ Affine.translation(x * WIDTH, 0))
    image = cloudimg.open(f"{tmp_path}/{{x}}.tif")
    assert image.attrs["geo"]["transform"] == pytest.approx(list(rotated)[:6])
    # Moved by its width along the axes of the map, not along its own.
    geotiff(tmp_path / "1.tif", NORTH_UP @ Affine.translation(WIDTH, 0) @ Affine.rotation(30))
    assert 'allow_differences=["origin"]' in refused(f"{tmp_path}/{{x}}.tif").message
    geotiff(tmp_path / "1.tif", NORTH_UP @ Affine.rotation(40))
    assert 'allow_differences=["pixel_size"]' in refused(f"{tmp_path}/{{x}}.tif").message


@pytest.mark.parametrize(
    ("columns", "rows"),
    [(WIDTH / 2, 0), (0, 0), (3, 5 - HEIGHT), (WIDTH + 0.5, 0)],
    ids=["half over each other", "on each other", "corner", "half a pixel apart"],
)
@pytest.mark.parametrize("validate", ["first", "all"])
def test_maps_that_do_not_lie_side_by_side(
    tmp_path: Path, columns: float, rows: float, validate: str
) -> None:
    geotiff(tmp_path / "0.tif")
    geotiff(tmp_path / "1.tif", moved(columns, rows))
    message = refused(f"{tmp_path}/{{x}}.tif", validate=validate).message
    assert f"{tmp_path}/0.tif" in message
    assert f"{tmp_path}/1.tif" in message
    assert 'allow_differences=["origin"]' in message
    assert ('place="stack"' in message) == (columns != WIDTH + 0.5)
    # What the message advises works.
    apart = cloudimg.open(f"{tmp_path}/{{x}}.tif", validate=validate, place="stack")
    assert apart.shape == (2, HEIGHT, WIDTH)
    assert "transform" not in apart.attrs["geo"]
    assert apart.attrs["geo"]["epsg"] == 32633
    glued = cloudimg.open(f"{tmp_path}/{{x}}.tif", validate=validate, allow_differences=["origin"])
    assert glued.shape == (HEIGHT, 2 * WIDTH)
    assert "transform" not in glued.attrs["geo"]


def test_rows_of_tiles_that_count_northwards(tmp_path: Path) -> None:
    """By their names, the southern tile comes first: the mosaic would be upside down."""
    geotiff(tmp_path / "4600.tif", moved(0, HEIGHT))
    geotiff(tmp_path / "4601.tif", moved(0, 0), pixels=PLANE + 1)
    image = cloudimg.open(f"{tmp_path}/{{y}}.tif", validate="first")
    np.testing.assert_array_equal(image.read(), np.concatenate([PLANE + 1, PLANE]))
    assert image.attrs["geo"]["transform"] == list(NORTH_UP)[:6]


def test_the_frame_of_a_mosaic_whose_first_tile_is_missing(tmp_path: Path) -> None:
    for y, x in [(0, 1), (1, 0), (1, 1)]:
        geotiff(tmp_path / f"{x}_{y}.tif", moved(x * WIDTH, y * HEIGHT))
    image = cloudimg.open(f"{tmp_path}/{{x}}_{{y}}.tif", missing="fill")
    assert image.attrs["geo"]["transform"] == list(NORTH_UP)[:6]
    assert "tiepoints" not in image.attrs["geo"]


# -------------------------------------------------------------------------- what may differ


def described(path: Path, number: int, **changes: Any) -> None:
    """An OME-TIFF with a position, a time, an objective and a channel of its own."""
    values: dict[str, Any] = {
        "channel": "GFP", "magnification": 20, "x": 100.0, "time": f"2024-05-0{number + 1}T10:00:00"
    } | changes  # fmt: skip
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Instrument ID="Instrument:0"><Objective ID="Objective:0" NominalMagnification='
        f'"{values["magnification"]}"/></Instrument>'
        f'<Image ID="Image:0" Name="field {number}"><AcquisitionDate>{values["time"]}'
        '</AcquisitionDate><ObjectiveSettings ID="Objective:0"/>'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" BigEndian="false"'
        f' SizeX="{WIDTH}" SizeY="{HEIGHT}" SizeZ="1" SizeC="1" SizeT="1"'
        ' PhysicalSizeX="0.5" PhysicalSizeY="0.5">'
        f'<Channel ID="Channel:0:0" Name="{values["channel"]}" SamplesPerPixel="1"/>'
        '<TiffData IFD="0" PlaneCount="1"/>'
        f'<Plane TheZ="0" TheC="0" TheT="0" PositionX="{values["x"]}" PositionY="0"/>'
        "</Pixels></Image></OME>"
    )
    tifffile.imwrite(path, PLANE, description=xml.encode(), metadata=None)


def test_one_file_keeps_what_describes_it(tmp_path: Path) -> None:
    described(tmp_path / "a_0.ome.tif", 0)
    for source in (tmp_path / "a_0.ome.tif", f"{tmp_path}/a_{{t}}.ome.tif"):
        attrs = cloudimg.open(source).attrs
        assert attrs["acquired"] == "2024-05-01T10:00:00"
        assert attrs["name"] == "field 0"
        assert attrs["stage_position"] == {"x": 100, "y": 0}


@pytest.mark.parametrize("validate", ["first", "all"])
def test_several_files_have_no_attributes_of_one(tmp_path: Path, validate: str) -> None:
    """Times, positions and names differ by their nature, which is not worth a note."""
    for t in range(3):
        described(tmp_path / f"a_{t}.ome.tif", t, x=100.0 * t)
    image = cloudimg.open(f"{tmp_path}/a_{{t}}.ome.tif", validate=validate)
    assert not {"acquired", "name", "stage_position", "stage_position_unit"} & image.attrs.keys()
    assert image.attrs["pixel_size"] == {"x": 0.5, "y": 0.5}
    assert image.attrs["channel_names"] == ["GFP"]
    assert image.attrs["magnification"] == 20
    assert image.notes == ()


def test_what_differs_is_left_out_with_a_note(tmp_path: Path) -> None:
    described(tmp_path / "a_0.ome.tif", 0)
    described(tmp_path / "a_1.ome.tif", 1, channel="RFP")
    described(tmp_path / "a_2.ome.tif", 2, magnification=60, channel="RFP")
    image = cloudimg.open(f"{tmp_path}/a_{{t}}.ome.tif", validate="all")
    assert not {"channel_names", "magnification"} & image.attrs.keys()
    assert image.attrs["pixel_size"] == {"x": 0.5, "y": 0.5}
    found = {note.kind: (note.n_files, note.urls[0]) for note in image.notes}
    assert found == {
        "facts-differ-channel-names": (2, f"{tmp_path}/a_1.ome.tif"),
        "facts-differ-magnification": (1, f"{tmp_path}/a_2.ome.tif"),
    }
    assert all(f"{tmp_path}/a_0.ome.tif" in note for note in image.notes)
    assert set(image.attrs) <= set(ImageAttributes.__annotations__)


def test_channels_in_files_of_their_own_have_no_name_of_the_first(tmp_path: Path) -> None:
    for c, name in enumerate(("DAPI", "GFP")):
        described(tmp_path / f"a_{c}.ome.tif", 0, channel=name)
    image = cloudimg.open(f"{tmp_path}/a_{{c}}.ome.tif", validate="all")
    assert "channel_names" not in image.attrs
    assert image.notes == ()


def test_coordinates_that_differ(tmp_path: Path) -> None:
    """The times of the planes in each file are not those of the others."""
    for field, step in enumerate((2.0, 2.0, 5.0)):
        times = {"DeltaT": [0, step, 2 * step], "DeltaTUnit": ["s"] * 3}
        tifffile.imwrite(
            tmp_path / f"a_{field}.tif",
            np.stack([PLANE] * 3),
            ome=True,
            metadata={"axes": "TYX", "TimeIncrement": step, "Plane": times},
        )
    same = cloudimg.open(f"{tmp_path}/a_{{field:[01]}}.tif", validate="all")
    assert same.attrs["time_step_s"] == 2
    assert list(same.coords["t"]) == [0, 2, 4]
    image = cloudimg.open(f"{tmp_path}/a_{{field}}.tif", validate="all")
    assert "t" not in image.coords
    assert "time_step_s" not in image.attrs
    assert {note.kind for note in image.notes} == {
        "facts-differ-coordinates-t",
        "facts-differ-time-step-s",
    }
    renamed = cloudimg.open(f"{tmp_path}/a_{{field}}.tif", validate="all", axes={"t": "frame"})
    assert "frame" not in renamed.coords


def test_a_file_that_says_nothing_contradicts_nothing(tmp_path: Path) -> None:
    """Of a set of OME-TIFFs, often only the first has the metadata."""
    described(tmp_path / "a_0.ome.tif", 0)
    tifffile.imwrite(tmp_path / "a_1.ome.tif", PLANE, metadata=None)
    image = cloudimg.open(f"{tmp_path}/a_{{t}}.ome.tif", validate="all")
    assert image.attrs["pixel_size"] == {"x": 0.5, "y": 0.5}
    assert image.attrs["channel_names"] == ["GFP"]


# ------------------------------------------------------------- many files, clusters, command line


@pytest.fixture(scope="module")
def client() -> Any:
    """A cluster within this process."""
    with local_client() as client:
        yield client


@pytest.mark.slow
def test_a_cluster_compares_the_same(tmp_path: Path, client: Any) -> None:
    """Two blocks of files, in the second of which one differs."""
    geotiff(tmp_path / "same")
    geotiff(tmp_path / "other", moved(30, 0), nodata=5)
    for t in range(600):
        name = "other" if t == 555 else "same"
        (tmp_path / f"a_{t:03d}.tif").hardlink_to(tmp_path / name)
    pattern = f"{tmp_path}/a_{{t:03d}}.tif"
    here, there = refused(pattern), refused(pattern, client=client)
    assert there.message == here.message
    for part in ("a_000.tif", "a_555.tif", "(500300, 4600000)", "nodata value is 5, but none"):
        assert part in there.message
    allowed: dict[str, Any] = {"allow_differences": ("origin", "nodata"), "validate": "all"}
    image = cloudimg.open(pattern, **allowed, client=client)
    assert [note.n_files for note in image.notes] == [1, 1]
    assert image.notes == cloudimg.open(pattern, **allowed).notes
    assert "transform" not in image.attrs["geo"]


def test_many_differing_files_are_one_message(tmp_path: Path) -> None:
    geotiff(tmp_path / "a_00.tif")
    geotiff(tmp_path / "a_01.tif", crs="EPSG:32634")
    for t in range(2, 40):
        shutil.copy(tmp_path / "a_01.tif", tmp_path / f"a_{t:02d}.tif")
    message = refused(f"{tmp_path}/a_{{t:02d}}.tif").message
    assert message.startswith("39 files do not fit the first one: ")
    assert "and 29 more" in message


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    geotiff(tmp_path / "a_0.tif")
    geotiff(tmp_path / "a_1.tif", moved(30, 0), nodata=1)
    url = f"{tmp_path}/a_{{t}}.tif"
    assert main(["info", url, "--validate", "all"]) == 4
    shown = capsys.readouterr().err
    assert "--allow-differences nodata origin to put" in shown
    assert "--place stack" in shown
    assert main(["info", url, "--validate", "all", "--allow-differences", "nodata", "origin"]) == 0
    assert "facts" not in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["shape", ["origin", "dtype"], 3, None])
def test_only_known_facts_may_be_allowed(tmp_path: Path, wrong: Any) -> None:
    geotiff(tmp_path / "a_0.tif")
    with pytest.raises(ArgumentError, match=r"allow_differences=.*pixel_size, photometric"):
        cloudimg.open(f"{tmp_path}/a_{{t}}.tif", allow_differences=wrong)


def with_geo_keys(path: Path, keys: dict[int, int], citation: str) -> None:
    """A file whose reference system has no EPSG code, with what it is called."""
    values = [1, 1, 0, len(keys) + 1]
    for key, value in sorted({**keys, 3073: -1}.items()):
        values += [key, 34737, len(citation) + 1, 0] if value < 0 else [key, 0, 1, value]
    tags = [
        (34735, "H", len(values), values, True),
        (34737, "s", None, citation + "|", True),
    ]
    tifffile.imwrite(path, PLANE, extratags=tags, metadata=None)


def test_what_a_system_is_called_counts_only_where_nothing_defines_it(tmp_path: Path) -> None:
    """Programs write the name of the scene there, and ESRI's the definition of the system."""
    pattern = f"{tmp_path}/a_{{t}}.tif"
    defined = {1024: 1, 3072: 32767, 3074: 16033}
    for t in range(2):
        with_geo_keys(tmp_path / f"a_{t}.tif", defined, f"scene {t}")
    assert cloudimg.open(pattern, validate="all").attrs["geo"]["crs"].startswith("user-defined (")
    with_geo_keys(tmp_path / "a_1.tif", defined | {3074: 16034}, "scene 1")
    assert "coordinate reference system" in refused(pattern).message
    for t in range(2):
        with_geo_keys(tmp_path / f"a_{t}.tif", {1024: 1, 3072: 32767}, f"ESRI PE String = P{t}")
    assert "ESRI PE String = P0" in refused(pattern).message
    assert "ESRI PE String = P1" in refused(pattern).message
