"""Every page of a file: in the image, in another image of the file, or told."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import tifffile
from rasterio.errors import NotGeoreferencedWarning

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError, MismatchError, MissingFilesError

Array = npt.NDArray[Any]
pytestmark = pytest.mark.filterwarnings(
    f"ignore::{NotGeoreferencedWarning.__module__}.NotGeoreferencedWarning"
)


def noise(*shape: int, dtype: str = "uint16", seed: int = 3) -> Array:
    return np.random.default_rng(seed).integers(1, 250, shape).astype(dtype)


def write(path: Path, *pages: tuple[Array, Mapping[str, Any]]) -> Path:
    """Write each array as one page, with options of `tifffile.TiffWriter.write`."""
    with tifffile.TiffWriter(path) as writer:
        for pixels, options in pages:
            colour = pixels.ndim == 3
            common = {"photometric": "rgb" if colour else "minisblack", "metadata": None}
            writer.write(pixels, contiguous=False, **{**common, **options})
    return path


def pages_by_gdal(path: Path, n_pages: int) -> list[Array]:
    found = []
    for number in range(1, n_pages + 1):
        with rasterio.open(f"GTIFF_DIR:{number}:{path}") as page:
            found.append(page.read().squeeze(0))
    return found


def kinds(image: cloudimg.Image) -> dict[str, str]:
    return {note.kind: note.text for note in image.notes}


# Further images


def odd_first(folder: Path) -> tuple[Path, Array, Array]:
    """The first page is odd, and then comes the stack."""
    first, stack = noise(10, 12, dtype="uint8"), noise(5, 16, 20)
    path = write(folder / "odd.tif", (first, {}), *((page, {}) for page in stack))
    return path, first, stack


def test_further_images_are_told_and_opened(tmp_path: Path) -> None:
    path, first, stack = odd_first(tmp_path)
    image = cloudimg.open(path)
    np.testing.assert_array_equal(image.read(), first)
    assert "image 1 of 2; series=1" in repr(image)
    assert kinds(image) == {"further-images": "this is image 1 of 2; further images: series=1"}
    second = cloudimg.open(path, series=1)
    np.testing.assert_array_equal(second.read(), np.stack(pages_by_gdal(path, 6)[1:]))
    np.testing.assert_array_equal(second.read(), stack)
    assert "image 2 of 2; series=0" in repr(second)
    found = [(each.series, each.role, each.shape, each.dtype) for each in image.images]
    assert found == [(0, "image", (10, 12), "uint8"), (1, "image", (5, 16, 20), "uint16")]
    assert second.images == image.images


def test_info_tells_of_further_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _, _ = odd_first(tmp_path)
    assert main(["info", str(path)]) == 0
    assert "image 1 of 2; series=1" in capsys.readouterr().out
    assert main(["info", "--json", "--series", "1", str(path)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["series"] == 1
    assert [(each["series"], each["shape"]) for each in facts["images"]] == [
        (0, [10, 12]), (1, [5, 16, 20]),
    ]  # fmt: skip
    assert [note["kind"] for note in facts["notes"]] == ["further-images"]
    whole = write(tmp_path / "one.tif", (noise(9, 8), {}))
    assert cloudimg.info(str(whole))["images"] == []
    assert main(["info", str(whole)]) == 0
    assert "series" not in capsys.readouterr().out


def test_a_copy_of_one_of_several_images_needs_a_choice(tmp_path: Path) -> None:
    path, first, stack = odd_first(tmp_path)
    out = tmp_path / "copy.zarr"
    for refused in (
        lambda: cloudimg.migrate(path, out),
        lambda: cloudimg.migrate(path, out, series=None),
        lambda: cloudimg.dry_run(path),
        lambda: cloudimg.open(path).to_zarr(out),
        lambda: cloudimg.to_zarr(cloudimg.open(path), out),
    ):
        with pytest.raises(ArgumentError) as caught:
            refused()
        message = str(caught.value)
        assert message.startswith(
            f"{path} has 2 images, and a copy takes one of them: pass series=N"
        )
        assert "series=0: 10 x 12 uint8; series=1: 5 x 16 x 20 uint16" in message
        assert not (out / "zarr.json").exists()
    for series, pixels in enumerate((first, stack)):
        copy = tmp_path / f"{series}.zarr"
        done = cloudimg.migrate(path, copy, series=series)
        (note,) = done.notes
        assert f"image {series + 1} of 2" in note
        np.testing.assert_array_equal(np.squeeze(read_copy(copy)), pixels)
        proof = cloudimg.verify(copy, against_source=True)
        assert proof, str(proof)
        assert f"image {series + 1} of 2" in str(proof)
        # The same call continues the same copy, and one from Python with the same choice as well.
        assert cloudimg.open(path, series=series).to_zarr(copy).n_objects == 0
    # An image is compared as it is, whether or not it was chosen.
    assert cloudimg.verify(tmp_path / "0.zarr", against_source=cloudimg.open(path))


def read_copy(copy: Path) -> Array:
    import zarr

    return np.asarray(zarr.open_group(str(copy), mode="r")["0"])


def test_the_command_line_asks_for_its_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _, stack = odd_first(tmp_path)
    out = tmp_path / "copy.zarr"
    assert main(["migrate", str(path), str(out)]) == 2
    error = capsys.readouterr().err
    assert "pass --series N to choose it, or --series all to copy all of them" in error
    assert "(--series 0: 10 x 12 uint8; --series 1: 5 x" in error
    assert main(["migrate", "--dry-run", str(path), str(out)]) == 2
    assert main(["migrate", str(path), str(out), "--series", "1"]) == 0
    np.testing.assert_array_equal(np.squeeze(read_copy(out)), stack)


def test_a_pattern_whose_files_have_further_images(tmp_path: Path) -> None:
    for t in range(3):
        write(tmp_path / f"a_{t}.tif", (noise(8, 9, seed=t), {}), (noise(5, 6, seed=t), {}))
    url, out = f"{tmp_path}/a_{{t}}.tif", tmp_path / "copy.zarr"
    with pytest.raises(ArgumentError, match=r"a_0\.tif has 2 images"):
        cloudimg.migrate(url, out)
    done = cloudimg.migrate(url, out, series=1)
    assert [(note.kind, note.n_files) for note in done.notes] == [("further-images", 3)]
    np.testing.assert_array_equal(
        np.squeeze(read_copy(out)), np.stack([noise(5, 6, seed=t) for t in range(3)])
    )
    assert cloudimg.verify(out, against_source=True)


def test_only_a_later_file_has_a_further_image(tmp_path: Path) -> None:
    write(tmp_path / "a_0.tif", (noise(8, 9), {}))
    write(tmp_path / "a_1.tif", (noise(8, 9, seed=1), {}), (noise(5, 6), {}))
    url = f"{tmp_path}/a_{{t}}.tif"
    with pytest.raises(ArgumentError, match=r"a_1\.tif has 2 images"):
        cloudimg.migrate(url, tmp_path / "all.zarr", validate="all")
    # Its header is not read before its pixels are.
    out = tmp_path / "first.zarr"
    assert cloudimg.dry_run(url)
    with pytest.raises(ArgumentError, match=r"a_1\.tif has 2 images.*: pass series=0 to copy the"):
        cloudimg.migrate(url, out)
    (note,) = cloudimg.migrate(url, out, series=0).notes
    assert note.kind == "further-images"
    assert note.urls == (str(tmp_path / "a_1.tif"),)


# What accompanies an image


RGB = {"tile": (16, 16)}
APERIO = "Aperio Image Library v12.0.15\r\n64x48 [0,0 64x48] (16x16) RAW"


def slide(folder: Path) -> tuple[Path, Sequence[Array]]:
    """An SVS: baseline, thumbnail, label and macro image."""
    sizes = ((64, 48), (16, 12), (20, 20), (12, 30))
    pixels = [noise(*size, 3, dtype="uint8", seed=i) for i, size in enumerate(sizes)]
    base, thumbnail, label, macro = pixels
    path = write(
        folder / "slide.svs",
        (base, {**RGB, "description": APERIO}),
        (thumbnail, {"description": APERIO + "|thumbnail"}),
        (label, {"subfiletype": 1, "description": "Aperio Image Library\r\nlabel 20x20"}),
        (macro, {"subfiletype": 9, "description": "Aperio Image Library\r\nmacro 30x12"}),
    )
    return path, pixels


def test_the_label_of_a_slide_is_never_copied_unasked(tmp_path: Path) -> None:
    path, pixels = slide(tmp_path)
    image = cloudimg.open(path)
    assert "image 1 of 4; series=1 (thumbnail), 2 (label), 3 (macro)" in repr(image)
    assert kinds(image) == {
        role: f"the file also has 1 {role}, not part of this image: series={series}"
        for series, role in enumerate(("thumbnail", "label", "macro"), 1)
    }
    done = cloudimg.migrate(path, tmp_path / "copy.zarr")
    assert [note.kind for note in done.notes] == ["thumbnail", "label", "macro"]
    np.testing.assert_array_equal(
        np.squeeze(read_copy(tmp_path / "copy.zarr")), pixels[0].transpose(2, 0, 1)
    )
    proof = cloudimg.verify(tmp_path / "copy.zarr", against_source=True)
    assert proof
    assert "1 label" in str(proof)
    for series, expected in enumerate(pixels):
        np.testing.assert_array_equal(cloudimg.imread(path, series=series).compute(), expected)
    # A label is an image like any other if it is asked for.
    cloudimg.migrate(path, tmp_path / "label.zarr", series=2)
    np.testing.assert_array_equal(
        np.squeeze(read_copy(tmp_path / "label.zarr")), pixels[2].transpose(2, 0, 1)
    )


def scn_xml(*images: tuple[str, tuple[int, int], int]) -> str:
    """Leica SCN of images by name, extent in nanometres and page."""
    text = "".join(
        f'<image name="{name}"><pixels><dimension r="0" ifd="{page}"/></pixels>'
        f'<view sizeX="{width}" sizeY="{height}" offsetX="0" offsetY="0"/></image>'
        for name, (width, height), page in images
    )
    return (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="s" sizeX="9000" sizeY="4000">{text}</collection></scn>'
    )


@pytest.mark.parametrize("n_scans", [1, 2])
def test_the_overview_of_a_leica_slide(tmp_path: Path, n_scans: int) -> None:
    """It comes first, and is as large as the slide."""
    pixels = [noise(16, 32, 3, dtype="uint8", seed=i) for i in range(n_scans + 1)]
    scans = [(f"scan {i}", (500, 300), i) for i in range(1, n_scans + 1)]
    text = scn_xml(("overview", (9000, 4000), 0), *scans)
    path = write(
        tmp_path / "slide.scn",
        (pixels[0], {"description": text}),
        *((page, {}) for page in pixels[1:]),
    )
    image = cloudimg.open(path)
    assert [each.role for each in image.images] == ["macro", *["image"] * n_scans]
    with pytest.raises(ArgumentError, match=r"series=0: 16 x 32 x 3 uint8 'overview', macro;"):
        cloudimg.migrate(path, tmp_path / "copy.zarr")
    scan = cloudimg.open(path, series=1)
    np.testing.assert_array_equal(scan.read(), pixels[1])
    assert set(kinds(scan)) == ({"macro"} if n_scans == 1 else {"macro", "further-images"})


@pytest.mark.parametrize(("subfiletype", "role"), [(1, "thumbnail"), (4, "mask")])
def test_pages_that_their_type_tells(tmp_path: Path, subfiletype: int, role: str) -> None:
    image, other = noise(40, 30), noise(7, 9, dtype="uint8")
    if subfiletype == 4:
        other = (other > 99).astype(bool)
    path = write(tmp_path / "a.tif", (image, {}), (other, {"subfiletype": subfiletype}))
    opened = cloudimg.open(path)
    assert [each.role for each in opened.images] == ["image", role]
    assert list(kinds(opened)) == [role]
    done = cloudimg.migrate(path, tmp_path / "copy.zarr")
    assert [note.kind for note in done.notes] == [role]
    assert cloudimg.verify(tmp_path / "copy.zarr", against_source=True)
    np.testing.assert_array_equal(cloudimg.imread(path, series=1).compute(), other)


def test_the_image_behind_its_thumbnail_is_not_lost(tmp_path: Path) -> None:
    thumbnail, image = noise(5, 4, dtype="uint8"), noise(41, 32)
    path = write(tmp_path / "a.tif", (thumbnail, {"subfiletype": 1}), (image, {}))
    with pytest.raises(ArgumentError, match=r"series=0: 5 x 4 uint8, thumbnail; series=1: 41 x 32"):
        cloudimg.migrate(path, tmp_path / "copy.zarr")


def ome_file(path: Path, images: Sequence[tuple[str, Array]], *, names: Sequence[str] = ()) -> Path:
    with tifffile.TiffWriter(path, ome=True) as writer:
        for (name, pixels), axes in itertools.zip_longest(images, names, fillvalue="ZYX"):
            writer.write(pixels, metadata={"axes": axes, "Name": name}, photometric="minisblack")
    return path


def test_names_in_ome_xml_tell_labels_from_images(tmp_path: Path) -> None:
    """Only of small images: the labels of a segmentation are as large as the image."""
    big, small = noise(3, 40, 30), noise(3, 20, 10)
    slide = ome_file(
        tmp_path / "slide.ome.tif",
        [("scan", big), ("label image", small), ("macro image", small), ("Thumbnail", small)],
    )
    assert [each.role for each in cloudimg.open(slide).images] == [
        "image", "label", "macro", "thumbnail",
    ]  # fmt: skip
    assert len(cloudimg.migrate(slide, tmp_path / "slide.zarr").notes) == 3
    cells = ome_file(tmp_path / "cells.ome.tif", [("cells", big), ("label image", big)])
    assert [each.role for each in cloudimg.open(cells).images] == ["image", "image"]
    with pytest.raises(ArgumentError, match=r"series=1: 3 x 40 x 30 uint16 'label image'"):
        cloudimg.migrate(cells, tmp_path / "cells.zarr")


def test_many_images(tmp_path: Path) -> None:
    images = [(f"well {i}", noise(2, 9, 8, seed=i)) for i in range(14)]
    path = ome_file(tmp_path / "plate.ome.tif", images)
    assert "image 5 of 14; series=0..3, 5..13" in repr(cloudimg.open(path, series=4))
    with pytest.raises(ArgumentError, match=r"'well 9'; and 4 more\)"):
        cloudimg.migrate(path, tmp_path / "copy.zarr")


# Pages that OME-XML does not place


def planned(
    sizes: Mapping[str, int], pages: Array, content: str = "<TiffData/>", **options: Any
) -> bytes:
    """An OME-TIFF with these pages whose OME-XML plans for these sizes, in the order XYZCT."""
    lengths = "".join(f' Size{axis}="{sizes.get(axis, 1)}"' for axis in "ZCT")
    channels = "".join(f'<Channel ID="Channel:0:{c}"/>' for c in range(sizes.get("C", 1)))
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="{pages.dtype}"'
        f' SizeX="{pages.shape[2]}" SizeY="{pages.shape[1]}"{lengths}>{channels}{content}</Pixels>'
        "</Image></OME>"
    )
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for number, page in enumerate(pages):
            text = xml if number == 0 else None
            common = {"photometric": "minisblack", "metadata": None, "contiguous": False}
            writer.write(page, description=text, **common, **options)
    return file.getvalue()


ONE_EACH = "".join(f'<TiffData FirstT="{t}" IFD="{t}" PlaneCount="1"/>' for t in range(4))


@pytest.mark.parametrize(
    ("sizes", "content", "n_pages"),
    [
        ({"T": 40}, "<TiffData/>", 50),
        ({"C": 1}, "<TiffData/>", 2),
        ({"T": 4}, ONE_EACH, 7),
        ({"Z": 2, "C": 3}, '<TiffData IFD="0" PlaneCount="6"/>', 7),
    ],
)
def test_surplus_pages_are_told(
    tmp_path: Path, sizes: Mapping[str, int], content: str, n_pages: int
) -> None:
    pages = noise(n_pages, 6, 7)
    path = tmp_path / "a.ome.tif"
    path.write_bytes(planned(sizes, pages, content))
    n_placed = int(np.prod(list(sizes.values())))
    n_surplus = n_pages - n_placed
    image = cloudimg.open(path)
    found = image.read().reshape(-1, 6, 7)
    order = [image.dims.index(d) for d in ("t", "c", "z", "y", "x") if d in image.dims]
    found = image.read().transpose(order).reshape(-1, 6, 7)
    np.testing.assert_array_equal(found, np.stack(pages_by_gdal(path, n_pages)[:n_placed]))
    np.testing.assert_array_equal(found, pages[:n_placed])
    are = "page is" if n_surplus == 1 else "pages are"
    expected = (
        f"the file has {n_pages} pages, but the OME-XML places only {n_placed} of them:"
        f" {n_surplus} {are} in no image"
    )
    assert kinds(image) == {"surplus-pages": expected}
    done = cloudimg.migrate(path, tmp_path / "copy.zarr")
    assert [note.text for note in done.notes] == [expected]
    proof = cloudimg.verify(tmp_path / "copy.zarr", against_source=True)
    assert proof
    assert expected in str(proof)


def test_no_page_of_a_whole_file_is_surplus(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    path.write_bytes(planned({"Z": 2, "T": 3}, noise(6, 6, 7)))
    assert cloudimg.open(path).notes == ()
    both = ome_file(tmp_path / "b.ome.tif", [("a", noise(2, 9, 8)), ("b", noise(3, 9, 8))])
    assert list(kinds(cloudimg.open(both))) == ["further-images"]


def test_pages_of_a_slide_that_are_neither_level_nor_label(tmp_path: Path) -> None:
    path, pixels = slide(tmp_path)
    with tifffile.TiffWriter(path, append=True) as writer:
        writer.write(noise(9, 9, 3, dtype="uint8"), photometric="rgb", metadata=None)
    image = cloudimg.open(path)
    np.testing.assert_array_equal(image.read(), pixels[0])
    assert kinds(image)["surplus-pages"] == (
        "the file has 5 pages, but its images have only 4 of them: 1 page is in no image"
    )


# Stopped acquisitions


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_stopped_acquisition_is_filled(tmp_path: Path, compression: str | None) -> None:
    pages = noise(30, 24, 32)
    path = tmp_path / "stopped.ome.tif"
    path.write_bytes(planned({"Z": 4, "C": 2, "T": 5}, pages, compression=compression))
    with pytest.raises(MissingFilesError) as caught:
        cloudimg.open(path)
    message = str(caught.value)
    assert "10 of 40 planes of the image" in message
    assert "stopped.ome.tif describes 40 planes, but the file has 30 pages" in message
    assert 'missing="fill"' in message
    assert f"the image of {path} are missing" in message
    assert caught.value.url == str(path)
    image = cloudimg.open(path, missing="fill", fill_value=9)
    expected = np.full((40, 24, 32), 9, np.uint16)
    expected[:30] = np.stack(pages_by_gdal(path, 30))
    expected = expected.reshape(5, 2, 4, 24, 32)
    assert image.dims == ("t", "c", "z", "y", "x")
    assert (image.n_files, image.n_missing) == (1, 10)
    assert image.missing[0] == {"t": 3, "c": 1, "z": 2}
    np.testing.assert_array_equal(image.read(), expected)
    np.testing.assert_array_equal(image.to_dask().compute(), expected)
    np.testing.assert_array_equal(image.read({"t": 3, "y": slice(3, 9)}), expected[3, :, :, 3:9])
    assert list(kinds(image)) == ["missing-planes"]
    done = cloudimg.migrate(path, tmp_path / "copy.zarr", missing="fill", fill_value=9)
    assert "10 of 40 planes" in str(done)
    np.testing.assert_array_equal(read_copy(tmp_path / "copy.zarr"), expected)
    proof = cloudimg.verify(tmp_path / "copy.zarr", against_source=True)
    assert proof, str(proof)
    assert "10 of 40 planes" in str(proof)


def test_the_command_line_fills_a_stopped_acquisition(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "stopped.ome.tif", tmp_path / "copy.zarr"
    path.write_bytes(planned({"T": 5}, noise(3, 6, 7)))
    assert main(["migrate", str(path), str(out)]) == 4
    error = capsys.readouterr().err
    assert f"2 of 5 planes of the image of {path} are missing" in error
    assert "--missing fill" in error
    assert "url]" not in error
    assert main(["migrate", str(path), str(out), "--missing", "fill"]) == 0
    assert "2 of 5 planes of the image are missing" in capsys.readouterr().out


def test_planes_are_missing_in_the_middle(tmp_path: Path) -> None:
    """One TiffData leads past the end, another was never written."""
    pages = noise(3, 6, 7)
    content = "".join(
        f'<TiffData FirstT="{t}" IFD="{page}" PlaneCount="1"/>'
        for t, page in ((0, 1), (1, 77), (3, 0), (4, 2))
    )
    path = tmp_path / "a.ome.tif"
    path.write_bytes(planned({"T": 5}, pages, content))
    with pytest.raises(MissingFilesError, match=r"2 of 5 planes .* describes 5 .* 3 pages"):
        cloudimg.open(path)
    image = cloudimg.open(path, missing="fill", fill_value=2)
    filled = np.full((6, 7), 2, np.uint16)
    np.testing.assert_array_equal(
        image.read(), np.stack([pages[1], filled, filled, pages[0], pages[2]])
    )


@pytest.mark.parametrize(
    ("content", "placed", "reason"),
    [
        ('<TiffData IFD="1" PlaneCount="6"/>', range(1, 6), "but 1 of them is placed after the"),
        ('<TiffData IFD="4" PlaneCount="6"/>', (4, 5), "but 4 of them are placed after the"),
        ('<TiffData IFD="0" PlaneCount="4"/>', range(4), "but places only 4 of them in the"),
    ],
)
def test_planes_and_pages_without_each_other(
    tmp_path: Path, content: str, placed: Sequence[int], reason: str
) -> None:
    """As many planes as pages, but both some planes and some pages have no counterpart."""
    pages = noise(6, 6, 7)
    path = tmp_path / "a.ome.tif"
    path.write_bytes(planned({"T": 6}, pages, content))
    reason = rf"{6 - len(placed)} of 6 planes .* describes 6 planes, {reason}.* 6 pages"
    with pytest.raises(MissingFilesError, match=reason):
        cloudimg.open(path)
    image = cloudimg.open(path, missing="fill", fill_value=2)
    expected = np.full((6, 6, 7), 2, np.uint16)
    expected[: len(placed)] = pages[list(placed)]
    np.testing.assert_array_equal(image.read(), expected)
    notes = kinds(image)
    assert re.search(reason, notes["missing-planes"])
    assert f"has 6 pages, but the OME-XML places only {len(placed)}" in notes["surplus-pages"]


def test_a_stopped_acquisition_with_levels_and_names(tmp_path: Path) -> None:
    path, pixels = tmp_path / "a.ome.tif", noise(3, 2, 64, 48, dtype="uint8")
    metadata = {"axes": "TCYX", "Channel": {"Name": ["DAPI", "GFP"]}, "PhysicalSizeX": 0.5}
    options: dict[str, Any] = {"tile": (16, 16), "photometric": "minisblack"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(pixels, subifds=1, metadata=metadata, **options)
        writer.write(pixels[..., ::2, ::2], subfiletype=1, **options)
    data = path.read_bytes()
    assert data.count(b'SizeT="3"') == 1
    path.write_bytes(data.replace(b'SizeT="3"', b'SizeT="5"'))
    image = cloudimg.open(path, missing="fill", fill_value=3)
    for level, expected in enumerate((pixels, pixels[..., ::2, ::2])):
        found = image.read(level=level)
        np.testing.assert_array_equal(found[:3], expected)
        assert (found[3:] == 3).all()
    assert list(image.coords["c"]) == ["DAPI", "GFP"]
    assert image.attrs["pixel_size"]["x"] == 0.5
    assert image.missing[0] == {"t": 3, "c": "DAPI"}


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_stopped_acquisition_of_colours(tmp_path: Path, planar: str) -> None:
    path, axes = tmp_path / "a.ome.tif", "TYXS" if planar == "contig" else "TSYX"
    pixels = noise(3, 16, 20, 3, dtype="uint8").transpose(["TYXS".index(axis) for axis in axes])
    options: dict[str, Any] = {"photometric": "rgb", "planarconfig": planar}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(pixels, metadata={"axes": axes}, compression="zlib", **options)
    data = path.read_bytes()
    path.write_bytes(data.replace(b'SizeT="3"', b'SizeT="4"'))
    image = cloudimg.open(path, missing="fill", fill_value=7)
    found = image.read().transpose([image.dims.index(axis.lower()) for axis in axes])
    np.testing.assert_array_equal(found[:3], pixels)
    assert (found[3:] == 7).all()


def test_a_stopped_acquisition_of_two_images(tmp_path: Path) -> None:
    """The first image is whole, the second one lacks its last page."""
    path = ome_file(tmp_path / "a.ome.tif", [("a", noise(2, 9, 8)), ("b", noise(3, 9, 8, seed=1))])
    data = path.read_bytes()
    # Two planes of which the file has one: as if the second image had three planes more.
    old, new = b'SizeZ="3"', b'SizeZ="4"'
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    np.testing.assert_array_equal(cloudimg.open(path).read(), noise(2, 9, 8))
    with pytest.raises(MissingFilesError, match="1 of 4 planes"):
        cloudimg.open(path, series=1)
    image = cloudimg.open(path, series=1, missing="fill")
    np.testing.assert_array_equal(image.read()[:3], noise(3, 9, 8, seed=1))
    assert not image.read()[3].any()
    assert "image 2 of 2; series=0" in repr(image)
    assert set(kinds(image)) == {"further-images", "missing-planes"}


def test_files_of_a_pattern_that_were_stopped(tmp_path: Path) -> None:
    """Their pages are read, which do not fit those of a whole file, and it is told."""
    for well, n_pages in (("A1", 6), ("A2", 4)):
        data = planned({"Z": 2, "T": 3}, noise(n_pages, 6, 7))
        (tmp_path / f"{well}.ome.tif").write_bytes(data)
    image = cloudimg.open(f"{tmp_path}/{{w:s}}.ome.tif")
    with pytest.raises(MismatchError, match=r"A2\.ome\.tif"):
        image.read()
    (tmp_path / "A1.ome.tif").unlink()
    alone = cloudimg.open(f"{tmp_path}/{{w:s}}.ome.tif")
    np.testing.assert_array_equal(alone.read()[0], noise(4, 6, 7))
    assert kinds(alone) == {
        "missing-planes": "its OME-XML gives axes to 6 planes, of which the file lacks 2: its pages"
        " are read without these axes"
    }
