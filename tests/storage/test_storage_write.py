"""Writing to stores: whole objects in one request, create-if-absent, deleting, faults."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest

from cloudimg.errors import (
    AccessDeniedError,
    NoRoomError,
    NotFoundError,
    ServerError,
    StorageError,
)
from cloudimg.storage import Store, split_url
from tests.conftest import Place
from tests.support.faulty_store import Rule, no_conditions, refused, unconditional
from tests.support.metering import Meter
from tests.support.servers import S3Account

pytestmark = pytest.mark.slow

SECRET = "verySecretKey"


@pytest.fixture(params=["fast path", "fsspec"])
def backend(
    request: pytest.FixtureRequest, set_variable: Callable[[str, str], None]
) -> Iterator[str]:
    """Both backends of a store, if it has two."""
    from cloudimg.storage.connections import forget_connections

    if request.param == "fsspec":
        set_variable("CLOUDIMG_BACKEND", "fsspec")
    forget_connections()
    yield request.param
    forget_connections()


def at(url: str, options: dict[str, Any] | None = None) -> tuple[Store, str]:
    location, key = split_url(url)
    return Store(location, options or {}), key


def writable(place: Place) -> tuple[Store, str]:
    """The store and the key of the folder."""
    if place.name == "http":
        pytest.skip("http cannot be written to")
    return at(place.url, place.storage_options)


def on(meter: Meter, bucket: str) -> tuple[Store, str]:
    return at(f"s3://{bucket}/dir", meter.storage_options)


def names_in(store: Store, folder: str) -> set[str]:
    batches = store.list_objects(folder, f"{folder}/", None)
    return {entry.key.removeprefix(f"{folder}/") for batch in batches for entry in batch}


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a fresh process: settings are read once per process."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


# Every store


def test_objects_are_stored_replaced_and_deleted(place: Place, backend: str) -> None:
    store, folder = writable(place)
    large = os.urandom(2**20) * 6
    for data in (bytes(range(256)) * 10, bytearray(b"shorter"), memoryview(large), b""):
        store.put(f"{folder}/a/b/c.bin", data)
        assert bytes(store.get(f"{folder}/a/b/c.bin").data) == data
    keys = [f"{folder}/a/{number}" for number in range(12)]
    for key in keys:
        store.put(key, memoryview(b"1"))
    store.put(f"{folder}/kept", bytearray(b"1"))
    assert len(names_in(store, folder)) == 14
    store.delete([*keys, f"{folder}/a/b/c.bin", f"{folder}/never was"])
    store.delete([f"{folder}/never was"])
    store.delete([])
    assert names_in(store, folder) == {"kept"}
    with pytest.raises(NotFoundError):
        store.get(f"{folder}/a/b/c.bin")


def test_the_answer_to_a_put_has_the_version_of_the_object(place: Place, backend: str) -> None:
    """The same one as a request for it, and as a listing, without a further request."""
    store, folder = writable(place)
    for number, data in enumerate((b"first", bytes(2**21))):
        answers = {
            f"{folder}/put{number}": store.put(f"{folder}/put{number}", data),
            f"{folder}/create{number}": store.create(f"{folder}/create{number}", data).etag,
        }
        listed = {
            entry.key: entry.etag
            for batch in store.list_objects(folder, f"{folder}/", None)
            for entry in batch
        }
        for key, etag in answers.items():
            assert etag is not None
            assert etag == store.info(key).etag == listed[key]
            assert store.get(key).etag in (etag, None)  # not every store says it beside the bytes
        if place.name == "gs":
            continue  # the emulator ignores ifGenerationMatch
        found = store.create(f"{folder}/put{number}", b"other")
        assert (found.is_new, found.found) == (False, data)
        assert found.etag in (answers[f"{folder}/put{number}"], None)


def test_one_of_many_creates(place: Place, backend: str) -> None:
    store, folder = writable(place)
    if place.name == "gs":
        pytest.skip("the emulator ignores ifGenerationMatch")
    start = threading.Barrier(20)

    def create(number: int) -> bool:
        start.wait()
        return store.create(f"{folder}/lock", b"held by %d" % number)

    with ThreadPoolExecutor(20) as threads:
        won = [number for number, mine in enumerate(threads.map(create, range(20))) if mine]
    assert bytes(store.get(f"{folder}/lock").data) == b"held by %d" % won[0]
    assert len(won) == 1
    assert not store.create(f"{folder}/lock", b"late")
    store.delete([f"{folder}/lock"])
    assert store.create(f"{folder}/lock", bytearray(b"again"))
    assert names_in(store, folder) == {"lock"}


def test_only_the_version_that_was_read_is_replaced(place: Place, backend: str) -> None:
    store, folder = writable(place)
    key = f"{folder}/plan"
    store.put(key, b"1")
    version = store.get(key).etag
    replaced = store.replace(key, b"2", version)
    assert replaced
    assert bytes(store.get(key).data) == b"2"
    assert store.replace(key, bytearray(b"2"), version)  # its answer may have been lost
    if place.name in ("gs", "memory"):
        return  # the emulator ignores ifGenerationMatch, objects in memory have no versions
    late = store.replace(key, b"3", version)
    assert (late.is_new, late.found) == (False, b"2")
    assert store.replace(key, b"3", replaced.etag)
    assert bytes(store.get(key).data) == b"3"
    assert store.replace(key, b"4", None)
    assert names_in(store, folder) == {"plan"}
    store.delete([key])
    assert not store.replace(key, b"5", version)
    assert names_in(store, folder) == set()


@pytest.mark.parametrize(
    "rule",
    [unconditional(), no_conditions(), refused("PUT", "", 412, header="^if-match:")],
    ids=["ignored", "unknown", "in another form"],
)
def test_stores_that_do_not_compare_versions(
    meter: Meter, bucket: str, backend: str, rule: Rule
) -> None:
    store, folder = on(meter, bucket)
    key = f"{folder}/plan"
    version = store.put(key, b"1")
    meter.faults([rule])
    assert store.replace(key, b"2", version)
    meter.faults([])
    assert bytes(store.get(key).data) == b"2"


FORK = """
import json, os, signal, sys
from cloudimg.storage import Store, split_url
location, folder = split_url(sys.argv[1])
store = Store(location, json.loads(sys.argv[2]))
store.put(f"{folder}/parent", b"1")
child = os.fork()
if not child:
    signal.alarm(60)
    try:
        store.put(f"{folder}/child", b"2")
    finally:
        os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.slow
def test_a_forked_process_writes(meter: Meter, bucket: str) -> None:
    """In a process of its own: `pytest -n` never ends if a fork of its processes does not."""
    store, folder = on(meter, bucket)
    words = [sys.executable, "-c", FORK, f"s3://{folder}", json.dumps(meter.storage_options)]
    subprocess.run(words, check=True, timeout=100)
    assert bytes(store.get(f"{folder}/child").data) == b"2"


# Requests to S3


def test_forty_megabytes_are_one_request(meter: Meter, bucket: str, backend: str) -> None:
    store, folder = on(meter, bucket)
    with meter.measure() as traffic:
        store.put(f"{folder}/shard", bytearray(40_000_000))
    (put,) = (request for request in traffic.requests if request.kind != "head")
    assert (put.method, put.query.keys() - {"x-id"}) == ("PUT", set())
    assert put.bytes_received == 40_000_000
    assert not traffic.heads


def test_small_requests_are_few(meter: Meter, bucket: str, backend: str) -> None:
    store, folder = on(meter, bucket)
    store.put(f"{folder}/warm", b"")
    with meter.measure() as traffic:
        store.put(f"{folder}/a", b"1")
        assert store.create(f"{folder}/b", b"1")
    assert [request.method for request in traffic.requests] == ["PUT", "PUT"]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 500, "apply": True},
        {"kind": "status", "status": 409},
        {"kind": "reset"},
        {"kind": "reset", "apply": True},
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
def test_temporary_faults(meter: Meter, bucket: str, backend: str, fault: dict[str, Any]) -> None:
    store, folder = on(meter, bucket)
    store.put(f"{folder}/other", b"1")  # a connection that is used again
    for write in (store.put, store.create):
        key = f"{folder}/{write.__name__}"
        meter.faults([{"match": f"PUT .*{write.__name__}$", "times": 1, **fault}])
        assert write(key, b"mine")
        assert bytes(store.get(key).data) == b"mine"
    meter.faults([{"match": "(DELETE|POST) ", "times": 1, **fault}])
    store.delete([f"{folder}/other"])
    assert names_in(store, folder) == {"put", "create"}


def test_a_lost_response_does_not_make_anothers_object_ours(
    meter: Meter, bucket: str, backend: str
) -> None:
    store, folder = on(meter, bucket)
    store.put(f"{folder}/lock", b"another's")
    meter.faults([{"match": "PUT ", "times": 1, "kind": "reset"}])
    assert not store.create(f"{folder}/lock", b"mine")


@contextmanager
def slow_server() -> Iterator[str]:
    """A server that receives 1.5 MB/s and responds that it stored the object."""

    def serve(connection: socket.socket) -> None:
        with connection:
            head, _, body = receive(connection, b"").partition(b"\r\n\r\n")
            if b"100-continue" in head.lower():
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
            left = int(fields[b"content-length"]) - len(body)
            while left > 0 and (part := connection.recv(100_000)):
                left -= len(part)
                pause.wait(len(part) / 1.5e6)
            connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 0\r\n\r\n')

    def receive(connection: socket.socket, data: bytes) -> bytes:
        while b"\r\n\r\n" not in data:
            data += connection.recv(4096)
        return data

    pause = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        # The test makes one connection.
        thread = threading.Thread(target=lambda: serve(listening.accept()[0]))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(10)


@pytest.mark.slow
def test_a_slow_connection_is_not_a_failure() -> None:
    """Timeouts are for connections without traffic; an upload may take longer than that."""
    with slow_server() as endpoint:
        client = {"endpoint_url": endpoint, "region_name": "us-east-1"}
        options = {"key": "x", "secret": "y", "client_kwargs": client}
        code = (
            "from cloudimg.storage import Store, split_url\n"
            "location, key = split_url('s3://bucket/key')\n"
            f"Store(location, {options!r}).put(key, bytes(4_000_000))\n"
        )
        answer = run(code, CLOUDIMG_TIMEOUT_S="1", CLOUDIMG_ATTEMPTS="1")
    assert answer.returncode == 0, answer.stderr


@pytest.mark.slow
@pytest.mark.parametrize("way", ["", "fsspec"])
def test_a_stalled_put_is_sent_again(meter: Meter, bucket: str, way: str) -> None:
    stall = {"kind": "stall", "times": 1}
    meter.faults([{"match": "PUT .*key$", **stall}, {"match": "PUT ", "apply": True, **stall}])
    code = (
        "from cloudimg.storage import Store, split_url\n"
        f"location, key = split_url('s3://{bucket}/dir/key')\n"
        f"store = Store(location, {meter.storage_options!r})\n"
        "store.put(key, b'1')\n"
        "assert store.create(key + '2', b'2')\n"
    )
    answer = run(code, CLOUDIMG_TIMEOUT_S="0.5", CLOUDIMG_BACKEND=way)
    assert answer.returncode == 0, answer.stderr
    store, folder = on(meter, bucket)
    assert names_in(store, folder) == {"key", "key2"}


# Failures


@pytest.mark.slow
@pytest.mark.parametrize("way", ["", "fsspec"])
def test_lasting_faults_end(meter: Meter, bucket: str, way: str) -> None:
    meter.faults([{"match": "PUT ", "status": 503}])
    code = (
        "from cloudimg.storage import Store, split_url\n"
        f"location, key = split_url('s3://{bucket}/dir/key')\n"
        f"Store(location, {meter.storage_options!r}).put(key, b'1')\n"
    )
    with meter.measure() as traffic:
        answer = run(code, CLOUDIMG_ATTEMPTS="3", CLOUDIMG_BACKEND=way)
    assert traffic.puts == 3
    last = answer.stderr.strip().splitlines()[-1]
    assert "ServerError: the server failed to write s3://" in last
    assert "503" in last
    assert "gave up after 3 attempts" in last


@pytest.mark.parametrize(("status", "kind"), [(403, AccessDeniedError), (507, NoRoomError)])
def test_refusals_are_not_retried(
    meter: Meter, bucket: str, backend: str, status: int, kind: type[StorageError]
) -> None:
    location, key = split_url(f"s3://{bucket}/dir/key")
    store = Store(location, meter.storage_options | {"secret": SECRET})
    meter.faults([{"match": "PUT ", "status": status}])
    for write in (store.put, store.create):
        with meter.measure() as traffic, pytest.raises(kind, match="write") as caught:
            write(key, b"1")
        assert traffic.puts == 1
        assert f"s3://{bucket}/dir/key" in str(caught.value)
        assert str(status) in str(caught.value)
        assert SECRET not in f"{caught.value!r} {caught.value} {store!r}"
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


def test_a_quota_is_not_a_lack_of_permission(bucket: str, backend: str) -> None:
    """The response is that of Ceph; Amazon and MinIO have other codes."""
    body = b"<Error><Code>QuotaExceeded</Code><Message>no</Message></Error>"
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    with answering(head + b"Content-Length: %d\r\n\r\n" % len(body) + body) as endpoint:
        client = {"endpoint_url": endpoint, "region_name": "us-east-1"}
        options = {"key": "x", "secret": "y", "client_kwargs": client}
        store, key = at(f"s3://{bucket}/dir/key", options)
        with pytest.raises(NoRoomError, match="QuotaExceeded"):
            store.put(key, b"1")


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that sends one response, to one request."""

    def serve() -> None:
        with listening.accept()[0] as connection:
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(4096)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(10)


def test_a_missing_bucket(place: Place, backend: str) -> None:
    if place.name not in ("s3-moto", "s3-real", "gs"):
        pytest.skip("has no buckets, or creates them")
    scheme = place.url.partition("://")[0]
    store, key = at(f"{scheme}://no-such-bucket-here/dir/key", place.storage_options)
    with pytest.raises(NotFoundError, match="no-such-bucket-here"):
        store.put(key, b"1")


def test_wrong_keys(place: Place, backend: str) -> None:
    if place.name != "s3-real":
        pytest.skip("only a real server checks signatures")
    options = place.storage_options | {"secret": SECRET}
    store, folder = at(place.url, options)
    for write in (store.put, store.create):
        with pytest.raises(AccessDeniedError, match="cannot write") as caught:
            write(f"{folder}/a", b"1")
        assert SECRET not in str(caught.value)
        assert options["key"] not in str(caught.value)
    with pytest.raises(AccessDeniedError, match="cannot delete"):
        store.delete([f"{folder}/a"])


def test_encryption_options_are_applied(moto: str, bucket: str, backend: str) -> None:
    client = S3Account(moto).client()
    client.create_bucket(Bucket=bucket)
    options = {
        "key": "x",
        "secret": "y",
        "client_kwargs": {"endpoint_url": moto, "region_name": "us-east-1"},
        "s3_additional_kwargs": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/mine"},
    }
    store, folder = at(f"s3://{bucket}/dir", options)
    store.put(f"{folder}/put", b"1")
    store.create(f"{folder}/create", b"1")
    for name in ("put", "create"):
        found = client.head_object(Bucket=bucket, Key=f"dir/{name}")
        assert found["ServerSideEncryption"] == "aws:kms"
        assert found["SSEKMSKeyId"].endswith("alias/mine")
    store.delete([f"{folder}/put", f"{folder}/create"])
    client.delete_bucket(Bucket=bucket)
    client.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/a.bin",
        "https://user:verySecretKey@127.0.0.1:9/a.bin",
        "zip://a.bin::memory://none.zip",
        "simplecache::memory://folder/a.bin",
    ],
)
def test_read_only_urls(url: str, backend: str) -> None:
    store, key = at(url)
    for write in (
        lambda: store.put(key, b"1"),
        lambda: store.create(key, b"1"),
        lambda: store.delete([key]),
    ):
        with pytest.raises(StorageError, match="cannot write") as caught:
            write()
        assert not isinstance(caught.value, ServerError | NotFoundError)
        assert SECRET not in str(caught.value)


def test_a_store_without_create_if_absent(tmp_path: Path) -> None:
    """fsspec would first check and then write, so that two writers can both succeed."""
    from fsspec.implementations.dirfs import DirFileSystem

    class Renamed(DirFileSystem):  # type: ignore[misc]
        protocol = "renamedtest"

        def __init__(self, **options: Any) -> None:
            super().__init__(str(tmp_path), fsspec.filesystem("file", auto_mkdir=True))

    fsspec.register_implementation("renamedtest", Renamed, clobber=True)
    store, key = at("renamedtest://dir/a.bin")
    store.put(key, b"1")
    assert bytes(store.get(key).data) == b"1"
    with pytest.raises(StorageError, match=r"renamedtest://.*two migrations apart.*s3, gs, az"):
        store.create(f"{key}2", b"1")
    assert len(names_in(store, "dir")) == 1
    store.delete([key, f"{key}2"])
    assert names_in(store, "dir") == set()


# Local files


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


@pytest.fixture(params=["unnamed", "named", "no links", "no /proc"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Kinds of file systems, which differ in their support of links and O_TMPFILE."""
    real = os.link

    def refused(source: str, target: str, **options: Any) -> None:
        if request.param == "no /proc" and not source.startswith("/proc/"):
            return real(source, target, **options)
        number = errno.ENOENT if request.param == "no /proc" else errno.EPERM
        raise OSError(number, os.strerror(number))

    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    if request.param in ("no links", "no /proc"):
        monkeypatch.setattr(os, "link", refused)
    return str(request.param)


def test_files_on_every_file_system(tmp_path: Path, file_system: str) -> None:
    store, folder = at(str(tmp_path / "out"))
    name = "é" * 120  # 240 bytes: too long a name with a suffix
    for data in (b"1" * 100, b"2", b""):
        store.put(f"{folder}/{name}", data)
        assert (tmp_path / "out" / name).read_bytes() == data
    assert store.create(f"{folder}/lock", b"a")
    assert not store.create(f"{folder}/lock", b"b")
    assert (tmp_path / "out" / "lock").read_bytes() == b"a"
    assert files_in(tmp_path) == {f"out/{name}", "out/lock"}
    (tmp_path / "out" / "taken").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*taken"):
        store.put(f"{folder}/taken", b"1")
    assert not store.create(f"{folder}/taken", b"1")
    with pytest.raises(StorageError, match=r"cannot write .*lock"):
        store.put(f"{folder}/lock/below", b"1")
    assert files_in(tmp_path) == {f"out/{name}", "out/lock"}
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "out" / "lock").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_full_disk(tmp_path: Path, file_system: str, backend: str) -> None:
    """A limit of the process simulates the disk: writing fails in the middle of a file."""
    store, folder = at(str(tmp_path))
    store.put(f"{folder}/a", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(NoRoomError, match="no room to write") as caught:
            store.put(f"{folder}/a", bytes(1_000_000))
        with pytest.raises(NoRoomError):
            store.create(f"{folder}/b", bytes(1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(tmp_path) in str(caught.value)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert files_in(tmp_path) == {"a"}


def test_a_folder_without_permission(tmp_path: Path, backend: str) -> None:
    code = (
        "import os\n"
        "from cloudimg.errors import AccessDeniedError\n"
        "from cloudimg.storage import Store, split_url\n"
        f"location, folder = split_url({str(tmp_path)!r})\n"
        "store = Store(location)\n"
        "store.put(folder + '/warm', b'1')\n"  # another user may not be able to import
        "if os.getuid() == 0: os.seteuid(65534)\n"
        "for write in (store.put, store.create):\n"
        "    try: write(folder + '/sub/a', b'1')\n"
        "    except AccessDeniedError as exc: print(exc)\n"
        "try: store.delete([folder + '/kept'])\n"
        "except AccessDeniedError as exc: print(exc)\n"
    )
    (tmp_path / "kept").write_bytes(b"1")
    tmp_path.chmod(0o555)
    answer = run(code, CLOUDIMG_BACKEND="fsspec" if backend == "fsspec" else "")
    tmp_path.chmod(0o755)
    lines = answer.stdout.splitlines()
    assert [line.split(f" {tmp_path}")[0] for line in lines] == [
        "no permission to write",
        "no permission to write",
        "no permission to delete",
    ], answer.stderr


def test_readers_see_the_old_file_or_the_new_one(tmp_path: Path, backend: str) -> None:
    store, folder = at(str(tmp_path))
    versions = [bytes([number]) * 300_000 for number in range(30)]
    store.put(f"{folder}/a", versions[0])
    seen, over = [], threading.Event()

    def read() -> None:
        while not over.is_set():
            seen.append(bytes(store.get(f"{folder}/a").data))

    reader = threading.Thread(target=read)
    reader.start()
    for version in versions:
        store.put(f"{folder}/a", version)
    over.set()
    reader.join()
    assert set(seen) <= set(versions)
    assert len(seen) > 1


def test_killed_writers_leave_nothing_that_is_listed(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from cloudimg.storage import Store, split_url\n"
        f"location, folder = split_url({str(tmp_path)!r})\n"
        "os.fsync = lambda handle: os._exit(9)\n"
        "if sys.argv[1:]: del os.O_TMPFILE\n"
        "Store(location).put(folder + '/a', b'1' * 1000)\n"
    )
    for argument in ([], ["named"]):
        done = subprocess.run([sys.executable, "-c", code, *argument], check=False, timeout=60)
        assert done.returncode == 9
    store, folder = at(str(tmp_path))
    assert names_in(store, folder) == set()
