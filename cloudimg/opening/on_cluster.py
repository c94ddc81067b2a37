"""`on_cluster`: public functions that a worker of a cluster runs, where a client is given.

Only the workers then need to reach the stores. A function that returns a client is called only when
there is work for a cluster: until then nothing runs there.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Collection, Iterable
from typing import Any, ParamSpec, TypeVar, cast

from cloudimg.distributed.calling import Call, call_on_worker
from cloudimg.errors import CloudimgError
from cloudimg.opening.options import as_texts
from cloudimg.storage import split_url

P = ParamSpec("P")
R = TypeVar("R")


def on_cluster(
    *,
    urls: Collection[str],
    progress: Callable[[Any], Callable[..., Any] | None] = lambda given: given,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a public function to run on a worker if its argument `client` is a client.

    Its callbacks `progress` and `confirm` run in this process.

    Parameters
    ----------
    urls : collection of str
        Names of its parameters, or keywords in ``**options``, that are URLs or paths. Relative
        paths belong to the folder of this process.
    progress : callable
        Checks the argument `progress`, and returns a callback or None.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            client: Any = kwargs.get("client")
            if client is None or callable(client):
                return function(*args, **kwargs)
            keywords = {name: value for name, value in kwargs.items() if name != "client"}
            bound = signature.bind(*args, **keywords)
            given_urls = []
            for arguments in (bound.arguments, bound.arguments.get("options", {})):
                for name in urls:
                    if arguments.get(name) is not None:
                        arguments[name] = absolute(arguments[name])
                        given_urls.append(arguments[name])
            shown = kwargs.get("progress")
            callbacks_given = {
                "progress": None if shown is None else progress(shown),
                "confirm": kwargs.get("confirm"),
            }
            callbacks = {name: each for name, each in callbacks_given.items() if callable(each)}
            call = Call(
                function.__module__,
                function.__qualname__,
                bound.args,
                {name: each for name, each in bound.kwargs.items() if name not in callbacks},
                tells=frozenset(callbacks) & {"progress"},
                asks=frozenset(callbacks) & {"confirm"},
            )
            result, error = call_on_worker(client, call, callbacks)
            if error is not None:
                raise _told(error, given_urls)
            return cast(R, result)

        return run

    return decorate


def absolute(urls: Any) -> Any:
    """URLs, with the paths of local files as absolute ones; a table as one of pyarrow.

    Raises
    ------
    ArgumentError
    """
    if hasattr(urls, "__arrow_c_stream__"):
        import pyarrow as pa

        return pa.table(urls)  # whatever it is, workers need not have its library
    if isinstance(urls, str | os.PathLike):
        (text,) = as_texts(urls)
        location, key = split_url(text)
        return location.url(key) if location.protocol == "file" else text
    return [absolute(each) for each in as_texts(urls)]


def _told(error: BaseException, urls: Iterable[Any]) -> BaseException:
    """The error, which says where a path was looked up that does not exist."""
    if isinstance(error, CloudimgError) and isinstance(error, FileNotFoundError):
        listed = [each for each in urls if not hasattr(each, "__arrow_c_stream__")]
        texts = [text for each in listed if each is not None for text in as_texts(each)]
        if any(split_url(text)[0].is_on_this_machine for text in texts):
            error.message += ". Paths are those on the workers of the cluster, not of this machine"
            error.args = (error.message,)
    return error
