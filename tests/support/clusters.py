"""Dask clusters for tests, on loopback. Nothing here knows pytest.

`local_client` starts a `LocalCluster` for tests that only need workers. A `Cluster` is started as
the machines of a job are: a scheduler and workers, each a process of its own, mutual TLS, no pages,
workers under a nanny. Each process leads a group, and the group is killed at the end; if the tests
themselves are killed, the scheduler ends by itself when it was idle, and the workers with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from cloudimg.cluster.tls import JobTls, Tls
from tests.support.servers import S3Account
from tests.support.waiting import HANG_S, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
DEATH_TIMEOUT_S = 20
_IDLE_S = 300
_NEVER_CLOSED: list[Any] = []
"""Clients that Dask cannot close."""
_ENVIRONMENT = {
    "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true",
    "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": "[]",
    "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]",
    "PYTHONPATH": str(REPOSITORY),  # what tests send is imported from here
}


@contextlib.contextmanager
def local_client(
    n_workers: int = 1,
    n_threads: int | None = None,
    *,
    set_as_default: bool = True,
    memory_limit: str = "auto",
) -> Iterator[Any]:
    """A client of a cluster that is started for it.

    Parameters
    ----------
    n_workers : int
    n_threads : int, optional
        Threads of each worker. With a number, workers are processes; without, they are threads of
        this process.
    set_as_default : bool
        Whether Dask computes everything on this cluster.
    memory_limit : str
        Of each worker.
    """
    from distributed import Client, LocalCluster

    make: Any = Client
    with (
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=n_threads,
            processes=n_threads is not None,
            memory_limit=memory_limit,
            dashboard_address="127.0.0.1:0",  # a free port
        ) as cluster,
        make(cluster, set_as_default=set_as_default) as client,
    ):
        yield client


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate, its key, and the certificates to trust, as files of this user alone."""

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def write(cls, tls: Tls, folder: Path, *, trusting: Tls | None = None) -> Self:
        """Files of a certificate; of a stranger who trusts another's authority with `trusting`."""
        folder.mkdir(parents=True)
        texts = {
            "authority": (trusting or tls).authority,
            "certificate": tls.certificate,
            "key": tls.key,
        }
        paths = {name: folder / f"{name}.pem" for name in texts}
        for name, text in texts.items():
            opened = os.open(paths[name], os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(opened, "w") as file:
                file.write(text)
        return cls(**paths)

    @property
    def options(self) -> list[str]:
        """For the command lines of Dask and of cloudimg, which name them alike."""
        return [
            *("--tls-ca-file", str(self.authority)),
            *("--tls-cert", str(self.certificate)),
            *("--tls-key", str(self.key)),
        ]


@dataclass(frozen=True, slots=True)
class Member:
    """A scheduler or a worker: a process, with what it starts, in a group of its own."""

    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, words: list[str], log: Path, environment: Mapping[str, str]) -> Self:
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **_ENVIRONMENT, **environment},
                cwd=log.parent,
                start_new_session=True,  # a group to kill, and Ctrl-C is for pytest
            )
        return cls(process, log)

    def processes(self) -> list[psutil.Process]:
        """Of its group, those that live."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                in_group = os.getpgid(process.pid) == self.process.pid
                if in_group and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def kill(self) -> None:
        """As the power goes out."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def text(self) -> str:
        """What it has written."""
        return self.log.read_text(encoding="utf-8", errors="replace")


class Cluster:
    """A scheduler and workers; use as a context manager.

    Parameters
    ----------
    folder : path
        For certificates, logs and what workers spill.
    n_workers : int
    n_threads : int
        Of each worker.
    settings : mapping, optional
        Of Dask, as variables of the environment.
    """

    def __init__(
        self,
        folder: Path,
        n_workers: int,
        *,
        n_threads: int = 2,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.n_workers = n_workers
        self.n_threads = n_threads
        self.settings = dict(settings or {})
        made = JobTls.make()
        self.tls = made.client
        self.files = TlsFiles.write(self.tls, folder / "tls")
        self.files_of_tasks = {
            role: TlsFiles.write(tls, folder / f"tls-{role}")
            for role, tls in made.of_tasks().items()
        }
        self.members: list[Member] = []
        self._scheduler_file = folder / "scheduler.json"

    def __enter__(self) -> Self:
        try:
            self.scheduler = self._start(
                "scheduler",
                # With port 0 no other process can take the port before the scheduler binds it.
                *("--host", "127.0.0.1", "--port", "0", "--protocol", "tls"),
                *("--scheduler-file", str(self._scheduler_file), "--idle-timeout", f"{_IDLE_S}s"),
            )
            self.workers = [self.add_worker() for _ in range(self.n_workers)]
            self.address = self._wait_for_address()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for member in self.members:
            member.kill()

    def _start(
        self,
        *words: str,
        files: TlsFiles | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Member:
        # The dashboard's server always starts; here it has no pages and listens locally only.
        words = (*words, "--no-dashboard", "--dashboard-address", "127.0.0.1:0")
        member = Member.start(
            [*words, *(files or self.files_of_tasks[words[0]]).options],
            self.folder / f"{words[0]}-{len(self.members)}.log",
            self.settings if settings is None else settings,
        )
        self.members.append(member)
        return member

    def add_worker(
        self,
        *,
        files: TlsFiles | None = None,
        settings: Mapping[str, str] | None = None,
        death_timeout_s: int = DEATH_TIMEOUT_S,
    ) -> Member:
        """Start a worker, which may have other certificates and settings than the cluster."""
        folder = self.folder / f"worker-{len(self.members)}"
        return self._start(
            "worker",
            *("--scheduler-file", str(self._scheduler_file)),
            *("--host", "127.0.0.1", "--protocol", "tls"),
            *("--nworkers", "1", "--nthreads", str(self.n_threads), "--memory-limit", "2GiB"),
            *("--death-timeout", str(death_timeout_s), "--local-directory", str(folder)),
            files=files,
            settings=settings,
        )

    def replace_lost(self) -> None:
        """Start workers for those that have ended."""
        alive = [worker for worker in self.workers if worker.process.poll() is None]
        lost = range(self.n_workers - len(alive))
        self.workers = alive + [self.add_worker() for _ in lost]

    def _wait_for_address(self) -> str:
        def address() -> str:
            try:
                return str(json.loads(self._scheduler_file.read_text())["address"])
            except (OSError, ValueError):
                return ""

        def is_settled() -> bool:
            return bool(address()) or self.scheduler.process.poll() is not None

        wait_until(is_settled, "a scheduler", HANG_S)
        if not address():
            raise RuntimeError(f"the scheduler has ended:\n{self.scheduler.text()}")
        return address()

    @contextlib.contextmanager
    def client(self, *, timeout_s: float = 20) -> Iterator[Any]:
        """A client, when all workers are there.

        It looks for a lost scheduler for as long as `timeout_s`.
        """
        from distributed import Client

        make: Any = Client
        security = self.tls.security()
        client = make(self.address, security=security, timeout=timeout_s, set_as_default=False)
        try:
            if self.n_workers:
                client.wait_for_workers(self.n_workers, HANG_S)
            yield client
        finally:
            try:
                client.close()
            except ValueError:
                if self.scheduler.process.poll() is None:
                    raise
                # Dask's, if it was about to connect again to a scheduler that was killed; the same
                # would be raised when it is collected.
                _NEVER_CLOSED.append(client)


# What travels


def some_job(url: str, endpoint: str) -> Any:
    """A migration as workers receive it, with the same lease in every run."""
    import cloudimg
    from cloudimg.migration.encode.codecs import make_codec
    from cloudimg.migration.journal.destination import open_destination
    from cloudimg.migration.journal.lease_view import LeaseView
    from cloudimg.migration.plan.request import WriteRequest
    from cloudimg.migration.run.cell import Job
    from cloudimg.migration.run.planning import plan_for

    options = S3Account(endpoint).storage_options
    write_input: Any = cloudimg.open(url, storage_options=options).write_input(None)
    spec = make_codec(None, write_input.dtype, 3).spec
    destination = open_destination(f"{url.partition('{')[0]}copy.zarr", options)
    plan = plan_for(write_input, WriteRequest(), spec)
    return Job(plan, write_input.pixels, destination, LeaseView(destination, 1, "owner", 60))


# What runs on workers


def slowly(block: Any, seconds: float) -> Any:
    """The block, after a while: so that a kill falls into the work."""
    time.sleep(seconds)
    return block


def no_work(number: int) -> tuple[int, str]:
    """A cell that costs nothing, with a result of the size of a receipt."""
    return number, "0123456789abcdef" * 32


def short_work(number: int) -> int:
    """A cell that takes a moment."""
    time.sleep(0.2)
    return number


class Unreadable:
    """Work that holds a secret, and that workers cannot read, as of another version."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __call__(self, number: int) -> int:
        return number

    def __reduce__(self) -> Any:
        return _refuse, (self.secret,)


def _refuse(secret: str) -> Unreadable:
    raise AttributeError("no such class in this version")


# What runs on schedulers


def remembered(dask_scheduler: Any) -> str:
    """What it knows by name, and what it keeps of the past."""
    known = [
        *dask_scheduler.tasks,
        *dask_scheduler.task_groups,
        *dask_scheduler.transition_log,
        *dask_scheduler.get_events().items(),
        *(computation.code for computation in dask_scheduler.computations),
        *dask_scheduler.get_logs(),
    ]
    return repr(known)


def count_groups(dask_scheduler: Any) -> int:
    """Groups of tasks, which it keeps while one of their tasks is there."""
    return len(dask_scheduler.task_groups)


def count_transitions(dask_scheduler: Any) -> int:
    """Changes of the state of a task, which are most of what it does."""
    return int(dask_scheduler.transition_counter)


def count_tasks(dask_scheduler: Any) -> int:
    """Tasks that it has been given and still knows."""
    return len(dask_scheduler.tasks)
