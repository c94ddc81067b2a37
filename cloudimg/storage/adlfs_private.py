"""The private name of adlfs that cloudimg uses; tests/test_private_apis.py holds it."""

from __future__ import annotations

from typing import Any


async def pipe_file(fs: Any, path: str, data: bytes, *, create: bool) -> None:
    """Store an object in one request.

    Uses ``AzureBlobFileSystem._pipe_file``: fsspec documents that coroutines have the names of the
    public methods behind an underscore. The public ``pipe_file`` has no limit in time. Seen in
    2026.8; older releases accept and ignore fsspec's ``mode``, hence ``overwrite``.

    Raises
    ------
    FileExistsError or azure.core.exceptions.ResourceExistsError
        If `create` and the object exists.
    """
    await fs._pipe_file(path, data, overwrite=not create)
