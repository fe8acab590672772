"""The parts of MLflow's registry that the service uses, served from a folder, to measure the process alone."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FILES = ("model.onnx", "contract.json")


@contextlib.contextmanager
def registry_of(folder: Path, number: str = "1") -> Iterator[str]:
    """Serve a folder as a version of credit-risk and yield the registry's address."""
    tags = [
        {"key": f"sha256.{name}", "value": hashlib.sha256((folder / name).read_bytes()).hexdigest()} for name in FILES
    ]
    version = {"model_version": {"name": "credit-risk", "version": number, "run_id": "", "tags": tags}}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rsplit("/", 1)[-1]
            if name in FILES:
                body = (folder / name).read_bytes()
            elif "get-download-uri" in self.path:
                body = json.dumps({"artifact_uri": "mlflow-artifacts:/model"}).encode()
            else:
                body = json.dumps(version).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
