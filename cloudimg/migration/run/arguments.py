"""Turn the keyword arguments of functions that write copies into a request and run options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from cloudimg.distributed.run import once
from cloudimg.errors import ArgumentError
from cloudimg.migration.deletion import Deletion
from cloudimg.migration.journal.destination import open_destination
from cloudimg.migration.options import PLAN_OPTIONS
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.progress import progress_callback
from cloudimg.migration.run.earlier_source import EarlierSource
from cloudimg.migration.run.memory import default_max_bytes
from cloudimg.migration.run.options import RunOptions
from cloudimg.migration.run.result import Migration
from cloudimg.migration.run.write import write
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.opening.options import URL, StorageOptions
from cloudimg.settings import parse_bytes

OpenNamed = Callable[[str | None, EarlierSource | None], WriteInput]
"""Opens the image to write, given the name that it gets in the copy, and the source of an earlier
migration, to whose files it keeps if it is the same."""
_UNLIMITED = 2**62


def write_to_url(
    open_write_input: OpenNamed,
    url: URL,
    given: Mapping[str, Any],
    storage_options: StorageOptions | None,
) -> Migration:
    """Write an image to a URL; see `cloudimg.to_zarr`.

    Parameters
    ----------
    open_write_input : callable
        Called with the `name` argument, and with what the URL holds a migration of.
    url : str or path
    given : mapping
        The arguments among `RunKeywords` that the user passed.
    storage_options : mapping, optional
        fsspec's options for the store of `url`.
    """
    request = make_request(given)
    run_options = make_run_options(given)
    destination = open_destination(url, storage_options)
    return write(partial(open_write_input, request.name), destination, request, run_options)


def make_request(given: Mapping[str, Any]) -> WriteRequest:
    """Collect the arguments that decide what is written, and check them without the image.

    Raises
    ------
    ArgumentError
    """
    from cloudimg.migration.encode.codecs import make_codec

    planned = {name: given[name] for name in PLAN_OPTIONS if name in given}
    if planned.get("codec") is not None:
        # In the plan's form, so that equal codecs compare equal however they are given. Only the
        # item size depends on the pixels: the plan adds it.
        chain = make_codec(planned["codec"], "u1", planned.get("zarr_format", 3)).spec["chain"]
        for link in chain:
            link["configuration"].pop("typesize", None)
        planned["codec"] = chain
    return WriteRequest(**planned)


def make_run_options(given: Mapping[str, Any]) -> RunOptions:
    """Collect and check the arguments that do not change what is written.

    Raises
    ------
    ArgumentError
    """
    client = once(given.get("client"))
    return RunOptions(
        max_bytes=memory(given.get("max_mem"), client),
        overwrite=_flag(given.get("overwrite", False), "overwrite"),
        yes=_flag(given.get("yes", False), "yes"),
        confirm=_confirm(given.get("confirm")),
        resume=_flag(given.get("resume", True), "resume"),
        client=client,
        progress=progress_callback(given.get("progress", False)),
    )


def memory(max_mem: int | str | None, client: Any) -> int:
    """Memory for cells in bytes, from a number or a text such as ``"2GB"``.

    Without `max_mem`, the workers of a cluster are limited by their own memory only.

    Raises
    ------
    ArgumentError
    """
    if max_mem is None:
        return default_max_bytes() if client is None else _UNLIMITED
    return parse_bytes("max_mem", max_mem)


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise ArgumentError(f"{name}={value!r} must be True or False")
    return value


def _confirm(value: Any) -> Callable[[Deletion], bool] | None:
    if value is not None and not callable(value):
        raise ArgumentError(f"confirm={value!r} must be a callable")
    return value  # type: ignore[no-any-return]
