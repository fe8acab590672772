"""The namespaces that promotion scenarios run in, side by side, all on the registry of one installed stack."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import quote

import yaml

from e2e.environment import Environment
from e2e.kubernetes_api import Document
from e2e.model_versions import Files, good
from e2e.pods import CANARY

MODEL_PROMOTIONS = "/apis/creditrisk.io/v1alpha1/namespaces/{}/modelpromotions"
# Nothing takes that long, except on a machine that is busy with other things.
LONGEST_WAIT_SECONDS = 300.0
OPERATOR_NAMESPACE = "promo-operator"
# Where the shared operator's page is.
PAGE_HOST = "promotions.credit-risk.test"
# One operator watches the shared namespaces. The other one has its own operator, which scenarios kill.
SHARED = ("promo-1", "promo-2", "promo-3")
WITH_OWN_OPERATOR = ("promo-own",)
# Deployments that the shared operator's role lists as targets. The second one does not exist.
TARGET, ABSENT_TARGET = "scoring", "not-deployed"


@dataclass
class ScenarioNamespace:
    """A namespace with an API release, an ingress host and a registered model of its own."""

    environment: Environment
    name: str
    own_operator: bool = False
    # Further arguments of helm for the two charts.
    api_values: tuple[str, ...] = ()
    operator_values: tuple[str, ...] = ()
    champion: str = field(init=False, default="")
    # Set after a failed scenario, whose leftovers must not fail the next one.
    needs_reinstall: bool = field(init=False, default=False)

    @property
    def model(self) -> str:
        """Return the registered model's name."""
        return f"{self.name}-{self.environment.run_id}"

    @property
    def host(self) -> str:
        """Return the ingress host."""
        return f"{self.name}.credit-risk.test"

    @property
    def operator_namespace(self) -> str:
        """Return the namespace of the operator that watches this one."""
        return self.name if self.own_operator else OPERATOR_NAMESPACE

    # --- releases

    def install(self, poll_seconds: float = 1) -> None:
        """Register a champion and serve it; `poll_seconds` is the poll interval of the namespace's own operator."""
        self.environment.registry.create_registered_model(self.model)
        self.champion = self.register(good)
        self.move_pointer(self.champion)
        self.install_api()
        self._install_operator(poll_seconds)
        self._wait_for_serving()

    def install_again(self) -> None:
        """Serve the champion again after its releases were uninstalled."""
        self.move_pointer(self.champion)
        self.install_api()
        self._install_operator()
        self._wait_for_serving()

    def create_again(self) -> None:
        """Serve the champion again after the namespace was deleted.

        The shared operator's release has a Role in every namespace that it watches, so it can only be repaired while
        all of them exist: no two scenarios that delete a shared namespace may run at once.
        """
        self.install_again()
        if not self.own_operator:
            install_shared_operator(self.environment)

    def install_api(self, *values: str, program: str = "helm") -> None:
        """Install or upgrade the API's chart, with the small requests of a test."""
        self.environment.helm_install(
            "api", self.name, f"--set=model.name={self.model}", f"--set=ingress.host={self.host}",
            "--set=resources.requests.cpu=20m", *self._ingress_values(), *self.api_values, *values, program=program,
        )  # fmt: skip

    def _install_operator(self, poll_seconds: float = 1) -> None:
        if self.own_operator:
            poll = f"--set=pollSeconds={poll_seconds:g}"
            self.environment.helm_install("operator", self.name, "--set=crd.install=false", poll, *self.operator_values)
            self.wait_for_rollouts("operator")

    def _wait_for_serving(self) -> None:
        """Wait until the champion's pods are ready, and the ingress controller, which learns of them later, too."""
        self.wait_for_rollouts(TARGET)
        self.wait_until("the ingress reaches the pods", self._reachable)

    def _reachable(self) -> bool:
        try:
            self.described_model()
        except OSError:
            return False
        return True

    def reinstall(self, program: str = "helm") -> None:
        """Replace the API's release by a new one, made by this version of Helm alone, that serves the champion."""
        if self.own_operator:
            self.kubectl("scale", "deployment/operator", "--replicas=1")
        self.remove_promotions()
        self.environment.helm(self.name, "uninstall", "api", "--wait")
        self.move_pointer(self.champion)
        self.install_api(program=program)
        self._wait_for_serving()
        self.needs_reinstall = False

    def wait_for_rollouts(self, *deployments: str) -> None:
        """Wait until these Deployments have only available pods of their newest template."""
        for name in deployments:
            self.kubectl("rollout", "status", f"deployment/{name}", f"--timeout={LONGEST_WAIT_SECONDS:g}s")

    def _ingress_values(self) -> list[str]:
        annotations = ingress_annotations(self.environment)
        # Traefik sends requests that were lost with a killed pod to another one.
        annotations |= {"traefik.ingress.kubernetes.io/router.middlewares": "resend@file"}
        return [f"--set-json=ingress.annotations={json.dumps(annotations)}"]

    # --- the registry

    def register(self, make: Callable[[Files], None]) -> str:
        """Register a new version of the namespace's model and return its number."""
        return self.environment.publisher.register(self.model, make)

    def move_pointer(self, version: str) -> None:
        """Move the Production pointer: the alias `production`."""
        self.environment.registry.set_registered_model_alias(self.model, "production", version)

    def tags(self, version: str) -> dict[str, str]:
        """Return a version's tags in the registry."""
        return dict(self.environment.registry.get_model_version(self.model, version).tags)

    # --- the cluster

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl in the namespace; `text` is its standard input."""
        return self.environment.kubectl(self.name, *arguments, text=text)

    def described_model(self) -> Document:
        """Return what /v1/model reports, through the ingress."""
        described: Document = replace(self.environment.stack_in(self.name), host=self.host).get("/v1/model")
        return described

    def deployment(self, name: str) -> Document:
        """Return a Deployment, {} if it does not exist."""
        return self.environment.api.get(f"/apis/apps/v1/namespaces/{self.name}/deployments/{name}")

    def served(self) -> str | None:
        """Return the version that the stable Deployment's template tells its pods to serve."""
        return self.annotation(TARGET, "creditrisk.io/model-version")

    def annotation(self, deployment: str, name: str) -> str | None:
        """Return an annotation of a Deployment's pod template."""
        template = self.deployment(deployment)["spec"]["template"]
        found: str | None = template["metadata"]["annotations"].get(name)
        return found

    def pods(self, labels: str, namespace: str = "") -> list[Document]:
        """Return the pods with these labels that are not being deleted."""
        path = f"/api/v1/namespaces/{namespace or self.name}/pods?labelSelector={quote(labels)}"
        found: list[Document] = self.environment.api.get(path)["items"]
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def operator_log(self, lines: int = 400) -> list[str]:
        """Return the last lines of the operator's log."""
        return self.environment.kubectl(
            self.operator_namespace, "logs", "deployment/operator", f"--tail={lines}"
        ).splitlines()

    def remove_promotions(self) -> None:
        """Delete every ModelPromotion and wait until everything that they owned is gone."""
        self.environment.api.delete(MODEL_PROMOTIONS.format(self.name))
        self.wait_until("what the promotions owned is gone", lambda: not self.rollout_objects())

    def rollout_objects(self) -> list[str]:
        """Return what exists of ModelPromotions and of what they own."""
        paths = {
            "canary service": f"/api/v1/namespaces/{self.name}/services/{TARGET}-canary",
            "route": f"/api/v1/namespaces/{self.name}/configmaps/{TARGET}-route",
        }
        found = [name for name, path in paths.items() if self.environment.api.get(path)]
        found += ["canary"] if self.deployment(f"{TARGET}-canary") else []
        listed = [*self.environment.api.get(MODEL_PROMOTIONS.format(self.name))["items"], *self.pods(CANARY)]
        return found + [item["metadata"]["name"] for item in listed]

    def wait_until(
        self,
        what: str,
        reached: Callable[[], object],
        seconds: float = LONGEST_WAIT_SECONDS,
        detail: Callable[[], str] = str,
    ) -> None:
        """Wait until something is true; a failure states what it was, and the detail."""
        deadline = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < deadline, f"{self.name}: not within {seconds:g} s: {what}; {detail()}"
            time.sleep(0.25)


def ingress_annotations(environment: Environment) -> dict[str, str]:
    """Return those that the cluster's ingress controller needs on the API's Ingress."""
    values = yaml.safe_load(environment.stack.cluster.values.read_text())
    found: dict[str, str] = ((values.get("api") or {}).get("ingress") or {}).get("annotations") or {}
    return found


def install_shared_operator(environment: Environment) -> None:
    """Install or upgrade the operator that watches the shared namespaces, all of which exist."""
    annotations = json.dumps(ingress_annotations(environment))
    environment.helm_install("operator", OPERATOR_NAMESPACE, "--set=crd.install=false", "--set=pollSeconds=1",
                             "--set=page.enabled=true", f"--set=page.ingress.host={PAGE_HOST}",
                             f"--set-json=page.ingress.annotations={annotations}",
                             f"--set=namespaces={{{','.join(SHARED)}}}",
                             f"--set=targets={{{TARGET},{ABSENT_TARGET}}}")  # fmt: skip
    status = ["rollout", "status", "deployment/operator", f"--timeout={LONGEST_WAIT_SECONDS:g}s"]
    environment.kubectl(OPERATOR_NAMESPACE, *status)


@contextmanager
def scenario_namespaces(environment: Environment) -> Iterator[list[ScenarioNamespace]]:
    """Create the namespaces for the duration of the block, with the operators that watch them."""
    namespaces = [
        *(ScenarioNamespace(environment, name) for name in SHARED),
        *(ScenarioNamespace(environment, name, own_operator=True) for name in WITH_OWN_OPERATOR),
    ]
    names = [OPERATOR_NAMESPACE, *(namespace.name for namespace in namespaces)]
    delete = ["delete", "namespace", "--ignore-not-found"]
    environment.kubectl("default", *delete, *names)
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(ScenarioNamespace.install, namespaces))
        install_shared_operator(environment)
        yield namespaces
    finally:
        environment.kubectl("default", *delete, "--wait=false", *names)
