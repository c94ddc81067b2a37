"""How many decode threads find work in one file.

``python benchmarks/decode.py`` reads files of 256 tiles, strips and pages from the metering server
of the tests with 16 decode threads, however many processors there are: each segment takes 10 ms
more than its codec does, asleep. Prints how many threads decoded at one time, at most and on
average over the time from the first segment to the last.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from cases import CASES
from read import BUCKET, CACHE

from tests.support.metering import Meter

FILES = ("jpeg", "jpeg2000", "zstd", "lzw", "strips", "pages")
CODECS = ("jpeg_decode", "jpeg8_decode", "jpeg2k_decode", "zstd_decode", "lzw_decode")
DEFLATE = ("zlib_decode", "deflate_decode")


class Busy:
    """Decoders that sleep first, and how many did so at one time."""

    def __init__(self, segment_s: float) -> None:
        self.segment_s = segment_s
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.within = threading.local()
        self.times: list[tuple[float, float]] = []

    def wrap(self, decode: Any) -> Any:
        def slow(*arguments: Any, **options: Any) -> Any:
            if getattr(self.within, "decoder", False):  # one decoder calls another
                return decode(*arguments, **options)
            self.within.decoder = True
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
            began = time.perf_counter()
            try:
                time.sleep(self.segment_s)
                return decode(*arguments, **options)
            finally:
                self.within.decoder = False
                with self.lock:
                    self.now -= 1
                    self.times.append((began, time.perf_counter()))

        return slow

    def report(self) -> dict[str, float]:
        took_s = max(end for _, end in self.times) - min(begin for begin, _ in self.times)
        busy_s = sum(end - begin for begin, end in self.times)
        return {"segments": len(self.times), "most": self.most, "mean": busy_s / took_s}


def read_slowly(url: str, endpoint: str, segment_s: float) -> dict[str, float]:
    """Read a file with decoders that sleep, in a process of its own."""
    import imagecodecs

    busy = Busy(segment_s)
    for name in (*CODECS, *DEFLATE):
        setattr(imagecodecs, name, busy.wrap(getattr(imagecodecs, name)))
    import cloudimg

    options = {"key": "x", "secret": "y", "client_kwargs": {"endpoint_url": endpoint}}
    cloudimg.open(url, storage_options=options).read()
    return busy.report()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--segment-ms", type=float, default=10)
    parser.add_argument("--latency-ms", type=float, default=30)
    parser.add_argument("--only", nargs="+", choices=FILES, default=FILES)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(read_slowly(*given.child, given.segment_ms / 1000)))
        return
    for name in given.only:
        case = CASES[name](CACHE)
        (key,) = case.stored
        with Meter.start(latency_ms=given.latency_ms) as meter:
            meter.put(BUCKET, key, case.stored[key])
            child = [sys.executable, __file__, "--segment-ms", str(given.segment_ms)]
            found = subprocess.run(
                [*child, "--child", f"s3://{BUCKET}/{key}", meter.endpoint],
                env=os.environ | {"CLOUDIMG_DECODE_THREADS": str(given.threads)},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        busy = json.loads(found.stdout)
        print(
            f"{name:10} {busy['segments']:6.0f} segments  at most {busy['most']:3.0f} and on"
            f" average {busy['mean']:5.1f} of {given.threads} threads",
            flush=True,
        )


if __name__ == "__main__":
    main()
