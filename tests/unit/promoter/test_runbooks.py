"""Every reason of the condition Degraded has its heading in docs/operations.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

from conftest import REPOSITORY
from promoter.decision import conditions

SOURCES = REPOSITORY / "operator/src/promoter"
DECIDING = {"_degraded", "_capacity", "_outage", "_autoscaling", "_not_kept"}
# A type of condition and a reason for its absence.
NOT_REASONS = {"Degraded", "AsExpected", "True", "False", "RegistryUnavailable"}
_REASON = re.compile("[A-Z][A-Za-z]+")


def trees() -> Iterator[tuple[Path, ast.Module]]:
    return ((path, ast.parse(path.read_text())) for path in SOURCES.rglob("*.py"))


def of_rollbacks() -> set[str]:
    """Return the reasons for which versions are rolled back."""
    calls = [node for _, tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    called = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "roll_back"]
    assert called
    return {ast.literal_eval(call.args[0]) for call in called}


def of_observations() -> set[str]:
    """Return the reasons that follow from what is observed, and those of calls that fail."""
    tree = ast.parse(Path(str(conditions.__file__)).read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert set(functions) >= DECIDING
    texts = {
        node.value
        for name in DECIDING
        for node in ast.walk(functions[name])
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _REASON.fullmatch(node.value)
    }
    faults = get_args(get_type_hints(conditions.degraded)["reason"])
    stalls = get_args(conditions.StallReason)
    return (texts - NOT_REASONS) | {*faults, *stalls, conditions.TARGET_NOT_FOUND}


def test_each_reason_has_a_runbook_and_each_runbook_a_reason() -> None:
    text = (REPOSITORY / "docs/operations.md").read_text()
    headings = re.findall(r"^### `(\w+)`$", text, re.MULTILINE)
    assert sorted(headings) == sorted(of_rollbacks() | of_observations())
