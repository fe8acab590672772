"""How two versions of a model differ: parameters, metrics, gates, contract, fairness and calibration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kubectl_promotion.cluster.registry import ModelVersion
from promoter.decision.compatibility import Contract, ContractError, problems, read_contract
from promoter.words.times import local_time

# The four-fifths rule.
LOWEST_ADVERSE_IMPACT_RATIO = 0.8
_HIGHER_IS_BETTER = {"test_roc_auc", "test_gini", "test_ks"}
_LOWER_IS_BETTER = {"test_brier", "test_log_loss", "test_ece"}
_GROUP_METRICS = ("approval_rate", "adverse_impact_ratio", "roc_auc")


@dataclass(frozen=True)
class Row:
    """One thing in both versions; None where a version does not have it.

    Attributes:
        note: What the difference means, "" if that depends.
    """

    name: str
    before: str | float | None
    after: str | float | None
    note: str = ""

    @property
    def differs(self) -> bool:
        """Return whether the versions differ in it."""
        return self.before != self.after

    def to_document(self) -> dict[str, object]:
        """Return the row for programs."""
        return {"name": self.name, "before": self.before, "after": self.after, "note": self.note}


@dataclass(frozen=True)
class Section:
    """Rows of one kind, and what they say together."""

    title: str
    rows: tuple[Row, ...]
    summary: str = ""

    def to_document(self) -> dict[str, object]:
        """Return the section for programs."""
        return {"title": self.title, "summary": self.summary, "rows": [row.to_document() for row in self.rows]}


def compare(before: ModelVersion, after: ModelVersion) -> tuple[Section, ...]:
    """Return the differences of a version from an earlier one, and the figures that people decide by."""
    return (
        _origin(before, after),
        _changed("Parameters", before.parameters, after.parameters),
        _metrics(before, after),
        _changed("Gates", _with_prefix(before.tags, "gate."), _with_prefix(after.tags, "gate."), all_rows=True),
        _contract(before.contract, after.contract),
        _fairness(before.metrics, after.metrics),
        _calibration(before.metrics, after.metrics),
    )


def _origin(before: ModelVersion, after: ModelVersion) -> Section:
    rows = (
        Row("created", local_time(before.created_at), local_time(after.created_at)),
        Row("run", before.run_id or None, after.run_id or None),
        *(Row(name, before.tags.get(tag), after.tags.get(tag), same if before.tags.get(tag) == after.tags.get(tag)
              else "") for name, tag, same in (("revision", "git.revision", "the same code"),
                                               ("data", "data.sha256", "the same data"))),
    )  # fmt: skip
    return Section("Versions", rows)


def _changed(title: str, before: dict[str, str], after: dict[str, str], *, all_rows: bool = False) -> Section:
    rows = tuple(Row(name, before.get(name), after.get(name)) for name in sorted(before | after))
    different = tuple(row for row in rows if row.differs)
    summary = f"{len(different)} of {len(rows)} differ" if rows else "none are recorded"
    return Section(title, rows if all_rows else different, summary)


def _metrics(before: ModelVersion, after: ModelVersion) -> Section:
    old, new = (_headline(version) for version in (before, after))
    rows = tuple(Row(name, old.get(name), new.get(name), _direction(name, old.get(name), new.get(name)))
                 for name in sorted(old | new))  # fmt: skip
    return Section("Metrics", rows, "on each version's own test rows" if rows else "none are recorded")


def _headline(version: ModelVersion) -> dict[str, float]:
    """Return the metrics on the test rows; those in the version's tags outlive the run."""
    tagged = {f"test_{name}": float(text) for name, text in _with_prefix(version.tags, "metric.").items()
              if _is_number(text)}  # fmt: skip
    return tagged | {name: value for name, value in version.metrics.items()
                     if name.startswith("test_") or name == "decision_threshold"}  # fmt: skip


def _direction(name: str, before: float | None, after: float | None) -> str:
    if before is None or after is None or before == after or name not in _HIGHER_IS_BETTER | _LOWER_IS_BETTER:
        return ""
    return "better" if (after > before) == (name in _HIGHER_IS_BETTER) else "worse"


def _contract(before: dict[str, object] | None, after: dict[str, object] | None) -> Section:
    try:
        old, new = (None if document is None else read_contract(document) for document in (before, after))
    except ContractError as error:
        return Section("Contract", (), f"cannot be compared: {error}")
    if old is None or new is None:
        return Section("Contract", (), "cannot be compared: MLflow does not serve contract.json")
    found = problems(old, new)
    rows = (
        *(Row(name, _shown((before or {}).get(name)), _shown((after or {}).get(name)))
          for name in ("format_version", "decision_threshold", "default_rate")),
        *_features(old, new),
        *(Row(problem.feature, None, None, f"{problem.code}: {problem.detail}") for problem in found),
    )  # fmt: skip
    summary = (
        f"incompatible: {len(found)} problems" if found else "compatible: all clients can keep sending what they send"
    )
    return Section("Contract", tuple(row for row in rows if row.differs or row.note), summary)


def _features(old: Contract, new: Contract) -> Iterator[Row]:
    before, after = ([feature.name for feature in contract.features] for contract in (old, new))
    yield from (Row(name, None, "used", "new feature") for name in after if name not in before)
    yield from (Row(name, "used", None, "no longer used") for name in before if name not in after)


def _fairness(before: dict[str, float], after: dict[str, float]) -> Section:
    rows, low = [], 0
    for group in sorted(_groups(before) | _groups(after)):
        for metric in _GROUP_METRICS:
            key = f"group.{group}.{metric}"
            old, new = before.get(key), after.get(key)
            below = metric == "adverse_impact_ratio" and new is not None and new < LOWEST_ADVERSE_IMPACT_RATIO
            low += below
            if old is not None or new is not None:
                note = f"below {LOWEST_ADVERSE_IMPACT_RATIO:g}, the four-fifths rule" if below else ""
                rows.append(Row(f"{group.replace('.', ' ', 1)} {metric}", old, new, note))
    if not rows:
        return Section("Fairness", (), "no groups are recorded")
    return Section("Fairness", tuple(rows), f"{low} groups below the four-fifths rule" if low else
                   "every group meets the four-fifths rule")  # fmt: skip


def _groups(metrics: dict[str, float]) -> set[str]:
    return {name.removeprefix("group.").rpartition(".")[0] for name in metrics if name.startswith("group.")}


def _calibration(before: dict[str, float], after: dict[str, float]) -> Section:
    rows = [Row("expected calibration error", before.get("test_ece"), after.get("test_ece"),
                _direction("test_ece", before.get("test_ece"), after.get("test_ece")))]  # fmt: skip
    grades = dict.fromkeys(name.split(".")[1] for name in (*before, *after) if name.startswith("grade."))
    for grade in grades:
        for kind, words in (("expected_default_rate", "expected"), ("default_rate", "observed")):
            key = f"grade.{grade}.{kind}"
            rows.append(Row(f"grade {grade} {words}", before.get(key), after.get(key)))
    known = tuple(row for row in rows if row.before is not None or row.after is not None)
    return Section("Calibration", known, "" if known else "none is recorded")


def _with_prefix(tags: dict[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in tags.items() if name.startswith(prefix)}


def _shown(value: object) -> str | float | None:
    return value if isinstance(value, str | float | int) or value is None else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def to_document(before: ModelVersion, after: ModelVersion, sections: Iterable[Section]) -> dict[str, object]:
    """Return a comparison for programs."""
    return {
        "model": after.model,
        "before": before.version,
        "after": after.version,
        "sections": [section.to_document() for section in sections],
    }
