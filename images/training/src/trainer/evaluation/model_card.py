"""The model card (Mitchell et al., "Model Cards for Model Reporting", 2019) in Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from trainer.data.declaration import FeatureDeclaration
from trainer.evaluation.evaluate import Evaluation
from trainer.evaluation.gates import Gate


def write_card(
    evaluation: Evaluation,
    *,
    gates: Sequence[Gate],
    declaration: FeatureDeclaration,
    full_declaration: FeatureDeclaration,
    source: str,
    rows: tuple[int, int],
    git_revision: str,
) -> str:
    """Describe a model for those who approve it, use it or are scored by it.

    Args:
        evaluation: The measurements.
        gates: All gates with their verdicts.
        declaration: The features that the model uses.
        full_declaration: Those, and the protected attributes it may not use.
        source: Where the data came from.
        rows: Number of training and of test rows.
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
        f"decision. An application is approved below {contract.decision_threshold:.4f}. Not for other products, "
        "populations or purposes, and not as the sole basis of an adverse decision.",
        "",
        "## Data",
        f"{source}: {rows[0]} training and {rows[1]} test rows, split by content. SHA-256 "
        f"`{contract.training_data_sha256}`; code revision `{git_revision}`.",
        "",
        *_missing_values(declaration, evaluation),
        "",
        "## Metrics on the test rows",
        *_table(("metric", "value"), ((k, f"{v:.4f}") for k, v in asdict(evaluation.metrics).items())),
        "",
        "## Gates",
        *_table(("gate", "verdict"), ((gate.name, str(gate)) for gate in gates)),
        "",
        "## Protected attributes",
        f"Used as features: {', '.join(used) or 'none'}. Not used: {', '.join(excluded) or 'none'}. "
        "The service never reports a protected attribute as a reason.",
        "",
        *_table(
            ("attribute", "group", "rows", "AUC", "approval rate", "adverse-impact ratio"),
            (
                (
                    g.attribute,
                    g.group,
                    g.rows,
                    _number(g.roc_auc),
                    _number(g.approval_rate),
                    _number(g.adverse_impact_ratio),
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
        "Trained only on loans that were granted (no reject inference), on the economic conditions in which the data "
        "was collected, and on values within the declared ranges; numbers beyond the training data's range are read as "
        f"its nearer end. Probabilities stay within {contract.probability_limits.floor:g} to "
        f"{contract.probability_limits.ceiling:g}, the most that the out-of-fold predictions support. Groups of fewer "
        "than 50 test rows are too small for an adverse-impact ratio.",
        "",
    ]
    return "\n".join(lines)


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


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows),
    ]
