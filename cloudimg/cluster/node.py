"""What runs in the containers of a job: fetches the certificate, then becomes Dask.

``python -m cloudimg.cluster.node scheduler`` or ``... worker tls://10.0.1.2:8786``, told by the
environment:

===========================  ==================================================================
CLOUDIMG_TLS_PARAMETER       parameter of AWS Systems Manager with the certificate of the job, or
CLOUDIMG_TLS_DIR             the folder where it lies as ``tls.json``
CLOUDIMG_ADDRESS_PARAMETER   parameter for the scheduler's address (AWS)
CLOUDIMG_IDLE_TIMEOUT_S      seconds without work after which a scheduler ends; default 1800
CLOUDIMG_WORKER_THREADS      default: the processors
CLOUDIMG_WORKER_MEMORY       such as 16GiB; default: what the machine has
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
from cloudimg.cluster.tls import Tls

_WHAT_IS_MY_ADDRESS = "https://checkip.amazonaws.com"
"""Amazon's own: a task cannot see the public address that it was given."""
_PATIENCE_S = 10
_SECRET_PATIENCE_S = 120
_NO_PAGES = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0")
"""Dask opens the port of its pages in any case; here nobody can reach it."""
_QUIET = {
    # Status pages over plain HTTP are nothing for a cluster that talks TLS alone.
    "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": "[]",
    "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]",
    "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true",
    # The scheduler's memory of transitions would be the largest thing in it (docs/scale.md).
    "DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "1000",
}


def main(arguments: Sequence[str]) -> None:
    """Become a scheduler or a worker; does not return.

    Parameters
    ----------
    arguments : sequence of str
        ``["scheduler"]``, or ``["worker", ADDRESS]``.
    """
    role, *rest = arguments or [""]
    if (role, len(rest)) not in {("scheduler", 0), ("worker", 1)}:
        raise SystemExit("usage: python -m cloudimg.cluster.node scheduler | worker ADDRESS")
    security = _tls_options(_find_tls())
    if role == "scheduler":
        _publish_address()
        words = ["scheduler", *_scheduler_options()]
    else:
        words = ["worker", rest[0], *_worker_options()]
    os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
    os.execv(sys.executable, [sys.executable, "-m", "dask", *words, *security])


def _find_tls() -> Tls:
    """The certificate of the job; waits for it for a while, as it may come after the machine."""
    deadline = time.monotonic() + _SECRET_PATIENCE_S
    name, folder = os.environ.get("CLOUDIMG_TLS_PARAMETER"), os.environ.get("CLOUDIMG_TLS_DIR")
    if name:
        return Tls.from_json(_parameters().get_parameter(Name=name, WithDecryption=True)
                             ["Parameter"]["Value"])  # fmt: skip
    if not folder:
        raise SystemExit("neither CLOUDIMG_TLS_PARAMETER nor CLOUDIMG_TLS_DIR is set")
    path = Path(folder) / "tls.json"
    while not path.exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"{path} does not appear")
        time.sleep(1)
    return Tls.from_json(path.read_text(encoding="utf-8"))


def _tls_options(tls: Tls) -> list[str]:
    folder = Path(tempfile.mkdtemp(prefix="cloudimg-tls-"))  # for this user alone
    options = []
    for name, text in (("ca-file", tls.certificate), ("cert", tls.certificate), ("key", tls.key)):
        path = folder / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        options += [f"--tls-{name}", str(path)]
    return options


def _scheduler_options() -> list[str]:
    idle_s = os.environ.get("CLOUDIMG_IDLE_TIMEOUT_S", "1800")
    port = os.environ.get("CLOUDIMG_SCHEDULER_PORT", str(SCHEDULER_PORT))
    return ["--protocol", "tls", "--port", port, *_NO_PAGES, "--idle-timeout", f"{idle_s}s"]


def _worker_options() -> list[str]:
    threads = os.environ.get("CLOUDIMG_WORKER_THREADS", str(os.cpu_count() or 1))
    memory = os.environ.get("CLOUDIMG_WORKER_MEMORY", "auto")
    return [
        *("--nworkers", "1", "--nthreads", threads, "--memory-limit", memory),
        *("--death-timeout", str(DEATH_TIMEOUT_S), *_NO_PAGES, "--protocol", "tls"),
        *("--local-directory", tempfile.gettempdir()),
    ]


def _publish_address() -> None:
    """Tell who started this where it will answer."""
    name = os.environ.get("CLOUDIMG_ADDRESS_PARAMETER")
    if not name:
        return
    port = os.environ.get("CLOUDIMG_SCHEDULER_PORT", str(SCHEDULER_PORT))
    public = _public_address()
    told = {
        "workers": f"tls://{_own_address()}:{port}",
        "client": None if public is None else f"tls://{public}:{port}",
    }
    _parameters().put_parameter(Name=name, Value=json.dumps(told), Type="String", Overwrite=True)


def _own_address() -> str:
    """Of this machine in its network."""
    metadata = os.environ.get("ECS_CONTAINER_METADATA_URI_V4")
    if metadata:
        with urllib.request.urlopen(metadata, timeout=_PATIENCE_S) as answer:
            networks = json.load(answer)["Networks"]
        return str(networks[0]["IPv4Addresses"][0])
    return socket.gethostbyname(socket.gethostname())


def _public_address() -> str | None:
    """What the world sees this machine as; None where it cannot be asked."""
    try:
        with urllib.request.urlopen(_WHAT_IS_MY_ADDRESS, timeout=_PATIENCE_S) as answer:
            return str(answer.read(64).decode("ascii").strip())
    except (OSError, ValueError) as exc:
        print(f"no public address: {exc}", file=sys.stderr)
        return None


def _parameters() -> Any:
    from botocore.session import get_session

    return get_session().create_client("ssm")


if __name__ == "__main__":
    main(sys.argv[1:])
