import json
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jsonschema
import mlflow
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.metrics import roc_auc_score

from conftest import REPOSITORY
from trainer.__main__ import main
from trainer.data.dataset import held_out
from trainer.data.declaration import load_declaration
from trainer.data.problems import InvalidDataError
from trainer.data.synthetic import generate
from trainer.data.time_split import Split
from trainer.errors import GateRefusedError, TrackingError
from trainer.evaluation.comparison import compare_auc
from trainer.evaluation.gates import GateLimits
from trainer.evaluation.metrics import expected_calibration_error
from trainer.evaluation.plots import save_plots
from trainer.learning.calibration import Calibration
from trainer.learning.hyperparameters import Hyperparameters
from trainer.pipeline import Result, run
from trainer.settings import Settings, parse
from trainer.tracking.production_pointer import PointerMode
from trainer.tracking.registry import Registry
from trainer.tracking.texts import LONGEST_DESCRIPTION, LONGEST_TAG, shortened

# With a layer of one unit, there are no linear models, which would not be weak.
WEAK = Hyperparameters(heads=1, hidden=(16, 1), bins=8, batch_rows=64, epochs=1, learning_rate=1e-3)
ANY = GateLimits(minimum_auc=0.0, maximum_ece=1.0, minimum_air=0.0)


def with_data(settings: Settings, frame: pd.DataFrame) -> Settings:
    path = settings.work_dir.parent / "loans.csv"
    frame.to_csv(path, index=False)
    return replace(settings, data=str(path))


def production() -> str:
    return str(MlflowClient().get_model_version_by_alias("credit-risk", "production").version)


def card_of(result: Result) -> str:
    return str(mlflow.artifacts.load_text(f"runs:/{result.run_id}/model_card.md"))


def test_a_version_is_self_contained_and_all_ways_to_load_it_agree(settings: Settings) -> None:
    result = run(replace(settings, reason="drift for 3 days"))
    assert (result.version, result.moved_pointer, result.replaced) == ("1", True, None)
    version = MlflowClient().get_model_version("credit-risk", "1")
    assert version.tags["training.reason"] == "drift for 3 days"
    assert MlflowClient().get_run(result.run_id).data.tags["training.reason"] == "drift for 3 days"
    assert version.current_stage == "Production"
    folder = Path(mlflow.artifacts.download_artifacts("models:/credit-risk@production"))
    assert {"model.onnx", "contract.json", "MLmodel"} <= {path.name for path in folder.iterdir()}
    assert not [path for path in folder.rglob("*") if path.suffix in {".pkl", ".pickle", ".pt", ".data"}]
    contract = json.loads((folder / "contract.json").read_text())
    jsonschema.validate(contract, json.loads((REPOSITORY / "contracts/model-contract.schema.json").read_text()))
    assert (contract["format_version"], contract["ignored"]) == (4, [])
    frame = generate(200, 5)
    by_pyfunc = mlflow.pyfunc.load_model("models:/credit-risk@production").predict(frame)
    session = onnxruntime.InferenceSession(mlflow.onnx.load_model("models:/credit-risk@production").SerializeToString())
    numeric = [frame[f["name"]].to_numpy("float32") for f in contract["features"] if f["kind"] == "numeric"]
    categorical = [
        np.array([f["categories"].index(value) for value in frame[f["name"]]], dtype=np.int64)
        for f in contract["features"]
        if f["kind"] == "categorical"
    ]
    feeds = {"numeric": np.stack(numeric, 1), "categorical": np.stack(categorical, 1)}
    assert by_pyfunc == pytest.approx(session.run(["probability_of_default"], feeds)[0], abs=1e-7)
    for name in ("sha256.model.onnx", "sha256.contract.json", "data.sha256", "git.revision", "metric.roc_auc"):
        assert version.tags[name]
    assert len(contract["score_histogram"]["edges"]) == len(contract["score_histogram"]["counts"]) + 1
    assert sum(contract["score_histogram"]["counts"]) == pytest.approx(600, abs=90)
    assert "Intended use" in str(version.description)


def test_a_run_records_everything_a_reviewer_needs(settings: Settings) -> None:
    result = run(settings)
    client = MlflowClient()
    logged = client.get_run(result.run_id)
    names = load_declaration(settings.features).names
    assert {"learning_rate", "dropout", "seed", "split_seed", "margin", "minimum_auc", "rows"} <= set(
        logged.data.params
    )
    assert logged.data.params["features"] == ",".join(names)
    steps = [
        [point.step for point in client.get_metric_history(result.run_id, name)]
        for name in ("train_loss", "validation_loss", "learning_rate")
    ]
    # Every epoch until training stopped.
    assert 1 < len(steps[0]) <= settings.hyperparameters.epochs
    assert steps == [list(range(len(steps[0])))] * 3
    figures = logged.data.metrics
    assert {f"test_{name}" for name in ("roc_auc", "gini", "ks", "brier", "log_loss", "ece")} <= set(figures)
    assert {name for name in figures if name.startswith("importance.")} == {f"importance.{name}" for name in names}
    assert figures["importance.employment_status"] > 0.05
    for figure in ("rows", "roc_auc", "approval_rate", "adverse_impact_ratio"):
        for group in ("gender.Female", "gender.Male", "marital_status.Single", "marital_status.Married"):
            assert f"group.{group}.{figure}" in figures
    assert {item.path for item in client.list_artifacts(result.run_id, "plots")} == {
        f"plots/{name}.png" for name in ("roc", "calibration", "score_distribution", "learning_curve")
    }
    artifacts = {item.path for item in client.list_artifacts(result.run_id)}
    assert {"model_card.md", "gates.json", "groups.json"} <= artifacts
    card = card_of(result)
    assert logged.data.tags["mlflow.note.content"] == shortened(card, LONGEST_TAG)
    assert client.get_model_version("credit-risk", "1").description == shortened(card, LONGEST_DESCRIPTION)
    for part in ("Intended use", "gender", "marital_status", f"{result.metrics['roc_auc']:.4f}"):
        assert part in card
    assert logged.data.tags["git.revision"] == "unknown"
    assert "training.reason" not in logged.data.tags
    assert logged.inputs
    (given,) = logged.inputs.dataset_inputs
    assert logged.data.tags["data.sha256"].startswith(given.dataset.digest)


def test_the_pointer_moves_to_a_better_version_and_not_to_a_worse_one(settings: Settings) -> None:
    run(replace(settings, hyperparameters=WEAK, limits=ANY))
    second = run(settings)
    assert (second.replaced, production()) == ("1", "2")
    with pytest.raises(GateRefusedError, match="not_worse_than_production"):
        run(replace(settings, hyperparameters=WEAK, limits=ANY, seed=1))
    client = MlflowClient()
    assert production() == "2"
    assert str(client.get_model_version_by_alias("credit-risk", "previous").version) == "1"
    assert [client.get_model_version("credit-risk", v).current_stage for v in "123"] == [
        "Archived",
        "Production",
        "None",
    ]
    refused = client.get_model_version("credit-risk", "3")
    assert refused.tags["gate.verdict"] == "refused"
    assert client.get_run(str(refused.run_id)).info.status == "FAILED"
    assert "not_worse_than_production" in client.get_run(str(refused.run_id)).data.tags["refused"]


def test_shuffled_labels_never_reach_production(settings: Settings) -> None:
    frame = generate(3_000, 0)
    frame["loan_paid_back"] = np.random.default_rng(0).permutation(frame["loan_paid_back"])
    with pytest.raises(GateRefusedError, match="roc_auc"):
        run(with_data(settings, frame))
    assert MlflowClient().get_registered_model("credit-risk").aliases == {}


def test_a_model_trained_on_a_leaked_label_is_refused(settings: Settings) -> None:
    """The credit score reveals the label in the training rows, and means nothing in the test rows."""
    frame = generate(3_000, 0)
    paid = frame["loan_paid_back"].to_numpy()
    names = load_declaration(settings.features).names
    frame["credit_score"] = np.where(paid == 1, 700.0, 600.0) + np.arange(3_000) / 100
    tested = held_out(frame, names, share=settings.test_share, seed=settings.split_seed)
    frame.loc[tested, "loan_paid_back"] = np.random.default_rng(0).permutation(paid[tested])
    with pytest.raises(GateRefusedError, match="roc_auc REFUSED"):
        run(with_data(settings, frame))
    assert MlflowClient().get_registered_model("credit-risk").aliases == {}


@pytest.mark.parametrize(
    ("calibration", "refused", "passed"),
    [
        (Calibration(slope=0.0, intercept=-1.4), "roc_auc REFUSED: 0.5,", "ece passed"),
        (Calibration(slope=5.0, intercept=0.0), "ece REFUSED", "roc_auc passed"),
    ],
    ids=["constant", "overconfident"],
)
def test_a_constant_or_uncalibrated_model_is_refused(
    calibration: Calibration,
    refused: str,
    passed: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The calibration is part of the exported graph, so a wrong one produces a constant or an uncalibrated model."""
    monkeypatch.setattr("trainer.learning.prior_shift.calibrate", lambda *_: calibration)
    caplog.set_level("INFO")
    with pytest.raises(GateRefusedError, match=refused) as caught:
        run(replace(settings, limits=GateLimits()))
    assert passed not in str(caught.value)
    assert f"gate {passed}" in caplog.text
    assert MlflowClient().get_registered_model("credit-risk").aliases == {}


def test_a_better_version_that_another_run_puts_into_production_meanwhile_stays(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two runs at once: this one was compared with version 1 before the pointer moved to the other run's version 2."""
    run(replace(settings, hyperparameters=WEAK, limits=ANY))
    run(replace(settings, production_pointer=PointerMode.NEVER))

    def meanwhile(*arguments: object) -> None:
        save_plots(*arguments)  # type: ignore[arg-type]
        Registry(MlflowClient(), "credit-risk").move_production_pointer("2", replacing="1")

    monkeypatch.setattr("trainer.pipeline.save_plots", meanwhile)
    caplog.set_level("INFO")
    with pytest.raises(GateRefusedError, match=r"not_worse_than_production REFUSED.*from Production version 2"):
        run(replace(settings, hyperparameters=WEAK, limits=ANY))
    assert "gate not_worse_than_production passed" in caplog.text
    assert "Production moved from version 1 to 2 during training" in caplog.text
    assert production() == "2"
    third = MlflowClient().get_model_version("credit-risk", "3")
    assert third.tags["gate.verdict"] == "refused"
    assert third.current_stage == "None"


def test_another_attempt_of_the_same_job_does_not_retrain_a_refused_model(settings: Settings) -> None:
    hopeless = replace(settings, hyperparameters=WEAK, limits=GateLimits(minimum_auc=1.0), job="training-1")
    with pytest.raises(GateRefusedError, match="roc_auc"):
        run(hopeless)
    with pytest.raises(GateRefusedError, match=r"earlier attempt.*roc_auc"):
        run(hopeless)
    assert len(MlflowClient().search_model_versions("name = 'credit-risk'")) == 1
    with pytest.raises(GateRefusedError, match="version 2"):
        run(replace(hopeless, job="training-2"))


def test_an_unfair_target_is_refused(settings: Settings) -> None:
    frame = generate(3_000, 0)
    frame["loan_paid_back"] = (frame["gender"] == "Male").astype(int)
    with pytest.raises(GateRefusedError, match="adverse_impact_ratio"):
        run(with_data(replace(settings, limits=GateLimits(maximum_ece=1.0)), frame))


def test_bad_data_leaves_nothing_in_mlflow(settings: Settings) -> None:
    with pytest.raises(InvalidDataError):
        run(with_data(settings, generate(3_000, 0).drop(columns="gender")))
    client = MlflowClient(settings.tracking_uri)
    assert [experiment.name for experiment in client.search_experiments()] == ["Default"]
    assert client.search_registered_models() == []


@pytest.mark.parametrize(("mode", "aliases"), [("manual", {"candidate": "1"}), ("never", {})])
def test_only_auto_moves_the_production_pointer(mode: str, aliases: dict[str, str], settings: Settings) -> None:
    assert not run(replace(settings, production_pointer=PointerMode(mode))).moved_pointer
    model = MlflowClient().get_registered_model("credit-risk")
    assert {name: str(version) for name, version in model.aliases.items()} == aliases


def test_declared_directions_and_texts_are_in_the_contract_and_on_the_model_card(
    settings: Settings, tmp_path: Path
) -> None:
    document = json.loads(settings.features.read_text(encoding="utf-8"))
    document["features"][1].update(monotonic="increasing", adverse_action="Your debts are too high for your income")
    del document["features"][2]["adverse_action"]
    features = tmp_path / "features.json"
    features.write_text(json.dumps(document), encoding="utf-8")
    result = run(replace(settings, features=features))
    folder = Path(mlflow.artifacts.download_artifacts("models:/credit-risk@production"))
    _, debt, score = json.loads((folder / "contract.json").read_text())["features"][:3]
    assert (debt["monotonic"], debt["adverse_action"]) == ("increasing", "Your debts are too high for your income")
    assert (score["monotonic"], score["adverse_action"]) == (None, "")
    card = card_of(result)
    assert "| debt_to_income_ratio | increasing |" in card
    assert "| credit_score | increasing |" not in card


def test_excluded_protected_attributes_are_ignored_fields_and_still_monitored(settings: Settings) -> None:
    result = run(replace(settings, exclude_protected=True))
    folder = Path(mlflow.artifacts.download_artifacts("models:/credit-risk@production"))
    contract = json.loads((folder / "contract.json").read_text())
    assert contract["format_version"] == 4
    assert contract["ignored"] == ["gender", "marital_status"]
    assert len(contract["features"]) == 9
    assert not {feature["name"] for feature in contract["features"]} & set(contract["ignored"])
    logged = mlflow.get_run(result.run_id).data
    assert "group.gender.Female.approval_rate" in logged.metrics
    assert "the service discards them: gender, marital_status." in logged.tags["mlflow.note.content"]


def without_some(frame: pd.DataFrame) -> pd.DataFrame:
    """Return loans without a credit score for those who have defaulted before: a fact, not an error."""
    known = np.random.default_rng(1).random(len(frame)) < np.where(frame["loan_paid_back"] == 1, 0.95, 0.5)
    gaps = frame["credit_score"].where(known, np.nan)
    return frame.assign(credit_score=gaps, loan_purpose=frame["loan_purpose"].where(frame.index % 50 != 0, None))


def test_missing_values_are_learned_and_every_later_model_is_compared_on_what_the_champion_accepts(
    settings: Settings,
) -> None:
    first = run(settings)
    second = run(with_data(settings, without_some(generate(3_000, 0))))
    assert (second.replaced, production()) == (first.version, "2")
    folder = Path(mlflow.artifacts.download_artifacts("models:/credit-risk@production"))
    contract = json.loads((folder / "contract.json").read_text())
    jsonschema.validate(contract, json.loads((REPOSITORY / "contracts/model-contract.schema.json").read_text()))
    assert [feature["name"] for feature in contract["features"] if feature["missing"]] == [
        "credit_score",
        "loan_purpose",
    ]
    model = mlflow.pyfunc.load_model("models:/credit-risk@production")
    test = generate(500, seed=9)
    without = model.predict(test.drop(columns="credit_score"))
    assert without.mean() > 1.5 * model.predict(test).mean()
    limits = contract["probability_limits"]
    assert limits["floor"] <= without.min() + 1e-6
    card = card_of(second)
    assert re.search(r"\| loan_purpose \| [12]\.\d% \| - \| - \|", card)
    assert "| annual_income | not allowed | - | - |" in card
    gates = mlflow.artifacts.load_dict(f"runs:/{second.run_id}/gates.json")
    assert "test rows that it can score" in gates["not_worse_than_production"]["detail"]
    with pytest.raises(GateRefusedError, match="credit_score: missing-refused"):
        run(settings)


def test_a_probability_of_default_has_a_floor_that_a_setting_can_raise(settings: Settings) -> None:
    run(replace(settings, pd_floor=0.05))
    folder = Path(mlflow.artifacts.download_artifacts("models:/credit-risk@production"))
    assert json.loads((folder / "contract.json").read_text())["probability_limits"]["floor"] == 0.05
    assert mlflow.pyfunc.load_model(str(folder)).predict(generate(500, seed=9)).min() == pytest.approx(0.05)


def test_worker_0_searches_then_trains_the_final_model_and_the_others_only_search(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    study = f"sqlite:///{settings.work_dir.parent}/study.db"
    searching = replace(
        settings, trials=2, study_storage=study, hyperparameters=replace(settings.hyperparameters, epochs=1)
    )
    with caplog.at_level("INFO"), pytest.raises(TrackingError, match="worker 0"):
        run(replace(searching, worker=1, wait_seconds=0))
    # The end-to-end test waits for this line before it starts worker 0.
    assert "waiting for worker 0" in caplog.text
    final = run(searching)
    assert final.moved_pointer
    assert run(replace(searching, trials=3, worker=1)).version is None
    trials = mlflow.search_runs(
        experiment_names=["credit-risk"], filter_string=f"tags.`mlflow.parentRunId` = '{final.run_id}'"
    )
    assert sorted(trials["tags.worker"]) == ["0", "0", "1"]
    assert len(mlflow.search_runs(experiment_names=["credit-risk"])) == 4


def start_and_kill(work_dir: Path, train: Callable[[], object], number: signal.Signals) -> int:
    """Train in a separate process, send it a signal once there is a checkpoint, and return its exit code."""
    # A forked process has already imported everything that takes seconds to import.
    process = multiprocessing.get_context("fork").Process(target=train)
    process.start()
    deadline = time.monotonic() + 120
    while not list(work_dir.glob("checkpoint-*.pt")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid or 0, number)
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def test_a_terminated_process_resumes_the_same_run(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--data=synthetic", "--synthetic-rows=3000", "--hidden=16", "--heads=5", "--epochs=40"]
    arguments += ["--patience=2", "--maximum-ece=0.2", "--minimum-air=0", "--learning-rate=0.02"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.tracking_uri)
    monkeypatch.setenv("TRAINER_WORK_DIR", str(settings.work_dir))
    assert start_and_kill(settings.work_dir, lambda: sys.exit(main(arguments)), signal.SIGTERM) == 143
    (note,) = settings.work_dir.glob("run-*.txt")
    run_id = note.read_text()
    assert MlflowClient(settings.tracking_uri).get_run(run_id).info.status == "KILLED"
    caplog.set_level("INFO")
    assert run(parse(arguments, os.environ)).run_id == run_id
    assert "resuming after epoch" in caplog.text
    assert list(settings.work_dir.iterdir()) == []


def test_a_process_that_was_lost_with_its_node_resumes_the_same_run(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """A process killed with SIGKILL cannot update its run, which stays RUNNING."""
    long = replace(settings, hyperparameters=replace(settings.hyperparameters, epochs=40, patience=2))
    assert start_and_kill(settings.work_dir, lambda: run(long), signal.SIGKILL) == -signal.SIGKILL
    (note,) = settings.work_dir.glob("run-*.txt")
    lost = note.read_text()
    assert MlflowClient(settings.tracking_uri).get_run(lost).info.status == "RUNNING"
    caplog.set_level("INFO")
    result = run(long)
    assert (result.run_id, result.version) == (lost, "1")
    assert "resuming after epoch" in caplog.text


def test_credit_practice_from_the_data_to_the_contract(settings: Settings) -> None:
    """Weighted rows, class weights, a split by time and a default rate through the cycle, in one declaration."""
    document = json.loads(settings.features.read_text(encoding="utf-8"))
    features = settings.work_dir.parent / "features.json"
    features.write_text(json.dumps({**document, "weight_column": "copies", "date_column": "granted"}))
    frame = generate(3_000, 0)
    days = pd.date_range("2024-01-01", periods=100).strftime("%Y-%m-%d")
    frame = frame.assign(granted=days[frame.index % 100], copies=1.0 + frame.index % 2)
    practice = replace(
        with_data(settings, frame),
        features=features,
        split=Split.TIME,
        default_rate=0.04,
        pd_floor=0.0005,
        hyperparameters=replace(settings.hyperparameters, class_weight="balanced"),
    )
    first = run(practice)
    second = run(replace(practice, seed=1))
    folders = [Path(mlflow.artifacts.download_artifacts(f"models:/credit-risk/{version}")) for version in "12"]
    contract = json.loads((folders[0] / "contract.json").read_text())
    jsonschema.validate(contract, json.loads((REPOSITORY / "contracts/model-contract.schema.json").read_text()))
    assert contract["default_rate"] == 0.04
    assert not {"copies", "granted"} & {feature["name"] for feature in contract["features"]}
    assert contract["probability_limits"]["floor"] >= 0.0005

    newest = frame[frame.index % 100 >= 80]
    target, weight = 1.0 - newest["loan_paid_back"], newest["copies"].to_numpy()
    champion, challenger = (mlflow.pyfunc.load_model(str(folder)).predict(newest) for folder in folders)
    assert np.average(champion, weights=weight) == pytest.approx(0.04, abs=0.01)
    assert first.metrics["roc_auc"] == pytest.approx(roc_auc_score(target, champion, sample_weight=weight))
    # The calibration is judged before the shift, or it would be refused: a fifth of the rows defaulted.
    gates = mlflow.artifacts.load_dict(f"runs:/{first.run_id}/gates.json")
    assert "before the shift to the default rate 0.04" in gates["ece"]["detail"]
    assert first.metrics["ece"] < 0.1 < expected_calibration_error(target.to_numpy(), champion, weight)
    # Champion and challenger are compared on the same newest rows, by the same weights.
    compared = compare_auc(
        target.to_numpy(), champion.astype(float), challenger.astype(float), weight, seed=practice.seed + 1
    )
    gates = mlflow.artifacts.load_dict(f"runs:/{second.run_id}/gates.json")
    assert gates["not_worse_than_production"]["value"] == pytest.approx(compared.lower_bound)

    logged = mlflow.get_run(first.run_id).data
    said = {"split": "time", "default_rate": "0.04", "class_weight": "balanced", "weight_column": "copies"}
    assert said.items() <= logged.params.items()
    assert logged.params["test_dates"] == "2024-03-21 to 2024-04-09"
    card = logged.tags["mlflow.note.content"]
    for part in (
        "split by granted: training rows of 2024-01-01 to 2024-03-20, test rows of 2024-03-21 to 2024-04-09",
        "Rows count by copies",
        "Through the cycle: the log-odds are shifted by -",
        "to a mean probability of 0.04",
    ):
        assert part in card


def test_without_another_default_rate_nothing_is_shifted(settings: Settings) -> None:
    result = run(settings)
    folder = Path(mlflow.artifacts.download_artifacts("models:/credit-risk@production"))
    assert json.loads((folder / "contract.json").read_text())["default_rate"] is None
    logged = mlflow.get_run(result.run_id).data
    assert "Through the cycle" not in logged.tags["mlflow.note.content"]
    assert "default_rate" not in logged.params
    assert logged.params["split"] == "shuffled"
