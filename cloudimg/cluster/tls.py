"""Certificates of one job: its client, scheduler and workers talk only to peers that have one.

Each of the three roles has a key of its own. One authority signs the scheduler's certificate, and
another the client's and the workers'. The client trusts the first one only, so no worker can take
the place of the scheduler, to which the client sends code and credentials. The certificate of a
client is not good for a server.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from cloudimg.errors import ClusterError

if TYPE_CHECKING:
    from distributed.security import Security

_VALID_DAYS = 365
_OF_SCHEDULER, _OF_OTHERS = "cloudimg job scheduler", "cloudimg job"
"""Names of the authorities."""
_TRUSTED = {
    "client": (_OF_SCHEDULER,),
    "scheduler": (_OF_OTHERS,),
    "worker": (_OF_SCHEDULER, _OF_OTHERS),
}
"""By role, the authorities that have signed the certificates of its peers."""
_KEY_USAGE = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificate of one role with its key, and whom it trusts, as PEM: mutual TLS."""

    certificate: str = field(repr=False)
    key: str = field(repr=False)
    authority: str = field(repr=False)
    """The certificates of the authorities that have signed those of its peers."""

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
    """The certificates of a job, signed by authorities that exist for this job only."""

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
            return cls(**{role: Tls(*each) for role, each in zip(_TRUSTED, _signed(), strict=True)})
        except ImportError as exc:
            raise ClusterError(
                "certificates are made by the package cryptography: pip install cryptography"
            ) from exc

    def of_tasks(self) -> Mapping[str, Tls]:
        """The certificates of the machines, by role."""
        return {"scheduler": self.scheduler, "worker": self.worker}


def _signed() -> Iterator[tuple[str, str, str]]:
    """For each role, a certificate, its key, and the authorities that it trusts.

    The keys of the authorities are lost. On the curve P-256, whose certificates are small: three of
    them and a key fit into 4 KB, the largest standard parameter of AWS Systems Manager. The
    extensions are those that Python 3.13 demands (``ssl.VERIFY_X509_STRICT``; RFC 5280, section
    4.2).
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.UTC)
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in (_OF_SCHEDULER, _OF_OTHERS)}

    def certificate(subject: str, issuer: str, key: Any) -> Any:
        is_authority = subject == issuer
        usage = dict.fromkeys(_KEY_USAGE, False) | {
            "key_cert_sign": is_authority,
            "digital_signature": not is_authority,
        }
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[issuer].public_key())
        extensions: list[tuple[Any, bool]] = [
            (x509.BasicConstraints(ca=is_authority, path_length=None), True),
            (x509.KeyUsage(**usage), True),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (by, False),
        ]
        if not is_authority:
            # Schedulers and workers are servers, and connect to each other.
            servers = [] if subject == "client" else [ExtendedKeyUsageOID.SERVER_AUTH]
            purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, *servers]
            extensions.append((x509.ExtendedKeyUsage(purposes), False))
        builder = x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]),
            key.public_key(),
            x509.random_serial_number(),
            now - datetime.timedelta(hours=1),  # clocks differ
            now + datetime.timedelta(days=_VALID_DAYS),
        )
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, is_critical)
        signed = builder.sign(keys[issuer], hashes.SHA256())
        return signed.public_bytes(Encoding.PEM).decode()

    authorities = {name: certificate(name, name, key) for name, key in keys.items()}
    for role, trusted in _TRUSTED.items():
        key = ec.generate_private_key(ec.SECP256R1())
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        issuer = _OF_SCHEDULER if role == "scheduler" else _OF_OTHERS
        yield certificate(role, issuer, key), text, "".join(authorities[name] for name in trusted)


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
