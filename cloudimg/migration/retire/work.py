"""`Work`: the originals of a copy, and what is to be done with them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from cloudimg.distributed.run import Client
from cloudimg.errors import ArgumentError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.state import State
from cloudimg.migration.progress import AdvanceCallback
from cloudimg.migration.retire.action import Action, Move, Tag
from cloudimg.migration.retire.manifest import Manifest
from cloudimg.migration.retire.moving import Moving
from cloudimg.migration.retire.tagging import Tagging
from cloudimg.migration.verify.against import Against
from cloudimg.storage import Location, Store, WriteGuard


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The originals of a copy, and what is to be done with them."""

    copy: Destination
    state: State
    source: Store
    """Where the originals are."""
    tag: Tag | None = None
    move_to: tuple[Location, str] | None = None
    """The folder that the originals move to: its store, and its key."""
    against: Callable[[], Against]
    """Opens the originals, to compare the copy with them."""
    max_bytes: int
    """Memory for cells in flight."""
    client: Client | None = None
    progress: AdvanceCallback | None = None
    """Called as cells and files are done."""

    def action(self, base: str) -> Action:
        """What is done with files that have a folder in common.

        Raises
        ------
        ArgumentError
            If they cannot move there.
        """
        if self.tag is not None:
            if self.source.location.protocol == "file":
                raise ArgumentError(
                    "local files have no tags: pass move_to= with a folder on the same disk"
                )
            return self.tag
        assert self.move_to is not None
        location, key = self.move_to
        here, to, url = self.source.location, f"{key.rstrip('/')}/", location.display(key)
        if location.protocol != here.protocol or location.before or location.after:
            raise ArgumentError(
                f"move_to={url!r} must be in the store of the originals,"
                f" {here.display(base)}: the store itself moves them"
            )
        if to == "/" or not to[len(location.root) :].strip("/"):
            raise ArgumentError(f"move_to={url!r} must name a folder, not all of a bucket or disk")
        of_copy = self.copy.store.location
        is_in_copy = location == of_copy and _real(location, to).startswith(
            f"{_real(of_copy, self.copy.root)}/"
        )
        if to == base or is_in_copy or ".." in to.split("/"):
            what = "part of the copy" if is_in_copy else "where the originals are"
            raise ArgumentError(f"move_to={url!r} is {what}: name another folder")
        return Move(base, to, url)

    def refuse_other(self, manifest: Manifest) -> None:
        """Refuse another action than the one that was begun.

        Raises
        ------
        ArgumentError
        """
        begun = manifest.action
        wanted = self.action(begun.base if isinstance(begun, Move) else "/")
        if begun != wanted:
            raise ArgumentError(
                f"the originals of {self.copy.url} are retired already, by another action: {begun}."
                " Continue with that, or pass undo=True first"
            )

    def hand(self, action: Action, guard: WriteGuard) -> Tagging | Moving:
        """What does an action, as long as a guard allows it."""
        source = self.source.guarded(guard)
        if isinstance(action, Tag):
            return Tagging(action, source)
        return Moving(action, source, self.target(action).guarded(guard))

    def target(self, move: Move) -> Store:
        """The store of the folder that files move to."""
        location = self.source.location
        root = move.to.partition("/")[0] if location.root else ""
        return Store(Location("", location.protocol, root, ""), self.source.options)


def _real(location: Location, key: str) -> str:
    """A key without symbolic links to folders, which only local ones have."""
    return os.path.realpath(key) + "/" * key.endswith("/") if location.protocol == "file" else key
