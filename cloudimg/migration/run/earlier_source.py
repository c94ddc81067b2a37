"""The source of an earlier migration: one that continues it keeps to the same files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cloudimg.discovery.table import FileTable
from cloudimg.discovery.table_changes import has_same_rows
from cloudimg.errors import CorruptFileError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.file_table import get_files
from cloudimg.migration.journal.state import State
from cloudimg.migration.run.source_files import (
    number_of_plan,
    options_of_plan,
    recorded_options,
    shown_urls,
)
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.opening.options import OpenArguments, OpeningPurpose, URLs
from cloudimg.storage import unsigned

_SHAPE = ("dims", "shape", "dtype", "arrangement")


@dataclass(frozen=True, slots=True)
class EarlierSource:
    """The files that a migration was planned for."""

    source: Mapping[str, Any]
    """`WriteInput.source` of that migration."""
    files: FileTable
    lists_again: bool = True
    """Whether files are listed again; otherwise they are opened as the table has them."""

    @classmethod
    def of(cls, destination: Destination, state: State | None) -> EarlierSource | None:
        """Return the source of a migration; None if its files are not known.

        Raises
        ------
        StorageError
        """
        if state is None or state.source.get("kind") != "image":
            return None
        try:
            files = get_files(destination, state)
        except CorruptFileError:
            return None  # a copy without its table still has its fingerprint
        return None if files is None else cls(state.source, files)

    def purpose(self, urls: URLs, arguments: OpenArguments) -> OpeningPurpose:
        """The purpose to open a source for: to keep to the earlier files, if it is the same."""
        recorded = [unsigned(url) for url in self.source.get("urls", ())]
        is_same = recorded == list(map(unsigned, shown_urls(urls))) and self.has_options(
            recorded_options(arguments)
        )
        if not is_same:
            return arguments.purpose
        fill_value = number_of_plan(self.source["open"]["fill_value"])
        return replace(
            arguments.purpose,
            files=self.files,
            lists_again=self.lists_again,
            fill_value=fill_value,
        )

    def has_options(self, options: Mapping[str, Any]) -> bool:
        """Whether arguments form the same image; bad files may be filled or not."""
        recorded, now = options_of_plan(self.source.get("open", {})), options_of_plan(options)
        if now["fill_value"] is None and not recorded["fill_value"]:
            now["fill_value"] = recorded["fill_value"]  # older versions recorded their default
        return {**recorded, "bad": options["bad"]} == now

    def fits(self, write_input: WriteInput) -> bool:
        """Whether a source has the same files at the same places of the same image."""
        now = write_input.source
        return (
            write_input.files is not None
            and "arrangement" in self.source
            and all(self.source[name] == now[name] for name in _SHAPE)
            and self.has_options(now["open"])
            and has_same_rows(self.files, write_input.files())
        )
