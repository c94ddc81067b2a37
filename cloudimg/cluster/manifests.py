"""The Kubernetes objects of a job as plain dicts: pure functions of description, name and options.

All but the namespace and its service accounts are owned by the Job of the scheduler, through
`ownerReferences`: Kubernetes deletes them together with that Job, without any client.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cloudimg.cluster.launcher import SCHEDULER_PORT
from cloudimg.errors import ArgumentError

Manifest = dict[str, Any]

CLIENT, SCHEDULER, WORKER = "client", "scheduler", "worker"
SCHEDULER_ACCOUNT = "cloudimg-scheduler"
TLS_FILE = "tls.json"

_JOB_LABEL, _ROLE_LABEL = "cloudimg/job", "app.kubernetes.io/component"
_TLS_DIR = "/var/run/cloudimg-tls"
_USER = 10001
"""User of the image, which is not root."""
_SPOT = "cloud.google.com/gke-spot"
_SPOT_GRACE_S = 25
"""Longest time that GKE gives a pod when it reclaims a spot machine."""
_KEPT_S = 120
"""Seconds for which an ended scheduler is kept, for its reason; then all of its job is deleted."""
_SCHEDULER_RESOURCES = {"cpu": "1", "memory": "4Gi", "ephemeral-storage": "1Gi"}
_WORKER_DISK = "10Gi"
"""Dask spills there. Autopilot allows no more."""
_UNLIMITED = 1_000_000
_MEMORY = re.compile(r"[1-9][0-9]*(Ki|Mi|Gi|Ti|k|M|G|T)")
_CPU = re.compile(r"([1-9][0-9]*)(m?)")


def name_of(job: str, role: str) -> str:
    """Name of the object with this role in a job; begins with a letter, as Services must."""
    return f"cloudimg-{job}-{role}"


def tls_name(role: str) -> str:
    """End of the name of the Secret with the certificate of a role."""
    return f"{role}-tls"


def scheduler_address(description: Mapping[str, Any], job: str) -> str:
    """Address of the scheduler within the Kubernetes cluster."""
    return f"tls://{name_of(job, SCHEDULER)}.{description['namespace']}.svc:{SCHEDULER_PORT}"


def selector(job: str, role: str | None = None) -> str:
    """Label selector for the objects of a job, or of one role in it."""
    return ",".join(f"{key}={value}" for key, value in _identity(job, role).items())


def _identity(job: str, role: str | None) -> dict[str, str]:
    return {_JOB_LABEL: job} | ({} if role is None else {_ROLE_LABEL: role})


def owner_of(scheduler_job: Mapping[str, Any]) -> Manifest:
    """Owner reference to the Job of the scheduler, as read from Kubernetes."""
    metadata = scheduler_job["metadata"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": metadata["name"],
        "uid": metadata["uid"],
    }


# Objects that outlive a job, and cost nothing


def namespace(description: Mapping[str, Any]) -> Manifest:
    """Namespace of all jobs, in which Kubernetes refuses pods that ask for privileges."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": description["namespace"],
            "labels": {
                "app.kubernetes.io/name": "cloudimg",
                "pod-security.kubernetes.io/enforce": "restricted",
            },
        },
    }


def service_accounts(description: Mapping[str, Any]) -> list[Manifest]:
    """Accounts of schedulers, without any rights, and of workers, with rights in Google Cloud.

    Neither uses the API of Kubernetes, so no token for it is mounted. Workers get Google's tokens
    from the metadata server of their machine.
    """
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {
                "name": name,
                "namespace": description["namespace"],
                "labels": {"app.kubernetes.io/name": "cloudimg"},
            },
            "automountServiceAccountToken": False,
        }
        for name in (SCHEDULER_ACCOUNT, description["worker_service_account"])
    ]


# Objects of one job


def scheduler_job(description: Mapping[str, Any], job: str) -> Manifest:
    """Job of the scheduler, suspended: nothing may run before the objects that it owns exist.

    A scheduler that is lost is not replaced, because a new one would not know the work.
    """
    pod = _pod(description, job, SCHEDULER_ACCOUNT, [SCHEDULER], _SCHEDULER_RESOURCES)
    pod["containers"][0] |= {
        "ports": [{"name": "dask", "containerPort": SCHEDULER_PORT, "protocol": "TCP"}],
        "readinessProbe": {"tcpSocket": {"port": SCHEDULER_PORT}, "periodSeconds": 5},
    }
    template = _template(job, SCHEDULER, pod)
    # On a regular machine, and Autopilot must not evict it to save one.
    template["metadata"]["annotations"] = {
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"
    }
    return _object("batch/v1", "Job", description, job, SCHEDULER, owner=None) | {
        "spec": {
            "suspend": True,
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": _KEPT_S,
            "template": template,
        }
    }


def secret(
    description: Mapping[str, Any], job: str, role: str, tls_json: str, owner: Manifest
) -> Manifest:
    """Secret with the certificate of a role in a job, and its key."""
    return _object("v1", "Secret", description, job, tls_name(role), owner) | {
        "type": "Opaque",
        "immutable": True,
        "data": {TLS_FILE: base64.b64encode(tls_json.encode()).decode()},
    }


def worker_job(description: Mapping[str, Any], job: str, count: int, owner: Manifest) -> Manifest:
    """Job of the workers, which Kubernetes keeps at `count` until the scheduler's Job is deleted.

    It never completes by itself. With `completions` unset, the first pod that exits successfully
    would mean that the work is done; but a worker that is asked to leave its machine also exits
    successfully, and must be replaced while the others go on. Failures, such as too little memory,
    must not add up to a failure of a Job that runs for days, hence the very high limits; failures
    because a machine was reclaimed do not even count. The Job ends with its owner, which is deleted
    by `stop`, or by Kubernetes a while after the scheduler has ended. Workers that are started in
    between find no scheduler and exit after their death timeout.
    """
    resources = {
        "cpu": description["worker_cpu"],
        "memory": description["worker_memory"],
        "ephemeral-storage": _WORKER_DISK,
    }
    arguments = [WORKER, scheduler_address(description, job)]
    pod = _pod(description, job, description["worker_service_account"], arguments, resources) | {
        "nodeSelector": {_SPOT: "true"},
        "tolerations": [
            {"key": _SPOT, "operator": "Equal", "value": "true", "effect": "NoSchedule"}
        ],
        "terminationGracePeriodSeconds": _SPOT_GRACE_S,
    }
    pod["containers"][0]["env"] += [
        {"name": "CLOUDIMG_WORKER_THREADS", "value": str(_threads(description["worker_cpu"]))},
        {"name": "CLOUDIMG_WORKER_MEMORY", "value": _dask_memory(description["worker_memory"])},
    ]
    return _object(
        "batch/v1", "Job", description, job, WORKER, owner | {"blockOwnerDeletion": True}
    ) | {
        "spec": {
            "parallelism": count,
            "completions": _UNLIMITED,
            "backoffLimit": _UNLIMITED,
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


def services(description: Mapping[str, Any], job: str, owner: Manifest) -> list[Manifest]:
    """Service of the scheduler; a public one too if addresses in `admin_cidr` may connect to it."""
    ports = [{"name": "dask", "port": SCHEDULER_PORT, "targetPort": SCHEDULER_PORT}]
    shared = {"selector": _identity(job, SCHEDULER), "ports": ports}
    inside = _object("v1", "Service", description, job, SCHEDULER, owner)
    manifests = [inside | {"spec": {**shared, "clusterIP": "None"}}]
    if description["admin_cidr"]:
        outside = {
            "type": "LoadBalancer",
            "loadBalancerSourceRanges": list(description["admin_cidr"]),
            # Keeps the client's address, on which the network policy depends.
            "externalTrafficPolicy": "Local",
        }
        manifests.append(
            _object("v1", "Service", description, job, "client", owner)
            | {"spec": {**shared, **outside}}
        )
    return manifests


def network_policies(description: Mapping[str, Any], job: str, owner: Manifest) -> list[Manifest]:
    """Allow connections between members of a job, and from clients to the scheduler's port only."""
    members = {"podSelector": {"matchLabels": _identity(job, None)}}
    policies = [_policy(description, job, "members", owner, members, [{"from": [members]}])]
    if description["admin_cidr"]:
        scheduler = {"podSelector": {"matchLabels": _identity(job, SCHEDULER)}}
        clients = {
            "from": [{"ipBlock": {"cidr": cidr}} for cidr in description["admin_cidr"]],
            "ports": [{"protocol": "TCP", "port": SCHEDULER_PORT}],
        }
        policies.append(_policy(description, job, "client", owner, scheduler, [clients]))
    return policies


def _policy(
    description: Mapping[str, Any],
    job: str,
    role: str,
    owner: Manifest,
    pods: Manifest,
    ingress: Sequence[Manifest],
) -> Manifest:
    return _object("networking.k8s.io/v1", "NetworkPolicy", description, job, role, owner) | {
        "spec": {**pods, "policyTypes": ["Ingress"], "ingress": list(ingress)}
    }


def _object(
    version: str,
    kind: str,
    description: Mapping[str, Any],
    job: str,
    role: str,
    owner: Manifest | None,
) -> Manifest:
    metadata: Manifest = {
        "name": name_of(job, role),
        "namespace": description["namespace"],
        "labels": {"app.kubernetes.io/name": "cloudimg", **_identity(job, role)},
    }
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _template(job: str, role: str, pod: Manifest) -> Manifest:
    labels = {"app.kubernetes.io/name": "cloudimg", **_identity(job, role)}
    return {"metadata": {"labels": labels}, "spec": pod}


def _pod(
    description: Mapping[str, Any],
    job: str,
    account: str,
    arguments: Sequence[str],
    resources: Mapping[str, str],
) -> Manifest:
    """Pod of a scheduler or worker."""
    secret_name = name_of(job, tls_name(arguments[0]))
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        # Otherwise each Service becomes variables, some of them named like cloudimg's own.
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,  # to read the certificate
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(description, arguments, resources)],
        "volumes": [
            {"name": "tls", "secret": {"secretName": secret_name, "defaultMode": 0o440}},
            {"name": "tmp", "emptyDir": {"sizeLimit": resources["ephemeral-storage"]}},
        ],
    }


def _container(
    description: Mapping[str, Any], arguments: Sequence[str], resources: Mapping[str, str]
) -> Manifest:
    environment = {
        "CLOUDIMG_TLS_DIR": _TLS_DIR,
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true",
    }
    return {
        "name": "cloudimg",
        "image": description["image"],
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
        "terminationMessagePolicy": "FallbackToLogsOnError",  # so the log shows in its status
    }


def _threads(cpu: str) -> int:
    """Threads for a Kubernetes quantity of processors, such as ``"4"`` or ``"3500m"``."""
    match = _CPU.fullmatch(cpu)
    if match is None:
        raise ArgumentError(f'worker_cpu={cpu!r} must be a number, such as "4" or "3500m"')
    number = int(match[1])
    return max(1, number // 1000) if match[2] else number


def _dask_memory(memory: str) -> str:
    """A Kubernetes quantity of memory as Dask writes it: ``"16GiB"`` for ``"16Gi"``."""
    if _MEMORY.fullmatch(memory) is None:
        raise ArgumentError(f'worker_memory={memory!r} must be a size, such as "16Gi"')
    return f"{memory}B"
