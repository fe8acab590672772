#!/usr/bin/env python3
"""Upgrade the release to new images, see that it scores, and go back by itself when it does not.

    deploy.py --images images.json --values charts/credit-risk/values-k3s.yaml --values aws.yaml

images.json says by the chart's name which image it gets: {"api": {"repository": "...", "digest": "sha256:..."}}, or a
"tag" in place of the digest. Needs helm, kubectl and a KUBECONFIG. Ends with 0 when the new images serve, with 1 when
they do not; what happened is then in the summary, and the release is what it was before.
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

DEPLOYMENTS = ("mlflow", "operator", "scoring")
RESTING = {"Initializing", "Idle", "Failed", "Paused"}


class DeployError(Exception):
    """Why the new images do not serve; the message is for the person who reads the summary."""


@dataclass(frozen=True)
class Release:
    """One Helm release, as helm and kubectl know it."""

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
        """Return the number of the revision that serves; None where the release is new."""
        listed = json.loads(self.helm("list", "--filter", f"^{self.name}$", "--output", "json"))
        if not listed:
            return None
        history = json.loads(self.helm("history", self.name, "--output", "json"))
        good = [entry["revision"] for entry in history if entry["status"] in {"deployed", "superseded"}]
        if history[-1]["status"].startswith("pending-"):
            # A job that was killed in the middle leaves this; helm refuses everything until somebody decides.
            if not good:
                raise DeployError(f"the release is {history[-1]['status']} and was never deployed: helm uninstall it")
            self.helm("rollback", self.name, str(good[-1]))
            return self.deployed_revision()
        return int(good[-1]) if good else None

    def wait_for_first_model(self) -> None:
        """Wait until the first training run ended well: without a model no scoring pod gets ready."""
        selector = "--selector=app.kubernetes.io/name=training"
        if self.kubectl("get", "jobs", selector, "--output=name"):
            self.kubectl("wait", "jobs", selector, "--for=condition=complete", "--timeout=2h")

    def wait_for_rollouts(self) -> None:
        """Wait until the pods of every Deployment are the new ones, and ready."""
        present = self.kubectl("get", "deployments", "--output=jsonpath={.items[*].metadata.name}").split()
        for name in (name for name in DEPLOYMENTS if name in present):
            try:
                self.kubectl("rollout", "status", f"deployment/{name}", f"--timeout={self.timeout_seconds}s")
            except DeployError as error:
                raise DeployError(f"{name} did not roll out: {error}\n{self.troubles()}") from error

    def troubles(self) -> str:
        """Return why containers wait, as Kubernetes tells it."""
        waits = "{range .items[*]}{.metadata.name}{': '}{.status.containerStatuses[*].state.waiting}{'\\n'}{end}"
        lines = self.kubectl("get", "pods", f"--output=jsonpath={waits}").splitlines()
        return "\n".join(line for line in lines if not line.endswith(": "))

    def promotions(self) -> dict[str, str]:
        """Return each ModelPromotion's phase; nothing where the cluster does not know the kind."""
        try:
            items = json.loads(self.kubectl("get", "modelpromotions", "--output=json"))["items"]
        except DeployError as error:
            if "the server doesn't have a resource type" in str(error):
                return {}
            raise
        return {item["metadata"]["name"]: item.get("status", {}).get("phase", "Initializing") for item in items}

    def wait_for_promotions(self, seconds: int) -> None:
        """Wait for the ModelPromotions that are in progress now; one that a person has to resume rests.

        Raises:
            DeployError: when one of them failed, or goes on for longer than that.
        """
        moving = {name for name, phase in self.promotions().items() if phase not in RESTING}
        deadline = time.monotonic() + seconds
        while moving:
            phases = self.promotions()
            if failed := sorted(name for name in moving if phases.get(name) == "Failed"):
                raise DeployError(f"the promotion {', '.join(failed)} failed: kubectl describe modelpromotion says why")
            moving = {name for name in moving if phases.get(name, "Idle") not in RESTING}
            if moving and time.monotonic() > deadline:
                raise DeployError(f"still being promoted after {seconds} s: {', '.join(sorted(moving))}")
            time.sleep(2 if moving else 0)

    @contextmanager
    def service(self) -> Iterator[str]:
        """Yield an address of the scoring service."""
        process = subprocess.Popen(
            ["kubectl", "--namespace", self.namespace, "port-forward", "service/scoring", ":8000"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            line = process.stdout.readline() if process.stdout else ""
            if "Forwarding from" not in line:
                raise DeployError(f"no way to the service: {line.strip()}")
            yield f"http://{line.split()[2]}"
        finally:
            process.terminate()
            process.wait()

    def api_key(self) -> str:
        """Return the key that the chart made for the service's first client, "" where it made none."""
        found = ("get", "secret", "scoring-api-key", "--ignore-not-found", "--output=jsonpath={.data.key}")
        return base64.b64decode(self.kubectl(*found)).decode()

    def score(self) -> str:
        """Score the reference applicant of the model that serves, and return the outcome in words."""
        key = self.api_key()
        with self.service() as url:
            try:
                applicant = http(f"{url}/v1/model", key=key)["contract"]["reference_applicant"]
                answer = http(f"{url}/v1/score", applicant, key=key)
                probability, model = float(answer["probability_of_default"]), answer["model"]
                outcome = f"a loan scores {probability:.4f} by {model['name']} version {model['version']}"
            except urllib.error.HTTPError as error:
                if error.code == 401 and not key:
                    return "no loan scored: the service wants a key or token, and this script has none"
                raise DeployError(f"the smoke score failed: {error}") from error
            except (urllib.error.URLError, OSError, LookupError, TypeError, ValueError) as error:
                raise DeployError(f"the smoke score failed: {error!r}") from error
        if not 0.0 <= probability <= 1.0:
            raise DeployError(f"the smoke score is no probability: {probability}")
        return outcome


def main() -> int:
    """Deploy as the arguments say."""
    arguments = _parser().parse_args()
    release = Release(arguments.release, arguments.namespace, arguments.timeout)
    images = json.loads(arguments.images.read_text())
    try:
        before = release.deployed_revision()
    except DeployError as error:
        summarise(f"## Deploy not begun\n\n```\n{error}\n```\n")
        return 1
    try:
        outcome = deploy(release, arguments, images, first=before is None)
    except DeployError as error:
        summarise(f"## Deploy failed\n\n```\n{error}\n```\n\n{go_back(release, before)}\n")
        return 1
    rows = "\n".join(f"| {name} | `{reference(image)}` |" for name, image in images.items())
    summarise(f"## Deployed\n\n{outcome}\n\n| chart | image |\n|---|---|\n{rows}\n")
    return 0


def deploy(release: Release, arguments: argparse.Namespace, images: dict[str, Any], *, first: bool) -> str:
    """Upgrade, wait, and return what the smoke score said."""
    options = [f"--values={file}" for file in arguments.values]
    for chart, image in images.items():
        # A digest that an earlier deploy left in the values would win over a tag.
        options += [f"--set-string={chart}.image.{key}={value}" for key, value in {"digest": "", **image}.items()]
    release.helm("upgrade", "--install", release.name, arguments.chart, *options, *arguments.helm_option)
    if first:
        release.wait_for_first_model()
    release.wait_for_rollouts()
    release.wait_for_promotions(arguments.promotion_timeout)
    return release.score()


def go_back(release: Release, revision: int | None) -> str:
    """Roll back and return in words what serves now."""
    if revision is None:
        return "There was nothing to go back to: the failed release is left to be looked at."
    try:
        release.helm("rollback", release.name, str(revision))
        release.wait_for_rollouts()
        return f"**Rolled back to revision {revision}**: {release.score()}."
    except DeployError as error:
        return f"**The rollback to revision {revision} failed too. Somebody has to look:**\n\n```\n{error}\n```"


def reference(image: dict[str, str]) -> str:
    """Return the image as one name."""
    return (
        f"{image['repository']}@{image['digest']}" if image.get("digest") else f"{image['repository']}:{image['tag']}"
    )


def summarise(text: str) -> None:
    """Write for the person who looks: to the log, and on the job's page where GitHub runs this."""
    sys.stdout.write(text)
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(page).open("a") as out:
            out.write(text)


def run(command: Sequence[str]) -> str:
    """Run a program and return what it printed.

    Raises:
        DeployError: with its own words when it did not end with 0.
    """
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode != 0:
        raise DeployError(f"`{' '.join(command[:3])} …`: {(result.stderr or result.stdout).strip()}")
    return result.stdout


def http(url: str, body: object = None, *, key: str = "") -> Any:  # noqa: ANN401 - whatever JSON the service answers
    """GET, or POST the body as JSON, and return the answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        return json.load(response)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--values", type=Path, action="append", default=[], help="a values file; the last one wins")
    parser.add_argument("--chart", default="charts/credit-risk")
    parser.add_argument("--release", default="credit-risk")
    parser.add_argument("--namespace", default="credit-risk")
    parser.add_argument("--timeout", type=int, default=300, help="seconds for each Deployment")
    parser.add_argument("--promotion-timeout", type=int, default=3600, help="seconds for promotions in progress")
    parser.add_argument("--helm-option", action="append", default=[], help="a further option of helm upgrade")
    return parser


if __name__ == "__main__":
    sys.exit(main())
