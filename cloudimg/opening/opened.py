"""`Opened`: the parts of an image, as the steps of `cloudimg.open` hand them on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.table_changes import TableChanges
from cloudimg.discovery.unmatched import Unmatched
from cloudimg.errors.file_report import FileReport
from cloudimg.opening.header_inspection import HeaderInspection
from cloudimg.opening.selection import Selection
from cloudimg.reading.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The parts of an image: its files, their headers, and a source for each level."""

    sources: tuple[Source, ...]
    """Sources by level."""
    grid: FileGrid
    inspection: HeaderInspection
    url: str
    """URL without secrets, for messages."""
    n_files: int
    """Number of files that exist."""
    report: FileReport
    """Files that are missing, or were found to be bad."""
    unmatched: Unmatched | None = None
    """What was listed but does not match the pattern; None where nothing was listed."""
    changes: TableChanges | None = None
    """How the files that were listed differ from those of an earlier listing, which are used."""
    selection: Selection | None = None
    """What was selected of the image that all files form; None for all of it."""
    whole_attrs: Mapping[str, Any] | None = None
    """Attributes of the image from which it was selected."""
