"""From the keyword arguments of the functions that write copies to a request and run options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cloudimg.distributed.run import once
from cloudimg.errors import ArgumentError
from cloudimg.migration.journal.destination import open_destination
from cloudimg.migration.options import PLAN_OPTIONS
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.progress import AdvanceCallback, print_line
from cloudimg.migration.run.memory import default_max_bytes
from cloudimg.migration.run.write import Migration, RunOptions, write
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.opening.options import URL, StorageOptions
from cloudimg.settings import parse_bytes

if TYPE_CHECKING:
    pass

OpenWriteInput = Callable[[str | None], WriteInput]
"""Opens what is to be written, given the name that the image shall have."""
_NO_BOUND = 2**62


def write_to_url(
    open_write_input: OpenWriteInput,
    url: URL,
    given: Mapping[str, Any],
    storage_options: StorageOptions | None,
) -> Migration:
    """Write an image to a URL; see `cloudimg.to_zarr`.

    Parameters
    ----------
    open_write_input : callable
    url : str or path
    given : mapping
        Those of `RunKeywords` that the user passed.
    storage_options : mapping, optional
        Of `url`.
    """
    request = make_request(given)
    run_options = make_run_options(given)
    destination = open_destination(url, storage_options)
    return write(lambda: open_write_input(request.name), destination, request, run_options)


def make_request(given: Mapping[str, Any]) -> WriteRequest:
    """The arguments that decide what is written, checked as far as possible without the image.

    Raises
    ------
    ArgumentError
    """
    from cloudimg.migration.encode.codecs import make_codec

    planned = {name: given[name] for name in PLAN_OPTIONS if name in given}
    if planned.get("codec") is not None:
        # As the plan will have it: equal codecs are equal, whatever form they are given in. The
        # item size, the one number that depends on the pixels, is added by the plan.
        chain = make_codec(planned["codec"], "u1", planned.get("zarr_format", 3)).spec["chain"]
        for link in chain:
            link["configuration"].pop("typesize", None)
        planned["codec"] = chain
    return WriteRequest(**planned)


def make_run_options(given: Mapping[str, Any]) -> RunOptions:
    """The arguments that do not change what is written.

    Raises
    ------
    ArgumentError
    """
    client = once(given.get("client"))
    return RunOptions(
        max_bytes=memory(given.get("max_mem"), client),
        overwrite=_flag(given.get("overwrite", False), "overwrite"),
        resume=_flag(given.get("resume", True), "resume"),
        client=client,
        progress=progress_callback(given.get("progress", False)),
    )


def memory(max_mem: int | str | None, client: Any) -> int:
    """Bytes that cells may take, from a number or a text such as ``"2GB"``.

    Raises
    ------
    ArgumentError
    """
    if max_mem is None:
        return default_max_bytes() if client is None else _NO_BOUND
    return parse_bytes("max_mem", max_mem)


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise ArgumentError(f"{name}={value!r} must be True or False")
    return value


def progress_callback(progress: bool | AdvanceCallback) -> AdvanceCallback | None:
    """The function that reports progress: the user's own, or one that prints a line.

    Raises
    ------
    ArgumentError
    """
    if isinstance(progress, bool):
        return print_line if progress else None
    if not callable(progress):
        raise ArgumentError(f"progress={progress!r} must be True, False or a callable")
    return progress
