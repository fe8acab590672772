"""A training run on decisions: the real service over a real Postgres, and what the run then says of its data."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import mlflow
import numpy as np
import psycopg
import pytest
from mlflow import MlflowClient
from psycopg.types.json import Json

from decisions.database.id_ranges import first_id
from trainer.data.declaration import BUILT_IN_DECLARATION, load_declaration
from trainer.data.reject_inference import RejectInference
from trainer.data.synthetic import generate
from trainer.data.time_split import Split
from trainer.errors import BadInputError, DataUnavailableError
from trainer.evaluation.gates import GateLimits
from trainer.learning.hyperparameters import Hyperparameters
from trainer.pipeline import Result, run, served_declaration
from trainer.preparation import prepare
from trainer.settings import Settings
from unit.decisions.service.fixtures import decisions_server, site
from unit.decisions.service.process import running_process
from unit.decisions.service.site import PASSWORD, Site

__all__ = ["decisions_server", "site"]
START = datetime(2025, 2, 1, tzinfo=UTC)
QUERY = "decisions://?from=2025-01-01&to=2026-01-01&matured=3m"
GRANTED, REJECTED, UNDECIDED = 900, 200, 50
ANY = GateLimits(minimum_auc=0.0, maximum_ece=1.0, minimum_air=0.0, margin=1.0, allow_contract_change=True)
DECLARATION = load_declaration(BUILT_IN_DECLARATION)
CONTRACT = json.dumps({"features": [
    {"name": f.name, "kind": f.kind, **({} if f.kind == "numeric" else {"categories": f.categories})}
    for f in DECLARATION.features
]}).encode()  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    key = tmp_path / "key"
    key.write_text("k-auditor\n")
    return Settings(
        data=QUERY,
        tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
        work_dir=tmp_path / "work",
        decisions_key_file=key,
        hyperparameters=Hyperparameters(heads=2, hidden=(8,), bins=4, batch_rows=64, epochs=2, learning_rate=0.01),
        limits=ANY,
    )


def fill(site: Site) -> None:
    """Insert generated loans as decisions: most were granted and ended, some were rejected, some are undecided."""
    site.version("7", CONTRACT)
    frame = generate(GRANTED + REJECTED + UNDECIDED, seed=3)
    target, names = DECLARATION.target, DECLARATION.names
    generator = np.random.default_rng(0)
    decisions, inputs, outcomes = [], [], []
    for number, row in enumerate(frame.to_dict("records")):
        at = START + timedelta(hours=number)
        decision_id = UUID(int=first_id(at).int | 7 << 76 | 2 << 62 | number)
        rejected = number < REJECTED
        probability = float(generator.uniform(0.5, 0.9) if rejected else generator.uniform(0.02, 0.6))
        decisions.append((decision_id, f"r-{number}", probability, "decline" if rejected else "approve",
                          UUID(int=1), number + 1, number.to_bytes(32, "big")))  # fmt: skip
        inputs.append((decision_id, f"a-{number}", bytes(16), Json({name: row[name] for name in names})))
        if REJECTED <= number < REJECTED + GRANTED:
            outcome = "repaid" if str(row[target.column]) in target.repaid else "defaulted"
            outcomes.append((decision_id, at + timedelta(days=80), outcome))
    address = f"postgresql://mlflow:{PASSWORD}@127.0.0.1:{site.server.port}/decisions"
    with psycopg.connect(address) as connection, connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO decisions (id, request_id, row, endpoint, role, client, model_version, probability, points,
                   decision, latency_us, pod, log_id, sequence, inputs_hash, previous_hash, hash)
               VALUES (%s, %s, 0, 'score', 'champion', 'lender', '00000000-0000-0000-0000-000000000007', %s, 540, %s,
                   900, 'scoring-0', %s, %s, %s, decode(repeat('00', 32), 'hex'), decode(repeat('01', 32), 'hex'))""",
            decisions,
        )
        cursor.executemany("INSERT INTO decision_inputs VALUES (%s, %s, %s, %s)", inputs)
        cursor.executemany("INSERT INTO outcomes VALUES (%s, %s, %s, DEFAULT, 'test')", outcomes)


@contextmanager
def serving(site: Site, settings: Settings) -> Iterator[Settings]:
    with running_process(site.settings()) as service:
        yield replace(settings, decisions_url=service.url)


def card_of(result: Result) -> str:
    return str(mlflow.artifacts.load_text(f"runs:/{result.run_id}/model_card.md"))


@pytest.mark.slow
def test_a_run_names_query_and_digest_and_says_who_is_not_in_its_data(
    site: Site, settings: Settings, tmp_path: Path
) -> None:
    fill(site)
    with serving(site, settings) as given, warnings.catch_warnings(action="ignore", category=FutureWarning):
        assert served_declaration(given) is None
        first = run(given)
        # Without --features, the features are then those of the version that serves.
        served = served_declaration(given)
        assert served_declaration(replace(given, features=tmp_path / "own.json")) is None
        second = prepare(replace(given, split=Split.TIME, reject_inference=RejectInference.FUZZY), served)
    assert (first.version, first.moved_pointer) == ("1", True)
    logged = MlflowClient().get_run(first.run_id)
    assert logged.inputs
    (dataset,) = [item.dataset for item in logged.inputs.dataset_inputs]
    source = json.loads(dataset.source)["url"]
    assert source.startswith(f"{given.decisions_url}/v1/training-data?")
    assert "from=2025-01-01&to=2026-01-01" in source
    assert "k-auditor" not in str(logged.to_dictionary())
    tags, params = logged.data.tags, logged.data.params
    assert (dataset.name, dataset.digest, dataset.source_type) == ("decisions", tags["data.digest"][:32], "http")
    assert tags["data.sha256"] == tags["data.digest"]
    query = json.loads(tags["data.query"])
    assert (query["since"][:10], query["matured_months"]) == ("2025-01-01", 3)
    assert (params["data"], params["rows"], params["reject_inference"]) == (QUERY, str(GRANTED), "none")
    assert (tags["data.rejected"], tags["data.undecided"]) == (str(REJECTED), str(UNDECIDED))
    card = card_of(first)
    assert f"{REJECTED} rejected applicants have no outcome and are not in the data" in card
    assert "no reject inference" in card

    assert served
    assert served.names == DECLARATION.names
    assert served.target.column == "outcome"
    assert {f.name for f in served.features if f.protected} == {f.name for f in DECLARATION.features if f.protected}
    assert second.selection
    assert second.selection.applicants == REJECTED, "all are older than the test rows"
    assert "outcomes inferred by fuzzy" in second.selection.in_words
    assert "no reject inference" not in second.selection.limit


def test_rejected_applicants_are_trained_on_if_wanted_and_never_tested_on(site: Site, settings: Settings) -> None:
    fill(site)
    with serving(site, settings) as given:
        none = prepare(given)
        fuzzy = prepare(replace(given, reject_inference=RejectInference.FUZZY))
        parcelled = prepare(replace(given, reject_inference=RejectInference.PARCELLING, reject_factor=2.0))
        again = prepare(given)
    assert (len(none.training) + len(none.test), none.training.weight) == (GRANTED, None)
    assert none.fingerprint == again.fingerprint, "another attempt would not resume"
    assert len({none.fingerprint, fuzzy.fingerprint, parcelled.fingerprint}) == 3
    assert len(fuzzy.test) == len(parcelled.test) == len(none.test)
    assert fuzzy.selection
    applicants = fuzzy.selection.applicants
    # Those on the test rows' side of the split are left out.
    assert 0.6 * REJECTED < applicants < REJECTED
    assert len(fuzzy.training) == len(none.training) + 2 * applicants
    assert len(parcelled.training) == len(none.training) + applicants
    for inputs in (fuzzy, parcelled):
        weight = inputs.training.weight
        assert weight is not None
        assert weight.sum() == pytest.approx(len(none.training) + applicants)
        column = inputs.full_declaration.target.column
        assert (inputs.training.frame[column].to_numpy() == inputs.training.target).all()
    added = fuzzy.training.weight[len(none.training) :]  # type: ignore[index]
    assert 0.5 < added[:applicants].mean() < 0.9, "the probabilities that they were answered"


def test_what_cannot_be_trained_on_is_reported(
    site: Site, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for data, message in [
        ("decisions://?since=2025-01-01", "since is unknown; allowed are from, to, matured"),
        ("decisions://?from=2025-01-01&from=2025-01-02", "from is given twice"),
        ("decisions://?matured=1y", "matured=1y: must be months"),
        ("decisions://bank?matured=1m", "there is no name"),
        ("decisions", "no decisions service; set --decisions-url"),
    ]:
        with pytest.raises(BadInputError, match=message):
            prepare(replace(settings, data=data))
    with pytest.raises(BadInputError, match="only for --data decisions"):
        replace(settings, data="synthetic", reject_inference=RejectInference.FUZZY)
    monkeypatch.setattr("trainer.data.decisions._RETRIES", 1)
    with pytest.raises(DataUnavailableError, match="refused"):
        prepare(replace(settings, data="decisions", decisions_url="http://127.0.0.1:1"))
    site.decide(START, decision="decline")
    with serving(site, settings) as given:
        with pytest.raises(BadInputError, match=r"no matured decision has an outcome yet: .* 1 rejected"):
            prepare(given)
        with pytest.raises(BadInputError, match=r"answered 422.*from"):
            prepare(replace(given, data="decisions://?from=yesterday"))
        for key, message in (("k-stranger", "answered 403.*decisions:read"), ("unknown", "answered 401")):
            (tmp_path / "key").write_text(key)
            with pytest.raises(BadInputError, match=message):
                prepare(given)
