"""deploy.py's decisions, with helm and kubectl that say what they are told; tests/e2e/test_deploy.py has real ones."""

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
# What a program says: the first answer whose words are all among the arguments; of several, one after the other.
SAYS = (
    RECORD
    + """
import pathlib, time
folder = pathlib.Path(os.environ["CALLS"]).parent
for number, (words, answers) in enumerate(json.loads((folder / "answers.json").read_text())):
    if all(word in " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]]) for word in words.split()):
        told = folder / f"told-{number}"
        times = int(told.read_text()) if told.exists() else 0
        told.write_text(str(times + 1))
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
    """A cluster that answers as it is told; the last word counts."""

    folder: Path
    answers: list[tuple[str, list[str]]] = field(default_factory=list)
    service: dict[str, bytes | None] = field(default_factory=dict)
    image: dict[str, str] = field(default_factory=lambda: {"repository": "r/api", "digest": "sha256:1"})

    def say(self, words: str, *answers: str) -> None:
        """Answer calls with these words; "!" and a text is a failure with that complaint."""
        self.answers.insert(0, (words, list(answers)))

    def promotion(self, *phases: str) -> None:
        """Have one promotion, in these phases at each look."""
        items = [{"metadata": {"name": "loans"}, "status": {"phase": phase}} for phase in phases]
        self.say("kubectl get modelpromotions", *(json.dumps({"items": [item]}) for item in items))

    def deploy(self, *options: str) -> tuple[int, str]:
        """Run the script and return how it ended and the summary."""
        (self.folder / "answers.json").write_text(json.dumps(self.answers))
        (self.folder / "images.json").write_text(json.dumps({"api": self.image}))
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
        """Return what was called, in order."""
        return [" ".join(json.loads(line)) for line in (self.folder / "calls").read_text().splitlines()]

    def called(self, words: str) -> bool:
        return any(all(word in call for word in words.split()) for call in self.calls())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A release at revision 3 on which all goes well."""
    for name in ("helm", "kubectl"):
        program(tmp_path / name, SAYS)
    made = Site(tmp_path)
    made.service = {"/v1/model": json.dumps(MODEL).encode(), "/v1/score": json.dumps(SCORE).encode()}

    def answer(request: BaseHTTPRequestHandler) -> bytes | None:
        return made.service.get(request.path)

    with serving(answer) as port:
        made.say("kubectl port-forward", f"Forwarding from 127.0.0.1:{port} -> 8000")
        made.say("kubectl get deployments", "scoring")
        made.say("kubectl get modelpromotions", '{"items": []}')
        made.say("helm list", '[{"name": "credit-risk"}]')
        history(made, (2, "superseded"), (3, "deployed"))
        yield made


def history(site: Site, *revisions: tuple[int, str]) -> None:
    site.say("helm history", listed(*revisions))


def listed(*revisions: tuple[int, str]) -> str:
    return json.dumps([{"revision": number, "status": status} for number, status in revisions])


def test_what_was_deployed_and_scored_is_summed_up(site: Site) -> None:
    code, summary = site.deploy()
    assert code == 0, summary
    assert "a loan scores 0.2500 by credit-risk version 7" in summary
    assert "| api | `r/api@sha256:1` |" in summary
    assert not site.called("rollback")


def test_a_tag_takes_the_place_of_an_earlier_digest(site: Site) -> None:
    site.image = {"repository": "r/api", "tag": "1"}
    assert site.deploy()[0] == 0
    assert site.called("helm upgrade --set-string=api.image.tag=1 --set-string=api.image.digest=")


def test_a_first_install_waits_for_its_model_and_has_nothing_to_go_back_to(site: Site) -> None:
    site.say("helm list", "[]")
    site.say("kubectl get jobs", "job/training")
    site.say("kubectl wait jobs", "!timed out waiting for the condition")
    code, summary = site.deploy()
    assert code == 1
    assert "timed out waiting for the condition" in summary
    assert "There was nothing to go back to" in summary
    assert not site.called("rollback")


def test_an_upgrade_that_was_cut_off_is_taken_back_before_the_next(site: Site) -> None:
    cut = listed((2, "deployed"), (3, "pending-upgrade"))
    whole = listed((2, "superseded"), (3, "failed"), (4, "deployed"))
    site.say("helm history", cut, whole)
    code, summary = site.deploy()
    assert code == 0, summary
    calls = site.calls()
    rollback = next(at for at, call in enumerate(calls) if call.startswith("helm rollback credit-risk 2"))
    assert rollback < next(at for at, call in enumerate(calls) if call.startswith("helm upgrade"))


def test_an_install_that_was_cut_off_is_left_to_a_person(site: Site) -> None:
    history(site, (1, "pending-install"))
    code, summary = site.deploy()
    assert code == 1
    assert summary.startswith("## Deploy not begun")
    assert "helm uninstall it" in summary
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
def test_whatever_fails_is_told_and_taken_back(site: Site, words: str, complaint: str) -> None:
    before = [answers for known, answers in site.answers if known == words]
    site.say(words, f"!{complaint}", *(before[0] if before else [""]))
    code, summary = site.deploy()
    assert code == 1
    assert complaint in summary
    assert site.called("helm rollback credit-risk 3")
    assert "**Rolled back to revision 3**" in summary or "port-forward" in words


def test_a_failed_rollback_calls_for_a_person(site: Site) -> None:
    site.say("helm upgrade", "!no")
    site.say("helm rollback", "!release: not found")
    code, summary = site.deploy()
    assert code == 1
    assert "**The rollback to revision 3 failed too. Somebody has to look:**" in summary
    assert "release: not found" in summary


def test_a_promotion_in_progress_is_waited_for(site: Site) -> None:
    site.promotion("Progressing", "Progressing", "Promoting", "Idle")
    code, summary = site.deploy()
    assert code == 0, summary
    assert len([call for call in site.calls() if "modelpromotions" in call]) == 4


@pytest.mark.parametrize("phase", ["Idle", "Paused", "Failed", "Initializing"])
def test_a_promotion_that_rests_is_not_waited_for(site: Site, phase: str) -> None:
    site.promotion(phase)
    code, summary = site.deploy()
    assert code == 0, summary


def test_a_promotion_that_fails_meanwhile_takes_the_upgrade_back(site: Site) -> None:
    site.promotion("Progressing", "Progressing", "Failed")
    code, summary = site.deploy()
    assert code == 1
    assert "the promotion loans failed: kubectl describe modelpromotion says why" in summary
    assert "**Rolled back to revision 3**" in summary


def test_a_promotion_without_end_takes_the_upgrade_back(site: Site) -> None:
    site.promotion("Progressing")
    code, summary = site.deploy("--promotion-timeout=1")
    assert code == 1
    assert "still being promoted after 1 s: loans" in summary


def test_a_cluster_without_the_operator_has_no_promotions(site: Site) -> None:
    site.say("kubectl get modelpromotions", '!error: the server doesn\'t have a resource type "modelpromotions"')
    code, summary = site.deploy()
    assert code == 0, summary


@pytest.mark.parametrize(
    ("path", "answer", "complaint"),
    [
        ("/v1/model", None, "HTTP Error 404"),
        ("/v1/score", b"{}", "the smoke score failed: KeyError('probability_of_default')"),
        ("/v1/score", b"[]", "the smoke score failed"),
        ("/v1/score", json.dumps(SCORE | {"probability_of_default": 1.5}).encode(), "no probability: 1.5"),
        ("/v1/score", b"<html>", "the smoke score failed"),
    ],
)
def test_a_service_that_does_not_score_takes_the_upgrade_back(
    site: Site, path: str, answer: bytes | None, complaint: str
) -> None:
    site.service[path] = answer
    code, summary = site.deploy()
    assert code == 1
    assert complaint in summary
    assert site.called("helm rollback credit-risk 3")


def test_the_key_of_the_release_is_shown_to_the_service_and_in_no_log(site: Site) -> None:
    seen: dict[str, Any] = {}

    def answer(request: BaseHTTPRequestHandler) -> bytes | None:
        seen[request.path] = request.headers["Authorization"]
        return site.service.get(request.path)

    with serving(answer) as port:
        site.say("kubectl port-forward", f"Forwarding from 127.0.0.1:{port} -> 8000")
        site.say("kubectl get secret scoring-api-key", "dGhlIGtleQ==")
        code, summary = site.deploy()
    assert code == 0, summary
    assert set(seen.values()) == {"Bearer the key"}
    assert "the key" not in summary
