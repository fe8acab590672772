"""The Production pointer in a real MLflow store, observed while it moves, and waiting for a server."""

from __future__ import annotations

import socket
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import wraps
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from trainer.errors import TrackingError
from trainer.tracking.registry import Registry, wait_for_server

NAME = "credit-risk"
MOVING = ("transition_model_version_stage", "set_registered_model_alias")


class Killed(BaseException):
    """Ends the code under test like a SIGKILL."""


@pytest.fixture(autouse=True)
def _quiet_about_stages() -> Iterator[None]:
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        yield


@pytest.fixture
def client(tracking_uri: str) -> MlflowClient:
    """A registry with three versions; version 1 is Production."""
    client = MlflowClient(tracking_uri)
    client.create_registered_model(NAME)
    for number in range(3):
        client.create_model_version(NAME, f"file:///nowhere/{number}")
    Registry(client, NAME).move_production_pointer("1", replacing=None)
    return client


def by_alias(client: MlflowClient) -> str | None:
    try:
        return str(client.get_model_version_by_alias(NAME, "production").version)
    except MlflowException:
        return None


def by_stage(client: MlflowClient) -> str | None:
    """The newest version in the stage, which is what `models:/NAME/Production` means."""
    found = client.get_latest_versions(NAME, stages=["Production"])
    return str(found[0].version) if found else None


def stages(client: MlflowClient) -> list[str | None]:
    return [client.get_model_version(NAME, number).current_stage for number in "123"]


def aliases(client: MlflowClient) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model(NAME).aliases.items()}


class Watched:
    """A client that records the registry's state after each of its changes, and can be killed before one of them."""

    def __init__(self, client: MlflowClient, *, changes: int | None = None) -> None:
        self.client = client
        self.left = changes
        self.seen: list[tuple[str | None, str | None]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        if name not in MOVING:
            return method

        @wraps(method)
        def watched(*arguments: Any, **named: Any) -> Any:
            if self.left == 0:
                raise Killed
            self.left = None if self.left is None else self.left - 1
            answer = method(*arguments, **named)
            self.seen.append((by_alias(self.client), by_stage(self.client)))
            return answer

        return watched


def test_there_is_a_production_version_after_every_single_change(client: MlflowClient) -> None:
    watched = Watched(client)
    Registry(watched, NAME).move_production_pointer("2", replacing="1")  # type: ignore[arg-type]
    assert len(watched.seen) == 4
    assert {alias for alias, _ in watched.seen} == {"1", "2"}
    assert {stage for _, stage in watched.seen} == {"2"}
    assert stages(client) == ["Archived", "Production", "None"]
    assert aliases(client) == {"production": "2", "previous": "1"}


def test_moving_back_to_an_older_version_leaves_no_gap_either(client: MlflowClient) -> None:
    Registry(client, NAME).move_production_pointer("2", replacing="1")
    watched = Watched(client)
    Registry(watched, NAME).move_production_pointer("1", replacing="2")  # type: ignore[arg-type]
    assert all(alias and stage for alias, stage in watched.seen)
    assert (by_alias(client), by_stage(client)) == ("1", "1")
    assert aliases(client) == {"production": "1", "previous": "2"}


@contextmanager
def polled(tracking_uri: str) -> Iterator[list[tuple[str | None, str | None]]]:
    """Record what a reader with its own connection finds while the block runs."""
    seen: list[tuple[str | None, str | None]] = []
    reader, done = MlflowClient(tracking_uri), threading.Event()

    def poll() -> None:
        while not done.is_set():
            seen.append((by_alias(reader), by_stage(reader)))

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def test_a_reader_never_finds_the_registry_without_a_production_version(
    client: MlflowClient, tracking_uri: str
) -> None:
    registry = Registry(client, NAME)
    with polled(tracking_uri) as seen:
        for _ in range(8):
            registry.move_production_pointer("2", replacing="1")
            registry.move_production_pointer("1", replacing="2")
    assert len({alias for alias, _ in seen}) == 2, "the reader saw the pointer move"
    assert not [pair for pair in seen if None in pair]


@pytest.mark.parametrize("changes", range(4))
def test_a_move_that_was_killed_between_its_steps_is_finished_by_the_next_attempt(
    changes: int, client: MlflowClient
) -> None:
    with pytest.raises(Killed):
        Registry(Watched(client, changes=changes), NAME).move_production_pointer("2", replacing="1")  # type: ignore[arg-type]
    assert by_alias(client) in {"1", "2"}
    assert by_stage(client) in {"1", "2"}
    registry = Registry(client, NAME)
    # The next attempt reads the Production version from the alias, which may name version 2 already.
    registry.move_production_pointer("2", replacing=registry.production_version())
    assert stages(client) == ["Archived", "Production", "None"]
    assert aliases(client) == {"production": "2", "previous": "1"}


class Colliding:
    """A client whose first change of each alias collides with another training run that creates that alias."""

    def __init__(self, client: MlflowClient) -> None:
        self.client = client
        self.refused: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def set_registered_model_alias(self, model: str, alias: str, version: str) -> None:
        if alias not in self.refused:
            self.refused.append(alias)
            self.client.set_registered_model_alias(model, alias, "3")
            raise MlflowException("UNIQUE constraint failed: registered_model_aliases")
        self.client.set_registered_model_alias(model, alias, version)


def test_an_alias_that_another_run_creates_at_the_same_time_is_moved(client: MlflowClient) -> None:
    colliding = Colliding(client)
    Registry(colliding, NAME).move_production_pointer("2", replacing="1")  # type: ignore[arg-type]
    assert colliding.refused == ["previous", "production"]
    assert aliases(client) == {"production": "2", "previous": "1"}


def test_two_moves_at_the_same_moment_leave_a_production_version(client: MlflowClient, tracking_uri: str) -> None:
    barrier = threading.Barrier(2)

    def move(version: str) -> None:
        registry = Registry(MlflowClient(tracking_uri), NAME)
        barrier.wait()
        registry.move_production_pointer(version, replacing="1")

    with polled(tracking_uri) as seen, ThreadPoolExecutor(2) as runs:
        # Raises their exceptions too: neither move fails because of the other.
        assert list(runs.map(move, "23")) == [None, None]
    assert not [pair for pair in seen if None in pair]
    assert by_alias(client) in {"2", "3"}
    assert by_stage(client) in {"2", "3"}
    assert stages(client)[0] == "Archived"


class Starting(BaseHTTPRequestHandler):
    """A server that responds 503 to the first two requests."""

    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        self.send_response(503 if self.requests <= 2 else 200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep quiet."""


@pytest.fixture
def _short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.tracking.registry._RETRY_SECONDS", 0.05)


@pytest.mark.usefixtures("_short_retries")
def test_a_starting_server_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with HTTPServer(("127.0.0.1", 0), Starting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        wait_for_server(f"http://127.0.0.1:{server.server_port}/", timeout_seconds=5)
        server.shutdown()
    assert Starting.requests == 3
    assert f"waiting for MLflow at http://127.0.0.1:{server.server_port}/ for up to 5 s" in caplog.text


@pytest.mark.usefixtures("_short_retries")
def test_a_server_that_does_not_start_is_an_error_with_its_address_and_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(TrackingError, match=rf"MLflow at {url} was not ready within 0 s: .*refused"):
        wait_for_server(url, timeout_seconds=0.2)


def test_a_file_store_needs_no_waiting(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr("trainer.tracking.registry.urllib3.PoolManager", lambda **options: opened.append(options))
    wait_for_server(tracking_uri, timeout_seconds=0)
    assert not opened


def test_the_move_is_signed_with_the_run_before_the_pointer_moves(client: MlflowClient) -> None:
    run = client.create_run(client.create_experiment("signed"))
    client.create_model_version(NAME, "file:///nowhere/4", run_id=run.info.run_id)

    def signature() -> str | None:
        tags: dict[str, str] = client.get_registered_model(NAME).tags
        return tags.get("creditrisk.io.pointer")

    assert signature() == "1", "a version without a run is moved by nobody in particular"
    seen: list[str | None] = []

    class Watching:
        def __getattr__(self, name: str) -> Any:
            if name == "set_registered_model_alias":
                seen.append(signature())
            return getattr(client, name)

    Registry(Watching(), NAME).move_production_pointer("4", replacing="1")  # type: ignore[arg-type]
    # The last alias that moves is the pointer.
    assert seen[-1] == f"4 training run {run.info.run_id}"
