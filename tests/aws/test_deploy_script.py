"""deploy.py's decisions, with scripted stand-ins for helm and kubectl; tests/e2e/test_deploy.py uses the real ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from aws.machine import program
from aws.stand_ins import MODEL, RECORD, SCORE, serving
from conftest import REPOSITORY

pytestmark = pytest.mark.terraform
# A program that prints the first scripted answer whose words all occur in its arguments; several answers come in turn.
SCRIPTED = (
    RECORD
    + """
import pathlib, time
folder = pathlib.Path(os.environ["CALLS"]).parent
for number, (words, answers) in enumerate(json.loads((folder / "answers.json").read_text())):
    if all(word in " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]]) for word in words.split()):
        counter = folder / f"count-{number}"
        times = int(counter.read_text()) if counter.exists() else 0
        counter.write_text(str(times + 1))
        answer = answers[min(times, len(answers) - 1)]
        if answer.startswith("!"):
            sys.exit(answer[1:])
        print(answer, flush=True)
        if "port-forward" in words:
            time.sleep(60)
        break
"""
)


@dataclass
class Site:
    """A cluster with scripted answers; later ones take precedence."""

    folder: Path
    answers: list[tuple[str, list[str]]] = field(default_factory=list)
    service: dict[str, bytes | None] = field(default_factory=dict)
    image: dict[str, str] = field(default_factory=lambda: {"repository": "r/api", "digest": "sha256:1"})
    images: dict[str, dict[str, str]] = field(default_factory=dict)

    def script(self, words: str, *answers: str) -> None:
        """Answer calls that contain these words; "!message" is a failure with that message."""
        self.answers.insert(0, (words, list(answers)))

    def promotion(self, *phases: str) -> None:
        """Script one ModelPromotion, in these phases one after the other."""
        items = [{"metadata": {"name": "loans"}, "status": {"phase": phase}} for phase in phases]
        self.script("kubectl get modelpromotions", *(json.dumps({"items": [item]}) for item in items))

    def deploy(self, *options: str) -> tuple[int, str]:
        """Run deploy.py and return its exit code and the summary."""
        (self.folder / "answers.json").write_text(json.dumps(self.answers))
        (self.folder / "images.json").write_text(json.dumps(self.images or {"api": self.image}))
        summary = self.folder / "summary.md"
        result = subprocess.run(
            [sys.executable, str(REPOSITORY / ".github/scripts/deploy.py"),
             "--images", str(self.folder / "images.json"), *options],
            env={**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", "CALLS": str(self.folder / "calls"),
                 "GITHUB_STEP_SUMMARY": str(summary)},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return result.returncode, summary.read_text() if summary.exists() else result.stderr

    def calls(self) -> list[str]:
        """Return all calls in order."""
        return [" ".join(json.loads(line)) for line in (self.folder / "calls").read_text().splitlines()]

    def called(self, words: str) -> bool:
        return any(all(word in call for word in words.split()) for call in self.calls())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A release at revision 3 where everything succeeds."""
    for name in ("helm", "kubectl"):
        program(tmp_path / name, SCRIPTED)
    made = Site(tmp_path)
    made.service = {"/v1/model": json.dumps(MODEL).encode(), "/v1/score": json.dumps(SCORE).encode()}

    def answer(request: BaseHTTPRequestHandler) -> bytes | None:
        return made.service.get(request.path)

    with serving(answer) as port:
        made.script("kubectl port-forward", f"Forwarding from 127.0.0.1:{port} -> 8000")
        made.script("kubectl get deployments", "scoring")
        made.script("kubectl get modelpromotions", '{"items": []}')
        made.script("helm list", '[{"name": "credit-risk"}]')
        history(made, (2, "superseded"), (3, "deployed"))
        yield made


def history(site: Site, *revisions: tuple[int, str]) -> None:
    site.script("helm history", listed(*revisions))


def listed(*revisions: tuple[int, str]) -> str:
    return json.dumps([{"revision": number, "status": status} for number, status in revisions])


def test_the_summary_lists_the_images_and_the_smoke_score(site: Site) -> None:
    code, summary = site.deploy()
    assert code == 0, summary
    assert "a loan scores 0.2500 by credit-risk version 7" in summary
    assert "| api | `r/api@sha256:1` |" in summary
    assert not site.called("rollback")


def test_a_tag_replaces_the_digest_of_an_earlier_deploy(site: Site) -> None:
    site.image = {"repository": "r/api", "tag": "1"}
    assert site.deploy()[0] == 0
    assert site.called("helm upgrade --set-string=api.image.tag=1 --set-string=api.image.digest=")


def test_scoring_pods_ship_decisions_with_the_image_of_the_decision_log(site: Site) -> None:
    site.images = {"decisions": {"repository": "r/decisions", "digest": "sha256:3"}}
    assert site.deploy()[0] == 0
    assert site.called("decisions.image.digest=sha256:3")
    assert site.called("api.decisionLog.image.repository=r/decisions api.decisionLog.image.digest=sha256:3")
    assert site.called("bulk.image.repository=r/decisions bulk.image.digest=sha256:3")


def test_backups_run_the_image_of_mlflow(site: Site) -> None:
    site.images = {"mlflow": {"repository": "r/mlflow", "digest": "sha256:2"}}
    assert site.deploy()[0] == 0
    assert site.called("helm upgrade --set-string=backup.image.repository=r/mlflow backup.image.digest=sha256:2")


def test_a_first_install_waits_for_its_model_and_has_no_revision_to_roll_back_to(site: Site) -> None:
    site.script("helm list", "[]")
    site.script("kubectl get jobs", "job/training")
    site.script("kubectl wait jobs", "!timed out waiting for the condition")
    code, summary = site.deploy()
    assert code == 1
    assert "timed out waiting for the condition" in summary
    assert "There is no revision to roll back to" in summary
    assert not site.called("rollback")


def test_an_interrupted_upgrade_is_rolled_back_before_the_next_one(site: Site) -> None:
    cut = listed((2, "deployed"), (3, "pending-upgrade"))
    whole = listed((2, "superseded"), (3, "failed"), (4, "deployed"))
    site.script("helm history", cut, whole)
    code, summary = site.deploy()
    assert code == 0, summary
    calls = site.calls()
    rollback = next(at for at, call in enumerate(calls) if call.startswith("helm rollback credit-risk 2"))
    assert rollback < next(at for at, call in enumerate(calls) if call.startswith("helm upgrade"))


def test_an_interrupted_install_needs_manual_intervention(site: Site) -> None:
    history(site, (1, "pending-install"))
    code, summary = site.deploy()
    assert code == 1
    assert summary.startswith("## Deploy not started")
    assert "run helm uninstall" in summary
    assert not site.called("upgrade")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("helm upgrade", "values don't meet the specifications of the schema"),
        ("kubectl rollout status deployment/scoring", "timed out waiting for the condition"),
        ("kubectl get modelpromotions", "etcdserver: request timed out"),
        ("kubectl port-forward", "error: lost connection to pod"),
    ],
)
def test_any_failure_is_reported_and_rolled_back(site: Site, words: str, complaint: str) -> None:
    before = [answers for known, answers in site.answers if known == words]
    site.script(words, f"!{complaint}", *(before[0] if before else [""]))
    code, summary = site.deploy()
    assert code == 1
    assert complaint in summary
    assert site.called("helm rollback credit-risk 3")
    assert "**Rolled back to revision 3**" in summary or "port-forward" in words


def test_a_failed_rollback_needs_manual_intervention(site: Site) -> None:
    site.script("helm upgrade", "!no")
    site.script("helm rollback", "!release: not found")
    code, summary = site.deploy()
    assert code == 1
    assert "**The rollback to revision 3 failed too. Manual intervention is needed:**" in summary
    assert "release: not found" in summary


def test_the_deploy_waits_for_a_rollout_in_progress(site: Site) -> None:
    site.promotion("Progressing", "Progressing", "Promoting", "Idle")
    code, summary = site.deploy()
    assert code == 0, summary
    assert len([call for call in site.calls() if "modelpromotions" in call]) == 4


@pytest.mark.parametrize("phase", ["Idle", "Paused", "Failed", "Initializing"])
def test_the_deploy_does_not_wait_for_a_settled_rollout(site: Site, phase: str) -> None:
    site.promotion(phase)
    code, summary = site.deploy()
    assert code == 0, summary


@pytest.mark.parametrize(
    "phases", [("Progressing", "Progressing", "Failed"), ("Progressing", "Failed")], ids=["later", "before pods start"]
)
def test_a_rollout_that_fails_meanwhile_rolls_the_upgrade_back(site: Site, phases: tuple[str, ...]) -> None:
    site.promotion(*phases)
    code, summary = site.deploy()
    assert code == 1
    assert "the promotion loans failed: kubectl describe modelpromotion says why" in summary
    assert "**Rolled back to revision 3**" in summary


def test_a_rollout_that_does_not_finish_in_time_rolls_the_upgrade_back(site: Site) -> None:
    site.promotion("Progressing")
    code, summary = site.deploy("--promotion-timeout=1")
    assert code == 1
    assert "still in progress after 1 s: loans" in summary


def test_a_cluster_without_the_operator_has_no_rollouts_to_wait_for(site: Site) -> None:
    site.script("kubectl get modelpromotions", '!error: the server doesn\'t have a resource type "modelpromotions"')
    code, summary = site.deploy()
    assert code == 0, summary


@pytest.mark.parametrize(
    ("path", "answer", "complaint"),
    [
        ("/v1/model", None, "HTTP Error 404"),
        ("/v1/score", b"{}", "the smoke score failed: KeyError('probability_of_default')"),
        ("/v1/score", b"[]", "the smoke score failed"),
        ("/v1/score", json.dumps(SCORE | {"probability_of_default": 1.5}).encode(), "not a probability: 1.5"),
        ("/v1/score", b"<html>", "the smoke score failed"),
    ],
)
def test_a_service_that_does_not_score_rolls_the_upgrade_back(
    site: Site, path: str, answer: bytes | None, complaint: str
) -> None:
    site.service[path] = answer
    code, summary = site.deploy()
    assert code == 1
    assert complaint in summary
    assert site.called("helm rollback credit-risk 3")


def test_the_releases_api_key_is_sent_to_the_service_and_not_logged(site: Site) -> None:
    seen: dict[str, Any] = {}

    def answer(request: BaseHTTPRequestHandler) -> bytes | None:
        seen[request.path] = request.headers["Authorization"]
        return site.service.get(request.path)

    with serving(answer) as port:
        site.script("kubectl port-forward", f"Forwarding from 127.0.0.1:{port} -> 8000")
        site.script("kubectl get secret scoring-api-key", "dGhlIGtleQ==")
        code, summary = site.deploy()
    assert code == 0, summary
    assert set(seen.values()) == {"Bearer the key"}
    assert "the key" not in summary
