"""Stand-ins for what a deploy uses besides AWS's APIs: GitHub's tokens, Session Manager, Docker, and a cluster."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

RECORD = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
"""
# A build pushes its image to ECR through boto3, with the job's role.
DOCKER = (
    RECORD
    + """
import boto3, hashlib
if sys.argv[1] == "login":
    open(os.path.join(os.environ["RUNNER_TEMP"], "password"), "w").write(sys.stdin.read().strip())
elif sys.argv[2] == "imagetools":
    print("sha256:" + "b" * 64)
else:
    value = lambda name: sys.argv[sys.argv.index(name) + 1]
    name, _, tag = value("--tag").partition("/")[2].rpartition(":")
    digest = "sha256:" + hashlib.sha256(name.encode()).hexdigest()
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
                "config": {"digest": digest, "size": 1}}
    pushed = boto3.client("ecr").put_image(repositoryName=name, imageManifest=json.dumps(manifest), imageTag=tag)
    with open(value("--metadata-file"), "w") as file:
        json.dump({"containerimage.digest": pushed["image"]["imageId"]["imageDigest"]}, file)
"""
)
HELM = (
    RECORD
    + """
with open(os.path.join(os.environ["RUNNER_TEMP"], "kubeconfigs"), "a") as file:
    file.write(os.environ.get("KUBECONFIG", "") + "\\n" if sys.argv[1] == "upgrade" else "")
if sys.argv[1] == "list":
    print('[{"name": "credit-risk"}]')
elif sys.argv[1] == "history":
    print('[{"revision": 3, "status": "deployed"}]')
"""
)
KUBECTL = (
    RECORD
    + """
if "port-forward" in sys.argv:
    print(f"Forwarding from 127.0.0.1:{os.environ['SERVICE_PORT']} -> 8000", flush=True)
    import time
    time.sleep(60)
elif "modelpromotions" in sys.argv:
    print('{"items": []}')
elif "deployments" in sys.argv:
    print("mlflow operator scoring")
"""
)
# Started by the AWS CLI like the real plugin, with: response, region, StartSession, profile, request, endpoint.
PLUGIN = f"""#!{sys.executable}
import sys
if sys.argv[1:] == ["--version"]:
    print("1.2.707.0")
    sys.exit()
{RECORD.partition(chr(10))[2]}
import socket, threading
session = json.loads(os.environ.get(sys.argv[1], sys.argv[1]))
assert session["TokenValue"], session
def copy(source, target):
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)
local = int(json.loads(sys.argv[5])["Parameters"]["localPortNumber"][0])
listener = socket.create_server(("127.0.0.1", local))
while True:
    near, _ = listener.accept()
    far = socket.create_connection(("127.0.0.1", int(os.environ["TUNNEL_TO"])))
    for pair in ((near, far), (far, near)):
        threading.Thread(target=copy, args=pair, daemon=True).start()
"""
MODEL = {"contract": {"reference_applicant": {"annual_income": 1.0}}}
SCORE = {"probability_of_default": 0.25, "model": {"name": "credit-risk", "version": "7"}}


@dataclass(frozen=True)
class Cluster:
    """Addresses of a fake cluster: the API with TLS, the CA and the scoring service with plain HTTP."""

    port: int
    local_port: int
    service_port: int
    ca_url: str


@dataclass
class Github:
    """GitHub's token service and the requests that it received."""

    token: str
    url: str = ""
    requests: list[tuple[str, str | None]] = field(default_factory=list)


Answer = Callable[[BaseHTTPRequestHandler], bytes | None]


@contextmanager
def serving(answer: Answer, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve GET and POST on a loopback port and yield the port; an answer of None is a 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answer(self)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Do not log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def github_tokens(token: str = "") -> Iterator[Github]:
    """Serve the same token to every request, by default one that expires on January 15, 2027."""
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1_800_000_000}).encode()).decode().rstrip("=")
    github = Github(token or f"header.{claims}.signature")

    def answer(request: BaseHTTPRequestHandler) -> bytes:
        github.requests.append((request.path, request.headers["Authorization"]))
        return json.dumps({"value": github.token}).encode()

    with serving(answer) as port:
        github.url = f"http://127.0.0.1:{port}/token?api-version=2"
        yield github


@contextmanager
def cluster_with_tls(folder: Path) -> Iterator[Cluster]:
    """Yield a fake cluster: an API server with a self-signed certificate for 127.0.0.1, like k3s, and its services."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "k3s")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "server.pem").write_bytes(
        pem
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    pages = {"/ca.crt": pem, "/v1/model": json.dumps(MODEL).encode(), "/v1/score": json.dumps(SCORE).encode()}
    with (
        serving(lambda request: b"ok" if request.path == "/livez" else None, context) as api,
        serving(lambda request: pages.get(request.path)) as plain,
        socket.create_server(("127.0.0.1", 0)) as probe,
    ):
        local = int(probe.getsockname()[1])
        probe.close()
        yield Cluster(api, local, plain, f"http://127.0.0.1:{plain}/ca.crt")
