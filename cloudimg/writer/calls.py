"""From the arguments of the public functions to the writer's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from cloudimg.errors import ArgumentError
from cloudimg.on_cluster import once
from cloudimg.writer.destination import open_destination
from cloudimg.writer.progress import Progress, print_line
from cloudimg.writer.request import Request
from cloudimg.writer.sizes import default_max_bytes
from cloudimg.writer.subject import Subject
from cloudimg.writer.write import Migration, Settings, write

OpenSubject = Callable[[str | None], Subject]
"""Opens what is to be written, given the name that the image shall have."""
_NO_BOUND = 2**62
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def write_subject(
    open_subject: OpenSubject,
    url: str | os.PathLike[str],
    *,
    zarr_format: int = 3,
    chunks: Any = None,
    shards: Any = None,
    levels: int | None = None,
    factors: Any = None,
    downsampling: str | None = None,
    codec: Any = None,
    name: str | None = None,
    max_mem: int | str | None = None,
    overwrite: bool = False,
    resume: bool = True,
    client: Any = None,
    progress: bool | Progress = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Migration:
    """See `cloudimg.to_zarr`."""
    request = make_request(zarr_format, chunks, shards, levels, factors, downsampling, codec, name)
    client = once(client)
    settings = Settings(
        max_bytes=memory(max_mem, client),
        overwrite=flag(overwrite, "overwrite"),
        resume=flag(resume, "resume"),
        client=client,
        progress=told(progress),
    )
    destination = open_destination(url, storage_options)
    return write(lambda: open_subject(name), destination, request, settings)


def make_request(
    zarr_format: int,
    chunks: Any,
    shards: Any,
    levels: int | None,
    factors: Any,
    downsampling: str | None,
    codec: Any,
    name: str | None,
) -> Request:
    """The arguments that decide what is written, checked as far as they can be without the image.

    Raises
    ------
    ArgumentError
    """
    from cloudimg.writer.codecs import make_codec

    # The codec as the plan will have it, so that equal codecs are equal however they were written.
    # Its one number that depends on the pixels, the size of one, is put in by the plan.
    chain = None if codec is None else make_codec(codec, "u1", zarr_format).spec["chain"]
    for link in chain or ():
        link["configuration"].pop("typesize", None)
    return Request(zarr_format, chunks, shards, levels, factors, downsampling, chain, name)


def memory(max_mem: int | str | None, client: Any) -> int:
    """Bytes that cells may take, from a number or a text such as ``"2GB"``.

    Raises
    ------
    ArgumentError
    """
    if max_mem is None:
        return default_max_bytes() if client is None else _NO_BOUND
    if isinstance(max_mem, str):
        text = max_mem.strip().lower().removesuffix("b")
        digits = text.rstrip("kmgti ")
        unit = text[len(digits) :].strip()
        try:
            size = int(float(digits) * _UNITS[unit])
        except (ValueError, KeyError, OverflowError):
            size = 0
    else:
        is_whole = hasattr(max_mem, "__index__") and not isinstance(max_mem, bool)
        size = int(max_mem) if is_whole else 0
    if size <= 0:
        raise ArgumentError(f'max_mem={max_mem!r} is no size such as 2**30 or "1GB"')
    return size


def flag(value: Any, name: str) -> bool:
    """An argument that is True or False.

    Raises
    ------
    ArgumentError
    """
    if not isinstance(value, bool):
        raise ArgumentError(f"{name}={value!r} must be True or False")
    return value


def told(progress: bool | Progress) -> Progress | None:
    """Whom to tell how far it is.

    Raises
    ------
    ArgumentError
    """
    if isinstance(progress, bool):
        return print_line if progress else None
    if not callable(progress):
        raise ArgumentError(f"progress={progress!r} must be True, False or a callable")
    return progress
