"""An MLflow server of a few files, over real HTTP; tests/contract has a real one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

API = "/api/2.0/mlflow"


@dataclass
class MlflowServer:
    """What it has, which a test may change.

    Attributes:
        files: By version and name.
        source: Where it says that its versions are.
        registered: When its versions were registered, in seconds since 1970, by version.
        failing: The status that it answers to everything; None to answer as it should.
        asked: The paths of all requests.
    """

    url: str = ""
    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    source: str = "mlflow-artifacts:/models/{version}"
    registered: dict[str, int] = field(default_factory=dict)
    failing: int | None = None
    asked: list[str] = field(default_factory=list)

    def answer(self, target: str) -> tuple[int, bytes]:
        url = urlsplit(target)
        self.asked.append(url.path)
        if self.failing:
            return self.failing, b'{"error_code": "INTERNAL_ERROR"}'
        if url.path == f"{API}/model-versions/get-download-uri":
            version = parse_qs(url.query)["version"][0]
            if any(known == version for known, _ in self.files):
                return 200, json.dumps({"artifact_uri": self.source.format(version=version)}).encode()
        if url.path == f"{API}/model-versions/get":
            version = parse_qs(url.query)["version"][0]
            if version in self.registered:
                found = {"version": version, "creation_timestamp": self.registered[version] * 1000}
                return 200, json.dumps({"model_version": found}).encode()
        if url.path.startswith(f"{API}/model-versions/"):
            return 404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such version"}'
        *_, version, name = url.path.split("/")
        if url.path.startswith(f"{API}-artifacts/artifacts/models/") and (version, name) in self.files:
            return 200, self.files[version, name]
        return 404, b"not found"


@contextmanager
def mlflow_of_files() -> Iterator[MlflowServer]:
    """Serve until the end of the block."""
    registry = MlflowServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = registry.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
