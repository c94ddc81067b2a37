"""Jobs on Google Kubernetes Engine: a scheduler, and workers on spot machines.

All of a job hangs by `ownerReferences` on the Job of its scheduler, which is created first and
suspended, gets what belongs to it, and only then is let go. Whenever a client dies on the way,
what it leaves behind either runs nothing or ends by itself.
"""

from __future__ import annotations

import base64
import binascii
import json
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from cloudimg.cluster import manifests
from cloudimg.cluster.launcher import SCHEDULER_PORT, Addresses, Fleet
from cloudimg.cluster.manifests import SCHEDULER, WORKER, Manifest
from cloudimg.cluster.tls import Tls
from cloudimg.errors import ArgumentError, ClusterError

T = TypeVar("T")

_ROLE = "roles/container.developer"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_PATIENCE_S = (10, 30)
"""For one request: to connect, and between bytes."""
_ENDING_S = 180
"""For what is being deleted to be gone: pods have 25 s, a load balancer takes a minute or two."""
_PAUSE_S = 1.0
_WAITING_FOR_ROOM = timedelta(minutes=5)
"""Autopilot makes a machine in less, where there is one to be had."""
_REFUSALS = 3
"""Of a pod, until it is no passing trouble."""
_TOLD_LINES = 3
_HOPELESS = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
"""Reasons to wait that pass by no waiting; ErrImagePull is tried again before it is one."""
_KINDS = {
    "Event": ("CoreV1Api", "event"),
    "Job": ("BatchV1Api", "job"),
    "NetworkPolicy": ("NetworkingV1Api", "network_policy"),
    "Pod": ("CoreV1Api", "pod"),
    "Secret": ("CoreV1Api", "secret"),
    "Service": ("CoreV1Api", "service"),
    "ServiceAccount": ("CoreV1Api", "service_account"),
}
"""Kinds in a namespace: the class of the client that has them, and their name in its methods."""


class GkeLauncher:
    """Starts and ends the pods of one job; see `cloudimg.cluster.launcher.Launcher`.

    Parameters
    ----------
    description : mapping
        The output of ``terraform/gcp``.
    job : str
    api_client : kubernetes.client.ApiClient, optional
        Default: one for the cluster of the description, with Google's default credentials.
    """

    def __init__(self, description: Mapping[str, Any], job: str, *, api_client: Any = None) -> None:
        self._at = description
        self._job = job
        self._api = _Api(api_client or _connect(description), description)
        self._starting = threading.Lock()
        self._is_over = False

    @property
    def job(self) -> str:
        return self._job

    def _name(self, role: str) -> str:
        return manifests.name_of(self._job, role)

    def store_tls(self, tls: Tls) -> None:
        for manifest in (manifests.namespace(self._at), *manifests.service_accounts(self._at)):
            found = self._api.read(manifest["kind"], manifest["metadata"]["name"])
            if found is None or _is_ending(found):
                self._create(manifest)
        if not self._create(manifests.scheduler_job(self._at, self._job)) and (
            self.load_tls() != tls
        ):
            raise ClusterError(
                f"a job {self._job!r} is there already: take another name, or end it with"
                " `cloudimg cluster down`"
            )
        self._create(manifests.secret(self._at, self._job, tls.to_json(), self._owner()))

    def load_tls(self) -> Tls | None:
        found = self._api.read("Secret", self._name("tls"))
        if found is None or _is_ending(found):
            return None
        try:
            text = base64.b64decode(found["data"][manifests.TLS_FILE]).decode()
        except (KeyError, TypeError, ValueError):
            raise ClusterError(f"the Secret of {self._job} holds no certificate") from None
        return Tls.from_json(text)

    def start_scheduler(self) -> None:
        owner = self._owner()
        for manifest in (
            *manifests.network_policies(self._at, self._job, owner),
            *manifests.services(self._at, self._job, owner),
        ):
            self._create(manifest)
        with self._starting:
            if not self._is_over:
                self._api.replace("Job", self._name(SCHEDULER), "/spec/suspend", False)

    def find_scheduler(self) -> Addresses | None:
        job = self._scheduler()
        pods = self._pods(SCHEDULER)
        reasons = [why for pod in pods if (why := _failure(pod))]
        if not pods:
            reasons = self._refusals(job)
        if reasons:
            raise ClusterError(f"the scheduler of {self._job} does not run: {'; '.join(reasons)}")
        if not any(map(_is_ready, pods)):
            return None
        service = f"{self._name(SCHEDULER)}.{self._at['namespace']}.svc"
        inside = f"tls://{service}:{SCHEDULER_PORT}"
        if not self._at["admin_cidr"]:
            return Addresses(inside, None)
        outside = self._public_address()
        if outside is None:
            return None
        return Addresses(inside, f"tls://{outside}:{SCHEDULER_PORT}")

    def keep_workers(self, count: int) -> Fleet:
        owner = self._owner()
        name = self._name(WORKER)
        found = self._api.read("Job", name)
        if found is not None and _outcome(found):
            self._api.delete("Job", name)
            found = None
        if found is None or _is_ending(found):
            self._create(manifests.worker_job(self._at, self._job, count, owner))
        elif found["spec"].get("parallelism", 1) < count:
            self._api.replace("Job", name, "/spec/parallelism", count)
        return self.look()

    def look(self) -> Fleet:
        job = self._api.read("Job", self._name(WORKER))
        if job is None:
            return Fleet(0, 0)
        n_running = job.get("status", {}).get("ready") or 0
        is_kept = not _is_ending(job) and not _outcome(job)
        n_asked = job["spec"].get("parallelism", 1) if is_kept else 0
        n_starting = max(0, n_asked - n_running)
        return Fleet(n_running, n_starting, tuple(self._problems(job, n_starting)))

    def stop(self) -> None:
        with self._starting:  # a request that is under way is waited for
            self._is_over = True
        deadline = time.monotonic() + _ENDING_S
        # The deletion of a Job is foreground: as long as one of its pods is there, so is the Job.
        while jobs := self._listed("Job"):
            for found in jobs:  # each time: the workers' Job may just have been created
                if not _is_ending(found):
                    self._api.delete("Job", found["metadata"]["name"])
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"pods of {self._job} are still being ended: `cloudimg cluster down` looks"
                    " again"
                )
            time.sleep(_PAUSE_S)
        # They have gone with the scheduler's Job, unless somebody deleted that and kept them.
        for kind in ("Secret", "Service", "NetworkPolicy"):
            for found in self._listed(kind):
                self._api.delete(kind, found["metadata"]["name"])

    def _scheduler(self) -> Manifest:
        """Its Job, which has not ended."""
        job = self._api.read("Job", self._name(SCHEDULER))
        if job is None:
            raise ClusterError(f"{self._job} has no scheduler")
        if _is_ending(job):
            raise ClusterError(f"the scheduler of {self._job} is being ended")
        outcome = _outcome(job)
        if outcome == "Complete":
            raise ClusterError(
                f"the scheduler of {self._job} has ended, as it does when it had no work for long"
            )
        if outcome:
            reasons = [why for pod in self._pods(SCHEDULER) if (why := _failure(pod))]
            raise ClusterError(
                f"the scheduler of {self._job} has ended: {'; '.join(reasons) or outcome}"
            )
        return job

    def _owner(self) -> Manifest:
        return manifests.owner_of(self._scheduler())

    def _create(self, manifest: Manifest) -> bool:
        """Create an object; False if it was there. One that is being deleted is waited for."""
        deadline = time.monotonic() + _ENDING_S
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        while not self._created(manifest):
            found = self._api.read(kind, name)
            if found is not None and not _is_ending(found) and _owners(found) == _owners(manifest):
                return False
            if time.monotonic() > deadline:
                raise ClusterError(f"{kind} {name} of an earlier job is still being deleted")
            time.sleep(_PAUSE_S)
        return True

    def _created(self, manifest: Manifest) -> bool:
        with self._starting:
            if self._is_over:
                raise ClusterError(f"{self._job} is over: nothing more is started for it")
            return self._api.create(manifest)

    def _listed(self, kind: str) -> list[Manifest]:
        return self._api.list(kind, label_selector=manifests.selector(self._job))

    def _pods(self, role: str, fields: str = "") -> list[Manifest]:
        wanted = manifests.selector(self._job, role)
        return self._api.list("Pod", label_selector=wanted, field_selector=fields)

    def _public_address(self) -> str | None:
        service = self._api.read("Service", self._name("client")) or {}
        found = service.get("status", {}).get("loadBalancer", {}).get("ingress") or [{}]
        address: str | None = found[0].get("ip")
        return address

    def _refusals(self, job: Manifest) -> list[str]:
        """Why Kubernetes makes no pods of a Job."""
        # By its uid: events of an earlier Job of this name are kept for an hour.
        fields = f"involvedObject.uid={job['metadata']['uid']},reason=FailedCreate"
        events = self._api.list("Event", field_selector=fields)
        if sum(event.get("count") or 1 for event in events) < _REFUSALS:
            return []
        return [f"Kubernetes refuses its pods: {events[-1].get('message')}"]

    def _problems(self, job: Manifest, n_starting: int) -> Iterator[str]:
        """What keeps workers from running, and what ended some; each text once."""
        told: dict[str, None] = {}
        pods = self._pods(WORKER, "status.phase!=Running,status.phase!=Succeeded")
        for pod in pods:
            if why := _failure(pod):
                told[f"a worker ended or cannot start: {why}"] = None
            elif _lacks_room(pod):
                told[
                    f"workers wait for a machine for more than {_WAITING_FOR_ROOM.seconds // 60}"
                    " minutes: no spot machines are to be had, or a quota of the project is used up"
                ] = None
        if outcome := _outcome(job):
            told[f"workers are not replaced any more: {outcome}"] = None
        n_waiting = sum(pod.get("status", {}).get("phase") == "Pending" for pod in pods)
        if n_waiting < n_starting:
            told |= dict.fromkeys(self._refusals(job))
        yield from told


# What Kubernetes tells of an object


def _is_ending(found: Manifest) -> bool:
    return "deletionTimestamp" in found["metadata"]


def _owners(found: Manifest) -> list[str]:
    return [owner["uid"] for owner in found["metadata"].get("ownerReferences", ())]


def _outcome(job: Manifest) -> str:
    """How a Job has ended: "Complete", why it failed, or nothing while it lives."""
    for condition in job.get("status", {}).get("conditions") or ():
        if condition["status"] == "True" and condition["type"] == "Complete":
            return "Complete"
        if condition["status"] == "True" and condition["type"] == "Failed":
            return _joined(condition) or "Failed"
    return ""


def _failure(pod: Manifest) -> str:
    """Why a pod failed or will never start; nothing otherwise."""
    status = pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):  # told of the pod as a whole
        return _joined(status)
    disruption = _condition(pod, "DisruptionTarget")
    if status.get("phase") == "Failed" and disruption.get("status") == "True":
        return f"its machine was taken away ({disruption.get('reason')})"
    for container in status.get("containerStatuses") or ():
        state = container.get("state", {})
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        if waiting.get("reason") in _HOPELESS:
            return _joined(waiting)
        if ended.get("exitCode"):
            head = f"{ended.get('reason') or 'Error'} (exit code {ended['exitCode']})"
            lines = [line.strip() for line in (ended.get("message") or "").splitlines()]
            return ": ".join([head, *filter(None, [" | ".join(lines[-_TOLD_LINES:])])])
    return "no reason given" if status.get("phase") == "Failed" else ""


def _joined(told: Mapping[str, Any]) -> str:
    return ": ".join(str(told[name]) for name in ("reason", "message") if told.get(name))


def _condition(pod: Manifest, name: str) -> Mapping[str, Any]:
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition["type"] == name:
            return dict(condition)
    return {}


def _is_ready(pod: Manifest) -> bool:
    return not _is_ending(pod) and _condition(pod, "Ready").get("status") == "True"


def _lacks_room(pod: Manifest) -> bool:
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("reason") != "Unschedulable":
        return False
    since = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    return datetime.now(UTC) - since > _WAITING_FOR_ROOM


# Talking to Kubernetes


class _Api:
    """The few requests that are made, of plain dicts; refusals are errors of ours."""

    def __init__(self, client: Any, at: Mapping[str, Any]) -> None:
        from kubernetes import client as kubernetes

        self._at = at
        self._apis = {
            name: getattr(kubernetes, name)(client)
            for name in ("BatchV1Api", "CoreV1Api", "NetworkingV1Api")
        }

    def create(self, manifest: Manifest) -> bool:
        """False if there is one of that name."""
        return self._call("create", manifest["kind"], 409, body=manifest) is not None

    def read(self, kind: str, name: str) -> Manifest | None:
        """None if there is none."""
        return self._call("read", kind, 404, name=name)

    def list(self, kind: str, **selectors: str) -> list[Manifest]:
        given = {name: value for name, value in selectors.items() if value}
        found = self._call("list", kind, 404, **given)
        return [] if found is None else list(found["items"])

    def replace(self, kind: str, name: str, path: str, value: Any) -> None:
        patch = [{"op": "replace", "path": path, "value": value}]
        self._call("patch", kind, None, name=name, body=patch)

    def delete(self, kind: str, name: str) -> None:
        """With all that belongs to it; fine if it is not there."""
        self._call("delete", kind, 404, name=name, propagation_policy="Foreground")

    def _call(
        self, verb: str, kind: str, accepted: int | None, **arguments: Any
    ) -> Manifest | None:
        """The answer; None if it was the status that is `accepted`."""
        if kind == "Namespace":
            call = getattr(self._apis["CoreV1Api"], f"{verb}_namespace")
        else:
            api, name = _KINDS[kind]
            call = getattr(self._apis[api], f"{verb}_namespaced_{name}")
            arguments["namespace"] = self._at["namespace"]

        def ask() -> Manifest:
            # As it came: else the client logs every body for who debugs, those of Secrets too.
            answer = call(**arguments, _preload_content=False, _request_timeout=_PATIENCE_S)
            found: Manifest = json.loads(answer.data)
            return found

        return _asked(ask, f"{verb} {kind}", self._at, accepted)


def _asked(
    question: Callable[[], T], what: str, at: Mapping[str, Any], accepted: int | None
) -> T | None:
    from google.auth.exceptions import GoogleAuthError
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        return question()
    except ApiException as exc:
        if exc.status == accepted:
            return None
        raise ClusterError(_refusal(exc, what, at)) from None
    except HTTPError as exc:
        raise ClusterError(
            f"{what}: Kubernetes does not answer at {at['endpoint']}:"
            f" {getattr(exc, 'reason', None) or exc}. Is this machine's address within the module's"
            " admin_cidr?"
        ) from None
    except ValueError:
        raise ClusterError(
            f"{what}: what answers at {at['endpoint']} is not Kubernetes, perhaps a proxy"
        ) from None
    except GoogleAuthError as exc:  # its text may hold what the token server has answered
        raise ClusterError(
            f"{what}: no valid credentials of Google's ({type(exc).__name__}): run `gcloud auth"
            " application-default login`, or name a file in GOOGLE_APPLICATION_CREDENTIALS"
        ) from None


def _refusal(exc: Any, what: str, at: Mapping[str, Any]) -> str:
    """What went wrong and what to do; what was sent is not repeated."""
    head = f"Kubernetes refused {what}: {exc.status} {exc.reason}"
    if exc.status == 401:
        return f"{head}. Log in again: `gcloud auth application-default login`"
    if exc.status != 403 and what.endswith("Secret"):
        return head  # a text about a value may quote it
    message = _message(exc.body)
    if message:
        head = f"{head}: {message}"
    if exc.status == 403:
        head = f"{head}. Whoever runs this needs {_ROLE} in the project {at['project']}"
    return head


def _message(body: Any) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _connect(at: Mapping[str, Any]) -> Any:
    """A client of the cluster, logged in as Google's default credentials say."""
    try:
        import google.auth  # noqa: F401
        from kubernetes import client
    except ImportError:
        raise ArgumentError(
            "clusters on Google Cloud need the packages kubernetes and google-auth:"
            ' pip install "cloudimg-dask[gcp]"'
        ) from None
    from urllib3 import Retry

    if not at["endpoint"].startswith("https://"):
        raise ArgumentError(f"the endpoint {at['endpoint']!r} of the cluster must be https://")
    configuration = client.Configuration(host=at["endpoint"])
    configuration.refresh_api_key_hook = _login()
    configuration.api_key["authorization"] = ""  # without one, the hook is never asked
    configuration.retries = Retry(
        total=5,
        connect=2,
        other=0,  # such as a certificate that is not the cluster's
        backoff_factor=0.5,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
    )
    authority = _authority(at["ca_certificate"])
    configuration.ssl_ca_cert = str(authority)
    api_client = client.ApiClient(configuration)
    weakref.finalize(api_client, authority.unlink, missing_ok=True)
    return api_client


def _authority(encoded: str) -> Path:
    """A file with the certificate that the cluster is known by; no secret."""
    try:
        pem = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ArgumentError("ca_certificate must be PEM as base64") from None
    with tempfile.NamedTemporaryFile(prefix="cloudimg-gke-", suffix=".pem", delete=False) as file:
        file.write(pem)
    return Path(file.name)


def _login() -> Callable[[Any], None]:
    """What gives every request a token that is valid.

    A closure, for the client copies its configuration in depth.
    """
    lock = threading.Lock()
    credentials: list[Any] = []

    def refresh(configuration: Any) -> None:
        import google.auth
        import requests
        from google.auth.transport.requests import Request

        with lock, requests.Session() as session:
            if not credentials:
                credentials.append(google.auth.default(scopes=[_SCOPE])[0])
            if not credentials[0].valid:
                credentials[0].refresh(Request(session=session))
            configuration.api_key["authorization"] = f"Bearer {credentials[0].token}"

    return refresh
