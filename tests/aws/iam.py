"""An evaluator of IAM identity policies, limited to the operators and wildcards that infra/aws uses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any


@dataclass(frozen=True)
class Call:
    """One AWS call: the action, the resource's ARN, and the context keys that conditions use."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.action} {self.resource} {dict(self.context) or ''}".rstrip()


def allowed(policies: Iterable[Mapping[str, Any]], call: Call) -> bool:
    """Return whether the policies together allow the call: at least one allows it and none denies it."""
    effects = {
        statement["Effect"]
        for policy in policies
        for statement in listed(policy["Statement"])
        if _applies(statement, call)
    }
    return "Allow" in effects and "Deny" not in effects


def may_assume(trust: Mapping[str, Any], provider: str, claims: Mapping[str, str]) -> bool:
    """Return whether a token of the identity provider with these claims can assume the role."""
    return any(
        statement["Effect"] == "Allow"
        and "sts:AssumeRoleWithWebIdentity" in listed(statement["Action"])
        and statement["Principal"].get("Federated") == provider
        and _conditions_hold(statement.get("Condition", {}), claims)
        for statement in listed(trust["Statement"])
    )


def actions(policy: Mapping[str, Any]) -> set[str]:
    """Return every action that a policy allows."""
    return {
        action
        for statement in listed(policy["Statement"])
        if statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
    }


def role_policies(iam: Any, role: str) -> dict[str, Mapping[str, Any]]:
    """Return the documents of a role's inline and attached policies by name."""
    found = {
        name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        for name in iam.list_role_policies(RoleName=role)["PolicyNames"]
    }
    for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        arn = attached["PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        found[attached["PolicyName"]] = json.loads(document) if isinstance(document, str) else document
    return found


def listed(value: Any) -> list[Any]:
    """Return the value as a list; JSON policies omit the brackets around a single element."""
    return value if isinstance(value, list) else [value]


def _applies(statement: Mapping[str, Any], call: Call) -> bool:
    return (
        any(fnmatchcase(call.action.lower(), pattern.lower()) for pattern in listed(statement["Action"]))
        and any(fnmatchcase(call.resource, _filled(pattern, call)) for pattern in listed(statement["Resource"]))
        and _conditions_hold(statement.get("Condition", {}), call.context)
    )


def _filled(pattern: str, call: Call) -> str:
    return re.sub(r"\$\{([^}]+)\}", lambda match: call.context.get(match[1], "\0"), pattern)


def _conditions_hold(conditions: Mapping[str, Mapping[str, Any]], context: Mapping[str, str]) -> bool:
    return all(
        _holds(operator, context.get(key), [str(value) for value in listed(wanted)])
        for operator, keys in conditions.items()
        for key, wanted in keys.items()
    )


def _holds(operator: str, value: str | None, wanted: list[str]) -> bool:
    if operator.endswith("IfExists") and value is None:
        return True
    match operator.removesuffix("IfExists"):
        case "StringEquals":
            return value in wanted
        case "Bool":
            return value is not None and value.lower() in {text.lower() for text in wanted}
        case unknown:
            raise NotImplementedError(f"the condition operator {unknown}")
