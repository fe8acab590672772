"""Install the stack's charts on a local cluster, wait for each part, and call the scoring service."""

from __future__ import annotations

import base64
import functools
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localcluster.console import ClusterError, run, say, step, wait_for
from localcluster.images import ALL, STACK
from localcluster.namespace import Namespace
from localcluster.paths import REPOSITORY

RELEASE = "credit-risk"
CHART = REPOSITORY / "charts" / "credit-risk"
DEFINITION = REPOSITORY / "manifests" / "modelpromotions.creditrisk.io.yaml"
DECISION_LOG_MODES = ("off", "log", "require")
PROMOTION = REPOSITORY / "manifests" / "follow-alias.yaml"
# The image of each of the charts' image values.
_IMAGE_VALUES = {
    **{
        f"{name}.image": name
        for name in ("api", "training", "mlflow", "operator", "decisions", "postgres", "seaweedfs")
    },
    **{f"monitoring.{name}.image": "prometheus" for name in ("prometheus", "alertmanager", "probes")},
    "backup.image": "mlflow",
    "backup.postgresImage": "postgres",
    "api.decisionLog.image": "decisions",
    "bulk.image": "decisions",
}


@dataclass(frozen=True)
class Stack(Namespace):
    """One release of the umbrella chart in one namespace of a local cluster.

    Attributes:
        host: Host name of the ingress; empty for any.
        decision_log: Mode of the decision log, one of DECISION_LOG_MODES.
        monitoring: Whether it has a Prometheus.
    """

    namespace: str = RELEASE
    host: str = ""
    decision_log: str = "off"
    monitoring: bool = False

    @property
    def url(self) -> str:
        """URL of the scoring service."""
        return f"http://127.0.0.1:{self.cluster.ports.http}"

    @property
    def mlflow_url(self) -> str:
        """URL of MLflow, for people and clients."""
        return f"http://127.0.0.1:{self.cluster.ports.mlflow}"

    @functools.cached_property
    def api_key(self) -> str:
        """The API key that the charts generated for the first client; empty if the service requires none."""
        found = ("get", "secret", "scoring-api-key", "--ignore-not-found", "-o", "jsonpath={.data.key}")
        return base64.b64decode(self.kubectl(*found)).decode()

    @functools.cached_property
    def decisions_key(self) -> str:
        """The API key that the charts generated for the first client of the decision log."""
        found = ("get", "secret", "decisions-api-key", "-o", "jsonpath={.data.key}")
        return base64.b64decode(self.kubectl(*found)).decode()

    def images(self) -> dict[str, str]:
        """Build and load the images that this release needs, and return each image's reference by its name."""
        wanted = STACK if self.decision_log == "off" else ALL
        return self.cluster.images((*wanted, *(self.cluster.monitoring_images if self.monitoring else ())))

    def install(self, images: Mapping[str, str], extra: Sequence[str] = (), *, train: bool = True) -> None:
        """Install or upgrade the charts.

        Args:
            images: References of the images by name.
            extra: Further arguments of helm.
            train: Whether to train a model as part of the release.

        Raises:
            ClusterError: helm failed.
        """
        self.build_charts()
        # One CRD serves every release on the cluster, so no release owns it. Not validated by kubectl: clusters older
        # than 1.25 drop the validation rules that they do not know, which does no harm.
        self.kubectl("apply", "--validate=false", "--filename", str(DEFINITION))
        self.helm(
            "upgrade", "--install", RELEASE, str(CHART), "--namespace", self.namespace, "--create-namespace",
            "--values", str(self.cluster.values), f"--set=training.enabled={str(train).lower()}",
            "--set=operator.crd.install=false",
            *_image_values(images), *self._ingress_values(), *self._decision_log_values(), *self._monitoring_values(),
            *extra,
        )  # fmt: skip

    def build_charts(self) -> None:
        """Vendor the charts' dependencies."""
        run([str(REPOSITORY / "charts" / "build.sh")], self.log, env=self.environment())

    def wait_for_store(self) -> None:
        """Wait for MLflow, whose pod creates the buckets before its server starts.

        Raises:
            ClusterError: MLflow is not available within four minutes.
        """
        with step("Wait for the database, the object store and MLflow", self.log):
            self.kubectl("rollout", "status", "deployment/mlflow", "--timeout=240s")

    def wait_for_training(self) -> None:
        """Wait for the end of the release's training run.

        Raises:
            ClusterError: The run failed; the message has the end of its log.
        """
        with step("Train the first model"):
            (job,) = self.jobs()
            logs = f'eval "$(make -s env)" && kubectl -n {self.namespace} logs -f job/{job}'
            say(f"   to follow its log: {logs}")
            wait_for("the training run", lambda: self._training_problem(job), timeout_seconds=1800)
            if not self._job_succeeded(job):
                tail = self.kubectl("logs", f"job/{job}", "--tail=15")
                raise ClusterError(f"the training run {job} failed:\n{tail}\n  for the full log: {logs}")

    def wait_for_scoring(self) -> None:
        """Wait until the scoring service has loaded its model and answers through the ingress.

        Raises:
            ClusterError: It does not within five minutes.
        """
        with step("Wait for the scoring service", self.log):
            self.kubectl("rollout", "status", "deployment/scoring", "--timeout=240s")
            wait_for("the ingress", self._ingress_problem, timeout_seconds=60)

    def wait_for_decisions(self) -> None:
        """Wait until the service that reads decisions is ready, if the decision log is on.

        Raises:
            ClusterError: It is not within four minutes.
        """
        if self.decision_log != "off":
            with step("Wait for the decision log", self.log):
                self.kubectl("rollout", "status", "deployment/decisions", "--timeout=240s")

    def follow_alias(self) -> None:
        """Apply the ModelPromotion that follows the alias `production`, and wait until it serves a version.

        Raises:
            ClusterError: No version is served within four minutes.
        """
        with step("Let the operator follow the Production pointer", self.log):
            self.kubectl("apply", "--filename", str(PROMOTION))
            self.kubectl("wait", "--for=condition=Ready", f"modelpromotion/{RELEASE}", "--timeout=240s")

    def score_reference(self) -> dict[str, Any]:
        """Score the contract's reference applicant through the ingress; return `application` and `answer`."""
        applicant = self.get("/v1/model")["contract"]["reference_applicant"]
        return {"application": applicant, "answer": self.post("/v1/score", applicant)}

    def get(self, path: str) -> Any:  # noqa: ANN401 - whatever JSON the service returns
        """GET a path of the service through the ingress."""
        return self._http(path, None)

    def post(self, path: str, document: object) -> Any:  # noqa: ANN401 - whatever JSON the service returns
        """POST JSON to a path of the service through the ingress."""
        return self._http(path, json.dumps(document).encode())

    def jobs(self) -> list[str]:
        """Return the names of the release's own training Jobs, without those of `make train`."""
        selector = "app.kubernetes.io/name=training,app.kubernetes.io/managed-by=Helm"
        return self.kubectl("get", "jobs", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}").split()

    def _http(self, path: str, body: bytes | None) -> Any:  # noqa: ANN401
        headers = {"Content-Type": "application/json", **({"Host": self.host} if self.host else {})}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        request = urllib.request.Request(self.url + path, body, headers)  # noqa: S310 - loopback, http
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            return json.load(response)

    def _ingress_problem(self) -> str | None:
        try:
            self.get("/v1/model")
        except (urllib.error.URLError, OSError) as error:
            return f"{self.url}/v1/model: {error}"
        return None

    def _job(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", "job", job, "-o", "json"))
        return found

    def _job_succeeded(self, job: str) -> bool:
        """Return whether all pods have: those of a search or of a training by several are more than one."""
        found = self._job(job)
        return bool(found.get("status", {}).get("succeeded", 0) >= found.get("spec", {}).get("completions", 1))

    def _training_problem(self, job: str) -> str | None:
        failed = any(
            condition["type"] == "Failed" and condition["status"] == "True"
            for condition in self._job(job).get("status", {}).get("conditions", [])
        )
        return None if failed or self._job_succeeded(job) else f"{job} is still running"

    def _ingress_values(self) -> list[str]:
        allowed = f"mlflow.allowedHosts={{127.0.0.1:{self.cluster.ports.mlflow},localhost:{self.cluster.ports.mlflow}}}"
        hosts = [f"--set={part}.ingress.host={self.host}" for part in ("api", "decisions", "operator.page")]
        host = [*hosts, "--set=mlflow.ingress.enabled=false"] if self.host else []
        return ["--set", allowed, *host]

    def _decision_log_values(self) -> list[str]:
        enabled = str(self.decision_log != "off").lower()
        return [f"--set=decisions.enabled={enabled}", f"--set=api.decisionLog.mode={self.decision_log}"]

    def _monitoring_values(self) -> list[str]:
        enabled = str(self.monitoring).lower()
        return [f"--set=monitoring.prometheus.enabled={enabled}", f"--set=backup.metrics.enabled={enabled}"]


def _image_values(images: Mapping[str, str]) -> list[str]:
    """Return the helm arguments that set each chart's image; a chart without a local image keeps its default."""
    values: list[str] = []
    for value, image in _IMAGE_VALUES.items():
        if image in images:
            repository, _, tag = images[image].rpartition(":")
            values += [f"--set={value}.repository={repository}", f"--set-string={value}.tag={tag}"]
    return values
