"""The private name of s3fs that cloudimg uses; tests/test_private_apis.py holds it."""

from __future__ import annotations

from typing import Any


async def call_s3(fs: Any, method: str, **arguments: Any) -> dict[str, Any]:
    """Make one request of S3 with the options of a filesystem, and return its response.

    Uses ``S3FileSystem._call_s3``, which adds ``s3_additional_kwargs`` (encryption, ACL and the
    like) and translates errors. The public ``cat_file`` and ``pipe_file`` drop what the response
    says besides the bytes, and split uploads; ``call_s3`` has no coroutine and no limit in time.
    Seen from 2025.7 to 2026.9.

    Parameters
    ----------
    fs : s3fs.S3FileSystem
    method : str
        Method of a botocore client, such as ``"get_object"``.
    **arguments
        Its arguments.
    """
    response: dict[str, Any] = await fs._call_s3(method, **arguments)
    return response
