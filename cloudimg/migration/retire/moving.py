"""Moving the originals within their store, and back.

A file is copied on the condition that it has the version that was copied, and that nothing is at
the other place. The copy is read back. Then the file is looked at once more and deleted. So at each
moment it is whole at one of the two places, or at both; what is at a place is found out by its
bytes, and never assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloudimg.errors import StorageError
from cloudimg.migration.retire.action import Move, Original
from cloudimg.migration.retire.originals import digest_of_bytes, has_bytes_of
from cloudimg.migration.retire.result import BEFORE, DONE, LEFT, Left, Outcome
from cloudimg.migration.retire.tagging import CHANGED, GONE
from cloudimg.storage import Standing, Store


@dataclass(frozen=True, slots=True)
class _Place:
    """A key in a store, and what stands there."""

    store: Store
    key: str

    @property
    def url(self) -> str:
        return self.store.location.display(self.key)

    def look(self) -> Standing | None:
        return self.store.move(lambda mover: mover.look(self.key), changes=False)

    def settle(self) -> None:
        self.store.move(lambda mover: mover.settle(self.key))

    def delete(self, standing: Standing) -> None:
        self.store.move(lambda mover: mover.delete(self.key, standing), deletes=True)


@dataclass(frozen=True, slots=True)
class Moving:
    """Moves files, and moves them back."""

    move: Move
    source: Store
    """The store of the files, guarded by the lease."""
    target: Store
    """The store of the folder that they move to, guarded by the lease."""

    def retire(self, original: Original) -> Outcome:
        """Move a file, if it is the version that was copied."""
        first, second = self._settled_places(original)
        standing = first.look()
        if standing is not None and not _is_copied_version(original, first, standing):
            return _left(first, CHANGED)
        return _moved(original, first, second, standing)

    def bring_back(self, original: Original) -> Outcome:
        """Move a file back, unless something has been put in its place since."""
        first, second = self._settled_places(original)
        return _moved(original, second, first, second.look())

    def _settled_places(self, original: Original) -> tuple[_Place, _Place]:
        """The two places, where nothing is left half done by an earlier run."""
        target = self.move.target_of(original.key)
        places = _Place(self.source, original.key), _Place(self.target, target)
        for place in places:
            place.settle()
        return places


def _is_copied_version(original: Original, place: _Place, standing: Standing) -> bool:
    """Whether a file is the one that was copied, which may have been away meanwhile.

    A local file has its inode all the time, and what is known of its bytes is size and time.
    """
    if standing.version == original.version:
        return True
    is_local = original.digest.startswith("file:")
    return not is_local and has_bytes_of(original, place.store, place.key, standing)


def _moved(original: Original, old: _Place, new: _Place, standing: Standing | None) -> Outcome:
    """Move a file from one place to the other, as far as that is not done."""
    there = new.look()
    if there is not None and not _is_original(original, old, new, standing, there):
        return _left(old if standing else new, f"another file is at {new.url}")
    if standing and there and _is_one_entry(standing, there):
        return _left(old, f"{new.url} leads to the same file")
    if standing is None:
        return Outcome(BEFORE) if there is not None else _left(new, GONE)
    if there is None:
        if not has_bytes_of(original, old.store, old.key, standing):
            return _left(old, CHANGED)
        old.store.move(lambda mover: mover.copy(old.key, new.key, standing))
        problem = _problem_of_copy(original, old, new, standing)
        if problem:
            return _left(old, problem)
    elif not has_bytes_of(original, old.store, old.key, standing):
        return _left(old, CHANGED)
    old.delete(standing)
    rest = old.look()
    if rest is None:
        return Outcome(DONE)
    if rest.version == standing.version:
        raise StorageError(f"{old.url} was deleted and is still there", url=old.url)
    return _left(old, CHANGED)


def _is_one_entry(one: Standing, other: Standing) -> bool:
    """Whether two local paths are one name of one file, which would be deleted with either."""
    entry = one.details.get("entry")
    return entry is not None and entry == other.details.get("entry")


def _is_original(
    original: Original, old: _Place, new: _Place, standing: Standing | None, there: Standing
) -> bool:
    """Whether the file at the other place is the original, so that the first may be deleted.

    Size and time are known of a local file, and other files may have the same: if both places have
    one, and not by a hard link, their bytes are compared.
    """
    if not has_bytes_of(original, new.store, new.key, there):
        return False
    is_local = original.digest.startswith("file:")
    if standing is None or not is_local or standing.details["inode"] == there.details["inode"]:
        return True
    digests = {
        digest_of_bytes(place.store, place.key, found, "sha256")
        for place, found in ((old, standing), (new, there))
    }
    return len(digests) == 1


def _problem_of_copy(original: Original, old: _Place, new: _Place, standing: Standing) -> str:
    """Why a copy that was just requested does not count; empty if it is right."""
    there, now = new.look(), old.look()
    is_same = there is not None and has_bytes_of(original, new.store, new.key, there)
    if now is None or now.version != standing.version:
        # Some stores ignore the condition on what is copied.
        if there and now and not is_same and not set(there.digests).isdisjoint(now.digests):
            new.delete(there)
        return CHANGED
    if there is None:
        raise StorageError(f"the store did not copy {old.url} to {new.url}", url=new.url)
    return "" if is_same else f"another file was put at {new.url}"


def _left(place: _Place, why: str) -> Outcome:
    return Outcome(LEFT, Left(place.url, why))
