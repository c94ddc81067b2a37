"""How fast cloudimg reads from an object store, beside what people use instead.

One run starts the metering S3 server of the tests (its own process, everything in memory, a fixed
latency before each answer), puts the objects of each case there, and lets each contender read them
in a fresh interpreter. Contenders take turns, so that a slow minute of the machine hits all of
them, and every answer is compared with the truth.

The table of a case says per contender: seconds (median, fastest and slowest run) from making the
client to the last pixel; how many times cloudimg's; requests; MB that the server sent, also as a
fraction of the objects; the longest sequence of requests that followed one another; the most at one
time; seconds of processor of the reading process; its peak memory. All but the fastest and slowest
are of the median run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import contest
import objects
import peers_files  # noqa: F401 - registers
import peers_large  # noqa: F401
from cases import CASES, OVERVIEW, WINDOW, Case

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from metering import REGION, Meter, Traffic

CHILD = Path(__file__).resolve().with_name("child.py")
BUCKET = "benchmark"
CHUNK = 1024
DEFAULT = ("files", "large", "window")
CACHE = Path(tempfile.gettempdir()) / "cloudimg-benchmark"


@dataclass(frozen=True, slots=True)
class Run:
    """One read of one contender."""

    seconds: float
    traffic: Traffic
    cpu_s: float = 0
    peak_mb: float | None = None
    trouble: str = ""
    """Why there is no right answer; empty where there is one."""


@dataclass(slots=True)
class Score:
    """The runs of one contender in one case."""

    contender: contest.Contender
    runs: list[Run] = field(default_factory=list)

    @property
    def trouble(self) -> str:
        return next((run.trouble for run in self.runs if run.trouble), "")

    @property
    def median(self) -> Run:
        """The run in the middle, of two the faster."""
        return sorted(self.runs, key=lambda run: run.seconds)[(len(self.runs) - 1) // 2]


def main() -> int:
    given = _arguments()
    contenders = _present(given.peers)
    failures: list[str] = []
    found: dict[str, Any] = {}
    print(_about(given, contenders), flush=True)
    for name in given.only or DEFAULT:
        case = CASES[name](given.cache)
        # A store for each case: one that holds 10,000 other objects would answer later.
        with Meter.start(latency_ms=given.latency_ms) as meter:
            scores = _measure(meter, case, contenders, given)
        print(_report(case, scores), flush=True)
        failures += [f"{name}: {text}" for text in map(_failure, scores) if text]
        found[name] = _as_json(case, scores)
    if given.json:
        about = {"latency_ms": given.latency_ms, "python": sys.version.split()[0]}
        about["versions"] = _versions(contenders)
        given.json.write_text(json.dumps({"about": about, "cases": found}, indent=1))
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="contenders: " + ", ".join(dict.fromkeys(c.name for c in contest.CONTENDERS)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--latency-ms", type=float, default=30, help="before each answer [30]")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="of each contender [5]")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=CASES,
        metavar="CASE",
        help=f"of {', '.join(CASES)} [{' '.join(DEFAULT)}]",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    parser.add_argument(
        "--peers",
        nargs="+",
        metavar="NAME",
        help="contenders beside cloudimg; without it all that are installed, the others are named",
    )
    parser.add_argument(
        "--limit-s", type=float, default=60, help="a read that takes longer is stopped [60]"
    )
    parser.add_argument(
        "--share-s",
        type=float,
        default=30,
        help="a contender that has used this much in a case has no further runs [30]",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=CACHE,
        help="where large files are kept between runs [%(default)s]",
    )
    given = parser.parse_args()
    if given.runs < 1:
        parser.error("--runs must be at least 1")
    known = {c.name for c in contest.CONTENDERS}
    for name in set(given.peers or ()) - known:
        parser.error(f"--peers {name!r} is none of {', '.join(sorted(known))}")
    return given


def _present(wanted: Sequence[str] | None) -> list[contest.Contender]:
    """The contenders that can run. One that was asked for by name must."""
    present = []
    for contender in contest.CONTENDERS:
        ours = contender.name.startswith("cloudimg")
        if wanted is not None and contender.name not in wanted and not ours:
            continue
        missing = contest.missing_packages(contender)
        if not missing:
            present.append(contender)
            continue
        remedy = f"not installed: python -m pip install {' '.join(missing)}"
        if ours or wanted is not None:
            sys.exit(f"{contender.name}: {remedy}")
        print(f"SKIPPED {contender.name} ({'/'.join(contender.kinds)}): {remedy}", flush=True)
    return present


def _fill(meter: Meter, case: Case) -> contest.Job:
    """Put the objects of a case into the store, which then behaves as the case says."""
    for key, data in case.stored.items():
        meter.put(BUCKET, key, data)
    meter.connection(case.store.connection_bytes_per_s)
    meter.link(case.store.link_bytes_per_s)
    meter.faults(case.store.rules())
    keys = tuple(case.stored)
    folder = keys[0].rpartition("/")[0]
    return contest.Job(
        kind=case.kind,
        contender="",
        endpoint=meter.endpoint,
        region=REGION,
        bucket=BUCKET,
        pattern=f"s3://{BUCKET}/{folder}/{objects.NAME}",
        keys=keys,
        image=keys[0],
        window=WINDOW,
        level=OVERVIEW,
        chunk=CHUNK,
    )


def _measure(
    meter: Meter,
    case: Case,
    contenders: Sequence[contest.Contender],
    given: argparse.Namespace,
) -> list[Score]:
    job = _fill(meter, case)
    scores = [Score(c) for c in contenders if case.kind in c.kinds]
    for number in range(given.runs):
        # Each time another one begins, so that none is always behind the same neighbour.
        first = number % len(scores)
        for score in scores[first:] + scores[:first]:
            if score.trouble or sum(run.seconds for run in score.runs) > given.share_s:
                continue
            run = _run(meter, case, job, score.contender, given.limit_s)
            score.runs.append(run)
            said = run.trouble or f"{_seconds(run.seconds)} s"
            print(f"{case.name} {number + 1}: {score.contender.name}: {said}", file=sys.stderr)
    return scores


def _run(
    meter: Meter, case: Case, job: contest.Job, contender: contest.Contender, limit_s: float
) -> Run:
    text = json.dumps(asdict(job) | {"contender": contender.name})
    started_s = time.perf_counter()
    with meter.measure() as traffic:
        try:
            child = subprocess.run(
                [sys.executable, str(CHILD)],
                input=text,
                capture_output=True,
                text=True,
                timeout=limit_s,
                env=_environment(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Run(limit_s, traffic, trouble=f"stopped after {limit_s:g} s")
    if child.returncode:
        lines = child.stderr.strip().splitlines() or [f"exit status {child.returncode}"]
        return Run(time.perf_counter() - started_s, traffic, trouble=lines[-1][:200])
    result = json.loads(child.stdout)
    answer = result.pop("answer")
    is_right = answer == case.truth or (case.is_lossy and _likeness(answer, case.truth))
    trouble = "" if is_right else f"WRONG: {answer} instead of {case.truth}"
    return Run(**result, traffic=traffic, trouble=trouble)


def _environment() -> dict[str, str]:
    """For a child: what some clients take from nowhere else, and no search for an instance role."""
    return os.environ | {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _likeness(answer: str, truth: str) -> bool:
    """Whether two arrays agree in type and shape; decoders of lossy codecs may differ by rounding.

    That cloudimg's pixels are right is tested by the tests, not here.
    """
    return answer.partition(":")[0] == truth.partition(":")[0]


def _failure(score: Score) -> str:
    """What fails the whole run: a wrong answer by anybody, and cloudimg without an answer."""
    ours = score.contender.name.startswith("cloudimg")
    if score.trouble.startswith("WRONG") or (score.trouble and ours):
        return f"{score.contender.name}: {score.trouble}"
    return ""


# What is printed


def _about(given: argparse.Namespace, contenders: Sequence[contest.Contender]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in _versions(contenders).items())
    return (
        f"latency {given.latency_ms:g} ms, up to {given.runs} runs in turns,"
        f" Dask on {contest.DASK_THREADS} threads, Python {sys.version.split()[0]}\n{versions}"
    )


def _versions(contenders: Sequence[contest.Contender]) -> dict[str, str]:
    packages = sorted({package for c in contenders for package in c.packages} | {"numpy"})
    return {package: importlib.metadata.version(package) for package in packages}


COLUMNS: tuple[tuple[str, Callable[[Run, float], str]], ...] = (
    ("x cloudimg", lambda run, ours: f"{run.seconds / ours:.2f}" if ours else "-"),
    ("requests", lambda run, _: str(len(run.traffic.requests))),
    ("MB", lambda run, _: f"{run.traffic.bytes_sent / 1e6:.1f}"),
    ("of stored", lambda _run, _: ""),
    ("trips", lambda run, _: str(run.traffic.round_trips)),
    ("at once", lambda run, _: str(run.traffic.max_concurrent)),
    ("CPU s", lambda run, _: f"{run.cpu_s:.2f}"),
    ("peak MB", lambda run, _: f"{run.peak_mb:.0f}" if run.peak_mb else "-"),
)


def _report(case: Case, scores: Sequence[Score]) -> str:
    ran = [score for score in scores if not score.trouble]
    ours = next((s.median.seconds for s in ran if s.contender.name == "cloudimg"), 0.0)
    head = ["contender", "seconds", *(name for name, _ in COLUMNS), "runs"]
    lines = [f"\n### {case.name}: {case.title}, {case.stored_bytes / 1e6:.1f} MB stored\n"]
    lines += _aligned([head, *(_row(case, score, ours) for score in ran)])
    for score in scores:
        if score.trouble:
            lines.append(f"- {score.contender.name} did not read it: {score.trouble}")
    return "\n".join(lines)


def _as_json(case: Case, scores: Sequence[Score]) -> dict[str, Any]:
    """The figures of a case, for `plot.py`."""
    contenders = {}
    for score in scores:
        run = score.median
        contenders[score.contender.name] = {
            "trouble": score.trouble,
            "seconds": [each.seconds for each in score.runs],
            "cpu_s": [each.cpu_s for each in score.runs],
            "requests": len(run.traffic.requests),
            "bytes_sent": run.traffic.bytes_sent,
            "round_trips": run.traffic.round_trips,
            "max_concurrent": run.traffic.max_concurrent,
            "peak_mb": run.peak_mb,
        }
    return {"title": case.title, "stored_bytes": case.stored_bytes, "contenders": contenders}


def _row(case: Case, score: Score, ours: float) -> list[str]:
    run = score.median
    times = sorted(r.seconds for r in score.runs)
    seconds = f"{_seconds(run.seconds)} ({_seconds(times[0])}..{_seconds(times[-1])})"
    cells = {name: cell(run, ours) for name, cell in COLUMNS}
    cells["of stored"] = f"{run.traffic.bytes_sent / case.stored_bytes:.3f}"
    return [score.contender.name, seconds, *cells.values(), str(len(score.runs))]


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return [line(rows[0]), line(rule), *(line(row) for row in rows[1:])]


if __name__ == "__main__":
    sys.exit(main())
