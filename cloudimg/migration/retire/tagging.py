"""Tagging the originals, and taking the tags away."""

from __future__ import annotations

from dataclasses import dataclass

from cloudimg.errors import NotFoundError
from cloudimg.migration.retire.action import Original, Tag
from cloudimg.migration.retire.result import BEFORE, DONE, LEFT, Left, Outcome
from cloudimg.storage import Standing, Store

CHANGED = "it changed since it was copied"
GONE = "it is gone, and not by this list"


@dataclass(frozen=True, slots=True)
class Tagging:
    """Sets a tag, and sets it back; the other tags of a file stay.

    S3 has no condition for it. A file that is replaced between a look at it and the request gets a
    tag that it must not have, so it is looked at afterwards, and the tag is taken away again.
    """

    tag: Tag
    source: Store
    """The store of the files, guarded by the lease."""

    def retire(self, original: Original) -> Outcome:
        """Tag a file, if it is the version that was copied."""
        return self._set(original, self.tag.value)

    def bring_back(self, original: Original) -> Outcome:
        """Give the tag of a file the value that it had before; take it away if it had none.

        A file that had the tag already is left to whoever gave it, such as another copy of it.
        """
        if original.before == self.tag.value:
            return Outcome(BEFORE)
        return self._set(original, original.before)

    def _set(self, original: Original, value: str | None) -> Outcome:
        key = original.key
        standing = self._look(key)
        try:
            if standing is None or standing.version != original.version:
                return self._changed(original, standing)
            before = self._tags(key)
            if before.get(self.tag.name) == value:
                return Outcome(BEFORE)
            if before.get(self.tag.name) not in (None, original.before, self.tag.value):
                return self._left(original, f"its tag {self.tag.name} has another value since")
            self._replace(key, before, value, standing)
            after = self._look(key)
            if after is None or after.version != original.version:
                return self._changed(original, after)
            if self._tags(key).get(self.tag.name) != value:
                return self._left(original, f"the store did not set its tag {self.tag.name}")
        except NotFoundError:
            return self._left(original, GONE)
        return Outcome(DONE)

    def _changed(self, original: Original, standing: Standing | None) -> Outcome:
        """What becomes of another file at the key: it must not have the tag."""
        if standing is None:
            return self._left(original, GONE)
        tags = self._tags(original.key)
        if tags.get(self.tag.name) == self.tag.value:
            self._replace(original.key, tags, None, standing)
            return self._left(original, f"{CHANGED}; its tag {self.tag.name} was taken away")
        return self._left(original, CHANGED)

    def _replace(
        self, key: str, before: dict[str, str], value: str | None, standing: Standing
    ) -> None:
        tags = {name: text for name, text in before.items() if name != self.tag.name}
        if value is not None:
            tags[self.tag.name] = value
        self.source.move(lambda mover: mover.set_tags(key, tags, before, standing))

    def _look(self, key: str) -> Standing | None:
        return self.source.move(lambda mover: mover.look(key), changes=False)

    def _tags(self, key: str) -> dict[str, str]:
        return self.source.move(lambda mover: mover.tags(key), changes=False)

    def _left(self, original: Original, why: str) -> Outcome:
        return Outcome(LEFT, Left(self.source.location.display(original.key), why))
