"""The template files: one object per file."""

from __future__ import annotations

import pytest

from charts.rendering import SCENARIOS, render_by_template


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_template_file_renders_at_most_one_object(scenario: str) -> None:
    for template, documents in render_by_template(scenario).items():
        # The operator's Role and RoleBinding are one object that is repeated in each namespace it watches.
        objects = {(document["kind"], document["metadata"]["name"]) for document in documents}
        assert len(objects) == 1, f"{template} renders {sorted(objects)}"
        namespaces = [document["metadata"].get("namespace") for document in documents]
        assert len(namespaces) == len(set(namespaces)), template


def test_only_the_rbac_of_the_operator_is_repeated_and_once_per_namespace() -> None:
    repeated = {
        template: [document["metadata"]["namespace"] for document in documents]
        for scenario in SCENARIOS
        for template, documents in render_by_template(scenario).items()
        if len(documents) > 1
    }
    assert repeated == {
        "operator/templates/role.yaml": ["lending", "cards"],
        "operator/templates/role-approver.yaml": ["lending", "cards"],
        "operator/templates/rolebinding.yaml": ["lending", "cards"],
    }
