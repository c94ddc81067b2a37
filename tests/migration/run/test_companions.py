"""Copies that keep the files with metadata beside the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError, BadFilesError
from cloudimg.migration.metadata.companions import checked_companions, packed
from tests.support import copies, seed
from tests.support.metering import Meter

PIXELS = np.arange(96, dtype=np.uint16).reshape(8, 12)
CELLS = {"shards": {"z": 1, "y": 512, "x": 512}, "levels": 1}
TEXTS = {"Index.xml": b"<index/>", "sub/metadata.txt": b"{}", "well.HTD": bytes(range(256))}


@pytest.fixture
def source(tmp_path: Path) -> str:
    folder = tmp_path / "in"
    for z in range(3):
        put(folder / f"f_{z}.tif", seed.encode(PIXELS + z))
    for name, text in TEXTS.items():
        put(folder / name, text)
    put(folder / "zarr.json", b"{}")  # would make a Zarr of its folder
    put(folder / ".secret.json", b"{}")
    return f"{folder}/f_{{z}}.tif"


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def kept(out: Path) -> dict[str, bytes]:
    folder = out / "companions"
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("zarr_format", [3, pytest.param(2, marks=pytest.mark.slow)])
def test_they_are_as_they_were_when_the_copy_was_planned(
    source: str, tmp_path: Path, zarr_format: int
) -> None:
    out, bad = tmp_path / "copy.zarr", tmp_path / "in" / "f_1.tif"
    arguments = {"levels": 1, "zarr_format": zarr_format, "companions": True}
    whole = bad.read_bytes()
    bad.write_bytes(whole[:200])
    with pytest.raises(BadFilesError):
        cloudimg.migrate(source, out, **arguments)
    bad.write_bytes(whole)
    (tmp_path / "in" / "Index.xml").write_bytes(b"another")
    done = cloudimg.migrate(source, out, **arguments)
    assert kept(out) == TEXTS
    (note,) = (note for note in done.notes if "companions/" in note)
    assert note.startswith(f"{tmp_path}/in/zarr.json: not copied into companions/")
    assert cloudimg.verify(out, against_source=True)
    assert cloudimg.migrate(source, out, **arguments).is_unchanged
    with pytest.raises(ArgumentError, match="companions=True before, not given now"):
        cloudimg.migrate(source, out, **{**arguments, "companions": False})

    (out / "companions" / "Index.xml").write_bytes(b"edited")
    (out / "companions" / "well.HTD").unlink()
    assert cloudimg.verify(out).n_problems == 2
    assert cloudimg.repair(out)
    assert kept(out) == TEXTS
    put(out / "companions" / "added.txt", b"-")
    found = cloudimg.verify(out)
    assert (found.n_problems, found.n_edits) == (0, 1)


def test_only_what_was_listed_can_be_kept(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, files = tmp_path / "copy.zarr", [source.replace("{z}", str(z)) for z in range(3)]
    for call in (lambda: cloudimg.migrate(files, out, companions=True),
                 lambda: cloudimg.dry_run(files, out, companions=True)):  # fmt: skip
        with pytest.raises(ArgumentError, match="was not listed"):
            call()
    assert not (out / "companions").exists()
    put(tmp_path / "in" / "big.csv", bytes(2**24))
    words = ["migrate", source, str(out), "--companions"]
    assert main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "5 files with metadata, 3 copied: " in shown
    assert f"2 files, for example {tmp_path}/in/big.csv: not copied into companions/" in shown
    assert main(words) == 0
    assert kept(out) == TEXTS


def test_in_a_bucket_and_in_parts(meter: Meter, bucket: str) -> None:
    for z in range(3):
        meter.put(bucket, f"in/f_{z}.tif", seed.encode(PIXELS + z))
    for name, text in TEXTS.items():
        meter.put(bucket, f"in/{name}", text)
    source, out = f"s3://{bucket}/in/f_{{z}}.tif", f"s3://{bucket}/copy.zarr"
    stores = {"source_options": meter.storage_options, "target_options": meter.storage_options}
    for part in ("0/2", "1/2", None):
        cloudimg.migrate(source, out, companions=True, part=part, **CELLS, **stores)
    objects = copies.objects(out, meter.storage_options)
    found = {key: data for key, data in objects.items() if key.startswith("companions/")}
    assert found == {f"companions/{name}": text for name, text in TEXTS.items()}
    assert cloudimg.verify(out, storage_options=meter.storage_options)


@pytest.mark.parametrize(
    "stored",
    [
        [["../a", packed(b"a")]],
        [["a//b", packed(b"a")]],
        [["zarr.json", packed(b"a")]],
        [["a", "=="]],
        [["a", packed(b"a")[:-6]]],
        [["a", packed(bytes(2**24 + 1))]],
        [["a", packed(bytes(2**23 + 1))], ["b", packed(bytes(2**23))]],
        [["a", packed(b"a")], ["a", packed(b"b")]],
        [["a"]],
    ],
)  # fmt: skip
def test_plans_that_hold_anything_else(stored: object) -> None:
    with pytest.raises(ValueError, match="companions"):
        checked_companions(stored, "facts.companions")
