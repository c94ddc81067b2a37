"""Jobs on Google Kubernetes Engine: a scheduler, and workers on spot machines.

The Job of the scheduler owns all other objects of a job through `ownerReferences`. It is created
first and suspended, then the objects that it owns are created, and only then it is resumed. So if a
client dies on the way, what it leaves behind either runs nothing or ends without it.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Mapping
from typing import Any

from cloudimg.cluster import manifests
from cloudimg.cluster.kubernetes_api import KubernetesApi, connect
from cloudimg.cluster.kubernetes_status import (
    UNSCHEDULABLE_AFTER,
    failure,
    is_deleting,
    is_ready,
    outcome,
    owner_uids,
    waits_for_machine,
)
from cloudimg.cluster.launcher import SCHEDULER_PORT, Addresses, Fleet
from cloudimg.cluster.manifests import CLIENT, SCHEDULER, WORKER, Manifest
from cloudimg.cluster.tls import JobTls, Tls
from cloudimg.errors import ClusterError

_DELETION_S = 180
"""Limit for objects to be deleted: pods have 25 s, a load balancer takes a minute or two."""
_PAUSE_S = 1.0
_LASTING_REFUSALS = 3
"""Number of refusals to create a pod after which the reason is taken to last."""


class GkeLauncher:
    """Starts and stops the pods of one job; see `cloudimg.cluster.launcher.Launcher`.

    Parameters
    ----------
    description : mapping
        The output of ``terraform/gcp``.
    job : str
    api_client : kubernetes.client.ApiClient, optional
        By default one for the cluster of the description, with Google's default credentials.
    """

    def __init__(self, description: Mapping[str, Any], job: str, *, api_client: Any = None) -> None:
        self._description = description
        self._job = job
        self._api = KubernetesApi(api_client or connect(description), description)
        self._starting = threading.Lock()
        self._is_stopped = False

    @property
    def job(self) -> str:
        return self._job

    def store_tls(self, tls: JobTls) -> None:
        description = self._description
        for manifest in (
            manifests.namespace(description),
            *manifests.service_accounts(description),
        ):
            existing = self._api.read(manifest["kind"], manifest["metadata"]["name"])
            if existing is None or is_deleting(existing):
                self._create(manifest)
        is_new = self._create(manifests.scheduler_job(description, self._job))
        if not is_new and self.load_tls() != tls.client:
            raise ClusterError(
                f"there is already a job {self._job!r}: choose another name, or stop it with"
                " `cloudimg cluster down`"
            )
        owner = self._owner()
        for role, its_tls in ((CLIENT, tls.client), *tls.of_tasks().items()):
            text = its_tls.to_json()
            self._create(manifests.secret(description, self._job, role, text, owner))

    def load_tls(self) -> Tls | None:
        secret = self._api.read("Secret", self._name(manifests.tls_name(CLIENT)))
        if secret is None or is_deleting(secret):
            return None
        try:
            text = base64.b64decode(secret["data"][manifests.TLS_FILE]).decode()
        except (KeyError, TypeError, ValueError) as exc:
            cause = type(exc).__name__  # a UnicodeDecodeError holds the bytes of the key
        else:
            return Tls.from_json(text)
        raise ClusterError(f"the Secret of {self._job} does not hold a certificate", cause=cause)

    def start_scheduler(self) -> None:
        owner = self._owner()
        for manifest in (
            *manifests.network_policies(self._description, self._job, owner),
            *manifests.services(self._description, self._job, owner),
        ):
            self._create(manifest)
        with self._starting:
            if not self._is_stopped:
                self._api.replace("Job", self._name(SCHEDULER), "/spec/suspend", False)

    def find_scheduler(self) -> Addresses | None:
        job = self._scheduler()
        pods = self._pods(SCHEDULER)
        reasons = [reason for pod in pods if (reason := failure(pod))]
        if not pods:
            reasons = self._refusals(job)
        if reasons:
            raise ClusterError(f"the scheduler of {self._job} does not run: {'; '.join(reasons)}")
        if not any(map(is_ready, pods)):
            return None
        service = manifests.scheduler_address(self._description, self._job)
        if not self._description["admin_cidr"]:
            return Addresses(service, None)
        public = self._public_ip()
        return None if public is None else Addresses(service, f"tls://{public}:{SCHEDULER_PORT}")

    def keep_workers(self, count: int) -> Fleet:
        owner = self._owner()
        name = self._name(WORKER)
        job = self._api.read("Job", name)
        if job is not None and outcome(job):
            self._api.delete("Job", name)
            job = None
        if job is None or is_deleting(job):
            self._create(manifests.worker_job(self._description, self._job, count, owner))
        elif job["spec"].get("parallelism", 1) < count:
            self._api.replace("Job", name, "/spec/parallelism", count)
        return self.look()

    def look(self) -> Fleet:
        job = self._api.read("Job", self._name(WORKER))
        if job is None:
            return Fleet(0, 0)
        n_running = job.get("status", {}).get("ready") or 0
        is_active = not is_deleting(job) and not outcome(job)
        n_requested = job["spec"].get("parallelism", 1) if is_active else 0
        n_starting = max(0, n_requested - n_running)
        return Fleet(n_running, n_starting, self._problems(job, n_starting))

    def stop(self) -> None:
        with self._starting:  # waits for a request in flight
            self._is_stopped = True
        deadline = time.monotonic() + _DELETION_S
        # Jobs are deleted in the foreground: a Job remains for as long as one of its pods does.
        while jobs := self._list("Job"):
            for job in jobs:  # in every round: the workers' Job may have been created meanwhile
                if not is_deleting(job):
                    self._api.delete("Job", job["metadata"]["name"])
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"pods of {self._job} are still being deleted: run `cloudimg cluster down` to"
                    " check again"
                )
            time.sleep(_PAUSE_S)
        # Deleted with the scheduler's Job, unless someone deleted that without what it owns.
        for kind in ("Secret", "Service", "NetworkPolicy"):
            for manifest in self._list(kind):
                self._api.delete(kind, manifest["metadata"]["name"])

    def _name(self, role: str) -> str:
        return manifests.name_of(self._job, role)

    def _scheduler(self) -> Manifest:
        """The Job of the scheduler.

        Raises
        ------
        ClusterError
            If it has ended, or there is none.
        """
        job = self._api.read("Job", self._name(SCHEDULER))
        if job is None:
            raise ClusterError(f"{self._job} has no scheduler")
        if is_deleting(job):
            raise ClusterError(f"the scheduler of {self._job} is being deleted")
        ended = outcome(job)
        if not ended:
            return job
        if ended == "Complete":
            raise ClusterError(f"the scheduler of {self._job} has ended because it was idle")
        reasons = [reason for pod in self._pods(SCHEDULER) if (reason := failure(pod))]
        raise ClusterError(f"the scheduler of {self._job} has ended: {'; '.join(reasons) or ended}")

    def _owner(self) -> Manifest:
        return manifests.owner_of(self._scheduler())

    def _create(self, manifest: Manifest) -> bool:
        """Create an object; False if it exists. Waits for an earlier one that is being deleted."""
        deadline = time.monotonic() + _DELETION_S
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        while not self._create_once(manifest):
            existing = self._api.read(kind, name)
            if (
                existing is not None
                and not is_deleting(existing)
                and owner_uids(existing) == owner_uids(manifest)
            ):
                return False
            if time.monotonic() > deadline:
                raise ClusterError(f"{kind} {name} of an earlier job is still being deleted")
            time.sleep(_PAUSE_S)
        return True

    def _create_once(self, manifest: Manifest) -> bool:
        with self._starting:
            if self._is_stopped:
                raise ClusterError(f"{self._job} is over: nothing more is started for it")
            return self._api.create(manifest)

    def _list(self, kind: str) -> list[Manifest]:
        return self._api.list(kind, label_selector=manifests.selector(self._job))

    def _pods(self, role: str, fields: str = "") -> list[Manifest]:
        labels = manifests.selector(self._job, role)
        return self._api.list("Pod", label_selector=labels, field_selector=fields)

    def _public_ip(self) -> str | None:
        service = self._api.read("Service", self._name("client")) or {}
        ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or [{}]
        address: str | None = ingress[0].get("ip")
        return address

    def _refusals(self, job: Manifest) -> list[str]:
        """Why Kubernetes creates no pods for a Job."""
        # By its uid: events of an earlier Job of this name are kept for an hour.
        fields = f"involvedObject.uid={job['metadata']['uid']},reason=FailedCreate"
        events = self._api.list("Event", field_selector=fields)
        if sum(event.get("count") or 1 for event in events) < _LASTING_REFUSALS:
            return []
        return [f"Kubernetes refuses to create its pods: {events[-1].get('message')}"]

    def _problems(self, job: Manifest, n_starting: int) -> tuple[str, ...]:
        """Why workers do not start, and why some have ended; each reason once."""
        problems: list[str] = []
        pods = self._pods(WORKER, "status.phase!=Running,status.phase!=Succeeded")
        for pod in pods:
            if reason := failure(pod):
                problems.append(f"a worker ended or cannot start: {reason}")
            elif waits_for_machine(pod):
                problems.append(
                    "workers have waited for a machine for more than"
                    f" {UNSCHEDULABLE_AFTER.seconds // 60} minutes: no spot machines are available,"
                    " or a quota of the project is exhausted"
                )
        if ended := outcome(job):
            problems.append(f"Kubernetes no longer replaces workers: {ended}")
        n_waiting = sum(pod.get("status", {}).get("phase") == "Pending" for pod in pods)
        if n_waiting < n_starting:
            problems += self._refusals(job)
        return tuple(dict.fromkeys(problems))
