"""The report on missing and bad files as a file: ``cloudimg migrate --report FILE``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

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
    if not Path(name).parent.is_dir():
        raise ArgumentError(f"--report {name}: the folder {Path(name).parent} does not exist")
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
        raise CloudimgError(f"cannot write the report {name}: {error.strerror}") from error
