"""Translation of s3fs's options and the AWS configuration into arguments of obstore.

botocore finds credentials, profile, region and endpoint, in the same way as for all AWS tools. If
an option has no exact counterpart, `translate` returns None, and s3fs makes the requests.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from cloudimg.storage.network import botocore_options
from cloudimg.storage.put_parameters import are_only_of_puts
from cloudimg.storage.s3_credentials import credentials_of

_IGNORED = {
    # Options of s3fs about files, caches and uploads, which do not affect reading by ranges.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """The arguments of an obstore S3 client."""

    endpoint: str
    region: str
    virtual_hosted: bool
    requester_pays: bool
    credentials: Callable[[], dict[str, Any]] | None = field(repr=False)
    """None: requests are not signed."""
    ca_bundle: str | None
    """A file with authorities to trust, which a profile or the environment names."""
    looked_for_credentials: bool
    """Whether requests are unsigned only because no credentials were found."""


class _Endpoint(NamedTuple):
    url: str
    region: str | None
    style: str
    """How URLs name the bucket: ``"auto"``, ``"path"`` or ``"virtual"``."""


def translate(
    options: Mapping[str, Any], bucket: str, *, region: str | None = None
) -> S3Settings | None:
    """Settings for one bucket, or None if only s3fs can apply the options.

    Parameters
    ----------
    options : mapping
        Options of s3fs.
    bucket : str
    region : str, optional
        Replaces the region of the options.
    """
    if not _is_translatable(options):
        return None
    import botocore.session

    client_kwargs = _section(options, "client_kwargs")
    key = client_kwargs.get("aws_access_key_id") or options.get("key") or options.get("username")
    session = botocore.session.Session(
        profile=options.get("profile"),
        # The handlers serve clients; only a search for credentials may create one. They take 10 ms.
        include_builtin_handlers=not (key or options.get("anon")),
    )
    endpoint = _endpoint(session, options, region)
    if endpoint is None:
        return None
    url, virtual = _address(endpoint.url, bucket, endpoint.style)
    credentials, looked = credentials_of(session, options, client_kwargs, key)
    return S3Settings(
        endpoint=url,
        region=_plain_region(endpoint.region),
        virtual_hosted=virtual,
        requester_pays=bool(options.get("requester_pays")),
        credentials=credentials,
        ca_bundle=session.get_config_variable("ca_bundle"),
        looked_for_credentials=looked,
    )


def _section(options: Mapping[str, Any], name: str) -> dict[str, Any]:
    return dict(options.get(name) or {})


def _is_translatable(options: Mapping[str, Any]) -> bool:
    """Whether every option has an exact counterpart in obstore, or no effect on requests."""
    client_kwargs = _section(options, "client_kwargs")
    config_kwargs = _section(options, "config_kwargs")
    known = (
        (options, _IGNORED | _MAPPED | {"s3_additional_kwargs"}),
        (client_kwargs, _CLIENT),
        (config_kwargs, _CONFIG),
        (_section(config_kwargs, "s3"), {"addressing_style"}),
    )
    return (
        all(set(section) <= names for section, names in known)
        and all(section.get("use_ssl", True) is True for section in (options, client_kwargs))
        and are_only_of_puts(options)  # which s3fs makes
    )


def _endpoint(session: Any, options: Mapping[str, Any], region: str | None) -> _Endpoint | None:
    """The endpoint that the options and the AWS configuration lead to."""
    client_kwargs = _section(options, "client_kwargs")
    region = region or client_kwargs.get("region_name")
    url = client_kwargs.get("endpoint_url") or options.get("endpoint_url")
    style = _section(_section(options, "config_kwargs"), "s3").get("addressing_style", "auto")
    endpoint = _endpoint_from_config(session, region, url) or _endpoint_from_client(
        options.get("profile"), region, url, style
    )
    if endpoint is None:
        return None
    if style == "auto":
        style = endpoint.style
    if style == "auto" and (url or _configured_endpoint(session)):
        style = "path"  # botocore's choice where an endpoint is given
    return endpoint._replace(style=style)


def configured_endpoint(profile: str | None) -> str | None:
    """URL of the endpoint in the environment or the configuration of AWS's tools, if any."""
    import botocore.session

    # The handlers serve clients, and take 10 ms.
    return _configured_endpoint(
        botocore.session.Session(profile=profile, include_builtin_handlers=False)
    )


def _configured_endpoint(session: Any) -> str | None:
    """URL of the endpoint in the environment or a profile, if any.

    In the order of the AWS SDKs: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return None
    scoped = session.get_scoped_config()
    found = (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or _services(session, scoped).get("s3", {}).get("endpoint_url")
        or scoped.get("endpoint_url")
    )
    return str(found) if found else None


def _services(session: Any, scoped: Mapping[str, Any]) -> Mapping[str, Any]:
    """The section of services that a profile names; empty if it names none."""
    name = scoped.get("services")
    if name is None:
        return {}
    sections = session.full_config.get("services", {})
    if not sections.get(name):
        raise ValueError(f"the profile names a section of services, {name!r}, that does not exist")
    return dict(sections[name])


def _endpoint_from_config(session: Any, region: str | None, url: str | None) -> _Endpoint | None:
    """The endpoint where the configuration is simple; None where a client must find it.

    Creating a client of botocore takes 0.1 s, as long as three requests.
    """
    if any(session.get_config_variable(f"use_{n}_endpoint") for n in ("fips", "dualstack")):
        return None
    scoped = session.get_scoped_config()
    s3 = scoped.get("s3") or {}
    if not isinstance(s3, dict) or set(s3) - {"addressing_style"}:
        return None
    region = region or session.get_config_variable("region")
    url = url or _configured_endpoint(session) or _commercial_endpoint(region)
    if url is None:
        return None
    return _Endpoint(url, region, s3.get("addressing_style") or "auto")


def _commercial_endpoint(region: str | None) -> str | None:
    if region is None or not _COMMERCIAL_REGION.fullmatch(region):
        return None
    host = "s3" if region == "us-east-1" else f"s3.{region}"  # as botocore names it
    return f"https://{host}.amazonaws.com"


def _endpoint_from_client(
    profile: str | None, region: str | None, url: str | None, style: str
) -> _Endpoint | None:
    """The endpoint of a botocore client; None if obstore cannot connect to it in the same way."""
    import botocore.config
    import botocore.session

    client = botocore.session.Session(profile=profile).create_client(
        "s3",
        region_name=region,
        endpoint_url=url,
        # The client only finds endpoint and region; these never sign a request.
        aws_access_key_id="-",
        aws_secret_access_key="-",
        config=botocore.config.Config(s3={"addressing_style": style} if style != "auto" else None),
    )
    s3_settings = client.meta.config.s3 or {}
    if any(s3_settings.get(name) for name in ("use_accelerate_endpoint", "use_dualstack_endpoint")):
        return None
    if client.meta.config.use_fips_endpoint or client.meta.config.proxies:
        return None
    configured = s3_settings.get("addressing_style") or "auto"
    return _Endpoint(client.meta.endpoint_url, client.meta.region_name, configured)


def _plain_region(region: str | None) -> str:
    return "us-east-1" if region in (None, "aws-global") else str(region)


def _address(endpoint: str, bucket: str, style: str) -> tuple[str, bool]:
    """Endpoint for the bucket, and whether the host names the bucket, as in botocore."""
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or parts.port == 0:
        # It may have been put together wrongly, with credentials in it: it is not repeated.
        raise ValueError(
            "the endpoint (endpoint_url=, AWS_ENDPOINT_URL or the profile's) is not a URL such as"
            " https://host:9000"
        )
    # A bucket with dots breaks the certificate of a virtual host.
    if _DNS_BUCKET.fullmatch(bucket) and style != "path":
        return f"{parts.scheme}://{bucket}.{parts.netloc}{parts.path.rstrip('/')}", True
    return endpoint.rstrip("/"), False


def bucket_region(options: Mapping[str, Any], bucket: str) -> str | None:
    """Region of a bucket according to S3, requested when a request went to the wrong region."""
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
        **botocore_options(client_kwargs),
    )
    try:
        response = client.head_bucket(Bucket=bucket)
    except botocore.exceptions.ClientError as exc:
        response = exc.response  # a 301 or 403 names the region as well as a 200
    except botocore.exceptions.BotoCoreError:
        return None
    region = response["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region")
    return str(region) if region else None
