"""The Trainings port over the Kubernetes API: Jobs made from the template of a suspended CronJob."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from promoter.adapters.rest import KubeClient
from promoter.api.resource import GROUP, Owner
from promoter.decision.actions import StartTraining
from promoter.decision.observation import TrainingView
from promoter.errors import ConflictError, PermanentError

Document = dict[str, Any]
# On a Job: the uid of the ModelPromotion that it was started for.
OWNER_LABEL = f"{GROUP}/retraining-of"
# On its pods: why it was started.
REASON_ANNOTATION = f"{GROUP}/training-reason"
# The trainer's exit code if a gate refused the model (docs/training.md).
GATE_REFUSED = 3
# CronJobs are older than v1 on clusters before 1.21.
_VERSIONS = ("v1", "v1beta1")


class JobTrainings:
    """Trainings as Jobs of one cluster."""

    def __init__(self, kube: KubeClient, annotations: Callable[[], Mapping[str, str]] = dict) -> None:
        """Take a client, and what returns more annotations for the pods of a Job that is created."""
        self._kube, self._annotations = kube, annotations

    async def start(self, owner: Owner, wanted: StartTraining) -> None:
        """Create a Job from the CronJob's template; one that exists is the same.

        Raises:
            RetryableError: the API server did not answer.
            PermanentError: it refused, there is no such CronJob, or the Job's name is taken.
        """
        template = await self._cron_job(owner.namespace, wanted.cron_job)
        document = job_of(owner, template, wanted, self._annotations())
        try:
            await self._kube.request("POST", _jobs(owner.namespace), document)
        except ConflictError as error:
            if not (await self.find(owner, wanted.job)).found:
                raise PermanentError(f"Job {wanted.job} exists and is not of this ModelPromotion") from error

    async def find(self, owner: Owner, job: str) -> TrainingView:
        """Return what became of a Job.

        Raises:
            RetryableError: the API server did not answer.
            PermanentError: it refused.
        """
        found = await self._kube.get(f"{_jobs(owner.namespace)}/{job}")
        if found is None or (found["metadata"].get("labels") or {}).get(OWNER_LABEL) != owner.uid:
            return TrainingView(found=False)
        ended = _ended(found)
        if ended is None:
            return TrainingView(found=True)
        if ended["type"] == "Complete":
            return TrainingView(found=True, outcome="Succeeded", message="the training ended")
        if await self._refused(owner.namespace, job):
            message = "a gate refused the model; its run in MLflow has the tag `refused` with the reason"
            return TrainingView(found=True, outcome="Refused", message=message)
        message = ": ".join(filter(None, (ended.get("reason"), ended.get("message")))) or "the Job failed"
        return TrainingView(found=True, outcome="Failed", message=message)

    async def _cron_job(self, namespace: str, name: str) -> Document:
        for version in _VERSIONS:
            found = await self._kube.get(f"/apis/batch/{version}/namespaces/{namespace}/cronjobs/{name}")
            if found is not None:
                return {"apiVersion": f"batch/{version}", **found}
        raise PermanentError(
            f"there is no CronJob {name} in namespace {namespace}; set `retraining.enabled` in the values of the "
            "training chart (`training.retraining.enabled` in the stack's), or spec.retraining.cronJob"
        )

    async def _refused(self, namespace: str, job: str) -> bool:
        pods = await self._kube.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"job-name={job}")
        return any(
            ((container.get("state") or {}).get("terminated") or {}).get("exitCode") == GATE_REFUSED
            for pod in (pods or {}).get("items") or ()
            for container in (pod.get("status") or {}).get("containerStatuses") or ()
        )


def job_of(owner: Owner, cron_job: Document, wanted: StartTraining, annotations: Mapping[str, str]) -> Document:
    """Return the Job, as `kubectl create job --from` makes it, with its reason and no more than the time allowed.

    The CronJob owns it, and deletes old ones by its limits.
    """
    template = copy.deepcopy(cron_job["spec"]["jobTemplate"])
    spec, labels = template["spec"], (template.get("metadata") or {}).get("labels") or {}
    pod = spec["template"].setdefault("metadata", {})
    pod["annotations"] = {**(pod.get("annotations") or {}), **annotations, REASON_ANNOTATION: wanted.reason}
    allowed = max(1, round(wanted.max_seconds))
    spec["activeDeadlineSeconds"] = min(spec.get("activeDeadlineSeconds") or allowed, allowed)
    reference = {
        "apiVersion": cron_job["apiVersion"], "kind": "CronJob", "name": cron_job["metadata"]["name"],
        "uid": cron_job["metadata"]["uid"], "controller": True,
    }  # fmt: skip
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": wanted.job,
            "labels": {**labels, OWNER_LABEL: owner.uid},
            "annotations": {REASON_ANNOTATION: wanted.reason},
            "ownerReferences": [reference],
        },
        "spec": spec,
    }


def _ended(job: Document) -> Document | None:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] in {"Complete", "Failed"} and c["status"] == "True"), None)


def _jobs(namespace: str) -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"
