"""What is noticed about the files and planes of a multi-file dataset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cloudimg.errors import counted
from cloudimg.errors.notes import Remark
from cloudimg.reading.header_cache import OpenFile
from cloudimg.storage import Entry
from cloudimg.tiff import surplus_remark
from cloudimg.tiff.multifile import PlaneTable

_SHOWN = 3


def missing_planes(
    planes: PlaneTable,
    entries: Sequence[Entry | None],
    present: npt.NDArray[np.bool_],
    url: str = "",
) -> str:
    """Say how many planes of how many are missing, and why.

    `url` is that of the file that was opened, if the text is to name it.
    """
    absent = [n for n, entry in zip(planes.files, entries, strict=True) if entry is None]
    shown = ", ".join(absent[:_SHOWN]) + (", ..." if len(absent) > _SHOWN else "")
    why = planes.shortfall or "no file is named for them"
    if absent:
        why = f"{counted(len(absent), 'file is', 'files are')} missing: {shown}"
    of = "image" if planes.shortfall else "multi-file dataset"
    of += f" of {url}" if url else ""
    planes_of = f"of {present.size} planes of the {of}"
    n_missing = int(present.size - present.sum())
    return f"{counted(n_missing, f'{planes_of} is', f'{planes_of} are')} missing: {why}"


def on_files(
    planes: PlaneTable,
    keys: Sequence[str],
    entries: Sequence[Entry | None],
    present: npt.NDArray[np.bool_],
) -> list[Remark]:
    """Remarks about planes that are filled, and files that were found under other names.

    Parameters
    ----------
    planes : PlaneTable
    keys : sequence of str
        Keys of the files by their names.
    entries : sequence of Entry or None
        The files that were found.
    present : ndarray of bool
        Which planes exist.
    """
    remarks = []
    if not present.all():
        text = f"{missing_planes(planes, entries, present)}; they are read as the fill value"
        remarks.append(Remark("missing-planes", text))
    pairs = [
        f"{name} is now {entry.key.rpartition('/')[2]}"
        for name, key, entry in zip(planes.files, keys, entries, strict=True)
        if entry is not None and entry.key != key
    ]
    if pairs:
        shown = ", ".join(pairs[:_SHOWN]) + (", ..." if len(pairs) > _SHOWN else "")
        files = counted(len(pairs), "file of the dataset was", "files of the dataset were")
        text = f"{files} found by UUID under another name: {shown}"
        remarks.append(Remark("renamed-files", text))
    return remarks


def surplus(planes: PlaneTable, index: tuple[int, ...], opened: OpenFile) -> tuple[Remark, ...]:
    """A remark about pages of a file that are in no image of the dataset, if there are any."""
    n_placed = planes.n_placed[int(planes.file_of[index])] if planes.n_placed else 0
    if not 0 < n_placed < opened.parsed.n_pages:
        return ()
    return (surplus_remark(opened.parsed.n_pages, n_placed, "the OME-XML places"),)
