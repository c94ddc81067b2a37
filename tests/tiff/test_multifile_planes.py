"""Plane tables of multi-file datasets, compared with tifffile's reading of a local folder."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudimg.errors import (
    ArgumentError,
    CorruptFileError,
    FormatError,
    LimitError,
    UnsupportedFormatError,
)
from cloudimg.tiff.multifile import (
    PlaneTable,
    binary_only,
    mmstack_planes,
    ndtiff_planes,
    ome_planes,
)
from tests.support.counting import counted

Array = npt.NDArray[Any]
Run = tuple[str | None, str]
"""File of a TiffData (None if it has no UUID), and its attributes."""

NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
ORDERS = ["XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC"]
HEIGHT, WIDTH = 5, 7


def uuid_of(name: str) -> str:
    return f"urn:uuid:{name}"


def image_xml(
    runs: Iterable[Run],
    order: str = "XYZCT",
    name: str = "image",
    samples: int = 1,
    channels: str | None = None,
    ref: str = "",
    **sizes: int,
) -> str:
    known = {"X": WIDTH, "Y": HEIGHT, "Z": 1, "C": 1, "T": 1} | sizes
    size = " ".join(f'Size{letter}="{n}"' for letter, n in known.items())
    if channels is None:
        channels = f'<Channel ID="Channel:0:0" SamplesPerPixel="{samples}"/>' * (
            known["C"] // samples
        )
    data = "".join(
        f"<TiffData {attrs}/>"
        if file is None
        else f'<TiffData {attrs}><UUID FileName="{file}">{uuid_of(file)}</UUID></TiffData>'
        for file, attrs in runs
    )
    return (
        f'<Image ID="Image:0" Name="{name}"><Pixels ID="Pixels:0" DimensionOrder="{order}"'
        f' Type="uint16" {size}>{channels}{data}</Pixels>{ref}</Image>'
    )


def ome_xml(own: str | None, *parts: str) -> str:
    root = f' UUID="{uuid_of(own)}"' if own else ""
    return f'<?xml version="1.0"?><OME xmlns="{NAMESPACE}"{root}>{"".join(parts)}</OME>'


def write_pages(path: Path, pages: Array, xml: str = "", **options: Any) -> None:
    """Write one page for each entry of the first axis."""
    path.parent.mkdir(exist_ok=True)
    options = {"photometric": "minisblack"} | options
    with tifffile.TiffWriter(path) as tiff:
        for number, page in enumerate(pages):
            text = xml.encode() if number == 0 and xml else None
            tiff.write(page, description=text, metadata=None, contiguous=False, **options)


def pages(count: int, seed: int, *samples: int) -> Array:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2**16, (count, HEIGHT, WIDTH, *samples), np.uint16)


def read_table(folder: Path, planes: PlaneTable) -> Array:
    """Read the image page by page from where the table locates its planes."""
    stacks = []
    for name in planes.files:
        with tifffile.TiffFile(folder / name, is_ome=False) as tiff:
            stacks.append([page.asarray() for page in tiff.pages])
    first = stacks[0][0]
    result = np.zeros((*planes.shape, *first.shape), first.dtype)
    for at in np.ndindex(planes.shape):
        if planes.file_of[at] >= 0:
            result[at] = stacks[planes.file_of[at]][planes.page_of[at]]
    return result


LETTERS = {"t": "T", "c": "C", "z": "Z", "y": "Y", "x": "X", "s": "S", "page": "Q"}


def check_ome(folder: Path, master: str, index: int = 0, xml: str | None = None) -> PlaneTable:
    """Compare with tifffile's reading of the local dataset."""
    with tifffile.TiffFile(folder / master) as tiff:
        series = tiff.series[index]
        expected, axes = series.asarray(), series.axes
        assert series.kind == "ome"
        planes = ome_planes(xml or tiff.ome_metadata or "", master, index)
    assert planes is not None
    assert planes.offsets_are == "page"
    assert "".join(LETTERS.get(d, d.upper()) for d in planes.dims + planes.plane) == axes
    assert planes.file_of.dtype == np.int32
    assert planes.page_of.dtype == np.int64
    assert planes.shape + (planes.plane_shape or ()) == expected.shape
    assert np.array_equal(read_table(folder, planes), expected)
    return planes


def write_set(
    folder: Path, stacks: Mapping[str, Array], xml_of: Callable[[str], str], **options: Any
) -> None:
    for name, stack in stacks.items():
        write_pages(folder / name, stack, xml_of(name), **options)


@pytest.mark.parametrize("order", ORDERS)
def test_one_file_per_channel_in_every_order_of_dimensions(tmp_path: Path, order: str) -> None:
    sizes = {"Z": 2, "C": 3, "T": 4}
    stacks = {f"c{c}.ome.tif": pages(8, c) for c in range(3)}
    inner = [letter for letter in order[2:] if letter != "C"]
    runs = []
    for c in range(3):
        lengths = [range(sizes[letter]) for letter in reversed(inner)]
        for ifd, at in enumerate(itertools.product(*lengths)):
            first = "".join(f' First{k}="{v}"' for k, v in zip(reversed(inner), at, strict=True))
            runs.append((f"c{c}.ome.tif", f'IFD="{ifd}" FirstC="{c}"{first} PlaneCount="1"'))
    write_set(tmp_path, stacks, lambda name: ome_xml(name, image_xml(runs, order, **sizes)))
    for master in stacks:
        planes = check_ome(tmp_path, master)
        assert planes.dims == tuple(order[:1:-1].lower())
        assert planes.files == (master, *(name for name in stacks if name != master))


def test_one_file_per_plane_with_the_metadata_in_the_first_alone(tmp_path: Path) -> None:
    names = {(t, z): f"t{t}_z{z}.ome.tif" for t in range(3) for z in range(2)}
    runs = [(n, f'FirstT="{t}" FirstZ="{z}" IFD="0"') for (t, z), n in names.items()]
    master = names[0, 0]
    full = ome_xml(master, image_xml(runs, Z=2, T=3))
    binary = f'<BinaryOnly MetadataFile="{master}" UUID="{uuid_of(master)}"/>'
    write_set(
        tmp_path,
        {name: pages(1, i) for i, name in enumerate(names.values())},
        lambda name: full if name == master else ome_xml(name, binary),
    )
    planes = check_ome(tmp_path, master)
    assert planes.dims == ("t", "z")
    assert (planes.page_of == 0).all()
    assert binary_only(ome_xml(names[1, 1], binary)) == master
    assert binary_only(full) is None


def test_companion_file(tmp_path: Path) -> None:
    runs = [(f"sub/z{z}.tif", f'FirstZ="{z}" IFD="0" PlaneCount="1"') for z in range(3)]
    xml = ome_xml("companion", image_xml(runs, Z=3))
    stacks = {f"sub/z{z}.tif": pages(1, z) for z in range(3)}
    write_set(tmp_path, stacks, lambda _: "")
    for own in ("", "z1.tif", "sub/z1.tif"):
        planes = ome_planes(xml, own, 0)
        assert planes is not None
        assert set(planes.files) == set(stacks)
        assert np.array_equal(read_table(tmp_path, planes), np.concatenate([*stacks.values()]))


def test_companion_of_a_single_file_leads_to_it() -> None:
    xml = ome_xml("companion", image_xml([("a.tif", "")], Z=3))
    planes = ome_planes(xml, "", 0)
    assert planes is not None
    assert planes.files == ("a.tif",)
    assert planes.page_of.tolist() == [0, 1, 2]
    with pytest.raises(UnsupportedFormatError, match="does not name a file"):
        ome_planes(ome_xml(None, image_xml([(None, "")], Z=3)), "", 0)


def test_tiff_data_without_counts_take_all_pages_of_each_file(tmp_path: Path) -> None:
    """Neither PlaneCount nor IFD is given."""
    counts = {"a.tif": 3, "b.tif": 1, "c.tif": 4}
    starts = dict(zip(counts, itertools.accumulate([0, 3, 1]), strict=True))
    runs = [(name, f'FirstZ="{at}"') for name, at in starts.items()]
    stacks = {name: pages(n, n) for name, n in counts.items()}
    for number, listed in enumerate((runs, runs[::-1])):
        folder = tmp_path / str(number)
        write_set(folder, stacks, lambda n, runs=listed: ome_xml(n, image_xml(runs, Z=8)))
        check_ome(folder, "b.tif")


def test_plane_counts_ifds_and_old_names_of_attributes(tmp_path: Path) -> None:
    runs = [
        ("a.tif", 'IFD="2" PlaneCount="3" FirstT="1"'),
        ("b.tif", 'IFD="1" NumPlanes="2"'),
        (None, 'IFD="0" FirstC="1" FirstT="0"'),
        ("b.tif", 'PlaneCount="99" FirstT="2" FirstC="1"'),
    ]
    stacks = {"a.tif": pages(6, 1), "b.tif": pages(6, 2)}
    xml = ome_xml("a.tif", image_xml(runs, "XYCTZ", C=2, T=3, Z=1))
    write_set(tmp_path, stacks, lambda _: xml)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        expected = tiff.series[0].asarray()
    planes = ome_planes(xml, "a.tif", 0)
    assert planes is not None
    assert np.array_equal(read_table(tmp_path, planes), expected)
    assert planes.page_of.tolist() == [[1, 0], [2, 3], [4, 0]]
    assert planes.file_of.tolist() == [[1, 0], [0, 0], [0, 1]]


def test_reversed_and_repeated_planes_of_which_the_last_counts(tmp_path: Path) -> None:
    runs = [("a.tif", 'IFD="0" PlaneCount="6"')]
    runs += [("b.tif", f'IFD="{i}" FirstT="{5 - i}"') for i in range(4)]
    runs += [("a.tif", 'IFD="0" FirstT="4"')]
    stacks = {"a.tif": pages(6, 1), "b.tif": pages(4, 2)}
    write_set(tmp_path, stacks, lambda name: ome_xml(name, image_xml(runs, T=6)))
    assert check_ome(tmp_path, "a.tif").file_of.tolist() == [0, 0, 1, 1, 0, 1]


def test_planes_without_a_page_and_tiff_data_that_start_outside(tmp_path: Path) -> None:
    runs = [("a.tif", 'IFD="0"'), ("b.tif", 'IFD="0" FirstT="2"'), ("b.tif", 'IFD="0" FirstT="9"')]
    stacks = {"a.tif": pages(1, 1), "b.tif": pages(1, 2)}
    write_set(tmp_path, stacks, lambda name: ome_xml(name, image_xml(runs, T=4)))
    assert check_ome(tmp_path, "a.tif").file_of.tolist() == [0, -1, 1, -1]


def test_colours_count_as_samples_not_channels(tmp_path: Path) -> None:
    runs = [(f"c{c}.tif", f'FirstC="{c}" IFD="0" PlaneCount="2"') for c in range(2)]
    stacks = {f"c{c}.tif": pages(2, c, 3) for c in range(2)}
    write_set(
        tmp_path,
        stacks,
        lambda name: ome_xml(name, image_xml(runs, samples=3, C=6, Z=2)),
        photometric="rgb",
    )
    planes = check_ome(tmp_path, "c0.tif")
    assert planes.dims == ("c", "z")
    assert planes.plane == ("y", "x", "s")
    assert planes.plane_shape == (HEIGHT, WIDTH, 3)


MODULO = """<StructuredAnnotations><XMLAnnotation ID="A:0"
 Namespace="openmicroscopy.org/omero/dimension/modulo"><Value><Modulo namespace="x">{}</Modulo>
</Value></XMLAnnotation></StructuredAnnotations>"""


@pytest.mark.parametrize(
    ("along", "sizes", "dims", "coords"),
    [
        (
            '<ModuloAlongT Type="lifetime" Start="10" End="20" Step="5"/>',
            {"T": 6, "Z": 2},
            ("t", "h", "z"),
            {"h": (10.0, 15.0, 20.0)},
        ),
        (
            '<ModuloAlongZ Type="angle"><Label>0deg</Label><Label> 90deg </Label></ModuloAlongZ>'
            '<ModuloAlongC Type="lambda" Start="1" End="3"/>',
            {"T": 2, "Z": 4, "C": 3},
            ("t", "e", "z", "a"),
            {"a": ("0deg", "90deg"), "e": (1.0, 2.0, 3.0)},
        ),
        (
            '<ModuloAlongT Type="tile"><Label/><Label/></ModuloAlongT>'
            '<ModuloAlongZ Type="other"><Label Text="u"/><Label Text="v"/></ModuloAlongZ>',
            {"T": 4, "Z": 2},
            ("t", "r", "page"),
            {"r": ("", ""), "page": ("u", "v")},
        ),
    ],
)
def test_modulo_axes(
    tmp_path: Path, along: str, sizes: dict[str, int], dims: tuple[str, ...], coords: dict[str, Any]
) -> None:
    n = math.prod(sizes.values())
    runs = [("a.tif", f'IFD="0" PlaneCount="{n // 2}"')]
    runs += [("b.tif", f'IFD="0" FirstT="{sizes["T"] // 2}" PlaneCount="{n // 2}"')]
    ref = '<AnnotationRef ID="A:0"/>'
    xml = ome_xml("a.tif", image_xml(runs, ref=ref, **sizes), MODULO.format(along))
    write_set(tmp_path, {"a.tif": pages(n // 2, 1), "b.tif": pages(n // 2, 2)}, lambda _: xml)
    planes = check_ome(tmp_path, "a.tif")
    assert planes.dims == dims
    assert planes.coords == coords


def test_images_are_counted_as_tifffile_counts_series(tmp_path: Path) -> None:
    """Images without planes do not count; those in a single file of the dataset do."""
    first = [(None, 'IFD="0" PlaneCount="2"')]
    second = [("b.tif", f'IFD="{z}" FirstZ="{z}"') for z in range(2)] + [
        ("a.tif", 'IFD="2" FirstZ="2"')
    ]
    xml = ome_xml(
        "a.tif",
        image_xml([], name="empty"),
        image_xml(first, name="one", T=2),
        image_xml([("a.tif", 'FirstT="7"')], name="cropped away"),
        image_xml(second, name="two", Z=3),
    )
    write_set(tmp_path, {"a.tif": pages(3, 1), "b.tif": pages(2, 2)}, lambda _: xml)
    assert check_ome(tmp_path, "a.tif", 0).name == "one"
    assert check_ome(tmp_path, "a.tif", 1).name == "two"
    with pytest.raises(ArgumentError, match=r"series=2, but .* has 2 images"):
        ome_planes(xml, "a.tif", 2)


def test_names_of_channels() -> None:
    runs = [(f"{c}.tif", f'FirstC="{c}" IFD="0"') for c in range(2)]
    channels = '<Channel Name="DAPI"/><Channel Name="GFP"/>'
    planes = ome_planes(ome_xml("0.tif", image_xml(runs, channels=channels, C=2)), "0.tif", 0)
    assert planes is not None
    assert planes.coords == {"c": ("DAPI", "GFP")}


TWO = [("a.tif", 'IFD="0"'), ("b.tif", 'IFD="0" FirstZ="1"')]


@pytest.mark.parametrize(
    ("root", "own_name", "files"),
    [
        ("a.tif", "a.tif", ("a.tif", "b.tif")),
        ("a.tif", "renamed.tif", ("renamed.tif", "b.tif")),
        ("b.tif", "renamed.tif", ("a.tif", "renamed.tif")),
        (None, "A.TIF", ("A.TIF", "b.tif")),
        (None, "other.tif", ("a.tif", "b.tif")),
        ("a.tif", "b.tif", ("a.tif", "b.tif")),  # Micro-Manager: the same UUID in all files
    ],
)
def test_which_file_is_its_own(root: str | None, own_name: str, files: tuple[str, ...]) -> None:
    planes = ome_planes(ome_xml(root, image_xml(TWO, Z=2)), own_name, 0)
    assert planes is not None
    assert tuple(planes.files[file] for file in planes.file_of) == files
    assert planes.files[0] == own_name or own_name == "other.tif"


@pytest.mark.parametrize(
    "xml",
    [
        ome_xml(None, image_xml([(None, "")], Z=2)),
        ome_xml("a.tif", image_xml([("a.tif", 'IFD="0" PlaneCount="2"')], Z=2)),
        ome_xml("a.tif", image_xml([("before.tif", 'IFD="0" PlaneCount="2"')], Z=2)),
        ome_xml(None, image_xml([("/absolute/but/own.tif", "")], Z=2)),
        ome_xml(
            "x", image_xml([(None, "")], Z=2).replace("/></Pix", "><UUID>x</UUID></TiffData></Pix")
        ),
        ome_xml("x", '<BinaryOnly MetadataFile="a.companion.ome" UUID="urn:uuid:0"/>'),
    ],
)
def test_a_file_that_names_no_other_file_is_not_a_dataset(xml: str) -> None:
    assert ome_planes(xml, "a.tif", 0) is None


def test_elements_count_only_where_the_schema_has_them() -> None:
    strange = (
        "<StructuredAnnotations><XMLAnnotation ID='x'><Value><Image><Pixels><TiffData>"
        "<UUID FileName='evil'>u</UUID></TiffData></Pixels></Image></Value></XMLAnnotation>"
        "</StructuredAnnotations>"
    )
    xml = ome_xml("a.tif", strange, image_xml(TWO, Z=2), strange, "<Pixels><TiffData/></Pixels>")
    xml = xml.replace("<TiffData ", "<!-- <TiffData/> --><TiffData ", 1)
    planes = ome_planes(xml, "a.tif", 0)
    assert planes is not None
    assert planes.files == ("a.tif", "b.tif")
    prefixed = xml.replace("xmlns=", "xmlns:ome=").replace("</", "</ome:")
    for tag in (
        "OME",
        "Image",
        "Pixels",
        "TiffData",
        "UUID",
        "Channel",
        "Structured",
        "XMLA",
        "Value",
    ):
        prefixed = prefixed.replace(f"<{tag}", f"<ome:{tag}")
    planes = ome_planes(prefixed, "a.tif", 0)
    assert planes is not None
    assert planes.file_of.tolist() == [0, 1]


@pytest.mark.parametrize(
    "name",
    [
        "../b.tif",
        "sub/../../b.tif",
        "/b.tif",
        "\\\\server\\b.tif",
        "C:\\b.tif",
        "c:b.tif",
        "s3://other/b.tif",
        "x/http://b.tif",
        "b::memory.tif",
        "%2e%2e/b.tif",
        "sub%2F..%2fb.tif",
        "..\\b.tif",
        "sub/",
        "..",
        ".",
        "a\tb.tif",
    ],
)
def test_names_that_lead_outside_the_folder_are_refused(name: str) -> None:
    xml = ome_xml("a.tif", image_xml([TWO[0], (name, 'IFD="0" FirstZ="1"')], Z=2))
    with pytest.raises(CorruptFileError, match="not in its own folder"):
        ome_planes(xml.replace("a\tb", "a&#9;b"), "a.tif", 0)
    with pytest.raises(CorruptFileError):
        binary_only(ome_xml(None, f'<BinaryOnly MetadataFile="{name}"/>'.replace("a\tb", "a&#9;b")))
    with pytest.raises(CorruptFileError):
        ndtiff_planes(entry({"z": 0}, name))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("b.tif", "b.tif"),
        ("sub/b c.ome.tif", "sub/b c.ome.tif"),
        ("sub\\b.tif", "sub/b.tif"),
        ("b..tif", "b..tif"),
        ("50%_µm (1)#2?.tif", "50%_µm (1)#2?.tif"),
        ("t12:30.tif", "t12:30.tif"),
    ],
)
def test_names_that_stay_in_the_folder(name: str, path: str) -> None:
    xml = ome_xml("a.tif", image_xml([TWO[0], (name, 'IFD="0" FirstZ="1"')], Z=2))
    planes = ome_planes(xml, "a.tif", 0)
    assert planes is not None
    assert planes.files == ("a.tif", path)


GOOD = ome_xml("a.tif", image_xml(TWO, Z=2))


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("<OME", "<!DOCTYPE OME [<!ENTITY a 'aaaa'>]><OME", CorruptFileError),
        ("</Image>", "", CorruptFileError),
        ("</OME>", "</OME>x", CorruptFileError),
        ("XYZCT", "XYZTQ", CorruptFileError),
        ("XYZCT", "ZXYCT", CorruptFileError),
        (' DimensionOrder="XYZCT"', "", CorruptFileError),
        (' SizeT="1"', "", CorruptFileError),
        ('SizeX="7"', 'SizeX="-7"', CorruptFileError),
        ('SizeX="7"', 'SizeX="7.5"', CorruptFileError),
        ('SizeT="1"', 'SizeT="0"', CorruptFileError),
        ('IFD="0"', 'IFD="-1"', CorruptFileError),
        ('IFD="0"', 'IFD="zero"', CorruptFileError),
        ('IFD="0"', f'IFD="{10**30}"', CorruptFileError),
        ('IFD="0"', f'IFD="{2**63 - 1}" PlaneCount="2"', CorruptFileError),
        ('IFD="0"', f'IFD="{"9" * 5000}"', CorruptFileError),
        ('IFD="0"', 'PlaneCount="-2"', CorruptFileError),
        ('IFD="0"', 'PlaneCount="10000001"', LimitError),
        ('IFD="0"', 'PlaneCount="two"', CorruptFileError),
        ('SamplesPerPixel="1"', 'SamplesPerPixel="3"', CorruptFileError),
        ('SamplesPerPixel="1"', 'SamplesPerPixel="0"', CorruptFileError),
        (
            'SamplesPerPixel="1"/>',
            'SamplesPerPixel="1"/><Channel SamplesPerPixel="3"/>',
            UnsupportedFormatError,
        ),
        ('SizeT="1"', 'SizeT="10000000"', LimitError),
        ('FileName="b.tif"', "", UnsupportedFormatError),
        ("<Image", "<Image><Pixels/></Image>" * 20_001 + "<Image", LimitError),
    ],
)
def test_invalid_ome_xml(old: str, new: str, error: type[FormatError]) -> None:
    assert old in GOOD
    with pytest.raises(error) as caught:
        ome_planes(GOOD.replace(old, new, 1), "a.tif", 0)
    assert type(caught.value) is error


def test_too_many_planes_in_all_tiff_data() -> None:
    runs = [("a.tif", 'PlaneCount="1000000"'), ("b.tif", 'PlaneCount="1000000"')] * 6
    with pytest.raises(LimitError, match="12000000 planes"):
        ome_planes(ome_xml("a.tif", image_xml(runs, T=10**6)), "a.tif", 0)


@pytest.mark.parametrize(
    "along",
    [
        '<ModuloAlongZ Type="banana" Start="0" End="1"/>',
        '<ModuloAlongZ Type="angle"/>',
        '<ModuloAlongZ Type="angle" Start="0"/>',
        '<ModuloAlongZ Type="angle" Start="0" End="1" Step="0"/>',
        '<ModuloAlongZ Type="angle" Start="0" End="1e300" Step="1e-300"/>',
        '<ModuloAlongZ Type="angle" Start="nan" End="1"/>',
        '<ModuloAlongZ Type="angle" Start="0" End="2"/>',
    ],
)
def test_wrong_modulo_axes(along: str) -> None:
    runs = [("a.tif", 'IFD="0" PlaneCount="2"'), ("b.tif", 'IFD="0" FirstZ="2" PlaneCount="2"')]
    ref = '<AnnotationRef ID="A:0"/>'
    with pytest.raises(CorruptFileError, match="modulo axis"):
        ome_planes(
            ome_xml("a.tif", image_xml(runs, ref=ref, Z=4), MODULO.format(along)), "a.tif", 0
        )


@given(text=st.text(max_size=30), at=st.integers(0, len(GOOD)), cut=st.integers(0, 40))
def test_broken_xml_raises_only_documented_errors(text: str, at: int, cut: int) -> None:
    with contextlib.suppress(FormatError, ArgumentError):
        ome_planes(GOOD[:at] + text + GOOD[at + cut :], "a.tif", 0)


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, dict[str, int], list[tuple[str, int]]]:
    """Order of axes, sizes, and file and page of each plane in C order of the axes."""
    sizes = {letter: draw(st.integers(1, 4)) for letter in "ZCT"}
    total = math.prod(sizes.values())
    files = draw(st.lists(st.integers(0, 3), min_size=total, max_size=total))
    pages_of = draw(st.permutations(range(total)))
    places = [(f"f{file}.tif", page) for file, page in zip(files, pages_of, strict=True)]
    return draw(st.sampled_from(ORDERS)), sizes, places


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.randoms(use_true_random=False))
def test_any_table_is_read_back(
    table: tuple[str, dict[str, int], list[tuple[str, int]]], random: Any
) -> None:
    order, sizes, places = table
    letters = order[:1:-1]
    shape = tuple(sizes[letter] for letter in letters)
    runs: list[Run] = []
    for number, (file, page) in enumerate(places):
        at = np.unravel_index(number, shape)
        first = " ".join(f'First{k}="{v}"' for k, v in zip(letters, at, strict=True))
        runs.append((file, f'IFD="{page}" {first}'))
    random.shuffle(runs)
    planes = ome_planes(ome_xml(None, image_xml(runs, order, **sizes)), "", 0)
    assert planes is not None
    found = [
        (planes.files[file], page)
        for file, page in zip(planes.file_of.flat, planes.page_of.flat, strict=True)
    ]
    assert found == places
    assert planes.shape == tuple(n for n in shape if n > 1)


def long_series(n_times: int) -> str:
    """A hundred TiffData elements for each time, and a thousand planes."""
    runs = [
        (f"t{t}.tif", f'FirstT="{t}" FirstZ="{10 * z}" IFD="{10 * z}" PlaneCount="10"')
        for t in range(n_times)
        for z in range(100)
    ]
    return ome_xml("t0.tif", image_xml(runs, T=n_times, Z=1000))


@pytest.mark.slow
@pytest.mark.timeout(60)  # a look at all planes for each element would take minutes
def test_a_million_planes_are_read() -> None:
    planes = ome_planes(long_series(1000), "t0.tif", 0)
    assert planes is not None
    assert planes.shape == (1000, 1000)
    assert (planes.page_of == np.arange(1000)).all()
    assert (planes.file_of == np.arange(1000)[:, None]).all()


def test_many_planes_are_read_in_few_steps() -> None:
    """40 or so for each element, and nothing for each plane."""
    xml = long_series(50)
    ome_planes(long_series(1), "t0.tif", 0)  # what is done once is not what is counted
    with counted() as cost:
        planes = ome_planes(xml, "t0.tif", 0)
    assert planes is not None
    assert planes.shape == (50, 1000)
    print(f"{cost.steps / 5000:.0f} steps for each element")
    assert cost.steps < 60 * 5000


def entry(
    axes: Mapping[str, int | str],
    name: str,
    offset: int = 0,
    kind: int = 1,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    compression: int = 0,
) -> bytes:
    """An entry of an NDTiff.index."""
    text, file = json.dumps(axes).encode(), name.encode()
    numbers = struct.pack("<8I", offset, size[1], size[0], kind, compression, 0, 0, 0)
    return struct.pack("<I", len(text)) + text + struct.pack("<I", len(file)) + file + numbers


def micromanager_tiff(stack: Array, header: bytes) -> tuple[bytes, list[int], list[int]]:
    """A file as Micro-Manager writes it: an IFD of 13 tags, the pixels, then the longer values.

    Returns
    -------
    tuple
        Bytes, and the offsets of the IFDs and of the pixels.
    """
    samples = stack.shape[3] if stack.ndim == 4 else 1
    out = bytearray(8) + header
    directories, pixels, own = [], [], b'{"metadata": "of its own"}\0'
    for page in stack:
        out += b"\0" * (len(out) % 2)
        start = len(out)
        at, after = start + 162, start + 162 + page.nbytes
        bits = 8 * stack.itemsize
        tags = [
            (256, 4, 1, page.shape[1]),
            (257, 4, 1, page.shape[0]),
            (258, 3, samples, bits if samples == 1 else after),
            (259, 3, 1, 1),
            (262, 3, 1, 1 if samples == 1 else 2),
            (273, 4, 1, at),
            (277, 3, 1, samples),
            (278, 3, 1, page.shape[0]),
            (279, 4, 1, page.nbytes),
            (282, 5, 1, after + 6),
            (283, 5, 1, after + 14),
            (296, 3, 1, 1),
            (51123, 2, len(own), after + 22),
        ]
        tail = struct.pack("<3H4I", bits, bits, bits, 1, 1, 1, 1) + own
        is_last = len(directories) == len(stack) - 1
        after_tail = after + len(tail)
        following = 0 if is_last else after_tail + after_tail % 2
        out += struct.pack("<H", 13) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        out += struct.pack("<I", following) + page.tobytes() + tail
        directories.append(start)
        pixels.append(at)
    out[:8] = struct.pack("<2sHI", b"II", 42, directories[0])
    return bytes(out), directories, pixels


def write_ndtiff(folder: Path, stacks: Mapping[str, Array]) -> dict[str, list[int]]:
    """Write files; returns the offsets of the pixels by file."""
    header = struct.pack("<5I", 483729, 3, 3, 2355492, 2) + b"{}"
    offsets = {}
    for name, stack in stacks.items():
        data, _, offsets[name] = micromanager_tiff(stack, header)
        (folder / name).write_bytes(data)
    return offsets


def check_ndtiff(folder: Path, entries: Sequence[bytes], axes: str) -> PlaneTable:
    index = b"".join(entries)
    (folder / "NDTiff.index").write_bytes(index)
    planes = ndtiff_planes(index)
    with tifffile.TiffFile(folder / planes.files[0]) as tiff:
        series = tiff.series[0]
        assert series.kind == "ndtiff"
        assert series.axes == axes
        expected = series.asarray()
    assert planes.plane_shape is not None
    assert planes.offsets_are == "pixels"
    assert planes.shape + planes.plane_shape == expected.shape
    assert planes.dtype == expected.dtype.name
    result = np.zeros(expected.shape, expected.dtype)
    count = math.prod(planes.plane_shape)
    for at in np.ndindex(planes.shape):
        if planes.file_of[at] >= 0:
            data = (folder / planes.files[planes.file_of[at]]).read_bytes()
            page = np.frombuffer(data, planes.dtype, count, int(planes.page_of[at]))
            result[at] = page.reshape(planes.plane_shape)
    assert np.array_equal(result, expected)
    return planes


FIRST, SECOND = "x_NDTiffStack.tif", "x_NDTiffStack_1.tif"


def test_ndtiff_of_two_files(tmp_path: Path) -> None:
    offsets = write_ndtiff(tmp_path, {FIRST: pages(7, 1), SECOND: pages(5, 2)})
    places = [(name, at) for name, each in offsets.items() for at in each]
    axes = [
        {"z": z, "channel": c, "time": t} for t in (2, 3) for c in ("GFP", "DAPI") for z in range(3)
    ]
    entries = [entry(at, *place) for at, place in zip(axes, places, strict=True)]
    planes = check_ndtiff(tmp_path, entries, "TCZYX")
    assert planes.dims == ("t", "c", "z")
    assert planes.coords == {"t": (2, 3), "c": ("GFP", "DAPI")}
    assert planes.files == (FIRST, SECOND)
    assert planes.name == "x"


def test_ndtiff_with_negative_missing_and_overwritten_positions(tmp_path: Path) -> None:
    offsets = write_ndtiff(tmp_path, {FIRST: pages(6, 3)})[FIRST]
    at = [(0, -2), (0, -1), (3, 1), (0, -2), (1, 0), (0, -1)]
    entries = [
        entry({"row": row, "column": column, "time": 4}, FIRST, offset)
        for (row, column), offset in zip(at, offsets, strict=True)
    ]
    planes = check_ndtiff(tmp_path, entries, "JKYX")
    assert planes.dims == ("column", "row")
    assert planes.coords == {"column": (-2, -1, 0, 1)}
    assert (planes.file_of < 0).sum() == 12


def test_ndtiff_of_colours_and_other_axes(tmp_path: Path) -> None:
    stack = pages(4, 4, 3).astype(np.uint8)
    offsets = write_ndtiff(tmp_path, {FIRST: stack})[FIRST]
    entries = [
        entry({"position": name, "y": i}, FIRST, offsets[2 * n + i], 2)
        for n, name in enumerate(("B", "A"))
        for i in range(2)
    ]
    planes = check_ndtiff(tmp_path, entries, "RQYXS")
    assert planes.dims == ("position", "y2")
    assert planes.coords == {"position": ("B", "A")}
    assert planes.plane == ("y", "x", "s")


def test_ndtiff_that_was_not_closed_and_one_of_one_image() -> None:
    planes = ndtiff_planes(entry({}, FIRST, 64) + b"\0" * 10)
    assert planes.shape == ()
    assert planes.page_of == 64
    # Offsets are unsigned: files are up to 4 GiB long.
    assert ndtiff_planes(entry({"z": 0}, FIRST, 2**32 - 1)).page_of == 2**32 - 1


def raw_entry(text: bytes, name: bytes = b"a.tif") -> bytes:
    good = entry({}, "")
    return struct.pack("<I", len(text)) + text + struct.pack("<I", len(name)) + name + good[-32:]


@pytest.mark.parametrize(
    ("index", "error"),
    [
        (b"", CorruptFileError),
        (b"\0" * 8, CorruptFileError),
        (entry({"z": 0}, FIRST)[:-1], CorruptFileError),
        (entry({"z": 0}, FIRST)[:9], CorruptFileError),
        (entry({"z": 0}, FIRST) + b"\1\0", CorruptFileError),
        (struct.pack("<I", 2**32 - 1) + b"{}", CorruptFileError),
        (raw_entry(b"[1]"), CorruptFileError),
        (raw_entry(b"{"), CorruptFileError),
        (raw_entry(b'{"z":1},{"z":2}'), CorruptFileError),
        (raw_entry(b"[" * 10**5), CorruptFileError),
        (raw_entry(b'{"z":' + b"9" * 5000 + b"}"), CorruptFileError),
        (raw_entry(b'{"z":1}', b"\xff"), CorruptFileError),
        (entry({"z": 2**70}, FIRST), CorruptFileError),
        (raw_entry(b'{"z":true}'), CorruptFileError),
        (raw_entry(b'{"z":1.5}'), CorruptFileError),
        (raw_entry(b'{"z":null}'), CorruptFileError),
        (entry({"z": 0}, FIRST) + entry({"z": "0"}, FIRST), CorruptFileError),
        (entry({"z": "0"}, FIRST) + entry({"z": 0}, FIRST), CorruptFileError),
        (entry({"z": 0}, FIRST, size=(0, 5)), CorruptFileError),
        (entry({"z": 0}, FIRST, size=(5, 2**32 - 1)), CorruptFileError),
        (entry({"z": 0}, FIRST) + entry({"t": 0}, FIRST), UnsupportedFormatError),
        (entry({"z": 0}, FIRST) + entry({"z": 0, "t": 0}, FIRST), UnsupportedFormatError),
        (entry({"z": 0}, FIRST, compression=1), UnsupportedFormatError),
        (entry({"z": 0}, FIRST, kind=7), UnsupportedFormatError),
        (entry({"z": 0}, FIRST) + entry({"z": 1}, FIRST, kind=0), UnsupportedFormatError),
        (entry({"z": 0}, FIRST) + entry({"z": 1}, FIRST, size=(6, 6)), UnsupportedFormatError),
        (entry({"z": 0}, FIRST) + entry({"z": 10**7}, FIRST), LimitError),
        (entry({"z": -(2**63)}, FIRST) + entry({"z": 2**63 - 1}, FIRST), LimitError),
    ],
)
def test_invalid_ndtiff_indices(index: bytes, error: type[FormatError]) -> None:
    with pytest.raises(error) as caught:
        ndtiff_planes(index)
    assert type(caught.value) is error


@given(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 20))
def test_broken_ndtiff_indices_raise_only_documented_errors(data: bytes, at: int, cut: int) -> None:
    good = entry({"z": 0}, FIRST) + entry({"z": 1}, FIRST)
    with contextlib.suppress(FormatError):
        ndtiff_planes(good[:at] + data + good[at + cut :])


@given(
    st.dictionaries(
        st.tuples(st.integers(-3, 3), st.sampled_from("abc")),
        st.tuples(st.integers(0, 3), st.integers(0, 2**32 - 1)),
        min_size=1,
    )
)
def test_any_ndtiff_table_is_read_back(table: dict[tuple[int, str], tuple[int, int]]) -> None:
    entries = [
        entry({"z": z, "channel": c}, f"{file}.tif", offset)
        for (z, c), (file, offset) in table.items()
    ]
    planes = ndtiff_planes(b"".join(entries))
    lowest = min(z for z, _ in table)
    labels = list(dict.fromkeys(c for _, c in table))
    for (z, c), (file, offset) in table.items():
        known = {"z": z - lowest, "c": labels.index(c)}
        at = tuple(known[dim] for dim in planes.dims)
        assert planes.files[planes.file_of[at]] == f"{file}.tif"
        assert planes.page_of[at] == offset
    assert (planes.file_of >= 0).sum() == len(table)


def write_mmstack(
    folder: Path,
    name: str,
    stack: Array,
    index: Sequence[Sequence[int]],
    summary: Mapping[str, Any],
) -> tuple[dict[str, Any], Array]:
    """Write a file of a stack; `index` has channel, slice, frame and position of its pages."""
    text = json.dumps(summary).encode()
    header = struct.pack("<8I", 54773648, 0, 483765892, 0, 99384722, 0, 2355492, len(text)) + text
    data, directories, _ = micromanager_tiff(stack, header)
    rows = [(*at, offset) for at, offset in zip(index, directories, strict=True)]
    table = struct.pack("<II", 3453623, len(rows)) + b"".join(struct.pack("<5I", *r) for r in rows)
    out = bytearray(data + table)
    struct.pack_into("<I", out, 12, len(data))
    (folder / name).write_bytes(out)
    with (folder / name).open("rb") as file:
        found = tifffile.tifffile.read_micromanager_metadata(file, {"Summary", "IndexMap"})
    return found["Summary"], found["IndexMap"]


SUMMARY = {"MicroManagerVersion": "2", "Prefix": "x", "Channels": 2, "Slices": 2, "Frames": 3}
MM_NAMES = ("x_MMStack_0.ome.tif", "x_MMStack_1.ome.tif")


@pytest.mark.parametrize("time_first", [True, False])
@pytest.mark.parametrize("slices_first", [True, False])
@pytest.mark.parametrize("holes", [0, 3])
def test_mmstack(tmp_path: Path, time_first: bool, slices_first: bool, holes: int) -> None:
    summary = SUMMARY | {
        "TimeFirst": time_first,
        "SlicesFirst": slices_first,
        "Positions": 2,
        "ChNames": ["DAPI", "GFP"],
        "Width": WIDTH,
        "Height": HEIGHT,
        "PixelType": "GRAY16",
    }
    at = list(itertools.product(range(2), range(2), range(3), range(2)))
    parts = {
        MM_NAMES[0]: write_mmstack(tmp_path, MM_NAMES[0], pages(10, 1), at[:10], summary),
        MM_NAMES[1]: write_mmstack(
            tmp_path, MM_NAMES[1], pages(14 - holes, 2), at[10 : 24 - holes], summary
        ),
    }
    planes = mmstack_planes(parts)
    with tifffile.TiffFile(tmp_path / MM_NAMES[0]) as tiff:
        series = tiff.series[0]
        assert series.kind == "mmstack"
        expected, axes = series.asarray(), series.axes
    assert "".join(planes.dims + planes.plane).upper() == axes
    assert planes.offsets_are == "directory"
    assert planes.plane_shape == (HEIGHT, WIDTH)
    assert planes.coords == {"c": ("DAPI", "GFP")}
    assert planes.name == "x"
    assert (planes.file_of < 0).sum() == holes
    result = np.zeros_like(expected)
    for index in np.ndindex(planes.shape):
        if planes.file_of[index] >= 0:
            data = (tmp_path / planes.files[planes.file_of[index]]).read_bytes()
            page = np.frombuffer(data, "<u2", HEIGHT * WIDTH, int(planes.page_of[index]) + 162)
            result[index] = page.reshape(HEIGHT, WIDTH)
    assert np.array_equal(result, expected)


def index_map(*rows: Sequence[int]) -> Array:
    return np.array(rows, np.uint32).reshape(-1, 5)


def test_mmstack_of_big_endian_files_and_unwritten_images() -> None:
    rows = index_map((0, 1, 0, 0, 900), (0, 0, 0, 0, 40), (0, 1, 0, 0, 0)).astype(">u4")
    planes = mmstack_planes({"a_MMStack_Pos0.ome.tif": ({"PixelType": "RGB32"}, rows)})
    assert planes.dims == ("z",)
    assert planes.page_of.tolist() == [40, 900]
    assert planes.plane == ("y", "x", "s")
    assert planes.plane_shape is None
    assert planes.name == "a"


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ({}, CorruptFileError),
        ({"a": ([], index_map((0, 0, 0, 0, 8)))}, CorruptFileError),
        ({"a": ({}, index_map())}, CorruptFileError),
        ({"a": ({}, index_map((0, 0, 0, 0, 0)))}, CorruptFileError),
        ({"a": ({}, np.zeros((2, 4), np.uint32))}, CorruptFileError),
        ({"a": ({}, np.zeros((2, 5)))}, CorruptFileError),
        ({"a": ({}, np.full((2, 5), -1))}, CorruptFileError),
        ({"a": ({"Frames": "many"}, index_map((0, 0, 0, 0, 8)))}, CorruptFileError),
        ({"a": ({"Frames": None}, index_map((0, 0, 0, 0, 8)))}, CorruptFileError),
        ({"a": ({"Frames": math.inf}, index_map((0, 0, 0, 0, 8)))}, CorruptFileError),
        ({"a": ({"Frames": 10**8}, index_map((0, 0, 0, 0, 8)))}, LimitError),
        ({"a": ({}, index_map((2**32 - 1, 2**32 - 1, 0, 0, 8)))}, LimitError),
    ],
)
def test_invalid_mmstacks(parts: Any, error: type[FormatError]) -> None:
    with pytest.raises(error) as caught:
        mmstack_planes(parts)
    assert type(caught.value) is error
