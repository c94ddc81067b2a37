"""The private names of fsspec that cloudimg uses; tests/test_private_apis.py holds them."""

from __future__ import annotations

from typing import Any


def strip_protocol(fs: Any, url: str) -> str:
    """The path of a URL as the methods of a filesystem take it.

    Uses ``_strip_protocol``, which fsspec documents for authors of filesystems. The public
    ``fsspec.core.strip_protocol`` knows only the filesystem registered for the URL, not this one,
    and loses the host of URLs that have one. Seen from 2025.7 to 2026.9.
    """
    return str(fs._strip_protocol(url))


async def rm_file(fs: Any, path: str) -> None:
    """Delete one object.

    Uses ``_rm_file``: fsspec documents that coroutines have the names of the public methods behind
    an underscore. The public ``rm_file`` occupies a thread for each object. Seen from 2025.7 to
    2026.9.
    """
    await fs._rm_file(path)
