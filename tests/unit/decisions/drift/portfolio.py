"""Generated decisions as the archive keeps them, whose drift, defaults and training data are known."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

VERSION = UUID("7c1e33d0-0000-8000-8000-000000000007")
THRESHOLD = 0.31
GENDERS = ("Female", "Male")
PURPOSES = ("Car", "Home", "Other")
CLIENTS = ("branch", "partner", "web")
GRADES = (("A", 0.05), ("B", 0.15), ("C", 1.0))
_EDGES = tuple(n / 20 for n in range(21))
_REASONS = ("R01", "R02", "R03")
_TRAINING_ROWS = 100_000
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Habits:
    """How applicants are, and how many of them default of those for whom the model says so.

    Attributes:
        income: By what incomes are multiplied.
        missing_bureau: The share without a bureau score.
        new_purpose: The share with a purpose that the contract does not list.
        car: The share of car loans.
        default_factor: By what the odds of default are multiplied, against what the model says.
    """

    income: float = 1.0
    missing_bureau: float = 0.05
    new_purpose: float = 0.01
    car: float = 0.5
    default_factor: float = 1.0


@dataclass(frozen=True)
class Portfolio:
    """Decisions from a first day on, so many each day.

    Attributes:
        first: The first day.
        days: How many days.
        per_day: How many decisions on each.
        habits: Of applicants, from the days on that are their keys; those before are as in training.
        extra_features: How many more numbers an application has, for benchmarks.
    """

    first: date
    days: int
    per_day: int
    habits: dict[date, Habits] = field(default_factory=dict)
    extra_features: int = 0
    seed: int = 0

    def write(self, folder: Path) -> None:
        """Write contract.json, training-reference.json, the archive's files of each day, and outcomes.parquet."""
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(self.seed)
        training = _applicants(random, _TRAINING_ROWS, Habits(), self.extra_features)
        (folder / "contract.json").write_text(json.dumps(self.contract(training)))
        (folder / "training-reference.json").write_text(json.dumps(self.reference(training)))
        connection = duckdb.connect()
        for number in range(self.days):
            self._write_day(connection, folder, self.first + timedelta(days=number), random)
        connection.execute(
            f"COPY (FROM read_parquet('{folder}/outcomes/*.parquet')) TO '{folder}/outcomes.parquet' (FORMAT parquet)"
        )
        connection.close()

    def contract(self, training: dict[str, Array]) -> dict[str, Any]:
        score, _ = np.histogram(training["probability"], bins=np.array(_EDGES))
        features = [
            _numeric("income", "Gross income per year", "USD/year", training, "R01", monotonic="decreasing"),
            _numeric("bureau_score", "Bureau score", "points", training, "R02", missing=True),
            _categorical("purpose", "What the loan is for", PURPOSES, "R03", other=True),
            _categorical("gender", "Gender", GENDERS, "R04", protected=True),
            *(_numeric(f"extra_{n}", f"Number {n}", "", training, f"R{10 + n}") for n in range(self.extra_features)),
        ]
        return {
            "format_version": 4, "model_name": "credit-risk", "features": features, "ignored": [],
            "reference_applicant": {"income": 45000.0, "bureau_score": 680.0, "purpose": "Car", "gender": "Male"},
            "score_histogram": {"edges": _EDGES, "counts": score.tolist()}, "decision_threshold": THRESHOLD,
            "probability_limits": {"floor": 0.0008, "ceiling": 0.992},
            "decision_rule": {"method": "fixed"}, "default_rate": None, "training_data_sha256": "0" * 64,
            "grades": [{"name": name, "upper_probability": end, "expected_default_rate": end / 2}
                       for name, end in GRADES],
        }  # fmt: skip

    def reference(self, training: dict[str, Array]) -> dict[str, Any]:
        def numeric(name: str) -> dict[str, Any]:
            values = training[name][np.isfinite(training[name])]
            edges = np.unique(np.quantile(values, np.arange(1, 10) / 10))
            counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
            return {"kind": "numeric", "edges": edges.tolist(), "counts": counts.tolist(),
                    "missing": int(np.isnan(training[name]).sum())}  # fmt: skip

        def categorical(name: str, categories: tuple[str, ...]) -> dict[str, Any]:
            counts = {category: int((training[name] == category).sum()) for category in categories}
            return {"kind": "categorical", "counts": counts, "missing": 0,
                    "other": int((training[name] == "").sum())}  # fmt: skip

        names = ["income", "bureau_score", *(f"extra_{n}" for n in range(self.extra_features))]
        return {
            "format_version": 1, "training_data_sha256": "0" * 64,
            "features": {**{name: numeric(name) for name in names}, "purpose": categorical("purpose", PURPOSES),
                         "gender": categorical("gender", GENDERS)},
        }  # fmt: skip

    def _write_day(
        self, connection: duckdb.DuckDBPyConnection, folder: Path, day: date, random: np.random.Generator
    ) -> None:
        habits = next((self.habits[start] for start in sorted(self.habits, reverse=True) if start <= day), Habits())
        rows = pa.table(_applicants(random, self.per_day, habits, self.extra_features))
        midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
        step = max(1, 86_400_000 // (self.per_day + 1))
        extra = "".join(f", extra_{n}: extra_{n}" for n in range(self.extra_features))
        connection.register("applicants", rows)
        connection.execute(f"""
            CREATE OR REPLACE TEMP TABLE made AS
            SELECT *, {midnight} + n * {step} AS ms, lower(lpad(to_hex({midnight} + n * {step}), 12, '0')) AS head,
                   head[1:8] || '-' || head[9:12] || '-7000-8000-' || lower(lpad(to_hex(n), 12, '0')) AS id,
                   to_json({{income: income, bureau_score: CASE WHEN isfinite(bureau_score) THEN bureau_score END,
                             purpose: CASE WHEN purpose = '' THEN '{{"other":true}}'::JSON ELSE to_json(purpose) END,
                             gender: gender{extra}}})::VARCHAR AS inputs
            FROM (SELECT row_number() OVER () AS n, * FROM applicants)
        """)
        paths = [folder / f"archive/{name}/day={day}" for name in ("decisions", "decision_inputs")]
        for path in paths:
            path.mkdir(parents=True)
        connection.execute(f"""
            COPY (SELECT id, 'r' || n AS request_id, 0::INTEGER AS row, 'score' AS endpoint, role, client,
                         '{VERSION}' AS model_version, probability::FLOAT AS probability, 600::INTEGER AS points,
                         CASE WHEN probability < {THRESHOLD} THEN 'approve' ELSE 'decline' END AS decision, grade,
                         CASE WHEN n % 2 = 0 THEN [reason, 'R09'] END AS reasons, 1200::INTEGER AS latency_us,
                         'scoring-a' AS pod, '{UUID(int=1)}' AS log_id, n AS sequence, md5(id)::BLOB AS inputs_hash,
                         md5(id || 'p')::BLOB AS previous_hash, md5(id || 'h')::BLOB AS hash,
                         epoch_ms(ms) AT TIME ZONE 'UTC' AS time
                  FROM made ORDER BY n) TO '{paths[0]}/part-0.parquet' (FORMAT parquet, COMPRESSION zstd)
        """)
        connection.execute(f"""
            COPY (SELECT id, 'A-' || n AS applicant_id, md5(id)::BLOB AS salt, inputs FROM made ORDER BY n)
            TO '{paths[1]}/part-0.parquet' (FORMAT parquet, COMPRESSION zstd)
        """)
        (folder / "outcomes").mkdir(exist_ok=True)
        connection.execute(f"""
            COPY (SELECT id AS decision_id, CASE WHEN defaulted THEN 'defaulted' ELSE 'repaid' END AS outcome,
                         epoch_ms(ms) + to_months(age::INTEGER) AS observed_at
                  FROM made WHERE probability < {THRESHOLD} AND role <> 'shadow')
            TO '{folder}/outcomes/{day}.parquet' (FORMAT parquet)
        """)
        connection.unregister("applicants")


def _applicants(random: np.random.Generator, rows: int, habits: Habits, extra: int) -> dict[str, Array]:
    income = np.round(np.clip(random.lognormal(10.6, 0.5, rows) * habits.income, 0, 1e7), 2)
    bureau = np.round(np.clip(random.normal(680, 60, rows), 300, 850))
    gender = random.choice(GENDERS, rows)
    draw = random.random(rows)
    purpose = np.where(draw < habits.car, "Car", np.where(draw < habits.car + (1 - habits.car) / 2, "Home", "Other"))
    purpose = np.where(random.random(rows) < habits.new_purpose, "", purpose)
    log_odds = -2.2 - 1.3 * (np.log(income) - 10.6) - (bureau - 680) / 50 + random.normal(0, 0.3, rows)
    probability = np.clip(1 / (1 + np.exp(-log_odds)), 0.0008, 0.992)
    odds = probability / (1 - probability) * habits.default_factor
    grade = np.select([probability < end for _, end in GRADES], [name for name, _ in GRADES], GRADES[-1][0])
    return {
        "income": income, "bureau_score": np.where(random.random(rows) < habits.missing_bureau, np.nan, bureau),
        "purpose": purpose, "gender": gender, "probability": probability, "grade": grade,
        "client": random.choice(CLIENTS, rows), "role": np.where(random.random(rows) < 0.05, "shadow", "champion"),
        "reason": np.where(income < np.median(income), *_REASONS[:2]),
        "defaulted": random.random(rows) < odds / (1 + odds), "age": random.integers(1, 13, rows),
        **{f"extra_{n}": np.round(random.gamma(2, 10, rows), 3) for n in range(extra)},
    }  # fmt: skip


def _numeric(name: str, description: str, unit: str, training: dict[str, Array], code: str, *, missing: bool = False,
             monotonic: str | None = None) -> dict[str, Any]:  # fmt: skip
    values = training[name]
    return {"name": name, "kind": "numeric", "unit": unit, "minimum": 0.0, "maximum": 1e7, "missing": missing,
            "missing_values": [], "training_minimum": float(np.nanmin(values)),
            "training_maximum": float(np.nanmax(values)), "monotonic": monotonic, "description": description,
            "reason_code": code, "adverse_action": "", "protected": False}  # fmt: skip


def _categorical(name: str, description: str, categories: tuple[str, ...], code: str, *, other: bool = False,
                 protected: bool = False) -> dict[str, Any]:  # fmt: skip
    return {"name": name, "kind": "categorical", "categories": list(categories), "missing": False, "missing_values": [],
            "other": other, "monotonic": None, "description": description, "reason_code": code, "adverse_action": "",
            "protected": protected}  # fmt: skip
