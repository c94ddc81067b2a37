"""What is wrong with an object that arrives from another process is raised where it is used.

Dask only logs what unpickling raises when a worker receives data from another one, and the task
then waits for ever. Whatever a ``__reduce__`` of this package names is therefore decorated with
`raised_where_used`.
"""

from __future__ import annotations

import contextlib
import functools
import pickle
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


class Unusable:
    """Stands for an object that this process cannot make; it can be passed on to another one.

    Parameters
    ----------
    remake : callable
        Makes the object in a process that can.
    state : tuple
        Arguments of `remake`.
    problem : str
        Message of the error that each use raises, unless another try has another problem.
    """

    __slots__ = ("_problem", "_remake", "_state")

    def __init__(self, remake: Callable[..., Any], state: tuple[Any, ...], problem: str) -> None:
        self._remake = remake
        self._state = state
        self._problem = problem

    def __reduce__(self) -> tuple[Any, ...]:
        return self._remake, self._state

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # asked by whoever wants to know what kind of object it is
            raise AttributeError(name)
        self._refuse()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        from cloudimg.errors import ClusterError

        again = self._remake(*self._state)  # in a task, where the address of the worker is known
        raise ClusterError(again._problem if isinstance(again, Unusable) else self._problem)

    __getitem__ = __call__ = __iter__ = __len__ = __array__ = __str__ = _refuse


def raised_where_used(remake: F) -> F:
    """Decorate a function that unpickles an object: its error is raised where that is used."""

    @functools.wraps(remake)
    def arrived(*state: Any) -> Any:
        return _remade(remake, state, arrived)

    return cast(F, arrived)


def _remade(
    remake: Callable[..., Any], state: tuple[Any, ...], pickled_as: Callable[..., Any]
) -> Any:
    try:
        return remake(*state)
    except Exception as exc:  # noqa: BLE001 - of whatever another version or environment sends
        return Unusable(pickled_as, state, problem_of(exc))


def problem_of(exc: Exception) -> str:
    """Why something that was sent here cannot be used, without what others say of its content."""
    from cloudimg.errors import ClusterError

    if isinstance(exc, ClusterError):
        return exc.message
    what = f": {exc}" if isinstance(exc, ImportError) else ""
    return (
        f"this process{address()} cannot unpickle the work that it was sent"
        f" ({type(exc).__name__}{what}): install the same packages in both places"
    )


def address() -> str:
    """Address of this worker in parentheses, after a space; empty outside a cluster."""
    distributed = sys.modules.get("distributed")
    with contextlib.suppress(ValueError, AttributeError):
        return f" ({distributed.get_worker().address})"  # type: ignore[union-attr]
    return ""


# --------------------------------------------------------- where this package is not installed


def sent_everywhere(remake: F) -> F:
    """Decorate a function that unpickles an object which Dask passes from worker to worker.

    It is `raised_where_used`, and is itself pickled so that it arrives where this package, or the
    function, does not exist. Its state must consist of built-in types and of objects that are sent
    in this way.
    """
    return cast(F, functools.wraps(remake)(_Sent(remake)))


class _Sent:
    """A function that is pickled with the code that looks for it."""

    def __init__(self, remake: Callable[..., Any]) -> None:
        self._remake = remake

    def __call__(self, *state: Any) -> Any:
        return _remade(self._remake, state, self)

    def __reduce__(self) -> str | tuple[Any, ...]:
        name = self._remake.__qualname__
        if getattr(_packing, "is_on", False):
            return name
        return functools.partial, (_RECEIVE, self._remake.__module__, name)


_packing = threading.local()


@contextlib.contextmanager
def packing() -> Iterator[None]:
    """Functions are pickled by name only: for content that is unpickled where it is used."""
    before = getattr(_packing, "is_on", False)
    _packing.is_on = True
    try:
        yield
    finally:
        _packing.is_on = before


class _Receive:
    """Is pickled as a function by value, and needs no module of this package to be unpickled."""

    def __call__(self, *_: Any) -> NoReturn:
        raise TypeError("this is called in the process that unpickles it")

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (_Compressed(),)


class _Compressed:
    """Is unpickled as the bytes of that function."""

    def __reduce__(self) -> tuple[Any, ...]:
        return zlib.decompress, (_pickled_by_value(),)


_RECEIVE = _Receive()


@functools.cache
def _pickled_by_value() -> bytes:
    import cloudpickle

    return zlib.compress(cloudpickle.dumps(_make_receive()), 9)


def _make_receive() -> Callable[..., Any]:
    def receive(module: str, name: str, *state: Any) -> Any:
        import contextlib
        import importlib
        import sys

        try:
            return getattr(importlib.import_module(module), name)(*state)
        except Exception as exc:  # noqa: BLE001 - another version may be for another Python
            problem = str(exc)

        def refuse(*_: Any) -> Any:
            where = ""
            with contextlib.suppress(KeyError, ValueError, AttributeError):  # not in a task
                where = f" ({sys.modules['distributed'].get_worker().address})"
            raise RuntimeError(
                f"this process{where} has no cloudimg, or another version of it ({problem}):"
                " install the same version in all processes"
            )

        class Absent:
            def __reduce__(self) -> Any:
                return receive, (module, name, *state)

            def __getattr__(self, name: str) -> Any:
                if name.startswith("__"):
                    raise AttributeError(name)
                refuse()

            __getitem__ = __call__ = __iter__ = __len__ = __array__ = refuse

        return Absent()

    return receive  # a nested function: cloudpickle takes others from their module
