"""The proof that a copy can take the place of its originals, before anything is done to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from cloudimg.errors import CloudimgError, CorruptFileError, counted
from cloudimg.errors.notes import Note
from cloudimg.migration.export.copy_pixels import READ_AHEAD, CopyPixels
from cloudimg.migration.export.original_pixels import OriginalPixels
from cloudimg.migration.export.originals import Row, read_rows, rows_by_file
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.migration.retire.originals import CopiedFiles
from cloudimg.migration.retire.second_reader import SecondReading, read_again, sample_of
from cloudimg.migration.retire.work import Work
from cloudimg.migration.verify.against import Against
from cloudimg.migration.verify.result import Verification
from cloudimg.migration.verify.verify import verify
from cloudimg.reading.transit import NO_MD5

_SHOWN = 3


def prove(work: Work, files: CopiedFiles) -> tuple[str, bool]:
    """Verify the copy against all of its files, and a sample of them by another reader.

    Returns
    -------
    tuple
        What was found, as a sentence, and whether the MD5s that the store states are MD5s.

    Raises
    ------
    CloudimgError
        If anything differs.
    """
    verification = _verified(work, work.against())
    n_cells = work.state.plan.n_cells(0)
    if verification.n_compared != n_cells:
        raise _refusal(
            work, f"{verification.n_compared} of {counted(n_cells, 'cell')} could be compared"
        )
    reading = _second_reading(work, files)
    if reading.problems:
        raise _refusal(work, _listed(reading.problems))
    kinds = {note.kind for note in verification.notes if isinstance(note, Note)}
    proof = (
        f"verified: {counted(n_cells, 'cell')} compared with the files, and {reading} read again as"
        " a whole"
    )
    return proof, NO_MD5.kind not in kinds


def verify_alone(work: Work) -> None:
    """Verify the copy by its checksums: its files were compared before the list was stored.

    Raises
    ------
    CloudimgError
        If anything differs.
    """
    _verified(work, None)


def _verified(work: Work, against: Against | None) -> Verification:
    verification = verify(
        work.copy,
        work.state,
        against,
        max_bytes=work.max_bytes,
        client=work.client,
        progress=work.progress,
    )
    if not verification:
        problems = [str(problem) for problem in verification.problems]
        raise _refusal(work, _listed(problems, verification.n_problems))
    return verification


def rows_of_files(work: Work, files: CopiedFiles) -> Iterator[list[Row]]:
    """What the table of originals has of each file.

    Raises
    ------
    CorruptFileError
        If it does not have all files.
    """
    n_files = 0
    for rows in rows_by_file(read_rows(work.copy, work.state.source)):
        n_files += 1
        yield rows
    if n_files != files.n_listed:
        raise CorruptFileError(
            f"the table of originals of {work.copy.url} has {n_files} files, and"
            f" {files.n_listed} were copied",
            url=work.copy.url,
        )


def _second_reading(work: Work, files: CopiedFiles) -> SecondReading:
    source, found = work.state.source, SecondReading()
    sampled = sample_of(files.n_listed)
    is_plate = work.state.plan.plate is not None
    axes_mapping = AxesMapping(source["dims"], source["shape"], is_plate=is_plate)
    with ThreadPoolExecutor(READ_AHEAD, "cloudimg-retire-read") as threads:
        pixels = CopyPixels(work.copy, work.state.plan, threads)
        for number, rows in enumerate(rows_of_files(work, files)):
            if number in sampled:
                original = OriginalPixels(axes_mapping, pixels, rows)
                series = source["open"]["series"]
                read_again(work.source, str(rows[0]["key"]), original, series, found)
    return found


def _listed(problems: Sequence[str], n: int | None = None) -> str:
    n = len(problems) if n is None else n
    more = f"; and {n - _SHOWN} more" if n > _SHOWN else ""
    return f"{'; '.join(problems[:_SHOWN])}{more}"


def _refusal(work: Work, why: str) -> CloudimgError:
    return CloudimgError(
        f"the originals of {work.copy.url} were not touched, because the copy cannot be shown to"
        f" hold them: {why}",
        url=work.copy.url,
    )
