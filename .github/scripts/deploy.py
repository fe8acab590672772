#!/usr/bin/env python3
"""Upgrade the release to new images, check that it scores, and roll back automatically if it does not.

    deploy.py --images images.json --values charts/credit-risk/values-k3s.yaml --values aws.yaml

images.json maps each chart to its image: {"api": {"repository": "...", "digest": "sha256:..."}}, or "tag" instead of
"digest"; the backup chart runs MLflow's image, and the shipper in scoring pods that of the decision log. Needs helm,
kubectl, and a KUBECONFIG. Exits with 0 if the new images serve and with 1 if they do not; the summary then says what
happened, and the release is back at the revision before.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEPLOYMENTS = ("mlflow", "operator", "decisions", "scoring")
# Values that run another chart's image.
SAME_IMAGE = {"backup": "mlflow", "api.decisionLog": "decisions", "bulk": "decisions"}
SETTLED = {"Initializing", "Idle", "Failed", "Paused"}


class DeployError(Exception):
    """The new images do not serve; the message goes into the summary."""


@dataclass(frozen=True)
class Release:
    """One Helm release, through helm and kubectl."""

    name: str
    namespace: str
    timeout_seconds: int

    def helm(self, *arguments: str) -> str:
        """Run helm in the namespace and return what it printed."""
        return run(["helm", *arguments, "--namespace", self.namespace])

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the namespace and return what it printed."""
        return run(["kubectl", "--namespace", self.namespace, *arguments])

    def deployed_revision(self) -> int | None:
        """Return the number of the last good revision, or None if the release is new."""
        listed = json.loads(self.helm("list", "--filter", f"^{self.name}$", "--output", "json"))
        if not listed:
            return None
        history = json.loads(self.helm("history", self.name, "--output", "json"))
        good = [entry["revision"] for entry in history if entry["status"] in {"deployed", "superseded"}]
        if history[-1]["status"].startswith("pending-"):
            # A job that was killed in the middle leaves this state, in which helm refuses every upgrade.
            if not good:
                raise DeployError(f"the release is {history[-1]['status']} and was never deployed: run helm uninstall")
            self.helm("rollback", self.name, str(good[-1]))
            return self.deployed_revision()
        return int(good[-1]) if good else None

    def wait_for_first_model(self) -> None:
        """Wait until the first training run succeeds: no scoring pod becomes ready without a model."""
        selector = "--selector=app.kubernetes.io/name=training"
        if self.kubectl("get", "jobs", selector, "--output=name"):
            self.kubectl("wait", "jobs", selector, "--for=condition=complete", "--timeout=2h")

    def wait_for_rollouts(self) -> None:
        """Wait until every Deployment's new pods are ready."""
        present = self.kubectl("get", "deployments", "--output=jsonpath={.items[*].metadata.name}").split()
        for name in (name for name in DEPLOYMENTS if name in present):
            try:
                self.kubectl("rollout", "status", f"deployment/{name}", f"--timeout={self.timeout_seconds}s")
            except DeployError as error:
                raise DeployError(f"{name} did not roll out: {error}\n{self.waiting_containers()}") from error

    def waiting_containers(self) -> str:
        """Return the reasons that Kubernetes gives for containers that wait, one pod per line."""
        waits = "{range .items[*]}{.metadata.name}{': '}{.status.containerStatuses[*].state.waiting}{'\\n'}{end}"
        lines = self.kubectl("get", "pods", f"--output=jsonpath={waits}").splitlines()
        return "\n".join(line for line in lines if not line.endswith(": "))

    def promotions(self) -> dict[str, str]:
        """Return each ModelPromotion's phase; nothing if the cluster has no such resource."""
        try:
            items = json.loads(self.kubectl("get", "modelpromotions", "--output=json"))["items"]
        except DeployError as error:
            if "the server doesn't have a resource type" in str(error):
                return {}
            raise
        return {item["metadata"]["name"]: item.get("status", {}).get("phase", "Initializing") for item in items}

    def promotions_in_progress(self) -> set[str]:
        """Return the names of the ModelPromotions that are in progress; one that is paused counts as settled."""
        return {name for name, phase in self.promotions().items() if phase not in SETTLED}

    def wait_for_promotions(self, before: set[str], seconds: int) -> None:
        """Wait for the ModelPromotions that are in progress now, or were so before the upgrade.

        Raises:
            DeployError: if one of them failed, or is still in progress after `seconds`.
        """
        moving = before | self.promotions_in_progress()
        deadline = time.monotonic() + seconds
        while moving:
            phases = self.promotions()
            if failed := sorted(name for name in moving if phases.get(name) == "Failed"):
                raise DeployError(f"the promotion {', '.join(failed)} failed: kubectl describe modelpromotion says why")
            moving = {name for name in moving if phases.get(name, "Idle") not in SETTLED}
            if moving and time.monotonic() > deadline:
                raise DeployError(f"still in progress after {seconds} s: {', '.join(sorted(moving))}")
            time.sleep(2 if moving else 0)

    @contextmanager
    def service(self) -> Iterator[str]:
        """Yield the address of a port-forward to the scoring service."""
        process = subprocess.Popen(
            ["kubectl", "--namespace", self.namespace, "port-forward", "service/scoring", ":8000"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            line = process.stdout.readline() if process.stdout else ""
            if "Forwarding from" not in line:
                raise DeployError(f"cannot reach the service: {line.strip()}")
            yield f"http://{line.split()[2]}"
        finally:
            process.terminate()
            process.wait()

    def api_key(self) -> str:
        """Return the API key that the chart generated for the first client, or "" if there is none."""
        found = ("get", "secret", "scoring-api-key", "--ignore-not-found", "--output=jsonpath={.data.key}")
        return base64.b64decode(self.kubectl(*found)).decode()

    def score(self) -> str:
        """Score the served model's reference applicant and return the outcome as a sentence."""
        key = self.api_key()
        with self.service() as url:
            try:
                applicant = http(f"{url}/v1/model", key=key)["contract"]["reference_applicant"]
                answer = http(f"{url}/v1/score", applicant, key=key)
                probability, model = float(answer["probability_of_default"]), answer["model"]
                outcome = f"a loan scores {probability:.4f} by {model['name']} version {model['version']}"
            except urllib.error.HTTPError as error:
                if error.code == 401 and not key:
                    return "no loan scored: the service requires a key or token, and this script has none"
                raise DeployError(f"the smoke score failed: {error}") from error
            except (urllib.error.URLError, OSError, LookupError, TypeError, ValueError) as error:
                raise DeployError(f"the smoke score failed: {error!r}") from error
        if not 0.0 <= probability <= 1.0:
            raise DeployError(f"the smoke score is not a probability: {probability}")
        return outcome


def main() -> int:
    """Deploy, and roll back on failure."""
    arguments = _parser().parse_args()
    release = Release(arguments.release, arguments.namespace, arguments.timeout)
    images = json.loads(arguments.images.read_text())
    for part, image in SAME_IMAGE.items():
        if image in images:
            images.setdefault(part, images[image])
    try:
        before = release.deployed_revision()
    except DeployError as error:
        summarize(f"## Deploy not started\n\n```\n{error}\n```\n")
        return 1
    try:
        outcome = deploy(release, arguments, images, first=before is None)
    except DeployError as error:
        summarize(f"## Deploy failed\n\n```\n{error}\n```\n\n{roll_back(release, before)}\n")
        return 1
    rows = "\n".join(f"| {name} | `{reference(image)}` |" for name, image in images.items())
    summarize(f"## Deployed\n\n{outcome}\n\n| chart | image |\n|---|---|\n{rows}\n")
    return 0


def deploy(release: Release, arguments: argparse.Namespace, images: dict[str, Any], *, first: bool) -> str:
    """Upgrade, wait, and return the outcome of the smoke score."""
    options = [f"--values={file}" for file in arguments.values]
    for chart, image in images.items():
        # Clear the digest of an earlier deploy, which would take precedence over a tag.
        options += [f"--set-string={chart}.image.{key}={value}" for key, value in {"digest": "", **image}.items()]
    # One that fails while the new pods start has settled by the time they are ready.
    moving = release.promotions_in_progress()
    release.helm("upgrade", "--install", release.name, arguments.chart, *options, *arguments.helm_option)
    if first:
        release.wait_for_first_model()
    release.wait_for_rollouts()
    release.wait_for_promotions(moving, arguments.promotion_timeout)
    return release.score()


def roll_back(release: Release, revision: int | None) -> str:
    """Roll back and return a sentence about what serves now."""
    if revision is None:
        return "There is no revision to roll back to: the failed release is left in place for inspection."
    try:
        release.helm("rollback", release.name, str(revision))
        release.wait_for_rollouts()
        return f"**Rolled back to revision {revision}**: {release.score()}."
    except DeployError as error:
        return (
            f"**The rollback to revision {revision} failed too. Manual intervention is needed:**\n\n```\n{error}\n```"
        )


def reference(image: dict[str, str]) -> str:
    """Return the image's full reference."""
    return (
        f"{image['repository']}@{image['digest']}" if image.get("digest") else f"{image['repository']}:{image['tag']}"
    )


def summarize(text: str) -> None:
    """Write to the log and, in a GitHub job, to its summary page."""
    sys.stdout.write(text)
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(page).open("a") as out:
            out.write(text)


def run(command: Sequence[str]) -> str:
    """Run a program and return what it printed.

    Raises:
        DeployError: if it does not exit with 0; the message has its output.
    """
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode != 0:
        raise DeployError(f"`{' '.join(command[:3])} …`: {(result.stderr or result.stdout).strip()}")
    return result.stdout


def http(url: str, body: object = None, *, key: str = "") -> Any:  # noqa: ANN401 - any JSON
    """GET, or POST the body as JSON, and return the answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        return json.load(response)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument(
        "--values", type=Path, action="append", default=[], help="a values file; later ones take precedence"
    )
    parser.add_argument("--chart", default="charts/credit-risk")
    parser.add_argument("--release", default="credit-risk")
    parser.add_argument("--namespace", default="credit-risk")
    parser.add_argument("--timeout", type=int, default=300, help="seconds for each Deployment")
    parser.add_argument("--promotion-timeout", type=int, default=3600, help="seconds for promotions in progress")
    parser.add_argument("--helm-option", action="append", default=[], help="an additional option for helm upgrade")
    return parser


if __name__ == "__main__":
    sys.exit(main())
