"""The management port: /healthz, /readyz and /metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from decisions.errors import DecisionsError
from decisions.shipping.metrics import Health


@contextmanager
def management_port(port: int, health: Health, registry: CollectorRegistry) -> Iterator[int]:
    """Serve the management port for the length of the block, and yield it; port 0 chooses a free one.

    Raises:
        DecisionsError: The port cannot be opened.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            """Answer a probe or a scrape."""
            status, text, kind = 404, "not found\n", "text/plain; charset=utf-8"
            path = self.path.partition("?")[0]
            if path == "/healthz":
                status, text = health.live()
            elif path == "/readyz":
                status, text = health.ready()
            elif path == "/metrics":
                encode, kind = choose_encoder(self.headers.get("Accept", ""))
                status, text = 200, encode(registry).decode()
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Do not log probes."""

    try:
        server = ThreadingHTTPServer(("", port), Handler)
    except OSError as error:
        raise DecisionsError(f"the management port {port} cannot be opened: {error}") from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
