"""Files of which pages are missing, and what tifffile logs: errors and notes with the numbers.

Nothing here may come as fewer pages without a word. The pixels that are read are compared with
those that were written.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

import cloudimg
from cloudimg.errors import CorruptFileError, FormatError
from tests.support.flavours import (
    ASCII,
    LONG,
    RATIONAL,
    Block,
    Picture,
    Tag,
    ascii_tag,
    assemble,
    picture,
    scanimage_file,
)
from tests.support.mutations import Tiff

Array = npt.NDArray[Any]

SHAPE = (20, 30)
PLANE_BYTES = 20 * 30 * 2
PLANES = np.random.default_rng(5).integers(1, 65536, (12, *SHAPE), dtype=np.uint16)
Open = Callable[[bytes], cloudimg.Image]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    def open_it(data: bytes) -> cloudimg.Image:
        (tmp_path / "file.tif").write_bytes(data)
        return cloudimg.open(tmp_path / "file.tif")

    return open_it


def check(image: cloudimg.Image, planes: Array) -> None:
    """Compare all planes, whatever the axes before y and x."""
    np.testing.assert_array_equal(image.read().reshape(-1, *SHAPE), planes)


def kinds(image: cloudimg.Image) -> list[str]:
    return [note.kind for note in image.notes]


def message(opened: Open, data: bytes) -> str:
    """The message of the error on opening."""
    with pytest.raises(CorruptFileError, match=r"file\.tif") as caught:
        opened(data)
    return str(caught.value)


def numbers(text: str) -> set[int]:
    return {int(number) for number in re.findall(r"\d+", text)}


def pictures(**first: Any) -> list[Picture]:
    return [picture(plane, **(first if i == 0 else {})) for i, plane in enumerate(PLANES)]


def chain(n: int = 12, **options: Any) -> bytes:
    """Pages with an IFD in front of the pixels of each."""
    return assemble(pictures()[:n], **options).data


def libtiff_order(n: int = 12) -> list[Block]:
    """Pixels first, then the directory of each page."""
    return [(i, part) for i in range(n) for part in ("pixels", "directory", "values")]


# The chain of IFDs


@pytest.mark.parametrize("order", ["directories first", "pixels first"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("percent", [8, 20, 33, 50, 75, 90, 99])
def test_a_file_cut_anywhere(opened: Open, order: str, big: bool, percent: int) -> None:
    data = chain(big=big, blocks=libtiff_order() if order == "pixels first" else None)
    check(opened(data), PLANES)
    with pytest.raises(CorruptFileError, match=r"file\.tif"):
        opened(data[: len(data) * percent // 100]).read()


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_the_error_names_pages_target_and_size(opened: Open, byteorder: str) -> None:
    data = chain(order=byteorder)
    links = Tiff.of(data).directories
    cut = data[: links[7].at - 100]
    text = message(opened, cut)
    assert {7, links[7].at, len(cut)} <= numbers(text)
    assert "copy the file again" in text


@pytest.mark.parametrize("n_pages", [1, 2, 6, 11])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_links_beyond_the_end(opened: Open, n_pages: int, compression: str | None) -> None:
    tiff = Tiff.of(written(compression))
    target = len(tiff.data) + 5000
    tiff.put(tiff.directories[n_pages - 1].next_at, "I", target)
    assert {n_pages, target, len(tiff.data)} <= numbers(message(opened, bytes(tiff.data)))


@pytest.mark.parametrize("n_pages", [1, 2, 6, 11])
@pytest.mark.parametrize("hole", [bytes(1000), b"\xab\xcd" * 500], ids=["zeros", "garbage"])
def test_links_into_what_is_no_page(opened: Open, n_pages: int, hole: bytes) -> None:
    tiff = Tiff.of(written("zlib"))
    target = len(tiff.data)
    tiff.put(tiff.directories[n_pages - 1].next_at, "I", target)
    tiff.data += hole
    assert {n_pages, target, len(tiff.data)} <= numbers(message(opened, bytes(tiff.data)))


def written(compression: str | None, **options: Any) -> bytes:
    """Pages one by one without metadata."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for plane in PLANES:
            writer.write(plane, compression=compression, contiguous=False, metadata=None, **options)
    return file.getvalue()


@pytest.mark.parametrize("n_pages", [1, 12])
@pytest.mark.parametrize("target", ["pixels", "all bits set"])
def test_an_arbitrary_number_after_the_last_page(opened: Open, n_pages: int, target: str) -> None:
    """Some writers do so, and no page is missing: a note."""
    tiff = Tiff.of(chain(n_pages))
    first = tiff.find(tiff.directories[0], 273)
    assert first is not None
    value = tiff.get(tiff.value_at(first), "I") + 100 if target == "pixels" else 2**32 - 1
    tiff.put(tiff.directories[-1].next_at, "I", value)
    image = opened(bytes(tiff.data))
    check(image, PLANES[:n_pages])
    (note,) = image.notes
    assert note.kind == "broken-chain"
    assert {n_pages, value} <= numbers(note)


def test_an_only_ifd_without_a_link(opened: Open) -> None:
    """Such as TwelveMonkeys' ``noeof.tif``; tifffile takes the end of a tag for the link."""
    data = assemble(pictures()[:1], blocks=[(0, "pixels"), (0, "values"), (0, "directory")]).data
    image = opened(data[:-4])
    check(image, PLANES[:1])
    assert kinds(image) == ["end-of-chain"]
    for missing in (1, 3):
        assert "ends at byte" in message(opened, data[:-missing])


def test_an_empty_ifd_at_the_end_is_no_page(opened: Open) -> None:
    """FIB-SEMs of FIBICS end their files so."""
    tiff = Tiff.of(chain(3))
    tiff.put(tiff.directories[-1].next_at, "I", len(tiff.data))
    check(opened(bytes(tiff.data) + bytes(6)), PLANES[:3])


def test_a_file_without_its_first_ifd(opened: Open) -> None:
    data = assemble(pictures()[:3], blocks=[*libtiff_order(3)]).data
    for size in (8, 200, 3 * PLANE_BYTES // 2):
        if size < Tiff.of(data).directories[0].at:
            assert "file.tif" in message(opened, data[:size])


def test_a_long_chain_that_breaks(opened: Open) -> None:
    """A chain of more pages than tifffile looks at to see whether they are alike."""
    small = [picture(np.full((4, 8), i, np.uint16)) for i in range(300)]
    data = assemble(small).data
    assert opened(data).shape == (300, 4, 8)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        links = [page.offset + 2 + 12 * len(page.aspage().tags) for page in tiff.pages]
    for n in (9, 99, 100, 101, 299):
        broken = bytearray(data)
        struct.pack_into("<L", broken, links[n - 1], len(data))
        assert n in numbers(message(opened, bytes(broken)))


# Bytes and SubIFDs that are in no image


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("n_pages", [1, 4, 11])
def test_a_chain_that_ends_too_early(opened: Open, compression: str | None, n_pages: int) -> None:
    """The link is 0, as after the last page; only the rest of the file tells."""
    data = written(compression)
    assert opened(data).notes == ()
    tiff = Tiff.of(data)
    tiff.put(tiff.directories[n_pages - 1].next_at, "I", 0)
    image = opened(bytes(tiff.data))
    check(image, PLANES[:n_pages])
    (note,) = image.notes
    assert note.kind == "unread-bytes"
    assert {n_pages, len(data)} <= numbers(note)


def test_pixels_without_an_ifd(opened: Open) -> None:
    """A writer that was interrupted before it could write the IFD of the page."""
    image = opened(written(None) + PLANES[0].tobytes())
    check(image, PLANES)
    assert kinds(image) == ["unread-bytes"]


@pytest.mark.parametrize("big", [False, True])
def test_subifds_that_are_cut_off(opened: Open, big: bool) -> None:
    """The image is whole, and smaller levels are missing."""
    pages = [
        replace(page, subs=(picture(plane[::2, ::2]), picture(plane[::4, ::4])))
        for page, plane in zip(pictures()[:2], PLANES, strict=False)
    ]
    data = assemble(pages, big=big).data
    assert len(opened(data).levels) == 3
    cut = data[:-700]
    image = opened(cut)
    check(image, PLANES[:2])
    assert "unread-subifds" in kinds(image)
    (note,) = (note for note in image.notes if note.kind == "unread-subifds")
    assert 4 in numbers(note)


# ImageJ


def imagej(text: str, n: int = 12, tail: bytes = b"") -> bytes:
    """ImageJ's stacks of more than 4 GiB, in small: one directory, then all planes."""
    page = picture(PLANES[0], t270=ascii_tag(f"ImageJ=1.53t\n{text}"))
    return assemble([page]).data + PLANES[1:n].tobytes() + tail


def ifds_at_the_end() -> bytes:
    """As ImageJ writes stacks: the first directory, all planes, the other directories."""
    text = "ImageJ=1.53t\nimages=12\nchannels=2\nslices=6\nhyperstack=true\n"
    blocks: list[Block] = [(0, "directory"), (0, "values")]
    blocks += [(i, "pixels") for i in range(12)]
    blocks += [(i, part) for i in range(1, 12) for part in ("directory", "values")]
    return assemble(pictures(t270=ascii_tag(text)), blocks=blocks).data


HYPERSTACK = "images=12\nchannels=2\nslices=3\nframes=2\nhyperstack=true\n"


@pytest.mark.parametrize("text", [HYPERSTACK, "images=12\nslices=12\n", "images=12\n"])
def test_a_stack_with_one_ifd(opened: Open, text: str) -> None:
    image = opened(imagej(text))
    assert image.read().size == PLANES.size
    np.testing.assert_array_equal(np.sort(image.read().ravel()), np.sort(PLANES.ravel()))


@pytest.mark.parametrize("text", [HYPERSTACK, "images=12\nslices=12\n", "images=12\n"])
@pytest.mark.parametrize("missing", [1, 10, PLANE_BYTES, 7 * PLANE_BYTES, 11 * PLANE_BYTES - 100])
def test_a_stack_with_one_ifd_that_is_cut(opened: Open, text: str, missing: int) -> None:
    data = imagej(text)
    text = message(opened, data[:-missing])
    whole = (12 * PLANE_BYTES - missing) // PLANE_BYTES
    assert {12, whole, len(data) - missing} <= numbers(text)


def test_one_plane_with_the_description_of_a_stack(opened: Open) -> None:
    """Programs that take a stack apart leave it in each file."""
    image = opened(imagej(HYPERSTACK, n=1))
    check(image, PLANES[:1])
    assert "planes-of-description" in kinds(image)
    assert "12 planes" in " ".join(image.notes)


@pytest.mark.parametrize("text", ["images=12\nframes=5\n", "images=12\nchannels=2\nslices=7\n"])
def test_images_count_more_than_axes(opened: Open, text: str) -> None:
    """ImageJ goes by ``images=``, and so do we if the planes are there."""
    image = opened(imagej(text))
    assert image.dims == ("page", "y", "x")
    check(image, PLANES)
    assert "planes-of-description" in kinds(image)
    assert 12 in numbers(" ".join(image.notes))


def test_axes_count_more_than_there_is(opened: Open) -> None:
    image = opened(imagej("images=5\nslices=12\n", n=5))
    check(image, PLANES[:5])
    assert {5, 12} <= numbers(" ".join(image.notes))


def test_room_for_more_planes(opened: Open) -> None:
    image = opened(imagej("images=5\nframes=5\n"))
    check(image, PLANES[:5])
    (note,) = image.notes
    assert note.kind == "planes-of-description"
    assert {5, 12} <= numbers(note)


@pytest.mark.parametrize("tail", [b"", b"\0", bytes(PLANE_BYTES - 20)])
def test_a_whole_stack_has_no_notes(opened: Open, tail: bytes) -> None:
    assert opened(imagej(HYPERSTACK, tail=tail)).notes == ()
    assert opened(ifds_at_the_end()).notes == ()


def test_ifds_at_the_end_are_cut_but_all_planes_are_there(opened: Open) -> None:
    """The description counts the planes, and they follow one another."""
    data = ifds_at_the_end()
    expected = opened(data).read()
    image = opened(data[: len(data) - 200])
    np.testing.assert_array_equal(image.read(), expected)
    second = Tiff.of(data).directories[1].at
    image = opened(data[:second])
    np.testing.assert_array_equal(image.read(), expected)
    assert kinds(image) == ["broken-chain"]
    assert {11 * PLANE_BYTES, 12} - numbers(message(opened, data[: second - 10])) == {
        11 * PLANE_BYTES
    }


@pytest.mark.parametrize("described", [9, 15])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_chain_that_disagrees_with_its_description(
    opened: Open, described: int, compression: str | None
) -> None:
    """The chain ends as it should: all pages are read, and a note has both numbers."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for i, plane in enumerate(PLANES):
            text = f"ImageJ=1.53t\nimages={described}\nslices={described}\n" if not i else None
            writer.write(
                plane, description=text, compression=compression, contiguous=False, metadata=None
            )
    data = file.getvalue()
    image = opened(data)
    check(image, PLANES)
    assert {described, 12} <= numbers(" ".join(image.notes))
    # With a broken chain pages are missing.
    tiff = Tiff.of(data)
    tiff.put(tiff.directories[7].next_at, "I", len(data) + 10)
    assert 8 in numbers(message(opened, bytes(tiff.data)))


@pytest.mark.parametrize("code", [256, 257])
def test_a_stack_whose_planes_are_not_as_large_as_they_are_stored(opened: Open, code: int) -> None:
    tiff = Tiff.of(imagej(HYPERSTACK))
    entry = tiff.find(tiff.directories[0], code)
    assert entry is not None
    tiff.put(tiff.value_at(entry), "I", 15)
    text = message(opened, bytes(tiff.data))
    assert PLANE_BYTES in numbers(text)


def test_a_page_after_a_stack(opened: Open) -> None:
    """The stack is one IFD, and the chain leads on to a page of its own."""
    page = picture(PLANES[0], t270=ascii_tag(f"ImageJ=1.53t\n{HYPERSTACK}"))
    stack = replace(page, segments=(PLANES.tobytes(),))
    data = bytearray(assemble([stack, picture(PLANES[3, :7])]).data)
    tiff = Tiff.of(bytes(data))
    entry = tiff.find(tiff.directories[0], 279)
    assert entry is not None
    tiff.put(tiff.value_at(entry), "I", PLANE_BYTES)
    image = opened(bytes(tiff.data))
    assert image.shape == (2, 2, 3, *SHAPE)
    assert kinds(image) == ["further-pages"]


# tifffile's own


def shaped(**options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, PLANES, photometric="minisblack", **options)
    return file.getvalue()


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_shaped_file_that_is_cut(opened: Open, truncate: bool, compression: str | None) -> None:
    if truncate and compression:
        pytest.skip("tifffile writes one IFD only for uncompressed stacks")
    data = shaped(compression=compression, **({"truncate": True} if truncate else {}))
    check(opened(data), PLANES)
    for size in (len(data) - 1 - len(data) // 3, len(data) // 2, len(data) // 5):
        with pytest.raises(CorruptFileError, match=rf"12|{size}"):
            opened(data[:size]).read()


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("described", [13, 24])
def test_fewer_pages_than_the_shape(opened: Open, compression: str | None, described: int) -> None:
    """tifffile reads directories as pixels, or one page of twelve."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for i, plane in enumerate(PLANES):
            text = f'{{"shape": [{described}, 20, 30]}}' if i == 0 else None
            writer.write(
                plane, description=text, compression=compression, contiguous=False, metadata=None
            )
    assert {12, described} <= numbers(message(opened, file.getvalue()))


def test_more_planes_than_the_shape(opened: Open) -> None:
    data = shaped(truncate=True, metadata={"axes": "ZYX"})
    assert opened(data).notes == ()
    image = opened(data.replace(b'"shape": [12, 20, 30]', b'"shape": [ 5, 20, 30]'))
    check(image, PLANES[:5])
    assert {5, 12} <= numbers(" ".join(image.notes))


def test_the_second_image_of_a_shaped_file_is_cut_off(opened: Open) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(PLANES[:3], photometric="minisblack")
        writer.write(PLANES[:, :10], photometric="minisblack")
    data = file.getvalue()
    assert opened(data).attrs["n_series"] == 2
    third = Tiff.of(data).directories[3].at
    assert {3, third} <= numbers(message(opened, data[:third]))


# A description of planes that have IFDs between them


STACKS = {
    "shaped": '{{"shape": [12, {0}, {1}]}}',
    "shaped, as of old": "shape=(12,{0},{1})",
    "ImageJ": "ImageJ=1.53t\nimages=12\nslices=12\n",
}


def with_ifds_between(text: str, planes: Array = PLANES, **options: Any) -> bytes:
    """Pages that each have an IFD, of which only the first one has a description."""
    tags: dict[str, Any] = {"t270": ascii_tag(text.format(*planes.shape[1:]))}
    pages = [picture(plane, **(tags if i == 0 else {})) for i, plane in enumerate(planes)]
    return assemble(pages, **options).data


def linked(data: bytes, number: int, target: int | None) -> bytes:
    """With the link of one page leading to another one, or nowhere."""
    tiff = Tiff.of(data)
    at = 0 if target is None else tiff.directories[target].at
    tiff.put(tiff.directories[number].next_at, tiff.offset_code, at)
    return bytes(tiff.data)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["directories first", "pixels first"])
@pytest.mark.parametrize("kind", STACKS)
def test_directories_are_not_read_as_pixels(opened: Open, kind: str, order: str, big: bool) -> None:
    blocks = libtiff_order() if order == "pixels first" else None
    data = with_ifds_between(STACKS[kind], blocks=blocks, big=big)
    check(opened(data), PLANES)
    assert 12 in numbers(message(opened, linked(data, 0, None)))
    if kind != "ImageJ":
        for number, target in ((0, 2), (0, 11), (3, None), (3, 7)):
            assert 12 in numbers(message(opened, linked(data, number, target)))


@pytest.mark.parametrize("kind", STACKS)
def test_directories_between_large_planes(opened: Open, kind: str) -> None:
    """Only the length of the file tells, where the second directory has not been fetched."""
    planes = np.random.default_rng(6).integers(0, 65536, (12, 300, 400), dtype=np.uint16)
    data = with_ifds_between(STACKS[kind], planes)
    np.testing.assert_array_equal(opened(data).read().reshape(planes.shape), planes)
    cut = linked(data, 0, None)
    n_more = len(data) - Tiff.of(data).directories[0].at - planes.nbytes
    if kind == "shaped":
        assert 12 in numbers(message(opened, cut))
        return
    image = opened(cut)
    assert kinds(image) == ["planes-of-description"]
    found = numbers(image.notes[0])
    assert 12 in found
    assert any(0 < number < n_more for number in found - {1, 12})


@pytest.mark.parametrize("shape", [SHAPE, (300, 400)])
def test_the_chain_leads_to_the_next_stack(opened: Open, shape: tuple[int, int]) -> None:
    planes = np.random.default_rng(9).integers(0, 65536, (9, *shape), dtype=np.uint16)
    pages = []
    for n, part in ((6, planes[:6]), (3, planes[6:])):
        text = STACKS["shaped"].format(*shape).replace("12", str(n))
        tags: dict[str, Any] = {"t270": ascii_tag(text)}
        pages += [picture(plane, **(tags if i == 0 else {})) for i, plane in enumerate(part)]
    data = assemble(pages).data
    image = opened(data)
    assert image.attrs["n_series"] == 2
    np.testing.assert_array_equal(image.read(), planes[:6])
    assert 6 in numbers(message(opened, linked(data, 0, 6)))


@pytest.mark.parametrize("tail", [0, 1, 100])
def test_one_directory_for_planes_that_follow_one_another(opened: Open, tail: int) -> None:
    """Descriptions by tifffile say so now; they once did not."""
    data = shaped(truncate=True)
    image = opened(data + bytes(tail))
    check(image, PLANES)
    mark = b', "truncated": true'
    assert mark in data
    image = opened(data.replace(mark, b" " * len(mark)) + bytes(tail))
    check(image, PLANES)
    assert image.notes == ()


# Tags whose values are not in the file


def rgb(kind: str, *, tables: bool = True) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(7).integers(0, 200, (*SHAPE, 3)).astype(kind)
    tifffile.imwrite(file, pixels, photometric="rgb", rowsperstrip=5 if tables else None)
    return file.getvalue()


def indexed() -> bytes:
    file = io.BytesIO()
    colours = np.arange(3 * 256, dtype=np.uint16).reshape(3, 256)
    tifffile.imwrite(file, PLANES[0].astype(np.uint8), photometric="palette", colormap=colours)
    return file.getvalue()


def misplaced(data: bytes, code: int, at: int, page: int = 0) -> bytes:
    """With the value of a tag at another place."""
    tiff = Tiff.of(data)
    entry = tiff.find(tiff.directories[page], code)
    assert entry is not None
    tiff.put(tiff.value_at(entry), tiff.offset_code, at)
    return bytes(tiff.data)


@pytest.fixture(params=["logged", "level", "disabled", "everything"])
def logs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ways in which an application may have configured logging."""
    logger = logging.getLogger("tifffile")
    level = logger.level
    if request.param == "level":
        logger.setLevel(logging.CRITICAL + 1)
    logger.disabled = request.param == "disabled"
    if request.param == "everything":
        logging.disable(logging.CRITICAL)
    yield
    logger.setLevel(level)
    logger.disabled = False
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("logs")
@pytest.mark.parametrize(
    ("kind", "code"),
    [("u1", 258), ("f4", 258), ("f4", 339), ("u1", 273), ("u1", 279), ("palette", 320)],
)
def test_tags_without_which_pixels_change(opened: Open, kind: str, code: int) -> None:
    data = indexed() if kind == "palette" else rgb(kind)
    opened(data)
    for at in (len(data) - 1, len(data) + 1000, 2**32 - 2):
        found = numbers(message(opened, misplaced(data, code, at)))
        assert {code, at, len(data)} <= found
    assert {code, 4, len(data)} <= numbers(message(opened, misplaced(data, code, 4)))


@pytest.mark.usefixtures("logs")
def test_the_description_is_not_in_the_file(opened: Open) -> None:
    """Pages are read without the axes that it gave them."""
    file = io.BytesIO()
    tifffile.imwrite(file, PLANES, ome=True, photometric="minisblack", metadata={"axes": "ZYX"})
    for data in (
        file.getvalue(),
        imagej(HYPERSTACK),
        assemble(pictures(t270=ascii_tag("axes"))).data,
    ):
        assert opened(data).notes == ()
        image = opened(misplaced(data, 270, len(data) + 5))
        check(image, PLANES[: image.read().size // PLANES[0].size])
        (note,) = (note for note in image.notes if note.kind == "tag-beyond-end")
        assert {270, len(data), len(data) + 5} <= numbers(note.text)


@pytest.mark.usefixtures("logs")
@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_later_page_without_a_tag(opened: Open, number: int) -> None:
    file = io.BytesIO()
    pixels = np.random.default_rng(8).random((4, *SHAPE, 3)).astype(np.float32)
    tifffile.imwrite(file, pixels, photometric="rgb", metadata=None)
    data = file.getvalue()
    np.testing.assert_array_equal(opened(data).read(), pixels)
    found = numbers(message(opened, misplaced(data, 339, len(data) + 9, number)))
    assert {339, number, len(data)} <= found


def test_a_type_that_does_not_exist(opened: Open) -> None:
    tiff = Tiff.of(rgb("f4"))
    entry = tiff.find(tiff.directories[0], 339)
    assert entry is not None
    tiff.put(entry + 2, "H", 99)
    assert 339 in numbers(message(opened, bytes(tiff.data)))


# Instruments


def stk(n_described: int, n: int = 7, further: Sequence[Picture] = ()) -> bytes:
    """MetaMorph: consecutive planes; the IFD describes only the first."""
    count = range(n_described)
    distances = [v for i in count for v in (3, 2, 2_455_000, 1000 * i, 2_455_000, 1000 * i)]
    page = picture(
        PLANES[0],
        t270=Tag(ASCII, b"plane\0" * n_described),
        t33628=Tag(LONG, (0, 1, 1, 0), 2),
        t33629=Tag(RATIONAL, distances, n_described),
        t33630=Tag(RATIONAL, [v for i in count for v in (500 + i, 1)]),
    )
    data = assemble([page.padded((n - 1) * PLANE_BYTES), *further]).data
    at = data.index(PLANES[0].tobytes())
    return data[:at] + PLANES[:n].tobytes() + data[at + n * PLANE_BYTES :]


def test_metamorph_stacks(opened: Open) -> None:
    image = opened(stk(7))
    check(image, PLANES[:7])
    assert image.notes == ()
    data = stk(9)
    assert {9, 7, len(data)} <= numbers(message(opened, data))
    image = opened(stk(5))
    check(image, PLANES[:5])
    assert {5, 7} <= numbers(" ".join(image.notes))


@pytest.mark.parametrize("n", [1, 7])
@pytest.mark.parametrize("rows", [20, 5])
@pytest.mark.parametrize("size", ["small", "large"])
def test_a_metamorph_stack_with_another_page(opened: Open, n: int, rows: int, size: str) -> None:
    """A second IFD, which no stack by MetaMorph has; that of a large file is not fetched for it."""
    gap = 0 if size == "small" else 100_000
    strips = [PLANES[8][y : y + rows].tobytes() for y in range(0, 20, rows)]
    other = picture(PLANES[8], [bytes(gap) + strips[0], *strips[1:]], t278=rows)
    image = opened(stk(n, n, [picture(PLANES[7]).padded(gap), other]))
    check(image, PLANES[:n])
    (note,) = (note for note in image.notes if note.kind == "further-pages")
    assert "another at byte" in note
    tiff = Tiff.of(stk(n, n, [other]))
    tiff.put(tiff.directories[0].next_at, "I", 3)  # to what is not an IFD
    assert "further-pages" not in {note.kind for note in opened(bytes(tiff.data)).notes}


def test_a_metamorph_stack_without_its_number_of_planes(opened: Open) -> None:
    """UIC2Tag has a value for each of them."""
    tiff = Tiff.of(stk(7))
    entry = tiff.find(tiff.directories[0], 33629)
    assert entry is not None
    tiff.put(entry, "H", 33627)
    image = opened(bytes(tiff.data))
    check(image, PLANES[:1])
    (note,) = (note for note in image.notes if "room for 7" in note)
    assert "tell of 1 plane," in note


@pytest.mark.parametrize("n", [1, 3, 4, 5, 6, 12])
@pytest.mark.parametrize("tail", [0, 1, 2, 100, 3 * PLANE_BYTES])
def test_scanimage(opened: Open, n: int, tail: int) -> None:
    """tifffile leaves out a page that ends where the file ends, and takes a tail for pages."""
    check(opened(scanimage_file(PLANES[:n]) + bytes(tail)), PLANES[:n])


@pytest.mark.parametrize("missing", [1, 500, 1300, 4000])
def test_scanimage_files_that_are_cut(opened: Open, missing: int) -> None:
    data = scanimage_file(PLANES)[:-missing]
    with pytest.raises(CorruptFileError, match=r"file\.tif"):
        opened(data).read()


# What the parser logs


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What reaches a handler that an application has given to tifffile's logger."""
    found: list[logging.LogRecord] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    handler = Handler()
    logger = logging.getLogger("tifffile")
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def odd(value: int = 0) -> bytes:
    """A page with an Orientation that does not exist."""
    return assemble([picture(PLANES[0], t274=value)]).data


def test_what_the_parser_logs_is_a_note(
    opened: Open, records: list[logging.LogRecord], capfd: pytest.CaptureFixture[str]
) -> None:
    image = opened(odd())
    check(image, PLANES[:1])
    (note,) = image.notes
    assert note.kind == "parser-log"
    assert re.fullmatch(r"tag 274 at byte \d+: 0 is not a valid ORIENTATION", note.text)
    assert note.urls == (str(Path(note.urls[0])),)
    assert records == []
    assert capfd.readouterr() == ("", "")


def test_other_users_of_tifffile_get_its_records(
    opened: Open, records: list[logging.LogRecord]
) -> None:
    opened(odd())
    logger = logging.getLogger("tifffile")
    before = list(logger.filters)
    for _ in range(3):
        opened(odd(9))
    assert logger.filters == before
    with tifffile.TiffFile(io.BytesIO(odd())) as tiff:
        assert len(tiff.pages) == 1
    assert [record.levelname for record in records] == ["WARNING"]


@pytest.mark.parametrize("how", ["level", "disabled", "everything"])
def test_missing_pages_are_found_without_logging(opened: Open, how: str) -> None:
    """The errors do not depend on how an application has configured logging."""
    logger = logging.getLogger("tifffile")
    level = logger.level
    tiff = Tiff.of(chain())
    tiff.put(tiff.directories[5].next_at, "I", len(tiff.data))
    try:
        if how == "level":
            logger.setLevel(logging.CRITICAL + 1)
        logger.disabled = how == "disabled"
        if how == "everything":
            logging.disable(logging.CRITICAL)
        assert 6 in numbers(message(opened, bytes(tiff.data)))
        assert 11 in numbers(message(opened, imagej(HYPERSTACK)[:-10]))
    finally:
        logger.setLevel(level)
        logger.disabled = False
        logging.disable(logging.NOTSET)


def test_records_belong_to_the_file_that_a_thread_parses(tmp_path: Path) -> None:
    values = [0, 9, 10, 11, 12, 13, 14, 15]
    for value in values:
        (tmp_path / f"{value}.tif").write_bytes(odd(value))
    start = threading.Barrier(len(values))

    def texts(value: int) -> set[str]:
        start.wait()
        found = (cloudimg.open(tmp_path / f"{value}.tif").notes for _ in range(20))
        return {note.text for notes in found for note in notes}

    with ThreadPoolExecutor(len(values)) as threads:
        for value, found in zip(values, threads.map(texts, values), strict=True):
            (text,) = found
            assert f" {value} is not a valid ORIENTATION" in text


def test_one_note_for_many_files(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.tif").write_bytes(odd())
    image = cloudimg.open(str(tmp_path / "{z}.tif"), validate="all")
    (note,) = image.notes
    assert note.n_files == 5
    assert len(note.urls) == 3


def test_a_file_with_a_thousand_records(opened: Open) -> None:
    """Each entry of the directory is of a type that does not exist."""
    tags = {f"t{60000 + i}": Tag(99, ()) for i in range(1000)}
    page = picture(PLANES[0])
    broken = Picture({**page.tags, **{int(k[1:]): Tag(LONG, (0,)) for k in tags}}, page.segments)
    tiff = Tiff.of(assemble([broken]).data)
    for entry in tiff.entries(tiff.directories[0]):
        if tiff.get(entry, "H") >= 60000:
            tiff.put(entry + 2, "H", 99)
    image = opened(bytes(tiff.data))
    check(image, PLANES[:1])
    (note,) = (note for note in image.notes if note.kind == "parser-log")
    assert len(note) < 2000


# Real files


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("openpreserve_jhove/peppers.tif", (512, 512, 3), "broken-chain"),
        ("haraldk_TwelveMonkeys/noeof.tif", (4, 6), "end-of-chain"),
    ],
)
def test_real_files_whose_last_link_means_nothing(
    corpus: Path, name: str, shape: Sequence[int], kind: str
) -> None:
    image = cloudimg.open(corpus / "files" / name)
    assert image.shape == tuple(shape)
    assert kind in kinds(image)
    assert image.read().any()


def test_broken_chains_of_the_corpus_are_errors(corpus: Path) -> None:
    """Fuzzers' findings: the chain leads beyond the end, and nothing tells the number of pages."""
    n = 0
    for path in sorted((corpus / "files" / "dvyukov_go-fuzz-corpus").iterdir()):
        data = path.read_bytes()
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
        if order is None or len(data) < 10:
            continue
        (start,) = struct.unpack(f"{order}L", data[4:8])
        if start + 2 > len(data):
            continue
        at = start + 2 + 12 * struct.unpack(f"{order}H", data[start : start + 2])[0]
        link = struct.unpack(f"{order}L", data[at : at + 4])[0] if at + 4 <= len(data) else 0
        if link <= len(data) or link == 2**32 - 1:
            continue
        with pytest.raises(FormatError):
            cloudimg.open(path).read()
        n += 1
    assert n > 5
