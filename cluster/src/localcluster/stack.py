"""Installs the charts on a local cluster, trains on the given data, and scores the first loan."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import shlex
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import boto3
from botocore.config import Config

from localcluster.console import ClusterError, output, run, say, step, wait_for
from localcluster.paths import REPOSITORY, Paths
from localcluster.ports import Ports

RELEASE = "credit-risk"
CHART = REPOSITORY / "charts" / "credit-risk"
DEFINITION = REPOSITORY / "manifests" / "modelpromotions.creditrisk.io.yaml"
PROMOTION = REPOSITORY / "manifests" / "follow-alias.yaml"


class Cluster(Protocol):
    """What the stack asks of a cluster, whichever it is."""

    @property
    def name(self) -> str:
        """What the cluster is called: kind or embedded."""
        ...

    @property
    def paths(self) -> Paths:
        """Where its cache, state and logs are."""
        ...

    @property
    def ports(self) -> Ports:
        """Where on the host's loopback address it is reached."""
        ...

    @property
    def values(self) -> Path:
        """The chart values that fit it."""
        ...

    @property
    def kubeconfig(self) -> Path:
        """The administrator's way in."""
        ...

    def up(self) -> None:
        """Make the cluster Ready, or find it so."""
        ...

    def down(self) -> None:
        """Remove it, and every trace of it."""
        ...

    def running(self) -> bool:
        """Tell whether there is one."""
        ...

    def images(self) -> dict[str, str]:
        """Build and load the stack's images and return each one's reference by its name."""
        ...

    def status(self) -> list[str]:
        """Return lines that say what runs."""
        ...


@dataclass(frozen=True)
class Stack:
    """One release of the umbrella chart in one namespace of a local cluster."""

    cluster: Cluster
    namespace: str = RELEASE
    host: str = ""

    @property
    def _log(self) -> Path:
        return self.cluster.paths.logs / f"stack-{self.namespace}.log"

    @property
    def url(self) -> str:
        """Where loans are scored."""
        return f"http://127.0.0.1:{self.cluster.ports.http}"

    @property
    def mlflow_url(self) -> str:
        """Where MLflow answers, for people and for clients."""
        return f"http://127.0.0.1:{self.cluster.ports.mlflow}"

    @functools.cached_property
    def api_key(self) -> str:
        """The key that the charts made for the service's first client; empty where the service is open."""
        found = ("get", "secret", "scoring-api-key", "--ignore-not-found", "-o", "jsonpath={.data.key}")
        return _decoded(self.kubectl(*found))

    def install(self, images: Mapping[str, str], extra: Sequence[str] = (), *, train: bool = True) -> None:
        """Install or upgrade the charts; `extra` are further arguments of helm.

        Raises:
            ClusterError: when helm refuses.
        """
        self.build_charts()
        # One definition serves every release on the cluster, so none of them owns it.
        # Unvalidated by kubectl: clusters older than 1.25 drop the rules that they do not know, with no harm.
        self.kubectl("apply", "--validate=false", "--filename", str(DEFINITION))
        self.helm(
            "upgrade", "--install", RELEASE, str(CHART), "--namespace", self.namespace, "--create-namespace",
            "--values", str(self.cluster.values), f"--set=training.enabled={str(train).lower()}",
            "--set=operator.crd.install=false",
            *_image_values(images), *self._ingress_values(), *extra,
        )  # fmt: skip

    def build_charts(self) -> None:
        """Put the charts' dependencies in place."""
        run([str(REPOSITORY / "charts" / "build.sh")], self._log, env=self.environment())

    def upload(self, file: Path) -> str:
        """Put a data file into the stack's object store and return its s3:// address, named by its content.

        Raises:
            ClusterError: when the file or the store cannot be had.
        """
        if not file.is_file():
            raise ClusterError(f"there is no data file {file}")
        secret = json.loads(self.kubectl("get", "secret", "s3-credentials", "-o", "jsonpath={.data}"))
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        key = f"{digest}/{file.name}"
        with PortForward(self.kubectl_command(), "service/s3", 9000, self.environment()) as address:
            client = boto3.client(
                "s3",
                endpoint_url=address,
                aws_access_key_id=_decoded(secret["access-key-id"]),
                aws_secret_access_key=_decoded(secret["secret-access-key"]),
                region_name="us-east-1",
                config=Config(request_checksum_calculation="when_required", retries={"max_attempts": 8}),
            )
            client.upload_file(str(file), "data", key)
        return f"s3://data/{key}"

    def wait_for_store(self) -> None:
        """Wait until MLflow's pod made the buckets, which is right before its server starts."""
        with step("wait for the database, the object store and MLflow", self._log):
            self.kubectl("rollout", "status", "deployment/mlflow", "--timeout=240s")

    def wait_for_training(self) -> None:
        """Follow the newest training run to its end.

        Raises:
            ClusterError: when it failed; the message carries the end of its log.
        """
        with step("train the first model", self._log):
            (job,) = self.jobs()
            wait_for("the training run", lambda: self._training_missing(job), timeout_seconds=1800)
            if json.loads(self.kubectl("get", "job", job, "-o", "json"))["status"].get("succeeded") != 1:
                tail = self.kubectl("logs", f"job/{job}", "--tail=15")
                raise ClusterError(
                    f"the training run {job} failed:\n{tail}\n  kubectl -n {self.namespace} logs job/{job}"
                )

    def wait_for_scoring(self) -> None:
        """Wait until the service's pods have their model.

        Raises:
            ClusterError: when they do not within four minutes.
        """
        with step("wait for the scoring service", self._log):
            self.kubectl("rollout", "status", "deployment/scoring", "--timeout=240s")
            wait_for("the ingress", self._ingress_missing, timeout_seconds=60)

    def follow_alias(self) -> None:
        """Let the operator roll out whatever version gets the alias `production`.

        Raises:
            ClusterError: when no version is served by it within four minutes.
        """
        with step("hand promotions to the operator", self._log):
            self.kubectl("apply", "--filename", str(PROMOTION))
            self.kubectl("wait", "--for=condition=Ready", f"modelpromotion/{RELEASE}", "--timeout=240s")

    def score_reference(self) -> dict[str, Any]:
        """Score the contract's reference applicant through the ingress and return application and answer."""
        applicant = self.get("/v1/model")["contract"]["reference_applicant"]
        return {"application": applicant, "answer": self.post("/v1/score", applicant)}

    def get(self, path: str) -> Any:  # noqa: ANN401 - whatever JSON the service answers
        """GET a path of the service through the ingress."""
        return self._http(path, None)

    def post(self, path: str, document: object) -> Any:  # noqa: ANN401 - whatever JSON the service answers
        """POST JSON to a path of the service through the ingress."""
        return self._http(path, json.dumps(document).encode())

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl in the stack's namespace and return what it printed; `text` is its standard input."""
        return output([*self.kubectl_command(), *arguments], env=self.environment(), text=text)

    def create(self, document: Mapping[str, Any]) -> None:
        """Create an object in the stack's namespace."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(document, file)
            file.flush()
            self.kubectl("create", "--filename", file.name)

    def _http(self, path: str, body: bytes | None) -> Any:  # noqa: ANN401
        headers = {"Content-Type": "application/json", **({"Host": self.host} if self.host else {})}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        request = urllib.request.Request(self.url + path, body, headers)  # noqa: S310 - loopback, http
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            return json.load(response)

    def _ingress_missing(self) -> str | None:
        try:
            self.get("/v1/model")
        except (urllib.error.URLError, OSError) as error:
            return f"{self.url}/v1/model: {error}"
        return None

    def jobs(self) -> list[str]:
        """Return the names of the release's own training Jobs, without those of `make train`."""
        selector = "app.kubernetes.io/name=training,app.kubernetes.io/managed-by=Helm"
        return self.kubectl("get", "jobs", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}").split()

    def _training_missing(self, job: str) -> str | None:
        status = json.loads(self.kubectl("get", "job", job, "-o", "json")).get("status", {})
        ended = status.get("succeeded") or any(
            condition["type"] == "Failed" and condition["status"] == "True"
            for condition in status.get("conditions", [])
        )
        return None if ended else f"{job} still runs"

    def helm(self, *arguments: str) -> None:
        """Run helm against the cluster, its output going to the stack's log."""
        run([str(self.cluster.paths.tools / "helm"), *arguments], self._log, env=self.environment())

    def kubectl_command(self) -> list[str]:
        """Return kubectl's command line for the stack's namespace."""
        return [str(self.cluster.paths.tools / "kubectl"), "--namespace", self.namespace]

    def environment(self) -> dict[str, str]:
        """Return this process's environment with the cluster's kubeconfig and tools."""
        tools = f"{self.cluster.paths.tools}:{os.environ['PATH']}"
        return {**os.environ, "PATH": tools, "KUBECONFIG": str(self.cluster.kubeconfig)}

    def _ingress_values(self) -> list[str]:
        allowed = f"mlflow.allowedHosts={{127.0.0.1:{self.cluster.ports.mlflow},localhost:{self.cluster.ports.mlflow}}}"
        host = [f"--set=api.ingress.host={self.host}", "--set=mlflow.ingress.enabled=false"] if self.host else []
        return ["--set", allowed, *host]


class PortForward:
    """`kubectl port-forward` for the length of a with-block; begun anew when it ends, as it does at a lost stream."""

    def __init__(self, kubectl: list[str], target: str, port: int, environment: dict[str, str]) -> None:
        """Take kubectl's command line, what to forward to (service/name) and its port."""
        self._command = [*kubectl, "port-forward", "--address=127.0.0.1", target]
        self._port, self._environment = port, environment
        self._closed = threading.Event()

    def __enter__(self) -> str:
        """Return the address at which the target can be reached."""
        self._process = self._start(":")
        line = self._process.stdout.readline() if self._process.stdout else ""
        # It says where it listens: the fourth word is "->", the third the address.
        if "Forwarding from" not in line:
            self._process.kill()
            raise ClusterError(f"`kubectl port-forward` failed: {line.strip()}")
        address = line.split()[2]
        threading.Thread(target=self._keep, args=(f"{address.rpartition(':')[2]}:",), daemon=True).start()
        return f"http://{address}"

    def __exit__(self, *_: object) -> None:
        """End the forward."""
        self._closed.set()
        self._process.terminate()
        self._process.wait()

    def _start(self, local: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._command, f"{local}{self._port}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self._environment,
        )  # fmt: skip

    def _keep(self, local: str) -> None:
        """Read what it says of each connection, lest it wait for a reader, and follow its end by another."""
        while True:
            for _ in self._process.stdout or ():
                pass
            self._process.wait()
            if self._closed.wait(0.2):
                return
            self._process = self._start(local)
            if self._closed.is_set():
                self._process.terminate()


def _image_values(images: Mapping[str, str]) -> list[str]:
    """Say to each chart which of the local images to use; a chart without one keeps its default."""
    values: list[str] = []
    for chart in ("api", "training", "mlflow", "operator", "postgres", "seaweedfs"):
        if chart in images:
            repository, _, tag = images[chart].rpartition(":")
            values += [f"--set={chart}.image.repository={repository}", f"--set-string={chart}.image.tag={tag}"]
    return values


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


def report(stack: Stack, scored: dict[str, Any]) -> None:
    """Tell a person what is there now and what to try next."""
    answer = scored["answer"]
    body = shlex.quote(json.dumps(scored["application"]))
    say()
    say(f"Scored a loan through the ingress: probability of default {answer['probability_of_default']:.4f}, "
        f"{answer['decision']}, by {answer['model']['name']} version {answer['model']['version']}")  # fmt: skip
    say(f"  scoring     {stack.url}/v1/score   (documentation: {stack.url}/docs)")
    say(f"  MLflow      {stack.mlflow_url}")
    say(f"  kubeconfig  {stack.cluster.kubeconfig}")
    say("Try next:")
    say(f"  curl -s {stack.url}/v1/score -H 'Content-Type: application/json' -d {body}")
    say('  eval "$(make -s env)" && kubectl get pods')
    say("  make status")
