"""Which objects belong to the journal, and what each of them is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.migration.journal.layout import JournalKind, journal_kind


def test_the_kinds_of_what_a_copy_holds(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((32, 32), np.uint8))
    cloudimg.migrate(tmp_path / "a.tif", tmp_path / "copy.zarr")
    files = (path for path in (tmp_path / "copy.zarr").rglob("*") if path.is_file())
    keys = [path.relative_to(tmp_path / "copy.zarr").as_posix() for path in files]
    kinds = {key: journal_kind(key) for key in keys if journal_kind(key) is not None}
    assert kinds.keys() == {key for key in keys if key.startswith(".cloudimg/")}
    assert sorted(kinds.values(), key=str) == [
        JournalKind.END_MARK,
        JournalKind.LEASE,
        JournalKind.PLAN,
        JournalKind.PLAN_COPY,
        JournalKind.RECORD,
        JournalKind.TABLE,
    ]


@pytest.mark.parametrize(
    "name",
    ["plan.json.bak", "done.json~", "lease", "cells", "cells2/0/000000000.json", "x/plan.json"],
)
def test_what_lies_beside_them(name: str) -> None:
    assert journal_kind(f".cloudimg/{name}") is JournalKind.OTHER


@pytest.mark.parametrize(
    "key", ["zarr.json", ".cloudimg", ".cloudimg2/plan.json", "0/.cloudimg/plan.json"]
)
def test_what_lies_elsewhere(key: str) -> None:
    assert journal_kind(key) is None
