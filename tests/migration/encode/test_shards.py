"""Bytes of shards and chunks: other libraries read the same pixels, and damage is detected."""

from __future__ import annotations

import json
import math
import struct
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloudimg.errors import CorruptFileError
from cloudimg.migration.encode.codecs import Codec, codec_from_spec, make_codec
from cloudimg.migration.encode.shards import decode_chunk, decode_shard, encode_chunks, encode_shard

DTYPES = [
    "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8", "|b1", "<c8",
    "<c16",
]  # fmt: skip
CODECS: list[Any] = [
    None,
    "none",
    "zstd",
    "blosc",
    {"name": "blosc", "configuration": {"cname": "lz4", "shuffle": "bitshuffle"}},
    {"name": "blosc", "configuration": {"cname": "zlib", "shuffle": "noshuffle"}},
    "gzip",
]
BY_NUMCODECS = ["lz4", "zlib", "bz2", "lzma", "adler32", ["crc32", "zstd"], "fletcher32"]
GEOMETRIES = {
    # shape, shard, chunk
    "whole": ((16, 16), (8, 8), (4, 4)),
    "edges": ((13, 9), (8, 8), (4, 4)),
    "one pixel beyond": ((9, 17), (8, 16), (4, 8)),
    "a shard larger than the array": ((3, 5), (8, 12), (4, 4)),
    "one chunk a shard": ((7, 7), (3, 4), (3, 4)),
    "five axes": ((2, 3, 5, 6, 7), (1, 2, 4, 4, 4), (1, 1, 2, 4, 2)),
    "one axis": ((1000,), (64,), (16,)),
}
Geometry = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def image_of(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Noise beside zeros, so that some chunks are empty."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 2 if dtype == "|b1" else 100, shape).astype(dtype)
    if dtype[1] == "c":
        pixels += (1j * rng.integers(0, 9, shape)).astype(dtype)
    pixels[tuple(slice(n // 2) for n in shape)] = 0
    return pixels


def parts(shape: tuple[int, ...], extent: tuple[int, ...]) -> Iterator[tuple[Any, Any]]:
    """Positions and regions of shards, the last ones clipped."""
    for at in np.ndindex(*[-(-n // m) for n, m in zip(shape, extent, strict=True)]):
        yield (
            at,
            tuple(
                slice(i * n, min((i + 1) * n, length))
                for i, n, length in zip(at, extent, shape, strict=True)
            ),
        )


def zarr_type(dtype: str) -> str:
    return np.dtype(dtype).name  # Zarr 3 uses the names of NumPy


def spec_fill(value: Any, dtype: np.dtype[Any]) -> Any:
    """JSON of a Zarr 3 fill value: strings for numbers that JSON lacks, pairs for complex ones."""
    if dtype.kind == "c":
        part = np.empty(0, dtype).real.dtype
        return [spec_fill(np.real(value), part), spec_fill(np.imag(value), part)]
    if dtype.kind == "f":
        names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
        return names.get(str(float(value)), float(value))
    return bool(value) if dtype.kind == "b" else int(value)


def write(
    folder: Path, pixels: np.ndarray, geometry: Geometry, codec: Codec, fill: Any = 0
) -> None:
    """Write a Zarr 3 array with our shards and metadata that follows the specification."""
    _, shard, chunk = geometry
    sharding = {
        "chunk_shape": chunk,
        "codecs": codec.v3_codecs(),
        "index_codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "crc32c"},
        ],
        "index_location": "end",
    }
    described = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": pixels.shape,
        "data_type": zarr_type(pixels.dtype.str),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": spec_fill(fill, pixels.dtype),
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "zarr.json").write_text(json.dumps(described))
    for at, region in parts(pixels.shape, shard):
        data = encode_shard(pixels[region], shard, chunk, codec, fill).data
        if data is not None:
            store(folder / "c" / "/".join(map(str, at)), data)


def store(path: Path, data: bytes | bytearray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def by_zarr(folder: Path) -> np.ndarray:
    with warnings.catch_warnings():
        # Names of numcodecs are not part of Zarr 3; zarr warns each time.
        warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3")
        return np.asarray(zarr.open_array(str(folder), mode="r")[...])


def by_tensorstore(folder: Path, driver: str = "zarr3") -> np.ndarray:
    kvstore = {"driver": "file", "path": str(folder)}
    opened = tensorstore.open({"driver": driver, "kvstore": kvstore}, read=True).result()
    return np.asarray(opened.read().result())


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


# Other libraries


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_others_read_all_dtypes_and_codecs(tmp_path: Path, dtype: str, codec: Any) -> None:
    geometry = GEOMETRIES["edges"]
    pixels = image_of(geometry[0], dtype)
    write(tmp_path, pixels, geometry, make_codec(codec, dtype, 3))
    assert_same(by_zarr(tmp_path), pixels)
    assert_same(by_tensorstore(tmp_path), pixels)


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("dtype", ["<u2", "<f4"])
def test_others_read_all_shapes(tmp_path: Path, dtype: str, name: str) -> None:
    geometry = GEOMETRIES[name]
    pixels = image_of(geometry[0], dtype)
    write(tmp_path, pixels, geometry, make_codec(None, dtype, 3))
    assert_same(by_zarr(tmp_path), pixels)
    assert_same(by_tensorstore(tmp_path), pixels)


@pytest.mark.parametrize("codec", BY_NUMCODECS, ids=str)
def test_zarr_reads_what_numcodecs_wrote(tmp_path: Path, codec: Any) -> None:
    geometry = GEOMETRIES["edges"]
    pixels = image_of(geometry[0], "<u2")
    write(tmp_path, pixels, geometry, make_codec(codec, "<u2", 3))
    assert_same(by_zarr(tmp_path), pixels)


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [("<f4", np.nan), ("<f8", -np.inf), ("<u2", 7), ("|b1", True), ("<c8", complex(1, np.nan))],
)
def test_others_fill_empty_shards_and_chunks(tmp_path: Path, dtype: str, fill: Any) -> None:
    geometry = GEOMETRIES["edges"]
    pixels = np.full(geometry[0], fill, dtype)
    pixels[-1, -1] = 0
    write(tmp_path, pixels, geometry, make_codec(None, dtype, 3), fill)
    files = [path for path in (tmp_path / "c").rglob("*") if path.is_file()]
    n_chunks = math.prod(n // m for n, m in zip(*geometry[1:], strict=True))
    only_index = [path.stat().st_size == 16 * n_chunks + 4 for path in files]
    assert sorted(only_index) == [False, True, True, True]
    np.testing.assert_array_equal(by_zarr(tmp_path), pixels)
    np.testing.assert_array_equal(by_tensorstore(tmp_path), pixels)


@pytest.mark.parametrize("codec", [*CODECS, "zlib", "lz4", ["crc32", "zstd"]], ids=str)
@pytest.mark.parametrize("dtype", ["<u2", "|b1", "<f8"])
def test_chunks_of_zarr_2(tmp_path: Path, dtype: str, codec: Any) -> None:
    made = make_codec(codec, dtype, 2)
    pixels = image_of((13, 9), dtype)
    chunk = (4, 4)
    compressor, filters = made.v2_compressor()
    described = {
        "zarr_format": 2,
        "shape": pixels.shape,
        "chunks": chunk,
        "dtype": dtype,
        "compressor": compressor,
        "fill_value": spec_fill(0, pixels.dtype),
        "order": "C",
        "filters": filters,
        "dimension_separator": "/",
    }
    (tmp_path / ".zarray").write_text(json.dumps(described))
    regions = dict(parts(pixels.shape, chunk))
    for at, data, is_empty in encode_chunks(pixels, chunk, made, 0):
        part = pixels[regions.pop(at)]
        assert is_empty == (not part.any())
        store(tmp_path / "/".join(map(str, at)), data)
        whole = decode_chunk(data, chunk, made, dtype)
        assert_same(whole[tuple(slice(n) for n in part.shape)], part)
        assert whole.sum() == part.sum()  # what lies outside is the fill value
    assert not regions
    assert_same(by_zarr(tmp_path), pixels)
    if codec not in ("lz4", ["crc32", "zstd"]):  # which tensorstore does not know
        assert_same(by_tensorstore(tmp_path, "zarr"), pixels)


# Round trips


@st.composite
def shards(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]:
    """Pixels, and the shapes of a shard that contains them and of its chunks."""
    chunk = draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=4))
    shard = tuple(n * draw(st.integers(1, 3)) for n in chunk)
    shape = tuple(draw(st.integers(1, n)) for n in shard)
    dtype = draw(st.sampled_from(DTYPES))
    few = hnp.from_dtype(np.dtype(dtype)) if dtype[1] in "fc" else st.integers(0, 1)
    return draw(hnp.arrays(dtype, shape, elements=few, fill=st.just(0))), shard, chunk


@given(drawn=shards(), codec=st.sampled_from(CODECS), data=st.data())
def test_pixels_are_restored_bit_by_bit(drawn: Any, codec: Any, data: st.DataObject) -> None:
    pixels, shard, chunk = drawn
    fill = data.draw(st.sampled_from([0, pixels.flat[0]]))
    made = make_codec(codec, pixels.dtype, 3)
    encoded = encode_shard(pixels, shard, chunk, made, fill)
    again = encode_shard(
        pixels, shard, chunk, codec_from_spec(json.loads(json.dumps(made.spec)), pixels.dtype), fill
    )
    assert again == encoded
    n_chunks = int(np.prod([n // m for n, m in zip(shard, chunk, strict=True)]))
    empty = np.unpackbits(np.frombuffer(encoded.empty, np.uint8), count=n_chunks).astype(bool)
    expected = [
        pixels[region].tobytes() == np.full_like(pixels[region], fill).tobytes()
        for _, region in parts(shard, chunk)
    ]
    assert empty.tolist() == expected
    assert (len(encoded.data) == 16 * n_chunks + 4) == all(expected)  # only an index
    found = decode_shard(encoded.data, shard, chunk, made, pixels.dtype, fill, pixels.shape)
    assert_same(found, pixels)


@given(drawn=shards())
@settings(max_examples=30)
def test_shards_are_what_the_specification_says(drawn: Any) -> None:
    pixels, shard, chunk = drawn
    codec = make_codec("none", pixels.dtype, 3)
    encoded = encode_shard(pixels, shard, chunk, codec, 0)
    whole = np.zeros(shard, pixels.dtype)
    whole[tuple(slice(n) for n in pixels.shape)] = pixels
    body, index = b"", b""
    for _, region in parts(shard, chunk):
        part = whole[region].tobytes()
        if any(part):
            index += struct.pack("<QQ", len(body), len(part))
            body += part
        else:
            index += b"\xff" * 16
    expected = body + index + struct.pack("<I", google_crc32c.value(index))
    assert encoded.data == expected


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", "<c8", "<c16"])
def test_minus_zero_is_a_value(dtype: str) -> None:
    pixels = np.zeros((8, 8), dtype)
    pixels[1, 1] = -0.0 if dtype[1] == "f" else complex(0.0, -0.0)
    codec = make_codec(None, dtype, 3)
    encoded = encode_shard(pixels, (8, 8), (4, 4), codec, 0)
    assert encoded.empty == bytes([0b01110000])
    found = decode_shard(encoded.data, (8, 8), (4, 4), codec, dtype, 0, (8, 8))
    assert_same(found, pixels)
    assert encode_shard(np.zeros((8, 8), dtype), (8, 8), (4, 4), codec, -0.0).empty == b"\0"


def test_nan_is_empty_where_it_is_the_fill_value() -> None:
    pixels = np.full((4, 4), np.nan, "<f4")
    codec = make_codec(None, "<f4", 3)
    assert encode_shard(pixels, (4, 4), (2, 2), codec, np.nan).empty == bytes([0b11110000])
    pixels.view("u4")[0, 0] += 1  # another NaN
    encoded = encode_shard(pixels, (4, 4), (2, 2), codec, np.nan)
    assert encoded.empty == bytes([0b01110000])


@pytest.mark.parametrize("codec", [*CODECS, *BY_NUMCODECS], ids=str)
def test_threads_give_the_same_bytes(codec: Any) -> None:
    pixels = image_of((100, 130), "<u2")
    made = make_codec(codec, "<u2", 3)
    shape = ((112, 144), (16, 16))
    expected = encode_shard(pixels, *shape, made, 0)
    chunks = list(encode_chunks(pixels, (16, 16), made, 0))
    with ThreadPoolExecutor(4) as pool:
        assert encode_shard(pixels, *shape, made, 0, each=pool.map) == expected
        assert list(encode_chunks(pixels, (16, 16), made, 0, each=pool.map)) == chunks


def test_the_layout_of_the_input_does_not_matter() -> None:
    pixels = image_of((12, 20), "<u2")
    codec = make_codec(None, "<u2", 3)
    expected = encode_shard(pixels, (12, 20), (4, 4), codec, 0)
    fortran = np.asfortranarray(pixels)
    wide = np.zeros((24, 40), "<u2")
    wide[::2, ::2] = pixels
    assert encode_shard(fortran, (12, 20), (4, 4), codec, 0) == expected
    assert encode_shard(wide[::2, ::2], (12, 20), (4, 4), codec, 0) == expected


# Damage

SHARD, CHUNK = (8, 8), (4, 4)
INDEX_BYTES = 4 * 16 + 4


def encoded_for_damage(codec: Any) -> tuple[bytearray, Callable[[bytes | bytearray], np.ndarray]]:
    """A shard of three chunks and an empty one, and a function that reads it."""
    pixels = np.random.default_rng(7).integers(0, 50, SHARD).astype("<u2")
    pixels[4:, :4] = 0
    made = make_codec(codec, "<u2", 3)
    data = encode_shard(pixels, SHARD, CHUNK, made, 0).data
    assert data is not None

    def read(found: bytes | bytearray) -> np.ndarray:
        return decode_shard(found, SHARD, CHUNK, made, "<u2", 0, SHARD)

    assert_same(read(data), pixels)
    return data, read


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_any_byte_of_the_index_matters(codec: Any) -> None:
    data, read = encoded_for_damage(codec)
    for at in range(len(data) - INDEX_BYTES, len(data)):
        for bit in (0, 7):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            with pytest.raises(CorruptFileError, match="checksum") as caught:
                read(damaged)
            assert caught.value.byte_range == (len(data) - INDEX_BYTES, len(data))


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_shards_cut_short_or_grown(codec: Any) -> None:
    data, read = encoded_for_damage(codec)
    for n in range(len(data)):
        with pytest.raises(CorruptFileError):
            read(data[:n])
        if n:
            with pytest.raises(CorruptFileError):
                read(data[n:])
    for more in (b"\0", b"\xff" * 20, bytes(data)):
        with pytest.raises(CorruptFileError):
            read(data + more)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_damaged_chunks_never_end_in_another_error(codec: Any) -> None:
    """Without a checksum a flipped bit may give other pixels, but never another kind of error."""
    data, read = encoded_for_damage(codec)
    for at in range(len(data) - INDEX_BYTES):
        for value in (data[at] ^ 1, data[at] ^ 0x80, 0, 0xFF):
            damaged = bytearray(data)
            damaged[at] = value
            try:
                assert read(damaged).shape == SHARD
            except CorruptFileError as exc:
                blamed = exc.byte_range
            else:
                continue
            assert blamed is not None
            assert blamed[0] <= at < blamed[1]


@pytest.mark.parametrize("codec", ["zstd", "blosc", "gzip", "lzma", "zlib"])
def test_a_chunk_overwritten_with_zeros_is_corrupt(codec: str) -> None:
    data, read = encoded_for_damage(codec)
    offset, size = struct.unpack_from("<QQ", data, len(data) - INDEX_BYTES + 16)
    data[offset : offset + size] = bytes(size)
    with pytest.raises(CorruptFileError, match=r"chunk \(0, 1\)") as caught:
        read(data)
    assert caught.value.byte_range == (offset, offset + size)


@pytest.mark.parametrize("codec", ["adler32", "crc32", "fletcher32", "gzip", "bz2", "zlib"])
def test_codecs_with_checksums_detect_other_pixels(codec: str) -> None:
    data, read = encoded_for_damage(codec)
    for at in range(20, len(data) - INDEX_BYTES, 7):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        try:
            assert_same(
                read(damaged), read(data)
            )  # a byte without a meaning, such as the time in a header
        except CorruptFileError:
            continue


def forged(data: bytes | bytearray, entries: list[tuple[int, int]]) -> bytes:
    """The shard with another index that has a valid checksum."""
    index = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    return bytes(data[:-INDEX_BYTES]) + index + struct.pack("<I", google_crc32c.value(index))


ABSENT = (2**64 - 1, 2**64 - 1)


@pytest.mark.parametrize("codec", [None, "none", "zstd"])
@pytest.mark.parametrize(
    "change",
    [
        lambda a, b, c, end: [a, a, ABSENT, c],  # twice the same
        lambda a, b, c, end: [a, ABSENT, ABSENT, c],  # a gap
        lambda a, b, c, end: [ABSENT, b, ABSENT, c],  # a gap at the beginning
        lambda a, b, c, end: [a, b, ABSENT, ABSENT],  # a gap at the end
        lambda a, b, c, end: [ABSENT] * 4,
        lambda a, b, c, end: [a, (b[0] - 1, b[1] + 1), ABSENT, c],  # overlaps
        lambda a, b, c, end: [a, b, ABSENT, (c[0], c[1] + 1)],  # into the index
        lambda a, b, c, end: [a, b, ABSENT, (c[0], 2**64 - 1)],
        lambda a, b, c, end: [a, b, ABSENT, (2**64 - 1, c[1])],
        lambda a, b, c, end: [a, b, ABSENT, (2**63, 2**63)],  # the sum overflows 64 bits
        lambda a, b, c, end: [a, b, (end, 5), c],
        lambda a, b, c, end: [a, b, (end, 0), c],  # of no bytes
        lambda a, b, c, end: [(a[0], a[1] - 1), (b[0] - 1, b[1] + 1), ABSENT, c],
    ],
)
def test_an_inconsistent_index_is_corrupt(
    codec: str, change: Callable[..., list[tuple[int, int]]]
) -> None:
    data, read = encoded_for_damage(codec)
    end = len(data) - INDEX_BYTES
    a, b, _, c = struct.iter_unpack("<QQ", data[end:-4])
    assert_same(read(forged(data, [a, b, ABSENT, c])), read(data))
    with pytest.raises(CorruptFileError):
        read(forged(data, change(a, b, c, end)))


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize("length", [8, 300])
def test_chunks_of_zarr_2_cut_short(codec: Any, length: int) -> None:
    """Nothing is read beyond the end, where other memory lies."""
    made = make_codec(codec, "<u2", 2)
    pixels = np.random.default_rng(8).integers(0, 50, (length, length)).astype("<u2")
    ((_, data, _),) = encode_chunks(pixels, pixels.shape, made, 0)
    for n in {*range(0, len(data), max(1, len(data) // 300)), len(data) - 1}:
        with pytest.raises(CorruptFileError):  # the missing bytes follow in the same buffer
            decode_chunk(memoryview(data)[:n], pixels.shape, made, "<u2")
    for shape in ((length, length + 1), (1, length)):
        what = "has .* bytes instead of|expected .* at most|does not end after|too small"
        with pytest.raises(CorruptFileError, match=what):
            decode_chunk(data, shape, made, "<u2")
