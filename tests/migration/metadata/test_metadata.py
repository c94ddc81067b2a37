"""Attributes and coordinates of each flavour of TIFF, as `cloudimg.open` returns them.

Files are written with tifffile, or by hand following the documents that the readers cite. Real
files of the corpus are compared with values that are read from their bytes without this package.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import pickle
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

import cloudimg

Array = npt.NDArray[Any]

PLANE = np.arange(16 * 24, dtype=np.uint16).reshape(16, 24)
MICRO = "\N{MICRO SIGN}m"


def put(folder: Path, pixels: Array = PLANE, name: str = "file.tif", **options: Any) -> Path:
    options.setdefault("metadata", None)
    options.setdefault("photometric", "minisblack")
    options.setdefault("software", False)
    tifffile.imwrite(folder / name, pixels, **options)
    return folder / name


def attrs_of(folder: Path, pixels: Array = PLANE, **options: Any) -> dict[str, Any]:
    return dict(cloudimg.open(str(put(folder, pixels, **options))).attrs)


def um(*sizes: float) -> dict[str, Any]:
    """Attributes of pixels of a size along x, y and maybe z, in micrometres."""
    known = dict(zip("xyz", sizes, strict=False))
    return {
        "pixel_size": pytest.approx(known, rel=1e-12),
        "pixel_size_unit": dict.fromkeys(known, MICRO),
    }


def tag(code: int, text: str) -> tuple[Any, ...]:
    """A tag of text for `extratags`."""
    data = text.encode() + b"\0"
    return (code, 2, len(data), data, True)


def doubles(code: int, *values: float) -> tuple[Any, ...]:
    return (code, 12, len(values), values, True)


def subset(attrs: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """The attributes that are expected, so that a failure shows all of them."""
    return {name: attrs.get(name) for name in expected}


# Any TIFF


def test_a_plain_file_has_only_attributes_of_its_encoding(tmp_path: Path) -> None:
    image = cloudimg.open(str(put(tmp_path, compression="zlib")))
    assert image.attrs == {
        "kind": "uniform",
        "compression": "ADOBE_DEFLATE",
        "photometric": "MINISBLACK",
        "color_space": "gray",
    }
    assert not image.coords


@pytest.mark.parametrize(
    ("resolution", "unit", "sizes"),
    [
        ((40000, 20000), "centimeter", (0.25, 0.5)),
        ((254, 508), "inch", (100, 50)),
        ((100, 100), "none", None),
        ((1, 1), "inch", None),  # the writer knew no size
    ],
)
def test_resolution(tmp_path: Path, resolution: Any, unit: str, sizes: Any) -> None:
    attrs = attrs_of(tmp_path, resolution=resolution, resolutionunit=unit)
    expected = um(*sizes) if sizes else {"pixel_size": None, "pixel_size_unit": None}
    assert subset(attrs, expected) == expected


def test_a_description_for_people(tmp_path: Path) -> None:
    assert attrs_of(tmp_path, description="a cell\n")["description"] == "a cell"
    assert "description" not in attrs_of(tmp_path, description="x" * 5000)
    assert "description" not in attrs_of(tmp_path, description="<xml/>")
    assert "description" not in attrs_of(tmp_path, metadata={"axes": "YX"})  # tifffile's JSON


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2022:08:01 22:23:24", "2022-08-01T22:23:24"),
        ("2022-08-01T22:23:24+02:00", "2022-08-01T22:23:24+02:00"),
        ("0000:00:00 00:00:00", None),
        ("2022:13:41 22:23:24", None),
        ("yesterday", None),
    ],
)
def test_time_of_the_file(tmp_path: Path, written: str, read: str | None) -> None:
    attrs = attrs_of(tmp_path, extratags=[tag(306, written)])
    assert attrs.get("acquired") == read
    assert "metadata_problem" not in attrs


def test_the_palette_is_unchanged(tmp_path: Path) -> None:
    palette = np.random.default_rng(1).integers(0, 2**16, (3, 256), np.uint16)
    pixels = PLANE.astype(np.uint8)
    for byteorder in "<>":
        path = put(tmp_path, pixels, photometric="palette", colormap=palette, byteorder=byteorder)
        found = cloudimg.open(str(path)).attrs["colormap"]
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, palette)


def test_meaning_of_samples_and_orientation(tmp_path: Path) -> None:
    pixels = np.zeros((16, 24, 4), np.uint8)
    for kind, name in (("assocalpha", "associated"), ("unassalpha", "unassociated")):
        attrs = attrs_of(tmp_path, pixels, photometric="rgb", extrasamples=[kind])
        assert attrs["samples"] == ["red", "green", "blue", f"alpha: {name}"]
    assert "samples" not in attrs_of(tmp_path, pixels[..., :3], photometric="rgb")
    assert attrs_of(tmp_path, extratags=[(274, 3, 1, 6, True)])["orientation"] == 6
    assert "orientation" not in attrs_of(tmp_path, extratags=[(274, 3, 1, 1, True)])


# Maps


def geo_keys(*keys: tuple[int, int]) -> tuple[Any, ...]:
    values = [1, 1, 0, len(keys)]
    for key, value in keys:
        values += [key, 0, 1, value]
    return (34735, 3, len(values), values, True)


SCALE, TIEPOINT = doubles(33550, 10.0, 20.0, 0.0), doubles(33922, 2, 3, 0, 500000, 4000000, 0)


def test_map_with_scale_and_tiepoint(tmp_path: Path) -> None:
    keys = geo_keys((1024, 1), (1025, 1), (3072, 32633), (3076, 9001))
    resolution = {"resolution": (72, 72), "resolutionunit": "inch"}
    attrs = attrs_of(tmp_path, extratags=[SCALE, TIEPOINT, keys], **resolution)
    assert attrs["geo"] == {
        "pixel_scale": [10, 20, 0],
        "tiepoints": [[2, 3, 0, 500000, 4000000, 0]],
        "transform": [10, 0, 499980, 0, -20, 4000060],
        "epsg": 32633,
        "crs": "EPSG:32633",
    }
    assert attrs["pixel_size"] == {"x": 10, "y": 20}
    assert attrs["pixel_size_unit"] == {"x": "m", "y": "m"}


def test_tags_that_place_the_centre_of_a_pixel(tmp_path: Path) -> None:
    keys = geo_keys((1024, 2), (1025, 2), (2048, 4326))
    attrs = attrs_of(tmp_path, extratags=[SCALE, TIEPOINT, keys])
    assert attrs["geo"]["transform"] == [10, 0, 499975, 0, -20, 4000070]
    assert attrs["pixel_size_unit"] == {"x": "degree", "y": "degree"}


def test_rotated_map(tmp_path: Path) -> None:
    matrix = doubles(34264, 1, 2, 0, 100, 3, -4, 0, 200, 0, 0, 0, 0, 0, 0, 0, 1)
    attrs = attrs_of(tmp_path, extratags=[matrix, geo_keys((1024, 1), (3072, 32633))])
    assert attrs["geo"]["transform"] == [1, 2, 100, 3, -4, 200]
    assert "pixel_size" not in attrs


def test_map_with_an_unknown_unit_has_no_pixel_size(tmp_path: Path) -> None:
    resolution = {"resolution": (72, 72), "resolutionunit": "inch"}
    attrs = attrs_of(tmp_path, extratags=[SCALE, TIEPOINT, geo_keys((1024, 1))], **resolution)
    assert attrs["geo"]["pixel_scale"] == [10, 20, 0]
    assert "pixel_size" not in attrs
    assert "epsg" not in attrs["geo"]


def test_ground_control_points_make_no_transformation(tmp_path: Path) -> None:
    points = [float(i) for i in range(12)]
    attrs = attrs_of(tmp_path, extratags=[doubles(33922, *points), geo_keys((1024, 1))])
    assert attrs["geo"] == {"tiepoints": [points[:6], points[6:]]}


@pytest.mark.parametrize(
    ("text", "value"), [("-9999", -9999), ("0.5", 0.5), ("1.#INF", math.inf), ("65535 ", 65535)]
)
def test_nodata(tmp_path: Path, text: str, value: float) -> None:
    assert attrs_of(tmp_path, extratags=[tag(42113, text)])["nodata"] == value


def test_bands_that_gdal_named(tmp_path: Path) -> None:
    xml = "<GDALMetadata>" + "".join(
        f'<Item name="DESCRIPTION" sample="{i}" role="description">{name}</Item>'
        for i, name in enumerate(["red", "a &amp;quot;b&amp;quot;", "nir"])
    )
    options = {"extratags": [tag(42112, xml + "</GDALMetadata>")], "photometric": "rgb"}
    path = put(tmp_path, np.zeros((16, 24, 3), np.uint8), **options)
    image = cloudimg.open(str(path))
    assert image.attrs["channel_names"] == ["red", 'a "b"', "nir"]
    assert list(image.coords["s"]) == ["red", 'a "b"', "nir"]


# OME


OME = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'


def ome_xml(shape: str, inside: str = "", pixels: str = "", outside: str = "") -> str:
    """An OME-XML of one image; `shape` holds the sizes along t, z and c."""
    t, z, c = shape.split()
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME {OME}>{outside}'
        f'<Image ID="Image:0" Name="a cell"><AcquisitionDate>2020-02-03T04:05:06</AcquisitionDate>'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="24" SizeY="16"'
        f' SizeT="{t}" SizeZ="{z}" SizeC="{c}" {pixels}>{inside}<TiffData/></Pixels>'
        '<AnnotationRef ID="Annotation:0"/></Image></OME>'
    )


def ome_file(folder: Path, shape: str, *parts: str) -> cloudimg.Image:
    n = math.prod(int(part) for part in shape.split())
    stack = np.zeros((n, 16, 24), np.uint16)
    return cloudimg.open(str(put(folder, stack, description=ome_xml(shape, *parts).encode())))


def test_ome_units_times_and_places(tmp_path: Path) -> None:
    sizes = (
        'PhysicalSizeX="250" PhysicalSizeXUnit="nm" PhysicalSizeY="0.5" PhysicalSizeZ="2"'
        f' PhysicalSizeZUnit="{MICRO}" TimeIncrement="1500" TimeIncrementUnit="ms"'
    )
    planes = "".join(
        f'<Plane TheT="{t}" TheZ="{z}" TheC="0" DeltaT="{t / 2}" DeltaTUnit="min"'
        f' PositionX="10" PositionXUnit="mm" PositionY="20" PositionYUnit="mm"'
        f' PositionZ="{3000 + 2000 * z}" PositionZUnit="nm"/>'
        for t in range(3)
        for z in range(2)
    )
    image = ome_file(tmp_path, "3 2 1", planes, sizes)
    expected = {
        "name": "a cell",
        "acquired": "2020-02-03T04:05:06",
        "pixel_size": {"x": 250, "y": 0.5, "z": 2},
        "pixel_size_unit": {"x": "nm", "y": MICRO, "z": MICRO},
        "time_step_s": 1.5,
        "stage_position": {"x": 10, "y": 20, "z": 3000},
        "stage_position_unit": {"x": "mm", "y": "mm", "z": "nm"},
        "metadata_problem": None,
    }
    assert subset(dict(image.attrs), expected) == expected
    np.testing.assert_allclose(image.coords["t"], [0, 30, 60])
    np.testing.assert_allclose(image.coords["z"], [3, 5])


def test_ome_planes_that_disagree_or_stand_still_are_no_coordinates(tmp_path: Path) -> None:
    planes = "".join(
        f'<Plane TheT="{t}" TheZ="{z}" TheC="0" DeltaT="{2 * t + z}" PositionZ="7"/>'
        for t in range(3)
        for z in range(2)
    )
    image = ome_file(tmp_path, "3 2 1", planes)
    assert not {"t", "z"} & set(image.coords)
    # They are what they are along both axes.
    assert image.coord_dims["elapsed_s"] == ("t", "z")
    assert image.coords["elapsed_s"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert image.coord_dims["stage_z"] == ()


@pytest.mark.parametrize(
    ("unit", "seconds"),
    [("s", 2), ("ms", 0.002), ("min", 120), ("h", 7200), (f"{MICRO[0]}s", 2e-6)],
)
def test_ome_time_increment(tmp_path: Path, unit: str, seconds: float) -> None:
    image = ome_file(tmp_path, "2 1 1", "", f'TimeIncrement="2" TimeIncrementUnit="{unit}"')
    assert image.attrs["time_step_s"] == pytest.approx(seconds)


@pytest.mark.parametrize("size", ["0", "-1", "inf", "NaN", "1e400", "wide", ""])
def test_a_size_that_no_pixel_has_is_left_out(tmp_path: Path, size: str) -> None:
    image = ome_file(tmp_path, "1 1 1", "", f'PhysicalSizeX="{size}" TimeIncrement="{size}"')
    assert "pixel_size" not in image.attrs
    assert "time_step_s" not in image.attrs


def test_ome_channels(tmp_path: Path) -> None:
    # Red with and without a sign, which is what makes it an integer of 32 bits.
    channels = '<Channel Name="DAPI" Color="-16776961"/><Channel Name="GFP" Color="4278190335"/>'
    image = ome_file(tmp_path, "1 1 2", channels)
    assert image.attrs["channel_names"] == ["DAPI", "GFP"]
    assert image.attrs["channel_colors"] == [-16776961, -16776961]
    assert list(image.coords["c"]) == ["DAPI", "GFP"]
    few = ome_file(tmp_path, "1 1 2", '<Channel Name="DAPI"/>')
    assert "c" not in few.coords


def test_ome_objective(tmp_path: Path) -> None:
    objectives = (
        '<Instrument ID="I"><Objective ID="O:1" NominalMagnification="10"/>'
        '<Objective ID="O:2" NominalMagnification="63"/></Instrument>'
    )
    xml = ome_xml("1 1 1", outside=objectives)
    assert "magnification" not in attrs_of(tmp_path, description=xml)
    named = xml.replace("<Pixels", '<ObjectiveSettings ID="O:2"/><Pixels')
    assert attrs_of(tmp_path, description=named)["magnification"] == 63


@pytest.mark.parametrize(
    ("modulo", "dim", "labels"),
    [
        ('<ModuloAlongT Type="lifetime" Start="5" Step="10" End="35"/>', "h", [5, 15, 25, 35]),
        (
            '<ModuloAlongT Type="angle">'
            + "<Label>a</Label>" * 3
            + "<Label>b</Label></ModuloAlongT>",
            "a",
            ["a", "a", "a", "b"],
        ),
    ],
)
def test_ome_modulo(tmp_path: Path, modulo: str, dim: str, labels: list[Any]) -> None:
    annotation = (
        '<StructuredAnnotations><XMLAnnotation ID="Annotation:0"'
        ' Namespace="openmicroscopy.org/omero/dimension/modulo"><Value>'
        f"<Modulo>{modulo}</Modulo></Value></XMLAnnotation></StructuredAnnotations>"
    )
    image = ome_file(tmp_path, "8 1 1", "", "", annotation)
    assert dict(zip(image.dims, image.shape, strict=True)) == {"t": 2, dim: 4, "y": 16, "x": 24}
    assert list(image.coords[dim]) == labels
    assert "t" not in image.coords


def test_second_image_of_a_file_has_its_own_sizes(tmp_path: Path) -> None:
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for i in (1, 2):
            names = {"Name": [f"c{i}"]}
            writer.write(PLANE, metadata={"axes": "YX", "PhysicalSizeX": i, "Channel": names})
    for i in (1, 2):
        attrs = cloudimg.open(str(path), series=i - 1).attrs
        assert attrs["pixel_size"] == {"x": i}
        assert attrs["channel_names"] == [f"c{i}"]


def test_xml_with_entities_is_refused_and_the_image_is_read(tmp_path: Path) -> None:
    lol = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 3}">' for i in range(4))
    xml = ome_xml("1 1 1", "", 'PhysicalSizeX="1"')
    bomb = xml.replace("<OME", f'<!DOCTYPE OME [<!ENTITY l0 "lol">{lol}]><OME', 1)
    image = cloudimg.open(str(put(tmp_path, description=bomb)))
    assert image.attrs["metadata_problem"].startswith("ome: ValueError: XML with a document type")
    assert "pixel_size" not in image.attrs
    np.testing.assert_array_equal(image.read(), PLANE)


def test_one_file_of_a_set_keeps_the_sizes_and_not_the_channels(tmp_path: Path) -> None:
    def xml(own: int) -> str:
        channels = '<Channel Name="a"/><Channel Name="b"/>'
        data = "".join(
            f'<TiffData FirstC="{c}" IFD="0" PlaneCount="1"><UUID FileName="c{c}.ome.tif">'
            f"urn:uuid:{c}</UUID></TiffData>"
            for c in range(2)
        )
        text = ome_xml("1 1 2", channels, 'PhysicalSizeX="0.3"').replace("<TiffData/>", data)
        return text.replace("<OME", f'<OME UUID="urn:uuid:{own}"', 1)

    for c in range(2):
        put(tmp_path, name=f"c{c}.ome.tif", description=xml(c))
    image = cloudimg.open(str(tmp_path / "c{c}.ome.tif"))
    assert image.shape == (2, 16, 24)
    assert image.attrs["pixel_size"] == {"x": 0.3}
    assert "channel_names" not in image.attrs
    assert list(image.coords["c"]) == [0, 1]


# ImageJ


def imagej_file(folder: Path, axes: str, shape: tuple[int, ...], **metadata: Any) -> cloudimg.Image:
    path = put(
        folder,
        np.zeros((*shape, 16, 24), np.uint16),
        imagej=True,
        resolution=(4, 2),
        metadata={"axes": f"{axes}YX", **metadata},
    )
    return cloudimg.open(str(path))


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        *[(text, MICRO) for text in ("um", "micron", "microns", "\\u00B5m", "Micrometers")],
        ("nm", "nm"),
        ("cm", "cm"),
        ("inch", "inch"),
        ("mm", "mm"),
        ("pixel", None),
        ("('um',)", None),
    ],
)
def test_imagej_units(tmp_path: Path, written: str, unit: str | None) -> None:
    attrs = imagej_file(tmp_path, "Z", (3,), unit=written, spacing=-1.5).attrs
    sizes = {"x": 0.25, "y": 0.5, "z": 1.5}
    assert attrs.get("pixel_size") == (sizes if unit else None)
    assert attrs.get("pixel_size_unit") == (dict.fromkeys(sizes, unit) if unit else None)


def test_imagej_channels(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8)
    tables = [np.stack([ramp, 0 * ramp, 0 * ramp]), np.stack([0 * ramp, ramp // 2, ramp])]
    image = imagej_file(
        tmp_path,
        "C",
        (2,),
        LUTs=tables,
        Ranges=(1.0, 200.0, 3.0, 400.0),
        Labels=["red", "blue"],
        Info="Objective = 63x",
    )
    expected = {
        "channel_colors": [
            int.from_bytes(bytes((255, 0, 0, 255)), "big", signed=True),
            int.from_bytes(bytes((0, 127, 255, 255)), "big", signed=True),
        ],
        "display_ranges": [[1, 200], [3, 400]],
        "channel_names": ["red", "blue"],
        "info": "Objective = 63x",
    }
    assert subset(dict(image.attrs), expected) == expected
    assert list(image.coords["c"]) == ["red", "blue"]


def test_imagej_times_and_labels_of_planes(tmp_path: Path) -> None:
    labels = [f"plane {i}" for i in range(6)]
    image = imagej_file(
        tmp_path, "TZ", (3, 2), finterval=2, tunit="min", Labels=labels, min=5, max=9
    )
    assert image.attrs["time_step_s"] == 120
    assert image.attrs["plane_labels"] == labels
    assert image.attrs["display_ranges"] == [[5, 9]]
    assert not image.coords
    assert imagej_file(tmp_path, "T", (3,), fps=4).attrs["time_step_s"] == 0.25


def test_nih_image(tmp_path: Path) -> None:
    header = np.zeros((), np.dtype(tifffile.TIFF.NIH_IMAGE_HEADER).newbyteorder("<"))
    header["FileID"], header["XScale"], header["UnitsID"] = b"IPICIMAG", 5.0, 6
    header["FrameInterval"] = 0.5
    data = header.tobytes()
    attrs = attrs_of(tmp_path, extratags=[(43314, 1, len(data), data, True)])
    expected = {**um(0.2, 0.2), "time_step_s": 0.5}
    assert subset(attrs, expected) == expected


# Microscopes


def patched(path: Path, code: int, dtype: int, count: int) -> None:
    """Change the type and count of a tag, since some flavours count items of several words."""
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages.first.tags[code].offset
    data = bytearray(path.read_bytes())
    data[at + 2 : at + 8] = struct.pack("<HI", dtype, count)
    path.write_bytes(data)


def stk_file(
    folder: Path, steps: list[int], milliseconds: list[int], stage: Sequence[int] = ()
) -> Path:
    """A MetaMorph stack: contiguous planes and the UIC tags; numerators of x and y of the stage."""
    n = len(steps)
    uic1 = [3, 1, 4, 0, 5, 0, 6, 0]  # pairs of identifier and value or offset
    uic2 = [
        word
        for step, time in zip(steps, milliseconds, strict=True)
        for word in (step, 10, 2458849, time, 2458849, time)
    ]
    tags = [(33628, 4, len(uic1), uic1, True), (33629, 4, len(uic2), uic2, True)]
    if stage:
        uic4 = struct.pack("<H", 28) + b"".join(struct.pack("<II", value, 10) for value in stage)
        uic4 += bytes(-len(uic4) % 4 or 4)  # an identifier of 0 ends it
        tags.append((33631, 4, len(uic4) // 4, uic4, True))
    path = put(folder, name="file.stk", extratags=tags, byteorder="<")
    data = bytearray(path.read_bytes()) + PLANE.tobytes() * (n - 1)
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages.first.tags[33628].valueoffset
    payload = [
        struct.pack("<II", 1, 4),
        struct.pack("<II", 1, 2),
        struct.pack("<I", 7) + b"micron\0",
    ]
    for pair, part in zip((1, 2, 3), payload, strict=True):
        data[at + 8 * pair + 4 : at + 8 * pair + 8] = struct.pack("<I", len(data))
        data += part
    path.write_bytes(data)
    patched(path, 33628, 4, len(uic1) // 2)
    patched(path, 33629, 5, n)
    if stage:
        patched(path, 33631, 4, n)
    return path


def test_metamorph_stack_along_z(tmp_path: Path) -> None:
    image = cloudimg.open(str(stk_file(tmp_path, [15, 15, 15], [0, 0, 0])))
    assert image.dims == ("z", "y", "x")
    expected = {**um(0.25, 0.5, 1.5), "acquired": "2020-01-01T00:00:00"}
    assert subset(dict(image.attrs), expected) == expected
    np.testing.assert_allclose(image.coords["z"], [0, 1.5, 3])


def test_metamorph_stack_along_time(tmp_path: Path) -> None:
    image = cloudimg.open(str(stk_file(tmp_path, [0, 0, 0], [1000, 1500, 3000])))
    assert image.dims == ("t", "y", "x")
    np.testing.assert_allclose(image.coords["t"], [0, 0.5, 2])
    assert "z" not in image.attrs["pixel_size"]


@pytest.mark.parametrize(("times", "dim"), [([1000, 1500, 3000], "t"), ([0, 0, 0], "page")])
def test_metamorph_stack_of_positions(tmp_path: Path, times: list[int], dim: str) -> None:
    """A negative position, which is read as a number far too large, is not known."""
    stage = [100, 50, 200, 50, 2**32 - 5, 50]
    image = cloudimg.open(str(stk_file(tmp_path, [0, 0, 0], times, stage)))
    assert image.dims == (dim, "y", "x")
    assert image.coord_dims["stage_x"] == image.coord_dims["stage_y"] == (dim,)
    np.testing.assert_equal(image.coords["stage_x"], [10, 20, np.nan])
    np.testing.assert_equal(image.coords["stage_y"], [5, 5, np.nan])
    assert image.coord_dims.get("elapsed_s") == (("t",) if dim == "t" else None)


def lsm_file(folder: Path) -> Path:
    """A Zeiss LSM of two times and three channels, with a thumbnail after each page."""
    record = np.zeros((), np.dtype(tifffile.TIFF.CZ_LSMINFO))
    record["MagicNumber"], record["StructureSize"] = 67127628, record.dtype.itemsize
    record["DimensionX"], record["DimensionY"], record["DimensionZ"] = 24, 16, 1
    record["DimensionChannels"], record["DimensionTime"], record["ScanType"] = 3, 2, 3
    record["VoxelSizeX"], record["VoxelSizeY"], record["VoxelSizeZ"] = 1e-7, 2e-7, 3e-7
    record["TimeIntervall"] = 0.5
    names = b"".join(struct.pack("<I", len(n) + 1) + n + b"\0" for n in (b"Ch1", b"Ch2", b"Ch3"))
    colors = bytes((255, 0, 0, 0, 0, 255, 0, 0, 0, 0, 255, 0))
    table = struct.pack("<6I", 36 + len(names), 3, 3, 24, 36, 0) + colors + names
    stamps = struct.pack("<2i2d", 8 + 16, 2, 100.0, 101.25)
    path = folder / "file.lsm"
    pixels = np.arange(3 * 16 * 24, dtype=np.uint16).reshape(3, 16, 24)
    record_tag = (34412, 1, record.nbytes, record.tobytes(), True)
    with tifffile.TiffWriter(path, byteorder="<") as writer:
        for i in range(2):
            options: dict[str, Any] = {"planarconfig": "separate", "metadata": None}
            options["photometric"] = "rgb"
            extra = [record_tag] if i == 0 else []
            writer.write(pixels, extratags=extra, contiguous=False, **options)
            writer.write(pixels[:, ::4, ::4], subfiletype=1, **options)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages.first.tags[34412].valueoffset
    for name, part in (("OffsetChannelColors", table), ("OffsetTimeStamps", stamps)):
        field = at + record.dtype.fields[name][1]
        data[field : field + 4] = struct.pack("<I", len(data))
        data += part
    path.write_bytes(data)
    return path


def test_zeiss_lsm(tmp_path: Path) -> None:
    path = lsm_file(tmp_path)
    image = cloudimg.open(str(path))
    assert dict(zip(image.dims, image.shape, strict=True)) == {"t": 2, "c": 3, "y": 16, "x": 24}
    expected = {
        **um(0.1, 0.2, 0.3),
        "time_step_s": 0.5,
        "channel_names": ["Ch1", "Ch2", "Ch3"],
        "channel_colors": [
            int.from_bytes(bytes((255, 0, 0, 255)), "big", signed=True),
            int.from_bytes(bytes((0, 255, 0, 255)), "big", signed=True),
            int.from_bytes(bytes((0, 0, 255, 255)), "big", signed=True),
        ],
    }
    assert subset(dict(image.attrs), expected) == expected
    np.testing.assert_allclose(image.coords["t"], [0, 1.25])
    assert list(image.coords["c"]) == ["Ch1", "Ch2", "Ch3"]
    assert "pixel_size" not in cloudimg.open(str(path), series=1).attrs  # of the thumbnails


def test_olympus_fluoview(tmp_path: Path) -> None:
    record = np.zeros((), np.dtype(tifffile.TIFF.MM_HEADER).newbyteorder("<"))
    steps = [
        ("X", 24, 0.25, "um"),
        ("Y", 16, 0.5, "um"),
        ("Z", 3, 2.0, "um"),
        ("T", 2, 500.0, "ms"),
    ]
    for dimension, (name, size, step, unit) in zip(record["Dimensions"], steps, strict=False):
        dimension["Name"], dimension["Size"] = name.encode(), size
        dimension["Resolution"], dimension["Unit"] = step, unit.encode()
    for dimension in record["Dimensions"][len(steps) :]:
        dimension["Size"] = 1
    data = record.tobytes()
    tags = [(34361, 1, len(data), data, True), doubles(34362, *range(8))]
    image = cloudimg.open(str(put(tmp_path, np.zeros((6, 16, 24), np.uint16), extratags=tags)))
    assert image.dims == ("t", "z", "y", "x")
    expected = {**um(0.25, 0.5, 2), "time_step_s": 0.5}
    assert subset(dict(image.attrs), expected) == expected


def test_olympus_sis(tmp_path: Path) -> None:
    head = struct.pack("<4s6xhhhhh6x32sH", b"SIS0", 30, 12, 24, 11, 110, b"name", 1)
    path = put(tmp_path, extratags=[(33560, 4, 1, 8, True)], byteorder="<")
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages.first.tags[33560].offset + 8
    data = bytearray(path.read_bytes())
    data[at : at + 4] = struct.pack("<I", len(data))
    calibration = struct.pack("<10xhdd8xd2x34s32s", -6, 0.25, 0.5, 40.0, b"camera", b"")
    data += head + struct.pack("<hhI", 1, 1, len(data) + len(head) + 8) + calibration
    path.write_bytes(data + bytes(256))
    expected = {**um(0.25, 0.5), "magnification": 40, "acquired": "2010-12-24T12:30:00"}
    assert subset(dict(cloudimg.open(str(path)).attrs), expected) == expected


SCANIMAGE = """\
SI.hChannels.channelName = {'green' 'red' 'far red'}
SI.hChannels.channelSave = [1;3]
SI.hRoiManager.imagingFovUm = [-60 -40;60 -40;60 40;-60 40]
SI.hRoiManager.scanFrameRate = 10
SI.hScan2D.logAverageFactor = 2
SI.hStackManager.stackZStepSize = -5
SI.hMotors.motorPosition = [100 200 300]
SI.hStackManager.framesPerSlice = Inf"""


def test_scanimage(tmp_path: Path) -> None:
    description = "frameNumbers = 1\nepoch = [2018,6,29,11,50,20.125]\n"
    attrs = attrs_of(tmp_path, software=SCANIMAGE, description=description)
    expected = {
        **um(120 / 24, 80 / 16, 5),
        "time_step_s": 0.2,
        "channel_names": ["green", "far red"],
        "stage_position": {"x": 100, "y": 200, "z": 300},
        "acquired": "2018-06-29T11:50:20.125000",
        "metadata_problem": None,
    }
    assert subset(attrs, expected) == expected


def micromanager_file(folder: Path, summary: dict[str, Any], plane: dict[str, Any]) -> Path:
    """An NDTiff 2, with its summary between the header and the first IFD."""
    text, own = json.dumps(summary).encode(), json.dumps(plane).encode()
    head = struct.pack("<4I", 483729, 2, 2355492, len(text)) + text
    pixels, meta = 8 + len(head), 8 + len(head) + PLANE.nbytes
    start = meta + len(own)
    entries = [
        (256, 4, 1, 24),
        (257, 4, 1, 16),
        (258, 3, 1, 16),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, pixels),
        (277, 3, 1, 1),
        (278, 4, 1, 16),
        (279, 4, 1, PLANE.nbytes),
        (51123, 2, len(own), meta),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", *entry) for entry in entries
    )
    data = struct.pack("<2sHI", b"II", 42, start) + head + PLANE.tobytes() + own + directory
    path = folder / "file.tif"
    path.write_bytes(data + bytes(4))
    return path


def test_micromanager(tmp_path: Path) -> None:
    summary = {
        "PixelSize_um": 0,
        "z-step_um": -0.5,
        "Interval_ms": 250,
        "ChNames": ["DAPI", "GFP"],
        "ChColors": [-16776961, 65280],  # opaque blue, and green without opacity
        "StartTime": "2019-05-22 16:46:25.123 -0500",
    }
    plane = {"PixelSizeUm": 0.65, "XPositionUm": -10.5, "YPositionUm": 20, "Width": 24}
    image = cloudimg.open(str(micromanager_file(tmp_path, summary, plane)))
    expected = {
        **um(0.65, 0.65, 0.5),
        "time_step_s": 0.25,
        "channel_names": ["DAPI", "GFP"],
        "channel_colors": [
            int.from_bytes(bytes((0, 0, 255, 255)), "big", signed=True),
            int.from_bytes(bytes((0, 255, 0, 255)), "big", signed=True),
        ],
        "stage_position": {"x": -10.5, "y": 20},
        "acquired": "2019-05-22T16:46:25.123000-05:00",
    }
    assert subset(dict(image.attrs), expected) == expected
    np.testing.assert_array_equal(image.read(), PLANE)


def test_micromanager_that_wrote_nothing_useful(tmp_path: Path) -> None:
    plane = {"PixelSizeUm": "NaN", "XPositionUm": [1], "Channel": None, "Time": 5}
    image = cloudimg.open(str(micromanager_file(tmp_path, {"ChNames": "x", "z-step_um": 0}, plane)))
    assert image.attrs.keys() == {"kind", "compression", "photometric", "color_space"}


def metaseries(**changes: str) -> str:
    values = {
        "spatial-calibration-state": "on",
        "spatial-calibration-x": "0.25",
        "spatial-calibration-y": "0.5",
        "spatial-calibration-units": "um",
        "stage-position-x": "-100.5",
        "stage-position-y": "200",
        "acquisition-time-local": "20230221 10:42:03.892",
        "_MagSetting_": "20X Plan Apo",
        "_IllumSetting_": "Cy3",
        **changes,
    }
    kinds = {"spatial-calibration-state": "bool", "acquisition-time-local": "time"}
    props = "".join(
        f'<prop id="{name}" type="{kinds.get(name, "string")}" value="{value}"/>'
        for name, value in values.items()
    )
    return f"<MetaData><PlaneInfo>{props}</PlaneInfo></MetaData>"


def test_metaseries(tmp_path: Path) -> None:
    attrs = attrs_of(tmp_path, description=metaseries(), software="MetaSeries")
    expected = {
        **um(0.25, 0.5),
        "stage_position": {"x": -100.5, "y": 200},
        "acquired": "2023-02-21T10:42:03.892000",
        "magnification": 20,
        "channel_names": ["Cy3"],
        "description": None,
    }
    assert subset(attrs, expected) == expected
    off = metaseries(**{"spatial-calibration-state": "off"})
    assert "pixel_size" not in attrs_of(tmp_path, description=off, software="MetaSeries")


# Slides


APERIO = (
    "Aperio Image Library v12.2.2 \r\n46000x32914 (64x64) JPEG/RGB Q=30|AppMag = 40|MPP = 0.2530"
    "|Date = 12/29/09|Time = 09:59:15|Filename = CMU-1"
)


def test_aperio_slide_and_its_thumbnail(tmp_path: Path) -> None:
    path = tmp_path / "file.svs"
    rgb = np.zeros((64, 96, 3), np.uint8)
    options: dict[str, Any] = {"photometric": "rgb", "metadata": None, "description": APERIO}
    with tifffile.TiffWriter(path) as writer:
        writer.write(rgb, tile=(32, 32), **options)
        writer.write(rgb[::4, ::4], **options)
    slide = dict(cloudimg.open(str(path)).attrs)
    expected = {**um(0.253, 0.253), "magnification": 40, "acquired": "2009-12-29T09:59:15"}
    assert subset(slide, expected) == expected
    assert "description" not in slide
    thumbnail = cloudimg.open(str(path), series=1).attrs
    assert thumbnail["name"] == "Thumbnail"
    assert "pixel_size" not in thumbnail


def test_leica_slide(tmp_path: Path) -> None:
    def image(name: str, ifd: int, size: str, extent: int) -> str:
        return (
            f'<image name="{name}"><creationDate>2012-05-04T10:11:12.5Z</creationDate>'
            f'<pixels {size}><dimension {size} ifd="{ifd}"/></pixels>'
            f'<view sizeX="{extent * 2}" sizeY="{extent}" offsetX="3000" offsetY="4000"/>'
            "<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings>"
            '<channelSettings><channel index="0" name="405" rgb="#0000ff"/></channelSettings>'
            "</scanSettings></image>"
        )

    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f"<collection>{image('a', 0, SIZE, 8000)}{image('b', 1, SIZE, 80000)}</collection></scn>"
    )
    path = tmp_path / "file.scn"
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for i in range(2):
            description = xml if i == 0 else None
            writer.write(PLANE, description=description, metadata=None, contiguous=False)
    attrs = dict(cloudimg.open(str(path)).attrs)
    expected = {
        **um(16 / 24, 0.5),
        "name": "a",
        "magnification": 20,
        "stage_position": {"x": 3, "y": 4},
        "acquired": "2012-05-04T10:11:12.500000+00:00",
        "channel_names": ["405"],
        "channel_colors": [65535],
    }
    assert subset(attrs, expected) == expected
    other = dict(cloudimg.open(str(path), series=1).attrs)
    assert subset(other, um(160 / 24, 5)) == um(160 / 24, 5)


SIZE = 'sizeX="24" sizeY="16"'


def test_hamamatsu_slide(tmp_path: Path) -> None:
    tags = [
        tag(271, "Hamamatsu"),
        (65420, 4, 1, 1, True),
        (65421, 11, 1, 20.0, True),
        (65422, 9, 1, -1500, True),
        (65423, 9, 1, 2500, True),
    ]
    resolution = {"resolution": (40000, 20000), "resolutionunit": "centimeter"}
    attrs = attrs_of(tmp_path, extratags=tags, software="NDP.scan", **resolution)
    expected = {**um(0.25, 0.5), "magnification": 20, "stage_position": {"x": -1.5, "y": 2.5}}
    assert subset(attrs, expected) == expected
    tags[2] = (65421, 11, 1, -1.0, True)  # the macro image
    assert "magnification" not in attrs_of(tmp_path, extratags=tags, software="NDP.scan")


def test_philips_slide(tmp_path: Path) -> None:
    def attribute(name: str, text: str) -> str:
        return f'<Attribute Name="{name}">{text}</Attribute>'

    def scanned(kind: str, spacing: str) -> str:
        inside = attribute("PIM_DP_IMAGE_TYPE", kind) + attribute("DICOM_PIXEL_SPACING", spacing)
        return f'<DataObject ObjectType="DPScannedImage">{inside}</DataObject>'

    images = scanned("MACROIMAGE", "&quot;9&quot; &quot;9&quot;") + scanned(
        "WSI", "&quot;0.0005&quot; &quot;0.00025&quot;"
    )
    xml = (
        '<?xml version="1.0"?><DataObject ObjectType="DPUfsImport">'
        + attribute("DICOM_ACQUISITION_DATETIME", "20150831135122.500000")
        + attribute("PIM_DP_SCANNED_IMAGES", f"<Array>{images}</Array>")
        + "</DataObject>"
    )
    attrs = attrs_of(tmp_path, description=xml, software="Philips DP v1.0")
    expected = {**um(0.25, 0.5), "acquired": "2015-08-31T13:51:22.500000"}
    assert subset(attrs, expected) == expected


def test_ventana_slide(tmp_path: Path) -> None:
    xmp = b'<?xml version="1.0"?><Metadata><iScan Magnification="20" ScanRes="0.465"/></Metadata>'
    path = tmp_path / "file.bif"
    options: dict[str, Any] = {"metadata": None, "software": "ScanOutputManager 1.1"}
    with tifffile.TiffWriter(path) as writer:
        extra = [(700, 1, len(xmp), xmp, True)]
        writer.write(PLANE[::2], description="Label_Image", extratags=extra, **options)
        extra = [(700, 1, 14, b"<EncodeInfo/>\0", True)]
        text = "level=0 mag=20 quality=95"
        writer.write(PLANE, description=text, extratags=extra, **options)
    attrs = dict(cloudimg.open(str(path)).attrs)
    expected = {**um(0.465, 0.465), "name": "Baseline", "magnification": 20}
    assert subset(attrs, expected) == expected
    assert "pixel_size" not in cloudimg.open(str(path), series=1).attrs


@pytest.mark.parametrize("has_biomarker", [False, True])
def test_perkinelmer_slide(tmp_path: Path, has_biomarker: bool) -> None:
    path = tmp_path / "file.qptiff"
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for name, color in (("DAPI", "0,0,255"), ("Opal 520", "0,255,0")):
            marker = f"<Biomarker>{name} marker</Biomarker>" if has_biomarker else ""
            xml = (
                '<?xml version="1.0"?><PerkinElmer-QPI-ImageDescription>'
                f"<Name>{name}</Name>{marker}<Color>{color}</Color><Objective>20x</Objective>"
                "</PerkinElmer-QPI-ImageDescription>"
            )
            writer.write(
                PLANE,
                description=xml,
                software="PerkinElmer-QPI",
                metadata=None,
                contiguous=False,
                resolution=(20000, 20000),
                resolutionunit="centimeter",
            )
    image = cloudimg.open(str(path))
    names = [name + " marker" * has_biomarker for name in ("DAPI", "Opal 520")]
    expected = {
        **um(0.5, 0.5),
        "magnification": 20,
        "channel_names": names,
        "channel_colors": [
            int.from_bytes(bytes((0, 0, 255, 255)), "big", signed=True),
            int.from_bytes(bytes((0, 255, 0, 255)), "big", signed=True),
        ],
    }
    assert subset(dict(image.attrs), expected) == expected
    assert list(image.coords["c"]) == names


def test_indica_slide(tmp_path: Path) -> None:
    xml = '<?xml version="1.0"?><indica><channel name="CD3"/><channel name="CD8"/></indica>'
    stack = np.zeros((2, 16, 24), np.uint16)
    attrs = attrs_of(tmp_path, stack, description=xml, software="IndicaLabsImageWriter 1.2")
    assert attrs["channel_names"] == ["CD3", "CD8"]


# Electron microscopes and detectors


def test_eer(tmp_path: Path) -> None:
    xml = (
        b'<metadata><item name="exposureTime" unit="s">0.5</item>'
        b'<item name="numberOfFrames">10</item>'
        b'<item name="sensorPixelSize.width" unit="m">7.5e-11</item>'
        b'<item name="sensorPixelSize.height" unit="m">8e-11</item>'
        b'<item name="timestamp">2025-03-14T17:40:48.482908+01:00</item></metadata>'
    )
    tags = [(65001, 7, len(xml), xml, True)]
    expected = {
        **um(7.5e-5, 8e-5),
        "time_step_s": 0.05,
        "acquired": "2025-03-14T17:40:48.482908+01:00",
    }
    assert subset(attrs_of(tmp_path, extratags=tags, bigtiff=True), expected) == expected


def test_tvips(tmp_path: Path) -> None:
    first = np.zeros((), np.dtype(tifffile.TIFF.TVIPS_HEADER_V1).newbyteorder("<"))
    second = np.zeros((), np.dtype(tifffile.TIFF.TVIPS_HEADER_V2).newbyteorder("<"))
    first["Version"], second["Magic"] = 2, 0xAAAAAAAA
    second["PixelSizeX"], second["PixelSizeY"], second["TemMagnification"] = 0.5, 0.25, 42000
    data = first.tobytes() + second.tobytes()
    attrs = attrs_of(tmp_path, extratags=[(37706, 1, len(data), data, True)])
    assert attrs["pixel_size"] == {"x": 0.5, "y": 0.25}
    assert attrs["pixel_size_unit"] == {"x": "nm", "y": "nm"}
    assert attrs["magnification"] == 42000


def test_fei_scanning_microscope(tmp_path: Path) -> None:
    text = "[Scan]\r\nPixelWidth=2.5e-9\r\nPixelHeight=5e-9\r\n"
    text += "[Stage]\r\nStageX=0.001\r\nStageY=-0.002"
    attrs = attrs_of(tmp_path, extratags=[tag(34682, text)])
    expected = {**um(0.0025, 0.005), "stage_position": pytest.approx({"x": 1000, "y": -2000})}
    assert subset(attrs, expected) == expected


def test_zeiss_scanning_microscope(tmp_path: Path) -> None:
    text = (
        "0\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 5.0 nm\r\nAP_MAG\r\nMag = 2.50 K X\r\n"
        "AP_STAGE_AT_X\r\nStage at X = 60.0 mm\r\nAP_STAGE_AT_Y\r\nStage at Y = 61.5 mm\r\n"
        "AP_DATE\r\nDate :12 Apr 2013\r\nAP_TIME\r\nTime :11:12:13\r\n"
    )
    attrs = attrs_of(tmp_path, extratags=[tag(34118, text)])
    expected = {
        "pixel_size": {"x": 5, "y": 5},
        "pixel_size_unit": {"x": "nm", "y": "nm"},
        "magnification": 2500,
        "stage_position": {"x": 60, "y": 61.5},
        "stage_position_unit": {"x": "mm", "y": "mm"},
        "acquired": "2013-04-12T11:12:13",
    }
    assert subset(attrs, expected) == expected


def test_detectors(tmp_path: Path) -> None:
    tags = [(65002, 4, 1, 802117916, True), (65003, 4, 1, 103746502, True)]
    attrs = attrs_of(tmp_path, extratags=tags, description="EPICS areaDetector")
    assert attrs["acquired"] == "2015-06-02T18:31:56.103746+00:00"
    text = (
        "# 2011-07-22T12:34:56.789\r\n# Pixel_size 172e-6 m x 173e-6 m\r\n# Exposure_period 0.05 s"
    )
    text = text.replace("\r", "")
    attrs = attrs_of(tmp_path, description=text, software="TVX TIFF v 1.3")
    expected = {**um(172, 173), "time_step_s": 0.05, "acquired": "2011-07-22T12:34:56.789000"}
    assert subset(attrs, expected) == expected
    tags = [(4864, 4, 1, 1, True), doubles(4878, 0.125)]
    assert attrs_of(tmp_path, extratags=tags)["time_step_s"] == 0.125
    fits = "SIMPLE  = T\nDATE-OBS= '2021-03-04T05:06:07.5'\nEND"
    assert attrs_of(tmp_path, description=fits)["acquired"] == "2021-03-04T05:06:07.500000"


# Broken metadata


@pytest.mark.parametrize(
    ("which", "options"),
    [
        ("gdal", {"extratags": [tag(42112, "<GDALMetadata><Item>")]}),
        ("nodata", {"extratags": [tag(42113, "none")]}),
        ("eer", {"extratags": [(65001, 7, 12, b"<metadata>--", True)], "bigtiff": True}),
        ("indica", {"description": "<indica", "software": "IndicaLabsImageWriter"}),
        ("metaseries", {"description": "<MetaData><</MetaData>", "software": "MetaSeries"}),
        ("andor", {"extratags": [(4864, 4, 1, 1, True)]}),
        ("orientation", {"extratags": [tag(274, "up")]}),
        ("geotiff", {"extratags": [tag(33550, "far away"), geo_keys((1024, 1))]}),
    ],
)
def test_broken_metadata_leaves_the_image_readable(
    tmp_path: Path, which: str, options: dict[str, Any]
) -> None:
    image = cloudimg.open(str(put(tmp_path, **options)))
    np.testing.assert_array_equal(image.read(), PLANE)
    if which in ("andor", "geotiff"):
        assert "metadata_problem" not in image.attrs  # there is nothing to read
    else:
        assert image.attrs["metadata_problem"].startswith(f"{which}: ")


def test_a_large_tag_is_not_fetched(tmp_path: Path) -> None:
    xml = "<GDALMetadata>" + " " * 2**20 + "</GDALMetadata>"
    attrs = attrs_of(tmp_path, extratags=[tag(42112, xml), tag(42113, "7")])
    assert attrs["metadata_problem"] == f"gdal: ValueError: tag 42112 has {len(xml) + 1} bytes"
    assert attrs["nodata"] == 7


# Real files


def corpus_files(corpus: Path) -> Iterator[tuple[Path, cloudimg.Image]]:
    with (corpus / "index.csv").open(newline="") as file:
        paths = [corpus / "files" / row["path"] for row in csv.DictReader(file)]
    for path in paths:
        try:
            yield path, cloudimg.open(str(path))
        except cloudimg.CloudimgError:
            continue


def is_plain(value: Any) -> bool:
    """Whether JSON can represent a value."""
    if isinstance(value, dict):
        return all(isinstance(name, str) and is_plain(item) for name, item in value.items())
    if isinstance(value, list):
        return all(is_plain(item) for item in value)
    return type(value) in (str, int, float, bool)


@pytest.mark.slow
def test_attributes_of_every_file_are_plausible(corpus: Path) -> None:
    logging.disable(logging.CRITICAL)  # tifffile logs every oddity of every hostile file
    n_known, problems = 0, []
    try:
        for path, image in corpus_files(corpus):
            attrs = dict(image.attrs)
            pickle.loads(pickle.dumps(attrs))
            palette = attrs.pop("colormap", None)
            assert palette is None or (palette.dtype == np.uint16 and palette.shape[0] == 3)
            assert is_plain(attrs), path
            for dim, size in attrs.get("pixel_size", {}).items():
                assert 0 < size < math.inf, path
                assert attrs["pixel_size_unit"][dim], path
            sizes = dict(zip(image.dims, image.shape, strict=True))
            for name, values in image.coords.items():
                assert values.shape == tuple(sizes[d] for d in image.coord_dims[name]), path
            n_known += "pixel_size" in attrs
            problems += [path.name] if "metadata_problem" in attrs else []
    finally:
        logging.disable(logging.NOTSET)
    assert n_known > 200
    # Palettes with too few entries for their pixels, and a missing companion file.
    expected = ["90b2a82bfa2d5387cc8a201900dc70b46306ae85-2", "invalid-palette-ref.tiff"]
    expected += ["multifile-Z1.ome.tiff", "multifile-Z3.ome.tiff"]
    assert sorted(problems) == sorted(expected)


def test_thumbnails_of_metaxpress_against_their_own_bytes(corpus: Path) -> None:
    paths = sorted((corpus / "files").glob("fmi-faim_*/*.tif"))
    n_planes = 0
    for path in paths:
        text = path.read_bytes().decode("latin-1")
        if "<PlaneInfo>" not in text:
            continue
        found = dict(re.findall(r'<prop id="([\w-]+)" type="\w+" value="([^"]*)"/>', text))
        attrs = cloudimg.open(str(path)).attrs
        for dim in "xy":
            calibration = float(found[f"spatial-calibration-{dim}"])
            assert attrs["pixel_size"][dim] == pytest.approx(calibration)
            assert attrs["stage_position"][dim] == float(found[f"stage-position-{dim}"])
        assert attrs["channel_names"] == [found["_IllumSetting_"]]
        day = re.sub(r"\D", "", attrs["acquired"])[:17]
        assert day == re.sub(r"\D", "", found["acquisition-time-local"])
        n_planes += 1
    assert n_planes >= 19


# Geotransform, EPSG code and nodata of the same files according to GDAL 3.10.3.
MAPS = {
    "blacha_cogeotiff/DEM_BS28_2016_1000_1141.tif": (
        [1.0, 0.0, 1679616.531, 0.0, -1.0, 5362324.281],
        2193,
        -9999,
    ),
    "blacha_cogeotiff/model_transformation.tif": (
        [10.0, 0.0, 418080.0, 0.0, 10.0, 4423680.0],
        32613,
        -128,
    ),
    "corteva_rioxarray/2d_test.tif": (
        [
            *(14.25739965507221, 9.25886359525546, 305827.93),
            *(9.25886359525546, -14.25739965507221, 5223236.6),
        ],
        32611,
        None,
    ),
    "chai2010_tiff/cea.tif": (
        [
            *(60.02213698319374, 0.0, -28493.166784412522),
            *(0.0, -60.02213698319374, 4255884.5438021915),
        ],
        None,
        None,
    ),
    "mmomtchev_node-gdal-async/AROME_T2m_10.tiff": (
        [0.025, 0.0, -8.0125, 0.0, -0.025, 53.0125],
        None,
        None,
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps_against_gdal(corpus: Path, name: str) -> None:
    attrs = cloudimg.open(str(corpus / "files" / name)).attrs
    transform, epsg, nodata = MAPS[name]
    assert attrs["geo"]["transform"] == pytest.approx(transform, rel=1e-12)
    assert attrs["geo"].get("epsg") == epsg
    assert attrs.get("nodata") == nodata
