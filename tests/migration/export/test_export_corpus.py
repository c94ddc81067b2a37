"""Every file of the corpus that migrates, exported: the pixels of the source, and its tags.

Pixels are read by tifffile and by GDAL and compared bit for bit. Tags are compared as bytes, by a
parser of the tests' own: each is in the exported file as it was in the source, or the result of the
export names it. A run takes a tenth of the files, chosen by a fixed seed, and small acquisitions;
with ``CLOUDIMG_ALL_EXPORTS=1`` it takes all of them. `pytest -rP` prints what was compared.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.errors import ArgumentError, CloudimgError
from tests.support.peers import difference, difference_from_gdal, read_by_gdal
from tests.support.raw_tags import EXIF, RawTag, read_raw_tags

Array = np.ndarray[Any, Any]

SHARE = 0.1
TAKES_ALL = os.environ.get("CLOUDIMG_ALL_EXPORTS") == "1"
STORED_ANEW = {
    "NewSubfileType", "ImageWidth", "ImageLength", "BitsPerSample", "Compression",
    "PhotometricInterpretation", "FillOrder", "StripOffsets", "SamplesPerPixel", "RowsPerStrip",
    "StripByteCounts", "PlanarConfiguration", "FreeOffsets", "FreeByteCounts", "T4Options",
    "T6Options", "Predictor", "ColorMap", "TileWidth", "TileLength", "TileOffsets",
    "TileByteCounts", "ExtraSamples", "SampleFormat", "JPEGTables", "JPEGProc",
    "JPEGInterchangeFormat", "JPEGInterchangeFormatLength", "JPEGRestartInterval",
    "JPEGLosslessPredictors", "JPEGPointTransforms", "JPEGQTables", "JPEGDCTables", "JPEGACTables",
    "YCbCrSubSampling", "ImageDepth", "TileDepth", "LercParameters", "OffsetHighBytes",
    "ByteCountHighBytes", "McuStarts", "McuStartsHighBytes", "SubIFDs",
}  # fmt: skip
"""Tags that say how pixels are stored. What pixels mean is compared by reading them."""


def name_of(code: int) -> str:
    return str(tifffile.TIFF.TAGS.get(code, code))


def squeezed(pixels: Array) -> Array:
    return pixels.reshape([n for n in pixels.shape if n > 1])


def is_same(one: Array, other: Array) -> bool:
    """Bit for bit, apart from axes of length 1 and byte order."""
    one, other = squeezed(one), squeezed(other)
    native = [each.astype(each.dtype.newbyteorder("="), copy=False) for each in (one, other)]
    return (
        one.shape == other.shape
        and native[0].dtype == native[1].dtype
        and native[0].tobytes() == native[1].tobytes()
    )


def lacking(source: dict[int, RawTag], exported: dict[int, RawTag], prefix: str = "") -> set[str]:
    """Names of the tags that an exported IFD does not have as the source has them."""
    missing: set[str] = set()
    for code, tag in source.items():
        name = f"{prefix}{code}" if prefix else name_of(code)
        found = exported.get(code)
        if not prefix and name in STORED_ANEW:
            continue
        if tag.ifd is None:
            if found != tag:
                missing.add(name)
        elif found is None or found.ifd is None:
            missing.add(name)
        else:
            missing |= lacking(tag.ifd, found.ifd, f"{name}/")
    return missing


def pages_in_source(path: Path, n_pages: int) -> list[int]:
    """Numbers of the IFDs of the source that the pages of an exported file are."""
    try:
        with tifffile.TiffFile(path, _multifile=False) as tiff:
            numbers = [page.index for page in tiff.series[0] if page is not None]
    except Exception:  # noqa: BLE001 - tifffile raises any error for hostile files
        return [0]
    return sorted(numbers) if len(numbers) == n_pages == len(set(numbers)) else [0]


class Case:
    """A file that is migrated and exported."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self.options: dict[str, Any] = {}
        copy, back = folder / "copy.zarr", folder / "back"
        try:
            cloudimg.migrate(path, copy)
        except ArgumentError:
            self.options = {"series": 0}
            cloudimg.migrate(path, copy, series=0)
        self.result = cloudimg.export(copy, back)
        (self.exported,) = (
            each for each in back.rglob("*") if each.suffix != ".json" and each.is_file()
        )

    def wrong_pixels(self, counts: Counter[str]) -> str:
        image = cloudimg.open(self.path, **self.options)
        expected = image.read()
        with tifffile.TiffFile(self.exported, _multifile=False) as tiff:
            first = tiff.series[0]
            differing = difference(expected, first.asarray(), first.axes)
        if differing:
            return f"tifffile reads other pixels: {differing}"
        if not is_same(cloudimg.open(self.exported).read(), expected):
            return "cloudimg reads other pixels"
        theirs = read_by_gdal(self.path)
        if isinstance(theirs, str) or difference_from_gdal(expected, image.dims, theirs):
            return ""  # of these, tests/opening/test_corpus.py says why
        counts["compared by GDAL"] += 1
        again = read_by_gdal(self.exported)
        if isinstance(again, str) or again.tobytes() != theirs.tobytes():
            return f"GDAL reads other pixels: {again if isinstance(again, str) else ''}"
        return ""

    def silent_losses(self, counts: Counter[str]) -> set[str]:
        """Tags that are not as in the source, although the result does not name them."""
        said = {each.what for each in self.result.not_written}
        return silent_losses(self.path, self.exported, said, counts)


def silent_losses(path: Path, again: Path, said: set[str], counts: Counter[str]) -> set[str]:
    """Tags of a source that its exported file lacks, without those that the result names."""
    source = read_raw_tags(path.read_bytes())
    exported = read_raw_tags(again.read_bytes())
    if "all tags" in said:
        counts["without tags"] += 1
        return set()
    assert source.order == exported.order
    with tifffile.TiffFile(again, _multifile=False) as tiff:
        n_pages = len(tiff.series[0].pages)
    missing: set[str] = set()
    for number, page in enumerate(pages_in_source(path, n_pages)):
        if number > 0 and "tags of further pages" in said:
            break
        own = source.ifds[page]
        lacks = lacking(own, exported.ifds[number])
        counts["tags"] += len(own)
        counts["tags of pixels"] += sum(name_of(code) in STORED_ANEW for code in own)
        counts["not written"] += len(lacks)
        counts["ExifTag"] += EXIF in own and own[EXIF].ifd is not None
        counts["ExifTag kept"] += "ExifTag" not in lacks and EXIF in own
        missing |= lacks
    return {name for name in missing if name not in said}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")  # of rasterio and of hostile files
def test_every_file_that_migrates_comes_back(corpus: Path, tmp_path: Path) -> None:
    with (corpus / "index.csv").open(newline="") as file:
        names = [row["path"] for row in csv.DictReader(file)]
    if not TAKES_ALL:
        names = random.Random(17).sample(names, int(len(names) * SHARE))
    counts: Counter[str] = Counter()
    lost: Counter[tuple[str, str]] = Counter()
    wrong = []
    for name in names:
        folder = tmp_path / "one"
        try:
            case = Case(corpus / "files" / name, folder)
        except CloudimgError as exc:
            if (folder / "copy.zarr/.cloudimg/done.json").exists():
                wrong.append(f"{name}: {exc}")
            counts["not migrated"] += 1
            shutil.rmtree(folder, ignore_errors=True)
            continue
        counts["exported"] += 1
        lost.update((each.what, each.why) for each in case.result.not_written)
        problem = case.wrong_pixels(counts)
        if problem:
            wrong.append(f"{name}: {problem}")
        silent = case.silent_losses(counts)
        if silent:
            wrong.append(f"{name}: lost without a word: {sorted(silent)}")
        shutil.rmtree(folder)
    print(dict(counts))
    for (what, why), count in lost.most_common():
        print(f"{count:4} {what}: {why}")
    assert not wrong, "\n".join(wrong)
    assert counts["exported"] > 0.6 * len(names)


ACQUISITIONS = {
    "drosophila": "DrosophilaEmbryo_GFPHistone_{t}.tif",
    "illum": "AS_09047_050428030001_O{row}f{field}d2.TIF",
    "cv8000": "CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack_{well:s}_T{t:04d}F{f:03d}L01A{c:02d}"
    "Z{z:02d}C{c:02d}.tif",
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*ACQUISITIONS, "metaxpress"])
def test_acquisitions_come_back(acquisitions: Path, tmp_path: Path, name: str) -> None:
    """File by file: the same names, pixels (by tifffile and GDAL) and tags."""
    if name == "cv8000" and not TAKES_ALL:
        pytest.skip("96 files of 8 MB: set CLOUDIMG_ALL_EXPORTS=1")
    folder = acquisitions / (name if name != "metaxpress" else "metaxpress/TimePoint_1")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".tif")
    source: Any = files if name == "metaxpress" else f"{folder}/{ACQUISITIONS[name]}"
    cloudimg.migrate(source, tmp_path / "copy.zarr")
    result = cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back")
    assert result.n_files == len(files)
    said = {each.what for each in result.not_written}
    counts: Counter[str] = Counter()
    for path in files:
        again = tmp_path / "back" / path.relative_to(folder)
        assert is_same(tifffile.imread(again), tifffile.imread(path)), path.name
        theirs, back = read_by_gdal(path), read_by_gdal(again)
        assert not isinstance(theirs, str)
        assert not isinstance(back, str)
        assert back.tobytes() == theirs.tobytes(), path.name
        assert not silent_losses(path, again, said, counts), path.name
    print(name, len(files), dict(counts), result)
    assert counts["tags"] >= 10 * len(files)
