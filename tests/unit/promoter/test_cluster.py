"""What is asked of the API server, and what its answers mean."""

from __future__ import annotations

from typing import Any

import pytest

from promoter.adapters.kubernetes import KubernetesCluster
from promoter.adapters.rest import _judged
from promoter.decision.state import Event
from promoter.errors import ConflictError, InvalidRequestError, PermanentError, RetryableError
from promoter.ports import Owner

Document = dict[str, Any]
OWNER = Owner("bank", "loans", "u-1")


class Kube:
    """An API server that has these objects, and has every Event already that it got once."""

    def __init__(self, **objects: Document) -> None:
        self.objects, self.posted = objects, list[Document]()

    async def get(self, path: str, **_: str) -> Document | None:
        return self.objects.get(path.rpartition("/")[2].replace("-", "_"))

    async def request(self, method: str, path: str, body: Document, *_: object) -> Document:
        assert (method, path) == ("POST", "/api/v1/namespaces/bank/events")
        if body["metadata"]["name"] in {event["metadata"]["name"] for event in self.posted}:
            raise ConflictError("409 exists")
        self.posted.append(body)
        return {}


def cluster_of(kube: Kube) -> KubernetesCluster:
    return KubernetesCluster(kube)  # type: ignore[arg-type]


async def test_an_event_that_is_told_again_after_a_crash_is_recorded_once() -> None:
    kube = Kube()
    event = Event(reason="Aborted", message="by hand", type="Warning", at=1_800_000_000.5)
    for told in (event, event, event.model_copy(update={"at": event.at + 60})):
        await cluster_of(kube).emit(OWNER, told)
    assert [(e["reason"], e["firstTimestamp"]) for e in kube.posted] == [
        ("Aborted", "2027-01-15T08:00:00Z"), ("Aborted", "2027-01-15T08:01:00Z")]  # fmt: skip


@pytest.mark.parametrize("with_pods", [True, False])
async def test_a_target_without_labels_to_select_by_is_refused(with_pods: bool) -> None:
    selector = {"matchExpressions": [{"key": "app", "operator": "Exists"}]}
    deployment = {"kind": "Deployment", "metadata": {"name": "scoring"}, "spec": {"selector": selector}}
    with pytest.raises(PermanentError, match="matchLabels are needed"):
        await cluster_of(Kube(scoring=deployment)).snapshot(OWNER, "scoring", with_pods=with_pods)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, RetryableError), (403, PermanentError), (409, ConflictError), (422, InvalidRequestError),
     (429, RetryableError), (500, RetryableError), (503, RetryableError)],
)  # fmt: skip
def test_what_another_try_may_change_is_told_from_what_it_may_not(status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=f"PATCH /x: {status} no") as raised:
        _judged(status, {"message": "no"}, "PATCH /x")
    assert type(raised.value) is kind
