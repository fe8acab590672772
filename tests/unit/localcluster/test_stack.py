from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from localcluster import images
from localcluster.__main__ import choose
from localcluster.console import ClusterError
from localcluster.embedded import builder
from localcluster.embedded.cluster import EmbeddedCluster
from localcluster.paths import Paths
from localcluster.ports import Ports
from localcluster.stack import Stack
from unit.localcluster.fakes import Cluster, put

FAILED = {"status": {"conditions": [{"type": "Failed", "status": "True"}]}}


def test_the_training_run_is_waited_for_and_can_be_followed(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.reply("get-jobs", "training-1")
    cluster.reply("get-job", {"status": {"succeeded": 1}})
    cluster.stack.wait_for_training()
    printed = capsys.readouterr().out
    assert 'to follow its log: eval "$(make -s env)" && kubectl -n credit-risk logs -f job/training-1' in printed


def test_a_failed_training_run_is_reported_with_the_end_of_its_log(cluster: Cluster) -> None:
    cluster.reply("get-jobs", "training-1")
    cluster.reply("get-job", FAILED)
    cluster.reply("logs-job-training-1", "gate roc_auc REFUSED")
    with pytest.raises(ClusterError, match=r"training-1 failed:\ngate roc_auc REFUSED\n  for the full log: .*kubectl"):
        cluster.stack.wait_for_training()


def test_an_open_service_has_no_api_key(cluster: Cluster) -> None:
    cluster.reply("get-secret", "")
    assert not cluster.stack.api_key


@pytest.mark.parametrize(("mode", "enabled"), [("off", "false"), ("log", "true"), ("require", "true")])
def test_the_decision_log_is_installed_with_its_mode_and_behind_the_same_host(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, enabled: str
) -> None:
    calls = tmp_path / "calls"
    put(cluster.stack.cluster.paths.tools, "helm", f'echo "$@" >> {calls}')
    put(cluster.stack.cluster.paths.tools, "kubectl", "exit 0")
    stack = replace(cluster.stack, decision_log=mode, host="e2e.example.org")
    monkeypatch.setattr(Stack, "build_charts", lambda _: None)
    stack.install({"decisions": "localhost/credit-risk/decisions:1"})
    words = calls.read_text().split()
    assert {f"--set=decisions.enabled={enabled}", f"--set=api.decisionLog.mode={mode}"} <= set(words)
    for part in ("api", "decisions", "operator.page"):
        assert f"--set={part}.ingress.host=e2e.example.org" in words
    for image in ("decisions", "api.decisionLog"):
        assert f"--set={image}.image.repository=localhost/credit-risk/decisions" in words


def test_the_decision_log_is_waited_for_only_if_it_is_on(cluster: Cluster) -> None:
    cluster.stack.wait_for_decisions()
    with pytest.raises(ClusterError, match="rollout status deployment/decisions"):
        replace(cluster.stack, decision_log="log").wait_for_decisions()


@pytest.mark.parametrize("monitoring", [True, False])
def test_a_prometheus_is_installed_only_if_it_is_asked_for(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, monitoring: bool
) -> None:
    calls = tmp_path / "calls"
    put(cluster.stack.cluster.paths.tools, "helm", f'echo "$@" >> {calls}')
    put(cluster.stack.cluster.paths.tools, "kubectl", "exit 0")
    monkeypatch.setattr(Stack, "build_charts", lambda _: None)
    replace(cluster.stack, monitoring=monitoring).install({"prometheus": "localhost/credit-risk/prometheus:1"})
    words = set(calls.read_text().split())
    for part in ("monitoring.prometheus", "backup.metrics"):
        assert f"--set={part}.enabled={str(monitoring).lower()}" in words
    for part in ("prometheus", "alertmanager", "probes"):
        assert f"--set=monitoring.{part}.image.repository=localhost/credit-risk/prometheus" in words


@pytest.mark.parametrize(("monitoring", "built"), [(False, set()), (True, {builder.PROMETHEUS})])
def test_the_embedded_cluster_builds_prometheus_only_for_a_release_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, monitoring: bool, built: set[images.Image]
) -> None:
    asked: list[images.Image] = []

    def images_of(_: EmbeddedCluster, wanted: Sequence[images.Image]) -> dict[str, str]:
        asked.extend(wanted)
        return {}

    monkeypatch.setattr(EmbeddedCluster, "images", images_of)
    embedded = EmbeddedCluster(Paths(cache=tmp_path, state=tmp_path), Ports())
    Stack(embedded, monitoring=monitoring).images()
    assert set(asked) - set(images.STACK) == built


@pytest.mark.parametrize(("mode", "built"), [("off", images.STACK), ("log", images.ALL), ("require", images.ALL)])
def test_the_image_of_the_decision_log_is_built_only_for_a_release_that_has_it(
    programs: Path, mode: str, built: tuple[images.Image, ...]
) -> None:
    put(programs, "docker", f'echo "$@" >> {programs}/docker-calls')
    put(programs, "kind", f'echo "$@" >> {programs}/kind-calls')
    found = Stack(choose("kind"), decision_log=mode).images()
    assert list(found) == [image.name for image in built]
    calls = (programs / "docker-calls").read_text().splitlines()
    assert len(calls) == len(built)
    for reference, call in zip(found.values(), calls, strict=True):
        assert f"--tag {reference}" in call
    loaded = [line.split()[-1] for line in (programs / "kind-calls").read_text().splitlines()]
    assert loaded == list(found.values())
