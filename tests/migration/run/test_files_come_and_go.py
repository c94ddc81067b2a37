"""Source files that come or go between the runs of a migration, or during one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloudimg
from cloudimg.errors import CloudimgError
from tests.conftest import WebServer
from tests.support import copies
from tests.support.changing_files import CELLS, Files, N, Stop, files_of_kind, plane, texts, tiff
from tests.support.metering import Meter

pytestmark = pytest.mark.slow  # all of them together


def test_newer_files_are_a_note(some_files: Files) -> None:
    files = some_files
    files.stop_after(3)
    for t in (N, N + 1):
        files.put(f"t{t}.tif", tiff(t))
    done = files.migrate()
    np.testing.assert_array_equal(files.pixels(), [plane(t) for t in range(N)])
    expected = [] if files.kind.endswith("list") else ["2 newer files are not in this copy"]
    assert texts(done.notes) == expected
    proof = files.verify()
    assert proof, str(proof)
    assert texts(proof.notes) == expected
    again = files.migrate()
    assert (again.n_objects, again.notes) == (0, done.notes)


def test_newer_files_during_the_run(some_files: Files) -> None:
    def add(advance: Any) -> None:
        some_files.put(f"t{N}.tif", tiff(N))

    done = some_files.migrate(progress=add)
    expected = [] if some_files.kind.endswith("list") else ["1 newer file is not in this copy"]
    assert texts(done.notes) == expected
    assert some_files.verify()


def test_newer_files_that_leave_holes_in_the_grid(archive: Files) -> None:
    archive.source = f"s3://{archive.bucket}/src/t{{t}}_c{{c}}.tif"
    for t, c in np.ndindex(3, 2):
        archive.put(f"t{t}_c{c}.tif", tiff(10 * t + c))
    cells: dict[str, Any] = {"shards": {"t": 1, "c": 1, "y": 32, "x": 48}, "allow_unmatched": True}
    archive.stop_after(3, **cells)
    archive.put("t3_c0.tif", tiff(30))  # of an acquisition that goes on
    done = archive.migrate(**cells)
    assert any("1 newer file is not in this copy" in note for note in done.notes)
    assert archive.pixels().shape[0] == 6
    assert archive.verify()


@pytest.mark.parametrize("kind", ["s3-pattern", "local-pattern", "http-pattern", "s3-list"])
def test_a_file_that_comes_late_stays_missing_in_all_cells(
    kind: str, meter: Meter, bucket: str, httpd: WebServer, tmp_path: Path
) -> None:
    """Every cell goes by the files of the plan, whether it was finished before or not."""
    files = files_of_kind(kind, meter, bucket, httpd, tmp_path)
    files.delete("t1.tif")
    cells: dict[str, Any] = {
        "shards": {files.axis: 1, "y": 16, "x": 48},
        "levels": 1,
        "missing": "fill",
    }
    files.stop_after(4, **cells)
    files.put("t1.tif", tiff(1))
    done = files.migrate(**cells)
    image = files.pixels()
    present = [0, 2, 3, 4, 5]
    if files.axis == "file":
        expected = [plane(t) if t != 1 else 0 * plane(0) for t in range(N)]
        np.testing.assert_array_equal(image, expected)
    else:
        np.testing.assert_array_equal(image, [plane(t) for t in present])
    assert any("1 newer file is not in this copy" in note for note in done.notes)
    proof = files.verify()
    assert proof, str(proof)


def test_newer_files_that_do_not_fit_the_grid(archive: Files) -> None:
    """Two files at one index: the files of the plan are asked for one by one."""
    archive.source = f"s3://{archive.bucket}/src/t{{t}}.*"
    archive.stop_after(4)
    n_before = archive.n_records()
    archive.put("t3.tiff", tiff(3))
    archive.put("t1.tif", tiff(41))
    done = archive.migrate()
    assert done.n_done_before == n_before - 1
    expected = [plane(41 if t == 1 else t) for t in range(N)]
    np.testing.assert_array_equal(archive.pixels(), expected)
    archive.put("t4.tiff", tiff(4))
    assert archive.verify()


def test_a_hole_of_a_grid_that_is_filled_late(archive: Files) -> None:
    archive.source = f"s3://{archive.bucket}/src/t{{t}}_c{{c}}.tif"
    for t, c in np.ndindex(3, 2):
        archive.put(f"t{t}_c{c}.tif", tiff(10 * t + c))
    archive.delete("t0_c1.tif")
    archive.delete("t2_c0.tif")
    cells: dict[str, Any] = {
        "shards": {"t": 1, "c": 1, "y": 32, "x": 48},
        "allow_unmatched": True,
        "missing": "fill",
    }
    archive.stop_after(3, **cells)
    archive.put("t0_c1.tif", tiff(1))
    archive.put("t2_c0.tif", tiff(20))
    done = archive.migrate(**cells)
    assert any("2 newer files are not in this copy" in note for note in done.notes)
    missing = {(0, 1), (2, 0)}
    expected = [
        plane(0) * 0 if place in missing else plane(10 * place[0] + place[1])
        for place in np.ndindex(3, 2)
    ]
    np.testing.assert_array_equal(archive.pixels(), expected)
    proof = archive.verify()
    assert proof, str(proof)
    assert proof.report is not None
    assert {each.kind: each.n_files for each in proof.report.kinds} == {"missing": 2}


def test_a_file_that_is_gone_after_it_was_read(files: Files) -> None:
    files.stop_after(4)
    files.delete("t1.tif")
    done = files.migrate()
    assert texts(done.notes) == ["1 source file is gone since it was copied"]
    np.testing.assert_array_equal(files.pixels(), [plane(t) for t in range(N)])
    assert cloudimg.verify(files.url(), storage_options=files.meter.storage_options)


def test_a_file_that_is_gone_before_it_was_read(files: Files) -> None:
    files.stop_after(2)
    files.delete("t5.tif")
    with pytest.raises(CloudimgError, match=r"t5\.tif"):
        files.migrate()
    names = copies.names(files.url(), files.meter.storage_options)
    assert "zarr.json" not in names
    files.put("t5.tif", tiff(5))
    files.migrate()
    files.assert_as_fresh()


def test_an_image_that_was_opened_with_newer_files(archive: Files) -> None:
    cells: dict[str, Any] = {**CELLS, "storage_options": archive.meter.storage_options}

    def stop(advance: Any) -> None:
        if advance.n_done >= 4:
            raise Stop

    def opened() -> cloudimg.Image:
        return cloudimg.open(archive.source, storage_options=archive.options)

    with pytest.raises(Stop):
        opened().to_zarr(archive.url(), progress=stop, **cells)
    archive.put(f"t{N}.tif", tiff(N))
    archive.put("t1.tif", tiff(41))
    image = opened()
    assert image.shape[0] == N + 1
    done = image.to_zarr(archive.url(), **cells)
    assert texts(done.notes)[-1] == "1 newer file is not in this copy"
    assert archive.pixels().shape[0] == N
    np.testing.assert_array_equal(archive.pixels()[1], plane(41))


@pytest.mark.parametrize("is_finished", [False, True])
def test_a_new_plan_has_the_newer_files(archive: Files, is_finished: bool) -> None:
    if is_finished:
        archive.migrate()
    else:
        archive.stop_after(4)
    archive.put(f"t{N}.tif", tiff(N))
    archive.migrate(overwrite=True, codec="gzip")
    np.testing.assert_array_equal(archive.pixels(), [plane(t) for t in range(N + 1)])
