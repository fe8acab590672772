"""The rules: their CEL compiles against the schema's types, and agrees with their Python twin.

The evaluator is CEL's C++ implementation; the schema becomes a message type, so that a misspelled field or a wrong type
does not compile, as on an API server. `isSorted` comes from Kubernetes' own library and is one line here.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from cel_expr_python import cel
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from promoter.api.crd import crd
from promoter.api.rules import (
    APPROVALS_ARE_ASKED_FOR,
    AUTO_OF_A_CANARY,
    AUTO_TAKES_ITS_TIME,
    BLUE_GREEN_BY_STRATEGY,
    COMPLETE_QUERIES,
    COMPLETE_SQL,
    EXPERIMENT_BY_STRATEGY,
    EXPERIMENT_IS_ANALYZED,
    ONE_POINTER,
    RULES,
    SHADOW_FOR_DISAGREEMENT,
    SOME_LIVE_METRIC,
    SOME_WEIGHT,
    STEPS_OF_A_CANARY,
    TARGET_IS_IMMUTABLE,
    UNIQUE_NAMES,
    WEIGHT_OR_PAUSE,
    WEIGHT_WITH_DURATION,
    WEIGHTS_DO_NOT_DECREASE,
    InvalidSpecError,
    Rule,
    broken_rules,
    parse_spec,
    target_of,
)
from promoter.api.spec import Spec, Strategy

Document = dict[str, Any]
SCHEMA = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
Proto = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    "string": Proto.TYPE_STRING, "integer": Proto.TYPE_INT64, "number": Proto.TYPE_DOUBLE, "boolean": Proto.TYPE_BOOL,
}  # fmt: skip


def fill(message: descriptor_pb2.DescriptorProto, schema: Document) -> None:
    """Give a message type the fields of a schema; each knows whether it is set."""
    for number, (name, part) in enumerate(schema["properties"].items(), 1):
        field = message.field.add(name=name, json_name=name, number=number, label=Proto.LABEL_OPTIONAL)
        kind = part
        if part["type"] == "array":
            field.label, kind = Proto.LABEL_REPEATED, part["items"]
        if kind["type"] == "object":
            nested = message.nested_type.add(name=name.capitalize())
            fill(nested, kind)
            field.type, field.type_name = Proto.TYPE_MESSAGE, nested.name
        else:
            field.type = SCALARS[kind["type"]]
            if kind is part:
                field.proto3_optional, field.oneof_index = True, len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{name}")


class Server:
    """The part of an API server that evaluates the rules of a spec: types, defaults, CEL."""

    def __init__(self) -> None:
        file = descriptor_pb2.FileDescriptorProto(name="promotion.proto", package="promotion", syntax="proto3")
        fill(file.message_type.add(name="Spec"), SCHEMA)
        pool = descriptor_pool.Default()
        pool.Add(file)
        self._type = message_factory.GetMessageClass(pool.FindMessageTypeByName("promotion.Spec"))
        is_sorted = cel.Overload(
            "list_is_sorted", return_type=cel.Type.BOOL, parameters=[cel.Type.List(cel.Type.INT)], is_member=True,
            impl=lambda numbers: numbers == sorted(numbers),
        )  # fmt: skip
        kind = cel.Type("promotion.Spec")
        self.environment = cel.NewEnv(
            pool, variables={"self": kind, "oldSelf": kind}, functions=[cel.FunctionDecl("isSorted", [is_sorted])]
        )
        rules = (*RULES, TARGET_IS_IMMUTABLE)
        self.rules = [(self.environment.compile(rule.cel), rule.message) for rule in rules]

    def broken(self, spec: Document, old: Document | None = None) -> list[str]:
        new, before = (json_format.ParseDict(defaulted(doc, SCHEMA), self._type()) for doc in (spec, old or spec))
        data = {"self": new, "oldSelf": before}
        return [message for rule, message in self.rules if not rule.eval(data=data).plain_value()]


def defaulted(document: Document, schema: Document) -> Document:
    """Fill in defaults, as an API server does before it evaluates the rules."""
    result = copy.deepcopy(document)
    for name, part in schema.get("properties", {}).items():
        if name not in result and "default" in part:
            result[name] = copy.deepcopy(part["default"])
        if isinstance(result.get(name), dict):
            result[name] = defaulted(result[name], part)
        elif isinstance(result.get(name), list):
            result[name] = [defaulted(item, part["items"]) for item in result[name]]
    return result


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    return st.fixed_dictionaries({}, optional=fields)


DURATION = st.sampled_from(["30s", "5m"])
STEP = optional(weight=st.integers(1, 100), duration=DURATION, pause=optional(duration=DURATION))
METRIC = st.builds(
    lambda kind, more: {"type": kind, **more},
    st.sampled_from(["ErrorRate", "ShadowDisagreement", "Query", "SQL"]),
    optional(name=st.sampled_from(["a", "b"]), query=st.just("up"), limit=st.sampled_from([0.0, 1.0])),
)
MODEL = st.builds(
    lambda more: {"name": "m", **more}, optional(alias=st.just("a"), stage=st.just("s"), version=st.just("1"))
)
DEFAULTS = [{"weight": weight, "duration": "5m"} for weight in (5, 25, 50)]
SPECS = st.builds(
    lambda model, more: {"model": model, **more},
    MODEL,
    optional(
        strategy=st.sampled_from(list(Strategy)),
        blueGreen=optional(observe=DURATION),
        experiment=optional(weight=st.integers(1, 99)),
        skipAnalysis=st.booleans(),
        steps=st.one_of(st.lists(STEP, min_size=1, max_size=4), st.just(DEFAULTS)),
        shadow=st.just({}),
        auto=optional(minDuration=DURATION, maxDuration=DURATION, maxWeight=st.integers(1, 100)),
        analysis=optional(metrics=st.lists(METRIC, max_size=3), prometheusUrl=st.just("http://p")),
    ),
)
SERVER = Server()


@settings(max_examples=400, deadline=None)
@given(SPECS)
def test_the_api_server_and_the_operator_find_the_same_faults(spec: Document) -> None:
    assert SERVER.broken(spec) == broken_rules(Spec.model_validate(spec))


APPROVED_STEPS = [{"weight": 5, "duration": "1m"}, {"pause": {"approvals": {"groups": ["officers"]}}}]


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        ({"model": {"name": "m", "alias": "a", "stage": "s"}}, ONE_POINTER),
        ({"steps": [{"weight": 5, "duration": "1m", "pause": {}}]}, WEIGHT_OR_PAUSE),
        ({"steps": [{"weight": 5}]}, WEIGHT_WITH_DURATION),
        ({"steps": [{"pause": {}}]}, SOME_WEIGHT),
        ({"steps": [{"weight": 9, "duration": "1m"}, {"weight": 5, "duration": "1m"}]}, WEIGHTS_DO_NOT_DECREASE),
        ({"analysis": {"metrics": [{"type": "Query", "name": "a", "query": "up"}]}}, COMPLETE_QUERIES),
        ({"analysis": {"metrics": [{"type": "SQL", "name": "a", "query": "SELECT 1"}]}}, COMPLETE_SQL),
        ({"analysis": {"metrics": [{"type": "ErrorRate"}, {"type": "ShadowDisagreement"}]}}, SHADOW_FOR_DISAGREEMENT),
        ({"shadow": {}, "analysis": {"metrics": [{"type": "ShadowDisagreement"}]}}, SOME_LIVE_METRIC),
        ({"strategy": "BlueGreen", "steps": DEFAULTS[1:]}, STEPS_OF_A_CANARY),
        ({"strategy": "Experiment", "steps": [*DEFAULTS, {"pause": {}}]}, STEPS_OF_A_CANARY),
        ({"strategy": "BlueGreen", "auto": {}}, AUTO_OF_A_CANARY),
        ({"strategy": "Experiment", "blueGreen": {}}, BLUE_GREEN_BY_STRATEGY),
        ({"blueGreen": {}}, BLUE_GREEN_BY_STRATEGY),
        ({"strategy": "BlueGreen", "experiment": {}}, EXPERIMENT_BY_STRATEGY),
        ({"strategy": "Experiment", "skipAnalysis": True}, EXPERIMENT_IS_ANALYZED),
        ({"auto": {"minDuration": "1h30m", "maxDuration": "85m"}}, AUTO_TAKES_ITS_TIME),
        ({"auto": {}, "steps": APPROVED_STEPS}, APPROVALS_ARE_ASKED_FOR),
        ({"skipAnalysis": True, "steps": APPROVED_STEPS}, APPROVALS_ARE_ASKED_FOR),
        ({"analysis": {"metrics": [
            {"type": "ErrorRate", "name": "a"}, {"type": "ScorePSI", "name": "a"}]}}, UNIQUE_NAMES),
    ],
)  # fmt: skip
def test_each_rule_refuses_what_it_is_for(spec: Document, rule: Rule) -> None:
    spec = {"model": {"name": "m"}} | spec
    assert SERVER.broken(spec) == [rule.message]
    with pytest.raises(InvalidSpecError) as raised:
        parse_spec(spec)
    assert str(raised.value) == f"spec.{rule.message}"


@pytest.mark.parametrize("strategy", ["BlueGreen", "Experiment"])
def test_the_default_steps_that_an_api_server_fills_in_are_no_steps_of_another_strategy(strategy: str) -> None:
    spec = {"model": {"name": "m"}, "strategy": strategy}
    assert SERVER.broken(spec) == SERVER.broken({**spec, "steps": DEFAULTS}) == []
    assert parse_spec({**spec, "steps": DEFAULTS}).strategy == strategy


def test_the_target_is_immutable_for_the_api_server_and_the_operator() -> None:
    old, new = {"model": {"name": "m"}}, {"model": {"name": "m"}, "targetRef": {"name": "other"}}
    assert SERVER.broken(new, old) == [TARGET_IS_IMMUTABLE.message]
    assert SERVER.broken(old, {**old, "targetRef": {"name": "scoring"}}) == []
    with pytest.raises(InvalidSpecError, match="targetRef: cannot be changed"):
        parse_spec(new, target="scoring")


def test_a_rule_about_an_unknown_field_does_not_compile() -> None:
    with pytest.raises(RuntimeError, match="undefined field 'modle'"):
        SERVER.environment.compile("self.modle.name == 'm'")


@pytest.mark.parametrize(
    ("spec", "target"),
    [({"targetRef": {"name": "cards"}, "steps": 3}, "cards"), ({}, "scoring"), ({"targetRef": {"name": 3}}, "scoring"),
     (None, "scoring"), ({"targetRef": []}, "scoring")],
)  # fmt: skip
def test_the_target_of_an_invalid_spec_is_known_all_the_same(spec: object, target: str) -> None:
    assert target_of(spec) == target
