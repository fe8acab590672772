"""Servers with a certificate from a private CA, to test what clients trust."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import ipaddress
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# Codes with which a Postgres client asks for TLS and for GSSAPI encryption, before anything else.
SSL_REQUEST, GSS_REQUEST = 80877103, 80877104


def self_signed(folder: Path) -> Path:
    """Write ca.crt, a certificate for 127.0.0.1 that is its own CA, and its key into a folder; return the folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "private CA")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.key").write_bytes(key.private_bytes(*formats))
    return folder


def _context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.crt", folder / "ca.key")
    return context


@contextlib.contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class _Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - named after the HTTP method

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""


@contextlib.contextmanager
def https_server(folder: Path) -> Iterator[int]:
    """Serve HTTPS with the certificate in a folder; yield the port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Ok)
    server.socket = _context(folder).wrap_socket(server.socket, server_side=True)
    with _serving(server) as port:
        yield port


@contextlib.contextmanager
def postgres_server(folder: Path) -> Iterator[int]:
    """Speak enough of Postgres's protocol to refuse every client with "refused over TLS" or "... over plain text"."""
    context = _context(folder)

    class Refusal(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            connection: socket.socket = self.request
            with contextlib.suppress(OSError):
                while (code := _first_code(connection)) in {SSL_REQUEST, GSS_REQUEST}:
                    connection.sendall(b"S" if code == SSL_REQUEST else b"N")
                    if code == SSL_REQUEST:
                        connection = context.wrap_socket(connection, server_side=True)
                transport = b"TLS" if isinstance(connection, ssl.SSLSocket) else b"plain text"
                fields = b"SFATAL\0C28000\0Mrefused over " + transport + b"\0\0"
                connection.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)
                connection.close()

    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusal)) as port:
        yield port


def _first_code(connection: socket.socket) -> int:
    """Read one message from a client that has not authenticated: its length and its code, 4 bytes each, come first."""
    message = connection.recv(1024)
    return int.from_bytes(message[4:8])
