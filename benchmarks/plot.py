"""A picture of the figures of `read.py`: how many times as long as cloudimg each reader takes.

``python benchmarks/read.py --json read.json`` and ``python benchmarks/plot.py read.json out.png``;
needs matplotlib. A point is the median of a reader in a case; the line through it reaches from its
fastest to its slowest run. Points to the right of 1 are slower than cloudimg.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any


def ratios(case: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Median, fastest and slowest run of each reader that read the case, over cloudimg's median."""
    read = {name: r["seconds"] for name, r in case["contenders"].items() if not r["trouble"]}
    ours = statistics.median(read["cloudimg"])
    return {
        name: tuple(value / ours for value in (statistics.median(times), min(times), max(times)))
        for name, times in read.items()
        if name != "cloudimg"
    }


def draw(figures: dict[str, Any], target: Path) -> None:
    """Write the picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FixedLocator, NullLocator

    cases = {name: ratios(case) for name, case in figures["cases"].items()}
    readers = sorted({reader for case in cases.values() for reader in case})
    colours = dict(zip(readers, pyplot.get_cmap("tab10").colors, strict=False))
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.55 * len(cases)), layout="constrained")
    for row, (name, case) in enumerate(cases.items()):
        ours = statistics.median(figures["cases"][name]["contenders"]["cloudimg"]["seconds"])
        axes.text(0.405, row, f"{ours:.2f} s", va="center", fontsize=8, color="0.35")
        for i, (reader, (middle, fastest, slowest)) in enumerate(sorted(case.items())):
            at = row + (i - (len(case) - 1) / 2) * 0.11
            axes.plot([fastest, slowest], [at, at], color=colours[reader], lw=1)
            axes.plot([middle], [at], "o", ms=5, color=colours[reader])
    for reader in readers:
        axes.plot([], [], "o", color=colours[reader], label=reader)
    axes.axvline(1, color="black", lw=1)
    axes.set_xscale("log")
    axes.set_xlim(0.4, None)
    ticks = [0.5, 1, 2, 5, 10, 20, 50]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{tick:g} x" for tick in ticks])
    axes.set_yticks(range(len(cases)), [figures["cases"][n]["title"] for n in cases], fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="x", lw=0.3)
    latency = figures["about"]["latency_ms"]
    axes.set_title(f"Time as a multiple of cloudimg's, {latency:g} ms of latency", fontsize=10)
    axes.legend(fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.4, -0.08), frameon=False)
    figure.savefig(target, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("figures", type=Path, help="what read.py --json wrote")
    parser.add_argument("picture", type=Path, help="PNG to write")
    given = parser.parse_args()
    draw(json.loads(given.figures.read_text()), given.picture)


if __name__ == "__main__":
    main()
