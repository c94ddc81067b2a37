"""Credentials for obstore's requests to S3: those of the options, or what botocore finds."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from cloudimg.errors import ArgumentError


def credentials_of(
    session: Any, options: Mapping[str, Any], client_kwargs: Mapping[str, Any], key: str | None
) -> tuple[Callable[[], dict[str, Any]] | None, bool]:
    """Find credentials for obstore.

    Parameters
    ----------
    session : botocore.session.Session
    options : mapping
        Options of s3fs.
    client_kwargs : mapping
        Those of its client.
    key : str, optional
        The key among them.

    Returns
    -------
    credentials : callable or None
        Returns them as they are when it is called. None: requests are not signed.
    looked : bool
        Whether a search for them failed.

    Raises
    ------
    ArgumentError
        If no request can carry them.
    """
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
        _refuse_unsendable(fixed)
        return lambda: fixed, False
    source = session.get_credentials()
    if source is None:
        return None, True

    def current() -> dict[str, Any]:
        # botocore renews credentials that are about to expire. obstore calls this again five
        # minutes before the given time, and so every minute.
        frozen = source.get_frozen_credentials()
        renewed = {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=6),
        }
        _refuse_unsendable(renewed)
        return renewed

    if not hasattr(source, "refresh_needed"):
        current()  # refuses them here, where the reason can be shown
    return current, False


def _refuse_unsendable(credentials: Mapping[str, Any]) -> None:
    """Refuse what no header can hold, and what makes obstore's Rust code panic.

    Raises
    ------
    ArgumentError
    """
    for name, value in credentials.items():
        if isinstance(value, str) and not (value.isascii() and value.isprintable()):
            what = "ends with white space" if value != value.rstrip() else "has a special character"
            raise ArgumentError(
                f"the AWS {name.replace('_', ' ')} {what}, which no request can carry: check where"
                " it is read from"
            )
