"""Names of exported files: those of the originals, below the folder that they have in common."""

from __future__ import annotations

from collections.abc import Iterable

from cloudimg.migration.export.originals import Row
from cloudimg.storage import split_url

_TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".lsm", ".stk")


def common_folder(keys: Iterable[str]) -> str:
    """The longest common prefix of all keys that ends in a slash."""
    common: str | None = None
    for key in keys:
        folder = key[: key.rfind("/") + 1]
        if common is None:
            common = folder
        while not folder.startswith(common):
            common = common[: common.rstrip("/").rfind("/") + 1]
    return common or ""


def path_of(row: Row) -> str:
    """The key from which a file's name is made, without the query of a URL."""
    key = str(row["key"])
    is_web = split_url(row["url"])[0].protocol in ("http", "https")
    return key.partition("?")[0] if is_web else key


def unique_name(relative: str, index: Iterable[int], taken: set[str]) -> str:
    """A name that no other file has and that stays in the folder; it is added to `taken`."""
    parts = ["_" if part in ("", ".", "..") else part for part in relative.split("/")]
    name = "/".join(parts)
    if not name.lower().endswith(_TIFF_SUFFIXES):
        name = f"{name}.tif"
    if name in taken:
        # Such as a.png next to a.png.tif, or URLs that differ only in their queries.
        stem, dot, suffix = name.rpartition(".")
        name = f"{stem}_{'-'.join(map(str, index))}{dot}{suffix}"
    taken.add(name)
    return name
