"""Description of an account in which clusters can be started: ``cluster.json``, from Terraform."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloudimg.cluster.launcher import Launcher
from cloudimg.errors import ArgumentError
from cloudimg.errors.checked_json import checked_list, checked_text, damage
from cloudimg.settings.operating_system import require_posix
from cloudimg.storage.failures import cause_text, hide_secrets

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
"""Required fields of each kind of description, and their types."""
_TERRAFORM_TIMEOUT_S = 60
_TEXT = re.compile(r"[!-~]+")
"""Printable ASCII without blanks: identifiers, URLs, addresses, base64."""
_MOST_TEXTS = 256
_MOST_CHARACTERS = 2**14
_MOST_FILE_CHARACTERS = 2**20

DescriptionSource = Mapping[str, Any] | str | os.PathLike[str]
"""A description, a file that holds it, or the folder of a Terraform module."""


def read_description(source: DescriptionSource) -> Mapping[str, Any]:
    """Read a description and check its fields.

    Parameters
    ----------
    source : mapping, str or path
        The output itself, a file with it (``terraform output -json cloudimg_cluster``, or all
        outputs), or the folder of the Terraform module, for which ``terraform output`` is run.

    Returns
    -------
    mapping

    Raises
    ------
    ArgumentError
        If it is not a description, or cannot be read.
    """
    content = source if isinstance(source, Mapping) else _read_json(Path(source))
    output = content.get(OUTPUT)
    if isinstance(output, Mapping):  # all outputs of the module, each with its type
        value = output.get("value", output)
        content = value if isinstance(value, Mapping) else {}
    where = "the description of the cluster" if isinstance(source, Mapping) else str(source)
    kind = content.get("kind")
    version = content.get("version")
    is_known = version == _VERSION and not isinstance(version, bool)
    if not is_known or not isinstance(kind, str) or kind not in _FIELDS:
        raise ArgumentError(
            f"{where} is not the output {OUTPUT!r} of cloudimg's Terraform modules (version"
            f" {_VERSION}, kind {' or '.join(_FIELDS)}): make it with"
            f" `terraform output -json {OUTPUT} > cluster.json`"
        )
    for name, required in _FIELDS[kind].items():
        if not isinstance(content.get(name), required):
            raise ArgumentError(f"{where}: {name} is missing or is not a {required.__name__}")
        _check_texts(content[name], name, where)
    return content


def _check_texts(value: Any, name: str, where: str) -> None:
    """Check names, addresses and the like, which become parts of requests.

    Raises
    ------
    ArgumentError
        If one is empty, too long, or has characters that none of them has.
    """
    invalid = ""
    try:
        texts = [value] if isinstance(value, str) else checked_list(value, name, most=_MOST_TEXTS)
        for text in texts:
            checked_text(text, name, most=_MOST_CHARACTERS, pattern=_TEXT)
            if ".." in text.split("/"):
                raise ValueError(f"{name} has a part '..'")
    except ValueError as exc:
        invalid = damage(exc)
    if invalid:
        raise ArgumentError(f"{where}: {invalid}")


def _read_json(path: Path) -> dict[str, Any]:
    text = _terraform_output(path) if path.is_dir() else _read_text(path)
    invalid = None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as exc:  # not chained, because it holds the text
        invalid = ArgumentError(f"{path} is not valid JSON: {exc}", cause=cause_text(exc))
    if invalid is not None:
        raise invalid
    if not isinstance(content, dict):
        raise ArgumentError(f"{path} is not a JSON object")
    return content


def _read_text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MOST_FILE_CHARACTERS + 1)
        if len(text) <= _MOST_FILE_CHARACTERS:
            return text
        error = ArgumentError(f"{path} is larger than any description of a cluster")
    except (OSError, UnicodeDecodeError) as exc:  # not chained: the latter holds the content
        error = ArgumentError(f"{path} cannot be read: {exc}", cause=cause_text(exc))
    raise error


def _terraform_output(folder: Path) -> str:
    program = shutil.which("terraform")
    if program is None:
        raise ArgumentError(
            f"{folder} is a folder, and its Terraform output cannot be read because terraform is"
            " not installed: pass a file with the output instead"
        )
    finished = None
    with contextlib.suppress(subprocess.TimeoutExpired):  # which holds the output
        finished = subprocess.run(
            [program, f"-chdir={folder}", "output", "-json", OUTPUT],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TERRAFORM_TIMEOUT_S,
        )
    if finished is None:
        raise ArgumentError(
            f"`terraform output` in {folder} did not finish within {_TERRAFORM_TIMEOUT_S} s",
            cause="TimeoutExpired",
        )
    if finished.returncode:
        raise ArgumentError(
            f"the Terraform module in {folder} has no output {OUTPUT!r} (was it applied?):"
            f" {hide_secrets(finished.stderr.strip())}"
        )
    return finished.stdout


def launcher_of(description: Mapping[str, Any], job: str) -> Launcher:
    """Launcher of a job in the cloud that a description is for.

    Raises
    ------
    ArgumentError
        On an operating system that has no clusters.
    """
    require_posix("clusters")
    if description["kind"] == "aws-ecs":
        from cloudimg.cluster.ecs import EcsLauncher

        return EcsLauncher(description, job)
    from cloudimg.cluster.gke import GkeLauncher

    return GkeLauncher(description, job)
