"""Which threads decode what, counted by codecs that wait for one another or look around."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

COUNT_DECODES = """
import sys, threading
import imagecodecs, numpy as np
import cloudimg

path, truth, codec, wanted, patience_s = sys.argv[1:]
changed = threading.Condition()
n_now = most = 0
decode = getattr(imagecodecs, codec)

def decode_when_others_do(*arguments, **options):
    global n_now, most
    with changed:
        n_now += 1
        most = max(most, n_now)
        changed.notify_all()
        changed.wait_for(lambda: most >= int(wanted), float(patience_s))
    try:
        return decode(*arguments, **options)
    finally:
        with changed:
            n_now -= 1

setattr(imagecodecs, codec, decode_when_others_do)
np.testing.assert_array_equal(cloudimg.open(path).read(), np.load(truth))
print(most)
"""


def smooth(height: int, width: int, dtype: Any = np.uint8) -> npt.NDArray[Any]:
    rows, columns = np.ogrid[:height, :width]
    return ((rows + columns) % 251).astype(dtype)


def run(script: str, *arguments: object, **settings: object) -> str:
    answer = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **{f"CLOUDIMG_{name}": str(n) for name, n in settings.items()}},
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compression", "codec", "shape", "segments"),
    [
        ("jpeg", "jpeg_decode", (1024, 1024), {"tile": (64, 64)}),
        ("jpeg2000", "jpeg2k_decode", (1024, 1024), {"tile": (64, 64)}),
        ("zstd", "zstd_decode", (512, 64), {"rowsperstrip": 2}),
        ("zlib", "deflate_decode", (2048, 2048), {"tile": (512, 512)}),
    ],
)
def test_all_threads_decode_the_segments_of_one_file(
    tmp_path: Path, compression: str, codec: str, shape: tuple[int, int], segments: dict[str, Any]
) -> None:
    """They all come with one request. The first of them waits until 14 are being decoded."""
    path, truth = tmp_path / "file.tif", tmp_path / "truth.npy"
    pixels = smooth(*shape)
    if compression == "zlib":  # 16 segments only, of which each takes long enough to be shared
        pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    tifffile.imwrite(path, pixels, compression=compression, **segments)
    np.save(truth, tifffile.imread(path))
    assert int(run(COUNT_DECODES, path, truth, codec, 14, 20, DECODE_THREADS=16)) >= 14


@pytest.mark.slow
def test_few_small_segments_are_decoded_by_one_thread(tmp_path: Path) -> None:
    """To wake another thread would take as long. Each segment looks for another one beside it."""
    path, truth = tmp_path / "file.tif", tmp_path / "truth.npy"
    np.save(truth, smooth(64, 64))
    tifffile.imwrite(path, np.load(truth), compression="zlib", rowsperstrip=16)
    n_at_once = run(COUNT_DECODES, path, truth, "deflate_decode", 2, 0.2, DECODE_THREADS=16)
    assert int(n_at_once) == 1


LOOK_FOR_OTHER_REQUESTS = """
import sys, threading
import imagecodecs, numpy as np
import cloudimg

path, truth, n_together = sys.argv[1:]
lock, most_came, another_came = threading.Lock(), threading.Event(), threading.Event()
answers, seen = [], []
n_decoded = 0
decode = imagecodecs.zstd_decode

def look(data, **options):
    global n_decoded
    with lock:
        is_first = not answers
        answers.append(data.obj)
        if data.obj is not answers[0]:
            another_came.set()
        n_decoded += 1
        if n_decoded == int(n_together):
            most_came.set()
    if is_first:
        seen.append(most_came.wait(20))
        seen.append(another_came.wait(0.5))  # while the bytes of this segment are held
    return decode(data, **options)

imagecodecs.zstd_decode = look
np.testing.assert_array_equal(cloudimg.open(path).read(), np.load(truth))
assert seen == [True, False], seen
assert another_came.is_set()
"""


@pytest.mark.slow
def test_bytes_count_as_in_flight_until_their_last_segment_is_decoded(tmp_path: Path) -> None:
    """With room for one request: nothing else is fetched while one of its segments is decoded."""
    path, truth = tmp_path / "file.tif", tmp_path / "truth.npy"
    pixels = np.random.default_rng(1).integers(0, 2**16, (3072, 3072), np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, compression="zstd", tile=(256, 256))
    path.write_bytes(buffer.getvalue())
    assert path.stat().st_size > 16 * 2**20  # otherwise it would be fetched with one request
    np.save(truth, pixels)
    # A request has seven of them.
    run(LOOK_FOR_OTHER_REQUESTS, path, truth, 7, DECODE_THREADS=8, MAX_BYTES_IN_FLIGHT=1)


READ_DAMAGED = """
import sys
import cloudimg, cloudimg.errors
try:
    cloudimg.open(sys.argv[1]).read()
except cloudimg.errors.CorruptFileError as error:
    print(str(error).partition(" of page")[0])
"""


@pytest.mark.slow
def test_the_first_damaged_segment_is_named_whoever_finds_the_others(tmp_path: Path) -> None:
    """The second half is left to another thread, which comes to its damaged segment at once."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, smooth(512, 512) // 16, compression="zlib", tile=(32, 32))
    assert len(buffer.getvalue()) < 2**15  # it comes with one request
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as tiff:
        offsets = tiff.pages.first.dataoffsets
    data = bytearray(buffer.getvalue())
    for number in (120, 129, 200):
        data[offsets[number] : offsets[number] + 16] = bytes(16)
    path = tmp_path / "file.tif"
    path.write_bytes(data)
    assert run(READ_DAMAGED, path, DECODE_THREADS=4) == "segment 120\n"
