"""What the log says while MLflow cannot answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import urllib3

from trainer.tracking.retries import log_retries


class Unavailable(BaseHTTPRequestHandler):
    """A server that responds 503 to every other request."""

    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        self.send_response(503 if self.requests % 2 else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep quiet."""


@pytest.fixture
def _restored_logger() -> Iterator[None]:
    logger = logging.getLogger("urllib3.util.retry")
    level, filters = logger.level, list(logger.filters)
    yield
    logger.setLevel(level)
    logger.filters[:] = filters


@pytest.mark.usefixtures("_restored_logger")
def test_each_answer_that_is_not_final_is_one_warning_and_nothing_else_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log_retries()
    with HTTPServer(("127.0.0.1", 0), Unavailable) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pool = urllib3.PoolManager(retries=urllib3.Retry(total=3, status_forcelist=[503], backoff_factor=0))
        with pool:
            for _ in range(2):
                assert pool.request("GET", f"http://127.0.0.1:{server.server_port}/api").status == 200
        server.shutdown()
    told = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "urllib3.util.retry"]
    assert told == [("WARNING", "/api was answered with 503, trying again (2 attempts left)")] * 2
