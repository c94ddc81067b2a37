"""Errors about files that keep a copy from being finished."""

from __future__ import annotations

from cloudimg.errors import BadFilesError, counted
from cloudimg.errors.file_report import OTHER_THAN_FIRST, FileReport
from cloudimg.migration.journal.state import State
from cloudimg.migration.plan.part import Part
from cloudimg.migration.run.filled_files import FilledFiles

_SHOWN = 2
"""Bad files of each kind in the text of an error; its report has all."""


def report_of(filled: FilledFiles, state: State) -> FileReport:
    """The report on the files that the cells of a migration found to be missing or bad."""
    return filled.report(state.source.get("files", {}))


def cells_with_bad_files(
    n_bad_cells: int,
    filled: FilledFiles,
    state: State,
    url: str,
    part: Part | None = None,
) -> BadFilesError:
    """The error for cells that were not stored because of bad files.

    Parameters
    ----------
    n_bad_cells : int
    filled : FilledFiles
        Those of all cells.
    state : State
    url : str
        URL of the copy.
    part : Part, optional
        The part to which the cells belong, if they are not all.
    """
    report = report_of(filled, state)
    opening = state.source.get("open", {})
    refused = {name for name in ("missing", "bad") if opening.get(name, "raise") == "raise"}
    kinds = [
        each for each in report.kinds if ("missing" if each.kind == "missing" else "bad") in refused
    ]
    shown = "; ".join(str(file) for each in kinds for file in each.examples[:_SHOWN])
    n_cells = state.plan.n_cells(0)
    share = f"{n_cells} cells"
    if part is not None:
        share = f"{counted(len(part.share(n_cells)), 'cell')} of part {part}"
    cells = counted(n_bad_cells, f"of {share} was", f"of {share} were")
    advice = []
    if any(each.kind != "missing" for each in kinds):
        beside = "" if part is None else ", without part=,"  # parts keep to the plan
        advice.append(f'pass bad="fill"{beside} to copy the fill value in their place')
    if any(each.kind == "missing" for each in kinds):
        advice.append('start over with missing="fill" to copy it in place of missing ones')
    error = BadFilesError(
        f"{url} is incomplete: {cells} not copied because of bad files, all others are done:"
        f" {report.summary}, such as {shown}. Mend or replace the files and run the same migration"
        f" again to continue it, or {', or '.join(advice)}",
        url=url,
    )
    error.report = report
    return error


def odd_first_file(filled: FilledFiles, state: State, url: str) -> BadFilesError | None:
    """The error if most files were filled because the first one is the odd one; otherwise None."""
    report = report_of(filled, state)
    n_other = sum(each.n_files for each in report.kinds if each.kind in OTHER_THAN_FIRST)
    if not report.n_files or 2 * n_other <= report.n_files:
        return None
    error = BadFilesError(
        f"{n_other} of {report.n_files} files have other axes, another shape or another dtype than"
        f" the first one: {url} would consist of fill values. Leave the first file out with"
        " exclude=, and start over with overwrite=True",
        url=url,
    )
    error.report = report
    return error
