"""Hide credentials in what the libraries below log: at DEBUG they log URLs, headers and answers.

A program that shows the log of everything must not show the token of a store because cloudimg was
used. Only the texts of these loggers change, and only where somebody has turned them on.
"""

from __future__ import annotations

import logging

from cloudimg.storage.failures import hide_secrets

_LOGGERS = (
    "adlfs", "azure.core.pipeline.policies.http_logging_policy", "botocore.auth",
    "botocore.credentials", "botocore.endpoint", "botocore.httpsession", "botocore.parsers",
    "botocore.utils", "fsspec", "fsspec.http", "gcsfs", "gcsfs.credentials",
    "google.auth.transport.requests", "s3fs", "urllib3.connectionpool",
)  # fmt: skip
"""Those of the libraries that log requests. A filter of a logger does not see what loggers below
it log."""


def hide_secrets_in_logs() -> None:
    """Let the libraries' loggers hide credentials from now on."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_hide)  # once, however often it is added


def _hide(record: logging.LogRecord) -> bool:
    record.msg, record.args = hide_secrets(record.getMessage()), ()
    if record.exc_info:
        record.exc_text = hide_secrets(logging.Formatter().formatException(record.exc_info))
        record.exc_info = None
    return True
