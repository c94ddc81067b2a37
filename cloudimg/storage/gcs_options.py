"""Translation of gcsfs's options and of the environment into arguments of obstore.

google-auth finds the credentials, as it does for gcsfs, because obstore does not know all kinds of
them. What the options mean is documented at https://gcsfs.readthedocs.io. If one has no exact
counterpart, `translate` returns None, and gcsfs makes the requests.
"""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GOOGLE = "https://storage.googleapis.com"
_IGNORED = {
    # Options of gcsfs about files, caches and uploads, which do not affect reading by ranges.
    *("asynchronous", "block_size", "cache_timeout", "consistency", "default_location"),
    *("listings_expiry_time", "max_paths", "skip_instance_cache", "use_listings_cache"),
}
_MAPPED = {"access", "endpoint_url", "project", "token"}
_OF_OTHER_HOSTS = (
    *("GOOGLE_API_USE_CLIENT_CERTIFICATE", "GOOGLE_API_USE_MTLS_ENDPOINT"),
    "GOOGLE_CLOUD_UNIVERSE_DOMAIN",
)
"""Variables that make gcsfs use another host, or certificates."""


@dataclass(frozen=True, slots=True)
class GCSSettings:
    """The arguments of an obstore client."""

    endpoint: str
    credentials: Callable[[], dict[str, Any]] | None = field(repr=False)
    """Returns a token; None: requests are not signed."""


def endpoint_of_gcs(options: Mapping[str, Any]) -> str:
    """The URL of the server, from the options, the variable for emulators, or Google's."""
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    emulator = None if emulator == "default" else emulator
    if emulator and "://" not in emulator:
        emulator = f"http://{emulator}"
    return str(options.get("endpoint_url") or emulator or GOOGLE).rstrip("/")


def translate(options: Mapping[str, Any]) -> GCSSettings | None:
    """Settings for a client, or None if only gcsfs can apply the options.

    Parameters
    ----------
    options : mapping
        Options of gcsfs.
    """
    given = {name for name, value in options.items() if value is not None}
    if not given <= _IGNORED | _MAPPED or any(name in os.environ for name in _OF_OTHER_HOSTS):
        return None
    endpoint = endpoint_of_gcs(options)
    if options.get("token") == "anon":
        return GCSSettings(endpoint, None)
    found = _find_credentials(options)
    return None if found is None else GCSSettings(endpoint, _renewing(found))


def _find_credentials(options: Mapping[str, Any]) -> Any:
    """The credentials of google-auth that gcsfs would use; None where it uses others."""
    import google.auth.credentials
    from google.oauth2 import service_account

    of_service: Any = service_account.Credentials  # whose methods have no types
    token = options.get("token")
    scopes = [f"https://www.googleapis.com/auth/devstorage.{options.get('access', 'full_control')}"]
    try:
        if token in (None, "google_default"):
            found, project = google.auth.default(scopes=scopes)
            wanted = options.get("project") or os.environ.get("GCSFS_DEFAULT_PROJECT") or project
            return found if wanted == project else None
        if isinstance(token, google.auth.credentials.Credentials):
            return token
        if isinstance(token, Mapping):
            return of_service.from_service_account_info(token, scopes=scopes)
        if isinstance(token, str) and Path(token).is_file():
            return of_service.from_service_account_file(token, scopes=scopes)
    # google-auth has errors of its own, and of what is wrong in a file. gcsfs tries more, or shows
    # what is wrong.
    except Exception:  # noqa: BLE001
        return None
    return None


def _renewing(credentials: Any) -> Callable[[], dict[str, Any]]:
    """Return the token of credentials, in the form that obstore takes it, renewed when it is due.

    obstore asks for it again from five minutes before its end on.
    """
    lock = threading.Lock()

    def current() -> dict[str, Any]:
        import google.auth.transport.requests
        import requests

        with lock:
            if not credentials.valid:
                with requests.Session() as session:
                    credentials.refresh(google.auth.transport.requests.Request(session))
        expiry = credentials.expiry  # in UTC, without saying so
        return {
            "token": credentials.token,
            "expires_at": None if expiry is None else expiry.replace(tzinfo=datetime.UTC),
        }

    return current
