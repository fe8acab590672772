"""The model card (Mitchell et al., "Model Cards for Model Reporting", 2019) in Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from trainer.data.declaration import FeatureDeclaration
from trainer.data.selection import GRANTED_ONLY, Selection
from trainer.evaluation.default_rates import Rate
from trainer.evaluation.evaluate import Evaluation
from trainer.evaluation.fairness import MINIMUM_GROUP_ROWS, GroupResult
from trainer.evaluation.gates import Gate
from trainer.evaluation.master_scale import GradeResult
from trainer.evaluation.swap_set import SwapSet
from trainer.export.contract import ApprovalRate, DecisionRule, ExpectedCost, Fixed


def write_card(
    evaluation: Evaluation,
    *,
    gates: Sequence[Gate],
    swap_set: SwapSet | None,
    declaration: FeatureDeclaration,
    full_declaration: FeatureDeclaration,
    source: str,
    rows: tuple[int, int],
    split: str,
    weights: str,
    selection: Selection | None,
    git_revision: str,
) -> str:
    """Describe a model for those who approve it, use it or are scored by it.

    Args:
        evaluation: The measurements.
        gates: All gates with their verdicts.
        swap_set: On whom the Production model decides differently; None if there is none to compare with.
        declaration: The features that the model uses.
        full_declaration: Those, and the protected attributes it may not use.
        source: Where the data came from.
        rows: Number of training and of test rows.
        split: How the test rows were chosen, and the dates of both parts.
        weights: What rows and classes count; empty if all count the same.
        selection: Whom data from decisions tells of; None for other data.
        git_revision: Revision of the code.
    """
    contract = evaluation.contract
    used = [feature.name for feature in declaration.features if feature.protected]
    excluded = [f.name for f in full_declaration.features if f.protected and f.name not in used]
    lines = [
        f"# Model card: {contract.model_name}",
        "",
        "Probability that a borrower defaults, from a packed ensemble of fully connected networks, calibrated on "
        "out-of-fold predictions.",
        "",
        "## Intended use",
        "Ranking and pricing applications like those in the training data, with a person accountable for each "
        "decision. Not for other products, populations or purposes, and not as the sole basis of an adverse decision.",
        "",
        "## Data",
        f"{source}: {rows[0]} training and {rows[1]} test rows, {split}. SHA-256 "
        f"`{contract.training_data_sha256}`; code revision `{git_revision}`.",
        *([weights] if weights else []),
        *([selection.in_words] if selection else []),
        "",
        *_missing_values(declaration, evaluation),
        "",
        "## Metrics on the test rows",
        *_shift(evaluation),
        *_table(("metric", "value"), ((k, f"{v:.4f}") for k, v in asdict(evaluation.metrics).items())),
        "",
        *_decisions(evaluation),
        *_calibration(evaluation),
        *_swap_set(swap_set),
        "## Gates",
        *_table(("gate", "verdict"), ((gate.name, str(gate)) for gate in gates)),
        "",
        "## Protected attributes",
        f"Used as features: {', '.join(used) or 'none'}. Not used: {', '.join(excluded) or 'none'}. "
        "The service never reports a protected attribute as a reason.",
        "",
        *_table(
            ("attribute", "group", "rows", "AUC", "approval rate", "adverse-impact ratio", "95 % upper bound"),
            (
                (
                    g.attribute,
                    g.group,
                    g.rows,
                    _number(g.roc_auc),
                    _number(g.approval_rate),
                    _number(g.adverse_impact_ratio),
                    _number(g.highest_ratio),
                )
                for g in evaluation.groups
            ),
        ),
        "",
        "## Monotonic features",
        *_monotonic(declaration),
        "",
        "## Ignored fields",
        f"Clients may keep sending these fields; the service discards them: {', '.join(contract.ignored) or 'none'}.",
        "",
        "## Feature importance",
        *_table(
            ("feature", "AUC lost when shuffled"),
            ((k, f"{v:.4f}") for k, v in sorted(evaluation.importance.items(), key=lambda item: -item[1])),
        ),
        "",
        "## Limits",
        f"{selection.limit if selection else GRANTED_ONLY}, on the economic conditions in which the data was "
        "collected, and on values within the declared ranges; numbers beyond the training data's range are read as "
        f"its nearer end. Probabilities stay within {contract.probability_limits.floor:g} to "
        f"{contract.probability_limits.ceiling:g}, the most that the out-of-fold predictions support. "
        + _small_groups(evaluation.groups),
        "",
    ]
    return "\n".join(lines)


def _decisions(evaluation: Evaluation) -> list[str]:
    """Return how the decision threshold was chosen, and whom it approves."""
    decisions = evaluation.decisions
    return [
        "## Decisions",
        f"Applications are approved below {evaluation.contract.decision_threshold:.4f}: "
        f"{_rule_in_words(evaluation.contract.decision_rule)}. That approves {decisions.approval_rate:.1%} of the test "
        "rows. Intervals of default rates are 95 % Jeffreys intervals.",
        "",
        *_outcomes({"approve": decisions.approved, "decline": decisions.declined}, "decision"),
        "",
    ]


def _rule_in_words(rule: DecisionRule) -> str:
    if isinstance(rule, ApprovalRate):
        return f"the threshold that approves {rule.approval_rate:.4g} of the out-of-fold predictions"
    if isinstance(rule, ExpectedCost):
        return (
            f"the threshold from which a loan's expected loss, at a loss given default of {rule.loss_given_default:g}, "
            f"exceeds its expected margin of {rule.margin:g}"
        )
    if isinstance(rule, Fixed):
        return "a threshold that people chose"
    return "where the Kolmogorov-Smirnov distance of the out-of-fold predictions is greatest"


def _calibration(evaluation: Evaluation) -> list[str]:
    """Return how expected default rates compare with observed ones, by band of probability and by declared grade."""
    before = "" if evaluation.contract.default_rate is None else " before the shift to another default rate"
    grades = evaluation.grades
    return [
        "## Calibration",
        f"The test rows by their probability of default. The expected default rate is the mean out-of-fold probability"
        f"{before}. `too low` and `too high` mean that it is outside of the observed rate's 95 % interval; 5 % of all "
        "lines are by chance.",
        "",
        *(["### Grades", *_expected_and_observed(grades, named=True), "", "### Probabilities"] if grades else []),
        *_expected_and_observed(evaluation.bands, named=False),
        "",
    ]


def _expected_and_observed(results: Sequence[GradeResult], *, named: bool) -> list[str]:
    head = ("probabilities", "rows", "expected", "observed", "interval", "expected rate")
    return _table(
        ("grade", *head) if named else head,
        (
            (
                *([result.name] if named else []),
                f"{result.lower_probability:g} to {result.upper_probability:g}",
                result.observed.rows,
                _share(result.expected),
                _share(result.observed.value),
                _interval(result.observed),
                result.verdict,
            )
            for result in results
        ),
    )


def _shift(evaluation: Evaluation) -> list[str]:
    """Return how far and why the model's probabilities differ from those that are measured."""
    if (rate := evaluation.contract.default_rate) is None:
        return []
    return [
        f"Through the cycle: the log-odds are shifted by {evaluation.shift:.3f}, to a mean probability of {rate:g} on "
        "the out-of-fold rows. The metrics, and the gate `ece`, compare the outcomes with the probabilities before "
        "that shift.",
        "",
    ]


def _swap_set(swap_set: SwapSet | None) -> list[str]:
    """Return whom the challenger would approve or decline instead of the champion."""
    if swap_set is None:
        return []
    return [
        "## Swap set",
        f"The test rows by the decisions of Production version {swap_set.champion} (threshold "
        f"{swap_set.champion_threshold:.4f}) and of this model ({swap_set.challenger_threshold:.4f}). Swapped in: only "
        "this model approves. Swapped out: only the Production model does.",
        "",
        *_outcomes({name.replace("_", " "): rate for name, rate in swap_set.cells.items()}, "part"),
        "",
    ]


def _outcomes(rates: Mapping[str, Rate], kind: str) -> list[str]:
    return _table(
        (kind, "rows", "default rate", "interval"),
        ((name, rate.rows, _share(rate.value), _interval(rate)) for name, rate in rates.items()),
    )


def _missing_values(declaration: FeatureDeclaration, evaluation: Evaluation) -> list[str]:
    """Return what may be missing or other, and how much of it there was in the training rows."""
    lines = []
    for feature in declaration.features:
        missing = f"{evaluation.missing_share[feature.name]:.1%}" if feature.may_be_missing else "not allowed"
        values = ", ".join(f"{value:g}" if isinstance(value, float) else value for value in feature.missing_values)
        other = evaluation.other_share.get(feature.name)
        lines.append((feature.name, missing, values or "-", "-" if other is None else f"{other:.1%}"))
    return [
        "### Missing values",
        *_table(("feature", "missing in the training rows", "values that mean missing", "other categories"), lines),
    ]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _interval(rate: Rate) -> str:
    low, high = rate.interval
    return f"{low:.2%} to {high:.2%}" if rate.rows else "-"


def _monotonic(declaration: FeatureDeclaration) -> list[str]:
    """Return which way the probability of default follows which features."""
    found = [(feature.name, feature.monotonic) for feature in declaration.features if feature.monotonic]
    if not found:
        return ["None: as any feature rises, the probability of default may rise and fall."]
    return [
        "By the construction of the network, whatever the application's other values are, the probability of default "
        "never falls as a feature that is increasing here rises, and never rises as one that is decreasing rises. "
        "Missing values and other categories are outside of the order.",
        "",
        *_table(("feature", "probability of default"), found),
    ]


def _small_groups(groups: Sequence[GroupResult]) -> str:
    """Say about which groups the test rows tell too little."""
    small = ", ".join(f"{group.attribute}={group.group} ({group.rows})" for group in groups if group.is_small) or "none"
    return f"Groups with too few test rows to judge how they are treated (fewer than {MINIMUM_GROUP_ROWS}): {small}."


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        # Names of features, categories and grades may hold a bar.
        *(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows),
    ]
