"""Every file of the corpus through S3: equal to tifffile where it reads, else an error of ours."""

from __future__ import annotations

import csv
import logging
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from tests.metering import Meter

LARGEST_BYTES = 10**9
"""Headers that claim more are opened but not read whole."""
SLOWEST_S = 10


def read_by_tifffile(path: Path) -> np.ndarray[Any, Any] | str | None:
    """The first image; "too large" where its header claims too much; None where it fails."""
    try:
        with warnings.catch_warnings(), tifffile.TiffFile(path) as tiff:
            warnings.simplefilter("ignore")
            series = tiff.series[0]
            if series.nbytes > LARGEST_BYTES:
                return "too large"
            pixels = series.asarray()
    except Exception:  # noqa: BLE001 - hostile files raise anything inside tifffile
        return None
    # An image without samples or type comes back as an empty array: nothing was read.
    return pixels if pixels.size else None


def outcome(url: str, options: dict[str, Any], expected: Any) -> str:
    try:
        image = cloudimg.open(url, storage_options=options)
        if isinstance(expected, str):
            return "opened, too large to read"
        if image.nbytes > LARGEST_BYTES:
            return "claims more than tifffile"
        pixels = image.read()
    except cloudimg.CloudimgError as exc:
        if expected is None:
            return "refused by both"
        return f"REFUSED: {type(exc).__name__}: {str(exc)[:150]}"
    if expected is None:
        return "READ BY US ALONE"
    if pixels.shape != expected.shape:
        pixels = np.moveaxis(pixels, -1, -3)  # planar samples come last with us
    if pixels.dtype != expected.dtype or not np.array_equal(
        pixels, expected, equal_nan=expected.dtype.kind in "fc"
    ):
        return f"WRONG: {pixels.shape} {pixels.dtype} for {expected.shape} {expected.dtype}"
    return "equal"


@pytest.mark.slow
def test_every_file_of_the_corpus(
    corpus: Path, meter: Meter, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.disable(logging.CRITICAL)  # tifffile logs every oddity of every hostile file
    try:
        with (corpus / "index.csv").open(newline="") as file:
            names = [row["path"] for row in csv.DictReader(file)]
        table: Counter[str] = Counter()
        bad = []
        for i, name in enumerate(names):
            path = corpus / "files" / name
            key = f"{i}/{path.suffix.lstrip('.') or 'none'}{path.suffix}"
            meter.put(bucket, key, path.read_bytes())
            begin = time.monotonic()
            found = outcome(f"s3://{bucket}/{key}", meter.storage_options, read_by_tifffile(path))
            if time.monotonic() - begin > SLOWEST_S:
                bad.append(f"{name}: slow")
            table[found.partition(":")[0]] += 1
            if found.partition(":")[0] in ("WRONG", "REFUSED", "READ BY US ALONE"):
                bad.append(f"{name}: {found}")
    finally:
        logging.disable(logging.NOTSET)
    with capsys.disabled():
        print("\n" + "\n".join(f"{count:5d}  {kind}" for kind, count in table.most_common()))
    assert not bad
    assert table["equal"] > 500
