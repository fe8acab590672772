"""Metrics: what the operator reads as agreed, and the reference scores in the buckets of the live ones."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from scorer.answers import Decision, ModelReference, Score, WarningCode
from scorer.canary.arm_metrics import ArmMetrics
from scorer.canary.pair_metrics import PairMetrics, Side
from scorer.contract import Histogram
from scorer.decision_log.metrics import LogMetrics
from scorer.metrics import SCORE_BUCKETS, Metrics
from scorer.tracing.export import SpanMetrics
from unit.scorer.contracts import agreement


def buckets(metrics: Metrics, name: str) -> dict[str, float]:
    text = generate_latest(metrics.registry).decode()
    (family,) = [family for family in text_string_to_metric_families(text) if family.name == name]
    return {sample.labels["le"]: sample.value for sample in family.samples if sample.name == f"{name}_bucket"}


def test_the_reference_scores_have_the_live_scores_buckets_so_that_psi_can_join_them() -> None:
    metrics = Metrics()
    edges = tuple(edge / 20 for edge in range(21))
    metrics.serving("credit-risk", "7", Histogram(edges, tuple(range(1, 21))))
    reference = buckets(metrics, "scorer_reference_probability_of_default")
    assert list(reference) == list(buckets(metrics, "scorer_probability_of_default"))
    assert list(reference.values()) == [sum(range(1, count + 1)) for count in range(1, 21)]
    assert metrics.registry.get_sample_value("scorer_reference_probability_of_default_count") == 210


@pytest.mark.parametrize(
    ("edges", "counts"), [((0.0, 1.0), (100,)), ((0.0, 0.5, 1.0), (50, 50)), ((0.0, 0.125, 0.6, 1.0), (10, 60, 30))]
)
def test_a_reference_with_other_edges_is_split_in_proportion(edges: tuple[float, ...], counts: tuple[int, ...]) -> None:
    metrics = Metrics()
    metrics.serving("credit-risk", "7", Histogram(edges, counts))
    reference = buckets(metrics, "scorer_reference_probability_of_default")
    assert reference["+Inf"] == sum(counts)
    for bucket in SCORE_BUCKETS:
        below = sum(
            count * min(max((bucket - lower) / (upper - lower), 0.0), 1.0)
            for lower, upper, count in zip(edges, edges[1:], counts, strict=False)
        )
        assert reference[str(bucket)] == pytest.approx(below)


def test_without_a_model_there_is_no_reference() -> None:
    assert b"scorer_reference_probability_of_default_bucket" not in generate_latest(Metrics().registry)


def score(version: str, decision: Decision) -> Score:
    return Score("r", 0.2, 573, decision, ModelReference("credit-risk", version), "pod")


def test_both_arms_metrics_have_the_agreed_names_types_and_labels() -> None:
    metrics = Metrics()
    arms = ArmMetrics(metrics.registry)
    for arm, version in (("stable", "3"), ("canary", "4")):
        arms.answered(arm, version, score(version, "approve"), 0.001)
        arms.answered(arm, version, score(version, "decline"), 0.001)
    for outcome in ("refused", "error", "timeout", "unreachable", "wrong-version", "skipped"):
        arms.failed("4", outcome, 0.2)
    pairs = PairMetrics(metrics.registry)
    sides = [Side(n / 20, "approve" if n < 10 else "decline", "R1") for n in range(21)]
    for champion, canary in itertools.product(sides, sides):
        pairs.compared("4", champion, canary, [("gender", "Female")], explained=True)
    pairs.compared("4", Side(0.1, "approve"), sides[0], [], explained=True)
    text = generate_latest(metrics.registry).decode()
    families: dict[str, Any] = {family.name: family for family in text_string_to_metric_families(text)}
    for listed in agreement("metrics.json")["metrics"]:
        family = families[listed["name"].removesuffix("_total")]
        assert family.type == listed["type"]
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                labels = {name: value for name, value in sample.labels.items() if name != "le"}
                assert set(labels) == set(listed["labels"])
                for name, allowed in listed["labels"].items():
                    assert allowed is None or labels[name] in allowed
        for name, allowed in listed["labels"].items():
            assert allowed is None or {sample.labels[name] for sample in family.samples} == set(allowed)


def test_published_metrics_have_the_agreed_names_types_and_labels() -> None:
    metrics = Metrics()
    PairMetrics(metrics.registry)
    SpanMetrics(metrics.registry)
    log = LogMetrics(metrics.registry)
    codes: Any = get_args(WarningCode)
    metrics.warned([("income", code, 2) for code in codes])
    log.fsync.observe(0.001)
    for outcome in ("scored", "refused"):
        metrics.rows.labels("batch", outcome)
    text = generate_latest(metrics.registry).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    # Of the others, whose metrics need more than these objects, tests/contract knows the labels.
    published = [found for found in agreement("metrics.json")["published"] if found["part"] == "scorer"]
    here = [found for found in published if found["name"].removesuffix("_total") in families]
    assert {found["name"] for found in published if found not in here} == {
        "scorer_access_denied_total", "scorer_client_requests_total", "scorer_shadow_dropped_total",
        "scorer_reference_probability_of_default",
    }  # fmt: skip
    for listed in here:
        family = families[listed["name"].removesuffix("_total")]
        assert family.type == listed["type"]
        found = [sample.labels for sample in family.samples if sample.name == listed["name"]]
        for name, allowed in listed["labels"].items():
            assert allowed is None or [labels[name] for labels in found] == allowed
        assert all(set(labels) == set(listed["labels"]) for labels in found)
    assert metrics.registry.get_sample_value("scorer_input_warnings_total", {"field": "income", "code": codes[0]}) == 2
