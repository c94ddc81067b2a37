"""Files that are no TIFF: told apart, decoded as an independent decoder would, or refused."""

from __future__ import annotations

import io
import math
import pickle
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

import imagecodecs
import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from cloudimg.errors import (
    ArgumentError,
    CloudimgError,
    CorruptFileError,
    FormatError,
    LimitError,
    UnsupportedFormatError,
)
from cloudimg.formats import Format, decode, dims_of, find_format, register_format, registry, sizes

Array = npt.NDArray[Any]
LIMIT_BYTES = 2**30


def smooth(*shape: int, dtype: str = "uint8") -> Array:
    """A gradient with some noise: lossy codecs keep it, and no two rows are the same."""
    steps = np.add.outer(np.arange(shape[0]) * 3, np.arange(math.prod(shape[1:]))).reshape(shape)
    noise = np.random.default_rng(5).integers(0, 4, shape)
    scale = 200 if dtype == "uint16" else 1
    return ((steps % 200 + noise) * scale).astype(dtype)


GREY = smooth(40, 56)
RGB = smooth(40, 56, 3)
RGBA = smooth(40, 56, 4)
GREY16 = smooth(40, 56, dtype="uint16")
RGB16 = smooth(40, 56, 3, dtype="uint16")


def by_pillow(image: Array | Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        file, kind, **options
    )
    return file.getvalue()


def by_numpy(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def known(name: str, data: bytes) -> Format:
    found = find_format(name, data[:64])
    assert found is not None
    return found


def read(name: str, data: bytes, limit_bytes: int = LIMIT_BYTES) -> Array:
    array = decode(known(name, data), data, f"s3://lab/{name}", limit_bytes=limit_bytes)
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.flags.owndata
    assert array.dtype.isnative
    return array


@pytest.fixture(autouse=True)
def _no_registered_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})


def jpeg_ls(image: Array) -> bytes:
    return bytes(imagecodecs.jpegls_encode(image))


LOSSLESS: dict[str, tuple[str, Array, Callable[[Array], Any]]] = {
    "png grey": ("PNG", GREY, lambda a: by_pillow(a, "PNG")),
    "png grey 16": ("PNG", GREY16, lambda a: by_pillow(a, "PNG")),
    "png rgb": ("PNG", RGB, lambda a: by_pillow(a, "PNG")),
    "png rgba": ("PNG", RGBA, lambda a: by_pillow(a, "PNG")),
    "png grey and alpha": ("PNG", RGB[..., :2], lambda a: by_pillow(a, "PNG")),
    "png rgb 16": ("PNG", RGB16, imagecodecs.png_encode),
    "bmp grey": ("BMP", GREY, lambda a: by_pillow(a, "BMP")),
    "bmp rgb": ("BMP", RGB, lambda a: by_pillow(a, "BMP")),
    "jp2 grey": ("JPEG 2000", GREY, lambda a: by_pillow(a, "JPEG2000")),
    "jp2 grey 16": ("JPEG 2000", GREY16, lambda a: by_pillow(a, "JPEG2000")),
    "jp2 rgba": ("JPEG 2000", RGBA, lambda a: by_pillow(a, "JPEG2000")),
    "j2k rgb": ("JPEG 2000", RGB, lambda a: by_pillow(a, "JPEG2000", no_jp2=True)),
    "j2k rgb 16": ("JPEG 2000", RGB16, lambda a: imagecodecs.jpeg2k_encode(a, level=0)),
    "htj2k": ("JPEG 2000", GREY16, imagecodecs.htj2k_encode),
    "webp rgb": ("WebP", RGB, lambda a: by_pillow(a, "WEBP", lossless=True)),
    "webp rgba": ("WebP", RGBA, lambda a: by_pillow(a, "WEBP", lossless=True, exact=True)),
    "qoi rgb": ("QOI", RGB, lambda a: by_pillow(a, "QOI")),
    "qoi rgba": ("QOI", RGBA, lambda a: by_pillow(a, "QOI")),
    "gif palette": ("GIF", GREY // 4, lambda a: by_pillow(a, "GIF")),
    "ppm": ("PNM", RGB, lambda a: by_pillow(a, "PPM")),
    "pgm": ("PNM", GREY, lambda a: by_pillow(a, "PPM")),
    "pgm 16": ("PNM", GREY16, lambda a: b"P5 56 40\n# c\n65535\n" + a.astype(">u2").tobytes()),
    "ppm 16": ("PNM", RGB16, lambda a: b"P6 56 40 65535\n" + a.astype(">u2").tobytes()),
    "pgm text": (
        "PNM",
        GREY16,
        lambda a: b"P2 56 40 65535\n" + b" ".join(b"%d" % v for v in a.flat),
    ),
    "jxl grey": ("JPEG XL", GREY, imagecodecs.jpegxl_encode),
    "jxl rgb 16": ("JPEG XL", RGB16, imagecodecs.jpegxl_encode),
    "jxl float": ("JPEG XL", GREY.astype("float32"), imagecodecs.jpegxl_encode),
    "jxl pages": ("JPEG XL", np.stack([GREY] * 5), imagecodecs.jpegxl_encode),
    "jpeg-ls grey": ("JPEG", GREY, jpeg_ls),
    "jpeg-ls rgb 16": ("JPEG", RGB16, jpeg_ls),
    "lossless jpeg 16": ("JPEG", GREY16, imagecodecs.ljpeg_encode),
    "avif rgb": ("AVIF", RGB, lambda a: imagecodecs.avif_encode(a, level=100)),
    "avif pages": ("AVIF", np.stack([GREY] * 5), lambda a: imagecodecs.avif_encode(a, level=100)),
    "npy": ("NPY", np.arange(24.0).reshape(2, 3, 4), by_numpy),
    "npy big-endian": ("NPY", GREY16.astype(">u2"), by_numpy),
    "npy in Fortran order": ("NPY", np.asfortranarray(GREY16), by_numpy),
    "npy bool": ("NPY", GREY > 100, by_numpy),
    "hdr": ("Radiance HDR", np.ones((8, 9, 3), "f4"), lambda a: imagecodecs.rgbe_encode(a)),
}


@pytest.mark.parametrize("case", LOSSLESS)
def test_lossless_formats_give_what_was_written(case: str) -> None:
    name, image, encode = LOSSLESS[case]
    data = bytes(encode(image))
    assert known("no-extension", data).name == name
    array = read("no-extension", data)
    expected = np.stack([image] * 3, -1) if case == "gif palette" else image
    assert array.dtype == image.dtype.newbyteorder("=")
    np.testing.assert_array_equal(array, expected)


LOSSY: dict[str, tuple[Array | Image.Image, str, dict[str, Any]]] = {
    "jpeg": (RGB, "JPEG", {}),
    "progressive jpeg": (RGB, "JPEG", {"progressive": True}),
    "grey jpeg": (GREY, "JPEG", {}),
    "subsampled jpeg": (RGB, "JPEG", {"subsampling": "4:2:0"}),
    "webp": (RGB, "WEBP", {}),
    "avif": (RGB, "AVIF", {}),
    "avif rgba": (RGBA, "AVIF", {}),
    "jp2": (RGB, "JPEG2000", {"irreversible": True, "quality_layers": [10]}),
    "png with a palette": (Image.fromarray(RGB).quantize(9), "PNG", {}),
    "png with a transparent colour": (Image.fromarray(RGB).quantize(9), "PNG", {"transparency": 2}),
    "png of one bit": (Image.fromarray(GREY).convert("1"), "PNG", {}),
    "bmp with a palette": (Image.fromarray(RGB).quantize(9), "BMP", {}),
    "bmp of one bit": (Image.fromarray(GREY).convert("1"), "BMP", {}),
}


@pytest.mark.parametrize("case", LOSSY)
def test_other_files_decode_as_with_pillow(case: str) -> None:
    image, kind, options = LOSSY[case]
    data = by_pillow(image, kind, **options)
    array = read("file", data)
    mode = "L" if array.ndim == 2 else {3: "RGB", 4: "RGBA"}[array.shape[-1]]
    expected = np.asarray(Image.open(io.BytesIO(data)).convert(mode))
    # Both bring their own build of each library; these may round differently.
    difference = np.abs(array.astype(int) - expected)
    assert difference.max() <= 2


def test_jpeg_is_as_stored() -> None:
    inks = Image.fromarray(RGB).convert("CMYK")
    data = by_pillow(inks, "JPEG")
    # Pillow inverts the inks that Adobe's marker says to be stored inverted.
    np.testing.assert_array_equal(
        255 - read("a.jpg", data), np.asarray(Image.open(io.BytesIO(data)))
    )
    turned = Image.Exif()
    turned[0x0112] = 6
    assert read("a.jpg", by_pillow(RGB, "JPEG", exif=turned)).shape == RGB.shape


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_animations_have_pages(kind: str) -> None:
    frames = []
    for index in range(3):
        frame = np.zeros_like(GREY)
        frame[index * 8 : index * 8 + 8, :20] = 100 + index  # encoders store what changed alone
        frames.append(Image.fromarray(np.stack([frame] * 3, -1)))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = by_pillow(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    images = ImageSequence.Iterator(Image.open(io.BytesIO(data)))
    expected = np.stack([np.asarray(image.convert("RGB")) for image in images])
    array = read("file", data)
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(array[:, ::8, 0, 0], np.stack(frames)[:, ::8, 0, 0])
    counts = known("file", data).sample_counts
    assert dims_of(array.shape, array.dtype, sample_counts=counts) == ("page", "y", "x", "s")


@pytest.mark.parametrize("kind", ["TGA", "PCX", "SGI", "ICO", "DDS"])
def test_imageio_reads_the_rest(kind: str) -> None:
    data = by_pillow(RGB, kind)
    np.testing.assert_array_equal(read(f"dir/a.{kind}", data), iio.imread(data))


def test_imageio_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    data = by_pillow(RGB, "TGA")
    found = known("a.tga", data)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert find_format("a.tga", data[:64]) is None
    with pytest.raises(
        UnsupportedFormatError, match=r"a\.tga.*pip install 'cloudimg-dask\[formats"
    ):
        decode(found, data, "s3://lab/a.tga", limit_bytes=LIMIT_BYTES)


def test_what_imageio_cannot_read_names_the_plugins() -> None:
    with pytest.raises(UnsupportedFormatError, match=r"pyav is not installed; .*pillow does not"):
        read("a.mp4", b"garbage" * 20)
    with pytest.raises(UnsupportedFormatError, match="PostScript"):
        read("a.tga", b"%!PS-Adobe-3.0 EPSF-3.0\n")


def test_names_that_no_decoder_claims() -> None:
    for name in ("a.tif", "a.TIFF", "a.ome.tif", "a.svs", "a.xyz", "tif", ""):
        assert find_format(name, b"garbage") is None
    assert find_format("a.tif", b"") is None


def test_magic_wins_over_the_extension() -> None:
    data = by_pillow(RGB, "PNG")
    assert known("a.jpg", data).name == "PNG"
    assert known("a.tga", data).name == "PNG"
    np.testing.assert_array_equal(read("a.jpg", data), RGB)
    assert known("dir.png/A.JPEG", b"").name == "JPEG"
    assert find_format("dir.png/a", b"") is None


def test_a_codec_that_is_not_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        available = False

    monkeypatch.setattr(imagecodecs, "HEIF", Missing)
    with pytest.raises(
        UnsupportedFormatError, match=r"a\.heic needs the codec HEIF.*register_format"
    ):
        read("a.heic", b"\0\0\0\x18ftypheic" + bytes(100))


def test_jpeg_xr_is_read_when_asked_for() -> None:
    data = imagecodecs.jpegxr_encode(GREY16)
    with pytest.raises(UnsupportedFormatError, match=r"register_format\('JPEG XR'"):
        read("a", data)
    register_format("JPEG XR", lambda f, url: imagecodecs.jpegxr_decode(f.read()), extensions="jxr")
    np.testing.assert_array_equal(read("a.jxr", data), GREY16)


def test_kinds_of_bmp() -> None:
    data = by_pillow(RGB, "BMP")
    upside_down = data[:22] + struct.pack("<i", -40) + data[26:]
    np.testing.assert_array_equal(read("a", upside_down), RGB[::-1])
    four_bytes = by_pillow(RGBA, "BMP")
    np.testing.assert_array_equal(read("a", four_bytes), RGBA[..., :3])
    old = b"BM" + struct.pack("<IHHIIHHHH", 0, 0, 0, 26, 12, 56, 40, 1, 24) + data[54:]
    np.testing.assert_array_equal(read("a", old), RGB)  # by imageio
    halves = np.arange(16, dtype="u1").reshape(2, 8)
    palette = np.repeat(np.arange(0, 256, 17, dtype="u1"), 4).tobytes()
    header = struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 118, 40, 8, 2, 1, 4, 0, 0, 0, 0, 0, 0)
    packed = (halves[::-1, ::2] << 4 | halves[::-1, 1::2]).tobytes()
    np.testing.assert_array_equal(read("a", b"BM" + header + palette + packed), halves * 17)


def fill(file: BinaryIO, url: str) -> Array:
    """A user's reader: four by four, filled with the first byte."""
    return np.full((4, 4), file.read(1)[0])


def test_registered_formats_come_first() -> None:
    png = by_pillow(RGB, "PNG")
    register_format("mine", fill, extensions=["ND2", ".nd2.gz"], magic=[b"mine", (20, b"late")])
    assert known("a/B.Nd2", b"").name == "mine"
    assert known("b.nd2.gz", b"").name == "mine"
    assert known("b.bin", bytes(20) + b"late").name == "mine"
    np.testing.assert_array_equal(read("b.bin", b"mine"), np.full((4, 4), ord("m")))
    assert known("b.nd2", png).name == "mine"
    assert known("b.png", png).name == "PNG"
    register_format("mypng", fill, extensions=".png")
    assert known("b.png", png).name == "mypng"
    register_format("longer", fill, magic=b"mine2")
    register_format("tie", fill, magic=b"mine")
    assert known("b", b"mine2").name == "longer"
    assert known("b", b"mine1").name == "tie"
    register_format("mypng", fill, extensions=".gz")
    assert known("b.png", png).name == "PNG"
    assert known("b.nd2.gz", b"").name == "mine"
    assert pickle.loads(pickle.dumps(known("b.gz", b""))) == known("b.gz", b"")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs extensions or magic"),
        ({"read": "imread", "extensions": ".a"}, "must be callable"),
        ({"name": "", "extensions": ".a"}, "must be a string that is not"),
        ({"extensions": [""]}, "extension ''"),
        ({"extensions": [".a/b"]}, "extension '.a/b'"),
        ({"extensions": [3]}, "extension 3"),
        ({"magic": [b""]}, "magic b''"),
        ({"magic": ["text"]}, "magic 'text'"),
        ({"magic": [(60, b"12345")]}, "in the first 64 bytes"),
        ({"magic": [(-1, b"1")]}, "in the first 64 bytes"),
    ],
)
def test_nonsense_is_not_registered(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        register_format(**{"name": "mine", "read": fill, **arguments})


def written(case: str) -> bytes:
    if case in LOSSLESS:
        _, image, encode = LOSSLESS[case]
        return bytes(encode(image))
    source, kind, options = LOSSY[case]
    return by_pillow(source, kind, **options)


@pytest.mark.parametrize("case", [*LOSSLESS, *LOSSY])
def test_truncated_files_are_errors(case: str) -> None:
    data = written(case)
    reader = known("file", data)
    whole = read("file", data)
    for stop in {0, 1, 3, 8, 20, 64, len(data) // 4, len(data) // 2, len(data) - 9, len(data) - 1}:
        if stop >= len(data):
            continue
        # A PNG may lack its end mark, and a text a digit, without a loss that shows.
        may_pass = stop > len(data) // 2 and case.startswith(("png", "pgm text"))
        with suppress(FormatError) if may_pass else pytest.raises(FormatError, match="s3://lab/a"):
            array = decode(reader, data[:stop], "s3://lab/a", limit_bytes=LIMIT_BYTES)
            assert array.shape == whole.shape


def png_chunk(kind: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def png_header(bits: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", 50000, 50000, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)


def boxed(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


SIZ = b"\xff\x4f\xff\x51" + struct.pack(
    ">HHIIIIIIIIHBBB", 41, 0, 50000, 50000, 0, 0, 50000, 50000, 0, 0, 1, 15, 1, 1
)
FTYP = boxed(b"ftyp", b"avif" + bytes(4) + b"avifmif1")
SMALL_GIF_FRAME = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\x00"


def jxl_header(*fields: tuple[int, int]) -> bytes:
    """Values and their bits, from the lowest on."""
    bits, shift = 0, 0
    for value, width in fields:
        bits |= value << shift
        shift += width
    return b"\xff\x0a" + bits.to_bytes(16, "little")


JXL_20000 = ((0, 1), (2, 2), (19999, 18), (1, 3), (0, 1), (0, 1))
SIZ_20000 = b"\xff\x4f\xff\x51" + struct.pack(">HHIIIIIIII", 44, 0, *(20000, 20000, 0, 0) * 2)
JXL = jxl_header((0, 1), (2, 2), (49999, 18), (1, 3))
BOMBS: dict[str, bytes] = {
    "png": png_header() + png_chunk(b"IDAT", zlib.compress(bytes(50))),
    "png animation": png_header() + png_chunk(b"acTL", bytes(3) + b"\x09" + bytes(4)),
    "jpeg": b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, 50000, 50000, 3) + bytes(20),
    "jpeg after other segments": b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xff\xc2"
    + struct.pack(">HBHHB", 17, 8, 50000, 50000, 3),
    "webp": b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\x4f\xc3\x00" * 2,
    "webp lossless": b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", 2**28 - 1),
    "webp lossy": b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a" + b"\xff\x3f" * 2,
    "bmp": b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 50000, -50000, 1, 24, 0) + bytes(24),
    "old bmp": b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 50000, 50000, 1, 24),
    "gif": b"GIF89a" + struct.pack("<HHBBB", 50000, 50000, 0, 0, 0) + SMALL_GIF_FRAME + b";",
    "gif of a far frame": b"GIF89a\1\0\1\0\0\0\0\x2c"
    + struct.pack("<HHHHB", 50000, 50000, 1, 1, 0)
    + SMALL_GIF_FRAME[10:],
    "gif of many frames": b"GIF89a\x00\x30\x00\x30\0\0\0" + SMALL_GIF_FRAME * 8 + b";",
    "jpeg 2000": SIZ,
    "jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + boxed(b"xml ", SIZ[:4]) + boxed(b"jp2c", SIZ),
    "jpeg xl": JXL,
    "jpeg xl of two sides": jxl_header((0, 1), (3, 2), (2**29, 30), (0, 3), (0, 2), (99, 9)),
    "jpeg xl in boxes": b"\0\0\0\x0cJXL \r\n\x87\n" + boxed(b"ftyp", b"jxl ") + boxed(b"jxlc", JXL),
    "jpeg xl in parts": b"\0\0\0\x0cJXL \r\n\x87\n" + boxed(b"jxlp", bytes(4) + JXL),
    # 20000 x 20000 bytes would be within the limit.
    "jpeg xl of extra channels": jxl_header(*JXL_20000, (0, 4), (2, 2), (0, 4), (2**15 - 1, 15)),
    "jpeg xl of floats": jxl_header(*JXL_20000, (0, 1), (1, 1), (0, 2), (7, 4)),
    "jpeg 2000 of deep components": SIZ_20000 + b"\x00\x02" + b"\x07\x01\x01" + b"\x0f\x01\x01",
    "jpeg behind garbage": b"\xff\xd8\xff\xe0\x00\x04abgarbage\xff\xff\xc0"
    + struct.pack(">HBHHB", 17, 8, 50000, 50000, 3),
    "jpeg of two frames": b"\xff\xd8\xff\xc0"
    + struct.pack(">HBHHB", 8, 8, 10, 10, 1)
    + b"\xff\xc3"
    + struct.pack(">HBHHB", 8, 8, 50000, 50000, 3),
    "avif of 12 bits": FTYP
    + boxed(
        b"meta",
        boxed(b"ispe", struct.pack(">III", 0, 20000, 20000)) + boxed(b"av1C", b"\x81\x40\x60\0"),
    ),
    "avif": FTYP + boxed(b"meta", boxed(b"ispe", struct.pack(">III", 0, 50000, 50000))),
    "qoi": b"qoif" + struct.pack(">IIBB", 50000, 50000, 4, 0) + bytes(7) + b"\x01",
    "pgm": b"P5\n# a comment\n50000 50000\n255\n",
    "npy": by_numpy(GREY[:1, :1]).replace(b"(1, 1), }        ", b"(50000, 50000), }"),
    "hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 50000 +X 50000\n",
}


@pytest.mark.parametrize("case", BOMBS)
def test_bombs_are_not_decoded(case: str) -> None:
    data = BOMBS[case]
    assert len(data) < 300
    tracemalloc.start()
    try:
        with pytest.raises(LimitError, match=r"s3://lab/a .*CLOUDIMG_MAX_SEGMENT_BYTES"):
            read("a", data, limit_bytes=2**29)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2**20


@pytest.mark.parametrize("case", [*LOSSLESS, *LOSSY])
def test_declared_sizes_are_never_above_the_decoded(case: str) -> None:
    data = written(case)
    array = read("a", data)
    found = known("a", data)
    assert found.measure is not None
    factors = found.measure(data)
    assert factors is not None
    dims = dims_of(array.shape, array.dtype, sample_counts=found.sample_counts)
    n_rows_columns = array.shape[dims.index("y")] * array.shape[dims.index("x")]
    # Headers may leave samples, their size and the number of pages open.
    assert n_rows_columns <= math.prod(factors) <= array.nbytes


CODEC_SIZES: dict[str, tuple[Callable[[bytes], sizes.Factors | None], str, str]] = {
    "jpegxl": (sizes.jpeg_xl, "grey two rgb rgba pages", "uint8 uint16 float16 float32"),
    "jpeg2k": (sizes.jpeg2000, "grey two rgb rgba", "uint8 uint16 uint32 int16"),
    "jpegxr": (sizes.jpeg_xr, "grey rgb rgba", "uint8 uint16 float16 float32"),
    "png": (sizes.png, "grey two rgb rgba", "uint8 uint16"),
    "jpegls": (sizes.jpeg, "grey rgb rgba", "uint8 uint16"),
    "jpeg8": (sizes.jpeg, "grey rgb rgba", "uint8 uint16"),
}
SHAPES = {"grey": (20, 30), "two": (20, 31, 2), "rgb": (64, 64, 3), "rgba": (20, 70, 4)}
SHAPES["pages"] = (3, 20, 30, 3)


@pytest.mark.parametrize("codec", CODEC_SIZES)
def test_declared_sizes_are_those_of_the_decoded(codec: str) -> None:
    measure, shapes, dtypes = CODEC_SIZES[codec]
    for shape in map(SHAPES.get, shapes.split()):
        for dtype in dtypes.split():
            pixels = np.ones(shape or (), dtype)
            data = bytes(getattr(imagecodecs, f"{codec}_encode")(pixels))
            factors = measure(data)
            assert factors is not None
            assert math.prod(factors) == pixels.nbytes, (shape, dtype)
            assert getattr(imagecodecs, f"{codec}_decode")(data).nbytes == pixels.nbytes


def test_frames_of_a_jpeg_xl_are_counted() -> None:
    data = bytes(imagecodecs.jpegxl_encode(np.zeros((900, 40, 40), np.uint16)))
    assert len(data) < 30_000
    with pytest.raises(LimitError, match=r"900 x 40 x 40 x 2 = 2880000 bytes .* limit of 2000000"):
        read("a", data, limit_bytes=2_000_000)
    assert read("a", data, limit_bytes=3_000_000).shape == (900, 40, 40)


def test_extra_channels_of_a_jpeg_xl_are_counted() -> None:
    pixels = np.zeros((5, 40, 40), np.uint16)
    data = bytes(imagecodecs.jpegxl_encode(pixels, planar=True))
    with pytest.raises(LimitError, match=r"40 x 40 x 5 x 2 = 16000 bytes"):
        read("a", data, limit_bytes=15_000)
    assert read("a", data, limit_bytes=17_000).shape == (5, 40, 40)


def broken(file: BinaryIO, url: str) -> Array:
    raise RuntimeError(f"no luck with {url}")


def test_errors_of_a_readers_own() -> None:
    with pytest.raises(
        CorruptFileError, match=r"s3://lab/a .*broken: RuntimeError: no luck"
    ) as info:
        decode(broken, b"data", "s3://lab/a", limit_bytes=LIMIT_BYTES)
    assert isinstance(info.value.__cause__, RuntimeError)
    assert info.value.url == "s3://lab/a"
    for callable_of_bytes in (
        imagecodecs.png_decode,
        lambda file, url: imagecodecs.png_decode(file),
    ):
        with pytest.raises(CorruptFileError, match=r"file\.read\(\) gives bytes"):
            decode(callable_of_bytes, b"data", "s3://lab/a", limit_bytes=LIMIT_BYTES)

    def refuse(file: BinaryIO, url: str) -> Array:
        raise LimitError("mine")

    with pytest.raises(LimitError, match=r"^mine$"):
        decode(refuse, b"data", "s3://lab/a", limit_bytes=LIMIT_BYTES)


@pytest.mark.parametrize(
    "result",
    [None, 3, b"bytes", "text", [1, 2], np.zeros((0, 4)), np.array([["a", "b"]]), [[None]]],
    ids=repr,
)
def test_results_that_are_no_image(result: Any) -> None:
    def give(file: BinaryIO, url: str) -> Any:
        return result

    with pytest.raises(ArgumentError, match=r"give returned a .* for s3://lab/a") as info:
        decode(give, b"data", "s3://lab/a", limit_bytes=LIMIT_BYTES)
    assert pickle.loads(pickle.dumps(info.value)).url == "s3://lab/a"
    with pytest.raises(FormatError):
        read("a.npy", by_numpy(np.zeros((3,))))


def test_results_stand_on_their_own() -> None:
    data = bytes(range(16))

    def view(file: BinaryIO, url: str) -> Array:
        return np.frombuffer(file.read(), ">u2").reshape(2, 4).T

    array = decode(view, memoryview(data), "s3://lab/a", limit_bytes=LIMIT_BYTES)
    assert array.dtype == np.uint16
    assert array.flags.c_contiguous
    array += 1
    assert data == bytes(range(16))
    picture = decode(lambda file, url: Image.open(file), by_pillow(RGB, "PNG"), "a", limit_bytes=1)
    np.testing.assert_array_equal(picture, RGB)


def test_pickled_objects_are_refused() -> None:
    file = io.BytesIO()
    np.save(file, np.array([[{}]]), allow_pickle=True)
    with pytest.raises(CorruptFileError, match="allow_pickle=False"):
        read("a.npy", file.getvalue())


@pytest.mark.parametrize(
    ("shape", "dtype", "counts", "dims"),
    [
        ((9, 8), "u1", (3, 4), "y x"),
        ((9, 3), "u1", (3, 4), "y x"),
        ((9, 8, 3), "u1", (3, 4), "y x s"),
        ((9, 8, 4), "f4", (3, 4), "y x s"),
        ((9, 8, 4), "i4", (3, 4), "page y x"),
        ((9, 8, 2), "u1", (3, 4), "page y x"),
        ((9, 8, 2), "u1", (2, 3, 4), "y x s"),
        ((9, 8, 7), "u1", None, "y x s"),
        ((3, 9, 8), "u1", (3, 4), "page y x"),
        ((5, 9, 8, 3), "u2", (3, 4), "page y x s"),
        ((5, 6, 9, 8), "u2", (3, 4), "axis0 page y x"),
        ((5, 6, 7, 9, 8), "u2", (3, 4), "axis0 axis1 page y x"),
        ((5, 6, 9, 8, 3), "u2", (3, 4), "axis0 page y x s"),
    ],
)
def test_names_of_axes(
    shape: tuple[int, ...], dtype: str, counts: tuple[int, ...] | None, dims: str
) -> None:
    assert dims_of(shape, dtype, sample_counts=counts) == tuple(dims.split())


def test_formats_import_no_decoder() -> None:
    code = (
        "import sys, cloudimg.formats;"
        "sys.exit(str({'PIL', 'imageio', 'imagecodecs._png'} & {*sys.modules} or ''))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.strip() == ""


FILES = [*map(written, (*LOSSLESS, *LOSSY)), *BOMBS.values()]


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """Magic bytes followed by chance, or a whole file with some bytes changed."""
    data = bytearray(draw(st.sampled_from(FILES)))
    if draw(st.booleans()):
        return bytes(data[:16]) + draw(st.binary(max_size=200))
    for _ in range(draw(st.integers(1, 8))):
        data[draw(st.integers(0, min(len(data) - 1, 400)))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


@settings(max_examples=400)
@given(damaged_files())
@example(b"")
def test_damaged_files_give_an_array_or_an_error_of_ours(data: bytes) -> None:
    found = find_format("file", data[:64])
    if found is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries warn of what they repair
        with suppress(CloudimgError):
            array = decode(found, data, "s3://lab/a", limit_bytes=2**24)
            assert array.ndim >= 2
