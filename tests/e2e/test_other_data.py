"""`make up` and `make train` with DATA and FEATURES: a stack on loans with other columns than the built-in ones."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Iterator

import pandas as pd
import pytest

from conftest import REPOSITORY
from e2e.registry_client import registry_client
from localcluster import training
from localcluster.__main__ import install
from localcluster.cluster import Cluster
from localcluster.stack import RELEASE, Stack
from trainer.data.declaration import load_declaration

# Another whole stack is installed.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.soak]
LOANS = REPOSITORY / "tests/data/lending_club_sample.csv"
FEATURES = LOANS.with_name("lending_club_features.json")
# So few loans are predicted less well than the gates' defaults ask for.
GATES = {"minimumAuc": 0.6, "maximumEce": 0.2}


@pytest.fixture(scope="module")
def other(cluster: Cluster) -> Iterator[Stack]:
    """The stack as `make up` leaves it, with a host name of its own beside other stacks."""
    stack = Stack(cluster, namespace="other-data", host="other-data.credit-risk.test")
    delete = ["delete", "namespace", stack.namespace, "--ignore-not-found"]
    stack.kubectl(*delete)
    try:
        install(stack, LOANS, FEATURES, [f"--set-json=training.gates={json.dumps(GATES)}"])
        yield stack
    finally:
        stack.kubectl(*delete, "--wait=false")


def test_the_service_takes_the_declared_features_and_tells_bad_loans_from_good_ones(other: Stack) -> None:
    names = load_declaration(FEATURES).names
    contract = other.get("/v1/model")["contract"]
    assert {feature["name"] for feature in contract["features"]} == set(names)
    loans = pd.read_csv(LOANS)
    for start in range(0, len(loans), 1000):
        part = loans.iloc[start : start + 1000]
        answer = other.post("/v1/score/batch", json.loads(part[list(names)].to_json(orient="records")))
        loans.loc[part.index, "pd"] = [found["probability_of_default"] for found in answer["results"]]
    means = loans.groupby("Class")["pd"].mean()
    assert means["bad"] > 1.2 * means["good"]


def test_an_application_with_the_built_in_features_is_refused(other: Stack) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        other.post("/v1/score", {"annual_income": 46995.17, "credit_score": 752})
    assert caught.value.code == 422
    fields = {error["field"] for error in json.load(caught.value)["errors"]}
    assert {"annual_income", "funded_amnt"} <= fields


def test_another_run_takes_the_declaration_with_its_data(other: Stack) -> None:
    arguments = ["--seed=1", "--margin=0.5", "--production-pointer=never"]
    training.follow(other, training.start(other, str(LOANS), arguments, FEATURES))
    with registry_client(other) as client:
        assert client.get_model_version(RELEASE, "2").tags["gate.verdict"] == "passed"
