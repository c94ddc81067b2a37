"""The report on missing and bad files as a file: ``cloudimg migrate --report FILE``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cloudimg.cli.streams import unwritable
from cloudimg.errors import ArgumentError, CloudimgError

if TYPE_CHECKING:
    from cloudimg.errors.file_report import FileReport


@contextmanager
def reported(name: str | None) -> Iterator[None]:
    """Write the report of an error about files to a file, if one is named.

    Raises
    ------
    ArgumentError
        At once, if the file cannot be written.
    """
    if name is None:
        yield
        return
    path = Path(name)
    if not path.parent.is_dir():
        raise ArgumentError(f"--report {name}: the folder {path.parent} does not exist")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ArgumentError(f"--report {name}: it is a folder, or there is no permission to write")
    try:
        yield
    except CloudimgError as error:
        report = getattr(error, "report", None)
        if report is not None:
            write_report(name, report)
        raise


def write_report(name: str, report: FileReport) -> None:
    """Write a report on files with all of them: as JSON, or as a table if the name ends in .txt.

    Raises
    ------
    CloudimgError
    """
    text = report.table() if name.endswith(".txt") else json.dumps(report.to_json(), indent=2)
    try:
        Path(name).write_text(f"{text}\n", encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise unwritable(f"cannot write the report {name}", error, CloudimgError) from error
