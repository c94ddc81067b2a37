"""Requests to the API of a Kubernetes cluster on Google Cloud, with plain dicts as objects.

Errors become ClusterErrors that do not repeat what was sent, because that may be a Secret.
"""

from __future__ import annotations

import base64
import json
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cloudimg.cluster.kubernetes_private import call_raw
from cloudimg.cluster.manifests import Manifest
from cloudimg.errors import ArgumentError, ClusterError
from cloudimg.storage.failures import cause_text, hide_secrets

_ROLE = "roles/container.developer"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_LOGIN = "gcloud auth application-default login"
_TIMEOUT_S = (10, 30)
"""Limits for one request: to connect, and between bytes."""
_KINDS = {
    "Event": ("CoreV1Api", "namespaced_event"),
    "Job": ("BatchV1Api", "namespaced_job"),
    "Namespace": ("CoreV1Api", "namespace"),
    "NetworkPolicy": ("NetworkingV1Api", "namespaced_network_policy"),
    "Pod": ("CoreV1Api", "namespaced_pod"),
    "Secret": ("CoreV1Api", "namespaced_secret"),
    "Service": ("CoreV1Api", "namespaced_service"),
    "ServiceAccount": ("CoreV1Api", "namespaced_service_account"),
}
"""Kinds of objects: the class of the client for them, and their name in its methods."""


class KubernetesApi:
    """The requests that a launcher makes. All of them raise ClusterError if they fail.

    Parameters
    ----------
    client : kubernetes.client.ApiClient
    description : mapping
        The output of ``terraform/gcp``.
    """

    def __init__(self, client: Any, description: Mapping[str, Any]) -> None:
        from kubernetes import client as kubernetes

        self._description = description
        self._apis = {
            name: getattr(kubernetes, name)(client)
            for name in ("BatchV1Api", "CoreV1Api", "NetworkingV1Api")
        }

    def create(self, manifest: Manifest) -> bool:
        """Create an object; False if there is already one of that name."""
        return self._call("create", manifest["kind"], 409, body=manifest) is not None

    def read(self, kind: str, name: str) -> Manifest | None:
        """Read an object; None if there is no such object."""
        return self._call("read", kind, 404, name=name)

    def list(self, kind: str, **selectors: str) -> list[Manifest]:
        """List the objects that match all selectors; empty ones match everything."""
        given = {name: value for name, value in selectors.items() if value}
        answer = self._call("list", kind, 404, **given)
        return [] if answer is None else list(answer["items"])

    def replace(self, kind: str, name: str, path: str, value: Any) -> None:
        """Replace one value in an object."""
        patch = [{"op": "replace", "path": path, "value": value}]
        self._call("patch", kind, None, name=name, body=patch)

    def delete(self, kind: str, name: str) -> None:
        """Delete an object after everything that it owns, if it is there."""
        self._call("delete", kind, 404, name=name, propagation_policy="Foreground")

    def _call(
        self, verb: str, kind: str, accepted: int | None, **arguments: Any
    ) -> Manifest | None:
        """Make a request and return its answer; None if its status is the one `accepted`."""
        from google.auth.exceptions import GoogleAuthError
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        api, name = _KINDS[kind]
        call = getattr(self._apis[api], f"{verb}_{name}")
        if kind != "Namespace":
            arguments["namespace"] = self._description["namespace"]
        request, endpoint = f"{verb} {kind}", self._description["endpoint"]
        try:
            decoded: Manifest = json.loads(call_raw(call, arguments, _TIMEOUT_S))
            return decoded
        except ApiException as exc:
            if exc.status == accepted:
                return None
            message = _refusal(exc, request, self._description["project"])
            cause = f"ApiException: {exc.status} {exc.reason}"
        except HTTPError as exc:
            reason = hide_secrets(str(getattr(exc, "reason", None) or exc))
            message = (
                f"{request}: Kubernetes does not answer at {endpoint}: {reason}. Is this machine's"
                " address within the module's admin_cidr?"
            )
            cause = cause_text(exc)
        except GoogleAuthError as exc:  # some of these are ValueErrors too
            message = (
                f"{request}: no valid Google credentials ({type(exc).__name__}): run `{_LOGIN}`,"
                " or name a file in GOOGLE_APPLICATION_CREDENTIALS"
            )
            cause = cause_text(exc)
        except ValueError as exc:
            message = f"{request}: the server at {endpoint} is not Kubernetes; is it a proxy?"
            cause = cause_text(exc)
        raise ClusterError(message, cause=cause)


def _refusal(error: Any, request: str, project: str) -> str:
    message = f"Kubernetes refused {request}: {error.status} {error.reason}"
    if error.status == 401:
        return f"{message}. Log in again: `{_LOGIN}`"
    if error.status != 403 and request.endswith("Secret"):
        return message  # the explanation may quote the value
    explanation = _explanation(error.body)
    if explanation:
        message += f": {explanation}"
    if error.status == 403:
        message += f". Your account needs {_ROLE} in the project {project}"
    return message


def _explanation(body: Any) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def connect(description: Mapping[str, Any]) -> Any:
    """Client of the cluster of a description, logged in with Google's default credentials.

    Returns
    -------
    kubernetes.client.ApiClient

    Raises
    ------
    ArgumentError
        If packages are missing, or the description is wrong.
    """
    try:
        import google.auth  # noqa: F401
        from kubernetes import client
    except ImportError as exc:
        raise ArgumentError(
            "clusters on Google Cloud need the packages kubernetes and google-auth:"
            ' pip install "cloudimg-dask[gcp]"'
        ) from exc
    from urllib3 import Retry

    endpoint = description["endpoint"]
    if not endpoint.startswith("https://"):
        raise ArgumentError(f"the endpoint of the cluster, {endpoint!r}, must start with https://")
    configuration = client.Configuration(host=endpoint)
    configuration.refresh_api_key_hook = _token_hook()
    configuration.api_key["authorization"] = ""  # the hook is called only if there is a value
    configuration.retries = Retry(
        total=5,
        connect=2,
        other=0,  # such as a certificate that is not the cluster's
        backoff_factor=0.5,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
    )
    authority = _write_authority(description["ca_certificate"])
    configuration.ssl_ca_cert = str(authority)
    api_client = client.ApiClient(configuration)
    weakref.finalize(api_client, authority.unlink, missing_ok=True)
    return api_client


def _write_authority(encoded: str) -> Path:
    """Write the certificate authority of the cluster, which is not a secret, to a file."""
    pem, cause = b"", None
    try:
        pem = base64.b64decode(encoded, validate=True)
    except ValueError as exc:
        cause = cause_text(exc)
    if not pem:
        raise ArgumentError("ca_certificate must be PEM encoded as base64", cause=cause)
    with tempfile.NamedTemporaryFile(prefix="cloudimg-gke-", suffix=".pem", delete=False) as file:
        file.write(pem)
    return Path(file.name)


def _token_hook() -> Callable[[Any], None]:
    """A hook that puts a valid token into the configuration before each request.

    A closure, because the client makes deep copies of its configuration.
    """
    lock = threading.Lock()
    credentials: list[Any] = []

    def refresh(configuration: Any) -> None:
        import google.auth
        import requests
        from google.auth.transport.requests import Request

        with lock, requests.Session() as session:
            if not credentials:
                credentials.append(google.auth.default(scopes=[_SCOPE])[0])
            if not credentials[0].valid:
                credentials[0].refresh(Request(session=session))
            configuration.api_key["authorization"] = f"Bearer {credentials[0].token}"

    return refresh
