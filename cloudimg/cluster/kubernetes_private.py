"""The private names of the Kubernetes client in use; tests/test_private_apis.py holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def call_raw(
    call: Callable[..., Any], arguments: Mapping[str, Any], timeout_s: tuple[float, float]
) -> bytes:
    """Call a method of an API and return the body of the answer as it came.

    Uses the arguments ``_preload_content`` and ``_request_timeout``, which the client documents for
    all methods, by these names only. Without the first, the client decodes the body and logs it at
    level DEBUG, Secrets too. Seen from 30 to 36.

    Parameters
    ----------
    call : callable
        Method of an API of the client.
    arguments : mapping
        Its arguments.
    timeout_s : tuple of float
        Limits in seconds: to connect, and between bytes.
    """
    answer = call(**arguments, _preload_content=False, _request_timeout=timeout_s)
    body: bytes = answer.data
    return body
