"""Clusters on AWS: requests to ECS, and whole jobs whose tasks run as local processes."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import cloudimg
from cloudimg import cluster
from cloudimg.cli.main import main
from cloudimg.cluster import kubernetes_api
from cloudimg.cluster.description import read_description
from cloudimg.cluster.ecs import EcsLauncher
from cloudimg.cluster.tls import JobTls
from cloudimg.errors import ArgumentError, ClusterError
from tests.support import copies, seed
from tests.support.fargate import PREFIX, Cloud, Fargate, cloud, fargate
from tests.support.fargate import account as empty_account
from tests.support.metering import Meter
from tests.support.servers import REPOSITORY
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cloud(tmp_path_factory.mktemp("cloud") / "recording") as endpoint:
        yield endpoint


@pytest.fixture
def account(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with empty_account(server) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def tasks(account: Cloud, tmp_path: Path) -> Iterator[Fargate]:
    folder = tmp_path / "logs"
    folder.mkdir()
    with fargate(account, folder) as running:
        yield running


@pytest.fixture
def file(account: Cloud, tmp_path: Path) -> str:
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps(account.description))
    return str(path)


@pytest.fixture
def archive(meter: Meter, bucket: str) -> str:
    seed.write(lambda key, data: meter.put(bucket, f"src/{key}", data))
    return f"s3://{bucket}/src/{seed.PATTERN}"


README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
WORDS = ["--chunks", "32", "--shards", "t=1,c=1,z=5,y=32,x=96", "--levels", "4"]


def store_words(meter: Meter) -> list[str]:
    options = json.dumps(meter.storage_options)
    return ["--source-options", options, "--target-options", options]


def started(account: Cloud, job: str = "job-1") -> EcsLauncher:
    """Launcher of a job whose scheduler has stored its address."""
    launcher = EcsLauncher(account.description, job)
    launcher.store_tls(JobTls.make())
    launcher.start_scheduler()
    assert launcher.find_scheduler() is None
    addresses = {"workers": "tls://10.0.0.5:8786", "client": "tls://203.0.113.9:8786"}
    account.ssm.put_parameter(
        Name=f"{PREFIX}/{job}/address", Value=json.dumps(addresses), Type="String"
    )
    return launcher


def test_workers_are_requested_in_batches_and_lost_ones_replaced(account: Cloud) -> None:
    launcher = started(account)
    assert launcher.find_scheduler().client == "tls://203.0.113.9:8786"
    account.record()
    launcher.keep_workers(23)
    requests = account.recorded("RunTask")
    assert [each["count"] for each in requests] == [10, 10, 3]
    for each in requests:
        assert each["capacityProviderStrategy"][0]["capacityProvider"] == "FARGATE_SPOT"
        assert "launchType" not in each
        assert each["startedBy"] == "job-1"
        (container,) = each["overrides"]["containerOverrides"]
        assert container["command"] == ["worker", "tls://10.0.0.5:8786"]
    assert len(account.tasks()) == 24

    account.record()
    launcher.keep_workers(23)
    assert account.recorded("RunTask") == []

    workers = [t for t in account.tasks() if t["overrides"]["containerOverrides"][0]["command"][1:]]
    for task in workers[:4]:
        account.ecs.stop_task(cluster="test", task=task["taskArn"], reason="Spot interruption")
    account.record()
    fleet = EcsLauncher(account.description, "job-1").keep_workers(23)
    assert [each["count"] for each in account.recorded("RunTask")] == [4]
    assert fleet.n_running + fleet.n_starting == 23
    assert any("Spot interruption" in problem for problem in fleet.problems)


def test_a_closed_cluster_is_used_from_within(account: Cloud) -> None:
    started(account)
    closed = EcsLauncher({**account.description, "is_reachable": False}, "job-1")
    found = closed.find_scheduler()
    assert found is not None
    assert (found.workers, found.client) == ("tls://10.0.0.5:8786", None)


def test_the_scheduler_is_not_a_spot_task_and_is_requested_once(account: Cloud) -> None:
    started(account)
    (request,) = account.recorded("RunTask")
    assert (request["count"], request["launchType"]) == (1, "FARGATE")
    assert "capacityProviderStrategy" not in request
    (container,) = request["overrides"]["containerOverrides"]
    environment = {each["name"]: each["value"] for each in container["environment"]}
    assert environment == {
        "CLOUDIMG_TLS_PARAMETER": f"{PREFIX}/job-1/scheduler/tls",
        "CLOUDIMG_TLS_SECRET": environment["CLOUDIMG_TLS_SECRET"],
        "CLOUDIMG_ADDRESS_PARAMETER": f"{PREFIX}/job-1/address",
    }


def test_keys_are_stored_encrypted_and_nowhere_else(account: Cloud) -> None:
    made = JobTls.make()
    launcher = EcsLauncher(account.description, "job-1")
    launcher.store_tls(made)
    launcher.start_scheduler()
    stored = account.ssm.describe_parameters()["Parameters"]
    names = {each["Name"].removeprefix(f"{PREFIX}/job-1/") for each in stored}
    assert names == {"client", "scheduler/tls", "worker/tls"}
    assert {each["Type"] for each in stored} == {"SecureString"}
    sent = account.recorded("PutParameter")
    assert all(len(each["Value"]) < 4096 for each in sent)  # what a standard parameter holds
    client_key = made.client.key.splitlines()[1]
    assert [client_key in each["Value"] for each in sent] == [True, False, False]
    for tls in (made.client, made.scheduler, made.worker):
        key = tls.key.splitlines()[1]
        assert key not in json.dumps(account.recorded("RunTask"))
        assert key not in repr(made)
        assert tls is made.client or key not in json.dumps(sent)


def test_a_task_decrypts_the_certificate_of_its_own_job_and_role_only(account: Cloud) -> None:
    """Whoever has the rights of tasks reads what is stored for each job, and can use none of it."""
    for job in ("job-1", "job-2"):
        made = JobTls.make()
        launcher = EcsLauncher(account.description, job)
        launcher.store_tls(made)
        # Another process knows the secrets, too.
        other = EcsLauncher(account.description, job)
        assert other.load_tls() == made.client
        other.start_scheduler()
    overrides = [
        request["overrides"]["containerOverrides"][0]["environment"]
        for request in account.recorded("RunTask")
    ]
    first, second = ({each["name"]: each["value"] for each in one} for one in overrides)
    own = first["CLOUDIMG_TLS_PARAMETER"]
    for parameter in (second["CLOUDIMG_TLS_PARAMETER"], own.replace("scheduler", "worker")):
        tried = subprocess.run(
            [sys.executable, "-m", "cloudimg.cluster.node", "scheduler"],
            env={
                **os.environ,
                "AWS_ENDPOINT_URL": account.ssm.meta.endpoint_url,
                "AWS_DEFAULT_REGION": account.ssm.meta.region_name,
                "CLOUDIMG_TLS_PARAMETER": parameter,
                "CLOUDIMG_TLS_SECRET": first["CLOUDIMG_TLS_SECRET"],
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert tried.returncode != 0
        assert "the certificate stored for the job cannot be decrypted" in tried.stderr
        assert first["CLOUDIMG_TLS_SECRET"] not in tried.stderr


def test_stop_leaves_nothing_and_starts_nothing(account: Cloud) -> None:
    other = started(account, "job-2")
    other.keep_workers(1)
    launcher = started(account)
    launcher.keep_workers(12)
    launcher.stop()
    assert {task["startedBy"] for task in account.tasks()} == {"job-2"}
    assert all("job-2" in name for name in account.parameters())
    with pytest.raises(ClusterError, match="over"):
        launcher.start_scheduler()
    launcher.stop()
    EcsLauncher(account.description, "job-2").stop()
    assert account.tasks() == []
    assert account.parameters() == []


def test_a_scheduler_that_ended_is_reported_with_the_reason(account: Cloud, file: str) -> None:
    launcher = started(account)
    (task,) = account.tasks()
    account.ecs.stop_task(cluster="test", task=task["taskArn"], reason="CannotPullContainerError")
    with pytest.raises(ClusterError, match="CannotPullContainerError"):
        launcher.find_scheduler()
    with pytest.raises(ClusterError, match="there is no job 'main'"):
        cluster.status(file)


class Stub(BaseHTTPRequestHandler):
    """An ECS that gives the answer that a test sets."""

    answer: tuple[int, dict[str, Any]] = (200, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = type(self).answer
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def stub(account: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Stub]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", f"http://127.0.0.1:{server.server_port}")
    yield Stub
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_task_that_cannot_be_stopped_does_not_keep_others(account: Cloud) -> None:
    launcher = started(account)
    launcher.keep_workers(5)
    # botocore would repeat its request for a minute.
    launcher._ecs.meta.events.unregister("needs-retry.ecs", unique_id="retry-config-ecs")
    gone = f"{account.description['cluster'].replace(':cluster/', ':task/')}/0123456789"
    launcher._young[gone] = time.monotonic()  # started, and never known to ECS
    launcher.stop()
    assert account.tasks() == []
    assert account.parameters() == []


def test_wrong_counts_start_nothing(account: Cloud, file: str) -> None:
    for words in (["--workers", "0"], ["--workers", "-3", "--job", "main"]):
        assert main(["migrate", "a.tif", "b.zarr", "--cluster", file, *words]) == 2
    assert main(["cluster", "up", file, "--workers", "0"]) == 2
    assert account.tasks() == []
    assert account.parameters() == []
    assert account.recorded("RunTask") == []


def test_starting_a_job_a_second_time_stops_nothing(account: Cloud, file: str) -> None:
    launcher = started(account, "main")
    with pytest.raises(ClusterError, match="already"):
        EcsLauncher(account.description, "main").store_tls(JobTls.make())
    with pytest.raises(ClusterError, match="already"):
        cluster.up(file, 1)
    assert len(account.tasks()) == 1
    assert launcher.load_tls() is not None


def test_no_capacity_and_no_rights(account: Cloud, stub: type[Stub]) -> None:
    launcher = EcsLauncher(account.description, "job-1")
    stub.answer = (200, {"Version": 1})
    launcher.store_tls(JobTls.make())
    stub.answer = (200, {"tasks": [], "failures": [{"reason": "Capacity is unavailable"}]})
    with pytest.raises(ClusterError, match="Capacity is unavailable"):
        launcher.start_scheduler()
    stub.answer = (400, {"__type": "AccessDeniedException", "message": "not authorized"})
    with pytest.raises(
        ClusterError, match="need ecs:RunTask, which the module's driver role"
    ) as caught:
        launcher.start_scheduler()
    # An error of botocore may hold credentials: it is kept as text only.
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert "ClientError" not in str(caught.value)
    assert "AccessDeniedException" in str(caught.value.cause)


def test_invalid_descriptions(tmp_path: Path, account: Cloud) -> None:
    path = tmp_path / "cluster.json"
    for text, match in (
        ("{", "is not valid JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "terraform output"),
        (json.dumps({**account.description, "version": 2}), "version 1"),
        (json.dumps({**account.description, "subnets": "subnet-1"}), "subnets is missing"),
    ):
        path.write_text(text)
        with pytest.raises(ArgumentError, match=match):
            cluster.status(path)
    with pytest.raises(ArgumentError, match="cannot be read"):
        cluster.status(tmp_path / "none.json")
    with pytest.raises(ArgumentError, match="workers"), cluster.start(account.description, 0):
        pass
    with pytest.raises(ArgumentError, match="letters"):
        cluster.up(account.description, 1, job="Bad Name")
    assert account.tasks() == []
    assert account.parameters() == []


def test_errors_of_descriptions_hold_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSONDecodeError, UnicodeDecodeError and TimeoutExpired hold the output of Terraform."""
    output = '{"token": "verysecret", '
    file = tmp_path / "cluster.json"
    file.write_text(output)
    binary = tmp_path / "binary.json"
    binary.write_bytes(output.encode() + b"\xff")
    terraform = tmp_path / "terraform"
    terraform.write_text(f"#!/bin/sh\necho '{output}'\n")
    terraform.chmod(0o755)
    slow = tmp_path / "slow" / "terraform"
    slow.parent.mkdir()
    slow.write_text(f"#!/bin/sh\necho '{output}'\nexec sleep 60\n")
    slow.chmod(0o755)
    for source, program, match, cause in (
        (file, terraform, "is not valid JSON", "JSONDecodeError"),
        (tmp_path, terraform, "is not valid JSON", "JSONDecodeError"),
        (binary, terraform, "cannot be read", "UnicodeDecodeError"),
        (tmp_path / "none.json", terraform, "cannot be read", "FileNotFoundError: "),
        (tmp_path, slow, "did not finish within", "TimeoutExpired"),
    ):
        monkeypatch.setattr("shutil.which", lambda name, found=program: str(found))
        limit = 1 if program is slow else 60
        monkeypatch.setattr("cloudimg.cluster.description._TERRAFORM_TIMEOUT_S", limit)
        with pytest.raises(ArgumentError, match=match) as caught:
            read_description(source)
        assert caught.value.__cause__ is caught.value.__context__ is None
        assert (caught.value.cause or "").startswith(cause)
        assert "verysecret" not in f"{caught.value} {caught.value.cause}"


HOSTILE: list[tuple[str, Any]] = [
    ("version", True),
    ("region", ""),
    ("region", "eu west"),
    ("cluster", "a\r\nHost: another"),
    ("parameter_prefix", "/cloudimg/../another"),
    ("container", "x" * 10**6),
    ("subnets", [["subnet-1"]]),
    ("subnets", ["subnet-1"] * 1000),
    ("worker_security_groups", [None]),
]


def test_hostile_descriptions(account: Cloud, tmp_path: Path) -> None:
    for name, value in HOSTILE:
        with pytest.raises(ArgumentError) as caught:
            read_description({**account.description, name: value})
        assert len(str(caught.value)) < 1000
    path = tmp_path / "cluster.json"
    for text in ("[" * 100_000, '{"a": ' * 100_000, " " * 2**21):
        path.write_text(text)
        with pytest.raises(ArgumentError, match=r"not valid JSON|larger than any"):
            read_description(path)


def test_invalid_certificate_authorities() -> None:
    for encoded in ("verysecret!", ""):
        with pytest.raises(ArgumentError, match="ca_certificate") as caught:
            kubernetes_api._write_authority(encoded)
        assert caught.value.__cause__ is caught.value.__context__ is None
        assert "verysecret" not in f"{caught.value} {caught.value.cause}"


def test_a_migration_on_a_cluster_of_its_own(
    tasks: Fargate,
    account: Cloud,
    file: str,
    meter: Meter,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command of the README."""
    command = re.search(r"^cloudimg (migrate .*--cluster.*)$", README, re.MULTILINE)
    assert command
    words = shlex.split(command[1])
    archive, url = words[1:3]
    monkeypatch.chdir(Path(file).parent)
    meter.create("lab")
    seed.write(lambda key, data: meter.put("lab", f"exp/{key}", data))
    options = meter.storage_options
    local = f"s3://{bucket}/local.zarr"
    assert main(["migrate", archive, local, *WORDS, *store_words(meter)]) == 0
    expected = copies.image_of(copies.objects(local, options))
    assert main([*words, *WORDS, *store_words(meter)]) == 0, tasks.logs()
    assert copies.image_of(copies.objects(url, options)) == expected
    meter.drop("lab")
    assert "starting 4 workers" in capsys.readouterr().err
    assert account.tasks() == []
    assert account.parameters() == []
    assert len(tasks.processes) == 5
    wait_until(lambda: all(p.poll() is not None for p in tasks.processes.values()), "their end")


def test_machines_start_when_there_is_work(
    account: Cloud,
    file: str,
    meter: Meter,
    bucket: str,
    archive: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A refused source or destination costs nothing, nor does a complete migration."""
    url = f"s3://{bucket}/copy.zarr"
    work = ["--cluster", file, "--workers", "4"]
    for words, code, message in (
        (["migrate", archive.replace("mydata", "mydatum"), url], 3, "nothing matches"),
        (["migrate", archive, f"s3://{bucket}-none/copy.zarr"], 3, "NoSuchBucket"),
        (["migrate", archive, f"s3://{bucket}/src"], 7, "did not write"),
        (["migrate", archive, url, "--max-mem", "1KB"], 2, "too little"),
        (["verify", url], 2, "neither a copy nor other objects"),
    ):
        options = store_words(meter)
        if words[0] == "verify":
            options = ["--storage-options", options[1]]
        assert main([*words, *work, *options]) == code, words
        assert message in capsys.readouterr().err
    assert main(["migrate", archive, url, *WORDS, *store_words(meter)]) == 0
    assert main(["migrate", archive, url, *WORDS, *work, *store_words(meter)]) == 0
    assert "nothing left to do" in capsys.readouterr().out
    assert account.tasks() + account.tasks("STOPPED") == []
    assert account.parameters() == []


def test_up_use_status_down(
    tasks: Fargate,
    account: Cloud,
    file: str,
    meter: Meter,
    bucket: str,
    archive: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["cluster", "up", file, "--workers", "2"]) == 0, tasks.logs()
    assert main(["cluster", "up", file, "--workers", "2"]) == 12
    assert "already" in capsys.readouterr().err
    with cluster.connect(file) as client:
        client.wait_for_workers(2, timeout=60)
        image = cloudimg.imread(archive, storage_options=meter.storage_options)
        assert (client.compute(image).result() == seed.expected()).all()
        victims = tasks.of("worker")
        os.kill(victims[0], signal.SIGKILL)
        wait_until(
            lambda: any("Spot" in str(t["stoppedReason"]) for t in account.tasks("STOPPED")),
            "the worker's end",
        )
        EcsLauncher(account.description, "main").keep_workers(2)
        wait_until(lambda: set(tasks.of("worker")) - set(victims) != set(), "another worker")
        client.wait_for_workers(2, timeout=60)
    assert main(["cluster", "status", file]) == 0
    output = capsys.readouterr().out
    assert "workers: 2 running" in output
    assert "connected: 2 workers, 4 threads" in output
    url = f"s3://{bucket}/copy.zarr"
    words = ["migrate", archive, url, "--cluster", file, "--job", "main"]
    assert main([*words, *WORDS, *store_words(meter)]) == 0
    assert len(account.tasks()) == 3
    assert main(["cluster", "down", file]) == 0
    assert account.tasks() == []
    assert account.parameters() == []
    assert main(["cluster", "down", file]) == 0
    assert main(["cluster", "status", file]) == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_migration_leaves_nothing_running(
    tasks: Fargate,
    account: Cloud,
    file: str,
    meter: Meter,
    bucket: str,
    archive: str,
    number: signal.Signals,
) -> None:
    meter.latency(500)
    url = f"s3://{bucket}/copy.zarr"
    command = [sys.executable, "-m", "cloudimg", "migrate", archive, url]
    process = subprocess.Popen(
        [*command, "--cluster", file, "--workers", "2", *WORDS, *store_words(meter)],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: len(tasks.of("worker")) == 2, "two workers")
    process.send_signal(number)
    wait_until(lambda: len(account.tasks()) < 3 or process.poll() is not None, "the stop")
    process.send_signal(number)  # people press it twice
    _, output = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    assert "stopping the cluster" in output
    assert account.tasks() == []
    assert account.parameters() == []
    wait_until(lambda: all(p.poll() is not None for p in tasks.processes.values()), "their end")
