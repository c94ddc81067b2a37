"""The private names of gcsfs that cloudimg uses; tests/test_private_apis.py holds them."""

from __future__ import annotations

from types import MethodType
from typing import Any


def turn_off_retries(fs: Any) -> None:
    """Let each request of a filesystem be made once; `Store` retries. Others are left alone.

    ``GCSFileSystem._request`` is decorated with six attempts, which take half a minute, and no
    option changes their number. Seen from 2025.7 to 2026.10.1.
    """
    kind: Any = type(fs)
    once = getattr(kind._request, "__wrapped__", None) if hasattr(kind, "_request") else None
    if once is not None:
        vars(fs)["_request"] = MethodType(once, fs)


async def call(fs: Any, method: str, url: str, **arguments: Any) -> Any:
    """Make one request of Google Cloud Storage with the credentials of a filesystem.

    Uses ``GCSFileSystem._call``. The public ``cat_file`` drops the headers, which have the size and
    the version, and ``pipe_file`` splits large uploads; ``call`` has no coroutine and no limit in
    time. Seen from 2025.7 to 2026.10.1.

    Parameters
    ----------
    fs : gcsfs.GCSFileSystem
    method, url : str
    **arguments
        ``headers``, ``data``, ``json``, ``json_out``; all others become parameters of the URL.

    Returns
    -------
    tuple or dict
        Headers and bytes of the response; with ``json_out=True`` its decoded JSON.
    """
    return await fs._call(method, url, **arguments)


async def pipe_file(fs: Any, path: str, data: bytes, *, create: bool) -> None:
    """Store an object as gcsfs does: in one request if it is small, by gRPC in Rapid Storage.

    Uses ``_pipe_file``: fsspec documents that coroutines have the names of the public methods
    behind an underscore. The public ``pipe_file`` has no limit in time. Seen from 2025.7 to
    2026.10.1.

    Raises
    ------
    FileExistsError
        If `create` and the object exists.
    """
    await fs._pipe_file(path, data, mode="create" if create else "overwrite")


async def is_zonal(fs: Any, bucket: str) -> bool:
    """Whether a bucket is in Rapid Storage.

    Uses ``ExtendedGcsFileSystem._is_zonal_bucket``; no public method tells. Filesystems that do not
    support Rapid Storage lack it. Seen in 2026.10.1.

    Requested once: without the permission to find out, gcsfs itself repeats it for each request.
    """
    if not hasattr(fs, "_is_zonal_bucket"):
        return False
    known: dict[str, bool] = fs.__dict__.setdefault("_cloudimg_zonal", {})
    if bucket not in known:
        known[bucket] = bool(await fs._is_zonal_bucket(bucket))
    return known[bucket]
