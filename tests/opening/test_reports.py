"""Inputs from public bug reports: the right pixels, an error that names what is wrong, or a note.

They lie beside the corpus in `reports`, whose README says what is right. Two are not tested here:
`geo-frames` (see `test_place_on_earth` and `test_geo_array`) and `names.json` (patterns that names
suggest).
"""

from __future__ import annotations

import warnings
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

import cloudimg
from cloudimg.errors import ArgumentError, CloudimgError, CorruptFileError
from tests.support.counting import steps_of_this_process
from tests.support.flavours import Array
from tests.support.isolation import PeakMemory, Step, each_apart
from tests.support.peers import unequal

LATER = ("geo-frames", "names.json", "README.md")
INPUTS = (
    "bytecount-zero/z_counts_zero1.tif",
    "ccitt-g4-libtiff-test/testfax4.tiff",
    "complex-predictor/c64_deflate_pred2.tif",
    "hostile/j2kbig.tif",
    "hostile/lercbig.tif",
    "hostile/loop2.tif",
    "imagej-truncated/says5_has12.tif",
    "imagej-truncated/whole.tif",
    "imagej-truncated/whole_cut.tif",
    "lerc-mask/lerc_nan1.tif",
    "lerc-mask/lerc_nan2_same_band.tif",
    "lerc-mask/lerc_rgba.tif",
    "ome-surplus-planes/planned40_has30.ome.tif",
    "ome-surplus-planes/sizes1_4pages.ome.tif",
    "series-not-told/sciscan.tif",
    "truncated-chain/pil_tr62.tif",
    "truncated-chain/whole.tif",
    "truncated-segment/CCITTFAX4.tif",
    "truncated-segment/jpeg.tif",
    "truncated-segment/jpeg_cut.tif",
    "ycbcr-not-rgb/rgb8-jpeg-YCrCb.tif",
)
MOST_MEMORY_BYTES = 100 * 10**6
"""For files of a few hundred bytes."""
MOST_STEPS = 2_000_000
"""See `tests.support.counting`; less than a second of Python."""


@pytest.fixture(scope="session")
def reports(corpus: Path) -> Path:
    folder = corpus / "reports"
    if not folder.is_dir():
        pytest.skip(f"no inputs of bug reports at {folder}")
    return folder


def test_each_input_is_tested_here(reports: Path) -> None:
    found = {str(path.relative_to(reports)) for path in reports.rglob("*") if path.is_file()}
    assert {name for name in found if not name.startswith(LATER)} == set(INPUTS)


# Pixels


@pytest.mark.parametrize(
    "name",
    [
        "bytecount-zero/z_counts_zero1.tif",
        "ccitt-g4-libtiff-test/testfax4.tiff",
        "complex-predictor/c64_deflate_pred2.tif",
        "lerc-mask/lerc_nan1.tif",
        "lerc-mask/lerc_nan2_same_band.tif",
        "lerc-mask/lerc_rgba.tif",
        "truncated-segment/CCITTFAX4.tif",
    ],
)
def test_the_pixels_of_gdal(reports: Path, tmp_path: Path, name: str) -> None:
    expected = by_gdal(reports / name)
    image = cloudimg.open(reports / name)
    pixels = image.read()
    assert not unequal(in_bytes(pixels), expected)
    height, width = expected.shape[:2]
    region = (slice(height // 3, height - 2), slice(5, width // 2))
    assert not unequal(in_bytes(image.read(region)), expected[region])
    check_copy(reports / name, tmp_path, pixels)


@pytest.mark.parametrize(
    "name", ["truncated-segment/jpeg.tif", "ycbcr-not-rgb/rgb8-jpeg-YCrCb.tif"]
)
def test_the_pixels_of_pillow(reports: Path, tmp_path: Path, name: str) -> None:
    """GDAL does not interpolate the chroma of JPEG that is sampled at half the resolution."""
    with Pillow.open(reports / name) as file:
        expected = np.asarray(file)
    pixels = cloudimg.imread(reports / name).compute()
    assert not unequal(pixels, expected)
    rough = by_gdal(reports / name).astype(int)
    assert np.abs(rough - pixels).mean() < 3  # the same picture
    check_copy(reports / name, tmp_path, pixels)


def test_all_rows_of_a_fax(reports: Path) -> None:
    path = reports / "ccitt-g4-libtiff-test/testfax4.tiff"
    pixels = cloudimg.imread(path).compute()
    assert int(pixels[480:].sum()) == 793_265
    with Pillow.open(path) as file:  # which inverts: 0 is white in the file
        assert np.array_equal(pixels, ~np.asarray(file))


def test_the_colour_space_is_that_of_the_pixels(reports: Path) -> None:
    image = cloudimg.open(reports / "ycbcr-not-rgb/rgb8-jpeg-YCrCb.tif")
    assert image.dims == ("y", "x", "s")
    assert image.attrs["color_space"] == "rgb"
    with tifffile.TiffFile(reports / "ycbcr-not-rgb/rgb8-jpeg-YCrCb.tif") as tiff:
        assert tiff.pages.first.photometric.name == "YCBCR"


# What ends too early


@pytest.mark.parametrize("n_bytes", [4, 5, 8, 10, 11, 20, 24, 1000, 3288, 20_000])
def test_a_jpeg_that_ends_in_its_last_segment(reports: Path, tmp_path: Path, n_bytes: int) -> None:
    data = (reports / "truncated-segment/jpeg.tif").read_bytes()
    refused(tmp_path, data[:-n_bytes], len(data))


@pytest.mark.parametrize("n_bytes", [5, 6, 7, 8, 100, 1000, 2000])
def test_a_fax_that_ends_in_its_last_segment(reports: Path, tmp_path: Path, n_bytes: int) -> None:
    """The directory of the file comes first here, as it is laid out by others."""
    data = (reports / "truncated-segment/CCITTFAX4.tif").read_bytes()
    with tifffile.TiffFile(reports / "truncated-segment/CCITTFAX4.tif") as tiff:
        page = tiff.pages.first
        strips = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        last = max(at + count for at, count in strips)
        assert page.offset < min(at for at, _ in strips)
    refused(tmp_path, data[: last - n_bytes], len(data))


@pytest.mark.parametrize("name", ["jpeg.tif", "CCITTFAX4.tif"])
@pytest.mark.parametrize("n_bytes", [1, 2, 3])
def test_only_the_mark_at_the_end_is_missing(
    reports: Path, tmp_path: Path, name: str, n_bytes: int
) -> None:
    """No pixel may be missing then; if none is, a note will do."""
    whole = reports / "truncated-segment" / name
    with tifffile.TiffFile(whole) as tiff:
        page = tiff.pages.first
        last = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)))
    path = tmp_path / "cut.tif"
    path.write_bytes(whole.read_bytes()[: last - n_bytes])
    try:
        image = cloudimg.open(path)
        pixels = image.read()
    except CorruptFileError:
        return
    assert image.notes
    assert not unequal(pixels, cloudimg.open(whole).read())


def test_the_jpeg_that_was_reported(reports: Path, tmp_path: Path) -> None:
    data = (reports / "truncated-segment/jpeg_cut.tif").read_bytes()
    whole = (reports / "truncated-segment/jpeg.tif").stat().st_size
    assert whole > len(data)
    refused(tmp_path, data, whole)


def refused(folder: Path, data: bytes, whole_bytes: int) -> None:
    """Neither reading nor migrating goes by the missing bytes, and headers tell of them."""
    path = folder / "cut.tif"
    path.write_bytes(data)
    with pytest.raises(CorruptFileError) as caught:
        cloudimg.open(path).read()
    assert str(path) in str(caught.value)
    assert caught.value.byte_range is not None
    assert len(data) < caught.value.byte_range[1] <= whole_bytes
    with pytest.raises(CloudimgError, match=r"cut\.tif"):
        cloudimg.migrate(path, folder / "copy.zarr")
    for validate in ("first", "all"):
        assert reported_at_open(path, validate=validate)


def reported_at_open(path: Path, **options: Any) -> bool:
    """Whether the header alone makes cloudimg say something."""
    try:
        return bool(cloudimg.open(path, **options).notes)
    except CorruptFileError:
        return True


def test_a_chain_that_leads_beyond_the_end(reports: Path, tmp_path: Path) -> None:
    whole = reports / "truncated-chain/whole.tif"
    check_equal(whole, tifffile.imread(whole))
    cut = reports / "truncated-chain/pil_tr62.tif"
    message = fails(cut, tmp_path)
    assert str(cut.stat().st_size) in message  # where the file ends, and where the chain leads
    assert any(number in message for number in ("2350", "10"))


@pytest.mark.parametrize("percent", [20, 35, 50, 62, 75, 90, 99])
def test_a_chain_that_is_cut_anywhere(reports: Path, tmp_path: Path, percent: int) -> None:
    data = (reports / "truncated-chain/whole.tif").read_bytes()
    path = tmp_path / "cut.tif"
    path.write_bytes(data[: len(data) * percent // 100])
    fails(path, tmp_path)


def test_an_imagej_stack_that_is_cut(reports: Path, tmp_path: Path) -> None:
    whole = reports / "imagej-truncated/whole.tif"
    # ImageJ's order is t z c, and cloudimg's is t c z.
    planes = imagej_planes(whole, 12).reshape(2, 3, 2, 24, 32).swapaxes(1, 2)
    assert check_equal(whole, planes).shape == (2, 2, 3, 24, 32)
    message = fails(reports / "imagej-truncated/whole_cut.tif", tmp_path)
    assert "12" in message
    assert "11" in message or "18678" in message


def test_an_imagej_stack_with_more_planes_than_it_counts(reports: Path, tmp_path: Path) -> None:
    path = reports / "imagej-truncated/says5_has12.tif"
    planes = imagej_planes(path, 12)
    said = accounted(path, tmp_path, planes, n_least=5)
    assert "12" in said
    assert "5" in said


def imagej_planes(path: Path, n: int) -> Array:
    """Planes that follow one another at the end of a file, 24 x 32 in big-endian order."""
    data = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages.first.dataoffsets[0]
        assert tiff.pages.first.shape == (24, 32)
        assert tiff.byteorder == ">"
    found = np.frombuffer(data, ">u2", n * 24 * 32, start)
    return found.reshape(n, 24, 32).astype(np.uint16)


# What a description says


def test_a_stopped_acquisition(reports: Path, tmp_path: Path) -> None:
    path = reports / "ome-surplus-planes/planned40_has30.ome.tif"
    message = fails(path, tmp_path)
    assert "30" in message
    assert "40" in message
    image = cloudimg.open(path, missing="fill")
    assert image.dims == ("t", "c", "z", "y", "x")
    assert image.shape == (5, 2, 4, 24, 32)
    planes = image.read().reshape(40, 24, 32)  # z first, then c, as the pages
    assert not unequal(planes[:30], pages(path))
    assert not planes[30:].any()
    copy = tmp_path / "filled.zarr"
    cloudimg.migrate(path, copy, missing="fill")
    proof = cloudimg.verify(copy, against_source=True)
    assert proof, proof


def test_more_pages_than_the_xml_names(reports: Path, tmp_path: Path) -> None:
    path = reports / "ome-surplus-planes/sizes1_4pages.ome.tif"
    said = accounted(path, tmp_path, pages(path), n_least=1)
    assert "4" in said


def pages(path: Path) -> Array:
    with tifffile.TiffFile(path, _multifile=False) as tiff:
        return np.stack([page.asarray() for page in tiff.pages])


def accounted(path: Path, folder: Path, planes: Array, *, n_least: int) -> str:
    """Read a file that has more planes than it says: all of them, or the first and a note.

    What was said about it.
    """
    image = cloudimg.open(path)
    found = image.read().reshape(-1, *image.shape[-2:])
    assert not unequal(found, planes[: len(found)])
    assert len(found) >= n_least
    if len(found) == len(planes):
        return " ".join([str(image), *map(str, range(20))])
    assert image.notes
    assert all(str(path) in note.urls for note in image.notes)
    copy = folder / "copy.zarr"
    done = cloudimg.migrate(path, copy)
    proof = cloudimg.verify(copy, against_source=True)
    assert proof, proof
    kinds = {note.kind for note in image.notes}
    assert kinds <= {note.kind for note in done.notes}
    assert kinds <= {note.kind for note in proof.notes}
    for text in (repr(image), str(done), str(proof)):
        assert all(note.text in text for note in image.notes), text
    return " ".join(image.notes)


def test_further_images(reports: Path, tmp_path: Path) -> None:
    path = reports / "series-not-told/sciscan.tif"
    first, stack = tifffile.imread(path, series=0), tifffile.imread(path, series=1)
    image = cloudimg.open(path)
    assert not unequal(image.read(), first)
    assert "image 1 of 2" in repr(image)
    assert "series=1" in repr(image)
    assert any("image 1 of 2" in note["text"] for note in cloudimg.info(str(path))["notes"])
    with pytest.raises(CloudimgError, match="series") as caught:
        cloudimg.migrate(path, tmp_path / "copy.zarr")
    assert str(path) in str(caught.value)
    assert not unequal(cloudimg.imread(path, series=1).compute(), stack)
    check_copy(path, tmp_path, stack, series=1)


# Hostile files


@dataclass(frozen=True, slots=True)
class Cost:
    error: str
    steps: int
    memory_bytes: int


def examine(path: Path) -> Generator[Step, None, list[Cost]]:
    """What reading and migrating cost, in a child that has done so before."""
    yield Step("start", 60)
    cloudimg.to_zarr(np.zeros((9, 9), np.uint8), "memory://reports/first.zarr", overwrite=True)
    costs = []
    for what in ("read", "migrate"):
        yield Step(what, 60)
        memory, steps = PeakMemory(), steps_of_this_process()
        begin, error = steps.so_far(), ""
        with steps.counting():
            try:
                if what == "read":
                    cloudimg.open(path).read()
                else:
                    cloudimg.migrate(path, "memory://reports/copy.zarr")
            except CloudimgError as exc:
                error = str(exc)
        costs.append(Cost(error, steps.so_far() - begin, memory.bytes()))
    return costs


@pytest.mark.slow
def test_hostile_files_are_refused_at_little_cost(reports: Path) -> None:
    paths = [reports / name for name in INPUTS if name.startswith("hostile/")]
    outcomes = list(each_apart(examine, paths))
    assert len(outcomes) == 3
    for outcome in outcomes:
        assert not outcome.trouble, outcome
        for cost in outcome.result:
            assert str(outcome.item) in cost.error, outcome
            assert cost.steps < MOST_STEPS, outcome
            assert cost.memory_bytes < MOST_MEMORY_BYTES, outcome


# Others' readings


def by_gdal(path: Path) -> Array:
    """All bands, samples last."""
    import rasterio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            bands: Array = dataset.read()
    return bands[0] if len(bands) == 1 else np.moveaxis(bands, 0, -1)


def in_bytes(pixels: Array) -> Array:
    """GDAL has no bits."""
    return pixels.astype(np.uint8) if pixels.dtype == np.bool_ else pixels


def check_equal(path: Path, planes: Array) -> cloudimg.Image:
    image = cloudimg.open(path)
    assert not image.notes
    assert not unequal(image.read().reshape(planes.shape), planes)
    return image


def check_copy(path: Path, folder: Path, pixels: Array, **options: Any) -> None:
    """Migrate and verify, and compare the copy with pixels, whose samples come first there."""
    import zarr

    url = folder / "checked.zarr"
    cloudimg.migrate(path, url, **options)
    proof = cloudimg.verify(url, against_source=True)
    assert proof, proof
    copied = np.asarray(zarr.open_array(url / "0", mode="r")[...])
    if pixels.shape[-1:] and copied.shape != pixels.shape and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, -1, 0)
    assert not unequal(copied.reshape(pixels.shape), in_bytes(pixels).astype(copied.dtype))


def fails(path: Path, folder: Path) -> str:
    """The error of reading the file; migrating it is refused as well."""
    messages: list[str] = []
    for call in (lambda: cloudimg.open(path).read(), lambda: migrated(path, folder)):
        with pytest.raises(CloudimgError) as caught:
            call()
        assert not isinstance(caught.value, ArgumentError)
        assert path.name in str(caught.value)
        messages.append(str(caught.value))
    return messages[0]


def migrated(path: Path, folder: Path) -> None:
    cloudimg.migrate(path, folder / "failed.zarr")
