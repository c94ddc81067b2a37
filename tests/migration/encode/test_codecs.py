"""Codecs: arguments that are accepted, their metadata, and arguments that are refused."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import tensorstore
import zarr
import zarr.codecs
from hypothesis import given
from hypothesis import strategies as st

from cloudimg.cli import sample
from cloudimg.errors import ArgumentError, CorruptFileError
from cloudimg.migration.encode.codecs import codec_from_spec, make_codec

CHUNK = np.arange(64 * 48, dtype="<u2").reshape(64, 48) % 977
DEFAULT = {"typesize": 2, "cname": "zstd", "clevel": 1, "shuffle": "shuffle", "blocksize": 0}
BY_OTHERS = ["zstd:3", "blosc:5", "gzip:6", "crc32c", ["zstd", "crc32c"], ["blosc", "crc32c"]]
NAMES = [
    "none", "zstd", "blosc", "gzip", "adler32", "bz2", "crc32", "crc32c", "fletcher32", "lz4",
    "lzma", "zlib",
]  # fmt: skip


def link_of(codec: Any, dtype: str = "<u2") -> dict[str, Any]:
    (link,) = make_codec(codec, dtype, 3).spec["chain"]
    return dict(link)


# Arguments


@pytest.mark.parametrize(
    ("codec", "name", "configuration"),
    [
        (None, "blosc", DEFAULT),
        ("blosc", "blosc", DEFAULT),
        ("blosc:5", "blosc", DEFAULT | {"clevel": 5}),
        ("zstd", "zstd", {"level": 1, "checksum": False}),
        ("zstd:-7", "zstd", {"level": -7, "checksum": False}),
        ("gzip:6", "gzip", {"level": 6}),
        ({"name": "zstd", "configuration": {"level": 5}}, "zstd", {"level": 5, "checksum": False}),
        ({"name": "numcodecs.zlib", "configuration": {"level": 2}}, "zlib", {"level": 2}),
        (
            {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 2, "blocksize": 0},
            "blosc",
            DEFAULT | {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle"},
        ),
        (zarr.codecs.ZstdCodec(level=4), "zstd", {"level": 4, "checksum": False}),
        (zarr.codecs.GzipCodec(level=2), "gzip", {"level": 2}),
        (
            zarr.codecs.BloscCodec(cname="lz4", clevel=3, shuffle="bitshuffle"),
            "blosc",
            DEFAULT | {"cname": "lz4", "clevel": 3, "shuffle": "bitshuffle"},
        ),
        (zarr.codecs.Crc32cCodec(), "crc32c", {}),
        (
            numcodecs.Blosc(cname="lz4", clevel=5, shuffle=numcodecs.Blosc.SHUFFLE),
            "blosc",
            DEFAULT | {"cname": "lz4", "clevel": 5},
        ),
        (numcodecs.LZ4(acceleration=3), "lz4", {"acceleration": 3}),
    ],
    ids=str,
)
def test_ways_to_name_a_codec(codec: Any, name: str, configuration: dict[str, Any]) -> None:
    assert link_of(codec) == {"name": name, "configuration": configuration}


@pytest.mark.parametrize("codec", ["none", (), [zarr.codecs.BytesCodec()], {"name": "bytes"}])
def test_bytes_alone(codec: Any) -> None:
    made = make_codec(codec, "<u2", 3)
    assert made.encode(CHUNK) == CHUNK.tobytes()
    assert made.v3_codecs() == [{"name": "bytes", "configuration": {"endian": "little"}}]
    assert made.v2_compressor() == (None, None)


@pytest.mark.parametrize("dtype", ["|u1", "|b1", "<i2", "<f4", "<u8", "<c8", "<c16"])
def test_blosc_shuffles_by_the_size_of_the_pixels(dtype: str) -> None:
    """Chunks shuffled by another size can be read as well, so only their size shows the mistake."""
    size = np.dtype(dtype).itemsize
    pixels = np.arange(4096).astype(dtype)
    for codec in (None, {"name": "blosc", "configuration": {"typesize": 7}}):
        assert link_of(codec, dtype)["configuration"]["typesize"] == size
        data = make_codec(codec, dtype, 3).encode(pixels)
        # https://www.blosc.org/c-blosc/format.html: byte 3 of the header.
        assert data[3] == size
        # numcodecs takes the size from the array.
        assert len(data) == len(numcodecs.Blosc("zstd", 1, numcodecs.Blosc.SHUFFLE).encode(pixels))


def test_the_default_is_smaller_than_zstd_alone() -> None:
    image = sample.acquire()
    chunk = np.ascontiguousarray(image.reshape(-1, *image.shape[-2:])[0, :256, :256])
    sizes = {each: len(make_codec(each, chunk.dtype, 3).encode(chunk)) for each in (None, "zstd:1")}
    assert sizes[None] < 0.85 * sizes["zstd:1"]


def test_blosc_after_a_codec_whose_output_is_not_whole_pixels() -> None:
    made = make_codec(["crc32", "blosc"], "<f8", 3)
    pixels = np.arange(33.0)
    np.testing.assert_array_equal(made.decode(made.encode(pixels), "<f8", (33,)), pixels)


# Specs and deterministic bytes


@pytest.mark.parametrize("codec", [None, *NAMES, ["crc32", "zstd"]], ids=str)
def test_specs_travel_as_json(codec: Any) -> None:
    made = make_codec(codec, "<u2", 3)
    again = codec_from_spec(json.loads(json.dumps(made.spec)), "<u2")
    assert again.spec == made.spec
    assert again.v3_codecs() == made.v3_codecs()
    assert again.encode(CHUNK) == made.encode(CHUNK)
    np.testing.assert_array_equal(again.decode(made.encode(CHUNK), "<u2", CHUNK.shape), CHUNK)


@pytest.mark.parametrize("level", range(10))
def test_gzip_does_not_store_the_time(level: int) -> None:
    # RFC 1952, 2.3.1: MTIME is bytes 4 to 8 of the header.
    assert make_codec(f"gzip:{level}", "<u2", 3).encode(CHUNK)[4:8] == bytes(4)


@given(data=st.binary(max_size=400), codec=st.sampled_from([None, *NAMES]))
def test_any_bytes_come_back(data: bytes, codec: Any) -> None:
    made = make_codec(codec, "|u1", 3)
    chunk = np.frombuffer(data or b"\0", "|u1")
    np.testing.assert_array_equal(made.decode(made.encode(chunk), "|u1", chunk.shape), chunk)


@given(data=st.binary(max_size=200), codec=st.sampled_from([None, "none", "zstd", "gzip", "zlib"]))
def test_bytes_that_are_not_a_chunk_are_a_corrupt_file(data: bytes, codec: Any) -> None:
    with pytest.raises(CorruptFileError):
        make_codec(codec, "<u2", 3).decode(data, "<u2", CHUNK.shape)


@pytest.mark.parametrize("form", ["FORMAT_XZ", "FORMAT_ALONE", "FORMAT_RAW"])
def test_formats_of_lzma(form: str) -> None:
    filters = [{"id": lzma.FILTER_LZMA2 if form != "FORMAT_ALONE" else lzma.FILTER_LZMA1}]
    given = {"id": "lzma", "format": getattr(lzma, form), "filters": filters}
    made = make_codec(given, "<u2", 2)
    np.testing.assert_array_equal(made.decode(made.encode(CHUNK), "<u2", CHUNK.shape), CHUNK)


def test_a_window_larger_than_readers_allow_is_refused() -> None:
    given = {"id": "lzma", "filters": [{"id": lzma.FILTER_LZMA2, "dict_size": 2**29}]}
    with pytest.raises(ArgumentError, match="lzma"):
        make_codec(given, "<u2", 2)


@pytest.mark.parametrize("codec", [None, *NAMES, ["zlib", "zstd"], ["bz2", "crc32"]], ids=str)
@pytest.mark.parametrize("n_more", [1, 2**20])
def test_chunks_that_are_too_large(codec: Any, n_more: int) -> None:
    made = make_codec(codec, "|u1", 3)
    data = made.encode(np.zeros(1000 + n_more, np.uint8))
    with pytest.raises(CorruptFileError):
        made.decode(data, "|u1", (1000,))


# Other libraries


@pytest.mark.parametrize("codec", BY_OTHERS, ids=str)
def test_zarr_3_as_others_read_it(tmp_path: Path, codec: Any) -> None:
    made = make_codec(codec, "<u2", 3)
    shape = list(CHUNK.shape)
    document = {
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "codecs": made.v3_codecs(), "attributes": {},
    }  # fmt: skip
    (tmp_path / "zarr.json").write_text(json.dumps(document))
    (tmp_path / "c/0").mkdir(parents=True)
    (tmp_path / "c/0/0").write_bytes(made.encode(CHUNK))
    np.testing.assert_array_equal(zarr.open_array(tmp_path, mode="r")[:], CHUNK)
    store = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{tmp_path}/"}}
    np.testing.assert_array_equal(tensorstore.open(store).result().read().result(), CHUNK)


@pytest.mark.parametrize("codec", [None, *NAMES[1:], ["crc32", "zstd"]], ids=str)
def test_zarr_2_as_numcodecs_reads_it(codec: Any) -> None:
    made = make_codec(codec, "<u2", 2)
    compressor, filters = made.v2_compressor()
    data: Any = made.encode(CHUNK)
    for each in [compressor, *reversed(filters or [])]:
        data = numcodecs.get_codec(each).decode(data)
    np.testing.assert_array_equal(np.frombuffer(data, "<u2").reshape(CHUNK.shape), CHUNK)


# Refused arguments


@pytest.mark.parametrize("codec", ["zfp", "", " zstd", "none:3", "numcodecs.zstd", {"name": 5}])
def test_the_message_for_an_unknown_name_lists_the_supported_ones(codec: Any) -> None:
    with pytest.raises(ArgumentError, match="is unknown") as caught:
        make_codec(codec, "<u2", 3)
    assert all(name in str(caught.value) for name in NAMES)


@pytest.mark.parametrize(
    ("codec", "reason"),
    [
        (numcodecs.Quantize(3, "f4"), "other pixels"),
        (numcodecs.FixedScaleOffset(0, 10, "f4"), "other pixels"),
        ("zfpy", "other pixels"),
        ({"name": "numcodecs.bitround", "configuration": {"keepbits": 4}}, "other pixels"),
        (numcodecs.Delta("u2"), "works on pixels"),
        (numcodecs.Shuffle(2), "works on pixels"),
        (zarr.codecs.TransposeCodec(order=(1, 0)), "works on pixels"),
        ({"name": "sharding_indexed"}, "shards="),
        (zarr.codecs.BytesCodec(endian="big"), "little-endian"),
        (["zstd", numcodecs.Delta("u2")], "works on pixels"),
    ],
    ids=str,
)
def test_codecs_that_change_pixels_are_refused_with_the_reason(codec: Any, reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason):
        make_codec(codec, "<f4", 3)


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        ("zstd:", "a level"),
        ("zstd:--5", "a level"),
        ("zstd:fast", "a level"),
        ("zstd:23", "-131072 to 22"),
        ("blosc:10", "0 to 9"),
        ("gzip:-1", "0 to 9"),
        ({"name": "zstd", "configuration": {"level": 1.5}}, "level=1.5"),
        ({"name": "zstd", "configuration": {"level": True}}, "level=True"),
        ({"name": "zstd", "configuration": {"window": 3}}, "window"),
        ({"name": "zstd", "configuration": {"checksum": True}}, "checksum"),
        ({"name": "zstd", "configuration": [1]}, "not a mapping"),
        ({"name": "blosc", "configuration": {"cname": "brotli"}}, "cname='brotli'"),
        ({"name": "blosc", "configuration": {"shuffle": []}}, "shuffle="),
        ({"name": "blosc", "configuration": {"shuffle": -1}}, "shuffle=-1"),
        ({"name": "blosc", "configuration": {"blocksize": -1}}, "blocksize"),
        ({"name": "gzip", "configuration": {"mtime": 1}}, "mtime"),
        ({"name": "crc32c", "configuration": {"location": "start"}}, "location"),
        ({"name": "lz4", "configuration": {"level": 3}}, "lz4"),
        ({"configuration": {}}, "no name"),
        (zarr.codecs.ZstdCodec, r"pass ZstdCodec\("),
        (numcodecs.Blosc, r"pass Blosc\("),
        (5, "codec=5"),
        (b"zstd", "zstd"),
    ],
    ids=str,
)
def test_messages_name_what_is_wrong(codec: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make_codec(codec, "<u2", 3)


def test_a_name_cannot_be_changed_by_its_configuration() -> None:
    smuggled = {"name": "lz4", "configuration": {"id": "zlib"}}
    assert link_of(smuggled)["configuration"] == {"acceleration": 1}
