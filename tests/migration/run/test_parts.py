"""``part="I/N"``: a share of the cells, done without a lease, and what a whole migration adds."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import (
    ArgumentError,
    BadFilesError,
    ChangedError,
    CloudimgWarning,
    LeaseError,
    NotConditionalError,
    StorageError,
)
from tests.conftest import WebServer
from tests.support import copies, killing
from tests.support.faulty_store import held, no_conditions, unconditional
from tests.support.metering import Meter
from tests.support.waiting import wait_until
from tests.support.writers import Writer, migrated, require_other_machines

SHARDS: dict[str, Any] = {"chunks": 16, "shards": {"z": 1, "y": 32, "x": 32}, "levels": 3}
"""24 cells in the first stage, one in the second."""
WORDS = ["--chunks", "16", "--shards", "z=1,y=32,x=32", "--levels", "3"]
N_CELLS = 24
PLAN = ".cloudimg/plan.json"
LEASE = ".cloudimg/lease/00000001.json"


def write_file(folder: Path, z: int, seed: int = 0, **more: Any) -> None:
    pixels = np.random.default_rng((seed, z)).integers(1, 255, (64, 64), np.uint8)
    tifffile.imwrite(folder / f"a_{z}.tif", pixels, photometric="minisblack", **more)


@pytest.fixture
def archive(tmp_path: Path) -> str:
    """Six files of four cells each."""
    (tmp_path / "in").mkdir()
    for z in range(6):
        write_file(tmp_path / "in", z)
    return f"{tmp_path}/in/a_{{z}}.tif"


def shards(url: str | Path, options: dict[str, Any] | None = None) -> dict[str, bytes]:
    found = copies.objects(str(url), options or {})
    return {name: data for name, data in found.items() if ".cloudimg/" not in name}


def migrate(source: str, url: str | Path, part: str | None = None, **more: Any) -> Any:
    return cloudimg.migrate(source, url, part=part, **SHARDS, **more)


def check(url: str, whole: dict[str, bytes], options: dict[str, Any] | None = None) -> None:
    """Check that the copy has the bytes of one that a single process made, and is whole."""
    assert shards(url, options) == whole
    proof = cloudimg.verify(url, storage_options=options, against_source=True, source_options={})
    assert proof, str(proof)


@pytest.fixture
def whole(archive: str, tmp_path: Path) -> dict[str, bytes]:
    migrate(archive, tmp_path / "whole.zarr")
    return shards(tmp_path / "whole.zarr")


def test_parts_and_a_plain_call_make_the_same_copy(
    archive: str, tmp_path: Path, whole: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    url = str(tmp_path / "copy.zarr")
    done = [migrate(archive, url, f"{i}/5") for i in (3, 0, 4, 1, 2)]
    assert [each.n_cells for each in done] == [5, 4, 5, 5, 5]
    assert sum(each.n_objects for each in done) == 2 * N_CELLS
    assert not any(name.startswith("2/") for name in copies.names(url, {}))
    # A part that has nothing to do, one of more parts than cells among them.
    again = migrate(archive, url, "1/5")
    assert (again.n_done_before, again.n_objects, again.is_unchanged) == (5, 0, False)
    assert "part 1/100, 0 of 24 cells, nothing to do." in str(migrate(archive, url, "1/100"))
    assert main(["migrate", archive, url, *WORDS, "--part", "4/5"]) == 0
    said = "part 4/5, 5 of 24 cells, all finished before. Finish with the same command without"
    assert f"{said} --part\n" in capsys.readouterr().out
    finished = migrate(archive, url)
    assert (finished.n_done_before, finished.n_objects) == (N_CELLS, 1)
    check(url, whole)
    assert migrate(archive, url, "0/5").is_unchanged


def test_shares_are_neighbours_and_cover_all(archive: str, tmp_path: Path) -> None:
    url = str(tmp_path / "copy.zarr")
    found: list[set[str]] = []
    for i in range(3):
        migrate(archive, url, f"{i}/3")
        names = {name for name in copies.names(url, {}) if name.startswith("0/c/")}
        found.append(names - set().union(*found))
    files = [sorted({name.split("/")[2] for name in each}) for each in found]
    assert files == [["0", "1"], ["2", "3"], ["4", "5"]]
    assert [len(each) for each in found] == [8, 8, 8]


def test_one_in_many_that_begins_late_lists_no_source(
    archive: str, tmp_path: Path, meter: Meter, bucket: str
) -> None:
    """It takes the files from the table of the plan, and looks at the lease once in a while."""
    meter.create(source := f"{bucket}-in")
    try:
        for z in range(6):
            meter.put(source, f"a_{z}.tif", (tmp_path / f"in/a_{z}.tif").read_bytes())
        url, options = f"s3://{bucket}/copy.zarr", meter.storage_options
        stores = {"source_options": options, "target_options": options}
        migrate(f"s3://{source}/a_{{z}}.tif", url, "0/6", **stores)
        with meter.measure() as traffic:
            migrate(f"s3://{source}/a_{{z}}.tif", url, "3/6", **stores)
    finally:
        meter.drop(source)
    of_source = [each for each in traffic.requests if each.bucket == source]
    assert [each for each in of_source if each.kind != "get"] == []
    # The header of the first file, and the pixels of its own.
    assert {each.key for each in of_source} == {"a_0.tif", "a_3.tif"}
    puts = [each for each in traffic.requests if each.kind == "put"]
    # Two levels and a record for each cell, a part of the table of originals, and the probe.
    assert sorted(each.status for each in puts) == [200] * (4 * 3 + 1) + [412]
    looks = [each for each in traffic.requests if each.key.endswith("lease/00000001.json")]
    assert 1 <= len(looks) <= len(puts)


# ------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("part", ["2/2", "0", "0/0", "-1/2", "/2", "1/2/3", "one/two", "0 / 2"])
def test_what_is_not_a_part(archive: str, tmp_path: Path, part: str) -> None:
    with pytest.raises(ArgumentError, match=r"must be I/N.*from 0 to N - 1.*such as 0/8"):
        migrate(archive, tmp_path / "copy.zarr", part)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--overwrite"], "--part and --overwrite exclude each other: parts delete nothing"),
        (["--no-resume"], "--part and --no-resume exclude each other"),
        (["--cluster", "cluster.json", "--workers", "2"], "--part and --cluster exclude"),
        (["--scheduler", "tcp://127.0.0.1:9"], "--part and --scheduler exclude each other"),
        (["--dry-run"], "--part and --dry-run exclude each other"),
    ],
)
def test_what_excludes_parts(
    archive: str,
    tmp_path: Path,
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = str(tmp_path / "copy.zarr")
    assert main(["migrate", archive, url, "--part", "0/2", *words]) == 2
    assert said in capsys.readouterr().err
    assert not Path(url).exists()


def test_other_plans_and_sources_are_refused(archive: str, tmp_path: Path) -> None:
    url = str(tmp_path / "copy.zarr")
    migrate(archive, url, "0/4")
    before = copies.objects(url, {})
    with pytest.raises(ArgumentError, match="levels=3 before, levels=2 now"):
        cloudimg.migrate(archive, url, part="1/4", **{**SHARDS, "levels": 2})
    with pytest.raises(ArgumentError, match="the source's URLs were"):
        migrate(f"{tmp_path}/in/*.tif", url, "1/4")
    with pytest.raises(ArgumentError, match='planned with bad="raise", not with bad="fill"'):
        migrate(archive, url, "1/4", bad="fill")
    write_file(tmp_path / "in", 0, seed=1)
    with pytest.raises(ChangedError, match=r"files changed since .* was planned \(1 file repl"):
        migrate(archive, url, "1/4")
    (tmp_path / "other.zarr").mkdir()
    (tmp_path / "other.zarr/zarr.json").write_text("{}")
    with pytest.raises(ArgumentError, match="holds objects that cloudimg did not write"):
        migrate(archive, tmp_path / "other.zarr", "0/4")
    assert copies.objects(url, {}) == before
    # Who has the lease may go on with what is there now.
    migrate(archive, url)
    assert cloudimg.verify(url, against_source=True)


@pytest.mark.parametrize("rule", [no_conditions(), unconditional()])
def test_stores_that_do_not_fence_are_refused(
    archive: str, meter: Meter, bucket: str, rule: dict[str, Any]
) -> None:
    meter.faults([rule])
    url, options = f"s3://{bucket}/copy.zarr", meter.storage_options
    with pytest.raises(NotConditionalError, match=r"does not refuse .* leave out part="):
        migrate(archive, url, "0/2", target_options=options)
    assert PLAN not in copies.names(url, options)
    # What the part left there is in nobody's way.
    with pytest.warns(CloudimgWarning, match="does not refuse"):
        migrate(archive, url, target_options=options)
    meter.faults([])
    assert cloudimg.verify(url, storage_options=options)


def test_web_servers_are_refused(archive: str, httpd: WebServer) -> None:
    with pytest.raises(StorageError, match="which is read only"):
        migrate(archive, f"{httpd.endpoint}/copy.zarr", "0/2")


def test_bad_files_of_a_part(
    archive: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, path = str(tmp_path / "copy.zarr"), tmp_path / "in/a_4.tif"
    path.write_bytes(path.read_bytes()[:3000])
    migrate(archive, url, "0/2")
    with pytest.raises(BadFilesError, match="of 12 cells of part 1/2 were not copied") as caught:
        migrate(archive, url, "1/2")
    assert [each.kind for each in caught.value.report.kinds] == ["truncated"]
    assert 'or pass bad="fill", without part=, to copy' in str(caught.value)
    assert main(["migrate", archive, url, *WORDS, "--part", "1/2", "--bad", "fill"]) == 7
    assert "pass --bad raise, or leave out --part" in capsys.readouterr().err
    done = migrate(archive, url, bad="fill")
    assert [(each.kind, each.n_files) for each in done.report.kinds] == [("truncated", 1)]
    assert cloudimg.verify(url, against_source=True)


# ------------------------------------------------------------- what stands there already


def test_cells_without_records_are_done_again(
    archive: str, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    """As after a kill between the objects of a cell and its record."""
    url = str(tmp_path / "copy.zarr")
    migrate(archive, url, "0/2")
    before = copies.objects(url, {})
    for number in (1, 7):
        (tmp_path / f"copy.zarr/.cloudimg/cells/0/{number:09d}.json").unlink()
    again = migrate(archive, url, "0/2")
    assert (again.n_cells, again.n_done_before) == (12, 10)
    assert copies.objects(url, {}) == before
    migrate(archive, url, "1/2")
    migrate(archive, url)
    check(url, whole)


def test_other_pixels_are_an_error(archive: str, tmp_path: Path) -> None:
    """The source changed after another process with the part had stored an object."""
    url = str(tmp_path / "copy.zarr")
    migrate(archive, url, "0/2")
    stored = tmp_path / "copy.zarr/0/c/1/0/0"
    before = stored.read_bytes()
    for path in (tmp_path / "copy.zarr/.cloudimg/cells/0").iterdir():
        path.unlink()
    write_file(tmp_path / "in", 1, seed=1)
    with pytest.raises(ChangedError, match="exists and has other content") as caught:
        migrate(archive, url, "0/2")
    assert "/0/c/1/" in str(caught.value.url)
    assert stored.read_bytes() == before
    migrate(archive, url, "1/2")
    migrate(archive, url)
    assert cloudimg.verify(url, against_source=True)


# --------------------------------------------------- several processes, and the one with the lease


@pytest.fixture
def on_s3(meter: Meter, bucket: str) -> tuple[str, dict[str, Any]]:
    return f"s3://{bucket}/copy.zarr", meter.storage_options


def part_of(archive: str, on_s3: tuple[str, dict[str, Any]], part: str) -> dict[str, Any]:
    url, options = on_s3
    return {"source": archive, "url": url, "target_options": options, "part": part, **SHARDS}


def wait_for_held(meter: Meter, writer: Writer) -> None:
    """Wait until a request of a process is held."""
    wait_until(lambda: bool(meter.held()) or writer.process.poll() is not None, "the request")
    assert meter.held(), writer.end()


# ---------------------------------------------------------------- several images, plates, labels


def write_images(path: str, **sides: int) -> None:
    draw = np.random.default_rng(0)
    with tifffile.TiffWriter(path, ome=True) as writer:
        for name, side in sides.items():
            pixels = draw.integers(1, 255, (side, side), np.uint8)
            writer.write(pixels, metadata={"Name": name})


def test_all_images_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, url = str(tmp_path / "in.ome.tif"), str(tmp_path / "copy.zarr")
    write_images(source, large=128, small=24, middle=96)
    words = ["--series", "all", "--chunks", "16", "--shards", "y=32,x=32", "--levels", "2"]
    assert main(["migrate", source, str(tmp_path / "whole.zarr"), *words]) == 0
    for i in (2, 0, 3, 1, 0):
        assert main(["migrate", source, url, *words, "--part", f"{i}/4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    # The single cell of the small image is not one of the last part, which has most of the others.
    shares = [line.split("part ")[1].split(" cells")[0] for line in lines if "part " in line]
    assert shares == ["2/4, 7 of 26", "0/4, 6 of 26", "3/4, 6 of 26", "1/4, 7 of 26", shares[1]]
    assert "all finished before" in lines[-1]
    assert main(["migrate", source, url, *words]) == 0
    assert "all cells were finished before, this run wrote the metadata" in capsys.readouterr().out
    check(url, shards(tmp_path / "whole.zarr"))
    write_images(source, large=128, small=24)
    assert main(["migrate", source, url, *words, "--part", "0/4"]) == 7
    assert "holds a collection of other images" in capsys.readouterr().err


def test_fields_of_a_plate(archive: str, tmp_path: Path) -> None:
    (tmp_path / "plate").mkdir()
    for number, (well, field) in enumerate(product(("A01", "B02", "B03"), range(2))):
        path = tmp_path / f"in/a_{number}.tif"
        path.rename(tmp_path / f"plate/{well}_{field}.tif")
    source = f"{tmp_path}/plate/{{well:s}}_{{field}}.tif"
    sizes: dict[str, Any] = {"chunks": 16, "shards": {"y": 32, "x": 32}, "levels": 3}
    cloudimg.migrate(source, tmp_path / "whole.zarr", **sizes)
    url = str(tmp_path / "copy.zarr")
    for i in range(3):
        done = cloudimg.migrate(source, url, part=f"{i}/3", **sizes)
        assert str(done).split(": ")[-1].startswith(f"part {i}/3, 8 of 24 cells, stored ")
    assert cloudimg.migrate(source, url, **sizes).n_done_before == 24
    check(url, shards(tmp_path / "whole.zarr"))


def test_labels(archive: str, tmp_path: Path) -> None:
    url = str(tmp_path / "copy.zarr")
    migrate(archive, url)
    more = {"labels_of": url, "name": "cells", "chunks": 16, "shards": SHARDS["shards"]}
    for i in range(2):
        cloudimg.migrate(archive, part=f"{i}/2", **more)
    assert "labels/zarr.json" not in copies.names(url, {})
    assert cloudimg.migrate(archive, **more).n_done_before == N_CELLS
    assert "labels/zarr.json" in copies.names(url, {})
    assert cloudimg.verify(f"{url}/labels/cells")


# ------------------------------------------------------------------------------------- kills


N_PARTS = 10
SEEDS = range(10 if killing.SHARE == 1 else 1)


def work(arguments: dict[str, Any], dies_at: int) -> None:
    """A part in a process of its own, which is killed at a call to the disk, or after a while."""
    if dies_at and arguments["url"].startswith("s3://"):
        kill = threading.Timer(dies_at / 50, os.kill, [os.getpid(), signal.SIGKILL])
        kill.daemon = True
        kill.start()
    elif dies_at:
        killing.kill_at(arguments["url"], dies_at)
    cloudimg.migrate(**arguments)


@pytest.fixture(scope="module")
def processes() -> Any:
    libraries = ("s3fs", "imagecodecs", "pyarrow.parquet", "tifffile")
    return killing.processes_with("cloudimg.api.migrations", *libraries, __name__)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("place", ["folder", "s3"])
def test_two_processes_of_each_part_and_random_kills(
    request: pytest.FixtureRequest,
    processes: Any,
    archive: str,
    tmp_path: Path,
    whole: dict[str, bytes],
    place: str,
    seed: int,
) -> None:
    """Twenty begin at once where nothing is; those that were killed are begun again."""
    on_s3 = request.getfixturevalue("on_s3") if place == "s3" else (f"{tmp_path}/copy.zarr", {})
    draw = random.Random(seed)
    left = [f"{i}/{N_PARTS}" for i in range(N_PARTS)] * 2
    n_killed, chance = 0, 0.6
    while left:
        began = []
        for part in left:
            dies_at = draw.randint(1, 100) if draw.random() < chance else 0
            arguments = (part_of(archive, on_s3, part), dies_at)
            began.append((part, processes.Process(target=work, args=arguments)))
        for _, process in began:
            process.start()
        for _, process in began:
            process.join()
        assert {process.exitcode for _, process in began} <= {0, -signal.SIGKILL}
        left = [part for part, process in began if process.exitcode]
        n_killed += len(left)
        chance /= 2
    assert n_killed > 0
    done = migrate(archive, on_s3[0], target_options=on_s3[1])
    assert (done.n_done_before, done.n_objects) == (N_CELLS, 1)
    check(on_s3[0], whole, on_s3[1])


@pytest.mark.slow
def test_a_record_of_the_same_pixels_counts(
    archive: str,
    tmp_path: Path,
    meter: Meter,
    on_s3: tuple[str, dict[str, Any]],
    whole: dict[str, bytes],
) -> None:
    """Two processes do a cell, and between their reads its file gets another version."""
    url, options = on_s3
    meter.faults([held("PUT", "cells/0/000000005.json", nth=1)])
    with Writer(part_of(archive, on_s3, "5/24")) as first:
        wait_for_held(meter, first)
        os.utime(tmp_path / "in/a_1.tif", (1e9, 1e9))
        code, text = migrated(part_of(archive, on_s3, "5/24"))
        assert code == 0, text
        stored = copies.objects(url, options)
        meter.release()
        code, text = first.end()
    assert code == 0, text
    puts = [each for each in meter.log() if (each.method, each.key[-8:]) == ("PUT", "005.json")]
    assert [each.status for each in puts] == [412, 200]
    assert copies.objects(url, options) == stored
    done = migrate(archive, url, target_options=options)
    assert done.n_done_before == 1
    del whole["originals/part-000000004.parquet"]  # it has the version of the file
    found = shards(url, options)
    assert {key: found[key] for key in whole} == whole
    assert cloudimg.verify(url, storage_options=options, against_source=True, source_options={})


@pytest.mark.slow
def test_a_migration_with_the_lease_stops_parts(
    archive: str, meter: Meter, on_s3: tuple[str, dict[str, Any]], whole: dict[str, bytes]
) -> None:
    """The PUT that a part has under way arrives after the end, and changes nothing."""
    url, options = on_s3
    meter.faults([held("PUT", "/0/c/0/0/0$", nth=1)])
    with Writer(part_of(archive, on_s3, "0/2"), ttl_s=0.5) as part:
        wait_for_held(meter, part)
        done = migrate(archive, url, target_options=options)
        assert done.n_cells == N_CELLS + 1
        finished = copies.objects(url, options)
        meter.release()
        code, text = part.end()
    assert code == 1, text
    assert "LeaseError: process " in text
    assert "this part stores nothing more" in text
    assert copies.objects(url, options) == finished
    check(url, whole, options)


@pytest.mark.slow
def test_a_part_does_not_begin_beside_a_migration(
    archive: str, meter: Meter, on_s3: tuple[str, dict[str, Any]], whole: dict[str, bytes]
) -> None:
    url, options = on_s3
    arguments = {k: v for k, v in part_of(archive, on_s3, "").items() if k != "part"}
    meter.faults([held("PUT", "/0/c/0/0/0$", nth=1)])
    with Writer(arguments) as migration:
        wait_for_held(meter, migration)
        with pytest.raises(LeaseError, match="another migration is writing to"):
            migrate(archive, url, "1/2", target_options=options)
        migration.process.kill()
        migration.process.wait()
        # Of a holder that is dead, nobody waits for a heartbeat.
        migrate(archive, url, "1/2", target_options=options)
    meter.release()
    migrate(archive, url, target_options=options)
    check(url, whole, options)


@pytest.mark.slow
def test_a_plan_that_arrives_late_changes_nothing(
    archive: str, meter: Meter, on_s3: tuple[str, dict[str, Any]]
) -> None:
    url, options = on_s3
    meter.faults([held("PUT", "plan.json$", nth=1)])
    with Writer(part_of(archive, on_s3, "0/2"), ttl_s=0.5) as part:
        wait_for_held(meter, part)
        other = {**SHARDS, "levels": 1}
        cloudimg.migrate(archive, url, target_options=options, **other)
        finished = copies.objects(url, options)
        meter.release()
        code, text = part.end()
    assert code == 1, text
    assert "levels=1 before, levels=3 now" in text
    assert copies.objects(url, options) == finished
    assert cloudimg.verify(url, storage_options=options)


@pytest.mark.slow
def test_parts_that_list_at_different_times_follow_one_plan(
    archive: str, tmp_path: Path, meter: Meter, on_s3: tuple[str, dict[str, Any]]
) -> None:
    url, options = on_s3
    meter.faults([held("PUT", "plan.json$", nth=1)])
    with Writer(part_of(archive, on_s3, "0/2")) as first:
        wait_for_held(meter, first)
        write_file(tmp_path / "in", 6)
        migrate(archive, url, "1/2", target_options=options)
        meter.release()
        code, text = first.end()
    assert code == 0, text
    assert "part 0/2, 14 of 28 cells" in text
    done = migrate(archive, url, target_options=options)
    assert (done.n_done_before, done.n_objects) == (28, 1)
    assert cloudimg.verify(url, storage_options=options, against_source=True, source_options={})


@pytest.mark.slow
def test_a_holder_that_comes_back_stops_parts(
    archive: str, meter: Meter, on_s3: tuple[str, dict[str, Any]], whole: dict[str, bytes]
) -> None:
    """It was paused for so long that a part began."""
    require_other_machines()
    url, options = on_s3
    arguments = {k: v for k, v in part_of(archive, on_s3, "").items() if k != "part"}
    meter.faults([held("PUT", "/0/c/0/0/0$", nth=1), held("PUT", "/0/c/5/1/1$", nth=1)])
    with Writer(arguments, elsewhere=True, ttl_s=1) as migration:
        wait_for_held(meter, migration)
        migration.pause()
        with Writer(part_of(archive, on_s3, "23/24"), ttl_s=1) as part:
            wait_until(
                lambda: len(meter.held()) == 2 or part.process.poll() is not None, "the part"
            )
            lease = copies.objects(url, options)[LEASE]
            migration.go_on()
            wait_until(lambda: copies.objects(url, options)[LEASE] != lease, "a heartbeat")
            time.sleep(1)  # longer than the part trusts its last look
            meter.release()
            code, text = part.end()
            assert code == 1, text
            assert "no heartbeat from process" in text
            assert "this part stores nothing more" in text
        code, text = migration.end()
    assert code == 0, text
    check(url, whole, options)


@pytest.mark.slow
def test_what_arrives_after_an_overwrite_is_found(
    archive: str, tmp_path: Path, meter: Meter, on_s3: tuple[str, dict[str, Any]]
) -> None:
    url, options = on_s3
    meter.faults([held("PUT", "/0/c/5/0/0$", nth=1)])
    with Writer(part_of(archive, on_s3, "5/6"), ttl_s=0.5) as part:
        wait_for_held(meter, part)
        fewer = [f"{tmp_path}/in/a_{z}.tif" for z in range(4)]
        cloudimg.migrate(fewer, url, overwrite=True, target_options=options, chunks=16)
        proof = cloudimg.verify(url, storage_options=options)
        assert proof, str(proof)
        meter.release()
        code, text = part.end()
    assert code == 1, text
    assert "this part stores nothing more" in text
    proof = cloudimg.verify(url, storage_options=options)
    assert [each.url for each in proof.problems] == [f"{url}/0/c/5/0/0"]
