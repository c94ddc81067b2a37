"""What Kubernetes reports about Jobs and pods: whether they run, and why they do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cloudimg.cluster.manifests import Manifest

UNSCHEDULABLE_AFTER = timedelta(minutes=5)
"""Time that a pod may wait for a machine; Autopilot adds one faster, if there is capacity."""
_LOG_LINES = 3
"""Last lines of a container's log that are part of a reason."""
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
"""Reasons of waiting containers that do not pass; not ErrImagePull, after which a pull is retried.
"""


def is_deleting(manifest: Manifest) -> bool:
    """Whether an object is being deleted."""
    return "deletionTimestamp" in manifest["metadata"]


def owner_uids(manifest: Manifest) -> list[str]:
    """Identifiers of the objects with which an object is deleted."""
    return [owner["uid"] for owner in manifest["metadata"].get("ownerReferences", ())]


def outcome(job: Manifest) -> str:
    """How a Job has ended: "Complete", or why it failed; empty while it runs."""
    if _has_condition(job, "Complete"):
        return "Complete"
    if _has_condition(job, "Failed"):
        return _reason(_condition(job, "Failed")) or "Failed"
    return ""


def is_ready(pod: Manifest) -> bool:
    """Whether a pod runs and answers."""
    return not is_deleting(pod) and _has_condition(pod, "Ready")


def waits_for_machine(pod: Manifest) -> bool:
    """Whether a pod has waited for a machine for longer than Autopilot takes to add one."""
    if _condition(pod, "PodScheduled").get("reason") != "Unschedulable":
        return False
    created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    return datetime.now(UTC) - created > UNSCHEDULABLE_AFTER


def failure(pod: Manifest) -> str:
    """Why a pod has failed or will never start; empty if it has not and may."""
    status = pod.get("status", {})
    if status.get("phase") != "Failed":
        return next(_container_failures(status), "")
    if status.get("reason"):
        return _reason(status)
    if _has_condition(pod, "DisruptionTarget"):
        reason = _condition(pod, "DisruptionTarget").get("reason")
        return f"its machine was taken away ({reason})"
    return next(_container_failures(status), "no reason given")


def _container_failures(status: Mapping[str, Any]) -> Iterator[str]:
    for container in status.get("containerStatuses") or ():
        state = container.get("state", {})
        waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
        if waiting.get("reason") in _HOPELESS:
            yield _reason(waiting)
        elif terminated.get("exitCode"):
            reason = f"{terminated.get('reason') or 'Error'} (exit code {terminated['exitCode']})"
            lines = [line.strip() for line in (terminated.get("message") or "").splitlines()]
            log = " | ".join(lines[-_LOG_LINES:])
            yield f"{reason}: {log}" if log else reason


def _reason(state: Mapping[str, Any]) -> str:
    return ": ".join(str(state[name]) for name in ("reason", "message") if state.get(name))


def _has_condition(manifest: Manifest, name: str) -> bool:
    return _condition(manifest, name).get("status") == "True"


def _condition(manifest: Manifest, name: str) -> Mapping[str, Any]:
    for condition in manifest.get("status", {}).get("conditions") or ():
        if condition["type"] == name:
            return dict(condition)
    return {}
