"""Distinctive secrets in options, URLs and the environment, and where they must not turn up.

One process works with all of them, on servers that answer and on servers that refuse and quote the
request. Everything that it shows, logs at DEBUG, stores and pickles is searched for each of them.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import pytest

import cloudimg
from cloudimg.cli.main import main
from tests.support import clusters, copies, seed
from tests.support.servers import REPOSITORY, S3Account

if TYPE_CHECKING:
    from tests.conftest import WebServer  # takes all credentials out of the environment

PLACES = (
    "option-key", "option-secret", "option-token", "option-header", "option-cookie", "user",
    "password", "code", "jwt", "environment-key", "environment-secret", "environment-token",
    "proxy", "bad-option", "azurekey", "azure-signature", "environment-azure",
)  # fmt: skip


def secret(place: str) -> str:
    """A value that stands nowhere else, and says where it was."""
    return f"ZQ7x{place}K4vW"


ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": secret("environment-key"),
    "AWS_SECRET_ACCESS_KEY": secret("environment-secret"),
    "AWS_SESSION_TOKEN": secret("environment-token"),
    "AZURE_STORAGE_SAS_TOKEN": f"sv=1&sig={secret('environment-azure')}",
    "HTTPS_PROXY": f"http://{secret('proxy')}:{secret('proxy')}@127.0.0.1:9",
}
QUERY = f"code={secret('code')}&jwt={secret('jwt')}&v=1"
QUOTED = (400, 401, 403, 404, 416, 500, 503)


@contextmanager
def quoting_server() -> Iterator[str]:
    """Refuses each request with the status that its path names, and quotes all that it received."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status = next((each for each in QUOTED if f"quote{each}" in self.path), 0)
            if not status:
                self.close_connection = True
                return  # and no answer at all
            said = f"{self.path}\n{self.headers}"
            body = f"<Error><Code>Refused</Code><Message>{said}</Message></Error>".encode()
            self.send_response(status, "Refused")
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Quoted", quote(said))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = respond  # noqa: N815

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()


# ------------------------------------------------------------------------ what one process does


class Worker:
    """Works with all secrets, and keeps what it shows."""

    def __init__(self, places: dict[str, str]) -> None:
        self.places = places
        self.out = Path(places["out"])
        self.shown: list[tuple[str, bytes]] = []
        self.n_failed = 0

    def keep(self, what: str, *values: object) -> None:
        for value in values:
            self.shown.append((what, value if isinstance(value, bytes) else str(value).encode()))

    def do(
        self,
        what: str,
        work: Callable[..., Any],
        *arguments: Any,
        fails: bool | None = False,
        **keywords: Any,
    ) -> Any:
        """Do something, and keep what comes of it: a result, or an exception with all it holds.

        With None, it may fail or not.
        """
        try:
            result = work(*arguments, **keywords)
        except BaseException as exc:
            if fails is False:
                raise
            self.n_failed += 1
            self.keep_error(what, exc)
            return None
        assert not fails, what
        self.keep(what, str(result), repr(result))
        return result

    def keep_error(self, what: str, exc: BaseException | None) -> None:
        from tblib import pickling_support  # type: ignore[import-untyped]

        assert isinstance(exc, cloudimg.CloudimgError), (what, repr(exc))
        pickling_support.install()
        self.keep(f"{what}: traceback", "".join(traceback.format_exception(exc)))
        self.keep(f"{what}: pickle", pickle.dumps(exc), pickle.dumps(exc.__traceback__))
        seen: BaseException | None = exc
        while seen is not None:
            self.keep(f"{what}: chain", repr(seen), repr(vars(seen)), repr(seen.args))
            assert seen.__cause__ is None or isinstance(seen, cloudimg.CloudimgError)
            seen = seen.__cause__ or seen.__context__

    def keep_folder(self, what: str, folder: Path) -> None:
        for path in folder.rglob("*"):
            self.keep(f"{what}: {path.name}", str(path))
            if path.is_file():
                self.keep(f"{what}: {path.name}", path.read_bytes())
                if path.suffix == ".parquet":
                    import pyarrow.parquet as pq

                    self.keep(f"{what}: {path.name}", pq.read_table(path).to_pylist())

    # ------------------------------------------------------------------------------- S3 and http

    @property
    def s3_options(self) -> dict[str, Any]:
        return {
            "key": secret("option-key"),
            "secret": secret("option-secret"),
            "token": secret("option-token"),
            "client_kwargs": {"endpoint_url": self.places["moto"]},
        }

    @property
    def web_options(self) -> dict[str, Any]:
        headers = {
            "X-Api-Key": secret("option-header"),
            "Cookie": f"session={secret('option-cookie')}",
        }
        return {"client_kwargs": {"headers": headers}}

    def web_url(self, name: str, query: str = f"?{QUERY}", *, endpoint: str | None = None) -> str:
        host = (endpoint or self.places["web"]).removeprefix("http://")
        return f"http://{secret('user')}:{secret('password')}@{host}/{name}{query}"

    def azure_options(self, endpoint: str) -> list[dict[str, Any]]:
        """A key, which is base64, a signature, and one of the environment."""
        if importlib.util.find_spec("adlfs") is None:
            return []
        account = f"DefaultEndpointsProtocol=http;AccountName=lab;BlobEndpoint={endpoint}/lab"
        return [
            {"connection_string": f"{account};AccountKey={secret('azurekey')}"},
            {
                "connection_string": f"{account};SharedAccessSignature=sv=1"
                f"&sig={secret('azure-signature')}"
            },
            {"account_name": "lab", "account_host": "127.0.0.1:9"},
        ]

    def succeed(self) -> None:
        bucket = self.places["bucket"]
        s3 = f"s3://{bucket}/a_{{z}}.tif"
        self.copies("options", s3, self.s3_options, f"s3://{bucket}/options.zarr", self.s3_options)
        self.copies("environment", s3, None, f"s3://{bucket}/environment.zarr", None)
        for name in ("options", "environment"):
            stored = copies.objects(f"s3://{bucket}/{name}.zarr", self.s3_options)
            for key, data in stored.items():
                path = self.out / name / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        self.copies(
            "web", self.web_url("a_{z}.tif", ""), self.web_options, str(self.out / "web.zarr"), None
        )
        listed = [self.web_url(f"a_{z}.tif") for z in range(3)]
        self.copies("list", listed, self.web_options, str(self.out / "list.zarr"), None)
        self.keep_folder("stored", self.out)

    def copies(self, what: str, source: Any, of_source: Any, url: str, of_copy: Any) -> None:
        given = {"source_options": of_source, "target_options": of_copy}
        image = self.do(f"{what}: open", cloudimg.open, source, storage_options=of_source)
        self.keep(what, image._repr_html_() if hasattr(image, "_repr_html_") else "", image.attrs)
        array = self.do(f"{what}: imread", cloudimg.imread, source, storage_options=of_source)
        self.keep(what, array.name, array._repr_html_(), *array.dask, *array.dask.layers)
        self.keep(what, pickle.dumps([*map(str, array.dask)]))
        array.sum().compute(scheduler="threads")
        one = source if isinstance(source, str) else source[0]
        self.do(f"{what}: info", cloudimg.info, one, storage_options=of_source)
        expected = self.do(
            f"{what}: dry run", cloudimg.dry_run, source, storage_options=of_source, levels=2
        )
        said: list[Any] = []
        migrate = partial(cloudimg.migrate, source, url, levels=2, progress=said.append)
        done = self.do(f"{what}: migrate", migrate, **given)
        verify = partial(cloudimg.verify, url, against_source=image)
        proof = self.do(f"{what}: verify", verify, storage_options=of_copy)
        back = str(self.out / f"{what}-back")
        files = self.do(f"{what}: export", cloudimg.export, url, back, source_options=of_copy)
        self.keep(what, *map(pickle.dumps, (expected, done, proof, files, said)), repr(said))

    def fail(self) -> None:
        """Each operation, at each place, in each way."""
        quoting, bucket = self.places["quoting"], self.places["bucket"]
        here = f"{self.out}/options"
        for status in ("", *QUOTED):
            name = f"quote{status}" if status else "silence"
            options = {**self.s3_options, "client_kwargs": {"endpoint_url": quoting}}
            s3 = f"s3://{name}-bucket/a_{{z}}.tif"
            web = self.web_url(f"{name}/a_0.tif", endpoint=quoting)
            for source, given in ((s3, options), (web, self.web_options), (web, None)):
                what = f"{name} of {source[:4]}"
                self.do(what, cloudimg.open, source, storage_options=given, fails=True)
                self.do(what, cloudimg.info, source, storage_options=given, fails=True)
                both: dict[str, Any] = {"source_options": given, "target_options": self.s3_options}
                migrate = partial(cloudimg.migrate, source, f"s3://{bucket}/no.zarr", **both)
                self.do(f"{what}: migrate", migrate, fails=True)
            copy = f"s3://{name}-bucket/copy.zarr"
            copying: dict[str, Callable[..., Any]] = {
                "migrate": partial(cloudimg.migrate, f"{here}.tif", copy, target_options=options),
                "verify": partial(cloudimg.verify, copy, storage_options=options),
                "export": partial(cloudimg.export, copy, f"{here}-no", source_options=options),
                "export to": partial(cloudimg.export, here, copy, target_options=options),
            }
            for what, work in copying.items():
                self.do(f"{name}: {what} a copy", work, fails=True)
            azure, there = f"az://{name}-container/a_0.tif", f"az://{name}-container/copy.zarr"
            for given in self.azure_options(quoting):
                self.do(f"{name}: azure", cloudimg.open, azure, storage_options=given, fails=True)
                self.do(f"{name}: azure", cloudimg.info, azure, storage_options=given, fails=True)
                to_azure = partial(cloudimg.migrate, f"{here}.tif", there, target_options=given)
                self.do(f"{name}: migrate to azure", to_azure, fails=True)
        for url in (f"https://127.0.0.1:9/a.tif?{QUERY}", self.web_url("none.tif")):
            self.do(f"{url[:5]}: open", cloudimg.open, url, fails=True)
        for wrong in (
            {"client_kwargs": {"bogus": secret("bad-option")}},
            {"key": secret("option-key"), "secret": f"{secret('bad-option')}\n"},
            {"secret": [secret("bad-option")], "endpoint_url": f"nonsense {secret('bad-option')}"},
        ):
            self.do(
                "wrong options",
                cloudimg.open,
                f"s3://{bucket}/a_0.tif",
                storage_options=wrong,
                fails=None,  # the libraries differ in what they refuse
            )

    def command_line(self) -> None:
        """What it prints is searched with all other output."""
        bucket, quoting = self.places["bucket"], self.places["quoting"]
        self.logged = ["--log", f"{self.out}/job.log"]
        good, web = json.dumps(self.s3_options), json.dumps(self.web_options)
        s3 = f"s3://{bucket}/a_{{z}}.tif"
        copy, back = f"s3://{bucket}/line.zarr", f"{self.out}/line-back"
        picture = f"{self.out}/a.png"
        for words in (
            ["info", s3, "--storage-options", good],
            ["info", self.web_url("a_0.tif"), "--storage-options", web],
            ["preview", self.web_url("a_0.tif"), picture, "--storage-options", web],
            ["migrate", s3, copy, "--source-options", good, "--target-options", good],
            ["verify", copy, "--storage-options", good],
            ["export", copy, back, "--source-options", good],
        ):
            assert main([*words, *self.logged]) == 0, words
        bad = json.dumps({**self.s3_options, "client_kwargs": {"endpoint_url": quoting}})
        for status in QUOTED:
            url = self.web_url(f"quote{status}/a.tif", endpoint=quoting)
            there = f"s3://quote{status}-bucket/copy.zarr"
            for words in (
                ["info", url, "--storage-options", web],
                ["info", there, "--storage-options", bad, "--debug"],
                ["migrate", url, f"{self.out}/no.zarr"],
                ["migrate", s3, there, "--source-options", good, "--target-options", bad],
                ["verify", there, "--storage-options", bad],
                ["export", there, back, "--source-options", bad],
            ):
                assert main([*words, *self.logged, "--json"]) != 0, words
        log = Path(self.logged[1]).read_text()
        assert log.count(" error ") >= 6 * len(QUOTED)
        print(log)

    # -------------------------------------------------------------------------------- a cluster

    def on_cluster(self) -> None:
        quoting, bucket = self.places["quoting"], self.places["bucket"]
        source = f"s3://{bucket}/a_{{z}}.tif"
        with clusters.local_client(2, 2) as client:
            image = cloudimg.open(source, storage_options=self.s3_options)
            total: Any = image.to_dask().sum()  # type: ignore[no-untyped-call]
            self.do("cluster: compute", lambda: client.compute(total).result(60))
            both: dict[str, Any] = {
                "source_options": self.s3_options, "target_options": self.s3_options,
            }  # fmt: skip
            self.do(
                "cluster: migrate",
                cloudimg.migrate,
                source,
                f"s3://{bucket}/cluster.zarr",
                client=client,
                levels=2,
                **both,
            )
            url = self.web_url("quote403/a_0.tif", endpoint=quoting)
            options = {**self.s3_options, "client_kwargs": {"endpoint_url": quoting}}
            for work in (
                (cloudimg.open, url, self.web_options),
                (cloudimg.open, url, None),
                (cloudimg.open, "s3://quote403-bucket/a_{z}.tif", options),
                (cloudimg.open, "s3://silence-bucket/a_0.tif", options),
                (cloudimg.verify, "s3://quote503-bucket/a.zarr", options),
            ):
                future = client.submit(call, *work, pure=False)
                self.keep_error("cluster: a task", future.exception(60))
                self.keep("cluster: traceback", "".join(traceback.format_tb(future.traceback(60))))
                self.keep("cluster: traceback", pickle.dumps(future.traceback(60)))
            # Files that go while workers read them.
            held = cloudimg.open(
                self.web_url("gone/a_{z}.tif", ""), storage_options=self.web_options
            )
            total = held.to_dask().sum()  # type: ignore[no-untyped-call]
            for path in Path(self.places["root"]).glob("gone/*"):
                path.unlink()
            failed = client.compute(total)
            self.keep_error("cluster: gone", failed.exception(60))
            self.keep("cluster: gone", pickle.dumps(failed.traceback(60)), failed.key)
            self.keep("cluster: scheduler", client.run_on_scheduler(clusters.remembered))
            self.keep("cluster: logs", client.get_scheduler_logs(), client.get_worker_logs())

    def work(self) -> None:
        self.succeed()
        self.fail()
        self.command_line()
        self.on_cluster()


def call(function: Callable[..., Any], url: str, options: Any) -> None:
    """On a worker."""
    function(url, storage_options=options)


def child(places: dict[str, str]) -> None:
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, force=True)
    worker = Worker(places)
    worker.work()
    found: dict[str, str] = {}
    for what, data in worker.shown:
        for place in PLACES:
            if secret(place).encode() in data:
                found.setdefault(f"{what}: {place}", data[:3000].decode(errors="replace"))
    print(json.dumps({"found": [*found], "n": len(worker.shown), "n_failed": worker.n_failed}))
    Path(places["report"]).write_text(json.dumps(found, indent=1))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_secrets_turn_up_nowhere(
    moto: str, bucket: str, httpd: WebServer, tmp_path: Path, backend: str
) -> None:
    client = S3Account(moto).client()
    client.create_bucket(Bucket=bucket)
    rng = np.random.default_rng(5)
    (httpd.root / bucket / "gone").mkdir(parents=True)
    for z in range(3):
        data = seed.encode(rng.integers(1, 2**16, (96, 96), np.uint16))
        client.put_object(Bucket=bucket, Key=f"a_{z}.tif", Body=data)
        for name in (f"a_{z}.tif", f"gone/a_{z}.tif"):
            (httpd.root / bucket / name).write_bytes(data)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/options.tif").write_bytes(data)
    with quoting_server() as quoting:
        places = {
            "moto": moto, "bucket": bucket, "web": f"{httpd.endpoint}/{bucket}", "quoting": quoting,
            "root": str(httpd.root / bucket), "out": str(tmp_path / "out"),
            "report": str(tmp_path / "report.json"),
        }  # fmt: skip
        run = f"if __name__ == '__main__':\n    child({places!r})"
        code = f"from tests.test_secrets import child\n{run}"
        (tmp_path / "run.py").write_text(code)
        done = subprocess.run(
            [sys.executable, str(tmp_path / "run.py")],
            cwd=REPOSITORY, capture_output=True, text=True, timeout=280, check=False,
            env={
                **os.environ, **ENVIRONMENT, "AWS_ENDPOINT_URL": moto, "CLOUDIMG_ATTEMPTS": "1",
                "CLOUDIMG_TIMEOUT_S": "5",
                **({"CLOUDIMG_BACKEND": "fsspec"} if backend == "fsspec" else {}),
                "PYTHONPATH": str(REPOSITORY), "NO_PROXY": "",
            },
        )  # fmt: skip
    (tmp_path / "stderr").write_text(done.stderr)
    assert done.returncode == 0, done.stderr[-4000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["n"] > 300
    assert "DEBUG:fsspec.http:" in done.stderr
    assert "DEBUG:botocore.endpoint:" in done.stderr
    assert said["n_failed"] > 100
    assert not said["found"], (tmp_path / "report.json").read_text()[:5000]
    for line in (done.stderr + done.stdout).splitlines():
        assert not any(secret(place) in line for place in PLACES), line
