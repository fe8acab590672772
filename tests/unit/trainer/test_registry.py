"""The Production pointer in a real MLflow store, watched while it moves."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from trainer.tracking.registry import Registry

NAME = "credit-risk"
MOVING = ("transition_model_version_stage", "set_registered_model_alias")


class Killed(BaseException):
    """What a SIGKILL is to the code that it ends."""


@pytest.fixture(autouse=True)
def _quiet_about_stages() -> Iterator[None]:
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        yield


@pytest.fixture
def client(tracking_uri: str) -> MlflowClient:
    """A registry with three versions, of which the first is Production."""
    client = MlflowClient(tracking_uri)
    client.create_registered_model(NAME)
    for number in range(3):
        client.create_model_version(NAME, f"file:///nowhere/{number}")
    Registry(client, NAME).promote("1", replacing=None)
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
    """A client that looks at the registry after each of its own changes, and can be killed before one of them."""

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


def test_after_every_single_change_there_is_a_production_version(client: MlflowClient) -> None:
    watched = Watched(client)
    Registry(watched, NAME).promote("2", replacing="1")  # type: ignore[arg-type]
    assert len(watched.seen) == 4
    assert {alias for alias, _ in watched.seen} == {"1", "2"}
    assert {stage for _, stage in watched.seen} == {"2"}
    assert stages(client) == ["Archived", "Production", "None"]
    assert aliases(client) == {"production": "2", "previous": "1"}


def test_going_back_to_an_older_version_leaves_no_gap_either(client: MlflowClient) -> None:
    Registry(client, NAME).promote("2", replacing="1")
    watched = Watched(client)
    Registry(watched, NAME).promote("1", replacing="2")  # type: ignore[arg-type]
    assert all(alias and stage for alias, stage in watched.seen)
    assert (by_alias(client), by_stage(client)) == ("1", "1")
    assert aliases(client) == {"production": "1", "previous": "2"}


@contextmanager
def polled(tracking_uri: str) -> Iterator[list[tuple[str | None, str | None]]]:
    """What a reader with a connection of its own finds, again and again, during the block."""
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
            registry.promote("2", replacing="1")
            registry.promote("1", replacing="2")
    assert len({alias for alias, _ in seen}) == 2, "the reader saw the pointer move"
    assert not [pair for pair in seen if None in pair]


@pytest.mark.parametrize("changes", range(4))
def test_a_promotion_that_was_killed_between_its_steps_is_finished_by_the_next_attempt(
    changes: int, client: MlflowClient
) -> None:
    with pytest.raises(Killed):
        Registry(Watched(client, changes=changes), NAME).promote("2", replacing="1")  # type: ignore[arg-type]
    assert by_alias(client) in {"1", "2"}
    assert by_stage(client) in {"1", "2"}
    registry = Registry(client, NAME)
    # What the next attempt takes for Production is what the alias says by now: itself, perhaps.
    registry.promote("2", replacing=registry.production_version())
    assert stages(client) == ["Archived", "Production", "None"]
    assert aliases(client) == {"production": "2", "previous": "1"}


class Colliding:
    """A client before whose changes of an alias another training makes that alias, which the database then refuses."""

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


def test_an_alias_that_another_training_makes_meanwhile_is_moved(client: MlflowClient) -> None:
    colliding = Colliding(client)
    Registry(colliding, NAME).promote("2", replacing="1")  # type: ignore[arg-type]
    assert colliding.refused == ["previous", "production"]
    assert aliases(client) == {"production": "2", "previous": "1"}


def test_two_promotions_at_the_same_moment_leave_a_production_version(client: MlflowClient, tracking_uri: str) -> None:
    barrier = threading.Barrier(2)

    def promote(version: str) -> None:
        registry = Registry(MlflowClient(tracking_uri), NAME)
        barrier.wait()
        registry.promote(version, replacing="1")

    with polled(tracking_uri) as seen, ThreadPoolExecutor(2) as trainings:
        # Gives their exceptions too: neither fails because of the other.
        assert list(trainings.map(promote, "23")) == [None, None]
    assert not [pair for pair in seen if None in pair]
    assert by_alias(client) in {"2", "3"}
    assert by_stage(client) in {"2", "3"}
    assert stages(client)[0] == "Archived"
