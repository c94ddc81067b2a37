"""Mend what is not a cell of a copy: its plans, its table of files, its metadata, its end mark."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from cloudimg.discovery.table import FileTable
from cloudimg.errors import CloudimgError, NotFoundError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.file_table import table_key
from cloudimg.migration.journal.inventory import EndMark
from cloudimg.migration.journal.layout import END_MARK, PLAN, PLAN_COPY
from cloudimg.migration.journal.plans import StoredPlans, plan_bytes
from cloudimg.migration.journal.sealing import seal
from cloudimg.migration.journal.state import State
from cloudimg.migration.journal.stored_objects import restore_object
from cloudimg.migration.metadata.edits import Flaw
from cloudimg.migration.metadata.mended import mended_document
from cloudimg.migration.run.committed import CommittedCells
from cloudimg.migration.run.contents import compare_documents


def mend_plans(destination: Destination, plans: StoredPlans, *, fences: bool) -> list[str]:
    """Store the plan again where it is missing or damaged; returns the keys."""
    for key in plans.broken:
        other = PLAN if key == PLAN_COPY else PLAN_COPY
        plan, _ = plan_bytes(destination, other, plans.state)
        restore_object(destination, key, plan, fences=fences)
    return list(plans.broken)


def mend_table(
    destination: Destination, state: State, table: FileTable | None, *, fences: bool
) -> str:
    """Store the table of files again; returns its key.

    Parameters
    ----------
    destination : Destination
    state : State
    table : FileTable, optional
        The files of the source as they are now.
    fences : bool

    Raises
    ------
    CloudimgError
        If the source has other files now.
    """
    key = table_key(state.files_sha256)
    data = b"" if table is None else table.to_parquet()
    if hashlib.sha256(data).hexdigest() != state.files_sha256:
        raise CloudimgError("the source has other files now than were copied")
    restore_object(destination, key, data, fences=fences)
    return key


def written_documents(
    copy: Destination, state: State, committed: CommittedCells
) -> dict[str, bytes]:
    """The metadata as the migration wrote it, by key; that of the root comes last."""
    return dict(committed.documents(state.facts, copy))


def mend_documents(
    destination: Destination, written: Mapping[str, bytes], *, fences: bool
) -> list[str]:
    """Store metadata again where it is missing or damaged; returns the keys.

    What others edited beside the damage stays, as far as it can be read.
    """
    flawed = {
        each.key: None for each in compare_documents(destination, written) if isinstance(each, Flaw)
    }
    for key in flawed:
        try:
            found = destination.get(key)
        except NotFoundError:
            found = b""
        restore_object(destination, key, mended_document(key, written[key], found), fences=fences)
    return list(flawed)


def mend_end_mark(
    destination: Destination,
    plans: StoredPlans,
    committed: CommittedCells,
    written: Iterable[tuple[str, bytes]],
    *,
    fences: bool,
) -> list[str]:
    """Store the end mark again, unless it is that of the records; returns its key then."""
    state, before = plans.state, plans.state.end_mark
    plan, etag = plan_bytes(destination, PLAN, state)
    # Records of a copy that was moved have the versions of another place.
    is_moved = before is not None and PLAN not in plans.broken and before.plan_etag != etag
    new = committed.records_digest.end_mark(
        state.id,
        written,
        state.facts.with_notes(committed.all_notes()).source_notes,
        plan_sha256=state.sha256,
        plan_etag=None if is_moved else etag,
    )
    has_versions = not is_moved
    earlier = None if before is None or not state.is_of(before) else _says(before, has_versions)
    if earlier == _says(new, has_versions):
        return []
    # The new one says that there is a second plan, which copies of older versions do not have.
    restore_object(destination, PLAN_COPY, plan, fences=fences)
    restore_object(destination, END_MARK, seal(new.to_json()), fences=fences)
    return [END_MARK]


def _says(end_mark: EndMark, has_versions: bool) -> tuple[object, ...]:
    """What an end mark says, apart from the sizes of documents that older versions wrote."""
    notes = [note.to_json() for note in end_mark.notes]
    versions = (end_mark.versions_digest, end_mark.plan_etag) if has_versions else ()
    return end_mark.plan_id, end_mark.n_cells, end_mark.records_digest, notes, versions
