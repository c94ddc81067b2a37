"""Errors that Dask raises once its scheduler is lost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cloudimg.distributed.run import scheduler_loss_as_error
from cloudimg.errors import ClusterError, StorageError


def client(status: str) -> Any:
    return SimpleNamespace(status=status)


def test_an_error_without_a_scheduler_is_not_kept() -> None:
    """It may hold credentials: only its type is kept, as text."""
    with (
        pytest.raises(ClusterError, match="scheduler has stopped") as caught,
        scheduler_loss_as_error(client("closed")),
    ):
        raise OSError("s3://key:secret@bucket")
    error = caught.value
    assert error.cause == "OSError"
    assert error.__cause__ is error.__context__ is None


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), scheduler_loss_as_error(client("running")):
        raise ZeroDivisionError
    with pytest.raises(StorageError), scheduler_loss_as_error(client("closed")):
        raise StorageError("ours")
    with pytest.raises(KeyboardInterrupt), scheduler_loss_as_error(client("closed")):
        raise KeyboardInterrupt
