"""What is particular to Azure: its options, the two libraries, and a copy that is killed there."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

import cloudimg
from cloudimg.errors import AccessDeniedError, ArgumentError, LeaseError, NotFoundError
from cloudimg.storage import azure_options
from cloudimg.storage.endpoints import endpoint_of
from cloudimg.storage.urls import split_url
from tests.support import copies, seed
from tests.support.servers import AzureAccount, requests_in

slow = pytest.mark.slow
KEY = "QUJDREVGR0g="
PIXELS = np.random.default_rng(3).integers(1, 2**16, (6, 40, 56), np.uint16)
PARTS: dict[str, Any] = {"chunks": 16, "shards": {"z": 1, "y": 48, "x": 64}, "max_mem": 100_000}
KILLED = """
import json, os, signal, sys
import cloudimg

def kill(advance):
    if advance.n_done >= 2:
        {end}

cloudimg.migrate(*sys.argv[1:3], progress=kill, **json.load(sys.stdin))
"""


@pytest.fixture
def archive(azure: AzureAccount, bucket: str) -> str:
    """The pattern of six planes."""
    with azure.client(bucket) as client:
        client.create_container()
        for z, plane in enumerate(PIXELS):
            client.upload_blob(f"tiffs/z{z}.tif", seed.encode(plane))
            client.upload_blob(f"tiffs/below/{z}.txt", b"not listed")
    return f"az://{bucket}/tiffs/z{{z}}.tif"


def options_of(azure: AzureAccount) -> dict[str, Any]:
    return {"connection_string": azure.connection_string}


def signature(azure: AzureAccount, container: str) -> str:
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    return generate_container_sas(
        azure.name,
        container,
        account_key=azure.key,
        permission=ContainerSasPermissions(read=True, list=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )


# ------------------------------------------------------------------------------- against Azurite


@slow
def test_an_archive_is_read_with_a_listing_and_a_request_for_each_file(
    azure: AzureAccount, archive: str, bucket: str
) -> None:
    with requests_in(azure.log, azure.endpoint) as made:
        image = cloudimg.open(archive, storage_options=options_of(azure))
    listed = f"GET /{azure.name}/{bucket}?restype=container&comp=list&prefix=tiffs%2F&delimiter=%2F"
    first = f"GET /{azure.name}/{bucket}/tiffs/z0.tif"
    assert made == [listed, first]
    with requests_in(azure.log, azure.endpoint) as made:
        np.testing.assert_array_equal(image.to_dask().compute(), PIXELS)
    # The first file came whole with its header.
    assert sorted(made) == [f"GET /{azure.name}/{bucket}/tiffs/z{z}.tif" for z in range(1, 6)]


@slow
def test_keys_signatures_and_variables_open_the_same_image(
    azure: AzureAccount, archive: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = (
        f"BlobEndpoint={azure.endpoint};AccountName={azure.name};"
        f"SharedAccessSignature={signature(azure, bucket)}"
    )
    for url in (archive, archive.replace("az:", "abfs:"), archive.replace("az:", "abfss:")):
        for text in (azure.connection_string, signed):
            given = {"connection_string": text}
            assert cloudimg.open(url, storage_options=given).shape == PIXELS.shape
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure.connection_string)
    # What obstore alone would read from the environment changes nothing.
    monkeypatch.setenv("AZURE_STORAGE_TOKEN", "other")
    monkeypatch.setenv("AZURE_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AZURE_ENDPOINT", "http://127.0.0.1:9")
    assert cloudimg.open(archive).shape == PIXELS.shape


@slow
def test_a_public_container_is_read_without_a_key(azure: AzureAccount, bucket: str) -> None:
    with azure.client(bucket) as client:
        client.create_container(public_access="container")
        client.upload_blob("z0.tif", seed.encode(PIXELS[0]))
    options = {"connection_string": f"AccountName={azure.name};BlobEndpoint={azure.endpoint}"}
    read = cloudimg.imread(f"az://{bucket}/z0.tif", storage_options=options)
    np.testing.assert_array_equal(read.compute(), PIXELS[0])


@slow
@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_errors_say_what_azure_answered(
    azure: AzureAccount, archive: str, backend: str, set_variable: Any
) -> None:
    if backend == "fsspec":
        set_variable("CLOUDIMG_BACKEND", "fsspec")
    options = options_of(azure)
    missing = "az://no-such-container/a.tif"
    with pytest.raises(NotFoundError, match=r"no-such-container/a\.tif"):
        cloudimg.imread(missing, storage_options=options)
    if backend == "obstore":
        with pytest.raises(NotFoundError, match=r"404, ContainerNotFound, [^\n]*$"):
            cloudimg.imread(missing, storage_options=options)
    with pytest.raises(NotFoundError, match=r"z9\.tif"):
        cloudimg.imread(archive.replace("{z}", "9"), storage_options=options)
    with pytest.raises(NotFoundError, match="no-such-container"):
        cloudimg.migrate(archive, "az://no-such-container/c.zarr", source_options=options,
                         target_options=options)  # fmt: skip
    wrong = {"connection_string": azure.connection_string.replace(azure.key, KEY)}
    with pytest.raises(AccessDeniedError, match="403") as denied:
        cloudimg.imread(archive.replace("{z}", "0"), storage_options=wrong)
    assert KEY not in f"{denied.value}{denied.value.cause}"


@slow
def test_a_copy_that_was_killed_goes_on_and_is_verified(
    azure: AzureAccount, archive: str, bucket: str
) -> None:
    url, options = f"az://{bucket}/copy.zarr", options_of(azure)
    given = {**PARTS, "source_options": options, "target_options": options}

    def start(end: str) -> subprocess.Popen[bytes]:
        code = [sys.executable, "-c", KILLED.format(end=end), archive, url]
        process = subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(json.dumps(given).encode())
        process.stdin.close()
        return process

    # One that holds the lease refuses others.
    with start("print('there', flush=True); import time; time.sleep(600)") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"there\n"
        with pytest.raises(LeaseError, match="another migration is writing"):
            cloudimg.migrate(archive, url, **given)
        first.send_signal(signal.SIGKILL)
    with requests_in(azure.log, azure.endpoint) as made:
        done = cloudimg.migrate(archive, url, **given)
    assert done.n_done_before >= 2
    # Shards of finished cells are not stored again.
    written = [each for each in made if re.match(r"PUT .*/0/c/", each)]
    assert 0 < len(written) <= len(PIXELS) - done.n_done_before
    assert cloudimg.verify(url, storage_options=options, against_source=True)
    for data in copies.objects(url, options).values():
        assert azure.key.encode() not in data


# --------------------------------------------------------------------------------- its options


@pytest.mark.parametrize(
    ("options", "endpoint", "credential"),
    [
        (
            {"account_name": "lab", "account_key": KEY, "sas_token": "sig=1"},
            "https://lab.blob.core.windows.net",
            {"access_key": KEY, "expires_at": None},
        ),
        (
            {"account_name": "lab", "sas_token": "?sv=1&sig=a%2Fb", "blocksize": 5},
            "https://lab.blob.core.windows.net",
            {"sas_token": "sv=1&sig=a%2Fb", "expires_at": None},
        ),
        (
            {"account_name": "lab", "account_host": "lab.blob.core.chinacloudapi.cn", "anon": True},
            "https://lab.blob.core.chinacloudapi.cn",
            None,
        ),
        (
            {"connection_string": f"AccountName=lab;AccountKey={KEY};EndpointSuffix=core.us"},
            "https://lab.blob.core.us",
            {"access_key": KEY, "expires_at": None},
        ),
    ],
)  # fmt: skip
def test_options_are_those_of_adlfs(
    options: dict[str, Any], endpoint: str, credential: dict[str, Any] | None
) -> None:
    settings = azure_options.translate(options, "exp")
    assert settings is not None
    assert (settings.container, settings.endpoint, settings.account) == ("exp", endpoint, "lab")
    assert settings.credential == credential
    assert "sig=" not in repr(settings)
    assert KEY not in repr(settings)


@pytest.mark.parametrize(
    "options",
    [
        {"account_name": "lab"},  # whose credentials azure-identity finds
        {"account_name": "lab", "client_id": "1", "client_secret": "2", "tenant_id": "3"},
        {"account_name": "lab", "account_key": KEY, "version_aware": True},
        {"account_name": "lab", "credential": object()},
        {"account_key": KEY},
        {"connection_string": "UseDevelopmentStorage=true"},
        {"connection_string": "nonsense"},
    ],
)
def test_adlfs_applies_what_obstore_cannot(options: dict[str, Any]) -> None:
    assert azure_options.translate(options, "exp") is None


def test_a_key_that_signs_nothing_is_refused_without_being_shown() -> None:
    options = {"account_name": "lab", "account_key": "not-base64"}
    with pytest.raises(ArgumentError, match="not base64") as refused:
        cloudimg.imread("az://exp/a.tif", storage_options=options)
    assert "not-base64" not in f"{refused.value}{refused.value.cause}"
    assert refused.value.__context__ is None


def test_a_url_may_name_the_account() -> None:
    location, _ = split_url("abfss://exp@lab.dfs.core.windows.net/raw/z{z}.tif")
    settings = azure_options.translate({"account_key": KEY}, location.root)
    assert settings is not None
    assert (settings.account, settings.container) == ("lab", "exp")
    assert location.display(f"{location.root}/a.tif") == (
        "abfss://exp@lab.dfs.core.windows.net/a.tif"
    )
    assert endpoint_of(location, {}) == "az://lab"
    assert azure_options.translate({"account_name": "b", "account_key": KEY}, location.root) is None


def test_options_for_one_server_are_not_given_to_another() -> None:
    location, _ = split_url("az://exp/raw/z{z}.tif")
    own = {"connection_string": f"AccountName=lab;AccountKey={KEY};BlobEndpoint=http://h:1/lab"}
    assert endpoint_of(location, own) == "az://h:1/lab"
    assert endpoint_of(location, {"account_name": "lab", "anon": True}) == "az://lab"


@slow
def test_the_extra_is_named_where_adlfs_is_missing() -> None:
    code = """
import sys
sys.modules["adlfs"] = None
import cloudimg
try:
    cloudimg.imread("az://exp/a.tif", storage_options={"account_name": "lab"})
except cloudimg.CloudimgError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert b"pip install 'cloudimg-dask[azure]'" in done.stdout
