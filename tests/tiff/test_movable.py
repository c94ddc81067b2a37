"""Compressed files of one program, whose headers differ only in where their segments are."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.errors import CloudimgError, CorruptFileError, TruncatedFileError
from cloudimg.tiff import DecodeLimits, ParseRequest, SparseFile, Template, parse_tiff
from tests.support.mutations import mutated
from tests.support.raw_tiff import RawTiff

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


# Any damage to one file of many


HEIGHT, WIDTH = 64, 48
N_MUTATIONS = 4000
"""Of all of them, a tenth is read, unless ``CLOUDIMG_TEST_MUTATIONS`` is set."""


Writer = Callable[[np.ndarray[Any, Any], bool], bytes]
"""Encodes an image, perhaps with one more tag, so that its header is not like the others."""


def _pixels_first(*, rows: int, order: str = "<") -> Writer:
    """As libtiff writes files: the IFD and its values lie behind the pixels."""

    def write(image: np.ndarray[Any, Any], has_more: bool) -> bytes:
        tags: dict[int, Any] = {305: (2, b"one program\0"), 306: (2, b"2026:01:01 00:00:00\0")}
        tiff = RawTiff(
            width=WIDTH,
            height=HEIGHT,
            compression=8,
            rows_per_strip=rows,
            byteorder=order,
            tags=tags | ({65000: (4, [7])} if has_more else {}),
        )
        strips = [image[y : y + rows].tobytes() for y in range(0, HEIGHT, rows)]
        return tiff.build([zlib.compress(strip) for strip in strips])

    return write


def _by_tifffile(**options: Any) -> Writer:
    def write(image: np.ndarray[Any, Any], has_more: bool) -> bytes:
        file = io.BytesIO()
        more = [(65000, 4, 1, 7, True)] if has_more else []
        tifffile.imwrite(file, image, photometric="minisblack", extratags=more, **options)
        return file.getvalue()

    return write


WRITERS: Mapping[str, Writer] = {
    "one strip": _by_tifffile(compression="zlib"),
    "strips": _by_tifffile(compression="lzw", rowsperstrip=9),
    "tiles": _by_tifffile(compression="zstd", tile=(16, 32), bigtiff=True),
    "uncompressed": _by_tifffile(),
    "one strip, IFD last": _pixels_first(rows=HEIGHT),
    "strips, IFD last": _pixels_first(rows=10, order=">"),
}


def _image(seed: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2 + 40 * (seed % 6), (HEIGHT, WIDTH)).astype(np.uint8)


def _outcome(folder: Path, last: int) -> tuple[str, Any]:
    """What reading the last file of a folder gives: pixels, or an error; and the notes on it."""

    def shown(text: str) -> str:
        return text.replace(str(folder), "").replace(f"a_t{last}", "a_t")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = cloudimg.open(f"{folder}/a_t{{t}}.tif")
        try:
            pixels = image.read()[last]
        except CloudimgError as exc:
            return shown(f"{type(exc).__name__}: {exc}"), None
        try:
            notes = "\n".join(cloudimg.open(f"{folder}/a_t{{t}}.tif", validate="all").notes)
        except CloudimgError as exc:
            notes = f"{type(exc).__name__}: {exc}"
    return shown(notes), pixels


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
def test_a_damaged_file_is_read_as_among_others(tmp_path: Path, kind: str) -> None:
    """Whether the header of the file before is equal, so that it serves, or is not alike at all."""
    every = "CLOUDIMG_TEST_MUTATIONS" in os.environ
    write = WRITERS[kind]
    alike, apart = tmp_path / "alike", tmp_path / "apart"
    for folder in (alike, apart):
        folder.mkdir()
    (apart / "a_t0.tif").write_bytes(write(_image(0), True))
    for t in range(2):
        (alike / f"a_t{t}.tif").write_bytes(write(_image(t), False))
    found: Counter[str] = Counter()
    first = list(WRITERS).index(kind)
    for seed in range(first, N_MUTATIONS, len(WRITERS) if every else 10 * len(WRITERS)):
        data = write(_image(2 + seed % 9), False)
        data = mutated(seed, [partial(bytes, data)]) if seed > first else data
        (alike / "a_t2.tif").write_bytes(data)
        (apart / "a_t1.tif").write_bytes(data)
        text, pixels = _outcome(alike, 2)
        expected_text, expected = _outcome(apart, 1)
        assert text == expected_text, f"seed {seed}"
        np.testing.assert_array_equal(pixels, expected, err_msg=f"seed {seed}")
        found[text.partition(":")[0] if pixels is None else "pixels"] += 1
    print(kind, found)
    assert found["pixels"] > 1
    assert len(found) > 1


@pytest.mark.parametrize("kind", WRITERS)
def test_files_of_one_program_are_parsed_once(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [_image(t) for t in range(8)]
    for t, image in enumerate(images):
        (tmp_path / f"a_t{t}.tif").write_bytes(WRITERS[kind](image, False))
    # The header that was parsed last may be that of a file of another test.
    monkeypatch.setattr("cloudimg.reading.header_parsing._templates", {})
    opened = []
    parse = tifffile.TiffFile.__init__

    def counting(self: tifffile.TiffFile, *args: Any, **options: Any) -> None:
        opened.append(self)
        parse(self, *args, **options)

    stack = cloudimg.open(f"{tmp_path}/a_t{{t}}.tif")
    monkeypatch.setattr(tifffile.TiffFile, "__init__", counting)
    np.testing.assert_array_equal(stack.read({"t": 1}), images[1])
    np.testing.assert_array_equal(stack.read(), np.stack(images))
    assert len(opened) == 1


def test_values_outside_of_the_ifd_are_compared(tmp_path: Path) -> None:
    """BitsPerSample of three samples does not fit into its entry."""
    tiff = RawTiff(width=WIDTH, height=HEIGHT, samples=3, compression=8)
    for t in range(4):
        data = bytearray(tiff.build([zlib.compress(np.dstack([_image(t)] * 3).tobytes())]))
        with tifffile.TiffFile(io.BytesIO(data)) as read:
            at = read.pages.first.tags[258].valueoffset
        if t == 3:
            data[at : at + 6] = np.array([16, 16, 16], "<u2").tobytes()
        (tmp_path / f"a_t{t}.tif").write_bytes(data)
    image = cloudimg.open(f"{tmp_path}/a_t{{t}}.tif")
    np.testing.assert_array_equal(image.read({"t": 2})[..., 0], _image(2))
    with pytest.raises(CloudimgError, match="a_t3"):
        image.read()


# What tags lead to


def _file(data: bytes) -> SparseFile:
    file = SparseFile(len(data), lambda _: [], in_flight=1, limit_bytes=2**20, url="a.tif")
    file.add(0, data)
    return file


def _is_reused(data: bytes, other: bytes) -> bool:
    """Whether the header of a file serves for another one."""
    request = ParseRequest(
        series=0,
        ignore_siblings=False,
        palette="index",
        metadata=False,
        only_compared=False,
        member=None,
        limits=DecodeLimits(header_bytes=2**20, segment_bytes=2**20),
    )
    file = _file(data)
    parsed = parse_tiff(file, request, url="a.tif", name="a.tif")
    template = Template(parsed, file, "tif", file.take_reads())
    return template.matching(_file(other), "tif", "b.tif") is not None


def _tagged(tag: int, kind: int, value: Any, seed: int) -> bytes:
    tiff = RawTiff(width=WIDTH, height=HEIGHT, compression=8, tags={tag: (kind, value)})
    return tiff.build([zlib.compress(_image(seed).tobytes())])


def test_a_file_may_lack_the_exif_to_which_its_header_leads() -> None:
    """The parser remarks on it, although it reads no Exif."""
    data, other = (_tagged(34665, 4, [1500], seed) for seed in (5, 0))
    assert len(other) < 1500 < len(data)
    assert not _is_reused(data, other)


def test_a_value_in_the_header_of_the_file() -> None:
    """The parser remarks on it, although it does not read the value."""
    rational = struct.pack("<HHI", 287, 5, 1)
    data, other = (
        _tagged(287, 1, b"12345678", seed).replace(struct.pack("<HHI", 287, 1, 8), rational)
        for seed in (5, 4)
    )
    assert _is_reused(data, other)
    at = other.index(rational) + len(rational)
    assert not _is_reused(data, other[:at] + bytes(4) + other[at + 4 :])
