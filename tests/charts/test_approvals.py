"""Approvals in the operator's chart: off by default; the webhook trusts a certificate that really is its own."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from charts.rendering import Document, environment, of_kind, pod_spec, render, render_chart, run_helm
from conftest import REPOSITORY
from promoter.admission import PATH
from promoter.api.approval_crd import render as rendered_definition
from promoter.certificate import Certificate
from promoter.settings import Settings

SCENARIO = "operator/ci/approvals-values.yaml"
OWN_CERTIFICATE = "operator/ci/approvals-certificate-values.yaml"


def webhook(documents: list[Document]) -> Document:
    (configuration,) = of_kind(documents, "MutatingWebhookConfiguration")
    (found,) = configuration["webhooks"]
    return dict(found)


def operator(documents: list[Document]) -> Document:
    (found,) = of_kind(documents, "Deployment")
    return found


def rules_about(documents: list[Document], role: str, resource: str) -> list[list[str]]:
    roles = [found for found in of_kind(documents, "Role") if found["metadata"]["name"] == role]
    return [rule["verbs"] for found in roles for rule in found["rules"] if resource in rule["resources"]]


def test_without_approvals_there_is_no_webhook_no_definition_and_no_further_permission() -> None:
    documents = render_chart("operator")
    assert not of_kind(documents, "MutatingWebhookConfiguration")
    assert not of_kind(documents, "Secret")
    assert len(of_kind(documents, "CustomResourceDefinition")) == 1
    assert rules_about(documents, "model-promotion-operator", "promotionapprovals") == []
    (container,) = pod_spec(operator(documents))["containers"]
    assert "PROMOTER_APPROVALS_CERTIFICATE" not in environment(container)
    assert render_chart("operator", "--set=approvals=null") == documents, "as releases before 0.2 had it"


def test_the_api_server_asks_the_operator_about_approvals_alone_and_stores_none_without_an_answer() -> None:
    found = webhook(render(SCENARIO))
    assert found["failurePolicy"] == "Fail"
    assert found["sideEffects"] == "None"
    (rule,) = found["rules"]
    assert (rule["resources"], rule["operations"]) == (["promotionapprovals"], ["CREATE", "UPDATE"])
    (service,) = of_kind(render(SCENARIO), "Service")
    ports = {port["port"]: port["targetPort"] for port in service["spec"]["ports"]}
    (container,) = pod_spec(operator(render(SCENARIO)))["containers"]
    listening = {port["name"]: port["containerPort"] for port in container["ports"]}
    called = found["clientConfig"]["service"]
    assert (called["name"], called["path"]) == ("operator", PATH)
    assert listening[ports[called["port"]]] == Settings().approvals_port
    (policy,) = of_kind(render(SCENARIO), "NetworkPolicy")
    assert {"ports": [{"port": "approvals"}]} in policy["spec"]["ingress"]


@pytest.mark.parametrize(("kube", "selects"), [("1.20.0", False), ("1.21.0", True), ("1.34.0", True)])
def test_an_operator_is_asked_about_its_own_namespaces_where_they_can_be_told_apart(kube: str, selects: bool) -> None:
    found = webhook(render(SCENARIO, "--kube-version", kube))
    assert ("namespaceSelector" in found) == selects
    if selects:
        (expression,) = found["namespaceSelector"]["matchExpressions"]
        assert expression["values"] == ["lending", "cards"]


def test_the_operator_may_read_approvals_and_give_none() -> None:
    documents = render(SCENARIO)
    assert rules_about(documents, "model-promotion-operator", "promotionapprovals") == [["list"]] * 2
    assert rules_about(documents, "model-promotion-approver", "promotionapprovals") == [["create", "get", "list"]] * 2
    assert not of_kind(documents, "ClusterRole")


def test_the_definition_is_rendered_from_the_model_and_kept_on_uninstall() -> None:
    file = REPOSITORY / "charts/operator/files/approval-crd.yaml"
    assert file.read_text() == rendered_definition(), "run `python -m promoter.api.approval_crd` into it"
    names = {found["metadata"]["name"]: found for found in of_kind(render(SCENARIO), "CustomResourceDefinition")}
    found = names["promotionapprovals.creditrisk.io"]
    assert found["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def mounted(documents: list[Document], folder: Path) -> Path:
    """Write the Secret with the certificate into a folder, as the pod mounts it."""
    (secret,) = of_kind(documents, "Secret")
    pod = pod_spec(operator(documents))
    (volume,) = [found for found in pod["volumes"] if found["name"] == "approvals"]
    assert volume["secret"]["secretName"] == secret["metadata"]["name"]
    (container,) = pod["containers"]
    (mount,) = [found for found in container["volumeMounts"] if found["name"] == "approvals"]
    assert environment(container)["PROMOTER_APPROVALS_CERTIFICATE"] == mount["mountPath"]
    for name, value in secret["data"].items():
        (folder / name).write_bytes(base64.b64decode(value))
    return folder


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> Any:
    """Return the server's certificate after a handshake."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        failed: list[Exception] = []

        def serve() -> None:
            try:
                server.wrap_socket(theirs, server_side=True).close()
            except (ssl.SSLError, OSError) as error:
                failed.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with client.wrap_socket(ours, server_hostname=host) as connection:
                return connection.getpeercert()
        finally:
            ours.close()
            thread.join()


def test_the_generated_certificate_is_the_one_that_the_api_server_trusts(tmp_path: Path) -> None:
    documents = render(SCENARIO)
    served = Certificate(mounted(documents, tmp_path)).context
    config = webhook(documents)["clientConfig"]
    host = f"{config['service']['name']}.{config['service']['namespace']}.svc"
    trusting = ssl.create_default_context(cadata=base64.b64decode(config["caBundle"]).decode())
    assert ("DNS", host) in shake_hands(served, trusting, host)["subjectAltName"]
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(served, trusting, "operator.other.svc")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(served, ssl.create_default_context(), host)


def test_a_certificate_of_ones_own_is_mounted_and_its_ca_filled_in_by_another_program() -> None:
    documents = render(OWN_CERTIFICATE)
    assert not of_kind(documents, "Secret")
    assert "caBundle" not in webhook(documents)["clientConfig"]
    (configuration,) = of_kind(documents, "MutatingWebhookConfiguration")
    assert "cert-manager.io/inject-ca-from" in configuration["metadata"]["annotations"]
    (volume,) = [found for found in pod_spec(operator(documents))["volumes"] if found["name"] == "approvals"]
    assert volume["secret"]["secretName"] == "approvals-certificate"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("approvals.certificate.secretName=own", "set caBundle"),
        ("approvals.certificate.caBundle=-----BEGIN CERTIFICATE-----", "without secretName"),
    ],
)
def test_a_certificate_that_the_api_server_could_not_trust_is_refused(value: str, words: str) -> None:
    result = run_helm("template", "release", "operator", "--set=approvals.enabled=true", f"--set={value}")
    assert result.returncode != 0
    assert words in result.stderr
