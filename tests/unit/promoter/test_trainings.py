"""Training Jobs: what is sent to the API server, what its answers mean, and what a turn makes of both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from promoter.adapters.trainings import OWNER_LABEL, REASON_ANNOTATION, JobTrainings, job_of
from promoter.api.resource import Owner
from promoter.api.status import DriftState, Phase, State
from promoter.decision.actions import StartTraining
from promoter.decision.observation import DriftReport, DriftView, TrainingView
from promoter.errors import ConflictError, ForbiddenError, PermanentError, RetryableError
from promoter.promotion import Promotion
from promoter.reconcile import reconcile
from unit.promoter.fakes import OWNER, document, fakes_for

Document = dict[str, Any]
WANTED = StartTraining("retraining-1", "retraining", "drift for 3 days", 3600.0)
CRON_JOB: Document = {
    "metadata": {"name": "retraining", "uid": "c-1"},
    "spec": {"suspend": True, "jobTemplate": {
        "metadata": {"labels": {"app.kubernetes.io/name": "training"}},
        "spec": {"backoffLimit": 3, "activeDeadlineSeconds": 7200, "template": {
            "metadata": {"labels": {"a": "b"}, "annotations": {"sidecar": "no"}},
            "spec": {"containers": [{"name": "training", "args": ["--data=decisions"]}]},
        }},
    }},
}  # fmt: skip


class Kube:
    """An API server of a version, with one CronJob, and the Jobs that it was sent."""

    def __init__(self, batch: str = "v1", cron_job: Document | None = CRON_JOB) -> None:
        self.batch, self.cron_job = batch, cron_job
        self.jobs: dict[str, Document] = {}
        self.pods: list[Document] = []
        self.fault: Exception | None = None

    async def get(self, path: str, **query: str) -> Document | None:
        if self.fault:
            raise self.fault
        if path == "/api/v1/namespaces/bank/pods":
            assert query == {"labelSelector": "job-name=retraining-1"}
            return {"items": self.pods}
        if "/cronjobs/" in path:
            return self.cron_job if path == f"/apis/batch/{self.batch}/namespaces/bank/cronjobs/retraining" else None
        return self.jobs.get(path.removeprefix("/apis/batch/v1/namespaces/bank/jobs/"))

    async def request(self, method: str, path: str, body: Document) -> Document:
        if self.fault:
            raise self.fault
        assert (method, path) == ("POST", "/apis/batch/v1/namespaces/bank/jobs")
        if body["metadata"]["name"] in self.jobs:
            raise ConflictError("409 exists")
        self.jobs[body["metadata"]["name"]] = body
        return body

    def ends(self, kind: str, exit_code: int = 1, **condition: str) -> None:
        job = self.jobs["retraining-1"]
        job["status"] = {"conditions": [{"type": kind, "status": "True", **condition}]}
        terminated = {"state": {"terminated": {"exitCode": exit_code}}}
        self.pods = [{"status": {"containerStatuses": [terminated]}}, {"status": {}}]


def trainings_of(kube: Kube) -> JobTrainings:
    return JobTrainings(kube)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", ["v1", "v1beta1"])
async def test_a_job_is_the_template_with_reason_owner_and_the_shorter_deadline(batch: str) -> None:
    kube = Kube(batch)
    await trainings_of(kube).start(OWNER, WANTED)
    job = kube.jobs["retraining-1"]
    assert job["metadata"]["labels"] == {"app.kubernetes.io/name": "training", OWNER_LABEL: OWNER.uid}
    assert job["metadata"]["ownerReferences"] == [{
        "apiVersion": f"batch/{batch}", "kind": "CronJob", "name": "retraining", "uid": "c-1", "controller": True,
    }]  # fmt: skip
    pod = job["spec"]["template"]
    assert pod["metadata"]["annotations"] == {"sidecar": "no", REASON_ANNOTATION: "drift for 3 days"}
    assert pod["spec"]["containers"][0]["args"] == ["--data=decisions"], "as the training chart wrote them"
    assert (job["spec"]["activeDeadlineSeconds"], job["spec"]["backoffLimit"]) == (3600, 3)
    assert REASON_ANNOTATION not in CRON_JOB["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["annotations"]


async def test_pods_get_more_annotations_but_no_other_reason() -> None:
    kube = Kube()
    more = {"creditrisk.io/traceparent": "00-1-2-01", REASON_ANNOTATION: "other"}
    await JobTrainings(kube, lambda: more).start(OWNER, WANTED)  # type: ignore[arg-type]
    assert kube.jobs["retraining-1"]["spec"]["template"]["metadata"]["annotations"] == {
        "sidecar": "no", "creditrisk.io/traceparent": "00-1-2-01", REASON_ANNOTATION: "drift for 3 days",
    }  # fmt: skip


def test_a_deadline_of_the_template_that_is_shorter_stays() -> None:
    long = replace(WANTED, max_seconds=86400.0)
    job = job_of(OWNER, {"apiVersion": "batch/v1", **CRON_JOB}, long, {})
    assert job["spec"]["activeDeadlineSeconds"] == 7200


async def test_starting_again_makes_no_second_job_and_takes_no_foreign_one() -> None:
    kube = Kube()
    for _ in range(2):
        await trainings_of(kube).start(OWNER, WANTED)
    assert len(kube.jobs) == 1
    other = Owner("bank", "others", "u-2")
    with pytest.raises(PermanentError, match="is not of this ModelPromotion"):
        await trainings_of(kube).start(other, WANTED)
    assert await trainings_of(kube).find(other, "retraining-1") == TrainingView(found=False)


async def test_without_the_cron_job_the_error_says_what_to_set() -> None:
    with pytest.raises(PermanentError, match=r"no CronJob retraining in namespace bank; set `retraining\.enabled`"):
        await trainings_of(Kube(cron_job=None)).start(OWNER, WANTED)


async def test_what_became_of_a_job() -> None:
    kube = Kube()
    trainings = trainings_of(kube)
    assert await trainings.find(OWNER, "retraining-1") == TrainingView(found=False)
    await trainings.start(OWNER, WANTED)
    assert await trainings.find(OWNER, "retraining-1") == TrainingView(found=True)
    kube.ends("Complete")
    assert (await trainings.find(OWNER, "retraining-1")).outcome == "Succeeded"
    kube.ends("Failed", exit_code=3)
    assert (await trainings.find(OWNER, "retraining-1")).outcome == "Refused"
    kube.ends("Failed", exit_code=137, reason="DeadlineExceeded", message="was active too long")
    found = await trainings.find(OWNER, "retraining-1")
    assert (found.outcome, found.message) == ("Failed", "DeadlineExceeded: was active too long")


DRIFTED = State(
    phase=Phase.IDLE, stable_version="1", desired_version="1", target="scoring",
    drift=DriftState(version="1", until=1_800_000_000, created_at=1_800_000_000, verdict="drifted", headline="h",
                     drifted_since=1_800_000_000),
)  # fmt: skip


class Watch:
    """A watch that knows of a report with drift."""

    def view(self, _: str) -> DriftView:
        return DriftView(DriftReport("1", 1_800_000_000, 1_800_000_000, "drifted", "income is not what it was"))


async def test_a_turn_starts_the_job_and_the_next_ones_follow_it() -> None:
    kube, promotion = Kube(), Promotion(OWNER, document(retraining={"drift": {"duration": "0s"}}), DRIFTED)
    times = iter(range(1_800_000_100, 1_800_001_000, 10))
    fakes = fakes_for()
    fakes.registry.version = "1"
    adapters = replace(fakes.adapters, trainings=trainings_of(kube), drift=Watch(), clock=lambda: next(times))
    await reconcile(adapters, promotion)
    (name,) = kube.jobs
    stored = fakes.cluster.saved[0]["retraining"]["trainings"][0]
    assert stored["job"] == name, "stored before it is created"
    await reconcile(adapters, promotion)
    assert promotion.state.retraining
    assert promotion.state.retraining.trainings[0].seen
    kube.fault = RetryableError("500")
    await reconcile(adapters, promotion)
    kube.fault = None
    kube.jobs[name]["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    await reconcile(adapters, promotion)
    assert promotion.state.retraining.trainings[0].outcome == "Succeeded"
    assert [event.reason for event in fakes.cluster.events] == ["TrainingStarted", "TrainingSucceeded"]


async def test_a_refusal_of_the_api_server_is_a_failed_training_and_not_tried_at_every_turn() -> None:
    kube, promotion = Kube(), Promotion(OWNER, document(retraining={"drift": {"duration": "0s"}}), DRIFTED)
    kube.fault = ForbiddenError("POST jobs: 403 no")
    fakes = fakes_for()
    fakes.registry.version = "1"
    adapters = replace(fakes.adapters, trainings=trainings_of(kube), drift=Watch(), clock=lambda: 1_800_000_100.0)
    for _ in range(5):
        await reconcile(adapters, promotion)
    assert promotion.state.retraining
    (training,) = promotion.state.retraining.trainings
    assert (training.outcome, training.message) == ("Failed", "POST jobs: 403 no")
    condition = promotion.state.condition("Retraining")
    assert condition
    assert condition.reason == "BackingOff"
