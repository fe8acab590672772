"""Lanes: namespaces in which scenarios of promotions run side by side, all on the registry of one installed stack.

A lane has an API release, an ingress host and a registered model of its own, and its clients. Each scenario gets the
next free one (e2e.beside).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self
from urllib.parse import quote

import yaml
from mlflow import MlflowClient

from e2e.bad_models import Files, Shelf, good
from e2e.kube import Api, Document
from e2e.load import Load, failed, turned_back
from localcluster.console import run
from localcluster.packages import HELM_3, extract
from localcluster.paths import REPOSITORY
from localcluster.stack import Stack

PROMOTION = "loans"
PLURAL = "/apis/creditrisk.io/v1alpha1/namespaces/{}/modelpromotions"
# Judged every two seconds, on as few answers as tell a bad version of these tests from a good one. So few differ by
# chance: with the usual limits 4 good rollouts in 600 would be taken back, with these none (benchmarks/operator).
ANALYSIS: Document = {
    "interval": "2s",
    "minSamples": 40,
    "failureLimit": 2,
    "metrics": [{"type": "ErrorRate"}, {"type": "ScorePSI", "limit": 0.5}, {"type": "DecisionShift", "limit": 0.15}],
}
# Nothing takes so long, but for a machine that does other things meanwhile.
LONGEST_WAIT = 300.0
STEPS: list[Document] = [{"weight": 30, "duration": "5s"}, {"weight": 60, "duration": "5s"}]


@dataclass
class Site:
    """What all lanes share."""

    stack: Stack
    api: Api
    client: MlflowClient
    shelf: Shelf
    images: Mapping[str, str]
    applications: Sequence[Document]
    # Tells this run's models from those of an earlier one on the same registry.
    mark: str = field(default_factory=lambda: format(int(time.time()), "x"))

    def helm(self, namespace: str, *arguments: str, program: str = "helm") -> None:
        """Run helm in a namespace; helm-3 is the version before the one that the project uses."""
        paths = self.stack.cluster.paths
        if program == "helm-3":
            (found,) = extract(HELM_3, paths.cache / "helm-3", paths, self.log)
            program = str(found)
        run([program, *arguments, "--namespace", namespace], self.log, env=self.stack.environment())

    def helm_install(self, chart: str, namespace: str, *values: str, program: str = "helm") -> None:
        """Install or upgrade one of the charts with the locally built image and the small requests of a test."""
        repository, _, tag = self.images[chart].rpartition(":")
        self.helm(
            namespace, "upgrade", "--install", chart, str(REPOSITORY / "charts" / chart), "--create-namespace",
            f"--set=image.repository={repository}", f"--set-string=image.tag={tag}",
            f"--set=mlflowUrl=http://mlflow.{self.stack.namespace}:5000", *values, program=program,
        )  # fmt: skip

    @property
    def log(self) -> Path:
        return self.stack.cluster.paths.logs / "promotion-tests.log"

    def in_namespace(self, namespace: str) -> Stack:
        """Return the stack as it is reached in another namespace."""
        return replace(self.stack, namespace=namespace)

    def kubectl(self, namespace: str, *arguments: str, text: str | None = None) -> str:
        """Run kubectl in a namespace; `text` is its standard input."""
        return self.in_namespace(namespace).kubectl(*arguments, text=text)


@dataclass
class Lane:
    """One namespace with its model, its clients and its promotion."""

    site: Site
    namespace: str
    own_operator: bool = False
    load: Load = field(init=False)
    stable: str = field(init=False, default="")
    began: float = field(init=False, default=0.0)

    @property
    def model(self) -> str:
        """Return the registered model's name."""
        return f"{self.namespace}-{self.site.mark}"

    @property
    def host(self) -> str:
        """Return the ingress host."""
        return f"{self.namespace}.credit-risk.test"

    @property
    def operator_namespace(self) -> str:
        """Return where the operator of this lane runs."""
        return self.namespace if self.own_operator else OPERATOR_NAMESPACE

    def install(self, poll_seconds: float = 1) -> None:
        """Register a champion and serve it; an operator of the lane's own asks the registry so often."""
        self.site.client.create_registered_model(self.model)
        self.stable = self.register(good)
        self.point_to(self.stable)
        self.helm_api()
        if self.own_operator:
            poll = f"--set=pollSeconds={poll_seconds:g}"
            self.site.helm_install("operator", self.namespace, "--set=crd.install=false", poll)
            self.wait_for_rollouts("operator")
        self.wait_for_rollouts("scoring")

    def helm_api(self, *values: str, program: str = "helm") -> None:
        """Install or upgrade the API's chart."""
        self.site.helm_install(
            "api", self.namespace, f"--set=model.name={self.model}", f"--set=ingress.host={self.host}",
            "--set=resources.requests.cpu=20m", *self._ingress(), *values, program=program,
        )  # fmt: skip

    def helm(self, *arguments: str, program: str = "helm") -> None:
        """Run helm in the lane's namespace."""
        self.site.helm(self.namespace, *arguments, program=program)

    def reinstall(self, program: str) -> None:
        """Have the API's release from this helm alone."""
        self.remove()
        self.helm("uninstall", "api", "--wait")
        self.point_to(self.stable)
        self.helm_api(program=program)
        self.wait_for_rollouts("scoring")

    def wait_for_rollouts(self, *deployments: str) -> None:
        """Wait until these Deployments have only pods of their newest template, all of them available."""
        for name in deployments:
            self.site.kubectl(self.namespace, "rollout", "status", f"deployment/{name}", f"--timeout={LONGEST_WAIT:g}s")

    def _ingress(self) -> list[str]:
        values = yaml.safe_load(self.site.stack.cluster.values.read_text())
        annotations = ((values.get("api") or {}).get("ingress") or {}).get("annotations") or {}
        # What a pod that is killed had in its hands goes to another one.
        annotations |= {"traefik.ingress.kubernetes.io/router.middlewares": "resend@file"}
        return [f"--set-json=ingress.annotations={json.dumps(annotations)}"]

    @contextmanager
    def clients(self, rate: float = 30.0) -> Iterator[Self]:
        """Have clients for the length of the block; afterwards none of them may have got a bad answer."""
        key = self.site.in_namespace(self.namespace).api_key
        self.load = Load(self.site.stack.url, self.host, key, self.site.applications, rate)
        self.began = time.time()
        with self.load:
            yield self
        assert len(self.load.answers) > 20
        bad = failed(self.load.answers)
        assert not bad, f"{len(bad)} of {len(self.load.answers)} requests failed, the first: {bad[:3]}"

    def register(self, make: Callable[[Files], None]) -> str:
        """Register another version of the lane's model."""
        return self.site.shelf.register(self.model, make)

    def point_to(self, version: str) -> None:
        """Move the alias."""
        self.site.client.set_registered_model_alias(self.model, "production", version)

    def roll_out(self, make: Callable[[Files], None]) -> str:
        """Register a version, move the alias to it, and return its number."""
        version = self.register(make)
        self.point_to(version)
        return version

    def tags(self, version: str) -> dict[str, str]:
        """Return what the registry says of a version."""
        return dict(self.site.client.get_model_version(self.model, version).tags)

    # --- the promotion

    @property
    def path(self) -> str:
        """Return where the promotion is in the API."""
        return f"{PLURAL.format(self.namespace)}/{PROMOTION}"

    def follow(self, **spec: object) -> None:
        """Have a new promotion of the alias, at rest with the version that is served."""
        self.remove()
        if self.stable:
            self.point_to(self.stable)
        self.apply(self.document(**spec))
        found = self.wait_for("a promotion at rest", lambda s: s.get("phase") == "Idle" and s.get("stableVersion"))
        self.stable = str(found["stableVersion"])

    def document(self, **spec: object) -> Document:
        """Return a promotion of the lane's model with the tests' short intervals."""
        return {
            "apiVersion": "creditrisk.io/v1alpha1",
            "kind": "ModelPromotion",
            "metadata": {"name": PROMOTION},
            "spec": {
                "model": {"name": self.model, "alias": "production"},
                "steps": STEPS,
                "analysis": ANALYSIS,
                # On a crowded machine answers take their time, and falling back would turn clients back.
                "canary": {"deadlineMilliseconds": 5000},
                "progressDeadlineSeconds": 300,
                **spec,
            },
        }

    def apply(self, document: Document) -> None:
        """Apply as a user does."""
        self.site.kubectl(self.namespace, "apply", "-f", "-", text=yaml.safe_dump(document))

    def remove(self) -> None:
        """Delete the promotion and wait until all that it owned is gone."""
        self.site.api.delete(self.path)
        self.wait_until("what the promotion owned is gone", lambda: not self.leftovers())

    def leftovers(self) -> list[str]:
        """Return what is there of a rollout."""
        paths = {
            "promotion": self.path,
            "canary": self.deployment_path("scoring-canary"),
            "canary service": f"/api/v1/namespaces/{self.namespace}/services/scoring-canary",
            "route": f"/api/v1/namespaces/{self.namespace}/configmaps/scoring-route",
        }
        left = [name for name, path in paths.items() if self.site.api.get(path)]
        return left + [pod["metadata"]["name"] for pod in self.pods("creditrisk.io/track=canary")]

    def status(self) -> Document:
        """Return the promotion's status."""
        found: Document = self.site.api.get(self.path).get("status", {})
        return found

    def wait_for(self, what: str, reached: Callable[[Document], object], seconds: float = LONGEST_WAIT) -> Document:
        """Wait until the promotion's status is as wanted, and return it."""
        seen: Document = {}

        def look() -> bool:
            nonlocal seen
            seen = self.status()
            return bool(reached(seen))

        self.wait_until(what, look, seconds, more=lambda: _short(seen))
        return seen

    def wait_until(
        self, what: str, reached: Callable[[], object], seconds: float = LONGEST_WAIT, more: Callable[[], str] = str
    ) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < deadline, f"{self.namespace}: not within {seconds:g} s: {what}; {more()}"
            time.sleep(0.25)

    def act(self, action: str) -> None:
        """Annotate the promotion with an action by hand, and wait until the operator took it."""
        self.site.kubectl(self.namespace, "annotate", f"mp/{PROMOTION}", f"creditrisk.io/action={action}")
        self.wait_until(f"{action} is handled", lambda: "creditrisk.io/action" not in (
            self.site.api.get(self.path)["metadata"].get("annotations") or {}))  # fmt: skip

    def events(self) -> dict[str, str]:
        """Return the newest message by reason of the promotion's Events since the clients came."""
        uid = self.site.api.get(self.path)["metadata"]["uid"]
        selector = quote(f"involvedObject.uid={uid}")
        found = self.site.api.get(f"/api/v1/namespaces/{self.namespace}/events?fieldSelector={selector}")["items"]
        return {event["reason"]: event["message"] for event in sorted(found, key=lambda event: event["lastTimestamp"])}

    def conditions(self) -> dict[str, tuple[str, str]]:
        """Return status and reason of each condition."""
        return {c["type"]: (c["status"], c["reason"]) for c in self.status().get("conditions", [])}

    def describe(self) -> str:
        """Return what somebody who reads of a failed scenario wants to know."""
        pods = [f"{p['metadata']['name']} {p['status']['phase']}" for p in self.pods("app.kubernetes.io/name=api")]
        log = self.site.kubectl(self.operator_namespace, "logs", "deployment/operator", "--tail=400")
        own = [line for line in log.splitlines() if f"{self.namespace}/" in line][-25:]
        return "\n".join([self.namespace, *pods, json.dumps(self.status(), indent=1), *own])

    # --- what runs

    def deployment_path(self, name: str) -> str:
        """Return where a Deployment is in the API."""
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{name}"

    def served(self) -> str | None:
        """Return the version that the stable Deployment's pods are told to serve."""
        template = self.site.api.get(self.deployment_path("scoring"))["spec"]["template"]
        version: str | None = template["metadata"]["annotations"].get("creditrisk.io/model-version")
        return version

    def annotation(self, deployment: str, name: str) -> str | None:
        """Return an annotation of a Deployment's pods."""
        template = self.site.api.get(self.deployment_path(deployment))["spec"]["template"]
        found: str | None = template["metadata"]["annotations"].get(name)
        return found

    def pods(self, labels: str, namespace: str = "") -> list[Document]:
        """Return the pods with these labels that are not going."""
        path = f"/api/v1/namespaces/{namespace or self.namespace}/pods?labelSelector={quote(labels)}"
        found: list[Document] = self.site.api.get(path)["items"]
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    # --- what every scenario ends with

    def assert_promoted(self, version: str) -> None:
        """Everything says that the version is promoted, and nobody who had its canary saw another one again."""
        found = self.wait_for(f"version {version} is promoted", lambda s: (
            s.get("stableVersion") == version and s.get("phase") == "Idle"))  # fmt: skip
        assert self.served() == version
        self.wait_until("the canary is gone", lambda: not self.site.api.get(self.deployment_path("scoring-canary")))
        assert found["history"][0] | {"at": 0} == {
            "version": version, "outcome": "Promoted", "reason": "Promoted", "at": 0}  # fmt: skip
        assert self.conditions()["Promoted"][0] == "True"
        assert self.conditions()["Degraded"][0] == "False"
        assert "Promoted" in self.events()
        self.wait_until("the registry's tag", lambda: self.tags(version).get("creditrisk.io.rollout") == "promoted")
        self.assert_nobody_turned_back(version)
        self.stable = version

    def assert_rolled_back(self, version: str, reason: str, *words: str) -> None:
        """Everything says that the version was taken back for this reason, and the champion serves."""
        found = self.wait_for(f"version {version} is rolled back", lambda s: (
            s.get("phase") == "Failed" and s["history"][0]["version"] == version))  # fmt: skip
        entry = next(entry for entry in found["failedVersions"] if entry["version"] == version)
        assert (found["history"][0]["outcome"], entry["reason"]) == ("RolledBack", reason), entry
        for word in words:
            assert word in entry["message"], entry
        assert found["stableVersion"] == self.served() == self.stable
        assert self.conditions()["Promoted"][0] == "False"
        assert self.conditions()["Degraded"] == ("True", reason)
        assert self.conditions()["Ready"][0] == "True"
        assert entry["message"][:200] in self.events()[reason]
        self.wait_until("the registry's tag", lambda: self.tags(version).get("creditrisk.io.rollout") == "rolled-back")
        assert self.tags(version)["creditrisk.io.rollout-reason"].startswith(f"{reason}: {entry['message'][:100]}")
        self.wait_until("the canary is gone", lambda: not self.site.api.get(self.deployment_path("scoring-canary")))
        self.assert_nobody_turned_back(version, until=found["history"][0]["at"])

    def assert_nobody_turned_back(self, version: str, until: float = float("inf")) -> None:
        """Nobody who was answered by the canary was answered by the champion later, while the weight only grew."""
        pairs = turned_back(self.load.answers, version, until=until)
        assert not pairs, f"{len(pairs)} answers turned back from version {version}, the first: {pairs[0]}"

    def by_canary(self, version: str) -> int:
        """Return how many clients' requests the canary of a version answered."""
        return sum(answer.by_canary and answer.version == version for answer in self.load.answers)


OPERATOR_NAMESPACE = "promo-operator"
SHARED = ("promo-1", "promo-2", "promo-3")
OWN = ("promo-own",)


@contextmanager
def lanes(site: Site) -> Iterator[tuple[list[Lane], list[Lane]]]:
    """Have the lanes: some that one operator watches, and one with an operator of its own, to do harm to."""
    shared = [Lane(site, name) for name in SHARED]
    own = [Lane(site, name, own_operator=True) for name in OWN]
    everywhere = [OPERATOR_NAMESPACE, *(lane.namespace for lane in (*shared, *own))]
    gone = ["delete", "namespace", "--ignore-not-found"]
    site.kubectl("default", *gone, *everywhere)
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Lane.install, (*shared, *own)))
        site.helm_install("operator", OPERATOR_NAMESPACE, "--set=crd.install=false", "--set=pollSeconds=1",
                          f"--set=namespaces={{{','.join(SHARED)}}}")  # fmt: skip
        site.kubectl(OPERATOR_NAMESPACE, "rollout", "status", "deployment/operator", f"--timeout={LONGEST_WAIT:g}s")
        yield shared, own
    finally:
        site.kubectl("default", *gone, "--wait=false", *everywhere)


def _short(status: Document) -> str:
    return json.dumps({key: value for key, value in status.items() if key not in {"window", "conditions"}})
