"""One read by one contender, in an interpreter of its own; `read.py` starts it.

It takes the job (JSON) from standard input and writes what came of it (JSON) to standard output.
A child does one read, so that no contender finds anything in a cache of its own or of another.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import peers_files  # noqa: F401 - registers
import peers_large  # noqa: F401
from contest import DASK_THREADS, Job, find
from objects import digest


def peak_mb() -> float | None:
    """The most memory that this process ever held, where the system tells it.

    Not getrusage's: that begins with the peak of the process that forked this one.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None


def _set_up_dask() -> None:
    import dask

    dask.config.set(scheduler="threads", num_workers=DASK_THREADS)
    with contextlib.suppress(ImportError):
        import distributed  # noqa: F401 - Dask looks for it at the first compute()


def main() -> None:
    given = json.load(sys.stdin)
    job = Job(**given | {"keys": tuple(given["keys"]), "window": tuple(given["window"])})
    read = find(job.kind, job.contender).prepare(job)
    if "dask" in sys.modules:
        _set_up_dask()
    before_s, cpu_before_s = time.perf_counter(), time.process_time()
    found = read()
    seconds, cpu_s = time.perf_counter() - before_s, time.process_time() - cpu_before_s
    peak = peak_mb()
    answer = str(found) if isinstance(found, int) else digest(found)
    result = {"seconds": seconds, "cpu_s": cpu_s, "peak_mb": peak, "answer": answer}
    json.dump(result, sys.stdout)
    sys.stdout.flush()
    # Not sys.exit: threads that some clients leave behind crash an interpreter that ends.
    os._exit(0)


if __name__ == "__main__":
    main()
