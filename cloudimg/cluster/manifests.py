"""The Kubernetes objects of a job, as plain dicts: pure functions of where and what it is.

All but the namespace and its accounts belong to the Job of the scheduler by `ownerReferences`:
Kubernetes itself deletes them with it, whoever deletes it and whether a client is there or not.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cloudimg.cluster.launcher import SCHEDULER_PORT
from cloudimg.errors import ArgumentError

Manifest = dict[str, Any]

SCHEDULER, WORKER = "scheduler", "worker"
SCHEDULER_ACCOUNT = "cloudimg-scheduler"
TLS_FILE = "tls.json"

_JOB_LABEL, _ROLE_LABEL = "cloudimg/job", "app.kubernetes.io/component"
_TLS_DIR = "/var/run/cloudimg-tls"
_USER = 10001
"""The image's own."""
_SPOT = "cloud.google.com/gke-spot"
_SPOT_GRACE_S = 25
"""What GKE gives a pod at most when it takes a spot machine back."""
_KEPT_S = 120
"""How long a scheduler that has ended can be asked why; then all of its job is deleted."""
_SCHEDULER_RESOURCES = {"cpu": "1", "memory": "4Gi", "ephemeral-storage": "1Gi"}
_WORKER_DISK = "10Gi"
"""Dask spills there; more is not to be had of Autopilot."""
_WITHOUT_END = 1_000_000
_MEMORY = re.compile(r"[1-9][0-9]*(Ki|Mi|Gi|Ti|k|M|G|T)")
_CPU = re.compile(r"([1-9][0-9]*)(m?)")


def name_of(job: str, role: str) -> str:
    """Name of the object that has this role in a job; begins with a letter, as Services must."""
    return f"cloudimg-{job}-{role}"


def selector(job: str, role: str | None = None) -> str:
    """What lists are asked with."""
    return ",".join(f"{key}={value}" for key, value in _identity(job, role).items())


def _identity(job: str, role: str | None) -> dict[str, str]:
    return {_JOB_LABEL: job} | ({} if role is None else {_ROLE_LABEL: role})


def owner_of(scheduler_job: Mapping[str, Any]) -> Manifest:
    """The reference by which an object belongs to the Job of the scheduler, which was created."""
    metadata = scheduler_job["metadata"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": metadata["name"],
        "uid": metadata["uid"],
    }


# What outlives a job, and costs nothing


def namespace(at: Mapping[str, Any]) -> Manifest:
    """The namespace, where Kubernetes refuses pods that ask for privileges."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": at["namespace"],
            "labels": {
                "app.kubernetes.io/name": "cloudimg",
                "pod-security.kubernetes.io/enforce": "restricted",
            },
        },
    }


def service_accounts(at: Mapping[str, Any]) -> list[Manifest]:
    """One for schedulers, which may do nothing, and one for workers, which Google knows.

    Neither is for the API of Kubernetes, so its token is mounted nowhere. Workers get Google's
    tokens from the metadata server of their machine.
    """
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {
                "name": name,
                "namespace": at["namespace"],
                "labels": {"app.kubernetes.io/name": "cloudimg"},
            },
            "automountServiceAccountToken": False,
        }
        for name in (SCHEDULER_ACCOUNT, at["worker_service_account"])
    ]


# What belongs to a job


def scheduler_job(at: Mapping[str, Any], job: str) -> Manifest:
    """The Job of the scheduler, suspended: nothing runs before all that belongs to it is there.

    A scheduler that was lost is not replaced: it would know of nothing.
    """
    pod = _pod(at, job, SCHEDULER_ACCOUNT, [SCHEDULER], _SCHEDULER_RESOURCES)
    pod["containers"][0] |= {
        "ports": [{"name": "dask", "containerPort": SCHEDULER_PORT, "protocol": "TCP"}],
        "readinessProbe": {"tcpSocket": {"port": SCHEDULER_PORT}, "periodSeconds": 5},
    }
    template = _template(job, SCHEDULER, pod)
    # On ordinary machines, and Autopilot does not move it to save one.
    template["metadata"]["annotations"] = {
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"
    }
    return _object("batch/v1", "Job", at, job, SCHEDULER, owner=None) | {
        "spec": {
            "suspend": True,
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": _KEPT_S,
            "template": template,
        }
    }


def secret(at: Mapping[str, Any], job: str, tls_json: str, owner: Manifest) -> Manifest:
    """The certificate of a job with its key."""
    return _object("v1", "Secret", at, job, "tls", owner) | {
        "type": "Opaque",
        "immutable": True,
        "data": {TLS_FILE: base64.b64encode(tls_json.encode()).decode()},
    }


def worker_job(at: Mapping[str, Any], job: str, count: int, owner: Manifest) -> Manifest:
    """The Job of the workers, which Kubernetes keeps at `count` until the scheduler's Job goes.

    It is never complete by itself. With `completions` unset, the first pod that ends well would
    tell that there is nothing more to do; but so ends a worker that is asked to leave its machine,
    and it must be replaced while the others work. Failures, such as too little memory, must not
    add up to an end of the whole in a job of days either, hence the limits without end; those that
    come of a machine that was taken back do not even count. What ends it is its owner: deleted by
    `stop`, or by Kubernetes a while after the scheduler has ended. Workers that are started in
    between find no scheduler and end after their death timeout.
    """
    resources = {
        "cpu": at["worker_cpu"],
        "memory": at["worker_memory"],
        "ephemeral-storage": _WORKER_DISK,
    }
    service = f"{name_of(job, SCHEDULER)}.{at['namespace']}.svc"
    arguments = [WORKER, f"tls://{service}:{SCHEDULER_PORT}"]
    pod = _pod(at, job, at["worker_service_account"], arguments, resources) | {
        "nodeSelector": {_SPOT: "true"},
        "tolerations": [
            {"key": _SPOT, "operator": "Equal", "value": "true", "effect": "NoSchedule"}
        ],
        "terminationGracePeriodSeconds": _SPOT_GRACE_S,
    }
    pod["containers"][0]["env"] += [
        {"name": "CLOUDIMG_WORKER_THREADS", "value": str(_threads(at["worker_cpu"]))},
        {"name": "CLOUDIMG_WORKER_MEMORY", "value": _dask_memory(at["worker_memory"])},
    ]
    return _object("batch/v1", "Job", at, job, WORKER, owner | {"blockOwnerDeletion": True}) | {
        "spec": {
            "parallelism": count,
            "completions": _WITHOUT_END,
            "backoffLimit": _WITHOUT_END,
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    }
                ]
            },
            "template": _template(job, WORKER, pod),
        }
    }


def services(at: Mapping[str, Any], job: str, owner: Manifest) -> list[Manifest]:
    """The name of the scheduler inside; an address outside only where someone may come from."""
    ports = [{"name": "dask", "port": SCHEDULER_PORT, "targetPort": SCHEDULER_PORT}]
    shared = {"selector": _identity(job, SCHEDULER), "ports": ports}
    inside = _object("v1", "Service", at, job, SCHEDULER, owner)
    found = [inside | {"spec": {**shared, "clusterIP": "None"}}]
    if at["admin_cidr"]:
        outside = {
            "type": "LoadBalancer",
            "loadBalancerSourceRanges": list(at["admin_cidr"]),
            # Else packets come from machines of the cluster, and no policy knows from whom.
            "externalTrafficPolicy": "Local",
        }
        found.append(
            _object("v1", "Service", at, job, "client", owner) | {"spec": {**shared, **outside}}
        )
    return found


def network_policies(at: Mapping[str, Any], job: str, owner: Manifest) -> list[Manifest]:
    """Members of a job reach each other; clients reach the port of the scheduler, nothing else."""
    members = {"podSelector": {"matchLabels": _identity(job, None)}}
    found = [_policy(at, job, "members", owner, members, [{"from": [members]}])]
    if at["admin_cidr"]:
        scheduler = {"podSelector": {"matchLabels": _identity(job, SCHEDULER)}}
        clients = {
            "from": [{"ipBlock": {"cidr": cidr}} for cidr in at["admin_cidr"]],
            "ports": [{"protocol": "TCP", "port": SCHEDULER_PORT}],
        }
        found.append(_policy(at, job, "client", owner, scheduler, [clients]))
    return found


def _policy(
    at: Mapping[str, Any],
    job: str,
    role: str,
    owner: Manifest,
    pods: Manifest,
    ingress: Sequence[Manifest],
) -> Manifest:
    return _object("networking.k8s.io/v1", "NetworkPolicy", at, job, role, owner) | {
        "spec": {**pods, "policyTypes": ["Ingress"], "ingress": list(ingress)}
    }


def _object(
    version: str, kind: str, at: Mapping[str, Any], job: str, role: str, owner: Manifest | None
) -> Manifest:
    metadata: Manifest = {
        "name": name_of(job, role),
        "namespace": at["namespace"],
        "labels": {"app.kubernetes.io/name": "cloudimg", **_identity(job, role)},
    }
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _template(job: str, role: str, pod: Manifest) -> Manifest:
    labels = {"app.kubernetes.io/name": "cloudimg", **_identity(job, role)}
    return {"metadata": {"labels": labels}, "spec": pod}


def _pod(
    at: Mapping[str, Any],
    job: str,
    account: str,
    arguments: Sequence[str],
    resources: Mapping[str, str],
) -> Manifest:
    """What both roles have in common."""
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        # Else each Service becomes variables, some with names that are cloudimg's own.
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,  # may read the certificate
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(at, arguments, resources)],
        "volumes": [
            {"name": "tls", "secret": {"secretName": name_of(job, "tls"), "defaultMode": 0o440}},
            {"name": "tmp", "emptyDir": {"sizeLimit": resources["ephemeral-storage"]}},
        ],
    }


def _container(
    at: Mapping[str, Any], arguments: Sequence[str], resources: Mapping[str, str]
) -> Manifest:
    environment = {
        "CLOUDIMG_TLS_DIR": _TLS_DIR,
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true",
    }
    return {
        "name": "cloudimg",
        "image": at["image"],
        "args": list(arguments),
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tls", "mountPath": _TLS_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",  # tells why it ended
    }


def _threads(cpu: str) -> int:
    """Of a quantity of Kubernetes: ``"4"``, ``"3500m"``."""
    found = _CPU.fullmatch(cpu)
    if found is None:
        raise ArgumentError(f'worker_cpu={cpu!r} must be a number, such as "4" or "3500m"')
    number = int(found[1])
    return max(1, number // 1000) if found[2] else number


def _dask_memory(memory: str) -> str:
    """Of a quantity of Kubernetes, as Dask writes it: ``"16Gi"`` is ``"16GiB"``."""
    if _MEMORY.fullmatch(memory) is None:
        raise ArgumentError(f'worker_memory={memory!r} must be a size, such as "16Gi"')
    return f"{memory}B"
