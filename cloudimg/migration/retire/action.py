"""What is done with the originals of a copy, and what is known of each of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloudimg.errors.checked_json import (
    checked_choice,
    checked_int,
    checked_list,
    checked_object,
    checked_optional_text,
    checked_text,
)

_KINDS = ("tag", "move")


@dataclass(frozen=True, slots=True)
class Original:
    """A file that was copied, as it was when it was to be retired."""

    key: str
    """Path below ``protocol://``."""
    size_bytes: int
    version: str
    """The version that was copied, as the store states it."""
    digest: str
    """Digest of its bytes: of `Standing.digests`, or ``sha256:`` and one that was computed."""
    before: str | None = None
    """The value that the tag had before; None if the file did not have the tag."""

    def to_json(self) -> list[str | int | None]:
        """The file as JSON for the manifest."""
        return [self.key, self.size_bytes, self.version, self.digest, self.before]

    @classmethod
    def from_json(cls, content: Any) -> Original:
        """Read a file from the manifest.

        Raises
        ------
        ValueError
        """
        key, size, version, digest, before = checked_list(content, "files", n=5)
        return cls(
            checked_text(key, "key"),
            checked_int(size, "size"),
            checked_text(version, "version"),
            checked_text(digest, "digest"),
            checked_optional_text(before, "before"),
        )


@dataclass(frozen=True, slots=True)
class Tag:
    """Files get a tag."""

    name: str
    value: str

    def __str__(self) -> str:
        return f"tag {self.name}={self.value}"

    def to_json(self) -> dict[str, Any]:
        """The action as JSON for the manifest."""
        return {"kind": "tag", "name": self.name, "value": self.value}


@dataclass(frozen=True, slots=True)
class Move:
    """Files move to another folder of the same store, with the folders that they are in."""

    base: str
    """Key of the folder that all files have in common, with a slash at its end."""
    to: str
    """Key of the folder that they move to, with a slash at its end."""
    url: str
    """Its URL, without credentials."""

    def __str__(self) -> str:
        return f"move to {self.url}"

    def target_of(self, key: str) -> str:
        """Where a file moves to.

        Raises
        ------
        ValueError
            If the file is not in the folder of the files.
        """
        relative = key[len(self.base) :]
        if not key.startswith(self.base) or not relative or ".." in relative.split("/"):
            raise ValueError(f"{key} is not in {self.base}")
        return f"{self.to}{relative}"

    def to_json(self) -> dict[str, Any]:
        """The action as JSON for the manifest."""
        return {"kind": "move", "base": self.base, "to": self.to, "url": self.url}


Action = Tag | Move


def action_from_json(content: Mapping[str, Any]) -> Action:
    """Read an action from the manifest.

    Raises
    ------
    ValueError
    """
    kind = checked_choice(content.get("kind"), "action.kind", _KINDS)
    names = ("name", "value") if kind == "tag" else ("base", "to", "url")
    checked_object(content, "action", required=("kind", *names))
    values = [checked_text(content[name], f"action.{name}") for name in names]
    if kind == "tag":
        return Tag(*values)
    move = Move(*values)
    if not (move.base.endswith("/") and move.to.endswith("/")):
        raise ValueError("action has a folder without a slash at its end")
    if move.base == move.to:
        raise ValueError("action moves files to where they are")
    return move


def common_folder(first: str, *others: str) -> str:
    """The folder that keys have in common, with a slash at its end."""
    folder = first[: first.rfind("/") + 1]
    for key in others:
        while not key.startswith(folder):
            folder = folder[: folder.rstrip("/").rfind("/") + 1]
    return folder
