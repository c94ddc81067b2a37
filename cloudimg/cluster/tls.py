"""A certificate for one job: nobody without it talks to the job's scheduler and workers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Self, cast

from cloudimg.errors import ClusterError


@dataclass(frozen=True, slots=True)
class Tls:
    """A self-signed certificate with its key, as PEM; its own authority.

    Scheduler, workers and client of a job all show it and all demand it: mutual TLS.
    """

    certificate: str = field(repr=False)
    key: str = field(repr=False)

    @classmethod
    def make(cls) -> Self:
        """A new one.

        Raises
        ------
        ClusterError
            Without the package cryptography.
        """
        from distributed.security import Security

        try:
            made: Any = cast(Any, Security).temporary()
        except ImportError:
            raise ClusterError(
                "certificates are made by the package cryptography: pip install cryptography"
            ) from None
        return cls(made.tls_ca_file, made.tls_client_key)

    def security(self) -> Any:
        """What a `distributed.Client` takes as ``security=``."""
        from distributed.security import Security

        settings = {
            f"tls_{role}_{part}": text
            for role in ("client", "scheduler", "worker")
            for part, text in (("cert", self.certificate), ("key", self.key))
        }
        return cast(Any, Security)(
            tls_ca_file=self.certificate, require_encryption=True, **settings
        )

    def to_json(self) -> str:
        """For the store of secrets that the machines of a job read it from."""
        return json.dumps({"certificate": self.certificate, "key": self.key})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        ClusterError
            If it is something else; the text is not repeated.
        """
        try:
            found = json.loads(text)
            return cls(str(found["certificate"]), str(found["key"]))
        except (ValueError, KeyError, TypeError):
            raise ClusterError("what is stored as the job's certificate is none") from None
