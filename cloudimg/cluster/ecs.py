"""Jobs on AWS Fargate: a scheduler, and workers on spare capacity.

Every request goes by botocore with the user's credentials. The machines of a job are the tasks that
were started by its name, so that any process with the right to look finds them again. Certificate
and address lie in two parameters of Systems Manager, the first one encrypted: what is in the
environment of a task could be read by everyone who may look at tasks.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from cloudimg.cluster.launcher import Addresses, Fleet
from cloudimg.cluster.tls import Tls
from cloudimg.errors import ClusterError

T = TypeVar("T")

# Limits of the API: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/, RunTask on count
# and DescribeTasks on tasks.
_STARTED_AT_ONCE = 10
_DESCRIBED_AT_ONCE = 100
_STOPPED_AT_ONCE = 8
_UNLISTED_S = 60
"""A task may be missing from lists for so long after its start."""
_ROUNDS_OF_STOPPING = 10
_PAUSE_S = 1.0
_OURS = ("stopped by cloudimg", "Essential container in task exited")
"""Beginnings of reasons to stop that are no problem: both come at the end of every job."""


class EcsLauncher:
    """Starts and ends the tasks of one job; see `cloudimg.cluster.launcher.Launcher`.

    Parameters
    ----------
    description : mapping
        The output of ``terraform/aws``.
    job : str
    """

    def __init__(self, description: Mapping[str, Any], job: str) -> None:
        # Not boto3: s3fs holds botocore to few versions, and pip tries hundreds of it to fit them.
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
        from botocore.session import get_session

        self._at = description
        self._job = job
        config = Config(retries={"mode": "standard", "total_max_attempts": 10})
        try:
            session = get_session()
            region = description["region"]
            self._ecs = session.create_client("ecs", region_name=region, config=config)
            self._ssm = session.create_client("ssm", region_name=region, config=config)
        except (BotoCoreError, ValueError) as exc:
            raise ClusterError(f"AWS cannot be asked: {exc}") from None
        self._young: dict[str, float] = {}
        """Tasks that were just started, and when."""
        self._starting = threading.Lock()
        self._is_over = False

    @property
    def job(self) -> str:
        return self._job

    def _parameter(self, name: str) -> str:
        return f"{self._at['parameter_prefix']}/{self._job}/{name}"

    def store_tls(self, tls: Tls) -> None:
        def put() -> None:
            self._ssm.put_parameter(
                Name=self._parameter("tls"), Value=tls.to_json(), Type="SecureString"
            )

        _asked(put, "ssm:PutParameter")

    def load_tls(self) -> Tls | None:
        text = self._read("tls", decrypt=True)
        return None if text is None else Tls.from_json(text)

    def _read(self, name: str, *, decrypt: bool = False) -> str | None:
        def get() -> str | None:
            try:
                found = self._ssm.get_parameter(Name=self._parameter(name), WithDecryption=decrypt)
            except self._ssm.exceptions.ParameterNotFound:
                return None
            return str(found["Parameter"]["Value"])

        return _asked(get, "ssm:GetParameter")

    def start_scheduler(self) -> None:
        problems = self._run(
            "scheduler",
            1,
            ["scheduler"],
            {"CLOUDIMG_ADDRESS_PARAMETER": self._parameter("address")},
            {"launchType": "FARGATE"},
        )
        if problems:
            raise ClusterError(f"AWS started no scheduler: {'; '.join(problems)}")

    def find_scheduler(self) -> Addresses | None:
        tasks = self._tasks(self._arns("RUNNING"))
        if not any(self._is_scheduler(task) for task in tasks):
            ended = self._tasks(self._listed("STOPPED"))
            for task in filter(self._is_scheduler, ended):
                raise ClusterError(f"the scheduler of {self._job} has ended: {_why(task)}")
            if not self._young:
                raise ClusterError(f"{self._job} has no scheduler")
        text = self._read("address")
        if text is None:
            return None
        found = json.loads(text)
        is_reachable = self._at.get("is_reachable", True)
        return Addresses(found["workers"], found.get("client") if is_reachable else None)

    def keep_workers(self, count: int) -> Fleet:
        fleet = self.look()
        missing = count - fleet.n_running - fleet.n_starting
        if missing <= 0:
            return fleet
        addresses = self.find_scheduler()
        if addresses is None:
            return fleet
        problems = list(fleet.problems)
        n_started = 0
        while n_started < missing:
            size = min(_STARTED_AT_ONCE, missing - n_started)
            found = self._run(
                "worker",
                size,
                ["worker", addresses.workers],
                {},
                {"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]},
            )
            n_started += size
            if found:  # no capacity now: the next time it is tried again
                problems += found
                break
        fresh = self.look()
        return Fleet(fresh.n_running, fresh.n_starting, tuple(dict.fromkeys(problems)))

    def look(self) -> Fleet:
        tasks = [t for t in self._tasks(self._arns("RUNNING")) if not self._is_scheduler(t)]
        n_running = sum(task["lastStatus"] == "RUNNING" for task in tasks)
        ended = self._tasks(self._listed("STOPPED"))
        reasons = [_why(task) for task in ended if not self._is_scheduler(task)]
        problems = dict.fromkeys(each for each in reasons if not each.startswith(_OURS))
        return Fleet(n_running, len(tasks) - n_running, tuple(problems))

    def stop(self) -> None:
        with self._starting:  # a request that is under way is waited for
            self._is_over = True
        troubles: list[str] = []
        for number in range(_ROUNDS_OF_STOPPING):
            arns = self._arns("RUNNING")
            if not arns:
                break
            if number:  # what was being started while the others were stopped
                time.sleep(_PAUSE_S)
            with ThreadPoolExecutor(_STOPPED_AT_ONCE) as threads:
                found = list(threads.map(self._stop_task, arns))
            troubles = [trouble for trouble in found if trouble]
        names = [self._parameter(name) for name in ("tls", "address")]
        _asked(lambda: self._ssm.delete_parameters(Names=names), "ssm:DeleteParameters")
        left = self._listed("RUNNING")
        if left:
            why = "; ".join(dict.fromkeys(troubles)) or "ECS gives no reason"
            raise ClusterError(f"{len(left)} tasks of {self._job} are still running: {why}")

    def _stop_task(self, arn: str) -> str:
        """Why it could not be stopped, or nothing; one that is not there is fine."""
        from botocore.exceptions import BotoCoreError, ClientError

        reason = f"{_OURS[0]}: the job is over"
        try:
            self._ecs.stop_task(cluster=self._at["cluster"], task=arn, reason=reason)
        except ClientError as exc:
            return "" if "not found" in str(exc) else str(exc)
        except BotoCoreError as exc:
            return str(exc)
        return ""

    def _is_scheduler(self, task: Mapping[str, Any]) -> bool:
        return bool(task["taskDefinitionArn"] == self._at["scheduler_task_definition"])

    def _run(
        self,
        role: str,
        count: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        capacity: Mapping[str, Any],
    ) -> list[str]:
        """Ask for tasks; why some were not started."""
        told = {"CLOUDIMG_TLS_PARAMETER": self._parameter("tls"), **environment}
        container = {
            "name": self._at["container"],
            "command": list(command),
            "environment": [{"name": name, "value": value} for name, value in told.items()],
        }
        network = {
            "subnets": self._at["subnets"],
            "securityGroups": self._at[f"{role}_security_groups"],
            # There is no NAT: images and logs are reached by way of the internet gateway.
            "assignPublicIp": "ENABLED",
        }
        with self._starting:
            if self._is_over:
                raise ClusterError(f"{self._job} is over: nothing more is started for it")
            answer = _asked(
                lambda: self._ecs.run_task(
                    cluster=self._at["cluster"],
                    taskDefinition=self._at[f"{role}_task_definition"],
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
        """Tasks that shall run, the ones too that are so new that no list has them."""
        now = time.monotonic()
        self._young = {arn: t for arn, t in self._young.items() if now - t < _UNLISTED_S}
        ended = set(self._listed("STOPPED")) if self._young else set()
        found = dict.fromkeys(self._listed(status))
        found |= dict.fromkeys(arn for arn in self._young if arn not in ended)
        return list(found)

    def _listed(self, status: str) -> list[str]:
        def pages() -> list[str]:
            pages = self._ecs.get_paginator("list_tasks").paginate(
                cluster=self._at["cluster"], startedBy=self._job, desiredStatus=status
            )
            return [arn for page in pages for arn in page["taskArns"]]

        return _asked(pages, "ecs:ListTasks")

    def _tasks(self, arns: Sequence[str]) -> list[dict[str, Any]]:
        return list(self._described(arns))

    def _described(self, arns: Sequence[str]) -> Iterator[dict[str, Any]]:
        for start in range(0, len(arns), _DESCRIBED_AT_ONCE):
            some = list(arns[start : start + _DESCRIBED_AT_ONCE])
            answer = _asked(
                partial(self._ecs.describe_tasks, cluster=self._at["cluster"], tasks=some),
                "ecs:DescribeTasks",
            )
            yield from answer["tasks"]


def _why(task: Mapping[str, Any]) -> str:
    """Why a task has ended, as ECS tells it."""
    reasons = [str(task.get("stoppedReason") or "no reason given")]
    for container in task.get("containers", ()):
        if container.get("reason"):
            reasons.append(str(container["reason"]))
        if container.get("exitCode"):
            reasons.append(f"exit code {container['exitCode']}")
    return "; ".join(reasons)


def _asked(question: Callable[[], T], action: str) -> T:
    """Ask AWS; its refusals as errors of ours."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return question()
    except ClientError as exc:
        found = exc.response.get("Error", {})
        code, message = found.get("Code", ""), found.get("Message", "")
        advice = ""
        if "AccessDenied" in code or "NotAuthorized" in code:
            advice = f". Whoever runs this needs {action}, which the driver's role allows"
        elif code == "ParameterAlreadyExists":
            raise ClusterError(
                "a job of this name is there already: take another name, or end it with"
                " `cloudimg cluster down`"
            ) from None
        raise ClusterError(f"AWS refused {action}: {code}: {message}{advice}") from None
    except BotoCoreError as exc:
        raise ClusterError(f"{action} did not work: {exc}") from None
