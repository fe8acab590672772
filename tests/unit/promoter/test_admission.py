"""The admission webhook, over TLS and with AdmissionReviews as API servers send them: who approves is theirs to say."""

from __future__ import annotations

import base64
import copy
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jsonpatch
import pytest
from aiohttp import web

from charts.tls_servers import self_signed
from promoter.admission import PATH, create_admission_app
from promoter.api.status import ApprovalsState, Phase
from promoter.api.timestamps import to_text
from promoter.certificate import Certificate
from promoter.errors import RetryableError
from unit.promoter.test_approvals import OFFICERS, PAUSED_AT, SPEC, paused

Document = dict[str, Any]


def promotion(**status: Any) -> Document:
    spec = SPEC.model_dump(mode="json", by_alias=True, exclude_none=True)
    metadata = {"namespace": "bank", "name": "loans", "uid": "u-1"}
    return {"metadata": metadata, "spec": spec, "status": {**paused().to_document(), **status}}


def approval(**spec: Any) -> Document:
    return {
        "apiVersion": "creditrisk.io/v1alpha1",
        "kind": "PromotionApproval",
        "metadata": {"generateName": "loans-", "name": "loans-x7k2p", "namespace": "bank",
                     "labels": {"team": "lending", "creditrisk.io/approval-of": "u-other"},
                     "managedFields": [{"manager": "kubectl-create", "operation": "Update"}]},
        "spec": {"promotion": "loans", "version": "2", "pausedAt": to_text(PAUSED_AT), "comment": "ok", **spec},
    }  # fmt: skip


def review(
    user: str = "alice", groups: tuple[str, ...] = (OFFICERS, "system:authenticated"), **changes: Any
) -> Document:
    """Return an AdmissionReview as a Kubernetes API server (1.20 to 1.34) sends it."""
    kind = {"group": "creditrisk.io", "version": "v1alpha1", "kind": "PromotionApproval"}
    resource = {"group": "creditrisk.io", "version": "v1alpha1", "resource": "promotionapprovals"}
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "5e4d6b4a-3f44-4f9e-8c32-1f8b7a1f8a7c",
            "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
            "name": "loans-x7k2p", "namespace": "bank", "operation": "CREATE",
            "userInfo": {"username": user, "uid": "8c1f", "groups": list(groups),
                         "extra": {"scopes.example": ["a"]}},
            "object": approval(), "oldObject": None, "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "kubectl-create"},
            **changes,
        },
    }  # fmt: skip


class Cluster:
    """The ModelPromotions that the webhook reads."""

    def __init__(self) -> None:
        self.found: Document | None = promotion()
        self.fault: Exception | None = None

    async def promotion(self, namespace: str, name: str) -> Document | None:
        if self.fault:
            raise self.fault
        return self.found if (namespace, name) == ("bank", "loans") else None


Ask = Callable[[Any], Any]


@asynccontextmanager
async def serving(cluster: Cluster, folder: Path) -> AsyncIterator[tuple[str, Certificate]]:
    certificate = Certificate(folder)
    runner = web.AppRunner(create_admission_app(cluster, lambda namespace: namespace == "bank"))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate.context).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}{PATH}", certificate
    await runner.cleanup()


def issued(folder: Path) -> Path:
    """Write a new certificate for 127.0.0.1, which is its own CA, as a mounted Secret has it."""
    folder.mkdir(exist_ok=True)
    self_signed(folder)
    (folder / "tls.crt").write_bytes((folder / "ca.crt").read_bytes())
    (folder / "tls.key").write_bytes((folder / "ca.key").read_bytes())
    return folder


async def post(url: str, folder: Path, body: Any) -> tuple[int, Document]:
    trust = ssl.create_default_context(cadata=(folder / "ca.crt").read_text())
    async with aiohttp.ClientSession() as session, session.post(url, json=body, ssl=trust) as response:
        return response.status, await response.json()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
async def ask(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Ask]:
    folder = issued(tmp_path / "certificate")
    async with serving(cluster, folder) as (url, _):

        async def send(body: Any) -> Any:
            status, answer = await post(url, folder, body)
            assert status == 200
            assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
            assert answer["response"]["uid"] == body["request"]["uid"]
            return answer["response"]

        yield send


async def test_name_groups_labels_and_owner_are_filled_in(ask: Ask) -> None:
    answer = await ask(review())
    assert (answer["allowed"], answer["patchType"]) == (True, "JSONPatch")
    stored = jsonpatch.apply_patch(approval(), json.loads(base64.b64decode(answer["patch"])))
    assert stored["spec"] == {**approval()["spec"], "user": "alice", "groups": [OFFICERS]}
    assert stored["metadata"]["labels"] == {
        "team": "lending", "creditrisk.io/approval-of": "u-1", "creditrisk.io/model-version": "2"}  # fmt: skip
    (owner,) = stored["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("ModelPromotion", "loans", "u-1")


async def test_what_the_client_writes_about_itself_is_not_trusted(ask: Ask) -> None:
    forged = await ask(review(object=approval(user="bob")))
    assert not forged["allowed"]
    assert forged["status"]["code"] == 403
    assert "spec.user is bob, but the API server knows you as alice" in forged["status"]["message"]
    groups = await ask(review("mallory", ("interns",), object=approval(groups=[OFFICERS])))
    assert "mallory is in none of the groups" in groups["status"]["message"]
    own = await ask(review(object=approval(user="alice", groups=["model-risk"])))
    assert {"op": "add", "path": "/spec/groups", "value": [OFFICERS]} in json.loads(base64.b64decode(own["patch"]))


@pytest.mark.parametrize(
    ("found", "changes", "code", "words"),
    [
        (promotion(), {"object": approval(version="1")}, 403, "version 1 is not being rolled out"),
        (promotion(), {"object": approval(promotion="cards")}, 400, "there is no ModelPromotion cards in"),
        (promotion(), {"object": approval(comment="x" * 1001)}, 400, "spec.comment"),
        (promotion(), {"object": approval(pausedAt="soon")}, 400, "spec.pausedAt"),
        (promotion(), {"object": {}}, 400, "spec."),
        (promotion(), {"object": approval(promotion="../secrets/s3-credentials")}, 400, "spec.promotion"),
        (promotion(phase=Phase.IDLE), {}, 403, "nothing waits for approvals"),
        (promotion(approvals=ApprovalsState(asked=SPEC.approvals).model_dump(by_alias=True)
                   | {"given": [{"user": "alice", "groups": [OFFICERS], "at": to_text(1), "step": 1}]}), {}, 403,
         "alice has approved version 2 at this pause already"),
        ({**promotion(), "spec": {}}, {}, 403, "nothing waits for approvals: spec.model"),
    ],
)  # fmt: skip
async def test_an_approval_that_cannot_count_is_refused_with_the_reason(
    ask: Ask, cluster: Cluster, found: Document, changes: Document, code: int, words: str
) -> None:
    cluster.found = found
    answer = await ask(review(**changes))
    assert (answer["allowed"], answer["status"]["code"]) == (False, code)
    assert words in answer["status"]["message"]


async def test_an_api_server_that_cannot_be_asked_is_no_approval(ask: Ask, cluster: Cluster) -> None:
    cluster.fault = RetryableError("timeout")
    answer = await ask(review())
    assert (answer["allowed"], answer["status"]["code"]) == (False, 503)


async def test_an_approval_cannot_be_changed_afterwards(ask: Ask) -> None:
    old = approval(user="alice", groups=[OFFICERS])
    labeled, finalized = copy.deepcopy(old), copy.deepcopy(old)
    labeled["metadata"]["labels"]["creditrisk.io/model-version"] = "3"
    finalized["metadata"]["finalizers"] = ["foregroundDeletion"]
    for new, allowed in ((approval(user="bob"), False), (labeled, False), (finalized, True)):
        answer = await ask(review("alice", operation="UPDATE", object=new, oldObject=old))
        assert answer["allowed"] == allowed
        assert "patch" not in answer


async def test_namespaces_of_other_operators_are_left_to_them(ask: Ask) -> None:
    assert await ask(review(namespace="other")) == {"uid": review()["request"]["uid"], "allowed": True}


async def test_what_is_no_admission_review_is_a_bad_request(cluster: Cluster, tmp_path: Path) -> None:
    folder = issued(tmp_path / "certificate")
    async with serving(cluster, folder) as (url, _):
        bodies: tuple[Any, ...] = ({}, [], {"request": {"operation": "CREATE"}})
        for body in bodies:
            status, answer = await post(url, folder, body)
            assert (status, "not an AdmissionReview" in answer["detail"]) == (400, True)


async def test_a_new_certificate_is_used_without_a_restart(cluster: Cluster, tmp_path: Path) -> None:
    folder = issued(tmp_path / "certificate")
    async with serving(cluster, folder) as (url, certificate):
        assert (await post(url, folder, review()))[0] == 200
        assert not certificate.reload()
        issued(folder)
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await post(url, folder, review())
        assert certificate.reload()
        assert (await post(url, folder, review()))[0] == 200


async def test_a_certificate_that_cannot_be_loaded_leaves_the_old_one_in_use(cluster: Cluster, tmp_path: Path) -> None:
    folder, other = issued(tmp_path / "certificate"), issued(tmp_path / "other")
    async with serving(cluster, folder) as (url, certificate):
        (folder / "tls.key").write_bytes((other / "tls.key").read_bytes())
        assert not certificate.reload()
        assert (await post(url, folder, review()))[0] == 200
        (folder / "tls.crt").write_bytes((other / "tls.crt").read_bytes())
        assert certificate.reload()
        assert (await post(url, other, review()))[0] == 200
