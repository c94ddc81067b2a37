"""Storing the plan of a migration, after the table of files that it names, and a second copy of it.

The second copy is stored after the plan, and restores a plan that was damaged or lost later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from cloudimg.discovery.table import FileTable
from cloudimg.errors import ArgumentError, LeaseError, ServerError, StorageError
from cloudimg.errors.checked_json import damage
from cloudimg.migration.journal.destination import Destination, as_json
from cloudimg.migration.journal.file_table import create_files, table_key
from cloudimg.migration.journal.layout import PLAN, PLAN_COPY
from cloudimg.migration.journal.sealing import (
    checksum,
    create_sealed,
    get_sealed,
    is_too_large,
    seal,
)
from cloudimg.migration.journal.state import State
from cloudimg.migration.journal.stored_objects import restore_object

MakeTable = Callable[[], FileTable]
"""Makes the table of the source's files."""


def create_plan(destination: Destination, state: State, make_table: MakeTable | None) -> State:
    """Store the plan of a new migration.

    Parameters
    ----------
    destination : Destination
        Guarded by a lease.
    state : State
    make_table : callable, optional
        Makes the table of files, which is stored before the plan. None: the source has no files.

    Returns
    -------
    State
        The state as it is stored, with the checksums of the table and of the plan.
    """

    def create(content: Mapping[str, Any]) -> str | None:
        etag = create_sealed(destination, PLAN, content, fences=state.fences).etag
        create_sealed(destination, PLAN_COPY, content, fences=state.fences)
        return etag

    return _put_with_table(destination, state, make_table, create)


def replace_plan(
    destination: Destination, state: State, make_table: MakeTable | None = None
) -> State:
    """Store the plan of a migration that goes on with another state; see `create_plan`.

    Without `make_table` the plan names the table that it named before.

    Raises
    ------
    LeaseError
        If the store compares versions, and another process replaced the plan since it was read.
    """

    def put(content: Mapping[str, Any]) -> str | None:
        replaced = destination.replace(PLAN, seal(content), state.etag)
        if replaced:
            restore_object(destination, PLAN_COPY, seal(content), fences=state.fences)
            return replaced.etag
        raise LeaseError(
            f"{destination.display(PLAN)} changed since it was read: another program writes to"
            f" {destination.url}. Stop it, then run the same migration again",
            url=destination.display(PLAN),
        )

    return _put_with_table(destination, state, make_table, put)


def complete_plan(destination: Destination, state: State) -> None:
    """Store the second copy of a plan again, if a process that was killed left another one.

    Parameters
    ----------
    destination : Destination
        Guarded by a lease.
    state : State
        As it is stored.
    """
    restore_object(destination, PLAN_COPY, seal(state.to_json()), fences=state.fences)


def _put_with_table(
    destination: Destination,
    state: State,
    make_table: MakeTable | None,
    put_plan: Callable[[Mapping[str, Any]], str | None],
) -> State:
    if make_table is None:
        return _put(state, put_plan)
    files_sha256 = create_files(destination, make_table(), fences=state.fences)
    state = replace(state, files_sha256=files_sha256)
    try:
        return _put(state, put_plan)
    except (ServerError, LeaseError):
        raise  # a plan that names the table may be stored, or arrive later
    except StorageError:
        with suppress(StorageError):  # the first failure is the one to report
            # A plan that is replaced may name the same table.
            if get_sealed(destination, PLAN) is None:
                destination.delete([table_key(files_sha256)])
        raise


def _put(state: State, put_plan: Callable[[Mapping[str, Any]], str | None]) -> State:
    content = _readable(state)
    return replace(state, sha256=checksum(content), etag=put_plan(content))


def _readable(state: State) -> dict[str, Any]:
    """The JSON of a state, which passes the checks of those who will read it.

    Raises
    ------
    ArgumentError
        If it does not.
    """
    data = as_json(state.to_json())
    content: dict[str, Any] = json.loads(data)
    try:
        if is_too_large(data):
            raise ValueError(f"it has {len(data)} bytes")
        State.from_json(content)
    except ValueError as exc:
        invalid = damage(exc)
    else:
        return content
    raise ArgumentError(f"this image cannot be migrated, its plan would be refused: {invalid}")
