"""Only the workers reach the store: all works with a client, and this process asks for nothing."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import (
    AccessDeniedError,
    ArgumentError,
    CloudimgError,
    CloudimgWarning,
    ClusterError,
    NoMatchError,
    NotFoundError,
    UnmatchedFilesError,
)
from tests.support import clusters, copies, seed
from tests.support.clusters import local_client
from tests.support.gate import Gate
from tests.support.metering import REGION, Meter
from tests.support.waiting import HANG_S, wait_until

pytestmark = pytest.mark.slow  # all of them together

SHAPE = {"chunks": 32, "shards": {"t": 1, "c": 1, "z": 2, "y": 32, "x": 96}, "levels": 3}
WORDS = ["--chunks", "32", "--shards", "t=1,c=1,z=2,y=32,x=96", "--levels", "3"]
KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Of workers that have the keys to the store in their environment."""
    with local_client(2, 2, set_as_default=False) as client:
        client.run(have_keys)
        yield client


def have_keys() -> None:
    os.environ.update(KEYS)


@dataclass(frozen=True, slots=True)
class Store:
    """The archive of the seed behind a door that is closed for this process."""

    meter: Meter
    gate: Gate
    bucket: str

    @property
    def options(self) -> dict[str, Any]:
        """Without keys, which are the workers' own."""
        return {"client_kwargs": {"endpoint_url": self.gate.endpoint, "region_name": REGION}}

    @property
    def direct(self) -> dict[str, Any]:
        """Options with which this process reaches the same server."""
        return self.meter.storage_options

    def url(self, name: str) -> str:
        return f"s3://{self.bucket}/{name}"

    @property
    def source(self) -> str:
        return self.url(f"src/{seed.PATTERN}")

    def copy(self, name: str, **arguments: Any) -> Any:
        options = {"source_options": self.options, "target_options": self.options}
        return cloudimg.migrate(self.source, self.url(name), **SHAPE, **{**options, **arguments})

    def image_of(self, name: str) -> dict[str, bytes]:
        return copies.image_of(copies.objects(self.url(name), self.direct))

    def lease(self, name: str) -> dict[str, Any]:
        """The last lease of a copy."""
        found = copies.objects(self.url(f"{name}/.cloudimg/lease"), self.direct)
        lease: dict[str, Any] = json.loads(found[max(found)])
        return lease


@pytest.fixture
def store(meter: Meter, bucket: str) -> Iterator[Store]:
    seed.write(lambda key, data: meter.put(bucket, f"src/{key}", data))
    with Gate(meter.endpoint) as gate:
        yield Store(meter, gate, bucket)
        assert gate.connections.total() > 0
        assert os.getpid() not in gate.connections


def test_the_door_is_closed(store: Store) -> None:
    """Or the other tests show nothing."""
    with Gate(store.meter.endpoint) as gate:
        mine = Store(store.meter, gate, store.bucket)
        with pytest.raises(CloudimgError):
            cloudimg.open(mine.source, storage_options={**mine.options, "key": "x", "secret": "y"})
        assert gate.connections[os.getpid()] > 0
    words = [
        sys.executable,
        "-c",
        f"import urllib.request as r; r.urlopen('{store.gate.endpoint}')",
    ]
    subprocess.run(words, check=False, capture_output=True, timeout=HANG_S)


# ------------------------------------------------------------------------------------- reading


def test_an_image_is_as_any_other(client: Any, store: Store) -> None:
    counts: list[tuple[str, int]] = []
    image = cloudimg.open(
        store.source,
        storage_options=store.options,
        client=client,
        progress=lambda what, count: counts.append((what, count)),
    )
    here = cloudimg.open(store.source, storage_options=store.direct)
    assert repr(image) == repr(here)
    assert (image.dims, image.attrs, image.notes) == (here.dims, here.attrs, here.notes)
    assert [file.url for file in image.files] == [file.url for file in here.files]
    assert ("names listed", 360) in counts
    again = pickle.loads(pickle.dumps(image))
    assert repr(again) == repr(image)
    array = again.to_dask(chunks={"z": 5})
    assert len(pickle.dumps(array.__dask_graph__())) < 10_000
    part = client.compute(array[0, 0]).result(HANG_S)
    np.testing.assert_array_equal(part, seed.expected()[0, 0])


def test_imread(client: Any, store: Store) -> None:
    store.meter.put(store.bucket, "src/mydata_ch_extra.tif", seed.encode(np.zeros((4, 4), "u1")))
    with pytest.warns(CloudimgWarning, match=r"mydata_ch_extra\.tif"):
        array = cloudimg.imread(
            store.source, storage_options=store.options, client=client, validate="all"
        )
    total = client.compute(array.sum(dtype="u8")).result(HANG_S)
    assert total == seed.expected().sum(dtype="u8")


def test_descriptions(client: Any, store: Store, tmp_path: Path) -> None:
    there: Any = {"storage_options": store.options, "client": client}
    here: Any = {"storage_options": store.direct}
    for url in (store.source, store.url("src/")):
        assert cloudimg.info(url, **there) == cloudimg.info(url, **here)
    shown = cloudimg.preview(store.source, tmp_path / "there.png", **there)
    cloudimg.preview(store.source, tmp_path / "here.png", **here)
    assert shown.path == str(tmp_path / "there.png")
    assert (tmp_path / "there.png").read_bytes() == (tmp_path / "here.png").read_bytes()
    estimate = cloudimg.dry_run(store.source, **there)
    assert estimate.to_json() == cloudimg.dry_run(store.source, **here).to_json()


def test_paths_are_those_of_the_workers(
    client: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the workers are elsewhere
    (tmp_path / "a_0.tif").write_bytes(seed.encode(np.ones((4, 4), "u1")))
    image = cloudimg.open("a_{z}.tif", client=client)
    assert [file.url for file in image.files] == [str(tmp_path / "a_0.tif")]
    for url in ("b.tif", Path("b_{z}.tif"), ["b_1.tif", "b_2.tif"]):
        with pytest.raises(FileNotFoundError, match="on the workers of the cluster"):
            cloudimg.open(url, client=client)
    with pytest.raises(NoMatchError) as caught:
        cloudimg.open(store.url("none_{z}.tif"), storage_options=store.options, client=client)
    assert "workers" not in str(caught.value)


# -------------------------------------------------------------------------------------- copies


def test_copies(client: Any, store: Store) -> None:
    advances: list[Any] = []
    done = store.copy("there.zarr", client=client, progress=advances.append)
    assert [each.n_done for each in advances if not each.note] == list(range(1, done.n_cells + 1))
    store.copy("here.zarr", source_options=store.direct, target_options=store.direct)
    expected = store.image_of("here.zarr")
    assert store.image_of("there.zarr") == expected
    proof = cloudimg.verify(
        store.url("there.zarr"),
        against_source=True,
        storage_options=store.options,
        client=client,
    )
    assert proof, str(proof)
    assert proof.n_compared > 10
    files: list[int] = []
    exported = cloudimg.export(
        store.url("there.zarr"),
        store.url("exported"),
        source_options=store.options,
        target_options=store.options,
        client=client,
        progress=lambda what, n_files: files.append(n_files),
    )
    assert (exported.n_files, files[-1]) == (360, 360)
    again = cloudimg.open(
        store.url(f"exported/{seed.PATTERN}"), storage_options=store.options, client=client
    )
    again.to_zarr(store.url("again.zarr"), client=client, storage_options=store.options, **SHAPE)
    found = store.image_of("again.zarr")
    pixels = {key for key in expected if "/c/" in key}
    assert {key for key in found if "/c/" in key} == pixels
    assert all(found[key] == expected[key] for key in pixels)
    assert store.copy("there.zarr", client=client).n_objects == 0


def test_arrays(client: Any, store: Store) -> None:
    """Also those whose blocks the workers hold already."""
    pixels = np.arange(3 * 90 * 110, dtype=np.uint16).reshape(3, 90, 110)
    array = client.persist(da.from_array(pixels, chunks=(2, 37, 55)) + 1)
    url, options = store.url("array.zarr"), {"storage_options": store.options}
    cloudimg.to_zarr(array, url, dims="zyx", chunks=32, client=client, **options)
    proof = cloudimg.verify(url, against_source=array, client=client, **options)
    assert proof, str(proof)
    assert proof.n_compared > 0


def test_metadata_of_an_image_that_a_worker_opened(client: Any, store: Store) -> None:
    """A copy has the OME-XML, which an image does not hold."""
    options: Any = {"storage_options": store.options, "client": client}
    data = seed.encode(
        np.zeros((3, 32, 32), "u2"), ome=True, metadata={"axes": "ZYX", "Name": "of the worker"}
    )
    store.meter.put(store.bucket, "one.ome.tif", data)
    image = cloudimg.open(store.url("one.ome.tif"), **options)
    image.to_zarr(store.url("one.zarr"), **options)
    cloudimg.migrate(
        store.url("one.ome.tif"),
        store.url("other.zarr"),
        client=client,
        source_options=store.options,
        target_options=store.options,
    )
    one = store.image_of("one.zarr")
    assert any(b"of the worker" in content for content in one.values())
    assert one == store.image_of("other.zarr")


def test_the_command_line(
    client: Any, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = ["--scheduler", client.scheduler.address, "--endpoint-url", store.gate.endpoint]
    copy = store.url("copy.zarr")
    png = tmp_path / "a.png"
    for words, said in (
        (["info", store.source], "360"),
        (["info", store.url("src/")], seed.PATTERN),
        (["preview", store.source, str(png)], str(png)),
        (["migrate", store.source, copy, "--dry-run"], "360"),
        (["migrate", store.source, copy, *WORDS], f"{copy}: "),
        (["verify", copy, "--against-source"], "no problems"),
        (["export", copy, store.url("exported")], "360 files written"),
    ):
        assert main([*words, *there]) == 0, capsys.readouterr().err
        assert said in capsys.readouterr().out
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert main(["info", store.url("none_{z}.tif"), *there]) == 3
    assert "nothing matches" in capsys.readouterr().err


def test_questions_are_asked_here(client: Any, store: Store) -> None:
    store.meter.put(store.bucket, "full.zarr/zarr.json", b"{}")
    asked: list[Any] = []

    def confirm(deletion: Any) -> bool:
        asked.append((deletion.n_objects, os.getpid()))
        return len(asked) > 1

    with pytest.raises(CloudimgError):
        store.copy("full.zarr", overwrite=True, confirm=confirm, client=client)
    store.copy("full.zarr", overwrite=True, confirm=confirm, client=client)
    assert asked == [(1, os.getpid())] * 2
    assert "0/zarr.json" in store.image_of("full.zarr")


# -------------------------------------------------------------------------------------- errors


def test_errors_are_the_same(client: Any, store: Store) -> None:
    store.meter.put(store.bucket, "src/mydata_ch_extra.tif", seed.encode(np.zeros((4, 4), "u1")))
    store.meter.faults([{"match": r"^GET .*mydata_ch1_1t_2x_2y_9z", "status": 403}])

    def refused(call: Any, *arguments: Any, **options: Any) -> CloudimgError:
        with pytest.raises(CloudimgError) as caught:
            call(*arguments, **options)
        return caught.value

    of_open = [
        (store.url("none_{z}.tif"), {}, NoMatchError),
        ("s3://no-such-bucket-here/a.tif", {}, NotFoundError),
        (store.source, {"validate": "all"}, AccessDeniedError),
        (store.source, {"dims": 3}, ArgumentError),
    ]
    for url, options, kind in of_open:
        there = refused(cloudimg.open, url, storage_options=store.options, client=client, **options)
        here = refused(cloudimg.open, url, storage_options=store.direct, **options)
        assert type(there) is type(here) is kind
        assert str(there) == str(here)
        assert getattr(there, "__notes__", None) == getattr(here, "__notes__", None)
    error = refused(store.copy, "copy.zarr", client=client)
    assert isinstance(error, UnmatchedFilesError)
    error = refused(store.copy, "copy.zarr", client=client, allow_unmatched=True)
    assert isinstance(error, AccessDeniedError)
    assert "mydata_ch1_1t_2x_2y_9z.tif" in str(error)
    error = refused(
        cloudimg.verify, store.url("nothing.zarr"), storage_options=store.options, client=client
    )
    assert isinstance(error, ArgumentError)


def test_an_error_of_others_names_where_it_was_raised(client: Any, store: Store) -> None:
    def broken(deletion: Any) -> Any:
        raise ZeroDivisionError

    class Odd:
        def __call__(self, file: Any, url: str) -> Any:
            return np.load(file)

        def __reduce__(self) -> Any:
            return _unusable, ()

    store.meter.put(store.bucket, "full.zarr/zarr.json", b"{}")
    with pytest.raises(ZeroDivisionError):
        store.copy("full.zarr", overwrite=True, confirm=broken, client=client)
    with pytest.raises(ClusterError, match="cannot unpickle"):
        store.copy("copy.zarr", client=client, imread=Odd())


def _unusable() -> None:
    raise RuntimeError


# ---------------------------------------------------------------------- ends before the end


def pids_of_drivers(client: Any) -> list[int]:
    """Processes of the workers that drive."""
    at = [
        address
        for address, keys in client.processing().items()
        if any(str(key).startswith("cloudimg-drive-") for key in keys)
    ]
    return list(client.run(os.getpid, workers=at).values()) if at else []


def test_a_driver_that_is_lost(store: Store) -> None:
    """Another worker goes on."""
    killed: list[int] = []
    with local_client(3, 1, set_as_default=False) as client:

        def kill(advance: Any) -> None:
            if advance.n_done >= 5 and not killed:
                killed.extend(pids_of_drivers(client))
                os.kill(killed[0], signal.SIGKILL)

        store.meter.latency(10)
        # The worker that takes the place of a lost one has another environment.
        options = {**store.options, "key": "x", "secret": "y"}
        done = store.copy(
            "copy.zarr",
            client=client,
            progress=kill,
            source_options=options,
            target_options=options,
        )
    store.meter.latency(0)
    assert len(killed) == 1
    assert 5 <= done.n_done_before < done.n_cells
    store.copy("here.zarr", source_options=store.direct, target_options=store.direct)
    assert store.image_of("copy.zarr") == store.image_of("here.zarr")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ZeroDivisionError])
def test_a_callback_that_raises_stops_the_copy(
    client: Any, store: Store, kind: type[BaseException]
) -> None:
    """As Ctrl-C does. Nothing of it is under way, and it can be continued at once."""

    def stop(advance: Any) -> None:
        if advance.n_done == 5:
            raise kind

    store.meter.latency(10)
    with pytest.raises(kind):
        store.copy("copy.zarr", client=client, progress=stop)
    assert store.lease("copy.zarr")["released"] is True
    store.meter.latency(0)
    notes: list[str] = []
    done = store.copy("copy.zarr", client=client, progress=lambda each: notes.append(each.note))
    assert 5 <= done.n_done_before < done.n_cells
    assert not any("waiting" in note for note in notes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_command_that_is_interrupted(client: Any, store: Store, number: int) -> None:
    """The worker stops when the command has ended, however it did."""
    words = ["migrate", store.source, store.url("copy.zarr"), *WORDS]
    words += ["--scheduler", client.scheduler.address, "--endpoint-url", store.gate.endpoint]
    store.meter.latency(30)
    command = subprocess.Popen(
        [sys.executable, "-m", "cloudimg", *words],
        stderr=subprocess.PIPE,
        cwd=clusters.REPOSITORY,
        text=True,
    )
    store.gate.watch(command.pid)

    def has_cells() -> bool:
        return any("/cells/" in name for name in copies.names(store.url("copy.zarr"), store.direct))

    wait_until(has_cells, "writing")
    command.send_signal(number)
    _, said = command.communicate(timeout=HANG_S)
    if number == signal.SIGINT:
        assert (command.returncode, said) == (130, "cloudimg: interrupted\n")
    assert command.pid not in store.gate.connections
    wait_until(lambda: not pids_of_drivers(client), "the end of the call")
    wait_until(lambda: store.lease("copy.zarr")["released"] is True, "the end of the lease")
    store.meter.latency(0)
    done = store.copy("copy.zarr", client=client)
    assert 1 <= done.n_done_before < done.n_cells
