"""The source of a copy, opened again: as the plan records it, or as the user gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cloudimg.api.images import open_image
from cloudimg.api.recorded_source import options_of_source, urls_of_source
from cloudimg.discovery.find_files import locate
from cloudimg.discovery.table import FileTable
from cloudimg.discovery.table_changes import (
    UNCHANGED,
    TableChanges,
    changes_between,
    has_same_rows,
)
from cloudimg.errors import ArgumentError, CorruptFileError
from cloudimg.image.image import Image
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.file_table import get_files
from cloudimg.migration.journal.state import State
from cloudimg.migration.metadata.calibration import Calibration
from cloudimg.migration.run.array_input import write_input_of_array
from cloudimg.migration.run.source_files import number_of_plan, options_of_plan
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.migration.verify.against import Against
from cloudimg.opening.list_files import list_sources
from cloudimg.opening.options import (
    PIXEL_OPTIONS,
    OpenArguments,
    OpeningPurpose,
    StorageOptions,
    URLs,
    as_texts,
)
from cloudimg.opening.selection import Selection


def write_input_to_compare(
    destination: Destination,
    state: State,
    files: FileTable | None,
    given: Any,
    source: URLs | None,
    source_options: StorageOptions | None,
) -> tuple[WriteInput, TableChanges | None]:
    """Prepare the source that a copy is compared with, and find what changed in its files.

    If needed, the source is opened as the plan records it, from the files that were copied.
    """
    is_plate = state.plan.plate is not None
    name = state.request.name
    calibration = Calibration.of_stored(state.request.to_json())

    def input_of(image: Image) -> WriteInput:
        opened = image.write_input(name, is_copied=False, calibration=calibration)
        return opened.mapped(is_plate=is_plate)

    if isinstance(given, Image):
        return input_of(given), None
    if not isinstance(given, bool):
        array = write_input_of_array(
            given,
            dims=state.source["dims"],
            name=name,
            identity=state.source.get("identity"),
            calibration=calibration,
        )
        return array.mapped(is_plate=is_plate), None
    recorded = state.source
    urls, is_elsewhere = urls_of_source(recorded, source)
    location, _ = locate(as_texts(urls))
    endpoint = None if is_elsewhere else recorded.get("endpoint")
    store_options = options_of_source(destination.store, location, endpoint, source_options)
    options = options_of_plan(recorded["open"])
    options = {name: options[name] for name in PIXEL_OPTIONS}
    options["fill_value"] = number_of_plan(options["fill_value"])
    if options["select"] is not None:
        options["select"] = Selection.from_json(options["select"])
    opening = {**options, "storage_options": store_options}
    if recorded.get("is_table") and source is None:
        if files is None:
            raise ArgumentError(
                "the copy was made of the files of a table, which is not stored with it:"
                " pass against_source=cloudimg.open(...)"
            )
        urls = files.to_table()  # of the files that were selected
        if options["select"] is not None:
            opening["select"] = options["select"].among_its_files()
    if is_elsewhere:
        # Only pixels can be compared: files have other names there, and often other versions.
        return _as_it_was(state, urls, opening, input_of), UNCHANGED
    if files is None:
        return _as_it_was(state, urls, opening, input_of), None
    lists_folder = recorded.get("files", {}).get("lists_folder", False)
    purpose = OpeningPurpose(files=files, whole_folder=lists_folder, grow=state.request.grow)
    write_input = input_of(open_image(urls, {**opening, "purpose": purpose}))
    if write_input.changes is None and write_input.files is not None:
        return write_input, changes_between(files, write_input.files())
    return write_input, write_input.changes


def _as_it_was(
    state: State, urls: URLs, opening: dict[str, Any], input_of: Callable[[Image], WriteInput]
) -> WriteInput:
    """The source without a table of its files; that of a copy that grows as far as it was copied.

    Positions of files are those of the table only if the growing axis comes first.
    """
    grow = state.plan.grow
    if grow is None or not isinstance(urls, str):
        return input_of(open_image(urls, opening))
    purpose = OpeningPurpose(grow=grow)
    found = input_of(open_image(urls, {**opening, "purpose": purpose}))
    axis = state.source["dims"].index(grow)
    before, now = state.source["shape"][axis], found.source["shape"][axis]
    if before >= now:
        return found
    labels = list_sources(urls, OpenArguments.of({**opening, "purpose": purpose})).labels[0]
    n_before, rest = divmod(len(labels) * before, now)  # a file may have several indices
    if rest:
        return found
    purpose = replace(purpose, grow_labels=frozenset(labels[:n_before]))
    return input_of(open_image(urls, {**opening, "purpose": purpose}))


def source_to_compare(
    copy: Destination,
    state: State,
    given: Any,
    source: URLs | None,
    source_options: StorageOptions | None,
    *,
    n_sampled: int | None = None,
) -> Against:
    """The source of a copy, opened again to be compared with it.

    Raises
    ------
    CloudimgError
    """
    files = files_copied(copy, state)
    write_input, changes = write_input_to_compare(copy, state, files, given, source, source_options)
    is_same = (
        files is not None
        and write_input.files is not None
        and has_same_rows(files, write_input.files())
    )
    return Against(write_input, n_sampled, changes, compares_versions=is_same)


def files_copied(destination: Destination, state: State) -> FileTable | None:
    """The files that were copied; None if they are not known."""
    try:
        return get_files(destination, state)
    except CorruptFileError:
        return None  # a problem of the copy, which verifying finds
