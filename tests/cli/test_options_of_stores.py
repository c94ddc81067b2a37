"""Options go to the store that they were given for; what a plan names is not opened unasked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError
from cloudimg.migration.journal.destination import open_destination
from cloudimg.migration.journal.inventory import RecordsDigest
from cloudimg.migration.journal.layout import END_MARK, PLAN, PLAN_COPY
from cloudimg.migration.journal.records import read_records, record_key
from cloudimg.migration.journal.sealing import checksum, get_sealed, put_sealed
from cloudimg.migration.journal.state_from_json import identity_of
from cloudimg.migration.plan.plan import Plan
from cloudimg.storage import endpoint_of, split_url
from tests.conftest import WebServer
from tests.support import seed
from tests.support.metering import Meter
from tests.support.terminal import ask

PIXELS = np.arange(4 * 32 * 48, dtype=np.uint16).reshape(4, 32, 48)


@pytest.fixture(scope="module")
def second_server() -> Iterator[Meter]:
    with Meter.start() as server:
        yield server


@pytest.fixture
def other(second_server: Meter, bucket: str) -> Iterator[Meter]:
    """Another S3 at its own endpoint, with a bucket of the same name."""
    second_server.create(bucket)
    second_server.reset()
    yield second_server
    second_server.drop(bucket)


def write_files(put: Any) -> None:
    for z, plane in enumerate(PIXELS):
        put(f"z{z}.tif", seed.encode(plane))


@pytest.fixture
def local_files(tmp_path: Path) -> str:
    write_files(lambda key, data: (tmp_path / key).write_bytes(data))
    return f"{tmp_path}/z{{z}}.tif"


def keys_of(meter: Meter) -> str:
    return json.dumps({name: meter.storage_options[name] for name in ("key", "secret")})


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """Run a command, and return what it printed."""
    ended = main(list(words))
    shown = capsys.readouterr()
    assert ended == code, shown
    return shown.out + shown.err


# ------------------------------------------------------------------------- local files, S3 apart


def test_local_files_to_a_store_at_its_own_endpoint(
    local_files: str, meter: Meter, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url, keys = f"s3://{bucket}/copy.zarr", keys_of(meter)
    at = ["--endpoint-url", meter.endpoint]
    # A disk has no endpoint, so it can only be that of the copy.
    run(capsys, "migrate", local_files, url, *at, "--target-options", keys)
    store = [*at, "--storage-options", keys]
    assert "is verified" in run(capsys, "verify", url, *store, "--against-source")
    # The same in a store that only fsspec serves.
    assert "is verified" in run(
        capsys,
        "verify",
        url,
        *store,
        "--against-source",
        "--source-options",
        '{"auto_mkdir": true}',
    )
    whole = json.dumps({**json.loads(keys), "endpoint_url": meter.endpoint})
    run(capsys, "migrate", local_files, f"{url}2", "--target-options", whole)
    done = run(capsys, "verify", f"{url}2", "--storage-options", whole, "--against-source")
    assert "is verified" in done


def test_export_to_a_store_at_its_own_endpoint(
    local_files: str, meter: Meter, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, out = str(tmp_path / "copy.zarr"), f"s3://{bucket}/files"
    run(capsys, "migrate", local_files, copy)
    at = ["--endpoint-url", meter.endpoint, "--target-options", keys_of(meter)]
    run(capsys, "export", copy, out, *at)
    image = cloudimg.imread(f"{out}/z{{z}}.tif", storage_options=meter.storage_options)
    np.testing.assert_array_equal(image.compute(), PIXELS)


def test_an_endpoint_is_given_once(
    local_files: str, meter: Meter, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url, at = f"s3://{bucket}/copy.zarr", ["--endpoint-url", meter.endpoint]
    both = ["--target-options", json.dumps({"endpoint_url": meter.endpoint})]
    shown = run(capsys, "migrate", local_files, url, *at, *both, code=2)
    assert "--endpoint-url and --target-options both set endpoint_url" in shown
    shown = run(capsys, "migrate", local_files, url, "--anon", code=2)
    assert "--anon does not apply to file://" in shown


def test_options_of_a_source_do_not_reach_another_protocol(
    local_files: str, meter: Meter, bucket: str, httpd: WebServer, tmp_path: Path
) -> None:
    folder = httpd.root / bucket
    folder.mkdir()
    write_files(lambda key, data: (folder / key).write_bytes(data))
    source = f"{httpd.endpoint}/{bucket}/z{{z}}.tif"
    url = f"s3://{bucket}/copy.zarr"
    cloudimg.migrate(source, url, target_options=meter.storage_options)
    # Options of S3 would be none that a web server knows, and fail.
    assert cloudimg.verify(url, against_source=True, storage_options=meter.storage_options)
    assert main(["export", url, str(tmp_path / "out"), "--endpoint-url", meter.endpoint,
        "--source-options", keys_of(meter)]) == 0  # fmt: skip


# -------------------------------------------------------------------------------- S3 and S3 apart


def test_between_two_endpoints(
    meter: Meter, other: Meter, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The source is not sought where the copy is, nor are the options of one given to the other."""
    write_files(lambda key, data: meter.put(bucket, key, data))
    source, url = f"s3://{bucket}/z{{z}}.tif", f"s3://{bucket}/copy.zarr"
    of_source = ["--source-options", keys_of(meter)]
    of_target = json.dumps({**json.loads(keys_of(other)), "endpoint_url": other.endpoint})
    at_source, at_copy = ["--endpoint-url", meter.endpoint], ["--endpoint-url", other.endpoint]
    words = [*at_source, *of_source, "--target-options", of_target]
    run(capsys, "migrate", source, url, *words)
    copy = [*at_copy, "--storage-options", keys_of(other)]

    host = meter.endpoint.partition("://")[2]
    meter.reset()
    shown = run(capsys, "verify", url, *copy, "--against-source", "--yes", code=2)
    assert f"the source was read from s3://{host}, which neither" in shown
    assert "--source-options" in shown
    whole = json.dumps({**json.loads(keys_of(meter)), "endpoint_url": meter.endpoint})
    # An endpoint that is typed is one that may be opened.
    done = run(capsys, "verify", url, *copy, "--against-source", "--source-options", whole)
    assert "is verified" in done
    done = run(capsys, "verify", url, *copy, "--source", source, "--source-options", whole)
    assert "is verified" in done
    # The configuration counts as well as options, and empty options are options.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", meter.endpoint)
        for name, value in zip(("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"), "xy", strict=True):
            patch.setenv(f"AWS_{name}", value)
        empty = ["--source-options", "{}"]
        done = run(capsys, "verify", url, *copy, "--against-source", "--yes", *empty)
        assert "is verified" in done
        done = run(capsys, "verify", url, *copy, "--against-source", "--yes")
        assert "is verified" in done


def test_one_store_takes_one_set_of_options(
    meter: Meter, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(lambda key, data: meter.put(bucket, key, data))
    source, url = f"s3://{bucket}/z{{z}}.tif", f"s3://{bucket}/copy.zarr"
    at = ["--endpoint-url", meter.endpoint]
    run(capsys, "migrate", source, url, *at, "--source-options", keys_of(meter))
    store = [*at, "--storage-options", keys_of(meter)]
    assert "is verified" in run(capsys, "verify", url, *store, "--against-source")
    options = meter.storage_options
    assert cloudimg.verify(url, against_source=True, storage_options=options)
    assert cloudimg.verify(url, source=source, storage_options=options, source_options=options)
    # Given, and empty: the source would be at AWS.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
        patch.setenv("CLOUDIMG_ATTEMPTS", "1")
        cloudimg.settings.settings.cache_clear()
        shown = run(
            capsys, "verify", url, *store, "--against-source", "--yes", "--source-options", "{}",
            code=6,
        )  # fmt: skip
    cloudimg.settings.settings.cache_clear()
    assert "is verified" not in shown


def test_a_plan_without_the_endpoint_of_its_source(
    meter: Meter, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plans of earlier versions lack it, and either store could be meant."""
    write_files(lambda key, data: meter.put(bucket, key, data))
    source, url, options = (
        f"s3://{bucket}/z{{z}}.tif",
        f"s3://{bucket}/c.zarr",
        meter.storage_options,
    )
    cloudimg.migrate(source, url, source_options=options, target_options=options)
    rewrite_source(url, options, {"endpoint": None})
    copy, empty = ["--storage-options", json.dumps(options)], ["--source-options", "{}"]
    shown = run(capsys, "verify", url, *copy, "--against-source", "--yes", code=2)
    host = meter.endpoint.partition("://")[2]
    assert f"does not say whether the source is at s3://{host}, as the copy is, or at s3:" in shown
    assert "--source-options '{}' for that of the configuration" in shown
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", meter.endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", options["key"])
        patch.setenv("AWS_SECRET_ACCESS_KEY", options["secret"])
        assert "is verified" in run(capsys, "verify", url, *copy, "--against-source", *empty)
        assert "is verified" in run(capsys, "verify", url, *copy, "--against-source")


def test_target_options_may_be_empty(
    meter: Meter, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Empty ones are those of the configuration, not those of the source."""
    write_files(lambda key, data: meter.put(bucket, key, data))
    source, url = f"s3://{bucket}/z{{z}}.tif", f"s3://{bucket}/copy.zarr"
    words = ["--endpoint-url", meter.endpoint, "--source-options", keys_of(meter)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
        patch.setenv("CLOUDIMG_ATTEMPTS", "1")
        cloudimg.settings.settings.cache_clear()
        run(capsys, "migrate", source, url, *words, "--target-options", "{}", code=6)
        run(capsys, "migrate", source, url, *words)
    cloudimg.settings.settings.cache_clear()


def test_a_source_that_moved(
    meter: Meter, bucket: str, local_files: str, tmp_path: Path, httpd: WebServer
) -> None:
    url, options = f"s3://{bucket}/copy.zarr", meter.storage_options
    cloudimg.migrate(local_files, url, target_options=options)
    moved = httpd.root / bucket
    moved.mkdir()
    for path in tmp_path.glob("z*.tif"):
        path.rename(moved / path.name)
    assert not cloudimg.verify(url, against_source=True, storage_options=options)
    there = f"{httpd.endpoint}/{bucket}/z{{z}}.tif"
    assert cloudimg.verify(url, source=there, storage_options=options)
    names = [f"{moved}/z{z}.tif" for z in range(4)]
    with pytest.raises(ArgumentError, match="the source to compare with has dims"):
        cloudimg.verify(url, source=names[0], storage_options=options)
    (moved / "z2.tif").write_bytes(seed.encode(PIXELS[2] + 1))
    assert "differ from the source's" in str(
        cloudimg.verify(url, source=there, storage_options=options)
    )
    with pytest.raises(ArgumentError, match="exclude each other"):
        cloudimg.verify(
            url, source=there, against_source=cloudimg.open(there), storage_options=options
        )


def test_a_source_with_credentials_in_its_url(
    httpd: WebServer, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are not stored, so the URL is given again: signed anew, it is the same source."""
    folder, copy = httpd.root / bucket, str(tmp_path / "copy.zarr")
    folder.mkdir()
    write_files(lambda key, data: (folder / key).write_bytes(data))

    def signed(n: int) -> list[str]:
        query = f"X-Amz-Date=2026010{n}&X-Amz-Signature=ab{n}"
        return [f"{httpd.endpoint}/{bucket}/z{z}.tif?{query}" for z in range(4)]

    cloudimg.migrate(signed(1), copy)
    shown = run(capsys, "verify", copy, "--against-source", "--yes", code=2)
    assert "which are not stored: pass --source with it" in shown
    assert "is verified" in run(capsys, "verify", copy, "--source", *signed(2))
    (folder / "z1.tif").write_bytes(seed.encode(PIXELS[1]) + b"the same pixels")
    assert not cloudimg.verify(copy, source=signed(3))


@pytest.mark.parametrize(
    ("url", "options", "environment", "expected"),
    [
        ("s3://b/k", {}, {}, "s3://amazonaws.com"),
        (
            "s3://b/k",
            {"endpoint_url": "https://s3.eu-west-1.amazonaws.com"},
            {},
            "s3://amazonaws.com",
        ),
        ("s3://b/k", {"endpoint_url": "https://u:p@Host:9000/x"}, {}, "s3://host:9000"),
        ("s3://b/k", {"endpoint_url": "https://host:443"}, {}, "s3://host"),
        ("s3://b/k", {"client_kwargs": {"endpoint_url": "http://h:1"}}, {}, "s3://h:1"),
        ("s3://b/k", {}, {"AWS_ENDPOINT_URL": "http://h:2"}, "s3://h:2"),
        ("s3://b/k", {"profile": "none"}, {}, None),
        ("gs://b/k", {}, {}, "gs://storage.googleapis.com"),
        ("gs://b/k", {"endpoint_url": "http://h:3"}, {}, "gs://h:3"),
        ("gs://b/k", {}, {"STORAGE_EMULATOR_HOST": "h:4"}, "gs://h:4"),
        ("az://c/k", {"account_name": "lab"}, {}, "az://lab"),
        ("abfs://c/k", {"connection_string": "A=b;AccountName=lab;AccountKey=s"}, {}, "az://lab"),
        ("az://c/k", {}, {}, None),
        ("https://user:pw@host/k", {}, {}, "https://host"),
        ("http://host:80/k", {}, {}, "http://host"),
        ("sftp://me@host/k", {"password": "pw"}, {}, "sftp://host"),
        ("/data/k", {}, {}, "file://"),
        ("simplecache::s3://b/k", {}, {}, None),
    ],
)
def test_where_requests_go(
    url: str, options: dict[str, Any], environment: dict[str, str], expected: str | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        assert endpoint_of(split_url(url)[0], options) == expected


# ------------------------------------------------------------------- somebody else's plan


def rewrite_source(copy: Path | str, options: dict[str, Any], source: dict[str, Any]) -> None:
    """Write into a copy what whoever wrote it might have, in all objects that name its plan."""
    destination = open_destination(copy, options)
    content = get_sealed(destination, PLAN)
    content["source"] |= source
    content["id"] = identity_of(content["plan"], content["request"], content["source"])
    put_sealed(destination, PLAN, content)
    put_sealed(destination, PLAN_COPY, content)
    plan = Plan.from_json(content["plan"])
    digest = RecordsDigest(plan)
    for stage in range(len(plan.stages)):
        for number in range(plan.n_cells(stage)):
            key = record_key(stage, number)
            put_sealed(destination, key, get_sealed(destination, key) | {"plan": content["id"]})
        for _, record in read_records(destination, stage, range(plan.n_cells(stage))):
            digest.add(record)
    end_mark = get_sealed(destination, END_MARK)
    changed = {
        "plan": content["id"],
        "receipts": digest.digest(),
        "plan_sha256": checksum(content),
    }
    put_sealed(destination, END_MARK, end_mark | changed)


def name_another_source(copy: Path, url: str) -> None:
    rewrite_source(copy, {}, {"urls": [url], "endpoint": None})


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--json"], ["--sample", "1"], []])
def test_a_plan_opens_nothing_without_a_word(
    local_files: str,
    meter: Meter,
    bucket: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(local_files, copy)
    name_another_source(copy, f"{meter.endpoint}/{bucket}/latest/z{{z}}.tif")
    meter.reset()
    with meter.measure() as traffic:
        shown = run(capsys, "verify", str(copy), "--against-source", *words, code=2)
    assert traffic.requests == []
    assert f"says that it was made of files in {meter.endpoint}: " in shown
    assert "add --yes, or name the source with --source" in shown
    with meter.measure() as traffic:
        run(capsys, "verify", str(copy), "--against-source", "--yes", *words, code=6)
    assert traffic.requests
    with meter.measure() as traffic:
        run(capsys, "verify", str(copy), "--source", local_files, *words)
    assert traffic.requests == []


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "opens"), [("y", True), ("n", False), ("\r", False)])
def test_the_question_names_the_host(
    local_files: str, meter: Meter, bucket: str, tmp_path: Path, answer: str, opens: bool
) -> None:
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(local_files, copy)
    name_another_source(copy, f"{meter.endpoint}/{bucket}/z{{z}}.tif")
    with meter.measure() as traffic:
        code, shown = ask(["verify", str(copy), "--against-source"], answer)
    assert code == (6 if opens else 1)
    assert f"was made of files in {meter.endpoint}. Open them with your rights? [y/N]" in shown
    assert bool(traffic.requests) is opens
    assert ("the answer was not yes" in shown) is not opens


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://169.254.169.254/latest/z{z}.tif", "http://169.254.169.254"),
        ("http://user:pass@169.254.169.254/z{z}.tif", "http://***@169.254.169.254"),
        ("s3://private/z{z}.tif", "s3://private at amazonaws.com"),
        ("zip://z{z}.tif::http://169.254.169.254/a.zip", "zip://::http://169.254.169.254/a.zip"),
        ("simplecache::sftp://host/z{z}.tif", "simplecache::sftp://host"),
    ],
)
def test_any_other_place_is_named(
    local_files: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str, place: str
) -> None:
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(local_files, copy)
    name_another_source(copy, url)
    shown = run(capsys, "verify", str(copy), "--against-source", code=2)
    assert f"was made of files in {place}: " in shown


def test_a_bucket_of_the_same_name_elsewhere(
    meter: Meter, other: Meter, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(lambda key, data: meter.put(bucket, key, data))
    url, host = f"s3://{bucket}/copy.zarr", meter.endpoint.partition("://")[2]
    cloudimg.migrate(
        f"s3://{bucket}/z{{z}}.tif",
        url,
        source_options=meter.storage_options,
        target_options=other.storage_options,
    )
    copy = ["--storage-options", json.dumps(other.storage_options)]
    shown = run(capsys, "verify", url, *copy, "--against-source", code=2)
    assert f"was made of files in s3://{bucket} at {host}: " in shown


def test_options_do_not_follow_a_plan_that_lies(
    local_files: str, meter: Meter, other: Meter, bucket: str
) -> None:
    """A plan that claims the endpoint of the copy does not get its options sent elsewhere."""
    url, options = f"s3://{bucket}/copy.zarr", meter.storage_options
    cloudimg.migrate(local_files, url, target_options=options)
    host = meter.endpoint.partition("://")[2]
    urls = [f"{other.endpoint}/{bucket}/z{{z}}.tif"]
    rewrite_source(url, options, {"urls": urls, "endpoint": f"s3://{host}"})
    refused = pytest.raises(ArgumentError, match=f"the source was read from s3://{host}, which")
    with other.measure() as traffic, refused:
        cloudimg.verify(url, against_source=True, storage_options=options)
    assert traffic.requests == []
