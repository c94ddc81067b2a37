"""Errors of other libraries as text.

Errors of botocore, kubernetes, google-auth and distributed may hold credentials. So they are never
chained to errors of cloudimg, neither as ``__cause__`` nor as ``__context__``: functions that catch
them make a ClusterError in the ``except`` block and raise it after the block.
"""

from __future__ import annotations

from cloudimg.storage.urls import redact


def text_of(error: Exception) -> str:
    """Type and message of an error, without user names, passwords and signatures of URLs."""
    return f"{type(error).__name__}: {redact(str(error))}"
