"""Bad input raises a clear `CloudimgError`: what happened, where, what to do; and it pickles."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloudimg
import cloudimg.errors
from cloudimg.errors import (
    ArgumentError,
    CloudimgError,
    CorruptFileError,
    DuplicateIndexError,
    GridError,
    LimitError,
    NoMatchError,
    NotFoundError,
    NotTiffError,
    PatternError,
)
from tests.conftest import Place
from tests.support import seed

PLANE = np.arange(16 * 24, dtype=np.uint16).reshape(16, 24)
TIFF = seed.encode(PLANE)


def test_no_match_lists_names_with_the_same_beginning(place: Place) -> None:
    for name in ("scan_a.tif", "scan_b.tif", "other.tif"):
        place.put(name, TIFF)
    options = place.storage_options
    with pytest.raises(NoMatchError, match=r"2 objects begin with .*scan_ .*scan_a\.tif"):
        cloudimg.open(f"{place.url}/scan_{{z}}.tif", storage_options=options)
    with pytest.raises(NoMatchError, match=r"nearest names there: .*scan_a\.tif"):
        cloudimg.open(f"{place.url}/scam_{{z}}.tif", storage_options=options)
    for name in ("plate/note.txt", "plate/day1/a_0.tif"):
        place.put(name, TIFF)
    with pytest.raises(NoMatchError, match=r"1 object begins with .*/plate/day1/a_ .* does not"):
        cloudimg.open(f"{place.url}/plate/day1/a_{{z}}b.tif", storage_options=options)
    missing = r"the folder \S*/nowhere is empty, or does not exist$"
    with pytest.raises(NoMatchError, match=missing) as caught:
        cloudimg.open(f"{place.url}/nowhere/at/all_{{z}}.tif", storage_options=options)
    assert "scan_a" not in str(caught.value)
    for folder, similar in (("plate/dya1", "plate/day1"), ("plaet/day1", "plate")):
        there = rf"the folder \S*/{folder.partition('/day')[0]} is .* there is \S*/{similar}/$"
        with pytest.raises(NoMatchError, match=there):
            cloudimg.open(f"{place.url}/{folder}/a_{{z}}.tif", storage_options=options)
    with pytest.raises(NoMatchError, match="nothing matches"):
        cloudimg.open(f"{place.url}/scam*.tif", storage_options=options)
    with pytest.raises(NotFoundError, match=r"scan_c\.tif"):
        cloudimg.open(f"{place.url}/scan_c.tif", storage_options=options)


def test_near_matches_are_counted(tmp_path: Path) -> None:
    for name in ("z1.tif", "z2.tif", "z3_copy.tif", "zx.tif"):
        (tmp_path / name).write_bytes(TIFF)
    image = cloudimg.open(tmp_path / "z{z}.tif")
    count, examples = image.unmatched
    assert count == 2
    assert {Path(url).name for url in examples} == {"z3_copy.tif", "zx.tif"}


@pytest.mark.parametrize("pattern", ["z{.tif", "z}.tif", "{a}{b}.tif", "{a:[}.tif", "{1}.tif"])
def test_patterns_with_a_syntax_error(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(PatternError):
        cloudimg.open(tmp_path / pattern)


def test_two_files_at_one_index(tmp_path: Path) -> None:
    for name in ("z1.tif", "z01.tif"):
        (tmp_path / name).write_bytes(TIFF)
    with pytest.raises(DuplicateIndexError, match=r"z=1: .*z0?1\.tif and .*z0?1\.tif"):
        cloudimg.open(tmp_path / "z{z}.tif")
    (tmp_path / "sub1").mkdir()
    (tmp_path / "sub2").mkdir()
    for folder in ("sub1", "sub2"):
        (tmp_path / folder / "q7.tif").write_bytes(TIFF)
    with pytest.raises(DuplicateIndexError, match=r"sub1/q7\.tif and .*sub2/q7\.tif"):
        cloudimg.open(tmp_path / "sub*/q{z}.tif")


def test_fields_that_move_together_are_explained(tmp_path: Path) -> None:
    for i in range(50):
        (tmp_path / f"a{i}_b{i}_c{i}_d{i}_e{i}_f{i}.tif").write_bytes(TIFF)
    with pytest.raises(GridError, match="move together"):
        cloudimg.open(tmp_path / "a{a}_b{b}_c{c}_d{d}_e{e}_f{f}.tif", missing="fill")


@pytest.mark.long
@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (b"", NotTiffError, "empty"),
        (b"x", NotTiffError, "not a TIFF"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), CorruptFileError, "decoded by PNG"),
        (b"<html>Not found</html>", NotTiffError, "not a TIFF"),
        (TIFF[:6], CorruptFileError, "header"),
        (TIFF[:60], CloudimgError, "file"),
        (b"II*\0" + (10**6).to_bytes(4, "little") + bytes(50), CloudimgError, "file"),
        (b"II*\0" + bytes(4), CloudimgError, "file"),
    ],
    ids=["empty", "one byte", "png", "html", "cut in 8", "cut in IFD", "IFD beyond", "no IFD"],
)
def test_files_that_are_not_tiffs(place: Place, data: bytes, error: Any, text: str) -> None:
    if place.name == "gs" and not data:
        pytest.skip("the emulator takes no empty objects")
    url = place.put("file.tif", data)
    with pytest.raises(error, match=text) as caught:
        cloudimg.open(url, storage_options=place.storage_options)
    assert "file.tif" in str(caught.value)


def test_the_cause_of_a_format_error_is_kept(tmp_path: Path) -> None:
    (tmp_path / "cut.tif").write_bytes(TIFF[:6])
    with pytest.raises(CorruptFileError, match=r"header of .*cut\.tif cannot be parsed") as caught:
        cloudimg.open(tmp_path / "cut.tif")
    assert isinstance(caught.value.__cause__, struct.error)
    data = bytearray(seed.encode(PLANE, compression="zlib"))
    at = data.index(b"\x78\x9c")
    data[at + 2 : at + 20] = b"\xff" * 18
    (tmp_path / "bad.tif").write_bytes(data)
    with pytest.raises(CorruptFileError, match="cannot be decoded") as caught:
        cloudimg.open(tmp_path / "bad.tif").read()
    assert type(caught.value.__cause__).__name__ == "DeflateError"


def test_a_bug_of_ours_is_not_reported_as_a_corrupt_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good.tif").write_bytes(TIFF)
    monkeypatch.delattr("cloudimg.tiff.build_image._AXIS_NAMES")
    with pytest.raises(NameError, match="_AXIS_NAMES"):
        cloudimg.open(tmp_path / "good.tif")


def test_a_missing_attribute_within_tifffile_is_a_corrupt_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good.tif").write_bytes(TIFF)
    monkeypatch.delattr("tifffile.TiffTags.valueof")
    with pytest.raises(CorruptFileError, match=r"AttributeError.*valueof") as caught:
        cloudimg.open(tmp_path / "good.tif")
    assert isinstance(caught.value.__cause__, AttributeError)


def test_pixels_beyond_the_end(place: Place) -> None:
    big = np.random.default_rng(0).integers(0, 255, (300, 300), np.uint8)
    options = place.storage_options
    # Of uncompressed pixels, and where a segment begins beyond the end, the header tells.
    for compression, n_bytes in ((None, 3000), ("zlib", 4000)):
        data = seed.encode(big, rowsperstrip=10, compression=compression)
        url = place.put(f"cut_{compression}.tif", data[: len(data) - n_bytes])
        with pytest.raises(CorruptFileError, match=r"ends too early: .* up to \d+, but .* at byte"):
            cloudimg.open(url, storage_options=options)
    # The byte count of the last compressed segment may be too large.
    image = cloudimg.open(place.put("cut.tif", data[:-3000]), storage_options=options)
    assert [note.kind for note in image.notes] == ["ends-early"]
    np.testing.assert_array_equal(image.read({"y": slice(0, 50)}), big[:50])
    with pytest.raises(CorruptFileError, match=r"ends too early.*bytes \d+-\d+"):
        image.read()


def test_the_error_for_a_bad_tile_has_its_byte_range(tmp_path: Path) -> None:
    data = bytearray(seed.encode(np.zeros((64, 64), np.uint8), tile=(32, 32), compression="zlib"))
    data[-10:] = b"\xff" * 10
    (tmp_path / "bad.tif").write_bytes(data)
    image = cloudimg.open(tmp_path / "bad.tif")
    with pytest.raises(CorruptFileError, match=r"segment 3 of page 0 of .*bad\.tif.*bytes"):
        image.read()


def test_a_header_that_is_too_long(
    tmp_path: Path, set_variable: Callable[[str, str], None]
) -> None:
    """A million tiny strips: their offsets alone are megabytes."""
    pixels = np.zeros((100_000, 4), np.uint8)
    (tmp_path / "long.tif").write_bytes(seed.encode(pixels, rowsperstrip=1))
    assert cloudimg.open(tmp_path / "long.tif").shape == (100_000, 4)
    set_variable("CLOUDIMG_MAX_HEADER_BYTES", "100000")
    with pytest.raises(LimitError, match="CLOUDIMG_MAX_HEADER_BYTES"):
        cloudimg.open(tmp_path / "long.tif")
    set_variable("CLOUDIMG_MAX_HEADER_BYTES", "lots")
    with pytest.raises(ArgumentError, match="must be a positive size"):
        cloudimg.open(tmp_path / "long.tif")


@pytest.mark.parametrize(
    "region", [(99,), (0, 0, 0), {"q": 1}, (slice(None), "a"), (1.5,), (..., 0, ...)], ids=str
)
def test_impossible_regions(tmp_path: Path, region: Any) -> None:
    (tmp_path / "file.tif").write_bytes(TIFF)
    image = cloudimg.open(tmp_path / "file.tif")
    with pytest.raises((ArgumentError, IndexError)):
        image.read(region)


@pytest.mark.parametrize("progress", [True, False, "yes"])
def test_progress_that_cannot_be_called(tmp_path: Path, progress: Any) -> None:
    (tmp_path / "file.tif").write_bytes(TIFF)
    with pytest.raises(ArgumentError, match=rf"progress={progress!r} must be a function"):
        cloudimg.open(tmp_path / "file.tif", progress=progress)


def all_errors(base: type[CloudimgError] = CloudimgError) -> list[type[CloudimgError]]:
    return [base] + [kind for sub in base.__subclasses__() for kind in all_errors(sub)]


@pytest.mark.parametrize("kind", all_errors())
def test_errors_pickle_whole(kind: type[CloudimgError]) -> None:
    error = kind("what happened", url="s3://lab/x.tif", byte_range=(5, 9), cause="OSError")
    assert not hasattr(pickle.loads(pickle.dumps(error)), "__notes__")
    error.add_note("in plane 3")
    again = pickle.loads(pickle.dumps(error))
    assert again.__notes__ == ["in plane 3"]
    assert again.cause == "OSError"
    assert type(again) is kind
    assert str(again) == str(error)
    assert (again.url, again.byte_range) == ("s3://lab/x.tif", (5, 9))
    assert "s3://lab/x.tif, bytes 5-9" in str(error)
    assert kind.__name__ in (cloudimg.errors.__doc__ or "")
