"""The private name of azure-storage-blob that we use; tests/test_private_apis.py holds it."""

from __future__ import annotations

from typing import Any


def turn_off_retries(service_client: Any) -> None:
    """Make each request of a client once, because `Store` repeats them.

    Uses ``BlobServiceClient._config``: adlfs makes the client and passes it no options, and only
    some methods of adlfs pass them to single requests. Seen in 12.25 to 12.31.
    """
    service_client._config.retry_policy.total_retries = 0
