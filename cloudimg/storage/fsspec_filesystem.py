"""The fsspec filesystem of a location, with connections, time-outs and retries of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudimg.errors import ArgumentError, StorageError
from cloudimg.settings import settings
from cloudimg.storage import azure_private, gcsfs_private
from cloudimg.storage.endpoints import AZURE, fsspec_configuration
from cloudimg.storage.failures import cause_text, hide_secrets
from cloudimg.storage.fsspec_errors import translate
from cloudimg.storage.fsspec_reading import NOT_ENCODED
from cloudimg.storage.gcs_options import endpoint_of_gcs
from cloudimg.storage.network import botocore_options, http_options, session_options
from cloudimg.storage.urls import Location, encoded_url

_AS_IT_COMES = {"auto_decompress": False, "requote_redirect_url": False}
"""Arguments of a session of aiohttp that change neither the bytes of answers nor the URLs, often
signed, to which servers redirect."""


def filesystem(location: Location, options: Mapping[str, Any]) -> Any:
    """The filesystem for the objects of a location.

    Parameters
    ----------
    location : Location
    options : mapping
        fsspec's ``storage_options``.

    Raises
    ------
    ArgumentError
        If there is none for the protocol, or it does not accept the options.
    StorageError
    """
    import fsspec.core

    links = [encoded_url(e) if e.startswith("http") else e for e in location.after.split("::")]
    chain = f"{location.before}{location.protocol}://{location.root}{'::'.join(links)}"
    failure: ArgumentError | StorageError
    try:
        fs, _ = fsspec.core.url_to_fs(chain, **_with_defaults(dict(options), location))
        # `Store` retries, in the same way for every backend.
        if hasattr(fs, "retries"):
            fs.retries = 1
        if hasattr(fs, "service_client"):
            azure_private.turn_off_retries(fs.service_client)
        gcsfs_private.turn_off_retries(fs)
        return fs
    except (ImportError, ValueError) as exc:
        names = {location.protocol, *location.before.split("::"), *_protocols(location.after)}
        protocols = ", ".join(sorted(name for name in names if name))
        extra = isinstance(exc, ImportError) and location.protocol in AZURE
        advice = ": pip install 'cloudimg-dask[azure]'" if extra else ""
        failure = ArgumentError(
            f"cannot open {protocols}: {hide_secrets(str(exc))}{advice}", cause=cause_text(exc)
        )
    except Exception as exc:  # noqa: BLE001
        failure = translate(exc, location.display(location.root))
    raise failure


def _protocols(after: str) -> list[str]:
    return [link.split("://")[0] for link in after.split("::") if "://" in link]


def _with_defaults(options: dict[str, Any], location: Location) -> dict[str, Any]:
    """Options for an instance of our own: enough connections, and finite timeouts."""
    if location.before or location.after:
        links = [f"{location.protocol}://{location.root}", *location.after.split("::")]
        for protocol, _, rest in (link.partition("://") for link in links):
            nested = _with_network(protocol, f"{protocol}://{rest}", options.get(protocol) or {})
            options |= {protocol: nested} if nested else {}
        return options
    limits = settings()
    options = _with_network(location.protocol, f"{location.protocol}://{location.root}", options)
    if location.protocol == "s3":
        options["config_kwargs"] = {
            "max_pool_connections": limits.max_requests,
            "connect_timeout": limits.timeout_s,
            "read_timeout": limits.timeout_s,
            "retries": {"total_max_attempts": 1},
            **_without_trailers(),
            **(options.get("config_kwargs") or {}),
        }
    if location.protocol in ("s3", "gs", *AZURE, "http", "https"):
        options["skip_instance_cache"] = True
        options.setdefault("use_listings_cache", False)
    return options


def _with_network(protocol: str, url: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options for a server, with what the environment says of the network."""
    options = dict(given)
    if protocol in ("http", "https"):
        options = {"encoded": True, **http_options(url), **options}
        options["headers"] = {**NOT_ENCODED, **(options.get("headers") or {})}
        options["client_kwargs"] = {**_AS_IT_COMES, **(options.get("client_kwargs") or {})}
        return options
    section, of_network = "", {}
    if protocol == "s3":
        section = "client_kwargs"
        of_network = botocore_options(options.get(section) or {})
    elif protocol == "gs":
        from fsspec.asyn import get_loop

        section = "session_kwargs"
        of_network = session_options(endpoint_of_gcs(options), get_loop())
    if of_network:
        configured = fsspec_configuration(protocol).get(section)
        options[section] = {**of_network, **(options.get(section, configured) or {})}
    return options


def _without_trailers() -> dict[str, str]:
    """Settings of botocore that send no checksums behind the bytes, which many stores refuse.

    `fsspec_writing` sends them in the headers. Older releases have neither.
    """
    import botocore.config

    name = "request_checksum_calculation"
    return {name: "when_required"} if name in botocore.config.Config.OPTION_DEFAULTS else {}
