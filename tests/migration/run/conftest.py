"""Archives that change while they are migrated."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import WebServer
from tests.support.changing_files import KINDS, Files, files_of_kind
from tests.support.metering import Meter


@pytest.fixture(params=KINDS)
def files(
    request: pytest.FixtureRequest, meter: Meter, bucket: str, httpd: WebServer, tmp_path: Path
) -> Files:
    return files_of_kind(request.param, meter, bucket, httpd, tmp_path)


@pytest.fixture
def archive(meter: Meter, bucket: str, httpd: WebServer, tmp_path: Path) -> Files:
    """Files of a pattern on S3."""
    return files_of_kind("s3-pattern", meter, bucket, httpd, tmp_path)


@pytest.fixture(params=["s3-pattern", "s3-list", "local-pattern"])
def some_files(
    request: pytest.FixtureRequest, meter: Meter, bucket: str, httpd: WebServer, tmp_path: Path
) -> Files:
    return files_of_kind(request.param, meter, bucket, httpd, tmp_path)
