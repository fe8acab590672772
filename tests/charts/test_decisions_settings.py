"""The programs of the decision log accept the settings that the charts pass."""

from __future__ import annotations

import pytest
from pydantic_settings import BaseSettings

from charts.rendering import Document, containers, environment, of_kind, pod_template, render
from decisions.settings import ArchiveSettings, MigrateSettings, ServeSettings, ShipSettings
from scorer.settings import Settings as ScorerSettings

# What libpq, boto3 and OpenSSL read by themselves.
OF_LIBRARIES = ("PG", "AWS_", "SSL_", "MLFLOW_S3_")


def container(scenario: str, name: str) -> Document:
    found = [
        container
        for document in render(scenario)
        if document["kind"] in {"Deployment", "CronJob"}
        for container in containers(pod_template(document))
        # The backup's container for this database is called decisions, too, but runs Postgres's programs.
        if container["name"] == name and "/postgres:" not in container["image"]
    ]
    assert len(found) == 1, name
    return found[0]


def set_variables(variables: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        if name.startswith(("DECISIONS_", "SCORER_")):
            monkeypatch.setenv(name, value if isinstance(value, str) else "from-the-cluster")


@pytest.mark.parametrize(
    ("name", "settings"),
    [("migrate", MigrateSettings), ("decisions", ServeSettings), ("archive", ArchiveSettings),
     ("shipper", ShipSettings)],
)  # fmt: skip
def test_each_program_reads_every_variable_of_its_container(
    name: str, settings: type[BaseSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = environment(container("credit-risk/ci/decisions-values.yaml", name))
    own = {variable for variable in variables if not variable.startswith(OF_LIBRARIES)}
    assert own <= {f"DECISIONS_{field.upper()}" for field in settings.model_fields}
    set_variables(variables, monkeypatch)
    settings()


def test_the_scoring_service_reads_the_settings_of_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = environment(container("api/ci/decision-log-values.yaml", "scorer"))
    known = {f"SCORER_{field.upper()}" for field in ScorerSettings.model_fields}
    assert {name for name in variables if "DECISION" in name} <= known
    set_variables(variables, monkeypatch)
    settings = ScorerSettings()
    assert (settings.decision_log, settings.decision_log_max_bytes) == ("require", 4096 * 1024 * 1024)


def test_the_shipper_waits_longer_than_the_service_may_take_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    (deployment,) = of_kind(render("api/ci/decision-log-local-values.yaml"), "Deployment")
    scorer, shipper = containers(pod_template(deployment))
    _, pause = scorer["lifecycle"]["preStop"]["exec"]["command"]
    service = ScorerSettings()
    longest = float(pause) + service.drain_seconds + service.shutdown_grace_seconds
    set_variables(environment(shipper), monkeypatch)
    # Both get SIGTERM at once.
    assert longest + 20 <= ShipSettings().shutdown_seconds
    assert ShipSettings().shutdown_seconds < pod_template(deployment)["spec"]["terminationGracePeriodSeconds"]
