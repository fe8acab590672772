"""Following survives what ends a watch, asks the API server alone, and ends with its process."""

from __future__ import annotations

import fcntl
import os
import pty
import queue
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from kubectl_promotion.cluster.kubectl import Kubectl
from kubectl_promotion.cluster.watch import Lost, Update, Watch, following
from kubectl_promotion.errors import CommandError
from promoter.api.status import Phase
from unit.kubectl_promotion.api_server import ApiServer, Document
from unit.kubectl_promotion.documents import document, state_in, workload_objects

PATIENCE_SECONDS = 60.0
COLLECTION = "/apis/creditrisk.io/v1alpha1/namespaces/bank/modelpromotions"


def until(updates: queue.Queue[Update | CommandError], wanted: Callable[[Update], bool]) -> list[Update]:
    """Return the updates up to the first that is wanted."""
    found: list[Update] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        update = updates.get(timeout=deadline - time.monotonic())
        assert not isinstance(update, CommandError), update
        found.append(update)
        if wanted(update):
            return found


def says(message: str) -> Callable[[Update], bool]:
    return lambda update: not isinstance(update, Lost) and any(item["status"]["message"] == message for item in update)


def put(server: ApiServer, message: str) -> Document:
    return server.store.put(document(state_in(Phase.PROGRESSING, message=message)))


def wait_for_a_watch(server: ApiServer, number: int = 1) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while sum("watch=1" in path for _, path in server.store.requests) < number:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_changes_arrive_and_only_the_api_server_is_asked_once(server: ApiServer) -> None:
    put(server, "first")
    with following(Watch(Kubectl(), "bank", "loans")) as updates:
        until(updates, says("first"))
        wait_for_a_watch(server)
        put(server, "second")
        server.store.put(document(state_in(Phase.IDLE), name="cards"))
        put(server, "third")
        assert len(until(updates, says("third"))) == 2
        server.store.delete("loans")
        until(updates, lambda update: update == [])
    paths = [path.partition("?")[0] for _, path in server.store.requests]
    assert paths == [COLLECTION] * 2


def test_a_watch_from_too_long_ago_is_followed_by_a_list(server: ApiServer) -> None:
    put(server, "first")
    with following(Watch(Kubectl(), "bank", "loans")) as updates:
        until(updates, says("first"))
        wait_for_a_watch(server)
        server.store.expire_watches()
        server.store.compact()
        put(server, "second")
        found = until(updates, says("second"))
    assert len([path for _, path in server.store.requests if "watch" not in path]) == 2
    assert not [update for update in found if isinstance(update, Lost)]


@pytest.mark.parametrize("restart", [True, False], ids=["server restarts", "connection is cut"])
def test_a_lost_connection_is_reported_and_made_again(server: ApiServer, restart: bool) -> None:
    put(server, "first")
    with following(Watch(Kubectl(), "bank", "loans")) as updates:
        until(updates, says("first"))
        wait_for_a_watch(server)
        if restart:
            server.stop()
        else:
            server.store.cut_watches()
        until(updates, lambda update: isinstance(update, Lost))
        put(server, "second")
        if restart:
            server.start()
        until(updates, says("second"))


def test_a_permission_that_was_withdrawn_ends_it(server: ApiServer) -> None:
    put(server, "first")
    with following(Watch(Kubectl(), "bank")) as updates:
        until(updates, says("first"))
        wait_for_a_watch(server)
        server.store.refuse["GET"] = 403
        server.store.cut_watches()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not isinstance(update := updates.get(timeout=deadline - time.monotonic()), CommandError):
            pass
    assert update.exit_code == 4


def test_a_stopped_watch_leaves_no_process(server: ApiServer) -> None:
    put(server, "first")
    before = children()
    with following(Watch(Kubectl(), "bank", "loans")) as updates:
        until(updates, says("first"))
        wait_for_a_watch(server)
        assert children() - before
    assert not children() - before


def children() -> set[str]:
    """Return the ids of this process's living children."""
    found = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return {line.split()[0] for line in found.stdout.splitlines() if "kubectl" in line}


# --- the programs around it


@dataclass
class Terminal:
    """A program on a terminal of 200 columns."""

    process: subprocess.Popen[bytes]
    descriptor: int
    seen: str = ""

    def read_until(self, *words: str) -> None:
        """Read until the screen had all words, in this order."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        os.set_blocking(self.descriptor, False)
        while not self._has(words):
            assert time.monotonic() < deadline, self.seen[-3000:]
            try:
                self.seen += os.read(self.descriptor, 65536).decode(errors="replace")
            except BlockingIOError:
                time.sleep(0.05)

    def _has(self, words: tuple[str, ...]) -> bool:
        start = 0
        return all((start := self.seen.find(word, start)) >= 0 for word in words)


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Let programs be interrupted, also where a shell started the tests in the background, which ignore SIGINT then."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def on_a_terminal(*arguments: str) -> Iterator[Terminal]:
    """Run the plugin on a terminal for the length of the block."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 200, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "kubectl_promotion", *arguments], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm-256color"}, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)


@contextmanager
def into_a_pipe(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the plugin with pipes for stdout and stderr for the length of the block."""
    command = [sys.executable, "-m", "kubectl_promotion", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_terminal_shows_a_live_picture_in_color_until_the_user_ends_it(server: ApiServer) -> None:
    put(server, "the first message")
    server.store.objects = workload_objects()
    with on_a_terminal("get", "loans", "-w") as terminal:
        terminal.read_until("the first message", "scoring-canary-x")
        put(server, "the second message")
        terminal.read_until("the second message")
        assert "\x1b[?1049h" in terminal.seen, "the other screen"
        assert "\x1b[32m" in terminal.seen
        server.stop()
        terminal.read_until("connection lost, trying again")
        server.start()
        put(server, "the third message")
        terminal.read_until("the third message")
        os.killpg(terminal.process.pid, signal.SIGINT)
        assert terminal.process.wait(PATIENCE_SECONDS) == 130
        terminal.read_until("\x1b[?1049l")
    assert "Traceback" not in terminal.seen


def test_a_pipe_gets_a_line_for_each_change(server: ApiServer) -> None:
    put(server, "first")
    command = [sys.executable, "-m", "kubectl_promotion", "get", "-w"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout
        assert process.stdout.readline().split(" ", 1)[1] == "loans Progressing step 2/4 25 %: first\n"
        wait_for_a_watch(server)
        put(server, "second")
        assert process.stdout.readline().endswith("second\n")
        server.store.delete("loans")
        assert process.wait(PATIENCE_SECONDS) == 3
        assert process.stderr
        assert process.stderr.read() == "ModelPromotion loans was deleted\n"


def test_a_list_is_followed_as_documents_for_programs(server: ApiServer) -> None:
    put(server, "first")
    with into_a_pipe("list", "-w", "-o", "yaml") as process:
        assert process.stdout
        wait_for_a_watch(server)
        put(server, "second")
        lines = iter(process.stdout.readline, "")
        assert [line.strip() for line in lines_until(lines, "message: second")].count("---") == 2
        server.store.delete("loans")
        assert process.stderr
        assert process.stderr.readline() == "bank/loans was deleted\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 130


def test_a_closed_pipe_and_a_poor_encoding_are_no_faults(server: ApiServer) -> None:
    put(server, "first")
    script = f"{sys.executable} -m kubectl_promotion get | head -1; {sys.executable} -m kubectl_promotion get"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "? Progressing" in ended.stdout


def lines_until(lines: Iterator[str], wanted: str) -> Iterator[str]:
    for line in lines:
        yield line
        if wanted in line:
            return
