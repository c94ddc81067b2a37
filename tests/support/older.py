"""Copies as versions before facts of colours and nodata made them. Nothing here knows pytest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cloudimg
from cloudimg.migration.journal.layout import END_MARK, JOURNAL, PLAN, PLAN_COPY, RECORDS
from cloudimg.migration.journal.sealing import seal
from cloudimg.migration.journal.state_from_json import identity_of


def begun_by_an_older_version(path: Path, copy: Path, **options: Any) -> None:
    """Leave a plan alone, as versions before nodata and colours wrote it."""
    cloudimg.migrate(path, copy, **options)
    for each in copy.iterdir():
        if each.is_dir() and each.name != JOURNAL:
            shutil.rmtree(each)
    shutil.rmtree(copy / RECORDS)
    (copy / END_MARK).unlink()
    for each in copy.glob("*z*"):
        each.unlink()
    content = json.loads((copy / PLAN).read_bytes())
    del content["sha256"], content["facts"]["colours"]
    content["plan"].pop("nodata", None)
    content["plan"] |= {"method": "mean", "fill_value": 0 * content["plan"]["fill_value"]}
    content["facts"] |= {"notes": [], "name": None}
    content["id"] = identity_of(content["plan"], content["request"], content["source"])
    for key in (PLAN, PLAN_COPY):
        (copy / key).write_bytes(seal(content))
