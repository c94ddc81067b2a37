"""Entry point of the containers of a job: fetches the certificate, then becomes Dask.

``python -m cloudimg.cluster.node scheduler`` or ``... worker tls://10.0.1.2:8786``, with these
environment variables:

===========================  ==================================================================
CLOUDIMG_TLS_PARAMETER       parameter of AWS Systems Manager with the certificate of the role, and
CLOUDIMG_TLS_SECRET          what decrypts it; or
CLOUDIMG_TLS_DIR             the folder that contains the certificate as ``tls.json``
CLOUDIMG_ADDRESS_PARAMETER   parameter in which a scheduler stores its address (AWS)
CLOUDIMG_IDLE_TIMEOUT_S      seconds without work after which a scheduler exits; default 1800
CLOUDIMG_WORKER_THREADS      threads of a worker; default: the number of processors
CLOUDIMG_WORKER_MEMORY       memory of a worker, such as 16GiB; default: the machine's
===========================  ==================================================================
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cloudimg.cluster.launcher import DEATH_TIMEOUT_S, SCHEDULER_PORT
from cloudimg.cluster.tls import Tls, decrypt
from cloudimg.settings.operating_system import require_posix

_ADDRESS_SERVICE = "https://checkip.amazonaws.com"
"""Answers with the public address of the caller, which a task on Fargate cannot see itself."""
_REQUEST_TIMEOUT_S = 10
_CERTIFICATE_TIMEOUT_S = 120
_NO_DASHBOARD = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0")
"""Dask opens the port of its dashboard in any case; this one cannot be reached from outside."""
_DASK_SETTINGS = {
    # No status pages: they would be served over plain HTTP.
    "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": "[]",
    "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]",
    "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true",
    # By default, the scheduler's log takes most of its memory (docs/scale.md).
    "DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "1000",
}


def main(arguments: Sequence[str]) -> None:
    """Become a scheduler or a worker; does not return.

    Parameters
    ----------
    arguments : sequence of str
        ``["scheduler"]``, or ``["worker", ADDRESS]``.

    Raises
    ------
    ArgumentError
        On an operating system where a process cannot become another.
    """
    require_posix("nodes of a cluster")
    role, *rest = arguments or [""]
    if (role, len(rest)) not in {("scheduler", 0), ("worker", 1)}:
        raise SystemExit("usage: python -m cloudimg.cluster.node scheduler | worker ADDRESS")
    security = _tls_options(_load_tls())
    if role == "scheduler":
        _publish_address()
        words = ["scheduler", *_scheduler_options()]
    else:
        words = ["worker", rest[0], *_worker_options()]
    for name, value in _DASK_SETTINGS.items():
        os.environ.setdefault(name, value)
    os.execv(sys.executable, [sys.executable, "-m", "dask", *words, *security])


def _load_tls() -> Tls:
    """Certificate of this role; waits for its file, which may appear after the container starts."""
    name, folder = os.environ.get("CLOUDIMG_TLS_PARAMETER"), os.environ.get("CLOUDIMG_TLS_DIR")
    if name:
        answer = _parameter_store().get_parameter(Name=name, WithDecryption=True)
        # Not for Dask, whose tasks can read the environment of its process.
        secret = os.environ.pop("CLOUDIMG_TLS_SECRET", "")
        return Tls.from_json(decrypt(answer["Parameter"]["Value"], secret))
    if not folder:
        raise SystemExit("neither CLOUDIMG_TLS_PARAMETER nor CLOUDIMG_TLS_DIR is set")
    path = Path(folder) / "tls.json"
    deadline = time.monotonic() + _CERTIFICATE_TIMEOUT_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"{path} did not appear within {_CERTIFICATE_TIMEOUT_S} s")
        time.sleep(1)
    return Tls.from_json(path.read_text(encoding="utf-8"))


def _tls_options(tls: Tls) -> list[str]:
    folder = Path(tempfile.mkdtemp(prefix="cloudimg-tls-"))  # readable by this user only
    options = []
    for name, text in (("ca-file", tls.authority), ("cert", tls.certificate), ("key", tls.key)):
        path = folder / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        options += [f"--tls-{name}", str(path)]
    return options


def _scheduler_options() -> list[str]:
    idle_s = os.environ.get("CLOUDIMG_IDLE_TIMEOUT_S", "1800")
    port = os.environ.get("CLOUDIMG_SCHEDULER_PORT", str(SCHEDULER_PORT))
    return ["--protocol", "tls", "--port", port, *_NO_DASHBOARD, "--idle-timeout", f"{idle_s}s"]


def _worker_options() -> list[str]:
    threads = os.environ.get("CLOUDIMG_WORKER_THREADS", str(os.cpu_count() or 1))
    memory = os.environ.get("CLOUDIMG_WORKER_MEMORY", "auto")
    return [
        *("--nworkers", "1", "--nthreads", threads, "--memory-limit", memory),
        *("--death-timeout", str(DEATH_TIMEOUT_S), *_NO_DASHBOARD, "--protocol", "tls"),
        *("--local-directory", tempfile.gettempdir()),
    ]


def _publish_address() -> None:
    """Store the address at which this scheduler will answer, if a parameter is named for it."""
    name = os.environ.get("CLOUDIMG_ADDRESS_PARAMETER")
    if not name:
        return
    port = os.environ.get("CLOUDIMG_SCHEDULER_PORT", str(SCHEDULER_PORT))
    public = _public_address()
    addresses = {
        "workers": f"tls://{_private_address()}:{port}",
        "client": None if public is None else f"tls://{public}:{port}",
    }
    _parameter_store().put_parameter(
        Name=name, Value=json.dumps(addresses), Type="String", Overwrite=True
    )


def _private_address() -> str:
    """Address of this machine in its own network."""
    metadata = os.environ.get("ECS_CONTAINER_METADATA_URI_V4")
    if metadata:
        with urllib.request.urlopen(metadata, timeout=_REQUEST_TIMEOUT_S) as answer:
            networks = json.load(answer)["Networks"]
        return str(networks[0]["IPv4Addresses"][0])
    return socket.gethostbyname(socket.gethostname())


def _public_address() -> str | None:
    """Address of this machine on the internet; None if that cannot be found out."""
    try:
        with urllib.request.urlopen(_ADDRESS_SERVICE, timeout=_REQUEST_TIMEOUT_S) as answer:
            return str(answer.read(64).decode("ascii").strip())
    except (OSError, ValueError) as exc:
        print(f"cannot find out the public address: {exc}", file=sys.stderr)
        return None


def _parameter_store() -> Any:
    from botocore.session import get_session

    return get_session().create_client("ssm")


if __name__ == "__main__":
    main(sys.argv[1:])
