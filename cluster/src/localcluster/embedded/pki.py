"""The cluster's certificate authority, created with each cluster, and the certificates it issues."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = dt.timedelta(days=365)


@dataclass(frozen=True)
class Identity:
    """A user of the API server, as named in its certificate; `groups` are its organizations."""

    name: str
    groups: tuple[str, ...] = ()


def _write(file: Path, data: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_bytes(data)
    return file


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


class Authority:
    """Issues certificates for one cluster and writes them to its folder."""

    def __init__(self, folder: Path) -> None:
        """Create a new key, and the authority's own certificate in `folder`/ca.crt."""
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "credit-risk-embedded")])
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        builder = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, 0), critical=True)
        certificate = builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.certificate = _write(folder / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + LIFETIME)
        )

    def issue(self, file_name: str, identity: Identity, names: tuple[str, ...] = ()) -> tuple[Path, Path]:
        """Write `file_name`.crt and .key; with `names` (host names and addresses) also valid for a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in identity.groups]
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, identity.name)])
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if names else [])]
        builder = self._builder(subject, key).add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), False)
        certificate = builder.sign(self._key, hashes.SHA256())
        crt = _write(self.folder / f"{file_name}.crt", certificate.public_bytes(serialization.Encoding.PEM))
        return crt, _write(self.folder / f"{file_name}.key", _pem(key))

    def kubeconfig(self, file: Path, identity: Identity, server: str) -> Path:
        """Write a self-contained kubeconfig for `identity` that connects to `server`."""
        crt, key = self.issue(f"client-{file.name}", identity)
        cluster = {"server": server, "certificate-authority-data": _base64(self.certificate)}
        user = {"client-certificate-data": _base64(crt), "client-key-data": _base64(key)}
        name = "credit-risk-embedded"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": identity.name, "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": identity.name}}],
            "current-context": name,
        }
        return _write(file, yaml.safe_dump(document, sort_keys=False).encode())


def service_account_keys(folder: Path) -> tuple[Path, Path]:
    """Write the key pair that signs service-account tokens and return (private, public)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _write(folder / "service-account.key", _pem(key)), _write(folder / "service-account.pub", public)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
