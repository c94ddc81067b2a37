"""A certificate for one job; the job's scheduler and workers talk only to peers that have it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from cloudimg.errors import ClusterError

if TYPE_CHECKING:
    from distributed.security import Security


@dataclass(frozen=True, slots=True)
class Tls:
    """A self-signed certificate with its key, as PEM; it is its own certificate authority.

    Scheduler, workers and client of a job all present it and all require it: mutual TLS.
    """

    certificate: str = field(repr=False)
    key: str = field(repr=False)

    @classmethod
    def make(cls) -> Self:
        """Make a new certificate.

        Raises
        ------
        ClusterError
            If the package cryptography is not installed.
        """
        from distributed.security import Security

        try:
            made = Security.temporary()
        except ImportError as exc:
            raise ClusterError(
                "certificates are made by the package cryptography: pip install cryptography"
            ) from exc
        return cls(made.tls_ca_file, made.tls_client_key)

    def security(self) -> Security:
        """Value for ``distributed.Client(..., security=)``."""
        from distributed.security import Security

        settings = {
            f"tls_{role}_{part}": text
            for role in ("client", "scheduler", "worker")
            for part, text in (("cert", self.certificate), ("key", self.key))
        }
        return Security(tls_ca_file=self.certificate, require_encryption=True, **settings)

    def to_json(self) -> str:
        """JSON for the secret store that the machines of a job read."""
        return json.dumps({"certificate": self.certificate, "key": self.key})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        ClusterError
            If the text is something else. The message does not repeat it.
        """
        try:
            stored = json.loads(text)
            return cls(str(stored["certificate"]), str(stored["key"]))
        except (ValueError, KeyError, TypeError) as exc:
            cause = type(exc).__name__  # a JSON error holds the whole text, with the key
        raise ClusterError("the certificate stored for the job is damaged", cause=cause)
