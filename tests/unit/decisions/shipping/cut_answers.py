"""A connection to Postgres that breaks off at the worst moment: a transaction is committed, and its client not told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_BYTES = 65536


class CommitsUntold:
    """Passes on what a client and a server on loopback say, but for the answer to the next COMMIT if told so."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        # Set to break off after the next COMMIT; cleared when that happened.
        self.armed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                committed = threading.Event()
                for source, target, is_client in ((client, server, True), (server, client, False)):
                    threading.Thread(
                        target=self._pass_on,
                        args=(source, target, committed),
                        kwargs={"is_client": is_client},
                        daemon=True,
                    ).start()

    def _pass_on(
        self, source: socket.socket, target: socket.socket, committed: threading.Event, *, is_client: bool
    ) -> None:
        with suppress(OSError):
            while said := source.recv(_BYTES):
                if is_client and self.armed.is_set() and b"COMMIT" in said:
                    committed.set()
                elif not is_client and committed.is_set():
                    # The server has answered, so it has committed.
                    self.armed.clear()
                    break
                target.sendall(said)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def commits_untold(port: int) -> Iterator[CommitsUntold]:
    proxy = CommitsUntold(port)
    try:
        yield proxy
    finally:
        proxy.close()
