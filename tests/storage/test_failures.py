"""Errors of storage: redacted causes, and no reference to exceptions of other libraries."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NoReturn

import aiohttp
import botocore.exceptions
import pytest
from google.auth.exceptions import RefreshError, TransportError
from obstore import exceptions
from urllib3.exceptions import HTTPError

from cloudimg.cli.main import main
from cloudimg.cluster import aws_api
from cloudimg.cluster.kubernetes_api import KubernetesApi
from cloudimg.errors import (
    AccessDeniedError,
    ArchivedError,
    ArgumentError,
    CloudimgError,
    ClusterError,
    NoRoomError,
    NotFoundError,
    ServerError,
    StorageError,
    WrongRegionError,
)
from cloudimg.storage import Store, fsspec_errors, obstore_errors, split_url
from cloudimg.storage.connections import forget_connections
from cloudimg.storage.failures import cause_text
from tests.support.metering import Meter

SECRET = "wJalrXUtnFEMI-K7MDENG"
DOCUMENT = (
    "<Error><Code>{code}</Code><Message>The signature does not match.</Message>"
    "<AWSAccessKeyId>{secret}</AWSAccessKeyId><SignatureProvided>{secret}</SignatureProvided>"
    "<CanonicalRequest>GET\nx-amz-security-token:{secret}\n</CanonicalRequest></Error>"
)
"""Like the body of S3's response to a request that is signed with a wrong key."""
CODES = {
    400: "InvalidRequest",
    403: "SignatureDoesNotMatch",
    503: "SlowDown",
    507: "InsufficientCapacity",
}


def document(status: int) -> str:
    return DOCUMENT.format(code=CODES[status], secret=SECRET)


@pytest.fixture(params=["obstore", "fsspec"], autouse=True)
def backend(
    request: pytest.FixtureRequest, set_variable: Callable[[str, str], None]
) -> Iterator[str]:
    set_variable("CLOUDIMG_ATTEMPTS", "1")
    if request.param == "fsspec":
        set_variable("CLOUDIMG_BACKEND", "fsspec")
    forget_connections()
    yield request.param
    forget_connections()


def check(error: CloudimgError, *, word: str = "") -> None:
    """Check that an error holds no exception of a library and no secret, here or elsewhere."""
    assert error.__cause__ is None
    assert error.__context__ is None
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    for each in (error, arrived):
        assert each.cause
        assert word in each.cause
        assert SECRET not in f"{each.cause} {each} {each!r}"


@contextmanager
def server(status: int) -> Iterator[str]:
    """Responds to everything with a status, and with a document that quotes the secret."""

    body = document(status).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # with 100 Continue, which botocore expects

        def respond(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = respond  # noqa: N815

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()


def requests_to(store: Store, key: str) -> dict[str, Callable[[], Any]]:
    return {
        "get": lambda: store.get(key, 0, 10),
        "info": lambda: store.info(key),
        "list": lambda: list(store.list_objects("bucket", "bucket/", None)),
        "put": lambda: store.put(key, b"1"),
        "create": lambda: store.create(key, b"1"),
        "delete": lambda: store.delete([key]),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, AccessDeniedError), (400, StorageError), (507, NoRoomError), (503, ServerError)],
)
def test_refused_and_failing_requests(
    status: int, kind: type[StorageError], set_variable: Callable[[str, str], None]
) -> None:
    set_variable("CLOUDIMG_TIMEOUT_S", "2")  # so long a store that refuses everything is asked
    location, key = split_url("s3://bucket/key")
    with server(status) as endpoint:
        options = {"key": "k" + SECRET, "secret": SECRET, "endpoint_url": endpoint}
        for name, request in requests_to(Store(location, options), key).items():
            with pytest.raises(kind) as caught:
                request()
            assert type(caught.value) is kind, name
            check(caught.value)


def test_missing_objects_and_buckets(meter: Meter, bucket: str) -> None:
    options = {**meter.storage_options, "secret": SECRET}
    location, key = split_url(f"s3://{bucket}/missing")
    with pytest.raises(NotFoundError) as caught:
        Store(location, options).get(key)
    check(caught.value)
    location, key = split_url("s3://no-such-bucket/dir")
    with pytest.raises(NotFoundError) as caught:
        list(Store(location, options).list_objects(key, f"{key}/", None))
    check(caught.value)


def test_signed_urls() -> None:
    with server(403) as endpoint:
        location, key = split_url(f"{endpoint}/file.tif?X-Amz-Signature={SECRET}&v=1")
        with pytest.raises(AccessDeniedError) as caught:
            Store(location).get(key, 0, 10)
        check(caught.value, word="403")


def test_unreachable_servers() -> None:
    location, key = split_url(f"http://127.0.0.1:9/file.tif?sig={SECRET}")
    with pytest.raises(ServerError, match="gave up after 1 attempts") as caught:
        Store(location).get(key)
    check(caught.value, word="127.0.0.1")


def test_options_that_fail() -> None:
    for options in ({"client_kwargs": "x"}, {"endpoint_url": "127.0.0.1:9000"}, {"annon": True}):
        location, key = split_url("s3://bucket/key")
        with pytest.raises(CloudimgError) as caught:
            Store(location, {**options, "secret": SECRET}).get(key)
        check(caught.value)
    with pytest.raises(ArgumentError, match="cannot open nonsense") as caught:
        Store(split_url("nonsense://host/key")[0]).get("host/key")
    check(caught.value)


def test_objects_that_cannot_be_created_or_are_folders(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    location, key = split_url(f"simplecache::file://{tmp_path}/folder")
    for request in (lambda: Store(location).get(key), lambda: Store(location).info(key)):
        with pytest.raises(StorageError) as caught:
            request()
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


def test_local_errors_keep_their_cause(tmp_path: Path) -> None:
    """Errors of the operating system hold no credentials."""
    location, key = split_url(tmp_path / "none.tif")
    with pytest.raises(NotFoundError, match=r"no such file|not found") as caught:
        Store(location).get(key)
    if caught.value.__cause__ is not None:
        assert isinstance(caught.value.__cause__, FileNotFoundError)
    else:
        check(caught.value, word="FileNotFoundError")


def test_a_failed_attempt_is_not_kept(
    meter: Meter, bucket: str, backend: str, set_variable: Callable[[str, str], None]
) -> None:
    """The traceback of a temporary error would keep a shard in memory until a collection."""

    if backend == "fsspec":
        pytest.skip("aiobotocore keeps it in reference cycles of its own")

    class Shard(bytearray):
        pass

    set_variable("CLOUDIMG_ATTEMPTS", "3")
    location, key = split_url(f"s3://{bucket}/shard")
    store = Store(location, meter.storage_options)
    store.put(key, b"")
    meter.faults([{"match": "PUT ", "status": 503, "times": 1}])
    gc.collect()
    gc.disable()
    try:
        store.put(key, Shard(1000))
        assert not [each for each in gc.get_objects() if type(each) is Shard]
    finally:
        gc.enable()


def test_debug_shows_the_cause(capsys: pytest.CaptureFixture[str], backend: str) -> None:
    with server(403) as endpoint:
        storage = f'{{"key": "k{SECRET}", "secret": "{SECRET}", "endpoint_url": "{endpoint}"}}'
        options = ["--storage-options", storage]
        assert main(["info", "s3://bucket/file.tif", *options, "--debug"]) == 5
        shown = capsys.readouterr().err
        assert "caused by: PermissionDeniedError: " in shown or backend == "fsspec"
        assert "caused by: PermissionError: " in shown or backend == "obstore"
        assert SECRET not in shown
        assert main(["info", "s3://bucket/file.tif", *options]) == 5
        assert "caused by" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (OSError(f"GET https://h/a?X-Amz-Signature={SECRET}&v=1"), "OSError: GET https://h/a?X-"),
        (OSError(f"http://me:{SECRET}@h/a"), "OSError: http://***@h/a"),
        (OSError(f"headers {{'Authorization': 'Bearer {SECRET}'}}"), "OSError: headers"),
        (OSError(f"x-amz-security-token: {SECRET}"), "OSError: x-amz-security-token: ***"),
        (OSError(f"invalid token Bearer {SECRET}"), "OSError: invalid token Bearer ***"),
        (ValueError(f"invalid header value {SECRET}"), "ValueError"),
        (exceptions.GenericError(document(403)), "<Code>SignatureDoesNotMatch</Code><Message>The"),
        (OSError("x" * 10_000 + SECRET), "OSError: xxx"),
    ],
)
def test_text_of_causes(exc: Exception, expected: str) -> None:
    text = cause_text(exc)
    assert expected in text
    assert SECRET not in text
    assert len(text) < 3000


NAMES = (
    "access_token",
    "accessToken",
    "AccountKey",
    "authorization",
    "aws_secret_access_key",
    "aws_session_token",
    "connection_string",
    "cookie",
    "credential",
    "fs.azure.account.key.lab.dfs.core.windows.net",
    "id_token",
    "key",
    "passwd",
    "password",
    "Proxy-Authorization",
    "pwd",
    "refresh_token",
    "sas",
    "secret_key",
    "SharedAccessSignature",
    "sig",
    "X-Amz-Security-Token",
)
FORMS = {
    "json": '{{"status": 400, "{name}": "{value}", "next": 1}}',
    "compact json": '{{"{name}":"{value}","next":1}}',
    "json with an escape": '{{"{name}": "1\\\\\\"{value}"}}',
    "json in json": '{{"body": "{{\\"{name}\\": \\"{value}\\"}}"}}',
    "list in json": '{{"{name}": [\n "1", "{value}"]}}',
    "json of a container": '[{{"name": "{name}", "value": "{value}"}}]',
    "repr": "('no token', {{'status': 400, '{name}': '{value}', 'next': 1}})",
    "repr of bytes": "{{b'{name}': b'{value}'}}",
    "repr in repr": "'{{\\'{name}\\': \\'{value}\\'}}'",
    "repr of pairs": "[('{name}', '{value}'), (b'{name}', b'{value}')]",
    "repr of a dict of dicts": "{{'{name}': {{'a': 'b', 'c': '{value}'}}}}",
    "query": "GET https://h/a?v=1&{name}={value}&w=2 failed",
    "encoded query": "GET /login?to=https%3A%2F%2Fh%2Fa%3F{name}%3D{value}",
    "form": "{name}={value}&grant_type=x",
    "header": "{name}: {value}\r\nHost: h",
    "header of two words": "{name}: Bearer {value}",
    "assignment": "{name}={value}",
    "assignment of two words": "export {name} = the {value}",
    "assignment in quotes": "f({name}='{value}', b=1)",
    "item": "environ['{name}'] = \"it's {value}\"",
    "arrow": "{name} => {value}",
    "mapping of lines": "{name}:\n  {value}",
}
"""Ways in which texts hold a secret and its name."""


@pytest.mark.parametrize("form", FORMS)
def test_causes_without_secrets(form: str) -> None:
    for name in [*NAMES, *map(str.upper, NAMES), *map("my-{}".format, NAMES)]:
        text = f"before {FORMS[form].format(name=name, value=SECRET)}\nafter"
        shown = cause_text(OSError(text))
        assert SECRET not in shown, shown
        assert shown.startswith("OSError: before "), shown
        assert name in shown
        for error in (
            fsspec_errors.translate(OSError(text), "s3://b/k"),
            fsspec_errors.translate(TypeError(text), "s3://b/k"),
            obstore_errors.translate(exceptions.GenericError(text), "s3://b/k"),
        ):
            check(error)  # type: ignore[arg-type]


def cluster_errors(text: str) -> Iterator[CloudimgError]:
    """The errors of the cluster package for exceptions of its libraries with a text."""
    response = {"Error": {"Code": "Refused", "Message": text}}
    for exc in (
        botocore.exceptions.ClientError(response, "RunTask"),
        botocore.exceptions.HTTPClientError(error=text),
        botocore.exceptions.CredentialRetrievalError(provider="process", error_msg=text),
    ):
        with pytest.raises(ClusterError) as caught:
            aws_api.call(lambda exc=exc: raising(exc), "ecs:RunTask")
        yield caught.value
    pytest.importorskip("kubernetes")
    api = KubernetesApi(None, {"endpoint": "https://h", "namespace": "n", "project": "p"})
    for exc in (HTTPError(text), RefreshError(text, {"id_token": SECRET}), ValueError(text)):
        with pytest.MonkeyPatch.context() as patch:
            call = "cloudimg.cluster.kubernetes_api.call_raw"
            patch.setattr(call, lambda *_, exc=exc: raising(exc))
            with pytest.raises(ClusterError) as caught:
                api.read("Pod", "p")
        yield caught.value


def raising(exc: Exception) -> NoReturn:
    raise exc


@pytest.mark.parametrize("form", FORMS)
def test_causes_of_clusters_without_secrets(form: str) -> None:
    for name in ("access_token", "authorization", "secret_key"):
        errors = list(cluster_errors(FORMS[form].format(name=name, value=SECRET)))
        for error in errors:
            check(error)
        causes = [error.cause or "" for error in errors]
        assert causes[0].startswith("ClientError: ")
        assert causes[1].startswith("HTTPClientError: ")
        assert causes[3].startswith("HTTPError: ")
        assert causes[2::2] == ["CredentialRetrievalError", "RefreshError"]
        assert causes[5] == "ValueError"


@pytest.mark.parametrize(
    "exc",
    [
        RefreshError("No access token in response.", {"id_token": SECRET, "x": f"1//{SECRET}"}),
        TransportError(SECRET),
        botocore.exceptions.CredentialRetrievalError(provider="process", error_msg=SECRET),
        botocore.exceptions.TokenRetrievalError(provider="sso", error_msg=SECRET),
        botocore.exceptions.SSOTokenLoadError(error_msg=SECRET),
        type("ClientAuthenticationError", (Exception,), {})(SECRET),
        type("MyError", (RefreshError,), {})(SECRET),
        UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_exceptions_of_which_only_the_type_is_kept(exc: Exception) -> None:
    assert cause_text(exc) == type(exc).__name__
    error = fsspec_errors.translate(exc, "s3://b/k")
    check(error)


@pytest.mark.parametrize(
    "text",
    [
        "Could not connect to the endpoint URL: http://127.0.0.1:9/b/key?list-type=2",
        "An error occurred (NoSuchKey) when calling GetObject: The specified object is missing.",
        "got an unexpected keyword argument 'annon'",
        "google.auth.exceptions.RefreshError: 400",
        "The security token included in the request is invalid",
        "<Code>SignatureDoesNotMatch</Code><Message>Check your key and signing method.</Message>",
        "Cannot sign in; assigned: 5; disaster: 3; design = 4",
    ],
)
def test_texts_that_are_kept(text: str) -> None:
    assert cause_text(OSError(text)) == f"OSError: {text}"


def test_private_keys_and_long_texts() -> None:
    pem = f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----"
    assert cause_text(OSError(f"bad {pem} here")) == "OSError: bad *** here"
    assert SECRET not in cause_text(OSError(f"bad {pem[:-20]}"))
    assert SECRET not in cause_text(OSError(f"'token': '{SECRET}"))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["key", "key'", "\\\\", "key=[", "keyerror", "key ,", "a."])
def test_long_texts_do_not_take_quadratic_time(text: str) -> None:
    cause_text(OSError(text * 100_000))  # hours otherwise: the time-out of every test would end it


class Coded(Exception):  # noqa: N818
    """Like the errors of gcsfs, adlfs and aiohttp, which keep a status as an attribute."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def boto(status: int, code: str = "") -> Exception:
    response = {"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": code}}
    return botocore.exceptions.ClientError(response, "GetObject")


@pytest.mark.parametrize(
    ("exc", "kind", "words"),
    [
        (Coded(status=404), NotFoundError, "not found: s3://b/k (404)"),
        (Coded(code="403"), AccessDeniedError, "cannot write s3://b/k (403); check that"),
        (Coded(status=410), StorageError, "the server refused to write s3://b/k (410)"),
        (Coded(status=200), StorageError, "cannot write s3://b/k: Coded"),
        *((Coded(status=n), ServerError, f"({n})") for n in (408, 409, 425, 429, 500, 503)),
        (boto(403, "QuotaExceeded"), NoRoomError, "(403, QuotaExceeded)"),
        (boto(400, "EntityTooLarge"), NoRoomError, "(400, EntityTooLarge)"),
        (FileNotFoundError(), NotFoundError, "not found: s3://b/k"),
        (PermissionError(), AccessDeniedError, "access denied"),
        (OSError("Forbidden: https://h"), AccessDeniedError, "access denied"),
        (botocore.exceptions.NoCredentialsError(), AccessDeniedError, "access denied"),
        (TimeoutError(), ServerError, "the server failed to write s3://b/k (no response in time)"),
        (ConnectionResetError(), ServerError, "(the connection was reset)"),
        (aiohttp.ClientPayloadError(), ServerError, "(the response broke off)"),
        (boto(403, "InvalidObjectState"), ArchivedError, "is in an archive (403, InvalidObj"),
        (TypeError("unexpected 'annon'"), StorageError, "unexpected 'annon'"),
        (ValueError("Bearer x"), StorageError, "cannot write s3://b/k: ValueError"),
    ],
    ids=repr,
)
def test_kinds_of_errors_of_fsspec(exc: Exception, kind: type[StorageError], words: str) -> None:
    error = fsspec_errors.translate(exc, "s3://b/k", "write")
    assert type(error) is kind
    assert words in str(error)
    assert error.cause


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("status code: 404 Not Found", NotFoundError, "not found: s3://b/k (404)"),
        ("status code: 401", AccessDeniedError, "cannot write s3://b/k (401)-hint"),
        ("status code: 403: <Code>QuotaExceeded</Code>", NoRoomError, "(403, QuotaExceeded)"),
        ("status code: 413", NoRoomError, "(413)"),
        ("status code: 409: <Code>BlobArchived</Code>", ArchivedError, "(409, BlobArchived)"),
        ("status code: 407", AccessDeniedError, "the proxy asks for credentials"),
        ("status code: 412", StorageError, "the server refused to write s3://b/k (412)"),
        ("status code: 301 <Code>PermanentRedirect</Code>", WrongRegionError, "another region"),
        ("status code: 400 <Code>AuthorizationHeaderMalformed</Code>", WrongRegionError, "ano"),
        ("status code: 409", ServerError, "the server failed to write s3://b/k (409)"),
        ("status code: 503 <Message>Slow down</Message>", ServerError, "(503, Slow down)"),
        ("connect: Connection refused", ServerError, "(connection refused)"),
        ("operation timed out", ServerError, "(no response in time)"),
        ("something else", ServerError, "(the transfer failed)"),
    ],
)
def test_kinds_of_errors_of_obstore(text: str, kind: type[StorageError], words: str) -> None:
    error = obstore_errors.translate(exceptions.GenericError(text), "s3://b/k", "write", "-hint")
    assert type(error) is kind
    assert words in str(error)
    assert error.cause == f"GenericError: {text}"
