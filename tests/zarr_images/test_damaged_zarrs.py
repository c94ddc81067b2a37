"""Zarrs that are damaged, unfinished, hostile or of unknown kinds: clear errors, no gigabytes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr

import cloudimg
from cloudimg.errors import (
    ArgumentError,
    ChangedError,
    CloudimgError,
    CorruptFileError,
    FolderError,
    LimitError,
    NotFoundError,
    UnsupportedFormatError,
)
from tests.support.servers import FileHandler

PIXELS = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy with two levels in chunks of 16, and shards of 32."""
    url = tmp_path / "copy.zarr"
    cloudimg.to_zarr(PIXELS, url, dims=("y", "x"), chunks=16, shards=32, levels=2)
    return url


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_damaged_groups(copy: Path) -> None:
    root = copy / "zarr.json"
    good = root.read_text()

    def refused(error: type[CloudimgError], match: str, change: Callable[[Any], object]) -> None:
        root.write_text(good)
        edit(root, change)
        with pytest.raises(error, match=match):
            cloudimg.open(copy)

    def ome(content: Any) -> Any:
        return content["attributes"]["ome"]

    refused(CorruptFileError, "not metadata of Zarr 3", lambda c: c.update(zarr_format=7))
    refused(CorruptFileError, "not metadata of Zarr 3", lambda c: c.update(node_type="x"))
    refused(FolderError, "no image of OME-Zarr: what it has is 0, 1", lambda c: c.pop("attributes"))
    refused(CorruptFileError, "damaged", lambda c: ome(c).update(multiscales=[{"axes": 5}]))
    refused(CorruptFileError, "damaged", lambda c: ome(c)["multiscales"][0].pop("datasets"))
    refused(CorruptFileError, "damaged", lambda c: ome(c)["multiscales"][0].update(axes=["y"] * 2))
    axes = ["z", "y", "x"]
    refused(
        CorruptFileError, "number for each", lambda c: ome(c)["multiscales"][0].update(axes=axes)
    )
    for path in ("../other", "/etc", ""):
        dataset = {"path": path, "coordinateTransformations": []}
        refused(
            CorruptFileError,
            "leads out|does not exist",
            lambda c, d=dataset: ome(c)["multiscales"][0].update(datasets=[d]),
        )
    refused(FolderError, "no images", lambda c: ome(c).update(plate={"wells": 3}))

    def as_plate_of_others(content: Any) -> None:
        content["attributes"].pop("cloudimg")
        ome(content).update(plate={"wells": 3})

    refused(CorruptFileError, r"metadata of the images of .* are damaged", as_plate_of_others)
    # What only decides how an image is shown does not matter.
    root.write_text(good)
    edit(root, lambda c: ome(c).update(omero={"channels": [{"label": 7, "window": "x"}]}))
    np.testing.assert_array_equal(cloudimg.open(copy).read(), PIXELS)
    root.write_text(good[:50])
    with pytest.raises(CorruptFileError, match=r"zarr\.json is not JSON"):
        cloudimg.open(copy)
    root.write_text("[" * 100_000)
    with pytest.raises(CorruptFileError, match="is not JSON"):
        cloudimg.open(copy)


def test_edited_attributes_that_make_no_sense(copy: Path) -> None:
    """Each name with values of any type: it is left out, and the image opens."""
    values: list[Any] = ["x", 7, -1.5, True, None, [], ["x"], [[1]], {}, {"crs": 1}, {"a": []}]
    names = (*cloudimg.ImageAttributes.__annotations__, "unread", "mine")
    for value in values:
        given = {"attributes": dict.fromkeys(names, value), "coordinates": {"y": value}}
        edit(copy / "zarr.json", lambda c, own=given: c["attributes"]["cloudimg"].update(own))
        image = cloudimg.open(copy)
        assert image.to_xarray(mask=True).shape == (40, 60)
        assert cloudimg.info(copy)["shape"] == [40, 60]


def test_hostile_arrays(copy: Path) -> None:
    array = copy / "0" / "zarr.json"
    good = array.read_text()

    def refused(error: type[CloudimgError], match: str, **changes: Any) -> None:
        array.write_text(good)
        edit(array, lambda content: content.update(changes))
        with pytest.raises(error, match=match):
            cloudimg.open(copy)

    grid = {"name": "regular", "configuration": {"chunk_shape": [32, 32]}}
    refused(LimitError, "at most", shape=[10**18, 60])
    refused(LimitError, "at most", shape=[2**31, 2**31])
    refused(CorruptFileError, "no pixels", shape=[0, 60])
    refused(CorruptFileError, "shape", shape=[-5, 60])
    refused(CorruptFileError, "damaged", shape=[40])
    refused(CorruptFileError, "damaged", shape=None)
    for lengths in ([-32, 32], [0, 32], [32.5, 32], "x", [True, 32]):
        changed = {"name": "regular", "configuration": {"chunk_shape": lengths}}
        refused(CorruptFileError, "chunk_shape", chunk_grid=changed)
    refused(
        CorruptFileError,
        "multiples",
        chunk_grid={**grid, "configuration": {"chunk_shape": [40, 40]}},
    )
    refused(
        UnsupportedFormatError, "chunk grid of the kind 'odd'", chunk_grid={**grid, "name": "odd"}
    )
    refused(UnsupportedFormatError, "values of the type r128", data_type="r128")
    refused(UnsupportedFormatError, "values of the type", data_type={"name": "struct"})
    refused(CorruptFileError, "fill_value", fill_value=-1)
    refused(CorruptFileError, "damaged", fill_value="what")
    plain = [{"name": "bytes", "configuration": {"endian": "little"}}]
    unknown = [*plain, {"name": "secret_sauce", "configuration": {}}]
    refused(
        UnsupportedFormatError, "codecs are bytes, secret_sauce", chunk_grid=grid, codecs=unknown
    )
    large = {"name": "regular", "configuration": {"chunk_shape": [2**20, 2**20]}}
    refused(LimitError, "CLOUDIMG_MAX_SEGMENT_BYTES", chunk_grid=large, codecs=plain)
    old = zarr.create_array(
        str(copy.parent / "old.zarr"), shape=(8, 8), chunks=(4, 4), dtype="u1", zarr_format=2
    )
    del old
    metadata = copy.parent / "old.zarr" / ".zarray"
    edit(metadata, lambda content: content.update(compressor={"id": "mystery"}))
    with pytest.raises(UnsupportedFormatError, match="mystery"):
        cloudimg.open(copy.parent / "old.zarr")
    edit(metadata, lambda content: content.update(dtype="|O"))
    with pytest.raises(UnsupportedFormatError, match=r"\|O"):
        cloudimg.open(copy.parent / "old.zarr")


def test_missing_and_damaged_objects(copy: Path) -> None:
    image = cloudimg.open(copy)
    shard = copy / "0" / "c" / "0" / "1"
    data = shard.read_bytes()
    expected = PIXELS.copy()
    expected[:32, 32:] = 0
    shard.unlink()  # as Zarr says, what is not stored is the fill value
    np.testing.assert_array_equal(image.read(), expected)
    for damaged in (data[:-20], data[:8], b"\xff" * len(data), b""):
        shard.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=r"c/0/1 (cannot be decoded|is empty)"):
            image.read()
        with pytest.raises(CorruptFileError, match="c/0/1"):
            image.read((slice(0, 4), slice(32, 36)))
    shard.write_bytes(bytes(2**22))
    with pytest.raises(CorruptFileError, match="more than"):
        image.read()
    filled = cloudimg.open(copy, bad="fill", fill_value=7)
    with pytest.warns(cloudimg.errors.CloudimgWarning):
        assert filled.read()[0, 0] == 7
    shard.write_bytes(data)
    (copy / "1" / "zarr.json").unlink()
    image = cloudimg.open(copy)
    assert len(image.levels) == 1
    assert any(note.kind == "level-missing" for note in image.notes)
    (copy / "0" / "zarr.json").unlink()
    with pytest.raises(CorruptFileError, match=r"lists the array .*0, which does not exist"):
        cloudimg.open(copy)


@pytest.mark.parametrize("codec", ["zstd", "blosc"])
@pytest.mark.parametrize("sharded", [True, False])
def test_chunks_that_claim_gigabytes(codec: str, sharded: bool, tmp_path: Path) -> None:
    """A chunk of another array, of 2 GB of zeros, in the place of one of 32 bytes."""
    compressor: Any = zarr.codecs.ZstdCodec() if codec == "zstd" else zarr.codecs.BloscCodec()
    array = zarr.create_array(
        str(tmp_path / "a.zarr"),
        shape=(8, 8),
        chunks=(4, 4),
        shards=(8, 8) if sharded else None,
        dtype="u2",
        compressors=[compressor],
    )
    array[:] = np.arange(64).reshape(8, 8)
    for path in (tmp_path / "a.zarr" / "c").rglob("*"):
        if path.is_file():
            data = bytearray(path.read_bytes())
            at = data.index(b"\x28\xb5\x2f\xfd") if codec == "zstd" else 0
            # The flags of a frame that states its size in four bytes, or the size itself.
            head = b"\xa0" + (2**31 - 1).to_bytes(4, "little")
            size = (2**31 - 1).to_bytes(4, "little")
            new = head if codec == "zstd" else size
            data[at + 4 : at + 4 + len(new)] = new
            path.write_bytes(data)
    image = cloudimg.open(tmp_path / "a.zarr")
    for region in (None, (slice(0, 1), slice(0, 1))):
        with pytest.raises(CorruptFileError, match="claims to have 2147483647 bytes"):
            image.read(region)


def test_unfinished_copies_and_wrong_urls(tmp_path: Path, copy: Path) -> None:
    (copy / "zarr.json").unlink()  # the last document that a migration stores
    with pytest.raises(FolderError, match="not finished: run the same migration again"):
        cloudimg.open(copy)
    (tmp_path / "no.zarr").mkdir()
    for name in ("no.zarr", "nowhere.zarr"):
        with pytest.raises(FileNotFoundError):
            cloudimg.open(tmp_path / name)


def test_arguments_for_files_are_refused(copy: Path) -> None:
    for options in ({"rgb": True}, {"imread": np.asarray}, {"listing": "probe"}):
        with pytest.raises(ArgumentError, match=r"is a Zarr, and .* is for files"):
            cloudimg.open(copy, **options)
    with pytest.raises(CorruptFileError, match="series=1"):
        cloudimg.open(copy, series=1)


@pytest.mark.parametrize("entry", [(10**7, 128), (2**61, 128), (8, 0), (-60, 128)])
def test_indices_that_point_where_nothing_is(entry: tuple[int, int], tmp_path: Path) -> None:
    """A window of a few chunks fails like the whole shard; it is not the fill value."""
    url = tmp_path / "array"
    serializer = zarr.codecs.ShardingCodec(
        chunk_shape=(8, 8),
        codecs=[zarr.codecs.BytesCodec()],
        index_codecs=[zarr.codecs.BytesCodec()],
    )
    array = zarr.create_array(
        str(url), shape=(64, 64), chunks=(64, 64), dtype="u2", serializer=serializer,
        compressors=None, fill_value=7,
    )  # fmt: skip
    array[:] = 1
    shard = url / "c" / "0" / "0"
    data = shard.read_bytes()
    index = np.frombuffer(data[-1024:], "<u8").reshape(64, 2).copy()
    index[5] = entry[0] if entry[0] >= 0 else len(data) + entry[0], entry[1]
    shard.write_bytes(data[:-1024] + index.tobytes())
    image = cloudimg.open(url)
    for window in ((slice(0, 64), slice(0, 64)), (slice(0, 4), slice(40, 46))):
        with pytest.raises(CorruptFileError, match=r"c/0/0 cannot be decoded"):
            image.read(window)
    assert int(image.read((slice(0, 4), slice(0, 4))).max()) == 1


def test_a_truncated_shard_with_its_index_at_the_start(tmp_path: Path) -> None:
    at_start = zarr.codecs.ShardingCodec(chunk_shape=(8, 8), index_location="start")
    array = zarr.create_array(
        str(tmp_path / "array"), shape=(64, 64), chunks=(64, 64), dtype="u2",
        serializer=at_start, compressors=None,
    )  # fmt: skip
    array[:] = 1
    shard = tmp_path / "array" / "c" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(CorruptFileError, match=r"it has 0 of the \d+ bytes"):
        cloudimg.open(tmp_path / "array").read((slice(60, 64), slice(60, 64)))


def test_arrays_without_axes_and_numbers_beyond_floats(copy: Path) -> None:
    zarr.create_array(str(copy.parent / "one"), shape=(), dtype="u2")
    with pytest.raises(UnsupportedFormatError, match="without axes"):
        cloudimg.open(copy.parent / "one")
    root = copy / "zarr.json"
    good = json.loads(root.read_text())["attributes"]["ome"]["multiscales"][0]
    huge = {"channels": [{"window": {"start": 0, "end": 10**400}}]}
    edit(root, lambda c: c["attributes"]["ome"].update(omero=huge))
    assert "display_ranges" not in cloudimg.open(copy).attrs
    good["datasets"][0]["coordinateTransformations"][0]["scale"] = [10**400, 1]
    edit(root, lambda c: c["attributes"]["ome"].update(multiscales=[good]))
    with pytest.raises(CorruptFileError, match=r"damaged \(multiscales"):
        cloudimg.open(copy)


@pytest.mark.parametrize("codec", ["gzip", "zlib"])
def test_chunks_that_become_large_without_saying_so(codec: str, tmp_path: Path) -> None:
    """400 MiB of zeros in the place of a chunk of 2 MiB: decoded no further than those."""
    small: Any = numcodecs.get_codec({"id": codec})
    array = zarr.create_array(
        str(tmp_path / "array"), shape=(1024, 1024), chunks=(1024, 1024), dtype="u2",
        zarr_format=2, compressors=small,
    )  # fmt: skip
    array[:] = 1
    assert int(cloudimg.open(tmp_path / "array").read().max()) == 1
    (tmp_path / "array" / "0.0").write_bytes(small.encode(bytes(400 * 2**20)))
    with pytest.raises(CorruptFileError, match="claims to have 2097217 bytes or more"):
        cloudimg.open(tmp_path / "array").read()


def test_filters_may_make_chunks_larger_before_they_are_compressed(tmp_path: Path) -> None:
    wide = numcodecs.AsType(encode_dtype="<u8", decode_dtype="<u2")
    old = zarr.create_array(
        str(tmp_path / "old"), shape=(40, 60), chunks=(16, 16), dtype="u2", zarr_format=2,
        filters=[wide], compressors=numcodecs.Zstd(),
    )  # fmt: skip
    with_checksum: Any = [zarr.codecs.Crc32cCodec(), zarr.codecs.ZstdCodec()]
    new = zarr.create_array(
        str(tmp_path / "new"), shape=(40, 60), chunks=(16, 16), dtype="u2",
        compressors=with_checksum,
    )  # fmt: skip
    for array, name in ((old, "old"), (new, "new")):
        array[:] = PIXELS
        np.testing.assert_array_equal(cloudimg.open(tmp_path / name).read(), PIXELS)


def test_a_shard_that_is_replaced_between_its_index_and_its_chunks(tmp_path: Path) -> None:
    """The places of one object's chunks say nothing of another's."""

    class Replacing(FileHandler):
        def answer_file(self, data: bytes) -> None:
            if self.headers.get("Range", "").startswith("bytes=-"):  # the index
                array[:8, :32] = 2  # more chunks, before those that were there
            super().answer_file(data)

    array = zarr.create_array(
        str(tmp_path / "array.zarr"), shape=(64, 64), chunks=(8, 8), shards=(64, 64), dtype="u2",
        compressors=None,
    )  # fmt: skip
    array[:8, 32:] = 1
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Replacing, tmp_path)) as server:
        threading.Thread(target=server.serve_forever).start()
        image = cloudimg.open(f"http://127.0.0.1:{server.server_port}/array.zarr")
        window = (slice(0, 4), slice(32, 48))
        with pytest.raises(ChangedError, match="c/0/0 was replaced while it was read"):
            image.read(window)
        assert image.read(window).tolist() == [[1] * 16] * 4
        server.shutdown()


def test_places_inside_a_zarr_that_are_no_image(copy: Path) -> None:
    for name in ("7", "labels/cells", "0/c/0/0"):
        with pytest.raises(NotFoundError, match=r"copy\.zarr, whose arrays are 0, 1$"):
            cloudimg.open(copy / name)
    assert cloudimg.info(copy / ".cloudimg")["kind"] == "folder"
    (copy / "zarr.json").unlink()  # as of a copy that is not finished
    (copy / "1" / "zarr.json").unlink()
    with pytest.raises(FolderError, match=r"copy\.zarr is a copy that is not finished"):
        cloudimg.open(copy / "1")
