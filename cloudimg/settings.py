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
from cloudimg.operating_system import available_cpus

LONGEST_LEASE_TTL_S = 60.0
SIZE = 'a positive size in bytes, such as 1000000000, "1e9", "1GB" or "64 MiB"'
"""What `parse_bytes` accepts, for messages."""
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


def _decode_threads() -> int:
    """Processors of this process; on a Dask worker with a process of its own, its threads."""
    distributed = sys.modules.get("distributed")
    with suppress(ValueError, AttributeError):  # not in a task
        worker = distributed.get_worker()  # type: ignore[union-attr]
        if worker.nanny:
            return int(worker.state.nthreads)
    return available_cpus()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a process: a field for each variable, such as ``CLOUDIMG_MAX_REQUESTS``."""

    max_requests: int = 512
    """Most requests in flight."""
    max_bytes_in_flight: int = 256 * 2**20
    """Most bytes that are requested and not yet decoded."""
    decode_threads: int = field(default_factory=_decode_threads)
    """Number of threads that decode: by default, the processors that this process may use, and on
    a Dask worker the threads of the worker."""
    attempts: int = 6
    """Attempts for each request before a server error is raised."""
    timeout_s: float = 20
    """Seconds without a byte after which a request fails."""
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
    "max_header_bytes": parse_bytes,
    "max_segment_bytes": parse_bytes,
    "lease_ttl_s": functools.partial(_positive_number, largest=LONGEST_LEASE_TTL_S),
    "worker_timeout_s": functools.partial(_positive_number, largest=2**31),
    "backend": _backend,
}
