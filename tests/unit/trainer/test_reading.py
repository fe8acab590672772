"""Remote data: over HTTP, HTTPS and S3."""

import datetime as dt
import ssl
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import boto3
import pandas as pd
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from moto.server import ThreadedMotoServer

from trainer.data.declaration import FeatureDeclaration
from trainer.data.reading import RawTable, read_table
from trainer.errors import BadInputError


@pytest.fixture
def folder(loans: pd.DataFrame, tmp_path: Path) -> Path:
    served = tmp_path / "served"
    served.mkdir()
    loans.to_csv(served / "loans.csv.gz", index=False)
    return served


@pytest.fixture
def web(folder: Path) -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def own_certificate(folder: Path) -> Path:
    """Write a self-signed certificate for 127.0.0.1 with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "certificate.pem"
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file


def read(source: str, declaration: FeatureDeclaration, scratch: Path) -> RawTable:
    return read_table(source, declaration, scratch=scratch, synthetic_rows=0, seed=0)


def test_a_url_is_read_and_leaves_no_file(
    web: ThreadingHTTPServer, loans: pd.DataFrame, declaration: FeatureDeclaration, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    table = read(f"http://127.0.0.1:{web.server_port}/loans.csv.gz", declaration, scratch)
    assert table.frame["annual_income"].tolist() == loans["annual_income"].tolist()
    assert list(scratch.iterdir()) == []
    with pytest.raises(BadInputError, match="responded with HTTP 404"):
        read(f"http://127.0.0.1:{web.server_port}/none.csv", declaration, scratch)


def test_https_is_only_read_from_a_trusted_server(
    web: ThreadingHTTPServer,
    declaration: FeatureDeclaration,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate = own_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    source = f"https://127.0.0.1:{web.server_port}/loans.csv.gz"
    monkeypatch.setattr("trainer.data.sources._RETRIES", 0)
    with pytest.raises(BadInputError, match="CERTIFICATE_VERIFY_FAILED"):
        read(source, declaration, tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert len(read(source, declaration, tmp_path).frame) == 1_000


def test_an_s3_url_is_read(
    folder: Path, declaration: FeatureDeclaration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="loans")
        client.upload_file(str(folder / "loans.csv.gz"), "loans", "2026/loans.csv.gz")
        assert len(read("s3://loans/2026/loans.csv.gz", declaration, tmp_path).frame) == 1_000
        with pytest.raises(BadInputError, match=r"404|NoSuchKey"):
            read("s3://loans/none.csv", declaration, tmp_path)
    finally:
        server.stop()
