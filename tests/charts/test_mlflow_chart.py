"""How the MLflow chart's server reaches its database."""

from __future__ import annotations

from charts.rendering import containers, environment, of_kind, pod_template, render
from postgres import FOR_WRITING, URI_OPTIONS
from unit.backup.services import SERVER_ENVIRONMENT


def test_the_server_has_the_settings_that_the_tests_with_a_real_database_use() -> None:
    (deployment,) = of_kind(render("mlflow/ci/external-values.yaml"), "Deployment")
    (server,) = containers(pod_template(deployment))[-1:]
    variables = environment(server)
    uri = f"postgresql+psycopg2://db.example.org:5432/?{URI_OPTIONS}"
    assert variables["MLFLOW_BACKEND_STORE_URI"] == uri + FOR_WRITING
    assert variables["MLFLOW_READ_REPLICA_BACKEND_STORE_URI"] == uri
    assert {name: variables[name] for name in SERVER_ENVIRONMENT} == SERVER_ENVIRONMENT


def test_the_server_signs_urls_that_clients_in_other_namespaces_reach() -> None:
    (deployment,) = of_kind(render("mlflow/ci/default-values.yaml", "--namespace=lending"), "Deployment")
    (server,) = containers(pod_template(deployment))[-1:]
    assert environment(server)["MLFLOW_S3_ENDPOINT_URL"] == "http://s3.lending.svc:9000"
