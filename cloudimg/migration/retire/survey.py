"""What of the originals is not in the copy, and which files lie beside them: listed first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cloudimg.errors import AccessDeniedError, counted
from cloudimg.migration.export.original_tags import lost_pages, page_tags, tags_by_page
from cloudimg.migration.export.originals import Row
from cloudimg.migration.export.result import Lost
from cloudimg.migration.retire.originals import CopiedFiles
from cloudimg.storage import is_aside

_MOST_NAMES = 100_000
_EXAMPLES = 3


def not_held(rows: Sequence[Row]) -> set[Lost]:
    """What of one file an export of the copy could not write again, apart from how it is stored.

    Parameters
    ----------
    rows : sequence of mapping
        Its rows in the table of originals.
    """
    row = next((row for row in rows if row["tags"] is not None), rows[0])
    shape = [int(n) for n in row["file_shape"]]
    is_member = row["page"] is not None
    numbers = [int(each["page"]) for each in rows] if is_member else row.get("ifds")
    n_pages = len(numbers) if numbers else _n_planes(row, shape)
    _, tags, lost = tags_by_page(row, n_pages, numbers, 0)
    for each in _different(tags):
        lost |= page_tags(each, row.get("byteorder") or "<").lost
    return lost | lost_pages(row, n_pages, int(row["n_levels"] or 1) - 1)


def _n_planes(row: Row, shape: Sequence[int]) -> int:
    n = 1
    for dim, length in zip(row["file_dims"], shape, strict=True):
        n *= 1 if dim in ("y", "x", "s") else length
    return n


def _different(tags: Sequence[Any]) -> Iterator[Any]:
    seen: set[int] = set()
    for each in tags:
        if each and id(each) not in seen:
            seen.add(id(each))
            yield each


def what_stays(files: CopiedFiles, folder: str) -> list[str]:
    """Files in the folder of the originals that were not copied, in words.

    Parameters
    ----------
    files : CopiedFiles
    folder : str
        Key of the folder that all files have in common, with a slash at its end.
    """
    store = files.source
    known, examples = set(files.keys()), []
    n_listed = others = 0
    try:
        for batch in store.list_objects(folder.rstrip("/"), folder, None):
            for entry in batch:
                n_listed += 1
                if entry.key in known or _is_aside(entry.key[len(folder) :]):
                    continue
                others += 1
                examples += [store.location.display(entry.key)] if others <= _EXAMPLES else []
            if n_listed - len(known) > _MOST_NAMES:
                break
    except AccessDeniedError as exc:
        # The folder that files have in common may lie far above them.
        return [f"what else is in {store.location.display(folder)} is not known: {exc.message}"]
    if not others:
        return []
    shown = ", ".join(examples) + (", ..." if others > len(examples) else "")
    at_least = "at least " if n_listed - len(known) > _MOST_NAMES else ""
    where = store.location.display(folder)
    return [f"{at_least}{counted(others, 'other file')} in {where} ({shown})"]


def _is_aside(relative: str) -> bool:
    """Whether a name belongs to a Zarr image or a hidden folder, or marks a folder."""
    return not relative or relative[-1] == "/" or any(map(is_aside, relative.split("/")[:-1]))
