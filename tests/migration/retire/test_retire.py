"""Retiring the originals of a copy, and bringing them back."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError, ChangedError, CloudimgError, CorruptFileError
from cloudimg.migration.journal.sealing import seal, unsealed
from cloudimg.storage import Standing, Store, split_url
from tests.conftest import Place
from tests.support import copies, seed
from tests.support.faulty_store import Rule, held, kms, unconditional
from tests.support.metering import Meter
from tests.support.ome_set import write_dataset
from tests.support.raw_tiff import RawTiff
from tests.support.servers import S3Account
from tests.support.terminal import ask
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # each retires a whole archive

N_FILES = 3
SECRET = "c0ffee-is-no-secret"
TAG = {"retired": "yes"}


def pixels(z: int) -> Any:
    return np.random.default_rng(z).integers(1, 255, (32, 48), np.uint8)


@dataclass(frozen=True, slots=True)
class Archive:
    """Originals in one folder, and a copy of them."""

    url: str
    """Of the folder above that of the originals."""
    copy: str
    options: Mapping[str, Any] = field(repr=False)
    copy_options: Mapping[str, Any] = field(repr=False)

    @property
    def pattern(self) -> str:
        return f"{self.url}/exp/a_{{z}}.tif"

    @property
    def elsewhere(self) -> str:
        return f"{self.url}/old"

    def migrate(self, **more: Any) -> None:
        cloudimg.migrate(
            self.pattern,
            self.copy,
            source_options=self.options,
            target_options=self.copy_options,
            **more,
        )

    def retire(self, **how: Any) -> cloudimg.Retirement:
        how.setdefault("confirm", lambda _: True)
        return cloudimg.retire(
            self.copy, storage_options=self.copy_options, source_options=self.options, **how
        )

    def objects(self) -> dict[str, bytes]:
        """What is there, without the copy."""
        found = copies.objects(self.url, dict(self.options))
        return {key: data for key, data in found.items() if ".zarr/" not in key}

    def look(self, key: str) -> tuple[Store, str, Standing | None]:
        location, root = split_url(self.url)
        store, path = Store(location, dict(self.options)), f"{root}/{key}"
        return store, path, store.move(lambda mover: mover.look(path), changes=False)

    def tags(self, key: str) -> dict[str, str]:
        store, path, _ = self.look(key)
        return store.move(lambda mover: mover.tags(path), changes=False)

    def set_tags(self, key: str, tags: dict[str, str]) -> None:
        store, path, standing = self.look(key)
        assert standing is not None
        store.move(lambda mover: mover.set_tags(path, tags, {}, standing))


def archive_at(place: Place, tmp_path: Path) -> Archive:
    """Originals in a place, which are copied. Where it does not fence, the copy is elsewhere."""
    for z in range(N_FILES):
        place.put(f"exp/a_{z}.tif", seed.encode(pixels(z)))
    url, options = place.url.removeprefix("file://"), place.storage_options
    if place.name == "gs":
        return Archive(url, f"{tmp_path}/copy.ome.zarr", options, {})
    return Archive(url, f"{url}/copy.ome.zarr", options, options)


@pytest.fixture
def archive(place: Place, tmp_path: Path) -> Archive:
    if place.name in ("http", "memory", "az"):
        pytest.skip("files there can neither be tagged nor moved")
    made = archive_at(place, tmp_path)
    made.migrate()
    return made


@pytest.fixture
def local(tmp_path: Path) -> Archive:
    (tmp_path / "exp").mkdir()
    for z in range(N_FILES):
        (tmp_path / "exp" / f"a_{z}.tif").write_bytes(seed.encode(pixels(z)))
    return Archive(str(tmp_path), f"{tmp_path}/copy.ome.zarr", {}, {})


@pytest.fixture
def in_bucket(meter: Meter, bucket: str) -> Archive:
    for z in range(N_FILES):
        meter.put(bucket, f"exp/a_{z}.tif", seed.encode(pixels(z)))
    options = meter.storage_options
    made = Archive(f"s3://{bucket}", f"s3://{bucket}/copy.ome.zarr", options, options)
    made.migrate()
    return made


def moved(before: Mapping[str, bytes]) -> dict[str, bytes]:
    return {key.replace("exp/", "old/"): data for key, data in before.items()}


# ------------------------------------------------------------------------------- there and back


def test_files_move_and_come_back(archive: Archive) -> None:
    before = archive.objects()
    planned = archive.retire(move_to=archive.elsewhere)
    assert planned
    assert (planned.is_dry_run, planned.n_files, planned.n_done) == (True, N_FILES, 0)
    assert archive.objects() == before
    done = archive.retire(move_to=archive.elsewhere, execute=True)
    assert (bool(done), done.n_done, done.n_before) == (True, N_FILES, 0)
    assert f"{N_FILES} files by tifffile" in done.proof
    assert archive.objects() == moved(before)
    assert cloudimg.verify(archive.copy, storage_options=archive.copy_options)
    again = archive.retire(move_to=archive.elsewhere, execute=True)
    assert (again.n_done, again.n_before) == (0, N_FILES)
    back = archive.retire(undo=True)
    assert (bool(back), back.n_done) == (True, N_FILES)
    assert archive.objects() == before
    with pytest.raises(ArgumentError, match="are not retired"):
        archive.retire(undo=True)


def test_tags_come_and_go(archive: Archive, place: Place) -> None:
    if place.name == "local":
        with pytest.raises(ArgumentError, match=r"local files have no tags: pass move_to="):
            archive.retire(tag=TAG)
        return
    archive.set_tags("exp/a_0.tif", {"project": "cells"})
    archive.set_tags("exp/a_1.tif", {"retired": "no"})
    before = archive.objects()
    assert archive.retire(tag=TAG).n_files == N_FILES
    assert archive.tags("exp/a_0.tif") == {"project": "cells"}
    done = archive.retire(tag=TAG, execute=True)
    assert (bool(done), done.n_done) == (True, N_FILES)
    assert archive.tags("exp/a_0.tif") == {"project": "cells", **TAG}
    assert archive.tags("exp/a_1.tif") == archive.tags("exp/a_2.tif") == TAG
    with pytest.raises(ArgumentError, match="by another action: tag retired=yes"):
        archive.retire(move_to=archive.elsewhere, execute=True)
    assert archive.retire(tag=TAG, execute=True).n_before == N_FILES
    assert archive.retire(undo=True).n_done == N_FILES
    assert archive.tags("exp/a_0.tif") == {"project": "cells"}
    assert archive.tags("exp/a_1.tif") == {"retired": "no"}
    assert archive.tags("exp/a_2.tif") == {}
    assert archive.objects() == before


def test_to_another_disk(local: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the target cannot be linked to, bytes and times are copied."""
    import errno

    link = os.link

    def across(source: Any, target: Any, **more: Any) -> None:
        if str(source).endswith(".tif"):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        link(source, target, **more)

    monkeypatch.setattr(os, "link", across)
    local.migrate()
    before = local.objects()
    times = {path.name: path.stat().st_mtime_ns for path in Path(local.url, "exp").iterdir()}
    assert local.retire(move_to=local.elsewhere, execute=True).n_done == N_FILES
    assert local.objects() == moved(before)
    moved_times = {path.name: path.stat().st_mtime_ns for path in Path(local.elsewhere).iterdir()}
    assert moved_times == times
    assert local.retire(undo=True).n_done == N_FILES
    assert local.objects() == before


@pytest.mark.slow
def test_large_objects_are_copied_in_parts(
    moto: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their metadata and tags; their bytes are compared, because ETags are no MD5s then."""
    monkeypatch.setattr("cloudimg.storage.fsspec_mover._MOST_COPIED_BYTES", 2**20)
    monkeypatch.setattr("cloudimg.storage.fsspec_mover._PART_BYTES", 5 * 2**20)
    account = S3Account(moto)
    client = account.client()
    client.create_bucket(Bucket=bucket)
    image = np.random.default_rng(0).integers(0, 255, (2600, 2600), np.uint8)
    more = {"ContentType": "image/tiff", "Metadata": {"who": "me"}, "Tagging": "project=cells"}
    client.put_object(Bucket=bucket, Key="exp/a_0.tif", Body=seed.encode(image), **more)
    options = account.storage_options
    made = Archive(f"s3://{bucket}", f"s3://{bucket}/copy.ome.zarr", options, options)
    made.migrate()
    before = made.objects()
    for how in ({"move_to": made.elsewhere, "execute": True}, {"undo": True}):
        assert made.retire(**how).n_done == 1
    assert made.objects() == before
    head = client.head_object(Bucket=bucket, Key="exp/a_0.tif")
    assert head["ETag"].endswith('-2"')
    assert (head["ContentType"], head["Metadata"]) == ("image/tiff", {"who": "me"})
    assert made.tags("exp/a_0.tif") == {"project": "cells"}
    client.close()


def test_where_etags_are_not_md5s(meter: Meter, bucket: str) -> None:
    """As under SSE-KMS: the bytes themselves are read."""
    meter.faults([kms()])
    for z in range(N_FILES):
        meter.put(bucket, f"exp/a_{z}.tif", seed.encode(pixels(z)))
    options = meter.storage_options
    made = Archive(f"s3://{bucket}", f"s3://{bucket}/copy.ome.zarr", options, options)
    made.migrate()
    before = made.objects()
    assert made.retire(move_to=made.elsewhere, execute=True).n_done == N_FILES
    (part,) = (
        data for key, data in copies.objects(made.copy, options).items() if "/000000.json" in key
    )
    assert all(file[3].startswith("sha256:") for file in json.loads(part)["files"])
    assert made.retire(undo=True).n_done == N_FILES
    assert made.objects() == before


# ------------------------------------------------------------------------- files that changed


def test_nothing_is_done_if_a_file_changed_before(archive: Archive, place: Place) -> None:
    place.put("exp/a_1.tif", seed.encode(pixels(9)))
    before = archive.objects()
    planned = archive.retire(move_to=archive.elsewhere)
    if place.name != "gs":  # whose emulator states no versions to those who read
        assert (bool(planned), planned.n_left) == (False, 1)
        assert planned.left[0].url.endswith("exp/a_1.tif")
    with pytest.raises(CloudimgError, match="were not touched, because"):
        archive.retire(move_to=archive.elsewhere, execute=True)
    assert archive.objects() == before


def at_last(advance: cloudimg.Advance, what: str) -> bool:
    return advance.what == what and advance.n_done == advance.n_cells


@pytest.mark.parametrize("kind", ["move", "tag"])
def test_a_file_that_changes_after_the_proof_stays(
    in_bucket: Archive, meter: Meter, bucket: str, kind: str
) -> None:
    new = seed.encode(pixels(9))
    how = {"tag": TAG} if kind == "tag" else {"move_to": in_bucket.elsewhere}
    before = in_bucket.objects()
    meter.faults([held("HEAD", "exp/a_1.tif", nth=1)])
    with ThreadPoolExecutor(1) as threads:
        work = threads.submit(in_bucket.retire, execute=True, **how)
        wait_until(lambda: bool(meter.held()) or work.done(), "the look at the file")
        meter.put(bucket, "exp/a_1.tif", new)
        meter.release()
        with pytest.raises(ChangedError, match="1 file changed since the copy was made"):
            work.result()
    meter.faults([])
    assert in_bucket.objects() == {**before, "exp/a_1.tif": new}
    assert in_bucket.tags("exp/a_0.tif") == {}


@pytest.mark.parametrize("ignores", [False, True], ids=["conditions", "none"])
def test_a_file_that_changes_while_it_is_copied_stays(
    in_bucket: Archive, meter: Meter, bucket: str, ignores: bool
) -> None:
    """Also where the store ignores the condition on what is copied: the copy is read back."""
    new = seed.encode(pixels(9))
    before = in_bucket.objects()
    faults: list[Rule] = [held("PUT", "old/a_1.tif", nth=1)]
    if ignores:
        faults.insert(0, unconditional("PUT", "old/"))
    meter.faults(faults)
    with ThreadPoolExecutor(1) as threads:
        work = threads.submit(in_bucket.retire, move_to=in_bucket.elsewhere, execute=True)
        wait_until(lambda: bool(meter.held()) or work.done(), "the copy")
        meter.put(bucket, "exp/a_1.tif", new)
        meter.release()
        done = work.result()
    assert (done.n_done, done.n_left) == (N_FILES - 1, 1)
    assert done.left[0].why == "it changed since it was copied"
    expected = {**moved(before), "exp/a_1.tif": new}
    del expected["old/a_1.tif"]
    assert in_bucket.objects() == expected
    back = in_bucket.retire(undo=True)
    assert (back.n_done, back.n_left) == (N_FILES - 1, 1)
    assert in_bucket.objects() == {**before, "exp/a_1.tif": new}


def test_a_file_that_changes_before_it_is_deleted_stays(
    in_bucket: Archive, meter: Meter, bucket: str
) -> None:
    new = seed.encode(pixels(9))
    before = in_bucket.objects()
    meter.faults([held("DELETE", "exp/a_1.tif", nth=1)])
    with ThreadPoolExecutor(1) as threads:
        work = threads.submit(in_bucket.retire, move_to=in_bucket.elsewhere, execute=True)
        wait_until(lambda: bool(meter.held()) or work.done(), "the deletion")
        meter.put(bucket, "exp/a_1.tif", new)
        meter.release()
        done = work.result()
    assert (done.n_done, done.n_left) == (N_FILES - 1, 1)
    assert in_bucket.objects() == {**moved(before), "exp/a_1.tif": new}


def test_a_file_that_changes_while_it_is_tagged_loses_the_tag(
    in_bucket: Archive, meter: Meter, bucket: str
) -> None:
    """A lifecycle rule on the tag would delete it, although it was never copied."""
    meter.faults([held("PUT", "exp/a_1.tif", nth=1)])
    with ThreadPoolExecutor(1) as threads:
        work = threads.submit(in_bucket.retire, tag=TAG, execute=True)
        wait_until(lambda: bool(meter.held()) or work.done(), "the tag")
        meter.faults([])
        meter.put(bucket, "exp/a_1.tif", seed.encode(pixels(9)))
        meter.release()
        done = work.result()
    assert (done.n_done, done.n_left) == (N_FILES - 1, 1)
    assert "was taken away" in done.left[0].why
    assert in_bucket.tags("exp/a_1.tif") == {}
    assert in_bucket.tags("exp/a_0.tif") == TAG


def test_what_was_put_in_a_place_since_stays_there(archive: Archive, place: Place) -> None:
    before = archive.objects()
    archive.retire(move_to=archive.elsewhere, execute=True)
    new = seed.encode(pixels(9))
    place.put("exp/a_1.tif", new)
    back = archive.retire(undo=True)
    assert (bool(back), back.n_done, back.n_left) == (False, N_FILES - 1, 1)
    assert "another file is at" in back.left[0].why
    found = archive.objects()
    assert (found["exp/a_1.tif"], found["old/a_1.tif"]) == (new, before["exp/a_1.tif"])
    place.delete("exp/a_1.tif")
    assert archive.retire(undo=True)
    assert archive.objects() == before


def test_files_do_not_move_onto_others(archive: Archive, place: Place) -> None:
    place.put("old/a_2.tif", b"of somebody else")
    before = archive.objects()
    with pytest.raises(ArgumentError, match="1 file cannot move to"):
        archive.retire(move_to=archive.elsewhere, execute=True)
    assert archive.objects() == before
    with pytest.raises(ArgumentError, match="are not retired"):
        archive.retire(undo=True)


def test_files_that_are_gone_are_named(local: Archive) -> None:
    local.migrate()
    local.retire(move_to=local.elsewhere, execute=True)
    Path(local.elsewhere, "a_1.tif").unlink()
    back = local.retire(undo=True)
    assert (back.n_done, back.n_left) == (N_FILES - 1, 1)
    assert back.left[0].why == "it is gone, and not by this list"


# ----------------------------------------------------------------------------------- refusals

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"missing": "fill"}, 'missing="fill"'),
    ({"bad": "fill"}, 'bad="fill"'),
    ({"exclude": "*b_*"}, r"left out of it \(exclude=\)"),
    ({"series": 0}, ""),
]


@pytest.mark.parametrize(("arguments", "why"), REFUSED)
def test_copies_that_cannot_take_their_place(
    local: Archive, arguments: dict[str, Any], why: str
) -> None:
    Path(local.url, "exp", "b_0.tif").write_bytes(seed.encode(pixels(5)))
    local.migrate(**{"allow_unmatched": True, **arguments})
    if why:
        with pytest.raises(ArgumentError, match=f"cannot be retired: .*{why}"):
            local.retire(move_to=local.elsewhere)
    else:
        assert local.retire(move_to=local.elsewhere).n_files == N_FILES


def test_one_of_several_images(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for number in (0, 1):
            writer.write(pixels(number)[number:], photometric="minisblack", metadata=None)
    for series in (0, 1):
        copy = tmp_path / f"copy_{series}.zarr"
        cloudimg.migrate(tmp_path / "a.tif", copy, series=series)
        with pytest.raises(ArgumentError, match=r"further images|several images"):
            cloudimg.retire(copy, move_to=tmp_path / "old")


def test_copies_without_files_that_can_move(tmp_path: Path, place: Place) -> None:
    cloudimg.to_zarr(np.zeros((4, 32, 32), np.uint8), tmp_path / "array.zarr", dims="zyx")
    with pytest.raises(ArgumentError, match="was made of an array"):
        cloudimg.retire(tmp_path / "array.zarr", move_to=tmp_path / "old")
    if place.name in ("http", "memory"):
        made = archive_at(place, tmp_path)
        made = Archive(made.url, f"{tmp_path}/copy.zarr", made.options, {})
        made.migrate()
        with pytest.raises(ArgumentError, match=r"can neither be tagged nor moved|states none"):
            made.retire(move_to=made.elsewhere)


def test_own_readers_and_palettes(tmp_path: Path) -> None:
    colormap = np.arange(768, dtype=np.uint16).reshape(3, 256)
    (tmp_path / "a.tif").write_bytes(
        seed.encode(pixels(0), photometric="palette", colormap=colormap)
    )
    cloudimg.open(tmp_path / "a.tif", palette="rgb").to_zarr(tmp_path / "rgb.zarr")
    with pytest.raises(ArgumentError, match="colours instead of the files' indices"):
        cloudimg.retire(tmp_path / "rgb.zarr", move_to=tmp_path / "old")

    def imread(file: Any, url: str) -> Any:
        return tifffile.imread(file)

    cloudimg.migrate(tmp_path / "a.tif", tmp_path / "own.zarr", imread=imread)
    with pytest.raises(ArgumentError, match="imread="):
        cloudimg.retire(tmp_path / "own.zarr", move_to=tmp_path / "old")


def test_a_store_that_does_not_fence(meter: Meter, bucket: str, tmp_path: Path) -> None:
    meter.faults([unconditional()])
    for z in range(N_FILES):
        meter.put(bucket, f"exp/a_{z}.tif", seed.encode(pixels(z)))
    options = meter.storage_options
    made = Archive(f"s3://{bucket}", f"s3://{bucket}/copy.ome.zarr", options, options)
    with pytest.warns(cloudimg.errors.CloudimgWarning, match="does not refuse"):
        made.migrate()
    with pytest.raises(ArgumentError, match="did not refuse to create objects that exist"):
        made.retire(move_to=made.elsewhere)


def test_an_unfinished_copy(local: Archive) -> None:
    local.migrate()
    Path(local.copy, ".cloudimg", "done.json").unlink()
    with pytest.raises(ArgumentError, match="is not finished"):
        local.retire(move_to=local.elsewhere, execute=True)


def test_places_to_move_to(local: Archive, tmp_path: Path) -> None:
    local.migrate()
    (tmp_path / "link").symlink_to(local.copy)
    for to, why in (
        (f"{tmp_path}/link/old", "is part of the copy"),
        (f"{tmp_path}/link", "is part of the copy"),
        ("s3://lab/old", "must be in the store of the originals"),
        (f"{local.url}/exp", "is where the originals are"),
        (f"{local.copy}/old", "is part of the copy"),
        ("/", "must name a folder"),
    ):
        with pytest.raises(ArgumentError, match=re.escape(why)):
            local.retire(move_to=to)
    for how in ({}, {"tag": TAG, "undo": True}, {"tag": {}}, {"tag": {"a": ""}}):
        with pytest.raises(ArgumentError, match=r"pass one of tag=|must be one name"):
            local.retire(**how)
    with pytest.raises(ArgumentError, match="names other files"):
        local.retire(move_to=local.elsewhere, source=f"{local.url}/other/a_{{z}}.tif")


def test_a_damaged_copy(local: Archive) -> None:
    local.migrate()
    before = local.objects()
    (shard,) = (path for path in Path(local.copy, "0", "c").rglob("*") if path.is_file())
    data = bytearray(shard.read_bytes())
    data[20] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CloudimgError, match=r"were not touched, because .*SHA-256"):
        local.retire(move_to=local.elsewhere, execute=True)
    assert local.objects() == before


def test_a_damaged_list(local: Archive) -> None:
    local.migrate()
    local.retire(move_to=local.elsewhere, execute=True)
    before = local.objects()
    (part,) = Path(local.copy, ".cloudimg", "retired").glob("*/000000.json")
    whole = part.read_bytes()
    part.write_bytes(whole.replace(b"a_1.tif", b"b_1.tif"))
    for how in ({"undo": True}, {"move_to": local.elsewhere, "execute": True}):
        with pytest.raises(CorruptFileError, match="does not match its checksum"):
            local.retire(**how)
    part.unlink()
    with pytest.raises(CorruptFileError, match="is missing"):
        local.retire(undo=True)
    assert local.objects() == before
    part.write_bytes(whole)
    assert local.retire(undo=True)


def test_a_copy_with_a_way_back_is_not_deleted(local: Archive, tmp_path: Path) -> None:
    local.migrate()
    local.retire(move_to=local.elsewhere, execute=True)
    with pytest.raises(ArgumentError, match="has the list with the way back"):
        cloudimg.migrate(f"{local.elsewhere}/a_{{z}}.tif", local.copy, overwrite=True)
    assert local.retire(undo=True)


# -------------------------------------------------------------------------- the second reader


def test_a_file_that_tifffile_misreads_is_read_by_gdal(tmp_path: Path) -> None:
    """tifffile applies a predictor beside no compression; libtiff and cloudimg do not."""
    pytest.importorskip("rasterio")
    raw = RawTiff(width=48, height=32, predictor=2)
    (tmp_path / "a.tif").write_bytes(raw.build([pixels(0).tobytes()]))
    assert (tifffile.imread(tmp_path / "a.tif") != pixels(0)).any()
    cloudimg.migrate(tmp_path / "a.tif", tmp_path / "copy.zarr")
    done = cloudimg.retire(tmp_path / "copy.zarr", move_to=tmp_path / "old", execute=True)
    assert done
    assert "1 file by GDAL read again" in done.proof


def test_a_file_that_no_other_reader_reads_stays(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", pixels(0))
    cloudimg.migrate(tmp_path / "a.npy", tmp_path / "copy.zarr")
    with pytest.raises(CloudimgError, match=r"a\.npy is not read as the copy has it \(tifffile: "):
        cloudimg.retire(tmp_path / "copy.zarr", move_to=tmp_path / "old", execute=True)
    assert (tmp_path / "a.npy").exists()


def test_all_files_of_a_dataset_move(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set")
    (tmp_path / "set" / "notes.txt").write_text("of the microscope")
    cloudimg.migrate(tmp_path / "set" / "t0.ome.tif", tmp_path / "copy.zarr")
    planned = cloudimg.retire(tmp_path / "copy.zarr", move_to=tmp_path / "old")
    assert planned.n_files == 3
    assert planned.stays == (f"1 other file in {tmp_path}/set/ ({tmp_path}/set/notes.txt)",)
    done = cloudimg.retire(tmp_path / "copy.zarr", move_to=tmp_path / "old", execute=True)
    assert "3 files by tifffile" in done.proof
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["notes.txt"]
    assert len(list((tmp_path / "old").iterdir())) == 3


def test_samples_planes_and_pyramids(tmp_path: Path) -> None:
    """Axes in another order than tifffile's, levels, and a sample of many files."""
    (tmp_path / "in").mkdir()
    image = np.random.default_rng(0).integers(0, 255, (25, 3, 40, 56, 3), np.uint8)
    for t in range(25):
        with tifffile.TiffWriter(tmp_path / "in" / f"t{t}.ome.tif", ome=True) as writer:
            more = {"photometric": "rgb", "tile": (16, 16)}
            writer.write(image[t], subifds=1, metadata={"axes": "ZYXS"}, **more)
            writer.write(image[t, :, ::2, ::2], subfiletype=1, **more)
    cloudimg.migrate(tmp_path / "in" / "t{t}.ome.tif", tmp_path / "copy.zarr")
    planned = cloudimg.retire(tmp_path / "copy.zarr", move_to=tmp_path / "old")
    assert [(each.what, each.n_files) for each in planned.not_held] == [("pyramid", 25)]
    done = cloudimg.retire(tmp_path / "copy.zarr", move_to=tmp_path / "old", execute=True)
    assert done.n_done == 25
    assert "20 files by tifffile" in done.proof


# ------------------------------------------------------------------------- the command, secrets


def test_the_command(local: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    local.migrate()
    before = local.objects()
    words = ["retire", local.copy, "--move-to", local.elsewhere]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert f"move to {local.elsewhere} for {N_FILES} files" in shown
    assert "with --execute, all pixels are compared" in shown
    assert local.objects() == before
    assert main([*words, "--execute"]) == 0
    assert "the way back is in" in (shown := capsys.readouterr().out)
    assert "--undo reads it" in shown
    assert local.objects() == moved(before)
    Path(local.url, "exp", "a_0.tif").write_bytes(b"new")
    assert main(["retire", local.copy, "--undo", "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["n_left"] == 1
    assert shown.err.endswith("1 file was left as it is\n")
    with pytest.raises(SystemExit):
        main(["retire", local.copy, "--tag", "retired"])
    assert "must be KEY=VALUE" in capsys.readouterr().err
    assert main(["retire", local.copy, "--undo", "--execute"]) == 2


def test_files_elsewhere_are_acted_on_after_a_question(
    in_bucket: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy is somebody's text: it may name any bucket that the user can write to."""
    copy = str(tmp_path / "copy.zarr")
    cloudimg.migrate(in_bucket.pattern, copy, source_options=in_bucket.options)
    options = ["--source-options", json.dumps(in_bucket.options)]
    cloudimg_words = ["retire", copy, "--tag", "retired=yes", *options]
    with pytest.raises(ArgumentError, match="pass source= with their URL"):
        cloudimg.retire(copy, tag=TAG)
    assert main(cloudimg_words) == 0  # the endpoint was typed
    code, shown = ask(["retire", copy, "--tag", "retired=yes"], "n")
    assert code == 1
    assert "Act on them with your rights? [y/N]" in shown


def test_no_secret_is_stored(meter: Meter, bucket: str, tmp_path: Path) -> None:
    for z in range(N_FILES):
        meter.put(bucket, f"exp/a_{z}.tif", seed.encode(pixels(z)))
    options = {**meter.storage_options, "secret": SECRET}
    made = Archive(f"s3://{bucket}", f"s3://{bucket}/copy.ome.zarr", options, options)
    made.migrate()
    shown = [str(made.retire(move_to=made.elsewhere)), repr(made.retire(move_to=made.elsewhere))]
    shown.append(str(made.retire(move_to=made.elsewhere, execute=True)))
    assert not any(SECRET in text for text in shown)
    found = copies.objects(made.copy, options)
    assert any(key.startswith(".cloudimg/retired/") for key in found)
    assert not any(SECRET.encode() in data for data in found.values())


def test_another_retirement_is_refused_meanwhile(local: Archive) -> None:
    local.migrate()
    seen: list[BaseException] = []

    def second(advance: cloudimg.Advance) -> None:
        if at_last(advance, "verifying"):
            try:
                local.retire(move_to=f"{local.url}/third", execute=True)
            except CloudimgError as exc:
                seen.append(exc)

    assert local.retire(move_to=local.elsewhere, execute=True, progress=second)
    assert len(seen) == 1
    assert "another migration is writing" in str(seen[0])


# ------------------------------------------------------------------ what would lose an original


def reseal(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = unsealed(path.read_bytes())
    assert content is not None
    change(content)
    path.write_bytes(seal(content))


def test_a_list_that_moves_files_to_where_they_are(local: Archive) -> None:
    """Else each file is found at both places, and the one at the first is deleted."""
    local.migrate()
    before = local.objects()
    local.retire(move_to=local.elsewhere, execute=True)
    for path in Path(local.elsewhere).iterdir():
        path.rename(Path(local.url, "exp", path.name))

    def to_base(content: dict[str, Any]) -> None:
        content["action"]["to"] = content["action"]["base"]

    reseal(Path(local.copy, ".cloudimg", "retired", "manifest.json"), to_base)
    with pytest.raises(CorruptFileError, match="moves files to where they are"):
        local.retire(undo=True)
    assert local.objects() == before


@pytest.mark.parametrize("has_other_name", [False, True])
def test_a_folder_that_leads_to_the_originals(local: Archive, has_other_name: bool) -> None:
    local.migrate()
    local.retire(move_to=local.elsewhere, execute=True)
    for path in Path(local.elsewhere).iterdir():
        path.rename(Path(local.url, "exp", path.name))
        if has_other_name:
            Path(local.url, f"of_somebody_else_{path.name}").hardlink_to(
                Path(local.url, "exp", path.name)
            )
    Path(local.elsewhere).rmdir()
    Path(local.elsewhere).symlink_to("exp")
    before = {path.name for path in Path(local.url, "exp").iterdir()}
    for how in ({"move_to": local.elsewhere, "execute": True}, {"undo": True}):
        done = local.retire(**how)
        assert done.n_left == N_FILES
        assert "leads to the same file" in done.left[0].why
        assert {path.name for path in Path(local.url, "exp").iterdir()} == before


def test_a_file_with_the_same_size_and_time_is_not_the_original(local: Archive) -> None:
    """Such as a damaged backup that was brought back with its times."""
    local.migrate()
    before = local.objects()
    local.retire(move_to=local.elsewhere, execute=True)
    moved_file, put_back = Path(local.elsewhere, "a_1.tif"), Path(local.url, "exp", "a_1.tif")
    times = moved_file.stat()
    put_back.write_bytes(bytes(times.st_size))
    os.utime(put_back, ns=(times.st_atime_ns, times.st_mtime_ns))
    back = local.retire(undo=True)
    assert (back.n_done, back.n_left) == (N_FILES - 1, 1)
    assert "another file is at" in back.left[0].why
    put_back.write_bytes(moved_file.read_bytes())
    os.utime(put_back, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert local.retire(undo=True)
    assert local.objects() == before


def test_a_local_file_that_is_replaced_as_it_is_deleted(
    local: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.migrate()
    new, before = seed.encode(pixels(9)), local.objects()
    rename = os.rename

    def replaced(source: Any, target: Any) -> None:
        if str(source).endswith("exp/a_1.tif"):
            Path(local.url, "new").write_bytes(new)
            Path(local.url, "new").replace(source)
        rename(source, target)

    monkeypatch.setattr(os, "rename", replaced)
    done = local.retire(move_to=local.elsewhere, execute=True)
    assert (done.n_done, done.n_left) == (N_FILES - 1, 1)
    assert done.left[0].why == "it changed since it was copied"
    assert local.objects() == {**moved(before), "exp/a_1.tif": new}


def test_two_copies_of_the_same_files(in_bucket: Archive) -> None:
    """Going back with both leaves no tag, on which a rule would delete the files."""
    second = replace(in_bucket, copy=f"{in_bucket.url}/second.ome.zarr")
    second.migrate()
    assert in_bucket.retire(tag=TAG, execute=True).n_done == N_FILES
    assert second.retire(tag=TAG, execute=True).n_before == N_FILES
    assert in_bucket.retire(undo=True)
    assert second.retire(undo=True)
    assert in_bucket.tags("exp/a_0.tif") == {}
    assert in_bucket.retire(tag=TAG, execute=True)
    assert second.retire(tag=TAG, execute=True)
    assert second.retire(undo=True)
    assert in_bucket.tags("exp/a_0.tif") == TAG  # the first copy's


def test_a_tag_that_got_another_value_stays(in_bucket: Archive) -> None:
    in_bucket.retire(tag=TAG, execute=True)
    in_bucket.set_tags("exp/a_1.tif", {"retired": "keep"})
    back = in_bucket.retire(undo=True)
    assert (back.n_done, back.n_left) == (N_FILES - 1, 1)
    assert "has another value since" in back.left[0].why
    assert in_bucket.tags("exp/a_1.tif") == {"retired": "keep"}


def test_the_way_back_without_the_table_of_files(local: Archive) -> None:
    local.migrate()
    before = local.objects()
    local.retire(move_to=local.elsewhere, execute=True)
    (table,) = Path(local.copy, ".cloudimg", "files").iterdir()
    table.write_bytes(b"damaged")
    assert not cloudimg.repair(local.copy)  # only the files themselves tell
    assert local.retire(undo=True).n_done == N_FILES
    assert local.objects() == before
    assert cloudimg.repair(local.copy)


def test_a_damaged_list_is_a_problem_of_the_copy(local: Archive) -> None:
    local.migrate()
    local.retire(move_to=local.elsewhere, execute=True)
    (part,) = Path(local.copy, ".cloudimg", "retired").glob("*/000000.json")
    whole = part.read_bytes()
    part.write_bytes(whole[:-9])
    (problem,) = cloudimg.verify(local.copy).problems
    assert str(part) in problem.url
    repaired = cloudimg.repair(local.copy, remove_orphans=True)
    assert (repaired.n_problems, repaired.n_removed) == (1, 0)
    part.write_bytes(whole)
    assert cloudimg.verify(local.copy)


def test_a_file_that_is_listed_twice(local: Archive) -> None:
    names = [f"{local.url}/exp/a_{z}.tif" for z in (0, 1, 0)]
    cloudimg.migrate(names, local.copy)
    before = local.objects()
    done = local.retire(move_to=local.elsewhere, execute=True)
    assert (done.n_files, done.n_done) == (2, 2)
    assert local.retire(undo=True).n_done == 2
    assert local.objects() == before


def test_a_dry_run_names_places_that_are_taken(archive: Archive, place: Place) -> None:
    place.put("old/a_2.tif", b"of somebody else")
    planned = archive.retire(move_to=archive.elsewhere)
    assert planned.n_left == 1
    assert "another file is at" in planned.left[0].why
    assert "1 file would be left as it is:" in str(planned)


def test_folders_that_cannot_be_listed(local: Archive, tmp_path: Path) -> None:
    """The folder that all files have in common may hold those of others."""
    names = [f"{local.url}/exp/a_0.tif", f"{local.url}/other/b_0.tif"]
    (tmp_path / "other").mkdir()
    Path(names[1]).write_bytes(seed.encode(pixels(1)))
    cloudimg.migrate(names, tmp_path / "two.zarr")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    try:
        if os.access(closed, os.R_OK):
            pytest.skip("this user may read everything")
        planned = cloudimg.retire(tmp_path / "two.zarr", move_to=tmp_path / "old")
    finally:
        closed.chmod(0o700)
    assert planned.n_files == 2
    assert "is not known: no permission" in planned.stays[0]
