"""One URL of an image that lies in several files: OME-TIFF sets, NDTiff, Micro-Manager stacks."""

from __future__ import annotations

import io
import json
import pickle
import struct
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import zarr

import cloudimg
from cloudimg.errors import (
    ArgumentError,
    CorruptFileError,
    FormatError,
    MismatchError,
    MissingFilesError,
    NotFoundError,
    NotTiffError,
    StorageError,
)
from tests.conftest import Place
from tests.support import seed
from tests.support.clusters import local_client
from tests.support.metering import Meter

pytestmark = pytest.mark.slow

Array = npt.NDArray[Any]
Where = tuple[str, int]
"""A file name and the number of a page in it."""
Name = Callable[[int, int, int], str]
"""File name of a plane by t, c and z."""


def noise(*shape: int, dtype: str = "uint16") -> Array:
    return np.random.default_rng(7).integers(0, 250, shape).astype(dtype)


PIXELS = noise(3, 2, 4, 20, 30)


# Where files are put


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder on the metering server and the same files on disk for tifffile."""

    meter: Meter
    bucket: str
    folder: Path

    def put(self, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            self.meter.put(self.bucket, f"dir/{name}", data)
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def delete(self, name: str) -> None:
        self.meter.delete(self.bucket, f"dir/{name}")
        (self.folder / name).unlink()

    def url(self, name: str) -> str:
        return f"s3://{self.bucket}/dir/{name}"

    def open(self, name: str | list[str], **options: Any) -> cloudimg.Image:
        urls = self.url(name) if isinstance(name, str) else [self.url(each) for each in name]
        return cloudimg.open(urls, storage_options=self.meter.storage_options, **options)

    def by_tifffile(self, name: str, series: int = 0) -> Array:
        return np.asarray(tifffile.imread(self.folder / name, series=series))


@pytest.fixture
def shelf(meter: Meter, bucket: str, tmp_path: Path) -> Shelf:
    return Shelf(meter, bucket, tmp_path / "local")


def check(image: cloudimg.Image, expected: Array) -> None:
    """The whole, lazily and not, and parts of it."""
    assert image.shape == expected.shape
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image.read(), expected)
    np.testing.assert_array_equal(image.to_dask().compute(), expected)
    for part in (
        (..., slice(3, 11), slice(None, None, 4)),
        (-1, ..., 1),
        (slice(None, None, -1), ..., slice(17, 2, -3), slice(None)),
    ):
        np.testing.assert_array_equal(image.read(part), expected[part])


# OME-TIFF sets made by hand


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of an OME-XML: pixels t c z y x, with s where they are colours."""

    pixels: Array
    where: Mapping[tuple[int, int, int], Where]
    attrs: str = 'PhysicalSizeX="0.5" PhysicalSizeY="0.25" TimeIncrement="2"'
    channels: tuple[str, ...] = ("DAPI", "GFP")
    title: str = "cells"

    @property
    def samples(self) -> int:
        return self.pixels.shape[5] if self.pixels.ndim == 6 else 1


def membership(
    pixels: Array, name: Name, taken: dict[str, int] | None = None, **known: Any
) -> Picture:
    """An image whose planes follow one another, page by page, in the files that `name` gives."""
    pages = {} if taken is None else taken
    where = {}
    for t, c, z in np.ndindex(*pixels.shape[:3]):
        file = name(t, c, z)
        where[t, c, z] = (file, pages.get(file, 0))
        pages[file] = pages.get(file, 0) + 1
    return Picture(pixels, where, **known)


def uuid_of(file: str) -> str:
    return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, file)}"


def tiff_data(picture: Picture) -> str:
    """TiffData of all planes, one each."""
    return "".join(
        f'<TiffData FirstT="{t}" FirstC="{c}" FirstZ="{z}" IFD="{page}" PlaneCount="1">'
        f"<UUID FileName={quoteattr(file)}>{uuid_of(file)}</UUID></TiffData>"
        for (t, c, z), (file, page) in picture.where.items()
    )


def image_xml(picture: Picture, number: int) -> str:
    size_t, size_c, size_z, height, width = picture.pixels.shape[:5]
    channels = "".join(
        f'<Channel ID="Channel:{number}:{c}" Name="{picture.channels[c]}"'
        f' SamplesPerPixel="{picture.samples}"/>'
        for c in range(size_c)
    )
    return (
        f'<Image ID="Image:{number}" Name="{picture.title}"><Pixels ID="Pixels:{number}"'
        f' DimensionOrder="XYZCT" Type="{picture.pixels.dtype.name}" SizeX="{width}"'
        f' SizeY="{height}" SizeZ="{size_z}" SizeC="{size_c * picture.samples}" SizeT="{size_t}"'
        f" {picture.attrs}>{channels}{tiff_data(picture)}</Pixels></Image>"
    )


def document(content: str, own: str) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
        f' UUID="{uuid_of(own)}">{content}</OME>'
    )


def ome_xml(pictures: Sequence[Picture], own: str) -> str:
    return document("".join(image_xml(p, i) for i, p in enumerate(pictures)), own)


def binary_only(companion: str, own: str) -> str:
    pointer = f'<BinaryOnly MetadataFile={quoteattr(companion)} UUID="{uuid_of(companion)}"/>'
    return document(pointer, own)


def encode_pages(pages: Sequence[Array], text: str | None, n_sub: int, **options: Any) -> bytes:
    """A TIFF of pages, each with `n_sub` reductions of itself."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for i, page in enumerate(pages):
            common: dict[str, Any] = {"metadata": None, "contiguous": False, **options}
            common.setdefault("photometric", "minisblack")
            description = text if i == 0 else None
            writer.write(page, subifds=n_sub or None, description=description, **common)
            for level in range(1, n_sub + 1):
                step = 2**level
                writer.write(page[::step, ::step], subfiletype=1, **common)
    return file.getvalue()


def ome_files(
    pictures: Sequence[Picture],
    *,
    described_in: str = "each",
    n_sub: int = 0,
    stored: Callable[[Array], Array] = lambda plane: plane,
    **options: Any,
) -> dict[str, bytes]:
    """Files of a dataset, described in each file, in the first one only, or in a companion file."""
    pages: dict[str, dict[int, Array]] = {}
    for picture in pictures:
        for index, (file, page) in picture.where.items():
            pages.setdefault(file, {})[page] = stored(picture.pixels[index])
    files = {}
    for i, (file, planes) in enumerate(pages.items()):
        text: str | None = ome_xml(pictures, file)
        if described_in not in ("each", "first"):
            text = binary_only(described_in, file)
        elif described_in == "first" and i:
            text = None
        files[file] = encode_pages([planes[k] for k in sorted(planes)], text, n_sub, **options)
    if described_in not in ("each", "first"):
        files[described_in] = ome_xml(pictures, described_in).encode()
    return files


def by_time(t: int, c: int, z: int) -> str:
    return f"t{t}.ome.tif"


NAMES: dict[str, Name] = {
    "a file a time": by_time,
    "a file a channel": lambda t, c, z: f"c{c}.ome.tif",
    "a file a plane": lambda t, c, z: f"img_{t}_{c}_{z}.ome.tif",
    "a file two planes": lambda t, c, z: f"pair {t}-{c}-{z // 2}.ome.tif",
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("described_in", ["each", "set.companion.ome"])
def test_a_set_is_read_from_any_of_its_files(shelf: Shelf, kind: str, described_in: str) -> None:
    files = ome_files(
        [membership(PIXELS, NAMES[kind])], described_in=described_in, compression="zlib"
    )
    shelf.put(files)
    tiffs = [name for name in files if name != described_in]
    for name in {tiffs[0], tiffs[len(tiffs) // 2], tiffs[-1]}:
        image = shelf.open(name)
        assert image.dims == ("t", "c", "z", "y", "x")
        assert image.n_files == len(tiffs)
        check(image, PIXELS)
        if described_in == "each":  # tifffile does not follow companions
            np.testing.assert_array_equal(image.read(), shelf.by_tifffile(name))


def test_sets_on_every_kind_of_store(place: Place) -> None:
    for name, data in ome_files(
        [membership(PIXELS, by_time)], described_in="set.companion.ome"
    ).items():
        place.put(name, data)
    for name in ("t1.ome.tif", "set.companion.ome"):
        image = cloudimg.open(f"{place.url}/{name}", storage_options=place.storage_options)
        check(image, PIXELS)
    place.delete("t2.ome.tif")
    url, options = f"{place.url}/t1.ome.tif", {"storage_options": place.storage_options}
    with pytest.raises(MissingFilesError, match=r"t2\.ome\.tif"):
        cloudimg.open(url, **options)
    image = cloudimg.open(url, missing="fill", fill_value=9, **options)
    np.testing.assert_array_equal(image.read()[:2], PIXELS[:2])
    assert (image.read()[2] == 9).all()


def test_a_master_that_alone_describes_the_others(shelf: Shelf) -> None:
    shelf.put(ome_files([membership(PIXELS, by_time)], described_in="first"))
    check(shelf.open("t0.ome.tif"), PIXELS)
    np.testing.assert_array_equal(shelf.by_tifffile("t0.ome.tif"), PIXELS)
    # The others know of nothing but their pages.
    alone = shelf.open("t1.ome.tif")
    np.testing.assert_array_equal(alone.read(), PIXELS[1].reshape(8, 20, 30))


@pytest.mark.parametrize("name", ["set.companion.ome", "Set.OME.XML", "set.ome"])
def test_a_companion_is_opened_by_its_own_url(shelf: Shelf, name: str) -> None:
    shelf.put(ome_files([membership(PIXELS, by_time)], described_in=name))
    image = shelf.open(name)
    assert image.n_files == 3
    assert [file.url for file in image.files][::8] == [shelf.url(f"t{t}.ome.tif") for t in range(3)]
    check(image, PIXELS)


def test_a_companion_with_a_byte_order_mark(shelf: Shelf) -> None:
    files = ome_files([membership(PIXELS, by_time)], described_in="set.companion.ome")
    shelf.put(files | {"set.companion.ome": b"\xef\xbb\xbf" + files["set.companion.ome"]})
    check(shelf.open("set.companion.ome"), PIXELS)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"\xff\xfe\x00", "not OME-XML: it is not UTF-8"),
        (b"<OME><UUID", "not well-formed XML"),
        (b"<OME", "set.companion.ome"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><OME>&b;</OME>", "DTD"),
        (b"", "set.companion.ome"),
    ],
)
def test_companions_that_are_none(shelf: Shelf, content: bytes, error: str) -> None:
    files = ome_files([membership(PIXELS, by_time)], described_in="set.companion.ome")
    shelf.put(files | {"set.companion.ome": content})
    for name in ("set.companion.ome", "t0.ome.tif"):
        with pytest.raises(FormatError, match=error):
            shelf.open(name)


def test_a_companion_that_is_not_there(shelf: Shelf) -> None:
    """Pages are all that is left, and the image says so."""
    shelf.put(ome_files([membership(PIXELS, by_time)], described_in="set.companion.ome"))
    shelf.delete("set.companion.ome")
    image = shelf.open("t1.ome.tif")
    np.testing.assert_array_equal(image.read(), PIXELS[1].reshape(8, 20, 30))
    assert "set.companion.ome" in image.attrs["metadata_problem"]
    with pytest.raises(NotFoundError, match=r"set\.companion\.ome"):
        shelf.open("set.companion.ome")


def test_a_renamed_master(shelf: Shelf) -> None:
    """Its old name is in the OME-XML, and its UUID identifies it."""
    files = ome_files([membership(PIXELS, by_time)])
    files["master.ome.tif"] = files.pop("t0.ome.tif")
    shelf.put(files)
    image = shelf.open("master.ome.tif")
    assert image.n_files == 3
    check(image, PIXELS)


@pytest.mark.parametrize("has_uuid", [True, False])
def test_a_lone_file_that_was_renamed(shelf: Shelf, has_uuid: bool) -> None:
    data = ome_files([membership(PIXELS, lambda t, c, z: "old.ome.tif")])["old.ome.tif"]
    root = f' UUID="{uuid_of("old.ome.tif")}"'.encode()
    assert data.count(root) == 1
    shelf.put({"new.ome.tif": data if has_uuid else data.replace(root, b" " * len(root))})
    with shelf.meter.measure() as traffic:
        image = shelf.open("new.ome.tif")
    check(image, PIXELS)
    # Without it tifffile takes the planes for those of another file, and reads pages.
    by_tifffile = shelf.by_tifffile("new.ome.tif")
    np.testing.assert_array_equal(image.read(), by_tifffile.reshape(PIXELS.shape))
    assert {request.key for request in traffic.requests} == {"dir/new.ome.tif"}


def test_lone_files_that_were_renamed_keep_their_axes_in_a_pattern(shelf: Shelf) -> None:
    wells = {name: noise(3, 2, 4, 20, 30) + i for i, name in enumerate(("A1", "B7"))}
    for name, pixels in wells.items():
        data = ome_files([membership(pixels, lambda t, c, z: "old.ome.tif")])["old.ome.tif"]
        root = f' UUID="{uuid_of("old.ome.tif")}"'.encode()
        shelf.put({f"well_{name}.ome.tif": data.replace(root, b" " * len(root))})
    image = shelf.open("well_{w:s}.ome.tif")
    assert image.dims == ("w", "t", "c", "z", "y", "x")
    check(image, np.stack(list(wells.values())))


def test_two_images_in_a_lone_file_that_was_renamed(shelf: Shelf) -> None:
    taken: dict[str, int] = {}
    pictures = [
        membership(pixels, lambda t, c, z: "old.ome.tif", taken)
        for pixels in (PIXELS, PIXELS[:1, :, ::-1])
    ]
    data = ome_files(pictures)["old.ome.tif"]
    root = f' UUID="{uuid_of("old.ome.tif")}"'.encode()
    shelf.put({"new.ome.tif": data.replace(root, b" " * len(root))})
    check(shelf.open("new.ome.tif"), PIXELS)
    check(shelf.open("new.ome.tif", series=1), PIXELS[0, :, ::-1])


def exchanged(files: Mapping[str, bytes], *names: str) -> dict[str, bytes]:
    """The files, of which each of some has the name of the next."""
    return {**files, **{b: files[a] for a, b in zip(names, names[1:] + names[:1], strict=True)}}


@pytest.mark.long
@pytest.mark.parametrize("described_in", ["each", "set.companion.ome"])
@pytest.mark.parametrize("opened", ["t0.ome.tif", "t1.ome.tif", "t2.ome.tif"])
@pytest.mark.parametrize("moved", [("t0.ome.tif", "t1.ome.tif"), ("t2.ome.tif", "t1.ome.tif")])
def test_files_that_changed_their_names_are_found_by_their_uuids(
    shelf: Shelf, described_in: str, opened: str, moved: tuple[str, str]
) -> None:
    """At once where the opened header or that of the first plane shows it, else when read."""
    files = ome_files([membership(PIXELS, by_time)], described_in=described_in)
    shelf.put(exchanged(files, *moved))
    image = shelf.open(opened)
    if {opened, "t0.ome.tif"} & set(moved):
        check(image, PIXELS)
    else:
        with pytest.raises(MismatchError, match=r'UUID of another file.*validate="all"'):
            image.read()
        np.testing.assert_array_equal(image.read(0), PIXELS[0])
    check(shelf.open(opened, validate="all"), PIXELS)


def test_three_files_that_changed_their_names(shelf: Shelf) -> None:
    files = ome_files([membership(PIXELS, by_time)])
    shelf.put(exchanged(files, "t0.ome.tif", "t1.ome.tif", "t2.ome.tif"))
    image = shelf.open("t2.ome.tif")
    check(image, PIXELS)
    twin = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(twin.read(), PIXELS)


def test_a_sibling_that_was_renamed(shelf: Shelf) -> None:
    files = ome_files([membership(PIXELS, by_time)])
    files["moved away.tif"] = files.pop("t1.ome.tif")
    files["copy of t2.ome.tif"] = files["t2.ome.tif"]
    files["other.tif"] = encode_pages([PIXELS[0, 0, 0]], None, 0)
    shelf.put(files)
    image = shelf.open("t0.ome.tif")
    assert image.n_files == 3
    assert {file.url.rpartition("/")[2] for file in image.files} == {
        "t0.ome.tif", "moved away.tif", "t2.ome.tif",
    }  # fmt: skip
    check(image, PIXELS)
    (note,) = image.notes
    assert (note.kind, note.urls) == ("renamed-files", (shelf.url("t0.ome.tif"),))
    assert "1 file of the dataset was found by UUID under another name: t1.ome.tif is now" in note
    shelf.delete("moved away.tif")
    with pytest.raises(MissingFilesError, match=r"t1\.ome\.tif"):
        shelf.open("t0.ome.tif")


def test_pages_of_a_set_that_are_in_no_image(shelf: Shelf) -> None:
    """Told of the file of the first plane, and with `validate="all"` of each."""
    taken: dict[str, int] = {}
    pictures = [membership(PIXELS, by_time, taken), membership(PIXELS[:, :, :1], by_time, taken)]
    files = ome_files(pictures)
    shelf.put(files)
    assert {note.kind for note in shelf.open("t1.ome.tif").notes} == {"further-images"}
    for name, n_more in (("t0.ome.tif", 3), ("t2.ome.tif", 1)):
        pages = [*tifffile_pages(files[name]), *PIXELS[0, 0, :n_more]]
        shelf.put({name: encode_pages(pages, ome_xml(pictures, name), 0)})
    notes = {note.kind: note for note in shelf.open("t1.ome.tif").notes}
    assert notes["surplus-pages"].urls == (shelf.url("t0.ome.tif"),)
    assert "13 pages, but the OME-XML places only 10 of them: 3 pages are in no" in str(
        notes["surplus-pages"]
    )
    image = shelf.open("t1.ome.tif", validate="all")
    notes = {note.kind: note for note in image.notes}
    assert notes["surplus-pages"].urls == (shelf.url("t0.ome.tif"), shelf.url("t2.ome.tif"))
    check(image, PIXELS)


def tifffile_pages(data: bytes) -> list[Array]:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        return [page.asarray() for page in tiff.pages]


def test_a_uuid_that_all_files_have_identifies_none(shelf: Shelf) -> None:
    """Micro-Manager writes the OME-XML of the first file into all of them."""
    files = ome_files([membership(PIXELS, by_time)])
    first = uuid_of("t0.ome.tif").encode()
    root = b' UUID="%s"'
    for name in ("t1.ome.tif", "t2.ome.tif"):
        own = root % uuid_of(name).encode()
        assert files[name].count(own) == 1
        files[name] = files[name].replace(own, root % first)
    shelf.put(files)
    for name in files:
        check(shelf.open(name), PIXELS)
        image = shelf.open(name, validate="all")
        check(image, PIXELS)
        (note,) = image.notes
        assert (note.kind, note.urls) == ("duplicate-uuid", (shelf.url(name),))


def test_a_copy_under_the_name_of_another_file_is_told(shelf: Shelf) -> None:
    """Its UUID is that of the file that it is a copy of, which is there as well."""
    files = ome_files([membership(PIXELS, by_time)])
    shelf.put({**files, "t1.ome.tif": files["t2.ome.tif"]})
    for name, options in (("t1.ome.tif", {}), ("t0.ome.tif", {"validate": "all"})):
        (note,) = shelf.open(name, **options).notes
        assert note.kind == "duplicate-uuid"
        uuid = uuid_of("t2.ome.tif")
        assert f"2 files of the dataset have the same UUID, {uuid}: t1.ome.tif, t2" in note
    with pytest.raises(MismatchError, match="UUID of another file"):
        shelf.open("t0.ome.tif").read()
    shelf.put(files)
    assert shelf.open("t1.ome.tif", validate="all").notes == ()


def test_names_with_folders(shelf: Shelf) -> None:
    shelf.put(
        ome_files(
            [membership(PIXELS, lambda t, c, z: f"sub/deep {t}/c{c} 100%.tif")],
            described_in="set.companion.ome",
        )
    )
    image = shelf.open("set.companion.ome")
    assert image.n_files == 6
    check(image, PIXELS)


def test_backslashes_are_folders(shelf: Shelf) -> None:
    picture = membership(PIXELS, lambda t, c, z: f"sub\\t{t}.tif")
    files = ome_files([picture], described_in="set.companion.ome")
    shelf.put({name.replace("\\", "/"): data for name, data in files.items()})
    check(shelf.open("set.companion.ome"), PIXELS)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("size_c", [1, 2])
def test_planes_of_colours(shelf: Shelf, planar: bool, size_c: int) -> None:
    pixels = noise(3, size_c, 2, 20, 30, 3, dtype="uint8")
    options: dict[str, Any] = {"photometric": "rgb"}
    if planar:
        options |= {"planarconfig": "separate", "stored": lambda plane: np.moveaxis(plane, -1, 0)}
    shelf.put(ome_files([membership(pixels, by_time)], **options))
    image = shelf.open("t0.ome.tif")
    expected = pixels if size_c > 1 else pixels[:, 0]
    assert image.dims == (("t", "c", "z") if size_c > 1 else ("t", "z")) + ("y", "x", "s")
    check(image, expected)
    read = image.read({"t": 2, "s": 1, "y": slice(4, 9)})
    np.testing.assert_array_equal(read, expected[2, ..., 4:9, :, 1])


def test_planes_of_indices_into_a_palette(shelf: Shelf) -> None:
    pixels = noise(3, 1, 2, 20, 30, dtype="uint8")
    colours = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype("uint16")
    files = ome_files([membership(pixels, by_time)], photometric="palette", colormap=colours)
    shelf.put(files)
    check(shelf.open("t1.ome.tif"), pixels[:, 0])
    image = shelf.open("t1.ome.tif", palette="rgb")
    assert image.dims == ("t", "z", "y", "x", "s")
    check(image, colours.T[pixels[:, 0]])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_pyramids_of_members_are_levels(shelf: Shelf, compression: str | None) -> None:
    pixels = noise(3, 2, 2, 96, 128)
    files = ome_files(
        [membership(pixels, by_time)], n_sub=2, tile=(32, 32), compression=compression
    )
    shelf.put(files)
    image = shelf.open("t1.ome.tif")
    assert [level.shape[-2:] for level in image.levels] == [(96, 128), (48, 64), (24, 32)]
    assert image.levels[1].downsampling == (1, 1, 1, 2, 2)
    for level in range(3):
        expected = pixels[..., :: 2**level, :: 2**level]
        np.testing.assert_array_equal(image.read(level=level), expected)
        lazy = image.to_dask(level=level)[1:, 0, :, 3:19, 5:]
        np.testing.assert_array_equal(lazy.compute(), expected[1:, 0, :, 3:19, 5:])
    np.testing.assert_array_equal(shelf.by_tifffile("t1.ome.tif"), pixels)


def test_two_images_of_different_shapes_in_one_set(shelf: Shelf) -> None:
    """Their pages alternate with those of the other image in the same files."""
    small, taken = noise(3, 1, 4, 12, 16, dtype="uint8"), {}
    pictures = [
        membership(PIXELS, by_time, taken),
        membership(small, by_time, taken, channels=("BF",), title="overview"),
    ]
    shelf.put(ome_files(pictures, compression="zlib"))
    check(shelf.open("t2.ome.tif"), PIXELS)
    overview = shelf.open("t2.ome.tif", series=1)
    assert overview.dims == ("t", "z", "y", "x")
    assert overview.attrs["name"] == "overview"
    check(overview, small[:, 0])
    for series, expected in enumerate((PIXELS, small[:, 0])):
        found = shelf.by_tifffile("t2.ome.tif", series)
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ArgumentError, match=r"series=2.* 2 images"):
        shelf.open("t2.ome.tif", series=2)
    copy = shelf.folder / "copy.zarr"
    done = cloudimg.migrate(
        shelf.url("t1.ome.tif"), copy, series="all", source_options=shelf.meter.storage_options
    )
    assert [each.n_objects > 0 for each in done.images] == [True, True]
    assert cloudimg.verify(copy, against_source=True, source_options=shelf.meter.storage_options)
    found = np.asarray(zarr.open_group(str(copy), mode="r")["1/0"])
    np.testing.assert_array_equal(found, small[:, 0])


def test_planes_in_any_order_of_pages(shelf: Shelf) -> None:
    """Pages and files have nothing to do with the order of planes."""
    indices = list(np.ndindex(3, 2, 4))
    order = np.random.default_rng(1).permutation(len(indices))
    where = {indices[i]: (f"part{n % 3}.ome.tif", n // 3) for n, i in enumerate(order.tolist())}
    picture = Picture(PIXELS, where)
    shelf.put(ome_files([picture]))
    check(shelf.open("part0.ome.tif"), PIXELS)
    np.testing.assert_array_equal(shelf.by_tifffile("part0.ome.tif"), PIXELS)


def test_coordinates_and_attributes(shelf: Shelf) -> None:
    attrs = (
        'PhysicalSizeX="0.5" PhysicalSizeY="0.25" PhysicalSizeYUnit="nm" PhysicalSizeZ="2"'
        ' TimeIncrement="2" TimeIncrementUnit="min"'
    )
    shelf.put(
        ome_files([membership(PIXELS, by_time, attrs=attrs)], described_in="set.companion.ome")
    )
    for name in ("t0.ome.tif", "set.companion.ome"):
        image = shelf.open(name)
        assert image.attrs["name"] == "cells"
        assert image.attrs["channel_names"] == ["DAPI", "GFP"]
        assert image.attrs["pixel_size"] == {"x": 0.5, "y": 0.25, "z": 2}
        assert image.attrs["pixel_size_unit"] == {"x": "µm", "y": "nm", "z": "µm"}
        assert image.attrs["time_step_s"] == 120
        assert list(image.coords["c"]) == ["DAPI", "GFP"]
        assert [len(image.coords[dim]) for dim in "tcz"] == [3, 2, 4]
        assert list(image.to_xarray().coords["c"].values) == ["DAPI", "GFP"]


def test_attributes_of_the_storage(shelf: Shelf) -> None:
    """A set says as much of how its pixels are stored as one of its files does alone."""
    shelf.put(ome_files([membership(PIXELS, by_time)], compression="zlib"))
    image, alone = shelf.open("t0.ome.tif"), shelf.open(["t0.ome.tif"])
    for name in ("compression", "photometric"):
        assert image.attrs[name] == alone.attrs[name]


def test_axes_and_dims_are_as_requested(shelf: Shelf) -> None:
    shelf.put(ome_files([membership(PIXELS, by_time)]))
    image = shelf.open("t0.ome.tif", axes={"z": "depth"}, dims=("depth", "y", "x", "c", "t"))
    assert image.dims == ("depth", "y", "x", "c", "t")
    np.testing.assert_array_equal(image.read(), PIXELS.transpose(2, 3, 4, 1, 0))
    with pytest.raises(ArgumentError, match="well"):
        shelf.open("t0.ome.tif", axes={"well": "a"})
    with pytest.raises(ArgumentError, match="dims"):
        shelf.open("t0.ome.tif", dims=("z", "y", "x"))


# Sets that are not complete, or not what they say


def test_missing_files_are_named_or_filled(shelf: Shelf) -> None:
    shelf.put(ome_files([membership(PIXELS, by_time)]))
    shelf.delete("t1.ome.tif")
    for refused in (lambda: shelf.open("t0.ome.tif"), lambda: shelf.open("t2.ome.tif")):
        with pytest.raises(MissingFilesError, match=r"8 of 24 planes") as caught:
            refused()
        assert "t1.ome.tif" in str(caught.value)
        assert 'missing="fill"' in str(caught.value)
        assert "[url]" in str(caught.value)
    image = shelf.open("t0.ome.tif", missing="fill", fill_value=77)
    assert (image.n_files, image.n_missing) == (2, 8)
    assert image.missing[0] == {"t": 1, "c": "DAPI", "z": 0}
    expected = PIXELS.copy()
    expected[1] = 77
    check(image, expected)


@pytest.mark.parametrize("lost", [(0, 0, 0), (1, 1, 2), (2, 1, 3)])
def test_a_plane_that_no_file_is_named_for_is_never_zeros(
    shelf: Shelf, lost: tuple[int, int, int]
) -> None:
    picture = membership(PIXELS, by_time)
    complete = ome_files([picture])
    text = tiff_data(Picture(PIXELS, {lost: picture.where[lost]}))
    # As long as before, so that no offset of the file moves.
    shelf.put(
        {
            name: data.replace(text.encode(), b"<!--" + b"x" * (len(text) - 7) + b"-->")
            for name, data in complete.items()
        }
    )
    with pytest.raises(MissingFilesError, match=r"1 of 24 planes .* no file is named"):
        shelf.open("t0.ome.tif")
    image = shelf.open("t0.ome.tif", missing="fill", fill_value=500)
    expected = PIXELS.copy()
    expected[lost] = 500
    check(image, expected)
    assert image.n_missing == 1


ELSEWHERE = [
    "../t9.tif",
    "sub/../../t9.tif",
    "..\\t9.tif",
    "%2e%2e/t9.tif",
    "s3://other/t9.tif",
    "http://127.0.0.1:1/t9.tif",
    "file:///etc/passwd",
    "/etc/passwd",
    "C:\\t9.tif",
    "simplecache::s3://other/t9.tif",
    "filecache::t9.tif",
    "..",
]


@pytest.mark.long
@pytest.mark.parametrize("name", ELSEWHERE)
def test_names_that_leave_the_folder_are_refused(shelf: Shelf, name: str) -> None:
    """Without any request to where they lead, whether they are the set's or the companion's."""
    where = {(t, c, z): (name if t else "t0.ome.tif", 0) for t, c, z in np.ndindex(3, 2, 4)}
    pictures = [Picture(PIXELS, where)]
    own = encode_pages([PIXELS[0, 0, 0]], ome_xml(pictures, "t0.ome.tif"), 0)
    pointing = encode_pages([PIXELS[0, 0, 0]], binary_only(name, "b.ome.tif"), 0)
    files = {"t0.ome.tif": own, "b.ome.tif": pointing}
    files["set.companion.ome"] = ome_xml(pictures, "set.companion.ome").encode()
    for file, data in files.items():
        shelf.meter.put(shelf.bucket, f"dir/{file}", data)
    shelf.meter.put(shelf.bucket, "t9.tif", seed.encode(PIXELS[0, 0, 0]))
    with shelf.meter.measure() as traffic:
        for file in files:
            for missing in ("raise", "fill"):
                with pytest.raises(CorruptFileError, match="not in its own folder"):
                    shelf.open(file, missing=missing)
    assert {request.key for request in traffic.requests} == {f"dir/{file}" for file in files}


def test_a_list_reads_just_the_file(shelf: Shelf) -> None:
    shelf.put(ome_files([membership(PIXELS, by_time)]))
    with shelf.meter.measure() as traffic:
        image = shelf.open(["t1.ome.tif"])
        np.testing.assert_array_equal(image.read()[0], PIXELS[1].reshape(8, 20, 30))
    assert {request.key for request in traffic.requests} == {"dir/t1.ome.tif"}


def test_a_pattern_reads_just_the_pages_of_each_file(shelf: Shelf) -> None:
    shelf.put(ome_files([membership(PIXELS, by_time)]))
    image = shelf.open("t{t}.ome.tif", axes={"page": "z"})
    np.testing.assert_array_equal(image.read(), PIXELS.reshape(3, 8, 20, 30))


@pytest.mark.parametrize("page", [8, 1000, 10**6])
def test_pages_that_do_not_exist(shelf: Shelf, page: int) -> None:
    picture = membership(PIXELS, by_time)
    files = ome_files([picture])
    wrong = Picture(PIXELS, {**picture.where, (1, 0, 2): ("t1.ome.tif", page)})
    files["set.companion.ome"] = ome_xml([wrong], "set.companion.ome").encode()
    shelf.put(files)
    image = shelf.open("set.companion.ome")
    with pytest.raises(CorruptFileError, match=rf"t1\.ome\.tif has no page {page}"):
        image.read()
    np.testing.assert_array_equal(image.read((1, 0, 1)), PIXELS[1, 0, 1])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (PIXELS[1, :, :, :19], r"\(19, 30\) instead of \(20, 30\)"),
        (PIXELS[1].astype("uint8"), "uint8 instead of uint16"),
        (PIXELS[1].astype("int16"), "int16 instead of uint16"),
    ],
)
def test_a_sibling_that_does_not_fit(shelf: Shelf, other: Array, message: str) -> None:
    shelf.put(ome_files([membership(PIXELS, by_time)]))
    pages = list(other.reshape(-1, *other.shape[2:]))
    shelf.put({"t1.ome.tif": encode_pages(pages, None, 0)})
    image = shelf.open("t0.ome.tif")
    with pytest.raises(MismatchError, match=message) as caught:
        image.read()
    assert caught.value.url == shelf.url("t1.ome.tif")
    np.testing.assert_array_equal(image.read(2), PIXELS[2])


def test_a_sibling_of_fewer_levels(shelf: Shelf) -> None:
    pixels = noise(2, 1, 1, 64, 64)
    shelf.put(ome_files([membership(pixels, by_time)], n_sub=1))
    shelf.put({"t1.ome.tif": encode_pages([pixels[1, 0, 0]], None, 0)})
    image = shelf.open("t0.ome.tif")
    np.testing.assert_array_equal(image.read(), pixels[:, 0, 0])
    with pytest.raises(MismatchError, match=r"t1\.ome\.tif"):
        image.read(level=1)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"hello world, this is no image", NotTiffError),
        (b"", NotTiffError),
        (seed.encode(PIXELS[0, 0])[:100], FormatError),
    ],
)
def test_siblings_that_are_no_image(shelf: Shelf, data: bytes, error: type[Exception]) -> None:
    shelf.put(ome_files([membership(PIXELS, by_time)]))
    shelf.put({"t1.ome.tif": data})
    image = shelf.open("t0.ome.tif")
    with pytest.raises(error, match=r"t1\.ome\.tif"):
        image.to_dask().compute()
    np.testing.assert_array_equal(image.read(2), PIXELS[2])


def test_a_sibling_cut_short(shelf: Shelf) -> None:
    files = ome_files([membership(noise(2, 1, 1, 256, 256), by_time)], tile=(64, 64))
    shelf.put(files | {"t1.ome.tif": files["t1.ome.tif"][:-1000]})
    image = shelf.open("t0.ome.tif")
    with pytest.raises((CorruptFileError, StorageError), match=r"t1\.ome\.tif"):
        image.read()
    np.testing.assert_array_equal(image.read(0), noise(2, 1, 1, 256, 256)[0, 0, 0])


# Traffic, processes


def test_requests_of_a_set(shelf: Shelf) -> None:
    """To open: the header twice, a HEAD a file; to read a plane: its file's header and itself."""
    pixels = noise(4, 1, 1, 256, 300)
    shelf.put(ome_files([membership(pixels, by_time)]))
    with shelf.meter.measure() as opening:
        image = shelf.open("t0.ome.tif")
    assert opening.gets <= 2
    assert {request.key for request in opening.requests if request.kind == "get"} == {
        "dir/t0.ome.tif"
    }
    assert opening.heads <= 4
    assert opening.lists == 0
    with shelf.meter.measure() as reading:
        np.testing.assert_array_equal(image.read(2), pixels[2, 0, 0])
    assert {request.key for request in reading.requests} == {"dir/t2.ome.tif"}
    assert reading.gets == len(reading.requests) <= 2
    assert reading.bytes_sent <= pixels[0, 0, 0].nbytes + 40_000
    with shelf.meter.measure() as again:
        np.testing.assert_array_equal(image.read((2, slice(9))), pixels[2, 0, 0, :9])
    assert len(again.requests) <= 1


def test_siblings_are_looked_up_side_by_side(shelf: Shelf) -> None:
    shelf.put(ome_files([membership(noise(40, 1, 1, 8, 8), by_time)]))
    shelf.meter.latency(40)
    with shelf.meter.measure() as traffic:
        shelf.open("t0.ome.tif")
    assert traffic.heads == 40
    assert traffic.round_trips <= 6


def test_sets_pickle(shelf: Shelf) -> None:
    shelf.put(ome_files([membership(PIXELS, by_time)], described_in="set.companion.ome"))
    shelf.delete("t1.ome.tif")
    image = shelf.open("t0.ome.tif", missing="fill", fill_value=3)
    twin = pickle.loads(pickle.dumps(image))
    assert twin.dims == image.dims
    assert dict(twin.attrs) == dict(image.attrs)
    np.testing.assert_array_equal(twin.read(), image.read())
    assert twin.to_dask().name == image.to_dask().name


def test_names_of_arrays_tell_sets_apart(shelf: Shelf) -> None:
    """Equal files that are placed otherwise, or one of which was replaced, are another array."""
    picture = membership(PIXELS, by_time)
    shelf.put(ome_files([picture], described_in="set.companion.ome"))
    name = shelf.open("t0.ome.tif").to_dask().name
    assert shelf.open("t0.ome.tif").to_dask().name == name
    swapped = dict(picture.where)
    swapped[1, 0, 0], swapped[1, 0, 1] = swapped[1, 0, 1], swapped[1, 0, 0]
    moved = ome_xml([Picture(PIXELS, swapped)], "set.companion.ome").encode()
    shelf.put({"set.companion.ome": moved})
    other = shelf.open("t0.ome.tif").to_dask()
    assert other.name != name
    np.testing.assert_array_equal(other[1, 0, 0].compute(), PIXELS[1, 0, 1])
    shelf.put({"t2.ome.tif": encode_pages(list(PIXELS[0].reshape(8, 20, 30)), None, 0)})
    assert shelf.open("t0.ome.tif").to_dask().name not in (name, other.name)


# Files as Micro-Manager writes them


@dataclass(frozen=True, slots=True)
class Written:
    """A TIFF of Micro-Manager's, and where its directories and pixels begin."""

    data: bytearray
    directories: list[int]
    pixels: list[int]


def write_pages(planes: Sequence[Array], head: bytes) -> Written:
    """Directories of 13 tags, 162 bytes long; the first one's pixels come a little later."""
    written = Written(bytearray(b"II*\0" + bytes(4) + head), [], [])
    data = written.data
    data += bytes(len(data) % 2)
    struct.pack_into("<I", data, 4, len(data))
    for i, plane in enumerate(planes):
        at = len(data)
        written.directories.append(at)
        pixels = at + 162 + (0 if i else 22)
        written.pixels.append(pixels)
        values = pixels + plane.nbytes
        meta = json.dumps({"PixelSizeUm": 0.65}).encode() + b"\0"
        following = values + 22 + len(meta) + len(meta) % 2
        is_last = i == len(planes) - 1
        data += struct.pack("<H", 13) + page_tags(plane, pixels, values, len(meta))
        data += struct.pack("<I", 0 if is_last else following)
        data += bytes(pixels - len(data)) + plane.tobytes()
        data += struct.pack("<IIIIHHH", 1, 1, 1, 1, 8, 8, 8) + meta
        data += bytes(following - len(data))
    return written


def page_tags(plane: Array, pixels: int, values: int, meta_bytes: int) -> bytes:
    is_rgb = plane.ndim == 3
    bits = (258, 3, 3, values + 16) if is_rgb else (258, 3, 1, 8 * plane.itemsize)
    tags = [
        (256, 4, 1, plane.shape[1]),
        (257, 4, 1, plane.shape[0]),
        bits,
        (259, 3, 1, 1),
        (262, 3, 1, 2 if is_rgb else 1),
        (273, 4, 1, pixels),
        (277, 3, 1, 3 if is_rgb else 1),
        (278, 4, 1, plane.shape[0]),
        (279, 4, 1, plane.nbytes),
        (282, 5, 1, values),
        (283, 5, 1, values + 8),
        (296, 3, 1, 1),
        (51123, 2, meta_bytes, values + 22),
    ]
    return b"".join(struct.pack("<HHII", *tag) for tag in tags)


SUMMARY = {
    "MicroManagerVersion": "2.0",
    "PixelSize_um": 0.65,
    "z-step_um": 2,
    "Interval_ms": 500,
    "ChNames": ["DAPI", "GFP"],
}
LETTERS = "cztr"
Places = Mapping[tuple[int, int, int, int], Array]
"""Planes by channel, slice, frame and position."""


def stack_file(
    places: Places, lengths: Sequence[int], *, never: Sequence[int] = (), **more: Any
) -> bytes:
    """A file of a stack; images that are numbered in `never` were set aside and not written."""
    names = ("Channels", "Slices", "Frames", "Positions")
    summary = {**SUMMARY, **dict(zip(names, lengths, strict=True)), **more}
    text = json.dumps(summary).encode()
    numbers = [54773648, 0, 483765892, 0, 99384722, 0, 2355492, len(text)]
    written = write_pages(list(places.values()), struct.pack("<8I", *numbers) + text)
    data = written.data
    rows = [[*index, at] for index, at in zip(places, written.directories, strict=True)]
    for i in never:
        rows[i][4] = 0
    parts = [
        (12, 3453623, len(rows), np.array(rows, "<u4").tobytes()),
        (20, 347834724, 2, b"{}"),
        (28, 84720485, 2, b"{}"),
    ]
    for field, mark, count, content in parts:
        struct.pack_into("<I", data, field, len(data))
        data += struct.pack("<II", mark, count) + content
    return bytes(data)


def stack_files(pixels: Array, name: Callable[[int, int], str], **more: Any) -> dict[str, bytes]:
    """Files of a stack of pixels r t c z y x, by position and frame."""
    n_r, n_t, n_c, n_z = pixels.shape[:4]
    parts: dict[str, dict[tuple[int, int, int, int], Array]] = {}
    for r, t, c, z in np.ndindex(n_r, n_t, n_c, n_z):
        parts.setdefault(name(r, t), {})[c, z, t, r] = pixels[r, t, c, z]
    lengths = (n_c, n_z, n_t, n_r)
    return {file: stack_file(part, lengths, **more) for file, part in parts.items()}


def stack_name(r: int, t: int) -> str:
    return f"x_MMStack_Pos{r}" + (f"_{t}" if t else "") + ".ome.tif"


STACK = noise(2, 3, 2, 4, 20, 30)
"""Dims r t c z y x."""


@pytest.mark.parametrize("time_first", [True, False])
@pytest.mark.parametrize("slices_first", [True, False])
def test_a_stack_of_micro_manager(shelf: Shelf, time_first: bool, slices_first: bool) -> None:
    more = {"TimeFirst": time_first, "SlicesFirst": slices_first}
    shelf.put(stack_files(STACK, stack_name, **more))
    shelf.put({"x2_MMStack_Pos0.ome.tif": b"of another stack", "x_MMStack.txt": b"notes"})
    for name in (stack_name(0, 0), stack_name(1, 2)):
        image = shelf.open(name)
        assert image.dims == ("r", "t", "c", "z", "y", "x")
        assert image.n_files == 6
        check(image, STACK)
        assert list(image.coords["c"]) == ["DAPI", "GFP"]
        axes = ("t", "r") if time_first else ("r", "t")
        axes += ("z", "c", "y", "x") if slices_first else ("c", "z", "y", "x")
        as_stored = image.to_xarray().transpose(*axes).values
        np.testing.assert_array_equal(as_stored, shelf.by_tifffile(name))


def test_a_stack_on_every_kind_of_store(place: Place) -> None:
    pixels = STACK[:1]
    for name, data in stack_files(pixels, stack_name).items():
        place.put(name, data)
    url = f"{place.url}/{stack_name(0, 1)}"
    image = cloudimg.open(url, storage_options=place.storage_options)
    check(image, pixels[0])


def test_a_stack_of_colours(shelf: Shelf) -> None:
    pixels = noise(1, 3, 1, 4, 20, 30, 3, dtype="uint8")
    shelf.put(stack_files(pixels, stack_name, PixelType="RGB32", ChNames=["RGB"]))
    image = shelf.open(stack_name(0, 1))
    assert image.dims == ("t", "z", "y", "x", "s")
    check(image, pixels[0, :, 0])
    np.testing.assert_array_equal(image.read(), shelf.by_tifffile(stack_name(0, 1)))


def test_a_file_of_a_stack_that_is_alone(shelf: Shelf) -> None:
    """The planes that it has, as tifffile gives them."""
    name = stack_name(0, 1)
    shelf.put({name: stack_files(STACK, stack_name)[name]})
    image = shelf.open(name)
    expected = shelf.by_tifffile(name)  # z before c
    assert expected.shape == (4, 2, 20, 30)
    assert image.dims == ("c", "z", "y", "x")
    check(image, expected.transpose(1, 0, 2, 3))


@pytest.mark.parametrize("n_images", [13, 16])
def test_a_stack_of_one_file_that_was_stopped(shelf: Shelf, n_images: int) -> None:
    """Without filling, whole times are read as if there were no more, as by tifffile."""
    name = stack_name(0, 0)
    order = list(np.ndindex(3, 4, 2))[:n_images]
    part = {(c, z, t, 0): STACK[0, t, c, z] for t, z, c in order}
    shelf.put({name: stack_file(part, (2, 4, 3, 1))})
    expected = np.full_like(STACK[0], 5)
    for t, z, c in order:
        expected[t, c, z] = STACK[0, t, c, z]
    image = shelf.open(name, missing="fill", fill_value=5)
    check(image, expected)
    assert image.n_missing == 24 - n_images
    (note,) = (note for note in image.notes if note.kind == "missing-planes")
    assert f"{24 - n_images} of 24 planes of the image are missing" in note
    if n_images == 16:
        check(shelf.open(name), STACK[0, :2])
    else:
        with pytest.raises(MissingFilesError, match=r"describe 24 planes, but the file has 13;"):
            shelf.open(name)
    alone = shelf.open([name])
    pages = np.stack(list(part.values()))
    np.testing.assert_array_equal(np.sort(alone.read().ravel()), np.sort(pages.ravel()))


def test_a_stack_of_one_file_is_whole(shelf: Shelf) -> None:
    pixels = STACK[:1]
    shelf.put(stack_files(pixels, lambda r, t: "x_MMStack_Pos0.ome.tif"))
    with shelf.meter.measure() as traffic:
        image = shelf.open("x_MMStack_Pos0.ome.tif")
    assert traffic.lists == 0
    check(image, pixels[0])


def test_a_list_reads_just_one_file_of_a_stack(shelf: Shelf) -> None:
    shelf.put(stack_files(STACK, stack_name))
    with shelf.meter.measure() as traffic:
        image = shelf.open([stack_name(0, 1)])
        np.testing.assert_array_equal(image.read()[0], STACK[0, 1])
    assert {request.key for request in traffic.requests} == {f"dir/{stack_name(0, 1)}"}


def test_a_stack_without_one_of_its_files(shelf: Shelf) -> None:
    shelf.put(stack_files(STACK[:1], stack_name))
    shelf.delete(stack_name(0, 1))
    with pytest.raises(MissingFilesError, match="8 of 24 planes"):
        shelf.open(stack_name(0, 0))
    image = shelf.open(stack_name(0, 0), missing="fill", fill_value=300)
    expected = STACK[0].copy()
    expected[1] = 300
    check(image, expected)


def test_images_of_a_stack_that_were_never_written(shelf: Shelf) -> None:
    """Their offsets are 0, where tifffile gives zeros as if they were pixels."""
    files = stack_files(STACK[:1], stack_name)
    part = {(c, z, 2, 0): STACK[0, 2, c, z] for c, z in np.ndindex(2, 4)}
    files[stack_name(0, 2)] = stack_file(part, (2, 4, 3, 1), never=[6, 7])
    shelf.put(files)
    with pytest.raises(MissingFilesError, match="2 of 24 planes"):
        shelf.open(stack_name(0, 0))
    expected = STACK[0].copy()
    expected[2, 1, 2:] = 9
    check(shelf.open(stack_name(0, 0), missing="fill", fill_value=9), expected)


def test_a_stack_whose_file_was_cut(shelf: Shelf) -> None:
    """The index map is at the end of a file, so here it is made to lie about the last image."""
    files = stack_files(STACK[:1], stack_name)
    data = bytearray(files[stack_name(0, 1)])
    (at,) = struct.unpack_from("<I", data, 12)
    struct.pack_into("<I", data, at + 8 + 7 * 20 + 16, len(data) + 4000)
    files[stack_name(0, 1)] = bytes(data)
    shelf.put(files)
    image = shelf.open(stack_name(0, 0))
    with pytest.raises(CorruptFileError, match=stack_name(0, 1)):
        image.read((1, 1, 3))
    np.testing.assert_array_equal(image.read((1, 1, 2)), STACK[0, 1, 1, 2])


def test_attributes_of_a_stack(shelf: Shelf) -> None:
    """All that one file alone says, the set says as well."""
    shelf.put(stack_files(STACK[:1], stack_name))
    image, alone = shelf.open(stack_name(0, 1)), shelf.open([stack_name(0, 1)])
    assert alone.attrs["pixel_size"] == {"x": 0.65, "y": 0.65, "z": 2}
    for name in ("pixel_size", "channel_names", "time_step_s"):
        assert image.attrs[name] == alone.attrs[name]


def test_a_copy_of_a_stack_whose_metadata_lies_behind_its_pixels(
    shelf: Shelf, tmp_path: Path
) -> None:
    """A cell compares the files, but has not fetched what lies behind their pixels."""
    pixels = noise(1, 3, 1, 2, 200, 300)
    shelf.put(stack_files(pixels, stack_name))
    url, copy = shelf.folder / stack_name(0, 0), tmp_path / "copy.zarr"
    cloudimg.migrate(url, copy, levels=1)
    np.testing.assert_array_equal(zarr.open_array(copy / "0", mode="r")[...], pixels[0, :, 0])


# NDTiff


def entry(axes: Mapping[str, int | str], name: str, offset: int, plane: Array, code: int) -> bytes:
    text = json.dumps(axes).encode()
    height, width = plane.shape[:2]
    numbers = struct.pack("<Iiiiiiii", offset, width, height, code, 0, 0, 0, 0)
    return (
        struct.pack("<I", len(text)) + text + struct.pack("<I", len(name)) + name.encode() + numbers
    )


def ndtiff_files(
    parts: Mapping[str, Sequence[tuple[Mapping[str, int | str], Array]]],
    *,
    code: int = 1,
    version: int = 3,
    other: Callable[[Array], Array] = lambda plane: plane,
) -> dict[str, bytes]:
    """A dataset whose index gives each image the size of `other` of it."""
    text = json.dumps(SUMMARY).encode()
    minor = (2,) if version == 3 else ()
    numbers = (483729, version, *minor, 2355492, len(text))
    head = struct.pack(f"<{len(numbers)}I", *numbers) + text
    files, index = {}, b""
    for name, images in parts.items():
        written = write_pages([plane for _, plane in images], head)
        files[name] = bytes(written.data)
        for (axes, plane), offset in zip(images, written.pixels, strict=True):
            index += entry(axes, name, offset, other(plane), code)
    return files | {"NDTiff.index": index}


CHANNELS = ("DAPI", "GFP")
FIRST, SECOND = "x_NDTiffStack.tif", "x_NDTiffStack_1.tif"


def images_of(
    pixels: Array, t: int, first_z: int = 0
) -> list[tuple[Mapping[str, int | str], Array]]:
    """The images of one time of pixels t c z y x."""
    return [
        ({"time": t, "channel": CHANNELS[c], "z": z + first_z}, pixels[t, c, z])
        for c, z in np.ndindex(*pixels.shape[1:3])
    ]


ND = PIXELS[:2]


@pytest.mark.parametrize("version", [2, 3])
def test_an_ndtiff_dataset(shelf: Shelf, version: int) -> None:
    parts = {FIRST: images_of(ND, 0), SECOND: images_of(ND, 1)}
    shelf.put(ndtiff_files(parts, version=version))
    for name in (FIRST, SECOND):
        image = shelf.open(name)
        assert image.dims == ("t", "c", "z", "y", "x")
        assert image.n_files == 2
        check(image, ND)
        np.testing.assert_array_equal(image.read(), shelf.by_tifffile(name))
    assert list(image.coords["c"]) == list(CHANNELS)


def test_positions_of_a_dataset_are_not_placed(shelf: Shelf) -> None:
    """It has the positions of planes in their own metadata, which are not read."""
    images = [({"position": p, "z": z}, ND[p, 0, z]) for p in range(2) for z in range(2)]
    shelf.put(ndtiff_files({FIRST: images}))
    assert shelf.open(FIRST).dims == ("position", "z", "y", "x")
    with pytest.raises(ArgumentError, match="has fields along position itself"):
        shelf.open(FIRST, place="stage")


def test_ndtiff_on_every_kind_of_store(place: Place) -> None:
    for name, data in ndtiff_files({FIRST: images_of(ND, 0), SECOND: images_of(ND, 1)}).items():
        place.put(name, data)
    url = f"{place.url}/{SECOND}"
    check(cloudimg.open(url, storage_options=place.storage_options), ND)


def test_an_ndtiff_dataset_without_its_index(shelf: Shelf) -> None:
    shelf.put(ndtiff_files({FIRST: images_of(ND, 0), SECOND: images_of(ND, 1)}))
    shelf.delete("NDTiff.index")
    image = shelf.open(SECOND)
    assert image.n_files == 1
    check(image, ND[1].reshape(8, 20, 30))


def test_a_list_reads_just_one_file_of_an_ndtiff_dataset(shelf: Shelf) -> None:
    shelf.put(ndtiff_files({FIRST: images_of(ND, 0), SECOND: images_of(ND, 1)}))
    image = shelf.open([SECOND])
    np.testing.assert_array_equal(image.read()[0], ND[1].reshape(8, 20, 30))


def test_ndtiff_positions_that_do_not_begin_at_zero(shelf: Shelf) -> None:
    shelf.put(ndtiff_files({FIRST: images_of(ND, 0, -2), SECOND: images_of(ND, 1, -2)}))
    image = shelf.open(FIRST)
    assert list(image.coords["z"]) == [-2, -1, 0, 1]
    check(image, ND)
    np.testing.assert_array_equal(image.read(), shelf.by_tifffile(FIRST))


def test_ndtiff_colours(shelf: Shelf) -> None:
    pixels = noise(2, 2, 2, 20, 30, 3, dtype="uint8")
    parts = {FIRST: images_of(pixels, 0), SECOND: images_of(pixels, 1)}
    shelf.put(ndtiff_files(parts, code=2))
    image = shelf.open(SECOND)
    assert image.dims == ("t", "c", "z", "y", "x", "s")
    check(image, pixels)
    np.testing.assert_array_equal(image.read(), shelf.by_tifffile(SECOND))


def test_an_ndtiff_image_that_was_written_twice(shelf: Shelf) -> None:
    """The later one counts."""
    newer = np.full((20, 30), 4242, np.uint16)
    images = [*images_of(ND, 0), *images_of(ND, 1), ({"time": 0, "channel": "GFP", "z": 1}, newer)]
    shelf.put(ndtiff_files({FIRST: images}))
    expected = ND.copy()
    expected[0, 1, 1] = newer
    check(shelf.open(FIRST), expected)
    np.testing.assert_array_equal(shelf.by_tifffile(FIRST), expected)


def test_ndtiff_images_that_are_missing(shelf: Shelf) -> None:
    images = images_of(ND, 0)
    del images[5]
    files = ndtiff_files({FIRST: images, SECOND: images_of(ND, 1)})
    shelf.put(files)
    with pytest.raises(MissingFilesError, match=r"1 of 16 planes .* no file is named"):
        shelf.open(FIRST)
    expected = ND.copy()
    expected[0, 1, 1] = 8
    check(shelf.open(FIRST, missing="fill", fill_value=8), expected)
    shelf.delete(SECOND)
    with pytest.raises(MissingFilesError, match=SECOND):
        shelf.open(FIRST)
    expected[1] = 8
    check(shelf.open(FIRST, missing="fill", fill_value=8), expected)


@pytest.mark.long
@pytest.mark.parametrize("name", ELSEWHERE)
def test_ndtiff_names_that_leave_the_folder(shelf: Shelf, name: str) -> None:
    files = ndtiff_files({FIRST: images_of(ND, 0)})
    index = files["NDTiff.index"] + entry(
        {"time": 1, "channel": "GFP", "z": 0}, name, 8, ND[0, 0, 0], 1
    )
    shelf.put(files | {"NDTiff.index": index})
    with shelf.meter.measure() as traffic:
        for missing in ("raise", "fill"):
            with pytest.raises(CorruptFileError, match="not in its own folder"):
                shelf.open(FIRST, missing=missing)
    assert {request.key for request in traffic.requests} == {f"dir/{FIRST}", "dir/NDTiff.index"}


def test_an_ndtiff_index_that_was_cut(shelf: Shelf) -> None:
    files = ndtiff_files({FIRST: images_of(ND, 0), SECOND: images_of(ND, 1)})
    shelf.put(files | {"NDTiff.index": files["NDTiff.index"][:-9]})
    with pytest.raises(CorruptFileError, match="ends within entry 15"):
        shelf.open(FIRST)
    shelf.put({"NDTiff.index": b""})
    with pytest.raises(CorruptFileError, match="no entry"):
        shelf.open(FIRST)


@pytest.mark.parametrize(
    ("code", "other"),
    [
        (1, lambda plane: plane[:10]),
        (1, lambda plane: plane[:, :10]),
        (0, lambda plane: plane),
    ],
)
def test_an_ndtiff_index_that_the_files_do_not_fit(
    shelf: Shelf, code: int, other: Callable[[Array], Array]
) -> None:
    """Pixels lie where the index says, so a wrong size would give parts of other images."""
    parts = {FIRST: images_of(ND, 0), SECOND: images_of(ND, 1)}
    shelf.put(ndtiff_files(parts, code=code, other=other))
    with pytest.raises((CorruptFileError, MismatchError), match=FIRST):
        shelf.open(FIRST).read()


def test_ndtiff_pixels_beyond_the_end(shelf: Shelf) -> None:
    files = ndtiff_files({FIRST: images_of(ND, 0), SECOND: images_of(ND, 1)})
    shelf.put(files | {SECOND: files[SECOND][:-500]})
    image = shelf.open(FIRST)
    with pytest.raises(CorruptFileError, match=SECOND):
        image.read((1, 1, 3))
    np.testing.assert_array_equal(image.read((1, 1, 2)), ND[1, 1, 2])


def test_attributes_of_an_ndtiff_dataset(shelf: Shelf) -> None:
    shelf.put(ndtiff_files({FIRST: images_of(ND, 0), SECOND: images_of(ND, 1)}))
    image, alone = shelf.open(FIRST), shelf.open([FIRST])
    assert alone.attrs["pixel_size"] == {"x": 0.65, "y": 0.65, "z": 2}
    for name in ("pixel_size", "channel_names", "time_step_s"):
        assert image.attrs[name] == alone.attrs[name]


# Processes


@pytest.mark.slow
def test_sets_on_processes(shelf: Shelf) -> None:
    pixels = noise(3, 2, 2, 64, 64)
    shelf.put(ome_files([membership(pixels, by_time)], n_sub=1, described_in="set.companion.ome"))
    image = shelf.open("set.companion.ome")
    lazy = image.to_dask(chunks={"t": 1, "c": 1})
    shelf.put(ndtiff_files({FIRST: images_of(ND, 0), SECOND: images_of(ND, 1)}))
    shelf.put(stack_files(STACK[:1], stack_name))
    with local_client(2, 1):
        np.testing.assert_array_equal(lazy.compute(), pixels)
        reduced = image.to_dask(level=1).compute()
        np.testing.assert_array_equal(reduced, pixels[..., ::2, ::2])
        np.testing.assert_array_equal(shelf.open(FIRST).to_dask({"t": 1}).compute(), ND)
        stack = shelf.open(stack_name(0, 1)).to_dask(chunks={"t": 1})
        np.testing.assert_array_equal(stack.compute(), STACK[0])
        # An image that the cluster has not seen: it remembers the chunks of the other.
        shelf.put({"t1.ome.tif": b"no image any more"})
        with pytest.raises(FormatError, match=r"t1\.ome\.tif"):
            shelf.open("set.companion.ome").to_dask().compute()


def test_arguments_mean_the_same_as_for_patterns(shelf: Shelf) -> None:
    shelf.put(ome_files([membership(PIXELS, by_time)]))
    image = shelf.open("t0.ome.tif", axes={"y": "row"})
    assert image.dims == ("row", "t", "c", "z", "x")
    np.testing.assert_array_equal(image.read(), PIXELS.transpose(3, 0, 1, 2, 4))
    with pytest.raises(ArgumentError, match="one name"):
        shelf.open("t0.ome.tif", axes={"z": "y"})
    shelf.put({"t1.ome.tif": b"<html>not found</html>"})
    assert shelf.open("t0.ome.tif").shape == PIXELS.shape  # without validate="all"
    with pytest.raises(MismatchError, match=r"t1\.ome\.tif is not a TIFF"):
        shelf.open("t0.ome.tif", validate="all")
