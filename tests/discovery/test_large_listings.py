"""Listings of many names: how many requests they take, at once, and that none is missed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import (
    ArgumentError,
    GridError,
    MissingFilesError,
    NoMatchError,
    NotFoundError,
    ServerError,
    UnmatchedFilesError,
)
from cloudimg.image.facts import image_facts
from tests.support import seed
from tests.support.metering import Meter
from tests.support.servers import S3Account

FILE = seed.encode(np.full((8, 8), 7, np.uint8))
PATTERN = "mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"


def names(c: int, t: int, x: int, y: int, z: int) -> list[str]:
    ranges = map(range, (c, t, x, y, z))
    return [PATTERN.format(c=c, t=t, x=x, y=y, z=z) for c, t, x, y, z in itertools.product(*ranges)]


def fill(meter: Meter, bucket: str, files: list[str]) -> str:
    """Put files into a folder, and return its URL."""
    meter.fill(bucket, [f"exp/{name}" for name in files], FILE)
    return f"s3://{bucket}/exp"


def opened(meter: Meter, url: str, **options: Any) -> cloudimg.Image:
    return cloudimg.open(url, storage_options=meter.storage_options, **options)


@pytest.mark.slow
def test_a_hundred_thousand_names(meter: Meter, bucket: str) -> None:
    files = names(4, 10, 10, 10, 25)
    others = ["mydata_ch2_notes.txt", "mydata_ch1_", "mydata_ch0_3t_1x_0y_0z_thumb.tif", "z.tif"]
    url = fill(meter, bucket, files + others)
    meter.latency(250)  # long against the time that it takes to read a page
    with meter.measure() as traffic:
        image = opened(meter, f"{url}/{PATTERN}")
    meter.latency(0)
    assert image.n_files == 100_000
    # 101 pages and the end, and for their ranges 3 with delimiters and 20 that end in pages.
    assert (traffic.lists, traffic.heads) == (125, 0)
    assert traffic.round_trips <= 18
    facts: Any = image_facts(image, url)["files"]
    assert facts["unmatched"] == 3
    assert [each.rpartition("/")[2] for each in facts["unmatched_examples"]] == [
        "mydata_ch0_3t_1x_0y_0z_thumb.tif", "mydata_ch1_", "mydata_ch2_notes.txt"
    ]  # fmt: skip


@pytest.mark.slow
def test_numbers_alone_are_cut_at_their_digits(meter: Meter, bucket: str) -> None:
    url = fill(meter, bucket, [f"img_{i}.tif" for i in range(20_000)])
    meter.latency(30)
    with meter.measure() as traffic:
        image = opened(meter, f"{url}/img_{{t}}.tif")
    assert image.n_files == 20_000
    assert traffic.lists == 30
    assert traffic.round_trips <= 14


def test_a_short_listing_takes_no_more_requests(meter: Meter, bucket: str) -> None:
    """Up to four pages follow one another, and the end is asked for again."""
    files = names(1, 4, 10, 10, 10)
    for n, n_requests in ((1000, 2), (4000, 5)):
        url = fill(meter, bucket, files[:n])
        with meter.measure() as traffic:
            image = opened(meter, f"{url}/{PATTERN}", missing="fill")
        assert image.n_files == n
        assert traffic.lists == n_requests


@pytest.mark.slow
def test_narrow_fields_leave_out_what_they_do_not_match(meter: Meter, bucket: str) -> None:
    files = names(2, 40, 5, 5, 20)
    url = fill(meter, bucket, [*files, "mydata_ch0_12t_x.tif", "mydata_ch0_9t_x.tif"])
    with meter.measure() as traffic:
        image = opened(meter, f"{url}/{PATTERN.replace('{t}', '{t:[12]}')}")
    assert image.n_files == 2 * 2 * 500
    assert traffic.lists == 14  # instead of 42
    facts: Any = image_facts(image, url)["files"]
    assert "but those that its fields leave out" in facts["listed"]
    # A copy lists all of them.
    with pytest.raises(UnmatchedFilesError, match=r"38,002 \.tif"):
        cloudimg.migrate(
            f"{url}/{PATTERN.replace('{t}', '{t:[12]}')}",
            f"s3://{bucket}/copy",
            source_options=meter.storage_options,
            target_options=meter.storage_options,
        )


WRONG_PAGES: dict[str, dict[str, Any]] = {
    "error document": {"kind": "body", "body": "<Error><Code>InternalError</Code></Error>"},
    "empty listing": {"kind": "empty"},
    "last page": {"kind": "ended"},
    "another bucket": {"kind": "other-bucket"},
    "half a document": {"kind": "half"},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "backend"), [*((page, "") for page in WRONG_PAGES), ("empty listing", "fsspec")]
)
def test_wrong_pages_of_ranges(
    meter: Meter, bucket: str, set_variable: Callable[[str, str], None], page: str, backend: str
) -> None:
    """None of them shortens a listing, wherever it comes; always wrong ones are an error."""
    set_variable("CLOUDIMG_BACKEND", backend)
    set_variable("CLOUDIMG_ATTEMPTS", "3")
    files = names(2, 12, 5, 5, 10)
    url = f"{fill(meter, bucket, files)}/{PATTERN}"
    rule = {"match": f"^GET /{bucket}/$", **WRONG_PAGES[page]}
    for skip in (5, 9) if backend else (4, 5, 7, 12):
        meter.faults([{**rule, "skip": skip, "times": 2}])
        assert opened(meter, url).n_files == len(files)
    meter.faults([{**rule, "begins_at": "exp/mydata_ch1"}])
    if page == "last page":  # its keys are there, and the next ones where they are asked for
        assert opened(meter, url).n_files == len(files)
        return
    with pytest.raises(ServerError, match="3 attempts"):
        opened(meter, url)


def test_a_throttled_listing_keeps_to_the_rate(meter: Meter, bucket: str) -> None:
    files = names(2, 12, 5, 5, 10)
    url = f"{fill(meter, bucket, files)}/{PATTERN}"
    meter.faults([{"match": f"^GET /{bucket}/$", "status": 503, "skip": 8, "times": 20}])
    assert opened(meter, url).n_files == len(files)


def test_names_of_any_characters(meter: Meter, bucket: str, moto: str) -> None:
    """On servers that encode names in different ways."""
    odd = ["a+b", "a b", "a%20b", "a&amp;b", "ä", "<x>", "\U0001f600", "q\"'", "~", "=;"]
    account = S3Account(moto)
    client = account.client()
    client.create_bucket(Bucket=bucket)
    for name in odd:
        client.put_object(Bucket=bucket, Key=f"dir/{name}.tif", Body=FILE)
        meter.put(bucket, f"dir/{name}.tif", FILE)
    for options in (account.storage_options, meter.storage_options):
        image = cloudimg.open(f"s3://{bucket}/dir/*.tif", storage_options=options)
        assert {str(name) for name in image.coords["file"]} == {f"{n}.tif" for n in odd}


# Probing


def probed(meter: Meter, url: str, **options: Any) -> cloudimg.Image:
    return opened(meter, url, listing="probe", **options)


def test_probing_finds_the_extent_of_each_axis(meter: Meter, bucket: str) -> None:
    url = f"{fill(meter, bucket, names(4, 12, 3, 2, 5))}/{PATTERN}"
    with meter.measure() as traffic:
        image = probed(meter, url)
    assert (traffic.lists, traffic.heads) == (9, 0)
    assert traffic.gets == 3  # as after a listing: the first file, and the last along y and x
    full = opened(meter, url)
    assert (image.shape, image.dims, image.n_files) == (full.shape, full.dims, full.n_files)
    assert list(image.coords["t"]) == list(full.coords["t"])
    np.testing.assert_array_equal(image.read(), full.read())
    assert image.to_dask().name != probed(meter, url).to_dask().name
    assert [note.kind for note in image.notes] == ["probed-files"]
    assert full.to_dask().name == image.scan().to_dask().name
    assert image.isel(t=slice(0, 3)).scan().shape == full.isel(t=slice(0, 3)).shape


def test_probing_many_labels_texts_and_repeated_fields(meter: Meter, bucket: str) -> None:
    wells = [f"{row}{col:02d}" for row in "ABC" for col in (1, 2)]
    files = [f"{well}/{well}_f{f}_t{t:04d}.tif" for well in wells for f in range(2) for t in (5, 7)]
    files += [f"many/{i}.tif" for i in range(2500)]
    url = fill(meter, bucket, files)
    image = probed(meter, f"{url}/{{well:[A-C]\\d+}}/{{well:s}}_f{{f}}_t{{t:04d}}.tif")
    assert image.shape == (6, 2, 2, 8, 8) or image.shape == (2, 6, 2, 8, 8)
    assert list(image.coords["well"]) == wells
    assert image.read().min() == 7
    with meter.measure() as traffic:
        assert probed(meter, f"{url}/many/{{t}}.tif").shape == (2500, 8, 8)
    assert traffic.lists == 3


def test_a_file_that_turns_out_to_be_missing_follows_missing(meter: Meter, bucket: str) -> None:
    files = names(2, 3, 1, 1, 2)
    gone, cut = "mydata_ch0_1t_0x_0y_1z.tif", "mydata_ch1_1t_0x_0y_1z.tif"
    url = f"{fill(meter, bucket, [name for name in files if name != gone])}/{PATTERN}"
    image = probed(meter, url)
    with pytest.raises(NotFoundError, match=gone):
        image.read()
    with pytest.raises(MissingFilesError):
        image.scan()
    filled = probed(meter, url, missing="fill", fill_value=3)
    expected = opened(meter, url, missing="fill", fill_value=3).read()
    np.testing.assert_array_equal(filled.read(), expected)
    np.testing.assert_array_equal(np.asarray(filled.to_dask()), expected)
    assert (expected == 3).sum() == 64
    assert filled.scan().missing
    # Only what is missing is filled.
    meter.put(bucket, f"exp/{cut}", FILE[: len(FILE) // 2])
    with pytest.raises(cloudimg.CloudimgError, match=cut):
        filled.read()


def test_the_first_file_may_be_missing(meter: Meter, bucket: str) -> None:
    files = [f"c{c}_t{t}.tif" for c in range(3) for t in range(4)]
    url = fill(meter, bucket, [name for name in files if name not in ("c0_t0.tif", "c0_t1.tif")])
    with pytest.raises(MissingFilesError, match=r"2 files.*c=0, t=0"):
        probed(meter, f"{url}/c{{c}}_t{{t}}.tif")
    image = probed(meter, f"{url}/c{{c}}_t{{t}}.tif", missing="fill")
    assert (image.n_files, image.shape) == (10, (4, 3, 8, 8))
    np.testing.assert_array_equal(image.read()[..., 0, 0].T, [[0, 0, 7, 7], *[[7] * 4] * 2])


def test_other_files_may_be_where_the_first_and_the_last_ones_are_looked_for(
    meter: Meter, bucket: str
) -> None:
    names = [f"a{c}_t{t}.tif" for c in range(1, 40) for t in (0, 1)]
    url = fill(meter, bucket, ["a0_t.txt", "a40_t.txt", *names])
    with pytest.raises(MissingFilesError, match=r"2 files.*c=0, t=0"):
        probed(meter, f"{url}/a{{c}}_t{{t}}.tif")
    image = probed(meter, f"{url}/a{{c}}_t{{t}}.tif", missing="fill")
    assert (image.shape, image.n_files) == ((2, 41, 8, 8), 80)
    expected = np.repeat([0, 7, 0], [1, 39, 1])
    np.testing.assert_array_equal(image.read()[..., 0, 0], [expected, expected])
    # What a delimiter shows may be a part of another name: headers show that the file is missing.
    names = ["b_0x_0y.tif.txt", "b_0x_1y.tif", "b_1x_0y.tif", "b_2x_0y.tif.txt", "b_2x_1y.tif"]
    fill(meter, bucket, names)
    with pytest.raises(NotFoundError, match=r"b_0x_0y\.tif"):
        probed(meter, f"{url}/b_{{x}}x_{{y}}y.tif")
    image = probed(meter, f"{url}/b_{{x}}x_{{y}}y.tif", missing="fill", fill_value=3)
    np.testing.assert_array_equal(image.read()[::8, ::8], [[3, 7, 3], [7, 3, 7]])
    # Only missing files are filled.
    meter.put(bucket, "exp/b_0x_1y.tif", FILE[: len(FILE) // 2])
    with pytest.raises(cloudimg.CloudimgError, match=r"b_0x_1y\.tif"):
        probed(meter, f"{url}/b_{{x}}x_{{y}}y.tif", missing="fill")


def test_what_cannot_be_probed_is_refused(meter: Meter, bucket: str, tmp_path: Any) -> None:
    url = fill(meter, bucket, ["a_1.tif", "a_2.tif", "a_02.tif", "b_c_1.tif"])
    for pattern, message in (
        ("*_{t}.tif", "cannot find what wildcards of"),
        ("{name:.+}_{t}.tif", "cannot tell where the field name ends, as it may contain '_'"),
        ("a_{t}", "needs text behind the last field"),
    ):
        with pytest.raises(ArgumentError, match=message):
            probed(meter, f"{url}/{pattern}")
    with pytest.raises(GridError, match="2 is written as 02 and as 2"):
        probed(meter, f"{url}/a_{{t}}.tif")
    with pytest.raises(ArgumentError, match="is for patterns"):
        probed(meter, [f"{url}/a_1.tif", f"{url}/a_2.tif"])  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="leave out one of them"):
        probed(meter, f"{url}/a_{{t}}.tif", exclude="x*")
    with pytest.raises(NoMatchError, match="nothing matches"):
        probed(meter, f"{url}/q_{{t}}.tif")
    (tmp_path / "a_1.tif").write_bytes(FILE)
    with pytest.raises(ArgumentError, match=r"as s3 and gs do.*in one listing of the folder"):
        cloudimg.open(f"{tmp_path}/a_{{t}}.tif", listing="probe")
    with pytest.raises(ArgumentError, match="must be one of 'full', 'probe'"):
        cloudimg.open(f"{tmp_path}/a_{{t}}.tif", listing="some")  # type: ignore[arg-type]
    image = probed(meter, f"{url}/a_{{t:\\d}}.tif")
    with pytest.raises(ArgumentError, match=r"copy the image that scan\(\) returns"):
        image.to_zarr(tmp_path / "copy.zarr")
    assert image.scan().to_zarr(tmp_path / "copy.zarr").n_objects


def test_the_command_line_probes(
    meter: Meter, bucket: str, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    url = f"{fill(meter, bucket, names(2, 3, 1, 1, 2))}/{PATTERN}"
    store = ["--storage-options", json.dumps(meter.storage_options), "--listing", "probe"]
    with meter.measure() as traffic:
        assert main(["info", url, "--json", *store]) == 0
    assert traffic.lists == 9
    facts = json.loads(capsys.readouterr().out)
    assert facts["files"]["count"] == 12
    assert main(["preview", url, str(tmp_path / "x.png"), *store]) == 0
    capsys.readouterr()
    assert main(["info", f"{tmp_path}/{{t}}.tif", "--listing", "probe"]) == 2
    assert "--listing probe needs a store" in capsys.readouterr().err
