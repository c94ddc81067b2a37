"""Compressed files of one program, whose headers differ only in where their segments are."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.errors import CloudimgError, CorruptFileError, TruncatedFileError

N_FILES = 6


def _write(folder: Path, **options: Any) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(7)
    images = [rng.integers(0, 2 + 40 * t, (64, 48)).astype(np.uint8) for t in range(N_FILES)]
    for t, image in enumerate(images):
        tifffile.imwrite(folder / f"a_t{t}.tif", image, **options)
    return np.stack(images)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits", "zstd"])
@pytest.mark.parametrize("layout", [{}, {"rowsperstrip": 7}, {"tile": (32, 32)}])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_pixels(tmp_path: Path, compression: str, layout: dict[str, Any], bigtiff: bool) -> None:
    expected = _write(tmp_path, compression=compression, bigtiff=bigtiff, **layout)
    sizes = {path.stat().st_size for path in tmp_path.iterdir()}
    assert len(sizes) > 1
    image = cloudimg.open(f"{tmp_path}/a_t{{t}}.tif", validate="all")
    np.testing.assert_array_equal(image.read(), expected)
    assert not image.notes


def _with_count(data: bytes, count: int) -> bytes:
    """A file of one strip with another byte count."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        at = tiff.pages.first.tags[279].valueoffset
    return data[:at] + count.to_bytes(4, "little") + data[at + 4 :]


def _cut(data: bytes) -> bytes:
    return data[:-100]


def _begins_beyond_end(data: bytes) -> bytes:
    return data[:250]


def _another_compression(data: bytes) -> bytes:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        at = tiff.pages.first.tags[259].valueoffset
    return data[:at] + (5).to_bytes(2, "little") + data[at + 2 :]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_cut, TruncatedFileError),
        (_begins_beyond_end, CorruptFileError),
        (_another_compression, CorruptFileError),
        (lambda data: _with_count(data, 40), CorruptFileError),
    ],
)
def test_damaged_file_among_others(
    tmp_path: Path, change: Callable[[bytes], bytes], error: type[CloudimgError]
) -> None:
    _write(tmp_path, compression="zlib")
    path = tmp_path / "a_t4.tif"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(error, match="a_t4"):
        cloudimg.open(f"{tmp_path}/a_t{{t}}.tif").read()


@pytest.mark.parametrize("n_bytes", [600, 5000])
def test_bytes_in_no_image(tmp_path: Path, n_bytes: int) -> None:
    _write(tmp_path, compression="zlib")
    path = tmp_path / "a_t1.tif"
    path.write_bytes(path.read_bytes() + b"\1" * n_bytes)
    alone = cloudimg.open(str(path))
    among = cloudimg.open(f"{tmp_path}/a_t{{t}}.tif", validate="all")
    is_said = any("belong to none" in note for note in alone.notes)
    assert any("belong to none" in note for note in among.notes) == is_said
    assert is_said == (n_bytes > 1000)


def test_count_of_zero(tmp_path: Path) -> None:
    """A count of 0 reads up to what follows, as in a file that is read alone."""
    expected = _write(tmp_path, compression="zlib")
    path = tmp_path / "a_t3.tif"
    path.write_bytes(_with_count(path.read_bytes(), 0))
    np.testing.assert_array_equal(cloudimg.open(str(path)).read(), expected[3])
    image = cloudimg.open(f"{tmp_path}/a_t{{t}}.tif")
    np.testing.assert_array_equal(image.read(), expected)


def test_count_beyond_the_end(tmp_path: Path) -> None:
    """Byte counts are often a little too large, which is a note, and the pixels are whole."""
    expected = _write(tmp_path, compression="zlib")
    path = tmp_path / "a_t3.tif"
    data = path.read_bytes()
    path.write_bytes(_with_count(data, len(data)))
    image = cloudimg.open(f"{tmp_path}/a_t{{t}}.tif", validate="all")
    np.testing.assert_array_equal(image.read(), expected)
    assert any("the file ends at byte" in note for note in image.notes)
