"""What it costs to begin: importing cloudimg, and the first answers of the command line.

``python benchmarks/start.py`` runs each command in fresh interpreters, in turns, and prints the
median of their processor time, and what it is over that of an empty interpreter.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import numpy": ["-c", "import numpy"],
    "import cloudimg": ["-c", "import cloudimg"],
    "import dask.array": ["-c", "import dask.array"],
    "cloudimg --help": ["-m", "cloudimg", "--help"],
    "cloudimg info FILE": ["-m", "cloudimg", "info", "{file}"],
    "cloudimg info PATTERN": ["-m", "cloudimg", "info", "{pattern}"],
}


def cpu_s(arguments: list[str]) -> float:
    """Processor seconds of one run, of user and system."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    files = [(os.POSIX_SPAWN_DUP2, quiet, 1)]
    pid = os.posix_spawn(
        sys.executable, [sys.executable, *arguments], os.environ, file_actions=files
    )
    os.close(quiet)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"{' '.join(arguments)} failed")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=9)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for z in range(4):
            pixels = np.full((512, 512), z, np.uint16)
            tifffile.imwrite(Path(folder) / f"z{z}.tif", pixels, compression="zlib")
        places = {"file": f"{folder}/z0.tif", "pattern": f"{folder}/z{{z}}.tif"}
        commands = {
            name: [
                text.format(**places) if text in ("{file}", "{pattern}") else text for text in words
            ]
            for name, words in COMMANDS.items()
        }
        found: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(given.runs):
            for name, words in commands.items():
                found[name].append(cpu_s(words))
    base = statistics.median(found["python -c pass"])
    for name, times in found.items():
        middle = statistics.median(times)
        print(f"{name:24} {middle:6.3f} s  {middle - base:6.3f} s over the interpreter")


if __name__ == "__main__":
    main()
