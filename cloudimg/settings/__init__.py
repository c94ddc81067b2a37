"""Settings of one process, read from the environment once.

They are not arguments because they belong to the process, not to an image: a worker of a cluster
has its own, which it gets in the same way as its other environment variables. Modules that start
work (a reader, an engine, a lease) call `settings`; modules below them get the values as arguments.
"""

from __future__ import annotations

import functools
import math
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any, Self

from cloudimg.errors import ArgumentError
from cloudimg.settings.operating_system import available_cpus, control_group_memory_bytes

LONGEST_LEASE_TTL_S = 60.0
SIZE = 'a positive size in bytes, such as 1000000000, "1e9", "1GB" or "64 MiB"'
"""What `parse_bytes` accepts, for messages."""
RATE = '"20MB/s" (bytes), "100/s" (requests), or both, as in "20MB/s, 100/s"'
"""What `parse_rate` accepts, for messages."""
_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d\d?)?", re.ASCII | re.IGNORECASE)
_SIZE = re.compile(
    rf"(?P<number>{_NUMBER.pattern})\s*(?P<unit>(?:[kmgtp]i?)?b?)", re.ASCII | re.IGNORECASE
)
_UNITS = {
    "": 1,
    **{prefix: 1000**n for n, prefix in enumerate("kmgtp", 1)},
    **{f"{prefix}i": 1024**n for n, prefix in enumerate("kmgtp", 1)},
}
"""Without the B: Dask too takes ``"1G"`` for ``"1GB"``."""


_MOST_BYTES_IN_FLIGHT = 256 * 2**20
_IN_FLIGHT_SHARE = 10
"""Bytes in flight take up to one part in so many of the memory of the process."""
_REQUESTS = 512
_REQUESTS_OF_WORKER = 64
"""A cluster has many workers, and each connection takes memory."""


def _own_worker() -> Any:
    """The Dask worker that has this process for itself and runs the calling task, or None."""
    distributed = sys.modules.get("distributed")
    with suppress(ValueError, AttributeError):  # not in a task
        worker = distributed.get_worker()  # type: ignore[union-attr]
        # Workers that are threads of their client's process are reached by this protocol.
        return None if worker.address.startswith("inproc://") else worker
    return None


def process_memory_bytes() -> int | None:
    """Limit of the memory of this process: its Dask worker's, or that of its control group.

    None if there is no limit below the memory of the machine.
    """
    limit = getattr(getattr(_own_worker(), "memory_manager", None), "memory_limit", None)
    return int(limit) if limit else control_group_memory_bytes()


def _decode_threads() -> int:
    """Threads of the Dask worker of this process; otherwise, processors that it may use."""
    worker = _own_worker()
    return available_cpus() if worker is None else int(worker.state.nthreads)


def _max_requests() -> int:
    return _REQUESTS if _own_worker() is None else _REQUESTS_OF_WORKER


def _max_bytes_in_flight() -> int:
    limit = process_memory_bytes()
    return min(_MOST_BYTES_IN_FLIGHT, limit // _IN_FLIGHT_SHARE if limit else _MOST_BYTES_IN_FLIGHT)


@dataclass(frozen=True, slots=True)
class MaxRate:
    """How much a process may ask of a store in a second; None: as much as the store allows."""

    bytes_per_s: float | None = None
    requests_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a process: a field for each variable, such as ``CLOUDIMG_MAX_REQUESTS``."""

    max_requests: int = field(default_factory=_max_requests)
    """Most requests in flight: by default 512, and 64 on a Dask worker."""
    max_bytes_in_flight: int = field(default_factory=_max_bytes_in_flight)
    """Most bytes that are requested and not yet decoded: by default 256 MiB, or a tenth of the
    memory that the Dask worker or the control group allows this process, if that is less."""
    decode_threads: int = field(default_factory=_decode_threads)
    """Number of threads that decode: by default, the processors that this process may use, and on
    a Dask worker the threads of the worker."""
    attempts: int = 6
    """Attempts for each request before a server error is raised."""
    timeout_s: float = 20
    """Seconds without a byte after which a request fails."""
    max_rate: MaxRate | None = None
    """Most bytes, requests or both a second that the process asks of each store."""
    max_header_bytes: int = 256 * 2**20
    """Bytes of a file that may be fetched as its header."""
    max_segment_bytes: int = 512 * 2**20
    """Bytes that one segment, or one file of another format, may decode to."""
    lease_ttl_s: float = LONGEST_LEASE_TTL_S
    """Seconds without a heartbeat after which another machine's migration is taken over."""
    worker_timeout_s: float = 600
    """Seconds without workers after which work on a Dask cluster fails."""
    backend: str = ""
    """``"fsspec"`` to read and write everything through fsspec; empty for the default."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Parse the environment variables; unset and empty ones have the default value.

        Raises
        ------
        ArgumentError
            If a value is invalid; the message names the variable.
        """
        values: dict[str, Any] = {}
        for each in fields(cls):
            name = f"CLOUDIMG_{each.name.upper()}"
            text = environ.get(name, "").strip()
            if text:
                values[each.name] = _PARSERS[each.name](name, text)
        return cls(**values)


@functools.cache
def settings() -> Settings:
    """The settings of this process, read from the environment at the first call."""
    return Settings.from_environment(os.environ)


def parse_bytes(what: str, value: int | str) -> int:
    """A positive number of bytes, from a number or a text such as ``"2GB"`` or ``"1e9"``.

    With a unit, as in ``"1.1 GiB"``, it is rounded down, but not to 0.

    Parameters
    ----------
    what : str
        Name of the argument or variable, for the message.
    value : int or str

    Raises
    ------
    ArgumentError
    """
    size = 0
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match:
            unit = match["unit"].lower().removesuffix("b")
            exact = _exact(match["number"]) * _UNITS[unit]
            size = int(exact) if unit or exact.denominator == 1 else 0
    elif hasattr(value, "__index__") and not isinstance(value, bool):
        size = int(value)
    if size <= 0:
        raise ArgumentError(f"{what}={value!r} must be {SIZE}")
    return size


def parse_rate(what: str, value: Any) -> MaxRate:
    """A rate from a text such as ``"20MB/s"``, ``"100/s"``, or both with a comma.

    Parameters
    ----------
    what : str
        Name of the argument or variable, for the message.
    value : str

    Raises
    ------
    ArgumentError
    """
    found: dict[str, Any] = {}
    try:
        for part in str(value).split(","):
            number, is_rate = part.strip().removesuffix("/s"), part.rstrip().endswith("/s")
            size = _SIZE.fullmatch(number)
            if size is not None and size["unit"]:
                kind, parsed = "bytes_per_s", float(parse_bytes(what, number))
            else:  # 100 alone could be either
                kind, parsed = "requests_per_s", _positive_number(what, number if is_rate else "")
            if kind in found:
                raise ArgumentError(what)
            found[kind] = parsed
    except ArgumentError:
        found = {}
    if not found:
        raise ArgumentError(f"{what}={value!r} must be {RATE}")
    return MaxRate(**found)


def _exact(number: str) -> Fraction:
    try:
        return Fraction(number)
    except ValueError:  # more digits than Python converts
        return Fraction(0)


def _positive_number(name: str, text: str, largest: float = math.inf) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf or value > largest:
        bound = "" if largest == math.inf else f" up to {largest:g}"
        raise ArgumentError(f"{name}={text!r} must be a positive number{bound}")
    return value


def _positive_integer(name: str, text: str) -> int:
    value = _exact(text) if _NUMBER.fullmatch(text) else Fraction(0)
    if value <= 0 or value.denominator > 1:
        raise ArgumentError(f"{name}={text!r} must be a positive integer")
    return int(value)


def _backend(name: str, text: str) -> str:
    if text != "fsspec":
        raise ArgumentError(f'{name}={text!r} must be "fsspec" or unset')
    return text


_PARSERS: Mapping[str, Any] = {
    "max_requests": _positive_integer,
    "max_bytes_in_flight": parse_bytes,
    "decode_threads": _positive_integer,
    "attempts": _positive_integer,
    "timeout_s": _positive_number,
    "max_rate": parse_rate,
    "max_header_bytes": parse_bytes,
    "max_segment_bytes": parse_bytes,
    "lease_ttl_s": functools.partial(_positive_number, largest=LONGEST_LEASE_TTL_S),
    "worker_timeout_s": functools.partial(_positive_number, largest=2**31),
    "backend": _backend,
}
