"""Programs that run for the length of a block, and the ports that they listen on."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Below the ports that Linux gives to outgoing connections, one of which could take a port before a server listens
# there, and below the node ports of a cluster.
_PORTS = range(10000, 30000)
_taken: set[int] = set()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on, and that this process has not been given before."""
    while True:
        port = secrets.choice(_PORTS)
        if port in _taken:
            continue
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _taken.add(port)
            return port


@contextmanager
def running(command: list[str], log: Path, ready: Callable[[], bool], **environment: str) -> Iterator[int]:
    """Run a program for the length of the block, which begins when it is ready; yield its process and session id."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, **environment}, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while not ready():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield process.pid
    finally:
        # They would take half a minute to end in order, and their data goes with them.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2)
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
    return True
