"""s3fs's options and the AWS configuration, said again in obstore's words, exactly or not at all.

Credentials, profile, region and endpoint are found by botocore, the way that every AWS tool finds
them. Whatever has no exact counterpart makes `translate` return None, and s3fs does the work.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_IGNORED = {
    # Options of s3fs about files, caches and uploads, which reading by ranges does not touch.
    "asynchronous",
    "cache_regions",
    "default_block_size",
    "default_cache_type",
    "default_fill_cache",
    "listings_expiry_time",
    "max_concurrency",
    "max_paths",
    "skip_instance_cache",
    "use_listings_cache",
}
_MAPPED = {
    "anon",
    "client_kwargs",
    "config_kwargs",
    "endpoint_url",
    "key",
    "password",
    "profile",
    "requester_pays",
    "secret",
    "token",
    "use_ssl",
    "username",
}
_CLIENT = {
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "endpoint_url",
    "region_name",
    "use_ssl",
}
_CONFIG = {"connect_timeout", "max_pool_connections", "read_timeout", "retries", "s3"}
_COMMERCIAL_REGION = re.compile(r"(us|eu|ap|sa|ca|me|af|il|mx)-[a-z]+-\d+")
_DNS_BUCKET = re.compile(r"[a-z0-9][a-z0-9\-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class S3Settings:
    """What an obstore S3 client is made from."""

    endpoint: str
    region: str
    virtual_hosted: bool
    requester_pays: bool
    credentials: Callable[[], dict[str, Any]] | None = field(repr=False)
    """None: requests are not signed."""
    ca_bundle: bytes | None = field(repr=False)
    looked_for_credentials: bool
    """True where requests are unsigned only because no credentials were found."""


def translate(
    options: Mapping[str, Any], bucket: str, *, region: str | None = None
) -> S3Settings | None:
    """Settings for one bucket, or None where s3fs must do the work."""
    client_kwargs = dict(options.get("client_kwargs") or {})
    config_kwargs = dict(options.get("config_kwargs") or {})
    s3_config = dict(config_kwargs.get("s3") or {})
    style = s3_config.pop("addressing_style", "auto")
    if (
        set(options) - _IGNORED - _MAPPED
        or set(client_kwargs) - _CLIENT
        or set(config_kwargs) - _CONFIG
        or s3_config
        or options.get("use_ssl", True) is not True
        or client_kwargs.get("use_ssl", True) is not True
    ):
        return None
    import botocore.session

    key = client_kwargs.get("aws_access_key_id") or options.get("key") or options.get("username")
    session = botocore.session.Session(
        profile=options.get("profile"),
        # They serve clients, which only a search for credentials may make, and take 10 ms.
        include_builtin_handlers=not (key or options.get("anon")),
    )
    asked_region = region or client_kwargs.get("region_name")
    asked_endpoint = client_kwargs.get("endpoint_url") or options.get("endpoint_url")
    found = _found_directly(session, asked_region, asked_endpoint) or _found_by_client(
        options.get("profile"), asked_region, asked_endpoint, style
    )
    if found is None:
        return None
    endpoint_url, region_name, configured_style = found
    chosen = configured_style if style == "auto" else style
    if chosen == "auto" and (asked_endpoint or _configured_endpoint(session)):
        chosen = "path"  # botocore's choice where an endpoint is given
    endpoint, virtual = _address(endpoint_url, bucket, chosen)
    credentials, looked = _credentials(session, options, client_kwargs, key)
    return S3Settings(
        endpoint=endpoint,
        region=_plain_region(region_name),
        virtual_hosted=virtual,
        requester_pays=bool(options.get("requester_pays")),
        credentials=credentials,
        ca_bundle=_ca_bundle(session.get_config_variable("ca_bundle")),
        looked_for_credentials=looked,
    )


def _configured_endpoint(session: Any) -> str | None:
    """The endpoint that the environment or a profile names, if any."""
    from botocore.configprovider import ConfiguredEndpointProvider

    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return None
    endpoint: str | None = ConfiguredEndpointProvider(
        full_config=session.full_config,
        scoped_config=session.get_scoped_config(),
        client_name="s3",
    ).provide()
    return endpoint


def _found_directly(
    session: Any, region: str | None, endpoint: str | None
) -> tuple[str, str | None, str] | None:
    """Endpoint, region and addressing style where they are plain; None where only a client knows.

    A client of botocore takes 0.1 s to make, as long as three requests.
    """
    if any(session.get_config_variable(f"use_{n}_endpoint") for n in ("fips", "dualstack")):
        return None
    scoped = session.get_scoped_config()
    s3 = scoped.get("s3") or {}
    if not isinstance(s3, dict) or set(s3) - {"addressing_style"}:
        return None
    region = region or session.get_config_variable("region")
    endpoint = endpoint or _configured_endpoint(session)
    if endpoint is None:
        if region is None or not _COMMERCIAL_REGION.fullmatch(region):
            return None
        place = "s3" if region == "us-east-1" else f"s3.{region}"  # as botocore names it
        endpoint = f"https://{place}.amazonaws.com"
    return endpoint, region, s3.get("addressing_style") or "auto"


def _found_by_client(
    profile: str | None, region: str | None, endpoint: str | None, style: str
) -> tuple[str, str | None, str] | None:
    """The same from a client that botocore makes; None where obstore cannot follow it."""
    import botocore.config
    import botocore.session

    client = botocore.session.Session(profile=profile).create_client(
        "s3",
        region_name=region,
        endpoint_url=endpoint,
        # The client only tells endpoint and region; nothing is signed with these.
        aws_access_key_id="-",
        aws_secret_access_key="-",
        config=botocore.config.Config(s3={"addressing_style": style} if style != "auto" else None),
    )
    s3_settings = client.meta.config.s3 or {}
    if any(s3_settings.get(name) for name in ("use_accelerate_endpoint", "use_dualstack_endpoint")):
        return None
    if client.meta.config.__dict__.get("use_fips_endpoint") or client.meta.config.proxies:
        return None
    configured = s3_settings.get("addressing_style") or "auto"
    return client.meta.endpoint_url, client.meta.region_name, configured


def _plain_region(region: str | None) -> str:
    return "us-east-1" if region in (None, "aws-global") else str(region)


def _address(endpoint: str, bucket: str, style: str) -> tuple[str, bool]:
    """Endpoint for the bucket and whether the host names it: as botocore decides it."""
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or parts.port == 0:
        raise ValueError(f"the endpoint {endpoint!r} is no URL such as https://host:9000")
    # A bucket with dots breaks the certificate of a virtual host.
    if _DNS_BUCKET.fullmatch(bucket) and style != "path":
        return f"{parts.scheme}://{bucket}.{parts.netloc}{parts.path.rstrip('/')}", True
    return endpoint.rstrip("/"), False


def _credentials(
    session: Any, options: Mapping[str, Any], client_kwargs: Mapping[str, Any], key: str | None
) -> tuple[Callable[[], dict[str, Any]] | None, bool]:
    if options.get("anon"):
        return None, False
    if key:
        fixed = {
            "access_key_id": key,
            "secret_access_key": client_kwargs.get("aws_secret_access_key")
            or options.get("secret")
            or options.get("password")
            or "",
            "token": client_kwargs.get("aws_session_token") or options.get("token"),
            "expires_at": None,
        }
        return lambda: fixed, False
    found = session.get_credentials()
    if found is None:
        return None, True

    def current() -> dict[str, Any]:
        # botocore renews what is about to expire; asking it every minute is enough for that.
        frozen = found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=6),
        }

    return current, False


def _ca_bundle(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None


def bucket_region(options: Mapping[str, Any], bucket: str) -> str | None:
    """Region that S3 names for the bucket, asked for once, when a request went astray."""
    import botocore.exceptions
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config

    client_kwargs = options.get("client_kwargs") or {}
    client = botocore.session.Session(profile=options.get("profile")).create_client(
        "s3",
        region_name=client_kwargs.get("region_name") or "us-east-1",
        endpoint_url=client_kwargs.get("endpoint_url") or options.get("endpoint_url"),
        config=Config(signature_version=UNSIGNED, retries={"max_attempts": 2}),
    )
    try:
        answer = client.head_bucket(Bucket=bucket)
    except botocore.exceptions.ClientError as exc:
        answer = exc.response  # a 301 or 403 names the region as well as a 200
    except botocore.exceptions.BotoCoreError:
        return None
    region = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region")
    return str(region) if region else None
