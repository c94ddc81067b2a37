"""A dry run: what a migration would meet at its destination, store and leave out."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError, BadFilesError
from cloudimg.migration.journal.acquiring import acquire
from cloudimg.migration.journal.destination import open_destination
from cloudimg.migration.journal.layout import CLEARING
from cloudimg.migration.journal.sealing import put_sealed
from tests.conftest import Place, WebServer
from tests.support import copies, seed
from tests.support.faulty_store import held
from tests.support.metering import Meter
from tests.support.waiting import wait_until

N_FILES = 4
PIXELS = np.random.default_rng(0).integers(0, 200, (N_FILES, 300, 400)).astype(np.uint16)
CELLS = {"shards": {"z": 1, "y": 512, "x": 512}, "chunks": {"z": 1, "y": 64, "x": 64}, "levels": 2}
NO_CELLS = dict.fromkeys(CELLS)
AS_ANYBODY = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP of CAP_DAC_OVERRIDE: root as others are
os.execv(sys.executable, [sys.executable, "-m", "cloudimg", *sys.argv[1:]])
"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    folder = tmp_path / "in"
    folder.mkdir()
    for z, page in enumerate(PIXELS):
        (folder / f"f_{z}.tif").write_bytes(seed.encode(page))
    return f"{folder}/f_{{z}}.tif"


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def found_at(source: str, out: Path | str, **options: Any) -> Any:
    found = cloudimg.dry_run(source, out, **{**CELLS, **options}).destination
    assert found is not None
    return found


# -------------------------------------------------------------------------------- what is there


def test_what_a_local_folder_holds(source: str, tmp_path: Path) -> None:
    out = tmp_path / "copy.zarr"
    found = found_at(source, out)
    assert (found.holds, found.problems, found.n_objects) == ("nothing", (), 0)
    assert found.is_writable
    assert found.fences
    assert found.free_bytes > 0
    assert not out.exists()

    whole = (tmp_path / "in" / "f_2.tif").read_bytes()
    (tmp_path / "in" / "f_2.tif").write_bytes(whole[:900])
    with pytest.raises(BadFilesError):
        cloudimg.migrate(source, out, **CELLS)
    (tmp_path / "in" / "f_2.tif").write_bytes(whole)
    before = files_in(out)
    found = found_at(source, out)
    assert found.holds == "an unfinished migration, with 3 of 4 cells done: it would go on"
    assert found.is_continued
    assert not found.problems
    (problem,) = found_at(source, out, resume=False).problems
    assert "resume=True" in problem
    (problem,) = found_at(source, out, levels=1).problems
    assert "levels=1" in problem
    found = found_at(source, out, levels=1, overwrite=True)
    assert (found.problems, found.is_continued, found.n_objects) == ((), False, len(before) - 1)
    assert files_in(out) == before

    cloudimg.migrate(source, out, **CELLS)
    before = files_in(out)
    assert "nothing would be written" in found_at(source, out).holds
    (problem,) = found_at(source, out, exclude="f_3.tif").problems
    assert "holds a migration with other arguments" in problem
    (tmp_path / "in" / "f_2.tif").write_bytes(seed.encode(PIXELS[0] + 1))
    (problem,) = found_at(source, out).problems
    assert "f_2.tif" in problem
    (next(path for path in (out / "0").rglob("0") if path.is_file())).unlink()
    assert found_at(source, out).problems


def test_a_copy_that_would_grow(source: str, tmp_path: Path) -> None:
    """It is not taken for one to which nothing would be written; others get a note."""
    growing, fixed = tmp_path / "growing.zarr", tmp_path / "fixed.zarr"
    cloudimg.migrate(source, growing, grow="z")
    cloudimg.migrate(source, fixed)
    assert "nothing would be written" in found_at(source, growing, grow="z", **NO_CELLS).holds
    (tmp_path / "in" / "f_4.tif").write_bytes(seed.encode(PIXELS[0]))
    before = files_in(growing)
    told = cloudimg.dry_run(source, growing, grow="z")
    assert told.destination is not None
    assert told.destination.holds == "a finished copy: it would grow along z from 4 to 5"
    assert not told.problems
    assert told.plan.levels[0].shape[0] == 5
    assert files_in(growing) == before
    (note,) = found_at(source, fixed, **NO_CELLS).notes
    assert "1 newer file is not in this copy" in note
    found = found_at(source, fixed, overwrite=True, **NO_CELLS)
    assert found.holds == "a finished copy, which would be deleted"
    (tmp_path / "in" / "f_1.tif").unlink()
    (problem,) = found_at(source, growing, grow="z", **NO_CELLS).problems
    assert "cannot grow: 3 files of it are gone" in problem


def test_empty_chunks_have_a_size_where_each_is_an_object(tmp_path: Path) -> None:
    (tmp_path / "in.tif").write_bytes(seed.encode(np.zeros((1024, 1024), np.uint16)))
    given: Any = {"zarr_format": 2, "levels": 1}
    expected = cloudimg.dry_run(str(tmp_path / "in.tif"), **given)
    done = cloudimg.migrate(str(tmp_path / "in.tif"), tmp_path / "copy.zarr", **given)
    assert expected.stored_bytes == done.n_bytes


def test_what_is_in_the_way(source: str, tmp_path: Path, httpd: WebServer) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.txt").write_text("hi")
    found = found_at(source, other)
    assert "1 object that cloudimg did not write, such as b.txt" in found.holds
    assert "holds objects that cloudimg did not write" in found.problems[0]
    assert (found.n_objects, found.n_bytes) == (1, 2)
    assert not found_at(source, other, overwrite=True).problems
    assert "not a folder" in found_at(source, other / "b.txt" / "copy.zarr").problems[0]
    for options in ({}, {"overwrite": True}):
        (problem, *_) = found_at(source, tmp_path / "in", **options).problems
    assert "lies inside the destination" in problem
    (problem,) = found_at(source, f"{httpd.endpoint}/some/copy.zarr").problems
    assert "a web server, which is read only" in problem
    assert (other / "b.txt").read_text() == "hi"
    above = tmp_path / "other" / ".." / "in"  # another spelling of the folder of the source
    (problem, *_) = found_at(source, above, overwrite=True).problems
    assert "lies inside the destination" in problem
    assert found_at(source, f"{other}/../new.zarr").url == f"{tmp_path}/new.zarr"
    with pytest.raises(ArgumentError, match=r"has a folder '\.\.'"):
        found_at(source, "s3://bucket/a/../b")
    put_sealed(open_destination(other, None), CLEARING, {"format": 3, "state": "clearing"})
    found = found_at(source, other)
    assert found.holds == "the rest of what a migration with overwrite=True began to delete"
    assert "Run it again with overwrite=True" in found.problems[0]
    assert not found_at(source, other, overwrite=True).problems


def test_a_disk_that_is_full(source: str) -> None:
    found = found_at(source, "/proc/copy.zarr")
    assert found.free_bytes == 0
    assert "no room for /proc/copy.zarr" in found.problems[0]


@pytest.mark.slow
def test_a_folder_that_is_read_only(source: str, tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o555)
    words = ["migrate", source, str(folder / "copy.zarr"), "--dry-run"]
    answer = subprocess.run(
        [sys.executable, "-c", AS_ANYBODY, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert answer.returncode == 1
    assert f"problem: no permission to write {folder}" in answer.stdout, answer.stderr
    assert "writable: no" in answer.stdout
    assert list(folder.iterdir()) == []


def test_somebody_who_writes_there(source: str, tmp_path: Path) -> None:
    out = tmp_path / "copy.zarr"
    lease = out / ".cloudimg" / "lease" / "00000001.json"
    with acquire(open_destination(out, None), ttl_s=0.6, notify=print):
        (problem,) = found_at(source, out).problems
        assert "another migration is writing" in problem
        held = json.loads(lease.read_text())
    assert not found_at(source, out).problems  # it was released
    held = {**held, "host": "elsewhere", "owner": "somebody"}

    def store(counter: int, ttl_s: float = 30) -> None:
        passing = lease.with_suffix(".new")
        passing.write_text(json.dumps({**held, "counter": counter, "ttl_s": ttl_s}))
        passing.replace(lease)

    store(0, ttl_s=0.6)
    found = found_at(source, out)
    assert found.problems == ()
    assert "on elsewhere, of which there was no heartbeat" in found.notes[0]
    with beating(store):
        (problem,) = found_at(source, out).problems
        assert "another migration is writing" in problem
    store(0, ttl_s=0.6)
    assert cloudimg.migrate(source, out, **CELLS).n_cells == N_FILES


@contextmanager
def beating(store: Any) -> Iterator[None]:
    """Somebody who gives a sign again and again."""
    ended = threading.Event()

    def beat() -> None:
        counter = 0
        while not ended.wait(0.02):
            counter += 1
            store(counter)

    thread = threading.Thread(target=beat)
    thread.start()
    time.sleep(0.05)
    try:
        yield
    finally:
        ended.set()
        thread.join()


# ------------------------------------------------------------------------------ stores and probes


def test_a_store_is_not_written_to_without_a_probe(source: str, meter: Meter, bucket: str) -> None:
    url, options = f"s3://{bucket}/copy.zarr", {"target_options": meter.storage_options}
    with meter.measure() as traffic:
        found = found_at(source, url, **options)
    assert {request.method for request in traffic.requests} <= {"GET", "HEAD"}
    assert (found.problems, found.is_writable, found.fences) == ((), None, None)
    with meter.measure() as traffic:
        found = found_at(source, url, probe=True, **options)
    assert (found.problems, found.is_writable, found.fences) == ((), True, True)
    assert traffic.puts == 2
    assert copies.objects(f"s3://{bucket}", meter.storage_options) == {}
    cloudimg.migrate(source, url, **CELLS, **options)
    assert found_at(source, url, **options).fences  # as the plan says


def test_what_probes_find(source: str, meter: Meter, bucket: str) -> None:
    url, options = f"s3://{bucket}/copy.zarr", {"target_options": meter.storage_options}

    def probed(*faults: dict[str, Any]) -> Any:
        meter.faults(list(faults))
        try:
            return found_at(source, url, probe=True, **options)
        finally:
            meter.faults([])

    found = probed({"match": "^PUT", "status": 403})
    assert (found.is_writable, len(found.problems)) == (False, 1)
    assert "access denied: cannot write" in found.problems[0]
    found = probed({"match": "^PUT", "kind": "unconditional"})
    assert (found.is_writable, found.fences, found.problems) == (True, False, ())
    assert "Let no other process write to it" in found.notes[0]
    found = probed({"match": "^PUT", "status": 501, "header": "if-none-match"})
    assert (found.is_writable, found.fences) == (True, False)
    assert copies.objects(f"s3://{bucket}", meter.storage_options) == {}
    assert "access denied" in probed({"match": f"^GET /{bucket}/$", "status": 403}).problems[0]
    (problem,) = found_at(source, f"s3://no-{bucket}/copy.zarr", **options).problems
    assert f"no-{bucket}" in problem

    # What cannot be deleted is named, and does no harm.
    found = probed({"match": "^(DELETE|POST)", "status": 403})
    assert (found.is_writable, found.problems) == (True, ())
    (left,) = copies.objects(f"s3://{bucket}", meter.storage_options)
    assert f"{left}, by which the destination was tried, could not be deleted" in found.notes[0]
    assert found_at(source, url, **options).holds == "nothing"
    cloudimg.migrate(source, url, **CELLS, **options)
    assert cloudimg.verify(url, storage_options=meter.storage_options)


def test_a_probe_leaves_nothing_anywhere(source: str, place: Place) -> None:
    options = {"target_options": place.storage_options}
    found = found_at(source, f"{place.url}/copy.zarr", probe=True, **options)
    if place.name == "http":
        assert "a web server, which is read only" in found.problems[0]
        return
    assert (found.holds, found.problems, found.is_writable) == ("nothing", (), True)
    assert found.fences is (place.name != "gs")  # the emulator ignores ifGenerationMatch
    destination = open_destination(f"{place.url}/copy.zarr", place.storage_options)
    assert not list(destination.list())
    with pytest.raises(ArgumentError, match="probe=1 must be True or False"):
        found_at(source, place.url, probe=1, **options)


# --------------------------------------------------------------------------- sizes and companions


def test_the_size_of_a_copy_is_told_from_a_few_chunks(source: str, tmp_path: Path) -> None:
    out = tmp_path / "copy.zarr"
    expected = cloudimg.dry_run(source, **CELLS)
    assert expected.n_sampled_chunks == 8
    stored = cloudimg.migrate(source, out, **CELLS).n_bytes
    assert expected.stored_bytes == pytest.approx(stored, rel=0.15)
    prices = {"storage": 2.0**30, "egress": 2.0**31, "put": 0}
    priced = cloudimg.dry_run(source, prices=prices, **CELLS)
    assert priced.storage_dollars_a_month == expected.stored_bytes
    assert priced.egress_dollars == 2 * (priced.bytes_to_read or 0)
    assert "GiB stored ($" in str(priced)
    for path in sorted((tmp_path / "in").iterdir())[1:]:
        path.write_bytes(path.read_bytes()[:2000])
    in_part = cloudimg.dry_run(source, **CELLS)
    assert 0 < in_part.n_sampled_chunks < expected.n_sampled_chunks
    assert in_part.stored_bytes == pytest.approx(stored, rel=0.15)
    assert any("a chunk could not be read to tell the size" in note for note in in_part.notes)


def test_a_lossy_slide_grows(tmp_path: Path) -> None:
    y, x = np.mgrid[:512, :512]
    noise = np.random.default_rng(0).normal(0, 6, (512, 512, 3))
    pixels = 120 + 60 * np.sin(x / 30)[..., None] * np.cos(y / 40)[..., None] + noise
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path, pixels.astype(np.uint8), tile=(256, 256), photometric="rgb", compression="jpeg"
    )
    (note,) = (note for note in cloudimg.dry_run(path).notes if "times as large" in note)
    assert "compressed with JPEG, which is mostly lossy" in note
    assert not any("times as large" in note for note in cloudimg.dry_run(path, levels=1).notes[1:])


def test_companions_are_named(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["Index.xml", "Plate.HTD", "metadata.txt", ".hidden.xml", "thumbs.db"]
    for name in names:
        (tmp_path / "in" / name).write_text("-")
    found = cloudimg.dry_run(source)
    assert found.n_companions == 3
    assert found.companions == tuple(f"{tmp_path}/in/{name}" for name in sorted(names[:3]))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a").write_text("-")
    words = ["migrate", source, str(tmp_path / "other"), "--dry-run"]
    assert main(words) == 1
    shown = capsys.readouterr()
    assert f"3 files with metadata, not copied: {tmp_path}/in/Index.xml, " in shown.out
    assert "pass --overwrite to delete all of them" in shown.out
    assert "would be refused: 1 problem with" in shown.err
    assert main([*words, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    (problem,) = told["destination"]["problems"]
    assert "pass --overwrite to delete" in problem  # as in the text, not overwrite=True
    assert [note["text"] in told["notes"][0] for note in told["source_notes"]] == [True]
    assert main([*words, "--overwrite", "--price", "storage=1"]) == 0
    assert " a month)" in capsys.readouterr().out


def test_all_images_of_a_file(tmp_path: Path) -> None:
    path, out = tmp_path / "a.ome.tif", tmp_path / "copy.zarr"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for n in (32, 48):
            tiff.write(np.arange(n * n, dtype=np.uint16).reshape(n, n))
    expected = cloudimg.dry_run(path, out, series="all")
    assert expected.destination is not None
    assert (expected.destination.holds, expected.problems) == ("nothing", ())
    assert expected.stored_bytes == sum(i.stored_bytes or 0 for i in expected.images.values())
    cloudimg.migrate(path, out, series="all")
    found = cloudimg.dry_run(path, out, series="all").destination
    assert found is not None
    assert not found.problems
    assert found.holds == "a collection of 2 images of this source: nothing would be written"
    problems = cloudimg.dry_run(path, out, series="all", levels=2).problems
    assert ["other arguments: levels=2" in problem for problem in problems] == [True, True]
    (problem,) = cloudimg.dry_run(path, out, series=0).problems
    assert 'which series="all" continues' in problem


@pytest.mark.slow
def test_a_probe_is_deleted_when_a_signal_ends_the_dry_run(
    source: str, meter: Meter, bucket: str
) -> None:
    meter.faults([held("PUT", "probe-", nth=1)])
    words = ["migrate", source, f"s3://{bucket}/copy.zarr", "--dry-run", "--probe"]
    words += ["--target-options", json.dumps(meter.storage_options)]
    with subprocess.Popen([sys.executable, "-m", "cloudimg", *words]) as child:
        wait_until(lambda: any("probe-" in each.key for each in meter.log()), "the probe")
        child.terminate()
        meter.release()
        assert child.wait(60) == 143
    assert copies.objects(f"s3://{bucket}/copy.zarr", meter.storage_options) == {}
