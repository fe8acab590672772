"""The drift of each feature in a run's summary: that of a drift report about the same applications."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from creditrisk_scoring.distributions import REFERENCE
from creditrisk_scoring.errors import UsageError
from creditrisk_scoring.scoring import load_version, score
from decisions.drift.bins import Bins
from decisions.drift.contract import read_drift_contract
from decisions.drift.distance import psi
from decisions.drift.reference import read_reference as read_for_reports
from scorer.model.scorecard import Scorecard
from unit.creditrisk_scoring.applications import applications, write_input
from unit.creditrisk_scoring.conftest import Ended
from unit.scorer.graded_model import GRADED_CONTRACT
from unit.scorer.missing_model import write_model

Bulk = Callable[..., Ended]
NUMBERS = {"income": [100_000.0, 200_000.0], "bureau_score": [300.0, 612.0, 701.5], "debt_ratio": [0.3, 0.7]}
WORDS = {"home": ["own", "rent"], "purpose": ["Car", "Home", "None"], "region": ["north", "south"],
         "employer": ["A", "B"]}  # fmt: skip
DOCUMENT: dict[str, Any] = {
    "format_version": 1, "training_data_sha256": "0" * 64,
    "features": {
        **{name: {"kind": "numeric", "edges": edges, "counts": [10.0, 20.5, 30.0, 40.0][: len(edges) + 1],
                  "missing": 3.0} for name, edges in NUMBERS.items()},
        **{name: {"kind": "categorical", "counts": dict.fromkeys(words, 25.0), "missing": 4.0, "other": 5.0}
           for name, words in WORDS.items()},
    },
}  # fmt: skip


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """A version with a training reference."""
    (tmp_path / "version").mkdir()
    folder = write_model(tmp_path / "version", **GRADED_CONTRACT)
    (folder / REFERENCE).write_text(json.dumps(DOCUMENT))
    return folder


def expected_psi(folder: Path, table: pa.Table) -> dict[str, float]:
    """Return what a drift report says of valid applications, by its own code but for the counting."""
    contract = read_drift_contract((folder / "contract.json").read_bytes())
    reference = read_for_reports((folder / REFERENCE).read_bytes(), contract)
    missing: dict[str, set[object]] = {
        "bureau_score": {999.0, -1.0, 500.0},
        "debt_ratio": {-99.9},
        "purpose": {"unknown"},
    }
    found = {}
    for bins in Bins.of_training(contract, reference).features:
        name = bins.feature.name
        counts = np.zeros(bins.count)
        for value in table[name].to_pylist():
            if value is None or value in missing.get(name, ()):
                counts[0] += 1
            elif name in WORDS:
                counts[WORDS[name].index(str(value)) + 2 if str(value) in WORDS[name] else 1] += 1
            else:
                counts[2 + sum(np.float32(edge) <= np.float32(value) for edge in NUMBERS[name])] += 1
        ours, theirs = (bins.compared(of) for of in (counts, bins.of_reference(reference.features[name])))
        found[name] = float(psi(ours, theirs))
    return found


def test_each_feature_s_psi_is_that_of_a_drift_report_of_the_valid_rows(
    bulk: Bulk, described: Path, tmp_path: Path
) -> None:
    source = write_input(tmp_path / "in", {"a.parquet": 2_300, "b.parquet": 700})
    ended = bulk(source, tmp_path / "out", "--model", str(described), "--shard-rows", "500")
    assert ended.code == 0, ended.messages
    table = pa.concat_tables(pq.read_table(source / name) for name in ("a.parquet", "b.parquet"))
    valid = table.filter(pa.compute.greater_equal(table["income"], 0.0))
    assert valid.num_rows == ended.summary["scored"] < 3_000
    assert ended.summary["feature_psi"] == pytest.approx(expected_psi(described, valid), abs=2e-6)


def test_a_version_without_a_training_reference_has_no_drift_of_features(bulk: Bulk, tmp_path: Path) -> None:
    ended = bulk(write_input(tmp_path / "in", {"a.parquet": 10}), tmp_path / "out")
    assert (ended.code, ended.summary["feature_psi"]) == (0, None)


def test_a_feature_that_was_not_counted_in_every_shard_has_no_psi_of_the_others(
    bulk: Bulk, described: Path, tmp_path: Path
) -> None:
    """As of a process that got no training reference from the registry, beside one that did."""
    source = write_input(tmp_path / "in", {"a.parquet": 1_000})
    options = ("--model", str(described), "--shard-rows", "500")
    (described / REFERENCE).rename(tmp_path / REFERENCE)
    assert bulk(source, tmp_path / "out", *options).summary["feature_psi"] is None
    (tmp_path / REFERENCE).rename(described / REFERENCE)
    notes = tmp_path / "out" / "_bulk" / "done"
    (notes / "part-00001.json").unlink()
    ended = bulk(source, tmp_path / "out", *options)
    assert (ended.code, ended.summary["feature_psi"]) == (0, {}), ended.messages
    (notes / "part-00000.json").unlink()
    assert bulk(source, tmp_path / "out", *options).summary["feature_psi"].keys() == {*NUMBERS, *WORDS}


def test_without_scored_rows_there_is_no_drift(bulk: Bulk, described: Path, tmp_path: Path) -> None:
    ended = bulk(write_input(tmp_path / "in", {"a.parquet": 0}), tmp_path / "out", "--model", str(described))
    assert (ended.code, ended.summary["feature_psi"]) == (0, {})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 2}, "has format version 2; allowed: 1"),
        ({"training_data_sha256": "1"}, "is of other training data than contract.json"),
        ({"features": {}}, "does not fit the contract's income, home"),
        ({"features": {**DOCUMENT["features"], "income": DOCUMENT["features"]["home"]}}, "the contract's income;"),
        ({"features": 1}, "is not a training reference"),
    ],
)
def test_a_training_reference_of_something_else_is_refused(described: Path, change: dict[str, Any], words: str) -> None:
    (described / REFERENCE).write_text(json.dumps({**DOCUMENT, **change}))
    with pytest.raises(UsageError, match=words):
        load_version(described, Scorecard(600, 50, 20))


def test_a_value_that_is_an_edge_belongs_to_the_bin_above_it(described: Path) -> None:
    version = load_version(described, Scorecard(600, 50, 20))
    # .7 is no float32: the nearest one is below it, and so is the application's.
    seen: list[dict[str, Any]] = []
    row = {**applications(1).to_pylist()[0], "income": 50_000.0, "debt_ratio": 0.7}
    batch = pa.RecordBatch.from_pylist([row])
    assert version.reference is not None
    reference = version.reference
    score(batch, version, seen=lambda rows, valid: seen.append(reference.count(rows, valid, version.contract)))
    assert seen[0]["debt_ratio"].tolist() == [0, 0, 1, 0]
