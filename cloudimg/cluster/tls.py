"""Certificates of one job: its client, scheduler and workers talk only to peers that have one.

Each of the three roles has a key of its own, so that what a worker reads cannot take the place of
the scheduler's or the client's key.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from cloudimg.errors import ClusterError

if TYPE_CHECKING:
    from distributed.security import Security

_VALID_DAYS = 365
_AUTHORITY = "cloudimg job"
_KEY_USAGE = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificate of one role with its key, and the authority to trust, as PEM: mutual TLS."""

    certificate: str = field(repr=False)
    key: str = field(repr=False)
    authority: str = field(repr=False)
    """The certificate that has signed those of all roles of the job."""

    def security(self) -> Security:
        """Value for ``distributed.Client(..., security=)``."""
        from distributed.security import Security

        return Security(
            tls_ca_file=self.authority,
            tls_client_cert=self.certificate,
            tls_client_key=self.key,
            require_encryption=True,
        )

    def to_json(self) -> str:
        """JSON for the secret store that the machines of a job read."""
        return json.dumps(
            {"certificate": self.certificate, "key": self.key, "authority": self.authority}
        )

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
            return cls(*(str(stored[name]) for name in ("certificate", "key", "authority")))
        except (ValueError, KeyError, TypeError) as exc:
            cause = type(exc).__name__  # a JSON error holds the whole text, with the key
        raise ClusterError("the certificate stored for the job is damaged", cause=cause)


@dataclass(frozen=True, slots=True)
class JobTls:
    """The certificates of a job, signed by an authority that exists for this job only."""

    client: Tls
    scheduler: Tls
    worker: Tls

    @classmethod
    def make(cls) -> Self:
        """Make the certificates of a new job.

        Raises
        ------
        ClusterError
            If the package cryptography is not installed.
        """
        try:
            return cls(*(Tls(*each) for each in _signed(cls.__dataclass_fields__)))
        except ImportError as exc:
            raise ClusterError(
                "certificates are made by the package cryptography: pip install cryptography"
            ) from exc

    def of_tasks(self) -> Mapping[str, Tls]:
        """The certificates of the machines, by role."""
        return {"scheduler": self.scheduler, "worker": self.worker}


def _signed(roles: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """For each role, a certificate, its key, and the authority that signed it, whose key is lost.

    On the curve P-256, whose certificates are small: two of them and a key fit into 4 KB, the
    largest standard parameter of AWS Systems Manager. The extensions are those that Python 3.13
    demands (``ssl.VERIFY_X509_STRICT``; RFC 5280, section 4.2).
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.UTC)
    authority_key = ec.generate_private_key(ec.SECP256R1())

    def certificate(role: str, key: Any) -> Any:
        is_authority = key is authority_key
        issuer, subject = (
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
            for name in (_AUTHORITY, role)
        )
        usage = dict.fromkeys(_KEY_USAGE, False) | {
            "key_cert_sign": is_authority,
            "digital_signature": not is_authority,
        }
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
        extensions = (
            (x509.BasicConstraints(ca=is_authority, path_length=None), True),
            (x509.KeyUsage(**usage), True),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (by, False),
        )
        builder = x509.CertificateBuilder(
            issuer,
            subject,
            key.public_key(),
            x509.random_serial_number(),
            now - datetime.timedelta(hours=1),  # clocks differ
            now + datetime.timedelta(days=_VALID_DAYS),
        )
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, is_critical)
        signed = builder.sign(authority_key, hashes.SHA256())
        return signed.public_bytes(Encoding.PEM).decode()

    authority = certificate(_AUTHORITY, authority_key)
    for role in roles:
        key = ec.generate_private_key(ec.SECP256R1())
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        yield certificate(f"cloudimg {role}", key), text, authority


def encrypt(text: str) -> tuple[str, str]:
    """Encrypt a text; returns it with the secret that decrypts it, both as ASCII."""
    from cryptography.fernet import Fernet

    secret = Fernet.generate_key()
    return Fernet(secret).encrypt(text.encode()).decode("ascii"), secret.decode("ascii")


def decrypt(encrypted: str, secret: str) -> str:
    """Decrypt what `encrypt` returned.

    Raises
    ------
    ClusterError
        If the secret is another one, or the text was changed.
    """
    from cryptography.fernet import Fernet, InvalidToken

    try:
        return Fernet(secret).decrypt(encrypted).decode()
    except (InvalidToken, ValueError) as exc:
        cause = type(exc).__name__
    raise ClusterError("the certificate stored for the job cannot be decrypted", cause=cause)
