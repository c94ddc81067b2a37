"""What a Terraform module says of the place where clusters can be started: ``cluster.json``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloudimg.cluster.launcher import Launcher
from cloudimg.errors import ArgumentError

OUTPUT = "cloudimg_cluster"
"""Name of the output of ``terraform/aws`` and ``terraform/gcp``."""
_VERSION = 1
_FIELDS = {
    "aws-ecs": {
        "region": str,
        "cluster": str,
        "scheduler_task_definition": str,
        "worker_task_definition": str,
        "container": str,
        "subnets": list,
        "scheduler_security_groups": list,
        "worker_security_groups": list,
        "parameter_prefix": str,
    },
    "gcp-gke": {
        "project": str,
        "location": str,
        "cluster": str,
        "endpoint": str,
        "ca_certificate": str,
        "namespace": str,
        "worker_service_account": str,
        "image": str,
        "admin_cidr": list,
        "worker_cpu": str,
        "worker_memory": str,
    },
}
"""What each kind must say, and of which type."""
_PATIENCE_S = 60

Described = Mapping[str, Any] | str | os.PathLike[str]


def describe(given: Described) -> Mapping[str, Any]:
    """Read a description.

    Parameters
    ----------
    given : mapping, str or path
        The output itself, a file with it (``terraform output -json cloudimg_cluster``, or all
        outputs), or the folder of the Terraform module, whose output is asked for.

    Returns
    -------
    mapping

    Raises
    ------
    ArgumentError
        If it is none.
    """
    found = given if isinstance(given, Mapping) else _read(Path(given))
    whole = found.get(OUTPUT)
    if isinstance(whole, Mapping):  # all outputs, each with its type
        inner = whole.get("value", whole)
        found = inner if isinstance(inner, Mapping) else {}
    where = "the description of the cluster" if isinstance(given, Mapping) else str(given)
    kind = found.get("kind")
    if found.get("version") != _VERSION or not isinstance(kind, str) or kind not in _FIELDS:
        raise ArgumentError(
            f"{where} is no output {OUTPUT!r} of cloudimg's Terraform modules (version {_VERSION},"
            f" kind {' or '.join(_FIELDS)}): make it with"
            f" `terraform output -json {OUTPUT} > cluster.json`"
        )
    for name, wanted in _FIELDS[kind].items():
        if not isinstance(found.get(name), wanted):
            raise ArgumentError(f"{where}: {name} is missing, or no {wanted.__name__}")
    return found


def _read(path: Path) -> dict[str, Any]:
    text = _ask_terraform(path) if path.is_dir() else _text(path)
    try:
        found = json.loads(text)
    except ValueError as exc:
        raise ArgumentError(f"{path} is no JSON: {exc}") from None
    if not isinstance(found, dict):
        raise ArgumentError(f"{path} is no JSON object")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ArgumentError(f"{path} cannot be read: {exc}") from None


def _ask_terraform(folder: Path) -> str:
    program = shutil.which("terraform")
    if program is None:
        raise ArgumentError(
            f"{folder} is a folder, and there is no terraform to ask for its output"
        )
    try:
        done = subprocess.run(
            [program, f"-chdir={folder}", "output", "-json", OUTPUT],
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        raise ArgumentError(f"terraform gave no answer in {folder} for {_PATIENCE_S} s") from None
    if done.returncode:
        raise ArgumentError(
            f"terraform gives no output {OUTPUT!r} in {folder} (was it applied?):"
            f" {done.stderr.strip()}"
        )
    return done.stdout


def launcher_of(description: Mapping[str, Any], job: str) -> Launcher:
    """Who starts machines there."""
    if description["kind"] == "aws-ecs":
        from cloudimg.cluster.ecs import EcsLauncher

        return EcsLauncher(description, job)
    from cloudimg.cluster.gke import GkeLauncher

    return GkeLauncher(description, job)
