"""Settings: parsing of each environment variable, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cloudimg.errors import ArgumentError
from cloudimg.settings import LONGEST_LEASE_TTL_S, MaxRate, Settings, parse_bytes, settings
from cloudimg.settings.operating_system import available_cpus, control_group_memory_bytes
from tests.support.clusters import local_client

SIZES = ("max_bytes_in_flight", "max_header_bytes", "max_segment_bytes")
INTEGERS = ("max_requests", "decode_threads", "attempts")
SECONDS = ("timeout_s", "lease_ttl_s", "worker_timeout_s")


def parsed(name: str, text: str) -> Any:
    return getattr(Settings.from_environment({f"CLOUDIMG_{name.upper()}": text}), name)


def refused(name: str, text: str) -> str:
    """The message for an invalid value, which names the variable and the value."""
    variable = f"CLOUDIMG_{name.upper()}"
    with pytest.raises(ArgumentError) as caught:
        Settings.from_environment({variable: text})
    message = str(caught.value)
    assert message.startswith(f"{variable}={text!r} must be ")
    return message


def test_every_variable_is_tested_here() -> None:
    assert {each.name for each in fields(Settings)} == {
        *SIZES,
        *INTEGERS,
        *SECONDS,
        "max_rate",
        "backend",
    }


def test_defaults() -> None:
    defaults = Settings.from_environment({})
    assert defaults == Settings()
    assert (
        Settings.from_environment(
            {f"CLOUDIMG_{each.name.upper()}": " " for each in fields(Settings)}
        )
        == Settings()
    )
    assert defaults.max_requests == 512
    assert defaults.max_bytes_in_flight == 256 * 2**20
    assert defaults.attempts == 6
    assert defaults.timeout_s == 20
    assert defaults.decode_threads == available_cpus()
    assert defaults.max_header_bytes == 256 * 2**20
    assert defaults.max_segment_bytes == 512 * 2**20
    assert defaults.lease_ttl_s == LONGEST_LEASE_TTL_S == 60
    assert defaults.worker_timeout_s == 600
    assert defaults.max_rate is None
    assert defaults.backend == ""
    assert Settings.from_environment({"CLOUDIMG_MAX_REQUEST": "5", "MAX_REQUESTS": "5"}) == defaults


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000000000", 10**9),
        ("1e9", 10**9),
        ("1GB", 10**9),
        ("64 MiB", 64 * 2**20),
        (" 1.5kB ", 1500),
        (".5GB", 5 * 10**8),
        ("1.5e3", 1500),
        ("1.1 GiB", 1181116006),
        ("1g", 10**9),
        ("1", 1),
    ],
)
def test_sizes(name: str, text: str, size: int) -> None:
    value = parsed(name, text)
    assert value == size
    assert type(value) is int


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(
    "text",
    [
        *("0", "-5", "0.5", "1.5", "1.5 B", "0.0001kB", "1e-1"),
        *("2**30", "1 QB", "1iB", "GB", ".", "many", "inf", "nan", "1e999", "²", "9" * 5000),
    ],
    ids=lambda text: text[:9],
)
def test_sizes_that_are_refused(name: str, text: str) -> None:
    assert refused(name, text).endswith(
        'must be a positive size in bytes, such as 1000000000, "1e9", "1GB" or "64 MiB"'
    )


@pytest.mark.parametrize("name", INTEGERS)
def test_integers(name: str) -> None:
    assert parsed(name, "1") == 1
    assert parsed(name, " 40 ") == 40
    assert parsed(name, "1e3") == parsed(name, "1000.0") == 1000
    assert type(parsed(name, "1e3")) is int
    for text in ("0", "-1", "1.5", "1e-1", "1e999", "1GB", "²", "four"):
        assert refused(name, text).endswith("must be a positive integer")


@pytest.mark.parametrize("name", SECONDS)
def test_seconds(name: str) -> None:
    assert parsed(name, "0.5") == 0.5
    assert parsed(name, "60") == 60
    for text in ("0", "-1", "nan", "inf", "1 min", "5s", "1e400"):
        assert "must be a positive number" in refused(name, text)


def test_bounds_of_seconds() -> None:
    assert refused("lease_ttl_s", "60.5").endswith("must be a positive number up to 60")
    assert refused("worker_timeout_s", "1e10").endswith(
        "must be a positive number up to 2.14748e+09"
    )
    assert parsed("timeout_s", "1e10") == 1e10


def test_backend() -> None:
    assert parsed("backend", "fsspec") == "fsspec"
    for text in ("obstore", "FSSPEC"):
        assert refused("backend", text).endswith('must be "fsspec" or unset')


def test_limits_of_decoding() -> None:
    variables = {"CLOUDIMG_MAX_HEADER_BYTES": "1e6", "CLOUDIMG_MAX_SEGMENT_BYTES": "2MB"}
    found = Settings.from_environment(variables)
    assert (found.max_header_bytes, found.max_segment_bytes) == (10**6, 2 * 10**6)
    assert (Settings().max_header_bytes, Settings().max_segment_bytes) == (2**28, 2**29)


def test_the_environment_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    settings.cache_clear()
    try:
        monkeypatch.setenv("CLOUDIMG_ATTEMPTS", "3")
        first = settings()
        assert first.attempts == 3
        monkeypatch.setenv("CLOUDIMG_ATTEMPTS", "wrong")
        assert settings() is first
        settings.cache_clear()
        with pytest.raises(ArgumentError, match="CLOUDIMG_ATTEMPTS='wrong' must be a positive int"):
            settings()
    finally:
        settings.cache_clear()


def test_sizes_of_arguments() -> None:
    for value, size in ((5, 5), ("2GB", 2 * 10**9), ("1e9", 10**9), (".5GB", 5 * 10**8)):
        assert parse_bytes("max_mem", value) == size
    for wrong in (0, -1, True, 1.5, "1.5", "", " ", None, b"5", "much"):
        with pytest.raises(ArgumentError, match=r"max_mem=.* must be a positive size in bytes"):
            parse_bytes("max_mem", wrong)  # type: ignore[arg-type]


# Processors


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="has no affinities")
def test_decoding_threads_follow_the_affinity_of_the_process() -> None:
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from cloudimg.settings import settings
print(settings().decode_threads)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["1"]


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_control_groups_limit_the_processors(
    tmp_path: Path, files: dict[str, str], most: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    no_group = tmp_path / "none"
    assert available_cpus(tmp_path) == (most or available_cpus(no_group))


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "400000000\n"}, 400_000_000),
        ({"memory.max": "max\n"}, None),
        ({"memory/memory.limit_in_bytes": "400000000\n"}, 400_000_000),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ({}, None),
    ],
)
def test_control_groups_limit_the_memory(
    tmp_path: Path, files: dict[str, str], limit: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert control_group_memory_bytes(tmp_path) == limit


@pytest.mark.slow
def test_decoding_threads_are_those_of_a_worker() -> None:
    def decoding_threads() -> int:
        from cloudimg.settings import settings

        return settings().decode_threads

    with local_client(1, 3) as client:
        assert client.submit(decoding_threads).result(timeout=60) == 3


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("20MB/s", MaxRate(bytes_per_s=20e6)),
        ("1 MiB", MaxRate(bytes_per_s=2**20)),
        ("100/s", MaxRate(requests_per_s=100)),
        ("0.5/s,1kB/s", MaxRate(1000, 0.5)),
    ],
)
def test_rates(text: str, rate: MaxRate) -> None:
    assert parsed("max_rate", text) == rate


@pytest.mark.parametrize(
    "text", ["100", "0/s", "-1/s", "inf/s", "1MB,2MB", "1/s,", "fast", "0MB/s", "1/s/s", "MB/s"]
)
def test_invalid_rates(text: str) -> None:
    assert '"100/s"' in refused("max_rate", text)
