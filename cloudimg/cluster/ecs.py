"""Jobs on AWS Fargate: a scheduler, and workers on spot capacity.

The machines of a job are the ECS tasks that were started under its name, so any process with the
right to list tasks can find them.

Certificates and the address are stored in parameters of Systems Manager. The tasks of all jobs have
the same roles, and so may read the certificates of each other's jobs. A task's certificate is
therefore encrypted, too, with a secret that only a variable of the task's environment holds, which
tasks may not describe; and whoever may describe tasks needs the right to read the parameter.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from cloudimg.cluster.aws_api import call, connect
from cloudimg.cluster.launcher import Addresses, Fleet
from cloudimg.cluster.tls import JobTls, Tls, encrypt
from cloudimg.errors import ClusterError, counted
from cloudimg.storage.urls import redact

_ROLES = ("scheduler", "worker")
_CLIENT, _ADDRESS = "client", "address"
"""Parameters of a job, in its folder."""
# Limits of the API: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/, RunTask on count
# and DescribeTasks on tasks.
_TASKS_PER_RUN = 10
_TASKS_PER_DESCRIBE = 100
_STOP_THREADS = 8
_UNLISTED_S = 60
"""Seconds after its start in which a task may be missing from lists."""
_STOP_ROUNDS = 10
_PAUSE_S = 1.0
_NORMAL_REASONS = ("stopped by cloudimg", "Essential container in task exited")
"""Beginnings of stop reasons that are not problems: both occur at the end of every job."""


class EcsLauncher:
    """Starts and stops the tasks of one job; see `cloudimg.cluster.launcher.Launcher`.

    Parameters
    ----------
    description : mapping
        The output of ``terraform/aws``.
    job : str
    """

    def __init__(self, description: Mapping[str, Any], job: str) -> None:
        self._description = description
        self._job = job
        self._ecs, self._ssm = connect(description["region"])
        self._young: dict[str, float] = {}
        """Start times of tasks that may be missing from lists."""
        self._starting = threading.Lock()
        self._is_stopped = False
        self._secrets: Mapping[str, str] = {}
        """By role, what decrypts the certificate of its tasks."""

    @property
    def job(self) -> str:
        return self._job

    def store_tls(self, tls: JobTls) -> None:
        encrypted = {role: encrypt(each.to_json()) for role, each in tls.of_tasks().items()}
        self._secrets = {role: secret for role, (_, secret) in encrypted.items()}
        client = json.dumps({"tls": tls.client.to_json(), "secrets": self._secrets})
        # The client's is the first: it exists as long as the job does.
        parameters = {
            _CLIENT: client,
            **{_tls_of(role): text for role, (text, _) in encrypted.items()},
        }
        for name, text in parameters.items():
            put = partial(
                self._ssm.put_parameter,
                Name=self._parameter(name),
                Value=text,
                Type="SecureString",
            )
            call(put, "ssm:PutParameter")

    def load_tls(self) -> Tls | None:
        text = self._read_parameter(_CLIENT, decrypt=True)
        if text is None:
            return None
        try:
            stored = json.loads(text)
            self._secrets = {role: str(stored["secrets"][role]) for role in _ROLES}
            return Tls.from_json(stored["tls"])
        except (ValueError, KeyError, TypeError) as exc:
            cause = type(exc).__name__  # a JSON error holds the whole text, with the key
        raise ClusterError("the certificate stored for the job is damaged", cause=cause)

    def start_scheduler(self) -> None:
        problems = self._run(
            "scheduler",
            1,
            ["scheduler"],
            {"CLOUDIMG_ADDRESS_PARAMETER": self._parameter(_ADDRESS)},
            {"launchType": "FARGATE"},
        )
        if problems:
            raise ClusterError(f"AWS did not start the scheduler: {'; '.join(problems)}")

    def find_scheduler(self) -> Addresses | None:
        tasks = self._describe(self._arns("RUNNING"))
        if not any(self._is_scheduler(task) for task in tasks):
            ended = self._describe(self._list("STOPPED"))
            for task in filter(self._is_scheduler, ended):
                raise ClusterError(f"the scheduler of {self._job} has ended: {_stop_reason(task)}")
            if not self._young:
                raise ClusterError(f"{self._job} has no scheduler")
        text = self._read_parameter(_ADDRESS, decrypt=False)
        if text is None:
            return None
        addresses = json.loads(text)
        is_reachable = self._description.get("is_reachable", True)
        return Addresses(addresses["workers"], addresses.get("client") if is_reachable else None)

    def keep_workers(self, count: int) -> Fleet:
        fleet = self.look()
        n_missing = count - fleet.n_running - fleet.n_starting
        if n_missing <= 0:
            return fleet
        addresses = self.find_scheduler()
        if addresses is None:
            return fleet
        problems = list(fleet.problems)
        for n_started in range(0, n_missing, _TASKS_PER_RUN):
            failures = self._run(
                "worker",
                min(_TASKS_PER_RUN, n_missing - n_started),
                ["worker", addresses.workers],
                {},
                {"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]},
            )
            if failures:  # there is no capacity now; the next call tries again
                problems += failures
                break
        fleet = self.look()
        return Fleet(fleet.n_running, fleet.n_starting, tuple(dict.fromkeys(problems)))

    def look(self) -> Fleet:
        tasks = self._describe(self._arns("RUNNING"))
        workers = [task for task in tasks if not self._is_scheduler(task)]
        n_running = sum(task["lastStatus"] == "RUNNING" for task in workers)
        ended = self._describe(self._list("STOPPED"))
        reasons = [_stop_reason(task) for task in ended if not self._is_scheduler(task)]
        problems = dict.fromkeys(each for each in reasons if not each.startswith(_NORMAL_REASONS))
        return Fleet(n_running, len(workers) - n_running, tuple(problems))

    def stop(self) -> None:
        with self._starting:  # waits for a request in flight
            self._is_stopped = True
        failures: list[str] = []
        for number in range(_STOP_ROUNDS):
            arns = self._arns("RUNNING")
            if not arns:
                break
            if number:
                time.sleep(_PAUSE_S)
            with ThreadPoolExecutor(_STOP_THREADS) as threads:
                failures = list(filter(None, threads.map(self._stop_task, arns)))
        stored = (*map(_tls_of, _ROLES), _ADDRESS, _CLIENT)
        names = [self._parameter(name) for name in stored]
        call(lambda: self._ssm.delete_parameters(Names=names), "ssm:DeleteParameters")
        n_left = len(self._list("RUNNING"))
        if n_left:
            reasons = "; ".join(dict.fromkeys(failures)) or "ECS gives no reason"
            left = counted(n_left, f"task of {self._job} is", f"tasks of {self._job} are")
            raise ClusterError(f"{left} still running: {reasons}")

    def _stop_task(self, arn: str) -> str:
        """Stop a task, unless it is gone; return why that failed, or an empty text."""
        from botocore.exceptions import BotoCoreError, ClientError

        reason = f"{_NORMAL_REASONS[0]}: the job is over"
        try:
            self._ecs.stop_task(cluster=self._description["cluster"], task=arn, reason=reason)
        except ClientError as exc:
            return "" if "not found" in str(exc) else redact(str(exc))
        except BotoCoreError as exc:
            return redact(str(exc))
        return ""

    def _parameter(self, name: str) -> str:
        return f"{self._description['parameter_prefix']}/{self._job}/{name}"

    def _read_parameter(self, name: str, *, decrypt: bool) -> str | None:
        def get() -> str | None:
            try:
                answer = self._ssm.get_parameter(Name=self._parameter(name), WithDecryption=decrypt)
            except self._ssm.exceptions.ParameterNotFound:
                return None
            return str(answer["Parameter"]["Value"])

        return call(get, "ssm:GetParameter")

    def _is_scheduler(self, task: Mapping[str, Any]) -> bool:
        return bool(task["taskDefinitionArn"] == self._description["scheduler_task_definition"])

    def _run(
        self,
        role: str,
        count: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        capacity: Mapping[str, Any],
    ) -> list[str]:
        """Request tasks; return why some were not started."""
        if not self._secrets and self.load_tls() is None:
            raise ClusterError(f"{self._job} has no certificate: stop it, and start it again")
        variables = {
            "CLOUDIMG_TLS_PARAMETER": self._parameter(_tls_of(role)),
            "CLOUDIMG_TLS_SECRET": self._secrets[role],
            **environment,
        }
        container = {
            "name": self._description["container"],
            "command": list(command),
            "environment": [{"name": name, "value": value} for name, value in variables.items()],
        }
        network = {
            "subnets": self._description["subnets"],
            "securityGroups": self._description[f"{role}_security_groups"],
            # There is no NAT: images and logs are reached through the internet gateway.
            "assignPublicIp": "ENABLED",
        }
        with self._starting:
            if self._is_stopped:
                raise ClusterError(f"{self._job} is over: nothing more is started for it")
            answer = call(
                lambda: self._ecs.run_task(
                    cluster=self._description["cluster"],
                    taskDefinition=self._description[f"{role}_task_definition"],
                    count=count,
                    startedBy=self._job,
                    networkConfiguration={"awsvpcConfiguration": network},
                    overrides={"containerOverrides": [container]},
                    **capacity,
                ),
                "ecs:RunTask",
            )
            now = time.monotonic()
            self._young |= {task["taskArn"]: now for task in answer["tasks"]}
        failures = answer.get("failures", [])
        return list(dict.fromkeys(each.get("reason", "no reason given") for each in failures))

    def _arns(self, status: str) -> list[str]:
        """Tasks of a desired status, with those that are too new to be in any list."""
        now = time.monotonic()
        self._young = {arn: t for arn, t in self._young.items() if now - t < _UNLISTED_S}
        ended = set(self._list("STOPPED")) if self._young else set()
        unlisted = [arn for arn in self._young if arn not in ended]
        return list(dict.fromkeys([*self._list(status), *unlisted]))

    def _list(self, status: str) -> list[str]:
        def read_pages() -> list[str]:
            pages = self._ecs.get_paginator("list_tasks").paginate(
                cluster=self._description["cluster"], startedBy=self._job, desiredStatus=status
            )
            return [arn for page in pages for arn in page["taskArns"]]

        return call(read_pages, "ecs:ListTasks")

    def _describe(self, arns: Sequence[str]) -> list[dict[str, Any]]:
        tasks: list[dict[str, Any]] = []
        for start in range(0, len(arns), _TASKS_PER_DESCRIBE):
            batch = list(arns[start : start + _TASKS_PER_DESCRIBE])
            describe = partial(
                self._ecs.describe_tasks, cluster=self._description["cluster"], tasks=batch
            )
            tasks += call(describe, "ecs:DescribeTasks")["tasks"]
        return tasks


def _tls_of(role: str) -> str:
    """Parameter with the certificate of a role."""
    return f"{role}/tls"


def _stop_reason(task: Mapping[str, Any]) -> str:
    reasons = [str(task.get("stoppedReason") or "no reason given")]
    for container in task.get("containers", ()):
        if container.get("reason"):
            reasons.append(str(container["reason"]))
        if container.get("exitCode"):
            reasons.append(f"exit code {container['exitCode']}")
    return "; ".join(reasons)
