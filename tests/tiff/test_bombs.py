"""Headers that promise more than their file can hold: refused at once, in little memory.

Each file is made and read in a child process; what reading it may take is measured there in memory
that is really used, and in steps of Python (`tests.support.counting`), never in seconds.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import fsspec
import imagecodecs
import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.errors import CorruptFileError, LimitError
from tests.support.bombs import bombs, build, ome, page, zeros_deflate, zeros_zstd
from tests.support.counting import steps_of_this_process
from tests.support.flavours import Array
from tests.support.isolation import PeakMemory, Step, each_apart

HUNG_S = 120
MOST_MEMORY_BYTES = 40 * 2**20
"""For images of 64 x 64 pixels. What the bombs below decode to is larger."""
MOST_STEPS = 1_000_000
"""Less than a second of Python."""

JPEG, JPEG_2000, PNG, WEBP, JPEG_XL, JPEG_XR, LERC = 7, 34712, 34933, 50001, 50002, 22610, 34887


def tiled(stream: bytes | bytearray, compression: int, *, samples: int = 1) -> bytes:
    """A TIFF of one tile of 64 x 64 pixels."""
    tags = page(64, 64, compression, side=64, n_bytes=len(stream), samples=samples)
    return build([tags], blob=bytes(stream))


def in_strip(stream: bytes | bytearray, compression: int, *, samples: int = 1) -> bytes:
    """A TIFF of one strip of 64 x 64 pixels."""
    tags = page(64, 64, compression, n_bytes=len(stream), samples=samples)
    return build([tags], blob=bytes(stream))


def flat(*shape: int, dtype: str = "uint8") -> Array:
    """An image that every codec stores in few bytes."""
    return np.full(shape, 7, dtype)


def jpeg_xl(pixels: Array) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(pixels, lossless=True, effort=1))


def planes_jxl(pixels: Array) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(pixels, planar=True, lossless=True, effort=1))


def webp(pixels: Array) -> bytes:
    return bytes(imagecodecs.webp_encode(pixels, lossless=True, level=0))


def jpeg_2000(pixels: Array) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", level=0))


def jp2(pixels: Array) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(pixels, level=0))


Encode = Callable[[Array], bytes | bytearray]
ENCODERS: dict[str, tuple[int, int, Encode]] = {
    "JPEG": (JPEG, 1, imagecodecs.jpeg8_encode),
    "JPEG of colours": (JPEG, 3, imagecodecs.jpeg8_encode),
    "JPEG 2000": (JPEG_2000, 1, jpeg_2000),
    "JPEG 2000 in boxes": (33005, 3, jp2),
    "JPEG XL": (JPEG_XL, 1, jpeg_xl),
    "JPEG XL of DNG": (52546, 3, jpeg_xl),
    "JPEG XR": (JPEG_XR, 1, imagecodecs.jpegxr_encode),
    "JPEG XR of colours": (34934, 3, imagecodecs.jpegxr_encode),
    "PNG": (PNG, 1, imagecodecs.png_encode),
    "WebP": (WEBP, 3, webp),
    "WebP of 2011": (34927, 3, webp),
    "LERC": (LERC, 1, imagecodecs.lerc_encode),
}
"""Compression, samples and encoder."""


def encoded(name: str, *shape: int) -> bytes:
    _, samples, encode = ENCODERS[name]
    return bytes(encode(flat(*shape, *([samples] if samples > 1 else []))))


def holding(name: str, *shape: int) -> Callable[[], bytes]:
    compression, samples, _ = ENCODERS[name]
    return lambda: tiled(encoded(name, *shape), compression, samples=samples)


def swollen_jpeg(before: bytes = b"") -> bytes:
    """Its frame header says 20000 x 20000; `before` stands in front of it."""
    data = bytearray(imagecodecs.jpeg8_encode(flat(64, 64)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 20_000, 20_000)
    return bytes(data[:at]) + before + bytes(data[at:])


def small_frame() -> bytes:
    data = imagecodecs.jpeg8_encode(flat(64, 64))
    at = data.index(b"\xff\xc0")
    return data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]


def many_scans() -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    from PIL import Image as Pillow

    file = io.BytesIO()
    Pillow.fromarray(flat(64, 64)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 500 + data[-2:]


def lerc_bands(n: int) -> bytes:
    """Blobs of 64 x 64 pixels, one after the other."""
    return bytes(imagecodecs.lerc_encode(flat(64, 64))) * n


CODEC_BOMBS: dict[str, Callable[[], bytes]] = {
    **{f"{name}, larger": holding(name, 6000, 6000) for name in ENCODERS},
    "JPEG XL, 8 channels": lambda: tiled(planes_jxl(flat(8, 3000, 3000, dtype="u2")), JPEG_XL),
    "JPEG XL, 9000 frames": lambda: tiled(
        imagecodecs.jpegxl_encode(flat(9000, 64, 64), lossless=True, effort=1), JPEG_XL
    ),
    "JPEG 2000, 200 components": lambda: tiled(jpeg_2000(flat(600, 600, 200)), JPEG_2000),
    "JPEG, swollen": lambda: tiled(swollen_jpeg(), JPEG),
    "JPEG, swollen, in a strip": lambda: in_strip(swollen_jpeg(), JPEG),
    "JPEG, behind garbage": lambda: tiled(swollen_jpeg(b"garbage"), JPEG),
    "JPEG, behind fill bytes": lambda: tiled(swollen_jpeg(b"\xff\xff\xff"), JPEG),
    "JPEG, behind a small frame": lambda: tiled(swollen_jpeg(small_frame()), JPEG),
    "JPEG, many scans": lambda: tiled(many_scans(), JPEG),
    "LERC, 20000 bands": lambda: tiled(lerc_bands(20_000), LERC),
    "LERC in Deflate": lambda: tiled(zeros_deflate(2**30), LERC),
    "LERC in Zstandard": lambda: tiled(zeros_zstd(2**30), LERC),
    "LERC in Deflate, larger": lambda: tiled(
        imagecodecs.lerc_encode(flat(8000, 8000), compression="deflate"), LERC
    ),
}


@dataclass(frozen=True)
class Cost:
    """What opening and reading took."""

    error: str
    """Class and message; empty if there was none."""
    memory_bytes: int
    steps: int


def read(make: tuple[str, str]) -> Generator[Step, None, Cost]:
    """Make a file of this module and read it. In the child."""
    table, name = make
    yield Step("making", HUNG_S)
    data = globals()[table][name]()
    url = "memory://bombs/file.ome.tif" if b"<OME" in data else "memory://bombs/file.tif"
    fsspec.filesystem("memory").pipe_file(url.removeprefix("memory:/"), data)
    del data
    yield Step("reading", HUNG_S)
    memory, steps, error = PeakMemory(), steps_of_this_process(), ""
    begin = steps.so_far()
    with steps.counting():
        try:
            cloudimg.open(url).read()
        except cloudimg.CloudimgError as exc:
            error = f"{type(exc).__name__}: {exc}"
    return Cost(error, memory.bytes(), steps.so_far() - begin)


def costs(table: str) -> dict[str, Cost]:
    """Of each file in a table of this module. The first one warms the child up."""
    names = list(globals()[table])
    items = [(table, name) for name in (names[0], *names)]
    found = {}
    for outcome in each_apart(read, items, n_children=1):
        assert not outcome.trouble, outcome
        found[outcome.item[1]] = outcome.result
    return found


# Codecs


@pytest.mark.slow
def test_codecs_are_measured_before_they_decode() -> None:
    found = costs("CODEC_BOMBS")
    assert set(found) == set(CODEC_BOMBS)
    for name, cost in found.items():
        assert cost.error.startswith("CorruptFileError: segment 0 of page 0 of memory://"), name
        assert cost.memory_bytes < MOST_MEMORY_BYTES, (name, cost)
        assert cost.steps < MOST_STEPS, (name, cost)


def opened(data: bytes) -> cloudimg.Image:
    fsspec.filesystem("memory").pipe_file("/sizes/file.tif", data)
    return cloudimg.open("memory://sizes/file.tif")


@pytest.mark.parametrize("name", ENCODERS)
def test_the_message_has_both_sizes(name: str) -> None:
    with pytest.raises(CorruptFileError, match=r"\b300\b.*\b64\b"):
        opened(holding(name, 300, 300)()).read()


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("wrap", [tiled, in_strip])
@pytest.mark.parametrize("shape", [(32, 128), (128, 32), (64, 32), (32, 64)])
def test_images_of_another_shape_are_refused(
    name: str, wrap: Callable[..., bytes], shape: tuple[int, int]
) -> None:
    """As many pixels in other rows would be another picture."""
    compression, samples, _ = ENCODERS[name]
    with pytest.raises(CorruptFileError, match=r"segment 0 of page 0"):
        opened(wrap(encoded(name, *shape), compression, samples=samples)).read()


@pytest.mark.parametrize(("samples", "stored"), [(1, 3), (3, 1), (4, 3), (3, 4)])
@pytest.mark.parametrize("wrap", [tiled, in_strip])
def test_other_samples_are_refused(samples: int, stored: int, wrap: Callable[..., bytes]) -> None:
    stream = imagecodecs.png_encode(flat(64, 64, stored) if stored > 1 else flat(64, 64))
    with pytest.raises(CorruptFileError, match=r"its PNG declares 64 x 64|missing"):
        opened(wrap(stream, PNG, samples=samples)).read()


def noise(*shape: int) -> Array:
    return np.random.default_rng(3).integers(0, 255, shape, np.uint8)


LOSSLESS: dict[str, tuple[int, int, Encode]] = {
    "JPEG 2000": (JPEG_2000, 1, jpeg_2000),
    "JPEG XL": (JPEG_XL, 3, jpeg_xl),
    "PNG": (PNG, 3, imagecodecs.png_encode),
    "WebP": (WEBP, 3, webp),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_tiles_at_the_edges_may_be_cut(name: str) -> None:
    compression, samples, encode = LOSSLESS[name]
    pixels = noise(40, 50, samples) if samples > 1 else noise(40, 50)
    stream = bytes(encode(pixels))
    tags = page(50, 40, compression, side=64, n_bytes=len(stream), samples=samples)
    assert np.array_equal(opened(build([tags], blob=stream)).read(), pixels)


@pytest.mark.parametrize("name", LOSSLESS)
def test_the_last_strip_may_be_as_high_as_the_others(name: str) -> None:
    compression, samples, encode = LOSSLESS[name]
    pixels = noise(32, 50, samples) if samples > 1 else noise(32, 50)
    streams = [bytes(encode(pixels[:16])), bytes(encode(pixels[16:]))]
    tags = page(50, 20, compression, samples=samples)
    starts = [16, 16 + len(streams[0])]
    tags |= {273: (4, starts), 278: (4, [16]), 279: (4, [len(stream) for stream in streams])}
    assert np.array_equal(opened(build([tags], blob=b"".join(streams))).read(), pixels[:20])


def test_a_mosaic_in_a_lossless_jpeg_of_half_the_width() -> None:
    """DNG 1.6, chapter 3: two columns of a mosaic may be the samples of one pixel."""
    pixels = noise(64, 64)
    pairs = pixels.reshape(64, 32, 2)
    stream = imagecodecs.jpeg8_encode(pairs, lossless=True, predictor=1)
    at = stream.index(b"\xff\xc3")
    assert struct.unpack_from(">HHB", stream, at + 5) == (64, 32, 2)
    assert np.array_equal(opened(tiled(stream, JPEG)).read(), pixels)


def lerc_1(mask: tuple[int, int] = (0, 0), tiles: tuple[int, int] = (1, 1)) -> bytes:
    """LERC 1 of zeros, by the numbers of tiles in its two parts."""
    head = b"CntZImage " + struct.pack("<4id", 11, 8, 64, 64, 0.01)
    parts = struct.pack("<3if", *mask, 0, 1.0) + struct.pack("<3if", *tiles, 1, 0.0)
    return head + parts + b"\x02"


LERC_1 = {
    "good": lerc_1,
    "no rows of tiles": lambda: lerc_1(tiles=(0, 1)),
    "no columns of tiles": lambda: lerc_1(tiles=(1, 0)),
    "negative tiles": lambda: lerc_1(tiles=(-1, 1)),
    "no rows in the mask": lambda: lerc_1(mask=(0, 1)),
    "no columns in the mask": lambda: lerc_1(mask=(1, 0)),
    "several": lambda: lerc_1() * 3,
}


def read_floats(name: str) -> Generator[Step, None, tuple[str, float]]:
    """Read a TIFF of LERC 1. In the child: the decoder divides by zero and crashes."""
    yield Step("reading", HUNG_S)
    stream = LERC_1[name]()
    tags = page(64, 64, LERC, side=64, n_bytes=len(stream))
    tags |= {258: (3, [32]), 339: (3, [3])}
    try:
        return "", float(opened(build([tags], blob=stream)).read().max())
    except cloudimg.CloudimgError as exc:
        return type(exc).__name__, 0


@pytest.mark.slow
def test_lerc_that_crashes_its_decoder() -> None:
    found = {outcome.item: outcome for outcome in each_apart(read_floats, LERC_1)}
    assert not [outcome for outcome in found.values() if outcome.trouble]
    assert found.pop("good").result == ("", 0)
    assert found.pop("several").result[0] == "UnsupportedFormatError"
    assert {outcome.result[0] for outcome in found.values()} == {"CorruptFileError"}


# Chains of IFDs


@dataclass(frozen=True)
class Chain:
    """A chain of IFDs of one page each, whose links can be changed."""

    data: bytearray
    order: str
    is_big: bool

    @classmethod
    def of(cls, n: int, order: Literal["<", ">"] = "<", *, is_big: bool = False) -> Chain:
        file = io.BytesIO()
        with tifffile.TiffWriter(file, byteorder=order, bigtiff=is_big) as writer:
            for i in range(n):
                pixels = np.full((16, 16), i % 256, np.uint8)
                writer.write(pixels, contiguous=False, metadata=None, software="")
        return cls(bytearray(file.getvalue()), order, is_big)

    def starts(self) -> list[int]:
        """Offsets of all IFDs."""
        with tifffile.TiffFile(io.BytesIO(self.data)) as tiff:
            return [page.offset for page in tiff.pages]

    def lead(self, here: int, there: int) -> None:
        """Let the IFD at one offset lead to another offset."""
        count, link = ("Q", "Q") if self.is_big else ("H", "I")
        entry_bytes = 20 if self.is_big else 12
        (n_tags,) = struct.unpack_from(self.order + count, self.data, here)
        at = here + struct.calcsize(f"={count}") + n_tags * entry_bytes
        struct.pack_into(self.order + link, self.data, at, there)


@pytest.mark.parametrize(
    ("n", "back_to"), [(1, 0), (2, 0), (2, 1), (3, 1), (99, 0), (100, 50), (101, 100), (700, 3)]
)
@pytest.mark.parametrize("kind", ["<", ">", "big"])
def test_circular_chains(n: int, back_to: int, kind: str) -> None:
    chain = Chain.of(n, ">" if kind == ">" else "<", is_big=kind == "big")
    starts = chain.starts()
    assert len(starts) == n
    last, following = starts[-1], starts[back_to]
    chain.lead(last, following)
    where = "itself" if last == following else f"the IFD at byte {following}"
    with pytest.raises(CorruptFileError, match=rf"the one at byte {last} leads back to {where}"):
        opened(bytes(chain.data))


def test_a_chain_that_goes_back_but_ends() -> None:
    """Links backward are no loop: writers that change an IFD move it to the end."""
    chain = Chain.of(5)
    starts = chain.starts()
    order = [0, 3, 1, 4, 2]
    for here, there in pairwise(order):
        chain.lead(starts[here], starts[there])
    chain.lead(starts[order[-1]], 0)
    assert opened(bytes(chain.data)).read()[:, 0, 0].tolist() == order


def test_a_page_that_is_its_own_sub_directory() -> None:
    with pytest.raises(CorruptFileError, match=r"page 0 of .*, at byte 272, is its own SubIFD"):
        opened(bombs()["directory that is its own sub-directory"]())


def test_a_circular_chain_that_opening_does_not_follow(tmp_path: Path) -> None:
    """ImageJ's description counts the planes, but the tags of all pages are copied."""
    pixels = noise(3, 16, 16)
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, imagej=True)
    chain = Chain(bytearray(file.getvalue()), "<", False)
    last = chain.starts()[-1]
    chain.lead(last, last)
    source, target = tmp_path / "ring.tif", tmp_path / "ring.zarr"
    source.write_bytes(chain.data)
    steps = steps_of_this_process()
    begin = steps.so_far()
    with steps.counting():
        cloudimg.migrate(source, target)
    assert steps.so_far() - begin < 10 * MOST_STEPS
    assert np.array_equal(cloudimg.imread(source).compute(), pixels)
    assert cloudimg.verify(target).n_cells > 0


# What a header promises


def test_more_segments_than_offsets() -> None:
    """GDAL's `toomanyblocks.tif`: 3.6 billion tiles of one pixel in 158 bytes."""
    tags = page(60_000, 60_000) | {322: (4, [1]), 323: (4, [1]), 324: (4, [8]), 325: (4, [1])}
    del tags[273], tags[278], tags[279]
    data = build([tags])
    assert len(data) < 414
    steps = steps_of_this_process()
    begin = steps.so_far()
    with steps.counting(), pytest.raises(CorruptFileError, match=r"3600000000 tiles .* only 1$"):
        opened(data)
    assert steps.so_far() - begin < MOST_STEPS


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("offset", [0, 8])
def test_more_strips_than_offsets(compression: int, offset: int) -> None:
    tags = page(16, 2**31 - 1, compression) | {278: (4, [1]), 273: (4, [offset] * 2)}
    tags |= {279: (4, [0 if offset == 0 else 16] * 2)}
    with pytest.raises(CorruptFileError, match=r"2147483647 strips .* only 2$"):
        opened(build([tags]))


def test_sparse_files_are_filled(tmp_path: Path) -> None:
    """GDAL writes offsets of 0 for all tiles that it does not store."""
    import rasterio

    path = tmp_path / "sparse.tif"
    shape = {"width": 4096, "height": 4096, "count": 1, "dtype": "uint8"}
    place = rasterio.Affine(2, 0, 0, 0, -2, 0)
    options: dict[str, Any] = {"tiled": True, "SPARSE_OK": True, "compress": "deflate"}
    expected = np.zeros((4096, 4096), np.uint8)
    expected[300:340, 900:990] = noise(40, 90)
    with rasterio.open(path, "w", driver="GTiff", transform=place, **shape, **options) as file:
        file.write(expected[300:340, 900:990], 1, window=((300, 340), (900, 990)))
    assert path.stat().st_size < 30_000
    assert np.array_equal(cloudimg.imread(path).compute(), expected)


@pytest.mark.parametrize("name", ["tile not stored", "strip not stored"])
def test_fill_is_bounded_like_pixels(name: str) -> None:
    image = opened(bombs()[name]())
    with pytest.raises(LimitError, match=r"that is not stored has .* CLOUDIMG_MAX_SEGMENT_BYTES"):
        image.read((slice(0, 4), slice(0, 4)))


def test_samples_without_end() -> None:
    with pytest.raises(CorruptFileError, match="'samplesperpixel': 2147483647"):
        opened(bombs()["2 G samples"]())


def described(text: str) -> Callable[[], bytes]:
    pages = [page(16, 16, n_bytes=256) for _ in range(2)]
    pages[0] |= {270: (2, text.encode() + b"\0")}
    return lambda: build(pages, blob=bytes(256))


OME_BOMBS = {
    "few": described(ome(1, 2, "<TiffData/>")),
    "ranges of pages": described(ome(1, 2, "<TiffData/>" * 300_000)),
    "2.8 million ranges": described(ome(1, 2, "<TiffData/>" * 2_800_000)),
    "ranges of other files": described(ome(1, 2, "<TiffData><UUID/></TiffData>" * 500_000)),
    "elements": described(ome(1, 2, "<TiffData/>" + "<a/>" * 7_000_000)),
    "attributes": described(ome(1, 2, "<TiffData " + 'IFD="1" ' * 3_000_000 + "/>")),
}


@pytest.mark.slow
def test_ome_xml_of_countless_elements() -> None:
    found = costs("OME_BOMBS")
    assert not found.pop("few").error
    text_bytes = 32 * 2**20
    for name, cost in found.items():
        assert "file.ome.tif" in cost.error or not cost.error, name
        assert cost.memory_bytes < 10 * text_bytes, (name, cost)
        assert cost.steps < 10 * MOST_STEPS, (name, cost)
    for name in ("ranges of pages", "2.8 million ranges", "ranges of other files", "elements"):
        assert found[name].error.startswith("LimitError: the OME-XML of memory://"), found[name]
    assert "300000 ranges" in found["ranges of pages"].error


def test_a_stopped_acquisition_may_plan_more_than_fits() -> None:
    """Few planes need not fit: the file would have grown."""
    ranges = "".join(f'<TiffData IFD="{i}" FirstT="{i}" PlaneCount="1"/>' for i in range(3000))
    data = described(ome(1, 3000, ranges))()
    fsspec.filesystem("memory").pipe_file("/sizes/file.ome.tif", data)
    image = cloudimg.open("memory://sizes/file.ome.tif", missing="fill")
    assert image.shape == (3000, 16, 16)


# Files of the corpus


def hostile(corpus: Path) -> list[Path]:
    """Files that tifffile cannot read, and the reports."""
    import csv

    with (corpus / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["tifffile_status"].startswith("ok")]
    found = [corpus / "files" / row["path"] for row in rows]
    return found + sorted((corpus / "reports" / "hostile").glob("*"))


def copy(path: Path) -> Generator[Step, None, tuple[int, int]]:
    """Read every image of a file, then migrate it. In the child."""
    import tempfile

    yield Step("copying", HUNG_S)
    memory, steps = PeakMemory(), steps_of_this_process()
    begin = steps.so_far()
    with steps.counting(), tempfile.TemporaryDirectory() as folder:
        try:
            image = cloudimg.open(path)
            image.read(tuple(slice(0, 512) for _ in image.shape))
            if np.prod([float(n) for n in image.shape]) < 2**28:
                cloudimg.migrate(path, f"{folder}/copy.zarr", max_mem=2**28)
        except cloudimg.CloudimgError:
            pass
    return memory.bytes(), steps.so_far() - begin


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hostile_files_of_the_corpus(corpus: Path) -> None:
    paths = hostile(corpus)
    assert len(paths) > 50
    for outcome in each_apart(copy, paths):
        assert not outcome.trouble, outcome
        memory_bytes, steps = outcome.result
        assert memory_bytes < 700 * 10**6, outcome
        assert steps < 10 * MOST_STEPS, outcome
