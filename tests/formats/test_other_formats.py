"""Images made of files that are no TIFFs, through `cloudimg.open`: patterns, readers, formats."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import dask
import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from distributed import Client
from PIL import Image

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import (
    ArgumentError,
    ChangedError,
    CorruptFileError,
    LimitError,
    MismatchError,
    MissingFilesError,
    NotTiffError,
)
from cloudimg.formats import registry
from tests.conftest import Place
from tests.support import seed
from tests.support.clusters import local_client
from tests.support.metering import Meter

Array = npt.NDArray[Any]
Encode = Callable[[Array], bytes]


def smooth(*shape: int, first: int = 0, dtype: str = "uint8") -> Array:
    """A gradient with a little noise, which lossy codecs keep; no two with another `first`."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    noise = np.random.default_rng(first).integers(0, 3, shape[:2])
    plane = 2 * y + x + 5 * first + noise
    if len(shape) == 3:
        plane = np.stack([plane + 20 * s for s in range(shape[2])], -1)
    return plane.astype(dtype)


def by_pillow(kind: str, **options: Any) -> Encode:
    def encode(pixels: Array) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind, **options)
        return file.getvalue()

    return encode


def by_numpy(pixels: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


def as_jxl(pixels: Array) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(pixels, lossless=True))


def with_pillow(data: bytes) -> Array:
    return np.asarray(Image.open(io.BytesIO(data)))


png, jpeg = by_pillow("PNG"), by_pillow("JPEG", quality=95)
GREY, RGB, RGBA = (), (3,), (4,)
KINDS: dict[str, tuple[str, tuple[int, ...], str, Encode]] = {
    "png": ("png", GREY, "uint8", png),
    "png 16 bits": ("png", GREY, "uint16", png),
    "png rgb": ("png", RGB, "uint8", png),
    "png rgba": ("png", RGBA, "uint8", png),
    "jpeg": ("jpg", GREY, "uint8", jpeg),
    "jpeg rgb": ("jpeg", RGB, "uint8", jpeg),
    "jpeg 2000": ("jp2", GREY, "uint16", by_pillow("JPEG2000")),
    "jpeg 2000 rgb": ("j2k", RGB, "uint8", by_pillow("JPEG2000", no_jp2=True)),
    "webp": ("webp", RGB, "uint8", by_pillow("WEBP", quality=90)),
    "webp lossless": ("webp", RGBA, "uint8", by_pillow("WEBP", lossless=True, exact=True)),
    "avif": ("avif", RGB, "uint8", by_pillow("AVIF", quality=90)),
    "bmp": ("bmp", GREY, "uint8", by_pillow("BMP")),
    "bmp rgb": ("bmp", RGB, "uint8", by_pillow("BMP")),
    "jpeg xl": ("jxl", GREY, "uint16", as_jxl),
    "npy": ("npy", GREY, "float64", by_numpy),
    "npy rgb": ("npy", RGB, "uint16", by_numpy),
}
LOSSY = {"jpeg", "jpeg rgb", "webp", "avif"}
SHAPE = (24, 32)


def planes(kind: str, n: int) -> tuple[list[bytes], list[Array]]:
    """Files, and what an independent decoder makes of them."""
    _, samples, dtype, encode = KINDS[kind]
    pixels = [smooth(*SHAPE, *samples, first=i, dtype=dtype) for i in range(n)]
    files = [encode(each) for each in pixels]
    if kind in ("jpeg xl", "npy", "npy rgb"):
        return files, pixels  # Pillow knows none of these; they are lossless
    return files, [with_pillow(each) for each in files]


def check_pixels(found: Array, expected: Array, kind: str) -> None:
    assert found.dtype == expected.dtype
    if kind in LOSSY:  # decoders of lossy formats may round otherwise
        np.testing.assert_allclose(found.astype(float), expected.astype(float), atol=3)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.fixture(autouse=True)
def _no_registered_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})


class Bucket:
    """A folder on the metering server."""

    def __init__(self, meter: Meter, bucket: str) -> None:
        self.meter, self._bucket = meter, bucket

    def put(self, name: str, data: bytes) -> None:
        self.meter.put(self._bucket, f"dir/{name}", data)

    def url(self, name: str) -> str:
        return f"s3://{self._bucket}/dir/{name}"

    def open(self, name: str, **options: Any) -> cloudimg.Image:
        options = {"storage_options": self.meter.storage_options, **options}
        return cloudimg.open(self.url(name), **options)


@pytest.fixture
def files(meter: Meter, bucket: str) -> Bucket:
    return Bucket(meter, bucket)


# Formats that are built in


@pytest.mark.parametrize("kind", KINDS)
def test_patterns_of_every_format(files: Bucket, kind: str) -> None:
    """A stack and a mosaic, whole, in parts and in chunks."""
    extension, samples, _, _ = KINDS[kind]
    encoded, decoded = planes(kind, 4)
    for i, data in enumerate(encoded):
        files.put(f"z{i}.{extension}", data)
        files.put(f"tile_{i // 2}y_{i % 2}x.{extension}", data)
    last = ("s",) if samples else ()
    stack = files.open(f"z{{z}}.{extension}")
    assert stack.dims == ("z", "y", "x", *last)
    check_pixels(stack.read(), np.stack(decoded), kind)
    check_pixels(stack.to_dask(chunks={"z": 1}).compute(), np.stack(decoded), kind)
    part = (slice(None, None, -2), slice(3, 20, 4), slice(-9, None))
    check_pixels(stack.read(part), np.stack(decoded)[part], kind)
    mosaic = files.open(f"tile_{{y}}y_{{x}}x.{extension}")
    rows = [np.concatenate(decoded[i : i + 2], axis=1) for i in (0, 2)]
    whole = np.concatenate(rows)
    assert mosaic.dims == ("y", "x", *last)
    check_pixels(mosaic.read(), whole, kind)
    check_pixels(mosaic.read((slice(20, 30), slice(25, 40, 3))), whole[20:30, 25:40:3], kind)


@pytest.mark.parametrize("kind", ["png rgb", "jpeg", "npy"])
def test_on_every_kind_of_store(place: Place, kind: str) -> None:
    extension = KINDS[kind][0]
    encoded, decoded = planes(kind, 3)
    for i, data in enumerate(encoded):
        place.put(f"t{i}.{extension}", data)
    options = {"storage_options": place.storage_options}
    image = cloudimg.open(f"{place.url}/t{{t}}.{extension}", **options)
    check_pixels(image.read(), np.stack(decoded), kind)
    single = cloudimg.imread(f"{place.url}/t1.{extension}", **options)
    check_pixels(single.compute(), decoded[1], kind)


def test_properties_of_an_image(files: Bucket) -> None:
    encoded, decoded = planes("png rgb", 3)
    for i, data in enumerate(encoded):
        files.put(f"z{i}.png", data)
    image = files.open("z{z}.png")
    assert len(image.levels) == 1
    assert image.levels[0].segment == {"y": 24, "x": 32, "s": 3}
    assert image.attrs["kind"] == "PNG"
    assert image.stored_nbytes == sum(map(len, encoded))
    assert image.n_files == 3
    with pytest.raises(ArgumentError, match=r"has 1 level$"):
        image.read(level=1)
    twin = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(twin.read(), np.stack(decoded))
    assert twin.to_dask().name == image.to_dask().name


def test_a_file_is_got_once_when_it_is_read(files: Bucket) -> None:
    pixels = [smooth(300, 400, first=i) for i in range(5)]
    for i, each in enumerate(pixels):
        noisy = np.random.default_rng(i).integers(0, 256, each.shape, np.uint8)
        pixels[i] = noisy  # larger than what is read of a header
        files.put(f"z{i}.png", png(noisy))
    with files.meter.measure() as opening:
        image = files.open("z{z}.png")
    assert {request.key for request in opening.requests if request.key} == {"dir/z0.png"}
    assert opening.gets <= 2
    with files.meter.measure() as reading:
        np.testing.assert_array_equal(image.read(slice(1, 4)), np.stack(pixels[1:4]))
    keys = sorted(request.key for request in reading.requests)
    assert keys == ["dir/z1.png", "dir/z2.png", "dir/z3.png"]
    with files.meter.measure() as again:
        np.testing.assert_array_equal(image.read((0, slice(9))), pixels[0][:9])
    assert len(again.requests) <= 1


def test_a_small_file_is_opened_by_one_request(files: Bucket) -> None:
    (data,), (expected,) = planes("png", 1)
    files.put("a.png", data)
    with files.meter.measure() as traffic:
        image = files.open("a.png")
        np.testing.assert_array_equal(image.read(), expected)
    assert [request.kind for request in traffic.requests] == ["get"]


def test_axes_are_renamed_and_ordered(files: Bucket) -> None:
    pixels = np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6).astype("int32")
    for t in range(2):
        files.put(f"t{t}.npy", by_numpy(pixels[t]))
    image = files.open("t{t}.npy")
    assert image.dims == ("axis0", "page", "t", "y", "x")
    np.testing.assert_array_equal(image.read(), pixels.transpose(1, 2, 0, 3, 4))
    image = files.open("t{t}.npy", axes={"axis0": "c", "page": "z"}, dims=("t", "c", "z", "y", "x"))
    np.testing.assert_array_equal(image.read(), pixels)
    image = files.open("t{t}.npy", axes={"axis0": "c", "page": "z"}, dims=("x", "z", "t", "y", "c"))
    np.testing.assert_array_equal(image.read(), pixels.transpose(4, 2, 0, 3, 1))


def test_pages_of_files_are_joined(files: Bucket) -> None:
    """Along an axis that the files have they are concatenated, and the last may be shorter."""
    pixels = np.arange(7 * 5 * 6).reshape(7, 5, 6)
    for i in range(3):
        files.put(f"z{i}.npy", by_numpy(pixels[3 * i : 3 * i + 3]))
    image = files.open("z{z}.npy", axes={"page": "z"})
    assert image.dims == ("z", "y", "x")
    np.testing.assert_array_equal(image.read(), pixels)


def test_holes_are_filled(files: Bucket) -> None:
    encoded, decoded = planes("png", 4)
    for i in (0, 1, 3):
        files.put(f"{i // 2}y_{i % 2}x.png", encoded[i])
    with pytest.raises(MissingFilesError):
        files.open("{y}y_{x}x.png")
    image = files.open("{y}y_{x}x.png", missing="fill", fill_value=9)
    expected = np.block([[decoded[0], decoded[1]], [np.full(SHAPE, 9), decoded[3]]])
    np.testing.assert_array_equal(image.read(), expected)


def test_mixed_shapes_and_types(files: Bucket) -> None:
    odd = {"z1.png": smooth(24, 30), "z2.png": smooth(24, 32, dtype="uint16")}
    odd["z3.png"] = smooth(24, 32, 3)
    good = smooth(24, 32)
    for name in ("z0.png", "z4.png"):
        files.put(name, png(good))
    for name, pixels in odd.items():
        files.put(name, png(pixels))
    image = files.open("z{z}.png")
    for number in (1, 2, 3):
        with pytest.raises(MismatchError, match=rf"z{number}\.png"):
            image.read(number)
    np.testing.assert_array_equal(image.read(4), good)
    with pytest.raises(MismatchError) as caught:
        files.open("z{z}.png", validate="all")
    assert all(name in str(caught.value) for name in odd)


def test_the_last_of_a_row_may_be_smaller(files: Bucket) -> None:
    pixels = smooth(40, 70)
    for y, x in np.ndindex(2, 3):
        part = pixels[24 * y : 24 * y + 24, 32 * x : 32 * x + 32]
        files.put(f"{x}x_{y}y.png", png(part))
    np.testing.assert_array_equal(files.open("{x}x_{y}y.png").read(), pixels)


# What a file is


def test_names_that_lie(files: Bucket) -> None:
    """Content decides, whatever a file is called."""
    pixels = smooth(*SHAPE)
    for i, encode in enumerate((png, jpeg, seed.encode, by_pillow("BMP"), as_jxl)):
        for extension in ("png", "tif", "jpg", "dat", "ome.tiff"):
            name = f"{i}.{extension}"
            files.put(name, encode(pixels))
            found = files.open(name).read().astype(int)
            assert np.abs(found - pixels).max() <= (3 if encode is jpeg else 0)


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_formats_are_mixed_in_a_pattern(files: Bucket, extension: str) -> None:
    """TIFFs and others alike, whichever comes first."""
    pixels = [smooth(*SHAPE, first=i) for i in range(4)]
    encoders = [png, seed.encode, as_jxl, png]
    for order in (encoders, encoders[1:] + encoders[:1]):
        for i, encode in enumerate(order):
            files.put(f"z{i}.{extension}", encode(pixels[i]))
        image = files.open(f"z{{z}}.{extension}")
        np.testing.assert_array_equal(image.read(), np.stack(pixels))
        np.testing.assert_array_equal(image.to_dask({"z": 1}).compute(), np.stack(pixels))


def test_a_stray_png_does_not_change_how_tiffs_are_read(files: Bucket) -> None:
    """A window of a large TIFF takes its header and the window, before and after."""
    pixels = np.random.default_rng(0).integers(0, 255, (512, 512), np.uint8)
    for i in range(4):
        data = png(pixels) if i == 1 else seed.encode(pixels, tile=(64, 64))
        files.put(f"z{i}.tif", data)
    image = files.open("z{z}.tif")
    corner = (slice(64), slice(64))
    np.testing.assert_array_equal(image.read((1, *corner)), pixels[corner])
    with files.meter.measure() as traffic:
        np.testing.assert_array_equal(image.read((3, *corner)), pixels[corner])
    assert traffic.bytes_sent < 64 * 1024


def test_what_no_decoder_claims(files: Bucket) -> None:
    files.put("notes.txt", b"two words")
    files.put("empty.png", b"")
    with pytest.raises(NotTiffError, match=r"notes\.txt"):
        files.open("notes.txt")
    with pytest.raises(NotTiffError, match=r"empty\.png is empty"):
        files.open("empty.png")


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files_are_errors(files: Bucket, kind: str) -> None:
    extension = KINDS[kind][0]
    encoded, decoded = planes(kind, 2)
    files.put(f"z0.{extension}", encoded[0])
    files.put(f"z1.{extension}", encoded[1][: len(encoded[1]) * 2 // 3])
    image = files.open(f"z{{z}}.{extension}")
    with pytest.raises(CorruptFileError, match=rf"z1\.{extension}"):
        image.read()
    check_pixels(image.read(0), decoded[0], kind)
    with pytest.raises(CorruptFileError):
        files.open(f"z1.{extension}")


def test_limits_are_kept_by_files_of_any_format(
    files: Bucket, set_variable: Callable[[str, str], None]
) -> None:
    encoded, decoded = planes("png", 1)
    files.put("z0.png", encoded[0])
    files.put("z1.png", png(np.zeros((200, 300), np.uint8)))
    set_variable("CLOUDIMG_MAX_SEGMENT_BYTES", "50000")
    image = files.open("z{z}.png")
    np.testing.assert_array_equal(image.read(0), decoded[0])
    for refused in (lambda: image.read(1), lambda: files.open("z1.png")):
        with pytest.raises(LimitError, match=r"z1\.png .* CLOUDIMG_MAX_SEGMENT_BYTES"):
            refused()
    set_variable("CLOUDIMG_MAX_SEGMENT_BYTES", "60000")
    assert files.open("z1.png").shape == (200, 300)


@pytest.mark.slow
def test_a_file_that_was_replaced(files: Bucket) -> None:
    """The header of the first one is of another version than what is there now."""
    noisy = np.random.default_rng(0).integers(0, 256, (300, 400), np.uint8)
    files.put("a.png", png(noisy))
    image = pickle.dumps(files.open("a.png"))
    files.put("a.png", png(noisy[::-1]))
    workers = dask.config.set(scheduler="processes", num_workers=1)
    with workers, pytest.raises(ChangedError, match=r"a\.png"):
        pickle.loads(image).to_dask().compute()


# The user's own readers


def load(file: BinaryIO, url: str) -> Array:
    loaded: Array = np.load(file)
    return loaded


def test_a_reader_gets_a_file_and_its_url(files: Bucket) -> None:
    pixels = [np.arange(20.0).reshape(4, 5) + i for i in range(3)]
    for i, each in enumerate(pixels):
        files.put(f"t{i}.raw", by_numpy(each))
    seen = []

    def read(file: BinaryIO, url: str) -> Array:
        seen.append(url)
        assert file.seekable()
        return load(file, url)

    image = files.open("t{t}.raw", imread=read)
    assert seen == [files.url("t0.raw")]
    np.testing.assert_array_equal(image.read(), np.stack(pixels))
    assert set(seen) == {files.url(f"t{i}.raw") for i in range(3)}
    lazy = files.open("t{t}.raw", imread=lambda file, url: np.load(file)).to_dask({"t": 1})
    np.testing.assert_array_equal(lazy.compute(), np.stack(pixels))


def test_a_reader_from_bytes(files: Bucket) -> None:
    pixels = np.arange(12, dtype="<u2").reshape(3, 4)
    files.put("a.bin", pixels.tobytes())
    image = files.open(
        "a.bin", imread=lambda file, url: np.frombuffer(file.read(), "<u2").reshape(3, 4)
    )
    np.testing.assert_array_equal(image.read(), pixels)
    image.read()[...] = 0  # which is nobody else's


def test_a_reader_takes_all_files(files: Bucket) -> None:
    """TIFFs and PNGs too, and each is got once."""
    files.put("z0.tif", seed.encode(smooth(*SHAPE)))
    files.put("z1.tif", png(smooth(*SHAPE)))
    image = files.open("z{z}.tif", imread=lambda file, url: np.full((2, 3), len(file.read())))
    with files.meter.measure() as traffic:
        sizes = image.read()[:, 0, 0]
    assert list(sizes) == [len(seed.encode(smooth(*SHAPE))), len(png(smooth(*SHAPE)))]
    assert traffic.gets <= 2


def test_a_reader_of_volumes(files: Bucket) -> None:
    pixels = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    for t in range(2):
        files.put(f"t{t}.raw", by_numpy(pixels[t]))
    image = files.open("t{t}.raw", imread=load)
    assert set(image.dims) == {"t", "page", "y", "x"}
    image = files.open("t{t}.raw", imread=load, axes={"page": "z"})
    assert image.dims == ("t", "z", "y", "x")
    np.testing.assert_array_equal(image.read((1, slice(1, None))), pixels[1, 1:])


@pytest.mark.parametrize(
    ("result", "what"),
    [
        (None, "NoneType"),
        (np.zeros(5), r"shape \(5,\)"),
        (np.zeros((0, 5)), r"shape \(0, 5\)"),
        (np.array([["a", "b"]]), "dtype <U1"),
        ([[1, 2], [3]], "raw"),
        (3, "int"),
    ],
)
def test_results_that_are_no_image(files: Bucket, result: Any, what: str) -> None:
    files.put("a.raw", b"any")
    with pytest.raises((ArgumentError, CorruptFileError), match=what):
        files.open("a.raw", imread=lambda file, url: result)


def test_exceptions_of_a_reader(files: Bucket) -> None:
    for i in range(3):
        files.put(f"z{i}.raw", b"0123")

    def read(file: BinaryIO, url: str) -> Array:
        if "z1" in url:
            raise ValueError("a bad header")
        return np.zeros((2, 2))

    image = files.open("z{z}.raw", imread=read)
    with pytest.raises(CorruptFileError, match=r"z1\.raw.*ValueError: a bad header") as caught:
        image.read()
    assert isinstance(caught.value.__cause__, ValueError)
    np.testing.assert_array_equal(image.read(2), np.zeros((2, 2)))
    with pytest.raises(CorruptFileError, match=r"binary file and the URL"):
        files.open("z0.raw", imread=lambda url: np.zeros((2, 2)))  # type: ignore[misc,arg-type]
    with pytest.raises(ArgumentError, match="imread"):
        files.open("z0.raw", imread="npy")


def test_readers_tell_arrays_apart(files: Bucket) -> None:
    files.put("a.raw", b"any")
    names = {
        files.open("a.raw", imread=read).to_dask().name
        for read in (
            lambda file, url: np.zeros((2, 2)),
            lambda file, url: np.ones((2, 2)),
        )
    }
    assert len(names) == 2
    for read, value in ((lambda f, u: np.zeros((2, 2)), 0), (lambda f, u: np.ones((2, 2)), 1)):
        assert (files.open("a.raw", imread=read).read() == value).all()


# Formats that users register


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(2, 1, set_as_default=False) as client:
        yield client


def invert(file: BinaryIO, url: str) -> Array:
    inverted: Array = 255 - np.load(file)
    return inverted


def test_a_registered_format(files: Bucket) -> None:
    pixels = [smooth(*SHAPE, first=i) for i in range(3)]
    for i, each in enumerate(pixels):
        files.put(f"z{i}.inv", by_numpy(each))
    cloudimg.register_format("inverted", invert, extensions=".inv")
    image = files.open("z{z}.inv")
    assert image.attrs["kind"] == "inverted"
    np.testing.assert_array_equal(image.read(), 255 - np.stack(pixels))


def test_magic_of_a_registered_format_wins_over_what_is_built_in(files: Bucket) -> None:
    files.put("a.png", by_numpy(smooth(*SHAPE)))
    np.testing.assert_array_equal(files.open("a.png").read(), smooth(*SHAPE))
    cloudimg.register_format("inverted", invert, magic=b"\x93NUMPY")
    np.testing.assert_array_equal(files.open("a.png").read(), 255 - smooth(*SHAPE))


def test_a_registered_format_is_one_get_a_file(files: Bucket) -> None:
    for i in range(3):
        files.put(f"z{i}.inv", by_numpy(np.full((200, 300), i, np.uint8)))
    cloudimg.register_format("inverted", invert, extensions=".inv")
    image = files.open("z{z}.inv")
    with files.meter.measure() as traffic:
        image.read(slice(1, 3))
    assert sorted(r.key for r in traffic.requests) == ["dir/z1.inv", "dir/z2.inv"]


def after_a_mark(file: BinaryIO, url: str) -> Array:
    assert file.read(4) == b"mark"
    return load(file, url)


@pytest.mark.slow
def test_workers_read_formats_that_they_never_registered(files: Bucket, client: Client) -> None:
    """What decodes the files travels with the image; so do a user's reader and built-in ones."""
    pixels = np.stack([smooth(*SHAPE, first=i) for i in range(4)])
    for i, each in enumerate(pixels):
        files.put(f"z{i}.mark", b"mark" + by_numpy(each))
        files.put(f"z{i}.raw", by_numpy(each))
        files.put(f"z{i}.png", png(each))
    cloudimg.register_format(
        "marked", lambda file, url: after_a_mark(file, url), extensions=".mark"
    )
    registered = files.open("z{z}.mark").to_dask({"z": 1})
    own = files.open("z{z}.raw", imread=lambda file, url: np.load(file)).to_dask({"z": 1})
    built_in = files.open("z{z}.png").to_dask({"z": 1})
    assert set(client.run(n_registered).values()) == {0}
    for array in (registered, own, built_in):
        np.testing.assert_array_equal(client.compute(array).result(), pixels)
    assert set(client.run(n_registered).values()) == {0}


@pytest.mark.slow
@pytest.mark.parametrize("known_by", [{"extensions": ".inv"}, {"magic": b"\x93NUMPY"}])
def test_workers_prefer_registered_formats_as_well(
    files: Bucket, client: Client, known_by: dict[str, Any]
) -> None:
    """A built-in format knows the same files, and would give other pixels."""
    pixels = np.stack([smooth(*SHAPE, first=i) for i in range(4)])
    for i, each in enumerate(pixels):
        files.put(f"z{i}.inv", by_numpy(each))
    cloudimg.register_format("inverted", invert, **known_by)
    image = files.open("z{z}.inv")
    np.testing.assert_array_equal(image.read(), 255 - pixels)
    lazy = image.to_dask({"z": 1})
    np.testing.assert_array_equal(client.compute(lazy).result(), 255 - pixels)


def n_registered() -> int:
    return len(registry._registered)


def test_readers_run_side_by_side(files: Bucket) -> None:
    """Two at least are under way at once: each waits for the other."""
    for i in range(3):
        files.put(f"z{i}.raw", bytes([i]))
    both = threading.Barrier(2)

    def read(file: BinaryIO, url: str) -> Array:
        if "z0" not in url:
            both.wait(timeout=20)
        return np.full((2, 2), file.read()[0])

    image = files.open("z{z}.raw", imread=read)
    assert list(image.read(slice(1, 3))[:, 0, 0]) == [1, 2]


# The commands


def test_info_and_preview_of_a_png(
    files: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = smooth(60, 80, 3)
    files.put("a.png", png(pixels))
    options = ["--storage-options", json.dumps(files.meter.storage_options)]
    assert main(["info", "--json", files.url("a.png"), *options]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["kind"] == "image"
    assert facts["dims"] == ["y", "x", "s"]
    assert facts["shape"] == [60, 80, 3]
    assert facts["dtype"] == "uint8"
    assert len(facts["levels"]) == 1
    assert facts["stored_nbytes"] == len(png(pixels))
    assert main(["info", files.url("a.png"), *options]) == 0
    assert "60 x 80 x 3" in capsys.readouterr().out
    out = tmp_path / "preview.png"
    assert main(["preview", files.url("a.png"), str(out), *options]) == 0
    shown = with_pillow(out.read_bytes())
    assert shown.shape[:2] == (60, 80)
    found = np.corrcoef(shown[..., :3].reshape(-1), pixels.reshape(-1))[0, 1]
    assert found > 0.9


def test_info_of_a_pattern_of_png(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for y, x in itertools.product(range(2), range(3)):
        (tmp_path / f"{x}x_{y}y.png").write_bytes(png(smooth(20, 30)))
    assert main(["info", "--json", str(tmp_path / "{x}x_{y}y.png")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["shape"] == [40, 90]
    assert facts["files"]["count"] == 6


def test_a_reader_that_reads_by_cloudimg_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own with one decoding thread, which must not wait for itself."""
    (tmp_path / "dark.tif").write_bytes(seed.encode(np.ones((8, 8), np.uint8)))
    for i in range(6):
        (tmp_path / f"n_{i}.raw").write_bytes(bytes([i]) * 64)
    code = f"""
import cloudimg, numpy as np
def read(file, url):
    dark = cloudimg.open({str(tmp_path / "dark.tif")!r}).read()
    return np.frombuffer(file.read(), np.uint8).reshape(8, 8) + dark
image = cloudimg.open({str(tmp_path / "n_{i}.raw")!r}, imread=read)
assert (image.read()[:, 0, 0] == np.arange(1, 7)).all()
"""
    monkeypatch.setenv("CLOUDIMG_DECODE_THREADS", "1")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("known_by", [{"extensions": ".frm"}, {"magic": b"IIRAW"}])
def test_a_format_whose_files_begin_like_a_byte_order_of_tiff(
    files: Bucket, known_by: dict[str, Any]
) -> None:
    def read(file: BinaryIO, url: str) -> Array:
        return np.frombuffer(file.read(), np.uint8).reshape(8, 8)

    cloudimg.register_format("frame", read, **known_by)
    data = b"IIRAW" + bytes(range(59))
    files.put("z0.frm", data)
    assert files.open("z0.frm").read().tobytes() == data
