"""Files of thousands of pages: the cost of opening them, and that prefetching changes no pixels."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cloudimg
from cloudimg.tiff import SparseFile
from cloudimg.tiff.anchors import AnchoredWalk
from cloudimg.tiff.ifd import Dialect, PartialFile, read_dialect
from tests.support import seed
from tests.support.flavours import (
    PARTS,
    RATIONAL,
    SHORT,
    Assembled,
    Block,
    Picture,
    StampedDeflate,
    Tag,
    ascii_tag,
    assemble,
    picture,
)
from tests.support.metering import Meter, Traffic

Array = npt.NDArray[Any]

N_PAGES = 10_000
SIZE = 128
LATENCY_MS = 200
"""Longer than two busy cores need to send 512 requests: a request logged this much later than
another depended on it."""
MOST_TRIPS = 40
MOST_OF_HEADERS = 3
MOST_OF_FILE = 0.05


def report(what: str, traffic: Traffic, file: Assembled) -> None:
    """Print the figures, for `pytest -rP`."""
    print(
        f"{what}: {len(traffic.requests)} requests, {traffic.round_trips} in sequence,"
        f" {traffic.max_concurrent} at once, {traffic.bytes_sent} bytes,"
        f" {traffic.bytes_sent / file.header_bytes:.2f} times the IFDs,"
        f" {traffic.bytes_sent / len(file.data):.2%} of the file"
    )


def opened(meter: Meter, bucket: str, **options: Any) -> cloudimg.Image:
    url = f"s3://{bucket}/stack.tif"
    return cloudimg.open(url, storage_options=meter.storage_options, **options)


def measured(
    meter: Meter, bucket: str, what: str, file: Assembled, *, latency_ms: float = LATENCY_MS
) -> tuple[cloudimg.Image, Traffic]:
    """The image, and the traffic of opening it.

    On a busy machine the requests of one round do not all start before the first ends, and count as
    rounds. With a longer latency they do; rounds that wait for one another remain.
    """
    meter.put(bucket, "stack.tif", file.data)
    for longer in (1, 4):
        meter.latency(longer * latency_ms)
        with meter.measure() as traffic:
            image = opened(meter, bucket)
        meter.latency(0)
        report(what, traffic, file)
        if traffic.round_trips <= MOST_TRIPS:
            break
    return image, traffic


def tags(i: int, description: str = "") -> dict[str, Any]:
    """Tags that writers add to each page, two of them with values outside the IFD."""
    resolution = Tag(RATIONAL, (1000, 65))
    more: dict[str, Any] = {"t282": resolution, "t283": resolution, "t296": Tag(SHORT, (1,))}
    if description and i == 0:
        more["t270"] = ascii_tag(description)
    return more


def ome(n_pages: int, size: int) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="{size}"'
        f' SizeY="{size}" SizeC="1" SizeZ="1" SizeT="{n_pages}">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        f'<TiffData IFD="0" PlaneCount="{n_pages}"/></Pixels></Image></OME>'
    )


def numbered(n_pages: int, size: int) -> Array:
    """Pages that differ from each other everywhere, and from row to row."""
    base = np.arange(size * size, dtype=np.uint16).reshape(size, size) * np.uint16(40_503)
    return base + np.arange(n_pages, dtype=np.uint16)[:, None, None] * np.uint16(977)


def plain_pictures(pixels: Array, description: str = "") -> list[Picture]:
    return [picture(page, **tags(i, description)) for i, page in enumerate(pixels)]


@pytest.fixture(scope="module")
def deflated() -> StampedDeflate:
    """Increasing noise: each 32 KB compress to between 20 and 23 KB."""
    rng = np.random.default_rng(0)
    spreads = np.linspace(30, 70, 200)
    return StampedDeflate([rng.normal(1000, s, (SIZE, SIZE)).astype(np.uint16) for s in spreads])


def drifting(n_pages: int) -> npt.NDArray[np.int64]:
    """Which of 200 bodies each page has: sizes drift over the file and differ by percents."""
    jitter = np.random.default_rng(1).integers(0, 15, n_pages)
    return (np.arange(n_pages) * 185 // n_pages + jitter).astype(np.int64)


def deflated_pictures(made: StampedDeflate, n_pages: int, description: str = "") -> list[Picture]:
    return [
        picture(made.pixels(body, i), [made.segment(body, i)], t259=8, **tags(i, description))
        for i, body in enumerate(drifting(n_pages).tolist())
    ]


# 10,000 scattered pages


def check_every_plane(image: cloudimg.Image, expected: Callable[[int], Array]) -> None:
    """Compare all pixels; an offset that is wrong by a page changes each of them."""
    n_pages = image.shape[0]
    for start in range(0, n_pages, 1000):
        got = image.read((slice(start, start + 1000),))
        for i, page in enumerate(got, start):
            if not np.array_equal(page, expected(i)):
                raise AssertionError(f"page {i} is wrong")


def check_one_plane_is_one_request(
    meter: Meter, image: cloudimg.Image, number: int, expected: Array
) -> None:
    meter.latency(20)
    with meter.measure() as traffic:
        got = image.read((number,))
    meter.latency(0)
    np.testing.assert_array_equal(got, expected)
    assert len(traffic.requests) == traffic.gets == traffic.round_trips == 1


def check_like_tifffile(image: cloudimg.Image, data: bytes, count: int = 50) -> None:
    """Compare random planes with an independent reader that walks the chain."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        pages = tiff.pages
        assert len(pages) == image.shape[0]
        chosen = np.random.default_rng(2).choice(len(pages), min(count, len(pages)), False)
        for i in chosen.tolist():
            np.testing.assert_array_equal(image.read((i,)), pages[i].asarray())


@pytest.mark.slow
@pytest.mark.parametrize(("big", "is_ome"), [(False, False), (True, True)])
def test_ten_thousand_uncompressed_pages(
    meter: Meter, bucket: str, big: bool, is_ome: bool
) -> None:
    """Equal distances. Latency dominates, so the count is the number of dependent rounds."""
    pixels = numbered(N_PAGES, 112)
    file = assemble(plain_pictures(pixels, ome(N_PAGES, 112) if is_ome else ""), big=big)
    image, traffic = measured(meter, bucket, f"uncompressed, ome={is_ome}", file)
    assert image.dims == (("t" if is_ome else "page"), "y", "x")
    assert image.shape == pixels.shape
    assert traffic.round_trips <= MOST_TRIPS
    assert traffic.max_concurrent >= 256
    assert traffic.bytes_sent <= MOST_OF_HEADERS * file.header_bytes
    check_one_plane_is_one_request(meter, image, 7000, pixels[7000])
    check_every_plane(image, lambda i: pixels[i])
    check_like_tifffile(image, file.data)


@pytest.mark.slow
@pytest.mark.parametrize(("big", "is_ome"), [(False, True), (True, False)])
def test_ten_thousand_deflated_pages(
    meter: Meter, bucket: str, deflated: StampedDeflate, big: bool, is_ome: bool
) -> None:
    """All distances differ. Latency dominates, as in the test above."""
    pictures = deflated_pictures(deflated, N_PAGES, ome(N_PAGES, SIZE) if is_ome else "")
    file = assemble(pictures, big=big)
    # Each trip brings a few requests of many ranges: they take longer to plan than above.
    image, traffic = measured(
        meter, bucket, f"deflated, ome={is_ome}", file, latency_ms=2 * LATENCY_MS
    )
    assert image.dims == (("t" if is_ome else "page"), "y", "x")
    assert image.shape == (N_PAGES, SIZE, SIZE)
    assert traffic.round_trips <= MOST_TRIPS
    assert traffic.max_concurrent >= 256
    assert traffic.bytes_sent <= MOST_OF_FILE * len(file.data)
    bodies = drifting(N_PAGES).tolist()
    check_one_plane_is_one_request(meter, image, 7000, deflated.pixels(bodies[7000], 7000))
    check_every_plane(image, lambda i: deflated.pixels(bodies[i], i))
    check_like_tifffile(image, file.data)


@pytest.mark.slow
@pytest.mark.parametrize("is_backward", [False, True])
def test_ten_thousand_small_pages(meter: Meter, bucket: str, is_backward: bool) -> None:
    """Requests for what lies between the IFDs, too, are far fewer, and take less time."""
    rng = np.random.default_rng(3)
    made = StampedDeflate([rng.normal(1000, s, (48, 48)).astype(np.uint16) for s in range(30, 70)])
    bodies = (np.arange(N_PAGES) * 7 % 40).tolist()
    pictures = [
        picture(made.pixels(body, i), [made.segment(body, i)], t259=8, **tags(i))
        for i, body in enumerate(bodies)
    ]
    order = range(N_PAGES - 1, -1, -1) if is_backward else range(N_PAGES)
    file = assemble(pictures, blocks=[(i, part) for i in order for part in PARTS])
    image, traffic = measured(meter, bucket, f"small pages, {is_backward=}", file, latency_ms=20)
    assert image.shape == (N_PAGES, 48, 48)
    assert len(traffic.requests) <= 60
    assert traffic.bytes_sent <= 1.02 * len(file.data)
    check_one_plane_is_one_request(meter, image, 7000, made.pixels(bodies[7000], 7000))
    check_every_plane(image, lambda i: made.pixels(bodies[i], i))
    check_like_tifffile(image, file.data)


@pytest.mark.slow
@pytest.mark.parametrize("is_backward", [False, True])
@pytest.mark.parametrize("kind", ["even", "few large", "any size", "in groups"])
def test_pages_of_wildly_varying_sizes(
    meter: Meter, bucket: str, kind: str, is_backward: bool
) -> None:
    """Above what is fetched whole. A walk from page to page would take a round trip for each."""
    n_pages = 1000
    rng, pixels = np.random.default_rng(4), numbered(n_pages, 16)
    sizes = {
        "even": np.full(n_pages, 25_000),
        "few large": np.where(
            rng.random(n_pages) < 0.03, 2_000_000, rng.integers(20_000, 40_000, n_pages)
        ),
        "any size": rng.integers(0, 200_000, n_pages),
        "in groups": np.where(
            np.arange(n_pages) // 200 % 2,
            rng.integers(100_000, 300_000, n_pages),
            rng.integers(0, 300, n_pages),
        ),
    }
    order = range(n_pages - 1, -1, -1) if is_backward else range(n_pages)
    file = assemble(
        spaced(pixels, sizes[kind].tolist()), blocks=[(i, part) for i in order for part in PARTS]
    )
    image, count = trips(meter, bucket, f"{kind}, {is_backward=}", file)
    np.testing.assert_array_equal(image.read(), pixels)
    assert count <= 2 * MOST_TRIPS


def test_what_lies_between_pages_is_no_part_of_the_header() -> None:
    """It is read with them where they are close, and neither held nor counted."""
    rng = np.random.default_rng(3)
    gaps = (10 ** rng.uniform(2, 6, 3000)).astype(int)
    fields = [(256, 10), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1)]
    fields += [(279, 10)]
    entries = struct.pack("<H", len(fields))
    entries += b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in fields)
    length = len(entries) + 4
    starts = 8 + np.cumsum(gaps) + length * np.arange(len(gaps))
    ifds = [entries + struct.pack("<I", following) for following in [*starts[1:].tolist(), 0]]
    size = int(starts[-1]) + length
    held = []

    def fetch(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, bytes]]:
        held.append(file.held_bytes)
        found = []
        for start, stop in ranges:
            data = bytearray(stop - start)
            first, last = np.searchsorted(starts, (start - length, stop))
            for i in range(int(first), int(last)):
                at = int(starts[i]) - start
                part = ifds[i][max(0, -at) : max(0, len(data) - at)]
                data[max(0, at) : max(0, at) + len(part)] = part
            found.append((start, bytes(data)))
        return found

    file = SparseFile(size, fetch, in_flight=256, limit_bytes=40_000_000, url="a.tif")
    file.add(0, b"II*\0" + struct.pack("<I", int(starts[0])) + bytes(24))
    tiff = tifffile.TiffFile(file)  # type: ignore[arg-type]
    assert len(tiff.pages) == len(gaps)
    assert file.fetched_bytes < 0.4 * size
    assert max(held) < 40_000_000
    assert len(held) < 100


def test_a_file_made_of_beginnings_of_ifds() -> None:
    """Not all of them are looked at: each says how many tags follow."""
    tags = [(256 + i, 4, 1, 10) for i in range(200)]
    entries = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    length = len(entries) + 4
    starts = [100 + 400_000 * i + 30_000 * (i * i % 7) for i in range(30)]
    size = 32 * 2**20
    file_bytes = bytearray((entries[:10] * (size // 10 + 1))[:size])
    file_bytes[:8] = b"II*\0" + struct.pack("<I", starts[0])
    for start, following in zip(starts, [*starts[1:], size - 100], strict=True):
        file_bytes[start : start + length] = entries + struct.pack("<I", following)
    n_read = 0

    def have(start: int, stop: int) -> memoryview | None:
        nonlocal n_read
        n_read += stop - start
        return memoryview(file_bytes)[start:stop] if stop <= size else None

    dialect, first = read_dialect(bytes(file_bytes[:16])) or (Dialect("<", False), 0)
    file = PartialFile(have, dialect, size, 256)
    chain = [ifd for start in starts[:20] if (ifd := file.ifd(start)) is not None]
    assert chain[0].start_bytes == first
    assert len(chain) == 20
    n_read = 0
    for _ in AnchoredWalk(file, chain, lambda *_: None).rounds():
        pass
    assert n_read < size


# Stacks whose pixels follow one another


def contiguous(kind: str, pixels: Array) -> bytes:
    options: dict[str, Any] = {
        "imagej": {"imagej": True, "metadata": {"axes": "TYX"}},
        "shaped": {},
        "plain": {"metadata": None},
        "one directory": {"imagej": True, "metadata": {"axes": "TYX"}, "truncate": True},
    }
    if kind != "plain":
        return seed.encode(pixels, **options[kind])
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page in pixels:
            writer.write(page, photometric="minisblack", contiguous=True, metadata=None)
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "most_requests"), [("imagej", 2), ("shaped", 12), ("one directory", 1), ("plain", 12)]
)
def test_a_contiguous_stack_needs_few_requests(
    meter: Meter, bucket: str, kind: str, most_requests: int
) -> None:
    """ImageJ stores the number of planes in the first IFD.

    Other IFDs are read in growing windows, because the chain is contiguous.
    """
    pixels = numbered(5000, 48)
    file = Assembled(contiguous(kind, pixels), 5000 * 200)
    image, traffic = measured(meter, bucket, f"contiguous, {kind}", file, latency_ms=20)
    assert image.shape == pixels.shape
    assert len(traffic.requests) <= most_requests
    check_one_plane_is_one_request(meter, image, 3500, pixels[3500])
    np.testing.assert_array_equal(image.read(), pixels)


# Chains that are less regular


def trips(meter: Meter, bucket: str, what: str, file: Assembled) -> tuple[cloudimg.Image, int]:
    image, traffic = measured(meter, bucket, what, file, latency_ms=40)
    return image, traffic.round_trips


def spaced(pixels: Array, gaps: Sequence[int]) -> list[Picture]:
    """Uncompressed pages with gaps between them."""
    return [
        picture(page, **tags(i)).padded(gap)
        for i, (page, gap) in enumerate(zip(pixels, gaps, strict=True))
    ]


@pytest.mark.slow
def test_distances_that_double_half_way(meter: Meter, bucket: str) -> None:
    pixels = numbered(1200, 64)
    gaps = [0] * 600 + [64 * 64 * 2] * 600
    image, count = trips(meter, bucket, "doubled distances", assemble(spaced(pixels, gaps)))
    np.testing.assert_array_equal(image.read(), pixels)
    assert count <= MOST_TRIPS


@pytest.mark.slow
def test_pages_that_double_half_way_are_two_images(meter: Meter, bucket: str) -> None:
    small, large = numbered(600, 48), numbered(600, 96)
    file = assemble(plain_pictures(small) + plain_pictures(large))
    _, count = trips(meter, bucket, "doubled pages", file)
    assert count <= MOST_TRIPS
    for series, expected in enumerate((small, large)):
        np.testing.assert_array_equal(opened(meter, bucket, series=series).read(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("compressed", [False, True])
def test_full_pages_and_thumbnails_alternate(meter: Meter, bucket: str, compressed: bool) -> None:
    """As in LSM files. Compressed pages all differ in length."""
    full, reduced = numbered(800, 160), numbered(800, 20)
    pictures = []
    for i, pair in enumerate(zip(full, reduced, strict=True)):
        for kind, page in enumerate(pair):
            gap = i * 7919 % 3001 if compressed and not kind else 0
            pictures.append(picture(page, **tags(i), t254=kind).padded(gap))
    image, count = trips(meter, bucket, f"thumbnails, {compressed=}", assemble(pictures))
    np.testing.assert_array_equal(image.read(), full)
    np.testing.assert_array_equal(opened(meter, bucket, series=1).read(), reduced)
    assert count <= (2 if compressed else 1) * MOST_TRIPS


@pytest.mark.parametrize("first_of_file", [1, 200])
def test_a_chain_that_jumps_back(meter: Meter, bucket: str, first_of_file: int) -> None:
    """The first page is stored last, as after libtiff rewrote its IFD, or half of the pages are."""
    pixels = numbered(400, 64)
    pages = [*range(first_of_file, 400), *range(first_of_file)]
    blocks: list[Block] = [(i, part) for i in pages for part in PARTS]
    file = assemble(plain_pictures(pixels), blocks=blocks)
    image, count = trips(meter, bucket, f"page {first_of_file} comes first", file)
    np.testing.assert_array_equal(image.read(), pixels)
    assert count <= MOST_TRIPS


@pytest.mark.slow
def test_pages_of_many_strips(meter: Meter, bucket: str) -> None:
    """Offsets and byte counts are stored outside the IFDs, and distances differ."""
    pixels = numbered(1500, 160)
    pictures = [
        picture(page, [two.tobytes() for two in page.reshape(80, 2, 160)], t278=2, **tags(i))
        for i, page in enumerate(pixels)
    ]
    gaps = [i * 7919 % 400 for i in range(1500)]
    file = assemble([p.padded(gap) for p, gap in zip(pictures, gaps, strict=True)])
    image, count = trips(meter, bucket, "many strips", file)
    np.testing.assert_array_equal(image.read(), pixels)
    check_like_tifffile(image, file.data)
    assert count <= 1.5 * MOST_TRIPS  # IFDs take most of what may be fetched


@pytest.mark.parametrize(
    ("size", "uneven", "most"), [(112, 0, 0.1), (64, 0, 1.02), (64, 1500, 1.02)]
)
def test_pixels_that_look_like_ifds(
    meter: Meter, bucket: str, size: int, uneven: int, most: float
) -> None:
    """IFDs of the file, copied into its pixels, mislead the search."""
    pixels = numbered(800, size)
    gaps = [i * 7919 % uneven if uneven else 0 for i in range(800)]
    first = assemble(spaced(pixels, gaps))
    with tifffile.TiffFile(io.BytesIO(first.data)) as tiff:
        starts = [page.offset for page in tiff.pages]
    length = pixels[0].nbytes
    rng = np.random.default_rng(5)
    for page in pixels:
        bait = b"".join(first.data[s : s + 200] for s in rng.choice(starts, 8).tolist())
        at = 2 * int(rng.integers(0, (length - len(bait)) // 2))
        page.reshape(-1).view(np.uint8)[at : at + len(bait)] = np.frombuffer(bait, np.uint8)
    file = assemble(spaced(pixels, gaps))
    image, traffic = measured(meter, bucket, f"bait, gaps to {uneven}", file, latency_ms=0)
    np.testing.assert_array_equal(image.read(), pixels)
    check_like_tifffile(image, file.data)
    # A file of small pages is fetched whole, and once.
    assert traffic.bytes_sent <= most * len(file.data)


def test_pyramids_of_sub_ifds(meter: Meter, bucket: str) -> None:
    """Three channels of five levels each."""
    base = numbered(3, 1024)
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=True, ome=True) as writer:
        options: dict[str, Any] = {"tile": (128, 128), "photometric": "minisblack"}
        writer.write(base, subifds=4, metadata={"axes": "CYX"}, compression="zlib", **options)
        for k in range(1, 5):
            writer.write(base[:, :: 2**k, :: 2**k], subfiletype=1, compression="zlib", **options)
    data = file.getvalue()
    image, count = trips(meter, bucket, "3 channels x 5 levels", Assembled(data, 15 * 300))
    assert len(image.levels) == 5
    for k in range(5):
        np.testing.assert_array_equal(image.read(level=k), base[:, :: 2**k, :: 2**k])
    assert count <= 8


@pytest.mark.slow
@pytest.mark.parametrize("even", [True, False])
def test_a_store_that_fails_now_and_then(meter: Meter, bucket: str, even: bool) -> None:
    pixels = numbered(700, 112)
    gaps = [0 if even else i * 7919 % 900 for i in range(700)]
    meter.put(bucket, "stack.tif", assemble(spaced(pixels, gaps)).data)
    meter.faults([{"match": "^GET .*stack", "status": 503, "probability": 0.05}])
    with meter.measure() as traffic:
        image = opened(meter, bucket)
        assert image.shape == pixels.shape
    failed = sum(request.status == 503 for request in traffic.requests)
    print(f"{failed} of {len(traffic.requests)} requests failed")
    assert failed > 10
    np.testing.assert_array_equal(image.read(), pixels)


# Any chain


@st.composite
def chains(draw: st.DrawFn) -> tuple[Array, bytes]:
    """Pages of random numbers of strips, their parts anywhere in the file, linked in order."""
    n_pages = draw(st.integers(20, 200))
    size = draw(st.sampled_from([8, 24, 64]))
    n_strips = draw(st.sampled_from([1, 2, 4]))
    order, big = draw(st.sampled_from("<>")), draw(st.booleans())
    gap = draw(st.sampled_from([0, 300, 20_000]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    pixels = numbered(n_pages, size).astype(f"{order}u2")
    rows = size // n_strips
    pictures = [
        picture(
            page,
            [page[k : k + rows].tobytes() for k in range(0, size, rows)],
            t278=rows,
            **tags(i, "the first page has a description" if rng.random() < 0.5 else ""),
        ).padded(int(rng.integers(0, gap + 1)))
        for i, page in enumerate(pixels)
    ]
    file = assemble(pictures, order=order, big=big, blocks=draw(arrangements(n_pages, rng)))
    return pixels.astype(np.uint16), file.data


@st.composite
def arrangements(draw: st.DrawFn, n_pages: int, rng: np.random.Generator) -> list[Block]:
    """Orders of the parts of a file: as written, or disturbed."""
    kind = draw(st.sampled_from(["pages", "ends", "swapped", "shuffled pages", "shuffled parts"]))
    pages = np.arange(n_pages)
    if kind == "swapped":
        for i in rng.integers(0, n_pages - 1, draw(st.integers(1, 10))).tolist():
            pages[[i, i + 1]] = pages[[i + 1, i]]
    elif kind == "shuffled pages":
        rng.shuffle(pages)
    parts = draw(st.permutations(PARTS))
    blocks: list[Block] = [(i, part) for i in pages.tolist() for part in parts]
    if kind == "ends":  # the pixels, then all IFDs
        blocks.sort(key=lambda block: block[1] != "pixels")
    elif kind == "shuffled parts":
        blocks = [blocks[k] for k in rng.permutation(len(blocks)).tolist()]
    return blocks


@pytest.mark.slow
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=chains(), chosen=st.lists(st.floats(0, 1, exclude_max=True), min_size=3, max_size=3))
def test_any_chain_reads_as_tifffile_reads_it(
    meter: Meter, bucket: str, drawn: tuple[Array, bytes], chosen: list[float]
) -> None:
    pixels, data = drawn
    meter.put(bucket, "stack.tif", data)
    image = opened(meter, bucket)
    assert image.shape == pixels.shape
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        for i in (int(part * len(pixels)) for part in chosen):
            expected = tiff.pages[i].asarray()
            np.testing.assert_array_equal(expected, pixels[i])
            np.testing.assert_array_equal(image.read((i,)), expected)
    np.testing.assert_array_equal(image.read(), pixels)
