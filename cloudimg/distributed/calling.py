"""A whole call on a worker of a Dask cluster, so that only the workers need to reach a store.

The call is one task. Its thread leaves the worker's pool and is a client of the cluster itself: it
lists files, reads headers, plans, and gives pieces of work to all workers. Its callbacks run in the
process that made the call. If its worker is lost, Dask begins the call again on another one. If the
caller is gone, or no longer wants the result, `Stopped` is raised in the thread, as Ctrl-C is in a
program.
"""

from __future__ import annotations

import contextlib
import importlib
import pickle
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from cloudimg.distributed.on_worker import busy, outside_pool
from cloudimg.distributed.parcel import Parcel
from cloudimg.distributed.run import (
    client_of,
    drain,
    refuse_other_cluster,
    scheduler_loss_as_error,
)
from cloudimg.distributed.workers import SCHEDULER_LOST, Workers
from cloudimg.errors import ArgumentError, CloudimgError, ClusterError
from cloudimg.settings.operating_system import raise_in_thread

if TYPE_CHECKING:
    from distributed import Client, Future, Queue, Worker

_POLL_S = 0.2
"""Seconds between messages to the caller, and between looks at whether the caller is there."""
_PRIORITY = 100
"""Of a call among the tasks of a cluster: it takes little time, or gives the cluster its work."""
_LAST_MESSAGES_S = 30

_Message = tuple[str, str | None, tuple[Any, ...]]
"""Name of a callback, name of the queue for its answer, and arguments."""


class Stopped(BaseException):
    """Raised in the thread of a call that nobody waits for any more."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function that does the work itself if `client` is a function."""

    module: str
    function: str
    """Qualified name of the function in its module."""
    args: tuple[Any, ...]
    keywords: Mapping[str, Any]
    tells: frozenset[str] = frozenset()
    """Keyword arguments that are callbacks without a result."""
    asks: frozenset[str] = frozenset()
    """Keyword arguments that are callbacks whose result is needed."""

    def make(self, **further: Any) -> Any:
        """Make the call here, with further keyword arguments."""
        path = (importlib.import_module(self.module), *self.function.split("."))
        return reduce(getattr, path)(*self.args, **{**self.keywords, **further})  # type: ignore[arg-type, operator]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a call returned or raised."""

    result: Any = None
    error: BaseException | None = None


# ------------------------------------------------------------------------------ where it is called

_under_way: dict[str, tuple[Client, Future[Any]]] = {}
"""Calls of this process that workers make, by key."""


def call_on_worker(
    client: Client, call: Call, callbacks: Mapping[str, Callable[..., Any]]
) -> tuple[Any, BaseException | None]:
    """Make a call on a worker, which passes a client of its own on to it.

    Parameters
    ----------
    client : distributed.Client
    call : Call
        Its keyword argument `client` is a function that returns the worker's client.
    callbacks : mapping
        Called in this thread with what the call passes to its callbacks.

    Returns
    -------
    result
        What the call returned.
    error : BaseException or None
        What it raised.

    Raises
    ------
    ArgumentError
        If `client` or an argument of the call is not suitable.
    ClusterError
        If the scheduler is lost, or there are no workers for too long.
    Exception
        What a callback raised: the call is stopped.
    """
    refuse_other_cluster(client_of(client), *call.args)
    with outside_pool(), scheduler_loss_as_error(client):
        outcome = _outcome_of(client, call, callbacks)
    return outcome.result, outcome.error


def _outcome_of(
    client: Client, call: Call, callbacks: Mapping[str, Callable[..., Any]]
) -> _Outcome:
    from distributed import Queue

    parcel = _sendable(call)
    workers = Workers(client)
    name = call.function.rpartition(".")[2].strip("_").replace("_", "-")
    key = f"cloudimg-drive-{name}-{uuid.uuid4().hex}"
    messages = Queue(key, client=client)
    future = client.submit(_make, parcel, key, key=key, pure=False, priority=_PRIORITY)
    _under_way[key] = client, future
    is_over = threading.Event()
    future.add_done_callback(lambda _: is_over.set())
    try:
        while True:
            is_done = is_over.wait(_POLL_S) or future.done()
            for name, answers, given in _received(messages):
                answer = callbacks[name](*given)
                if answers is not None:
                    _answer(Queue(answers, client=client), answer)
            if is_done:
                break
            workers.recount()
        (received,) = workers.results_of([future])
    except BaseException:
        _stop(client, future, key)
        raise
    finally:
        del _under_way[key]
        messages.close()
    outcome: _Outcome = received.open()
    return outcome


def _sendable(call: Call) -> Parcel[Call]:
    """The call, pickled while it can still be said which argument cannot be.

    Raises
    ------
    ArgumentError
    """
    parcel = Parcel(call)
    try:
        parcel.to_bytes()
        return parcel
    except Exception as exc:  # noqa: BLE001 - arguments may be anything
        reason = type(exc).__name__
    names = [f"{name}=" for name, value in call.keywords.items() if not _is_sendable(value)]
    raise ArgumentError(
        f"{', '.join(names) or 'an argument'} of {call.function} cannot be pickled, and is thus not"
        f" sent to the workers of client= ({reason}): pass what can be, such as texts, numbers and"
        " functions without open files, connections or locks"
    )


def _is_sendable(value: Any) -> bool:
    try:
        Parcel(value).to_bytes()
    except Exception:  # noqa: BLE001 - arguments may be anything
        return False
    return True


def _received(messages: Queue) -> Iterator[_Message]:
    try:
        batches = messages.get(batch=True)
    except Exception as exc:  # noqa: BLE001 - of many types, if the scheduler is lost or another one
        error = ClusterError(SCHEDULER_LOST, cause=type(exc).__name__)
    else:
        for batch in batches:
            yield from pickle.loads(batch)
        return
    raise error


def _answer(answers: Queue, answer: Any) -> None:
    answers.put(pickle.dumps(answer))
    answers.close()


def _stop(client: Client, future: Future[Any], key: str) -> None:
    """Stop a call, and wait until its thread has ended."""
    if client.status == "running":
        future.cancel()
        drain(client, key)


def stop_all() -> None:
    """Stop all calls of this process, which is about to exit."""
    for key, (client, future) in list(_under_way.items()):
        with contextlib.suppress(Exception):  # without the scheduler there is nothing to stop
            _stop(client, future, key)


# ----------------------------------------------------------------------------------- on the worker


def _make(parcel: Parcel[Call], key: str) -> Parcel[_Outcome]:
    """Make a call in the thread of a task."""
    from distributed import Queue, get_client, get_worker, secede

    call = parcel.open()
    worker, client = get_worker(), get_client()
    secede()  # the pieces of work need the threads of the pool
    with busy(key):
        return _Driver(worker, client, Queue(key, client=client), key).make(call)


class _Driver:
    """Makes a call in this thread, and watches in others whether it is still wanted."""

    def __init__(self, worker: Worker, client: Client, messages: Queue, key: str) -> None:
        self._worker = worker
        self._client = client
        self._messages = messages
        self._key = key
        self._outbox: SimpleQueue[_Message] = SimpleQueue()
        self._thread_id = threading.get_ident()
        self._ending = threading.Lock()
        self._has_ended = threading.Event()

    def make(self, call: Call) -> Parcel[_Outcome]:
        sender = threading.Thread(target=self._send, name="cloudimg-messages", daemon=True)
        sender.start()
        threading.Thread(target=self._watch, name="cloudimg-caller", daemon=True).start()
        try:
            outcome = self._outcome_of(call)
        except Stopped:
            outcome = _Outcome(error=ClusterError("the call was stopped: nobody waits for it"))
        sender.join(_LAST_MESSAGES_S)
        self._messages.close()
        return _packed(outcome)

    def _outcome_of(self, call: Call) -> _Outcome:
        proxies = {name: partial(self._tell, name) for name in call.tells}
        proxies |= {name: partial(self._ask, name) for name in call.asks}
        try:
            return _Outcome(call.make(client=lambda: self._client, **proxies))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the caller raises it
            if not isinstance(exc, CloudimgError):
                # Without the values of variables and without messages, which may hold secrets.
                frames = "".join(traceback.format_tb(exc.__traceback__))
                exc.add_note(f"Traceback of {self._worker.address}:\n{frames}")
            return _Outcome(error=exc)
        finally:
            with self._ending:
                self._has_ended.set()

    def _tell(self, name: str, *given: Any) -> None:
        self._outbox.put((name, None, given))

    def _ask(self, name: str, *given: Any) -> Any:
        from distributed import Queue

        answers = Queue(f"{self._key}-{uuid.uuid4().hex}", client=self._client)
        self._outbox.put((name, answers.name, given))
        while not (found := answers.get(batch=True)):
            time.sleep(_POLL_S)
        answers.close()
        return pickle.loads(found[0])

    def _send(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._has_ended.wait(_POLL_S)
            batch = list(_waiting(self._outbox))
            if batch:
                self._messages.put(pickle.dumps(batch))

    def _watch(self) -> None:
        while not self._has_ended.wait(_POLL_S):
            if not self._is_wanted():
                with self._ending:
                    if not self._has_ended.is_set():
                        raise_in_thread(self._thread_id, Stopped)
                return

    def _is_wanted(self) -> bool:
        """Whether a client waits for the task, and the worker is not about to end."""
        task = self._worker.state.tasks.get(self._key)
        is_released = task is None or task.state == "cancelled"
        return not is_released and self._worker.status.name in ("running", "paused")


def _waiting(outbox: SimpleQueue[_Message]) -> Iterator[_Message]:
    with contextlib.suppress(Empty):
        while True:
            yield outbox.get_nowait()


def _packed(outcome: _Outcome) -> Parcel[_Outcome]:
    """The outcome, pickled while an error can still be reported."""
    parcel = Parcel(outcome)
    try:
        parcel.to_bytes()
        return parcel
    except Exception:  # noqa: BLE001 - an exception of others may hold anything
        what = outcome.result if outcome.error is None else outcome.error
        error = ClusterError(
            f"what the worker's call gave cannot be pickled: {type(what).__name__}"
        )
    return Parcel(_Outcome(error=error))
