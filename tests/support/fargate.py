"""A cloud small enough for a test: moto simulates ECS and Systems Manager, and each task that they
start runs here, as the process that its container would run."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import requests

from tests.support.servers import REPOSITORY, moto_server

REGION = "eu-central-1"
KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_REGION": REGION}
PREFIX = "/cloudimg/test"


class Cloud:
    """The account of a test."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.environment = {**KEYS, "AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": REGION}
        session = boto3.Session("x", "y", region_name=REGION)
        self.ecs = session.client("ecs", endpoint_url=endpoint)
        self.ssm = session.client("ssm", endpoint_url=endpoint)
        ec2 = session.client("ec2", endpoint_url=endpoint)
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        # Else moto has no name for a task's network interface, and fails over it.
        for name in ("EnableDnsSupport", "EnableDnsHostnames"):
            ec2.modify_vpc_attribute(VpcId=vpc, **{name: {"Value": True}})
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
        group = ec2.create_security_group(GroupName="members", Description="-", VpcId=vpc)
        ec2.close()
        cluster = self.ecs.create_cluster(clusterName="test")["cluster"]["clusterArn"]
        tasks = {role: self._define(role) for role in ("scheduler", "worker")}
        self.description: dict[str, Any] = {
            "version": 1,
            "kind": "aws-ecs",
            "region": REGION,
            "cluster": cluster,
            "scheduler_task_definition": tasks["scheduler"],
            "worker_task_definition": tasks["worker"],
            "container": "cloudimg",
            "subnets": [subnet],
            "scheduler_security_groups": [group["GroupId"]],
            "worker_security_groups": [group["GroupId"]],
            "parameter_prefix": PREFIX,
        }

    def _define(self, role: str) -> str:
        found = self.ecs.register_task_definition(
            family=role,
            networkMode="awsvpc",
            containerDefinitions=[{"name": "cloudimg", "image": "cloudimg:test", "memory": 512}],
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="512",
        )
        return str(found["taskDefinition"]["taskDefinitionArn"])

    def tasks(self, status: str = "RUNNING") -> list[dict[str, Any]]:
        """Tasks that shall run, or have ended."""
        arns = self.ecs.list_tasks(cluster="test", desiredStatus=status)["taskArns"]
        if not arns:
            return []
        found: list[dict[str, Any]] = self.ecs.describe_tasks(cluster="test", tasks=arns)["tasks"]
        return found

    def parameters(self) -> list[str]:
        """Names of what is stored in Systems Manager."""
        return [each["Name"] for each in self.ssm.describe_parameters()["Parameters"]]

    def record(self) -> None:
        """Remember requests from here on."""
        for verb in ("reset-recording", "start-recording"):
            requests.post(f"{self.endpoint}/moto-api/recorder/{verb}", timeout=10)

    def recorded(self, action: str) -> list[dict[str, Any]]:
        """Bodies of the requests for an action of ECS or Systems Manager."""
        text = requests.get(f"{self.endpoint}/moto-api/recorder/download-recording", timeout=10)
        entries = [json.loads(line) for line in text.text.splitlines() if line]
        return [
            json.loads(base64.b64decode(each["body"]) if each["body_encoded"] else each["body"])
            for each in entries
            if each["headers"].get("X-Amz-Target", "").endswith(f".{action}")
        ]

    def close(self) -> None:
        self.ecs.close()
        self.ssm.close()


@contextlib.contextmanager
def cloud(recording: Path) -> Iterator[str]:
    """The endpoint of a server for AWS that keeps its recording in a file."""
    os.environ["MOTO_RECORDER_FILEPATH"] = str(recording)  # inherited by the server
    with moto_server() as endpoint:
        del os.environ["MOTO_RECORDER_FILEPATH"]
        yield endpoint


@contextlib.contextmanager
def account(endpoint: str) -> Iterator[Cloud]:
    """An empty account on a server."""
    requests.post(f"{endpoint}/moto-api/reset", timeout=10).raise_for_status()
    # Else a task is a step nearer to its end whenever somebody looks.
    stay = {"progression": "manual", "times": 10**9}
    requests.post(
        f"{endpoint}/moto-api/state-manager/set-transition",
        json={"model_name": "ecs::task", "transition": stay},
        timeout=10,
    ).raise_for_status()
    made = Cloud(endpoint)
    made.record()
    try:
        yield made
    finally:
        made.close()


class Fargate:
    """Runs the tasks of ECS as processes, and reports to ECS which of them ended."""

    def __init__(self, cloud: Cloud, environment: Mapping[str, str], folder: Path) -> None:
        self._cloud = cloud
        self._environment = {**os.environ, **cloud.environment, **environment}
        self._folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def of(self, role: str) -> list[int]:
        """Process ids of running tasks of a role."""
        definition = self._cloud.description[f"{role}_task_definition"]
        tasks = self._cloud.tasks()
        arns = [task["taskArn"] for task in tasks if task["taskDefinitionArn"] == definition]
        return [self.processes[arn].pid for arn in arns if arn in self.processes]

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            wanted = {task["taskArn"]: task for task in self._cloud.tasks()}
            for arn, task in wanted.items():
                if arn not in self.processes:
                    self.processes[arn] = self._start(task)
                elif self.processes[arn].poll() is not None:
                    reason = f"Your Spot Task was interrupted ({self.processes[arn].returncode})."
                    self._cloud.ecs.stop_task(cluster="test", task=arn, reason=reason)
            for arn, process in self.processes.items():
                if arn not in wanted and process.poll() is None:
                    process.terminate()

    def _start(self, task: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        (container,) = task["overrides"]["containerOverrides"]
        variables = {each["name"]: each["value"] for each in container["environment"]}
        log = self._folder / f"{task['taskArn'].rpartition('/')[2]}.log"
        with log.open("wb") as stream:
            return subprocess.Popen(
                [sys.executable, "-m", "cloudimg.cluster.node", *container["command"]],
                env={**self._environment, **variables},
                cwd=REPOSITORY,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def logs(self) -> str:
        """The output of all tasks."""
        return "\n".join(path.read_text(errors="replace") for path in self._folder.glob("*.log"))

    def close(self) -> None:
        """End all processes that the test has left."""
        self._over.set()
        self._thread.join()
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def fargate(cloud: Cloud, folder: Path) -> Iterator[Fargate]:
    """Run tasks until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Metadata)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    environment = {
        "ECS_CONTAINER_METADATA_URI_V4": f"http://127.0.0.1:{server.server_port}/v4",
        "CLOUDIMG_SCHEDULER_PORT": str(free_port()),
        "CLOUDIMG_WORKER_THREADS": "2",
        "CLOUDIMG_WORKER_MEMORY": "1GiB",
        "TMPDIR": str(folder),  # certificates and what workers spill
        # Without access to the internet, where a service would report the public address.
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    running = Fargate(cloud, environment, folder)
    try:
        yield running
    finally:
        running.close()
        server.shutdown()
        thread.join()
        server.server_close()


class _Metadata(BaseHTTPRequestHandler):
    """What a container of ECS asks for its own address."""

    def do_GET(self) -> None:
        body = json.dumps({"Networks": [{"IPv4Addresses": ["127.0.0.1"]}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
