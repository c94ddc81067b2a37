"""The version of an object is one text, whichever backend asks and in whichever way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import cloudimg
from cloudimg.storage import Store, split_url
from cloudimg.storage.base import Backend, NotMappableError
from cloudimg.storage.connections import shared_backends
from tests.conftest import Place

DATA = b"0123456789" * 20
HAS_VERSIONS = {"s3-moto", "s3-real", "s3-meter", "gs", "az", "http", "local"}


def backends(url: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[Backend]:
    """All ways to a store: the fast one where there is one, and fsspec."""
    location, _ = split_url(url)
    identity = Store(location, options).identity
    usual = shared_backends(location, options, identity)
    if location.protocol == "gs":  # whose emulator knows nothing of the fast one's requests
        usual = usual[1:]
    monkeypatch.setenv("CLOUDIMG_BACKEND", "fsspec")
    cloudimg.settings.settings.cache_clear()
    slow = shared_backends(location, options, identity)
    monkeypatch.delenv("CLOUDIMG_BACKEND")
    cloudimg.settings.settings.cache_clear()
    return [*usual, *slow]


def versions(backend: Backend, url: str) -> set[str | None]:
    """What each request of a backend says of an object."""
    _, key = split_url(url)
    folder = key.rpartition("/")[0]
    found = {
        backend.get(key, None, None).etag,
        backend.get(key, 3, 9).etag,
        backend.get(key, -4, None).etag,
        backend.info(key).etag,
    }
    try:
        listed = [e for batch in backend.list_objects(folder, key[:-2], 1) for e in batch]
    except NotMappableError:
        return found
    (entry,) = listed
    return found | {entry.etag}


def test_one_object_has_one_version(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    url = place.put("object.bin", DATA)
    ways = backends(url, place.storage_options, monkeypatch)
    before = set.union(*(versions(way, url) for way in ways))
    known = before - {None}
    assert len(known) == 1
    if place.name not in HAS_VERSIONS:
        return
    place.put("object.bin", DATA[::-1])
    after = set.union(*(versions(way, url) for way in ways)) - {None}
    assert len(after) == 1
    assert after != known


def test_no_request_lacks_the_version(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator of Google's storage answers without the header that has the generation."""
    if place.name not in HAS_VERSIONS - {"gs"}:
        pytest.skip("a store without versions")
    url = place.put("object.bin", DATA)
    _, key = split_url(url)
    for way in backends(url, place.storage_options, monkeypatch):
        assert None not in {way.get(key, None, None).etag, way.get(key, 3, 9).etag}
        assert way.info(key).etag is not None


def test_options_of_a_local_folder_change_no_version(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "z0.tif", np.arange(64, dtype=np.uint8).reshape(8, 8))
    url = f"{tmp_path}/z{{z}}.tif"
    plain = cloudimg.open(url).to_dask().name
    assert cloudimg.open(url, storage_options={"auto_mkdir": True}).to_dask().name == plain


class Stating(BaseHTTPRequestHandler):
    """Serves one object, with headers that a test chooses."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a body waits 40 ms for the head to be acknowledged
    stated: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        first, last = 0, len(DATA) - 1
        wanted = self.headers.get("Range", "")
        if wanted:
            a, _, b = wanted.removeprefix("bytes=").partition("-")
            first, last = (int(a), int(b or last)) if a else (len(DATA) - int(b), last)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(DATA)}")
        for name, value in self.stated.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(DATA[first : last + 1])

    do_HEAD = do_GET  # noqa: N815, the name that http.server calls

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def stating() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stating)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/object.bin"
    server.shutdown()
    server.server_close()


OPAQUE = st.text(st.characters(min_codepoint=0x23, max_codepoint=0x7E), min_size=1, max_size=40)
MOMENTS = st.integers(1, 2**31).map(lambda s: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(0, s))
FORMS = ('"{}"', 'W/"{}"', "{}")


@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(etag=st.none() | OPAQUE, changed=st.none() | MOMENTS)
def test_forms_of_headers(
    stating: str, monkeypatch: pytest.MonkeyPatch, etag: str | None, changed: datetime | None
) -> None:
    ways = backends(stating, {}, monkeypatch)
    found = set()
    for form in FORMS:
        Stating.stated = {} if etag is None else {"ETag": form.format(etag)}
        if changed is not None:
            Stating.stated["Last-Modified"] = format_datetime(changed, usegmt=True)
        _, key = split_url(stating)
        for way in ways:
            for blob in (way.get(key, None, None), way.get(key, 3, 9), way.info(key)):
                found.add(blob.etag)
    expected = f'"{etag}"' if etag else changed.isoformat() if changed else None
    assert found == {expected}
