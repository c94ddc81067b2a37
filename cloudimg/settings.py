"""Settings of one process, read from the environment once.

They are not arguments because they belong to the process, not to an image: a worker of a cluster
has its own, given to it the way its other settings are. Modules that start work (a reader, an
engine, a lease) ask for `settings`; everything below is given the values that it needs.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from cloudimg.errors import ArgumentError

LONGEST_LEASE_TTL_S = 60.0
_HEADER_BYTES = 256 * 2**20
_SEGMENT_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLimits:
    """How much a file may make us allocate, by what its header claims."""

    header_bytes: int = _HEADER_BYTES
    """Bytes of a file that may be fetched as its header."""
    segment_bytes: int = _SEGMENT_BYTES
    """Bytes that one segment, or one file of another format, may decode to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One field for each environment variable; `from_environment` names them."""

    max_requests: int = 512
    """Requests in flight."""
    max_bytes_in_flight: int = 256 * 2**20
    """Bytes asked for and not yet decoded."""
    decode_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Threads that decode."""
    attempts: int = 6
    """Tries for each request before a server error is raised."""
    timeout_s: float = 20
    """Seconds without a byte before a request counts as failed."""
    max_header_bytes: int = _HEADER_BYTES
    """See `DecodeLimits`."""
    max_segment_bytes: int = _SEGMENT_BYTES
    """See `DecodeLimits`."""
    lease_ttl_s: float = LONGEST_LEASE_TTL_S
    """Seconds after which a migration on another machine without a heartbeat is taken over."""
    worker_timeout_s: float = 600
    """Seconds that a Dask cluster may be without workers."""
    backend: str = ""
    """``"fsspec"`` reads and writes everything through fsspec."""

    @property
    def limits(self) -> DecodeLimits:
        """What headers may claim."""
        return DecodeLimits(
            header_bytes=self.max_header_bytes, segment_bytes=self.max_segment_bytes
        )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """The settings that variables such as ``CLOUDIMG_MAX_REQUESTS`` ask for.

        Raises
        ------
        ArgumentError
            For values that make no sense, naming the variable.
        """
        found: dict[str, Any] = {}
        for each in fields(cls):
            name = f"CLOUDIMG_{each.name.upper()}"
            text = environ.get(name, "").strip()
            if text:
                found[each.name] = _PARSERS[each.name](name, text)
        return cls(**found)


@functools.cache
def settings() -> Settings:
    """The settings of this process, read at their first use."""
    return Settings.from_environment(os.environ)


def parse_bytes(what: str, value: int | str) -> int:
    """A positive number of bytes, from a number or a text such as ``"2GB"`` or ``"64 MiB"``.

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
    if isinstance(value, str) and value.strip():
        # Imported only where somebody gives a text: it takes as long as NumPy.
        from dask.utils import parse_bytes as parse

        try:
            size = int(parse(value))
        except (ValueError, OverflowError):
            size = 0
    elif hasattr(value, "__index__") and not isinstance(value, bool):
        size = int(value)
    if size <= 0:
        raise ArgumentError(f'{what}={value!r} must be a positive size such as 2**30 or "1GB"')
    return size


def _positive_number(name: str, text: str, most: float = math.inf) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf or value > most:
        bound = "" if most == math.inf else f" up to {most:g}"
        raise ArgumentError(f"{name}={text!r} must be a positive number{bound}")
    return value


def _positive_integer(name: str, text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise ArgumentError(f"{name}={text!r} must be a positive integer")
    return int(text)


def _backend(name: str, text: str) -> str:
    if text != "fsspec":
        raise ArgumentError(f"{name}={text!r} must be fsspec, or not be set")
    return text


_PARSERS: Mapping[str, Any] = {
    "max_requests": _positive_integer,
    "max_bytes_in_flight": parse_bytes,
    "decode_threads": _positive_integer,
    "attempts": _positive_integer,
    "timeout_s": _positive_number,
    "max_header_bytes": parse_bytes,
    "max_segment_bytes": parse_bytes,
    "lease_ttl_s": functools.partial(_positive_number, most=LONGEST_LEASE_TTL_S),
    "worker_timeout_s": functools.partial(_positive_number, most=2**31),
    "backend": _backend,
}
