"""A registry pointer moves, and the operator rolls the version out under load: no client sees a failed request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from e2e.registry import registry
from localcluster.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
NAME = "credit-risk"
PROMOTION: dict[str, Any] = {
    "apiVersion": "creditrisk.io/v1alpha1",
    "kind": "ModelPromotion",
    "metadata": {"name": NAME},
    "spec": {
        "model": {"name": NAME, "alias": "production"},
        "steps": [{"weight": 30, "duration": "10s"}, {"weight": 60, "duration": "10s"}],
        "analysis": {"interval": "5s", "minSamples": 50},
        "progressDeadlineSeconds": 120,
    },
}


@dataclass
class Load:
    """What a steady stream of clients saw: for each request its status (0 for no answer) and who answered."""

    answers: list[tuple[int, str]] = field(default_factory=list)

    @property
    def failures(self) -> list[tuple[int, str]]:
        return [answer for answer in self.answers if answer[0] != 200]

    @property
    def versions(self) -> set[str]:
        return {version for _, version in self.answers}


@contextmanager
def load(stack: Stack) -> Iterator[Load]:
    """Score applicants one after the other, in two threads, until the block ends."""
    applicant = stack.get("/v1/model")["contract"]["reference_applicant"]
    seen, stop = Load(), threading.Event()

    def client(number: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            varied = {
                **applicant,
                "credit_score": 500 + (count * 7 + number) % 300,
                "applicant_id": f"{number}-{count}",
            }
            try:
                seen.answers.append((200, stack.post("/v1/score", varied)["model"]["version"]))
            except OSError as error:
                seen.answers.append((getattr(error, "code", 0), str(error)))
            time.sleep(0.02)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def register_copy(client: MlflowClient, of: str, *, corrupt: bool = False) -> str:
    """Register another version with the files of an existing one; a corrupt one promises another digest."""
    version = client.get_model_version(NAME, of)
    tags = dict(version.tags)
    if corrupt:
        tags["sha256.model.onnx"] = "0" * 64
    return str(client.create_model_version(NAME, str(version.source), version.run_id, tags=tags).version)


def status(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stack.kubectl("get", "modelpromotion", NAME, "-o", "json")).get("status", {})
    return found


def wait_until(stack: Stack, what: str, seconds: float, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while not reached(found := status(stack)):
        assert time.monotonic() < deadline, f"{what}: {json.dumps(found, indent=1)}"
        time.sleep(0.5)
    return found


@pytest.fixture(scope="module")
def promotion(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    file = tmp_path_factory.mktemp("promotion") / "promotion.yaml"
    file.write_text(yaml.safe_dump(PROMOTION))
    stack.kubectl("rollout", "status", "deployment/operator", "--timeout=120s")
    stack.kubectl("apply", "-f", str(file))
    yield file
    stack.kubectl("delete", "-f", str(file), "--wait=true")


def test_a_good_version_is_promoted_and_no_request_fails(stack: Stack, promotion: Path) -> None:
    with registry(stack) as client:
        stable = str(client.get_model_version_by_alias(NAME, "production").version)
        wait_until(stack, "the first version", 120, lambda found: found.get("stableVersion") == stable)
        stack.kubectl("rollout", "status", "deployment/scoring", "--timeout=120s")
        with load(stack) as seen:
            newer = register_copy(client, stable)
            client.set_registered_model_alias(NAME, "production", newer)
            wait_until(stack, "the newer version", 240, lambda found: found.get("stableVersion") == newer)
            stack.kubectl("wait", "--for=condition=Promoted", f"modelpromotion/{NAME}", "--timeout=60s")
            stack.kubectl("rollout", "status", "deployment/scoring", "--timeout=120s")
        assert stack.get("/v1/model")["version"] == newer
    assert seen.failures == []
    assert {stable, newer} <= seen.versions
    assert len(seen.answers) > 200


def test_a_version_with_corrupt_files_is_taken_back_and_no_request_fails(stack: Stack, promotion: Path) -> None:
    with registry(stack) as client:
        stable = str(status(stack)["stableVersion"])
        with load(stack) as seen:
            bad = register_copy(client, stable, corrupt=True)
            client.set_registered_model_alias(NAME, "production", bad)
            found = wait_until(
                stack,
                "the roll back",
                180,
                lambda found: bad in [failed["version"] for failed in found.get("failedVersions", [])],
            )
            assert found["stableVersion"] == stable
        assert stack.get("/v1/model")["version"] == stable
        client.set_registered_model_alias(NAME, "production", stable)
    assert seen.failures == []
    assert seen.versions == {stable}
