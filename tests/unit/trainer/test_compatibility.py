import json
from typing import Any

import pytest

from conftest import REPOSITORY
from trainer.export.compatibility import REMEDIES, Code, incompatibilities
from trainer.export.contract import Contract

CASES = json.loads((REPOSITORY / "contracts/cases/compatibility.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: str(case["name"]))
def test_the_trainer_follows_the_shared_compatibility_rule(case: dict[str, Any]) -> None:
    champion, challenger = (Contract.model_validate(case[side]) for side in ("champion", "challenger"))
    found = [
        {"feature": problem.feature, "code": str(problem.code)} for problem in incompatibilities(champion, challenger)
    ]
    assert found == case["problems"]


def test_the_codes_are_those_of_the_shared_rule_and_each_has_a_remedy() -> None:
    assert {str(code) for code in Code} == set(CASES["codes"])
    assert set(REMEDIES) == set(Code)
