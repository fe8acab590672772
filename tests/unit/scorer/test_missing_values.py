"""Missing, other and extreme values: the graph's own number for them, whatever protocol they come by."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from jsonschema import Draft202012Validator
from prometheus_client import CollectorRegistry

from scorer.app import create_app
from scorer.applications.decoder import ApplicationDecoder
from scorer.applications.json_bodies import read_json_with_nan
from scorer.applications.tables import TableReader
from scorer.canary.arm_metrics import ArmMetrics
from scorer.canary.route import CanaryRoute, Route
from scorer.canary.router import Router
from scorer.contract import read_contract
from scorer.http.asgi import App
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.model.readiness import ModelError
from scorer.problems import Problem
from scorer.settings import Settings
from unit.scorer.missing_model import CONTRACT, FEATURES, REFERENCE, write_model
from unit.scorer.protocol_forms import BATCH, NAN, Applicant, as_json, csv, first_row, forms_of, present, send
from unit.scorer.unpaired import Unpaired

OUTSIDE, UNSEEN = "outside-training-range", "unseen-category"
NUMBERS = [feature["name"] for feature in FEATURES if feature["kind"] == "numeric"]
OPTIONAL = [feature["name"] for feature in FEATURES if feature["missing"]]


@dataclass(frozen=True)
class Case:
    """An application, the model's input for it, and the warnings it gets.

    Attributes:
        sent: What differs from the reference applicant; None for a missing value.
        numeric: The model's numbers for income, bureau_score and debt_ratio.
        codes: The model's codes for home, purpose, region and employer.
        warnings: Field and code of each warning.
    """

    sent: Applicant
    numeric: tuple[float, float, float] = (40_000, 680, 0.3)
    codes: tuple[int, int, int, int] = (0, 0, 0, 0)
    warnings: list[tuple[str, str]] = field(default_factory=list)

    @property
    def application(self) -> Applicant:
        return {**REFERENCE, **self.sent}


CASES = {
    "complete": Case({"income": 52_000.0, "home": "rent", "purpose": "None"}, (52_000, 680, 0.3), (1, 2, 0, 0)),
    "missing number": Case({"bureau_score": None}, (40_000, NAN, 0.3)),
    "missing category": Case({"purpose": None}, codes=(0, 3, 0, 0)),
    "all missing": Case(dict.fromkeys(OPTIONAL), (40_000, NAN, NAN), (0, 3, 2, 0)),
    "zero is not missing": Case({"debt_ratio": 0.0}, (40_000, 680, 0.0), warnings=[("debt_ratio", OUTSIDE)]),
    "sentinel out of range": Case({"bureau_score": -1.0}, (40_000, NAN, 0.3)),
    "sentinel in the range": Case({"bureau_score": 999.0}, (40_000, NAN, 0.3)),
    "sentinel in training's range": Case({"bureau_score": 500.0}, (40_000, NAN, 0.3)),
    "sentinel with decimals": Case({"debt_ratio": -99.9}, (40_000, 680, NAN)),
    "sentinel category": Case({"purpose": "unknown"}, codes=(0, 3, 0, 0)),
    "other category": Case({"purpose": "Boat"}, codes=(0, 4, 0, 0), warnings=[("purpose", UNSEEN)]),
    "other category beside missing": Case(
        {"employer": "Z", "region": None}, codes=(0, 0, 2, 3), warnings=[("employer", UNSEEN)]
    ),
    "outside training": Case(
        {"income": 0.0, "bureau_score": 900.0}, (0, 900, 0.3),
        warnings=[("income", OUTSIDE), ("bureau_score", OUTSIDE)],
    ),
    "at the ends of training": Case({"income": 400_000.0, "debt_ratio": 0.9}, (400_000, 680, 0.9)),
}  # fmt: skip
FORMS = forms_of(NUMBERS, REFERENCE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("missing"))


@pytest.fixture(scope="module")
def slot(folder: Path) -> ModelSlot:
    return ModelSlot(load_model(folder, Identity("credit-risk", "7", "run", {}, {})))


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(scope="module")
def app(slot: ModelSlot, metrics: Metrics) -> App:
    """Shared, because a sandbox process for tables takes half a second to start."""
    return create_app(Settings(), slot, metrics)


@pytest.fixture
async def client(app: App) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://scoring") as http:
        yield http


Graph = Callable[[Case], float]


@pytest.fixture(scope="module")
def graph(folder: Path) -> Graph:
    """The graph itself, without the service."""
    session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])

    def score(case: Case) -> float:
        inputs = {"numeric": np.array([case.numeric], np.float32), "categorical": np.array([case.codes])}
        return float(session.run(None, inputs)[0][0])

    return score


def warned(metrics: Metrics, field: str, code: str) -> float:
    return metrics.registry.get_sample_value("scorer_input_warnings_total", {"field": field, "code": code}) or 0


@pytest.mark.parametrize("form", FORMS)
async def test_every_protocol_gets_the_graphs_own_number_and_the_same_warnings(
    client: httpx.AsyncClient, graph: Graph, form: str
) -> None:
    for name, case in CASES.items():
        row = first_row(await send(client, FORMS[form](case.application)))
        assert row["probability_of_default"] == pytest.approx(graph(case), abs=1e-6), name
        if "warnings" in row:
            assert [(warning["field"], warning["code"]) for warning in row["warnings"]] == case.warnings, name


def test_the_cases_have_different_inputs_and_different_answers(graph: Graph) -> None:
    """So that the test above can fail: a missing value is neither zero nor a category nor another one."""
    inputs = {str((case.numeric, case.codes)): graph(case) for case in CASES.values()}
    assert len({round(probability, 6) for probability in inputs.values()}) == len(inputs) >= 10


@pytest.mark.parametrize("text", ["None", "-"])
async def test_a_category_of_the_model_is_never_missing_in_csv(
    client: httpx.AsyncClient, graph: Graph, text: str
) -> None:
    """`None` is one of the purposes: whoever writes it means it."""
    case = Case({}, codes=(0, 2 if text == "None" else 3, 0, 0))
    row = first_row(await send(client, csv({**REFERENCE, "purpose": text}, "")))
    assert row["probability_of_default"] == pytest.approx(graph(case), abs=1e-6)


REFUSED: dict[str, tuple[Applicant, str, str]] = {
    "missing number": ({"income": None}, "income", "a value is required"),
    "missing category": ({"home": None}, "home", "a value is required"),
    "missing employer": ({"employer": None}, "employer", "a value is required"),
    "unseen category": ({"home": "tent"}, "home", "one of own, rent"),
    "unseen region": ({"region": "west"}, "region", "one of north, south, or null if it is missing"),
    "out of range": ({"debt_ratio": 2.5}, "debt_ratio", "from 0 to 2, or null or -99.9 if it is missing"),
}


@pytest.mark.parametrize("form", [form for form in FORMS if "invalid" not in form])
async def test_what_may_not_be_missing_is_refused_by_name_in_every_protocol(
    client: httpx.AsyncClient, form: str
) -> None:
    for sent, name, allowed in REFUSED.values():
        answer = await send(client, FORMS[form]({**REFERENCE, **sent}))
        table = "apache" in answer.headers["content-type"]
        text = str(answer.content) if table and "json" not in answer.headers["content-type"] else answer.text
        assert name in text
        # Without its column or tensor, a field is refused before any row is read.
        assert allowed in text or "invalid columns" in text or "lacks the field" in text


@pytest.mark.parametrize("value", ["", False, 0, [], {}])
@pytest.mark.parametrize("name", ["purpose", "region"])
async def test_empty_false_and_zero_are_no_missing_categories(client: httpx.AsyncClient, name: str, value: Any) -> None:
    answer = await client.post("/v1/score", json={**REFERENCE, name: value})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == name


@pytest.mark.parametrize("value", ["", "NA", False, "680", [], {}])
async def test_texts_and_false_are_no_missing_numbers(client: httpx.AsyncClient, value: Any) -> None:
    for body in (REFERENCE | {"bureau_score": value}, [REFERENCE | {"bureau_score": value}]):
        answer = await client.post("/v1/score" if isinstance(body, dict) else BATCH, json=body)
        assert "bureau_score" in answer.text
        assert "not a number" in answer.text


@pytest.mark.parametrize("text", ["nan", "n/a", "missing", " ", "#N/A", "inf", "7_00"])
async def test_other_texts_in_csv_are_wrong_and_not_missing(client: httpx.AsyncClient, text: str) -> None:
    answer = await send(client, csv({**REFERENCE, "bureau_score": text}, ""))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "row 0: bureau_score"


async def test_text_in_a_tables_number_is_wrong_and_not_missing(client: httpx.AsyncClient) -> None:
    rows = pa.table({**{name: [value] * 3 for name, value in REFERENCE.items()}, "bureau_score": ["700", "abc", None]})
    buffer = io.BytesIO()
    pq.write_table(rows, buffer)
    answer = await send(client, (BATCH, buffer.getvalue(), "application/vnd.apache.parquet"))
    found = pq.read_table(io.BytesIO(answer.content)).to_pydict()
    assert [value is None for value in found["probability_of_default"]] == [False, True, False]
    assert "'abc', not a number" in found["problem"][1]


async def test_a_table_without_any_field_of_the_model_is_refused(tmp_path: Path) -> None:
    """If all may be missing, nothing says how many rows there are."""
    features = [feature for feature in FEATURES if feature["missing"] and feature["kind"] == "numeric"]
    reference = {feature["name"]: REFERENCE[feature["name"]] for feature in features}
    document = {**CONTRACT, "features": features, "reference_applicant": reference}
    (tmp_path / "contract.json").write_text(json.dumps(document))
    contract = read_contract(tmp_path / "contract.json")
    tables = TableReader(contract, ApplicationDecoder(contract))
    with pytest.raises(Problem, match="at least one is required: bureau_score, debt_ratio"):
        tables.from_columns({})
    assert len(tables.from_records([{}, {}])) == 2
    assert np.isnan(tables.from_columns({"debt_ratio": [None, 0.5]}).numeric).tolist() == [[True, True], [True, False]]


async def test_unusual_values_are_told_in_words(client: httpx.AsyncClient) -> None:
    sent = {**REFERENCE, "income": 12.5, "debt_ratio": 1.5, "purpose": "Boat"}
    answer = (await client.post("/v1/score", json=sent)).json()
    assert answer["warnings"] == [
        {"field": "income", "code": OUTSIDE,
         "detail": "is 12.5, below the least value in training; scored as 5000"},
        {"field": "debt_ratio", "code": OUTSIDE,
         "detail": "is 1.5, above the greatest value in training; scored as 0.9"},
        {"field": "purpose", "code": UNSEEN, "detail": "is not one of the model's categories; scored as another one"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "form", ["single, null", "records, null", "columns, null", "lines, null", "csv batch", "parquet, null"]
)
async def test_warnings_can_be_turned_off_and_are_absent_without_any(
    client: httpx.AsyncClient, metrics: Metrics, form: str
) -> None:
    request, before = FORMS[form](CASES["outside training"].application), warned(metrics, "income", OUTSIDE)
    told, off, usual = (
        await send(client, request), await send(client, request, "?warnings=false"),
        await send(client, FORMS[form](REFERENCE), "?warnings=true"),
    )  # fmt: skip
    assert b"outside-training-range" in told.content
    assert first_row(off)["probability_of_default"] == first_row(told)["probability_of_default"]
    assert b"warnings" not in off.content
    assert b"warnings" not in usual.content
    # Also if they are not told.
    assert warned(metrics, "income", OUTSIDE) - before == (4 if form == "records, null" else 2)


@pytest.mark.parametrize("path", ["/v1/score", BATCH])
@pytest.mark.parametrize(
    ("query", "field", "allowed"),
    [("?warnings=no", "warnings", "true or false"), ("?warning=false", "warning", "warnings")],
)
async def test_a_wrong_parameter_is_refused_by_name(
    client: httpx.AsyncClient, path: str, query: str, field: str, allowed: str
) -> None:
    answer = await client.post(path + query, json=REFERENCE if path == "/v1/score" else [REFERENCE])
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert allowed in error["allowed"]


async def test_refused_rows_are_not_warned_about(client: httpx.AsyncClient, metrics: Metrics) -> None:
    before = warned(metrics, "purpose", UNSEEN)
    rows = [{**REFERENCE, "income": -5.0}, {**REFERENCE, "income": 3.0}, {**REFERENCE, "home": "tent", "purpose": "x"}]
    results = (await client.post(BATCH, json=rows)).json()["results"]
    assert ["problem" in result for result in results] == [True, False, True]
    assert ["warnings" in result for result in results] == [False, True, False]
    assert warned(metrics, "purpose", UNSEEN) == before


async def test_a_canarys_answers_carry_warnings_and_it_is_told_whether_to(folder: Path, slot: ModelSlot) -> None:
    challenger = ModelSlot(load_model(folder, Identity("credit-risk", "8", "run", {}, {})))
    transport = httpx.ASGITransport(create_app(Settings(), challenger, Metrics()))

    async def canary(request: web.Request) -> web.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://canary") as http:
            answer = await http.post(str(request.rel_url), content=await request.read())
        return web.Response(body=answer.content, status=answer.status_code, content_type="application/json")

    runner = web.AppRunner(served := web.Application())
    served.router.add_post("/v1/score", canary)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        router = Router(session, ArmMetrics(CollectorRegistry()), Unpaired(), "stable-pod")
        route = CanaryRoute("8", f"http://127.0.0.1:{runner.addresses[0][1]}", 100, "live", 30_000)
        router.apply(Route(1, "salt", None, route))
        stable = httpx.ASGITransport(create_app(Settings(), slot, Metrics(), router))
        async with httpx.AsyncClient(transport=stable, base_url="http://stable") as http:
            sent = CASES["other category"].application
            told, off = [(await http.post(f"/v1/score{query}", json=sent)).json() for query in ("", "?warnings=false")]
    await runner.cleanup()
    assert told["model"]["version"] == off["model"]["version"] == "8"
    assert [warning["code"] for warning in told["warnings"]] == [UNSEEN]
    assert "warnings" not in off


async def test_the_audit_log_says_nothing_of_warnings(
    slot: ModelSlot, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    audited = httpx.ASGITransport(create_app(Settings(audit_log=True), slot, Metrics()))
    async with httpx.AsyncClient(transport=audited, base_url="http://scoring") as http:
        for case in ("complete", "outside training"):
            await http.post("/v1/score", json=CASES[case].application)
    usual, unusual = map(json.loads, capfdbinary.readouterr().out.splitlines())
    assert usual.keys() == unusual.keys()


async def test_a_missing_value_is_a_reason_that_says_so(client: httpx.AsyncClient) -> None:
    application = {**REFERENCE, "bureau_score": None, "purpose": None, "region": None, "employer": "B"}
    answer = (await client.post("/v1/score?reasons=7", json=application)).json()
    found = {reason["feature"]: reason for reason in answer["reasons"]}
    assert found["bureau_score"]["reason"] == "Bureau score is not provided; the reference is 680"
    assert found["purpose"]["reason"] == "What the loan is for is not provided; the reference is Car"
    assert found["bureau_score"]["missing"] is found["purpose"]["missing"] is True
    assert "missing" not in found["employer"]
    # Protected: in the audit, never a reason.
    assert "region" not in found
    contributions = {entry["feature"]: entry["contribution"] for entry in answer["audit"]["contributions"]}
    assert contributions["region"] == pytest.approx(0.6, abs=1e-4)
    # The model is additive in its log-odds, so these are exact: the indicator's weight, less what 680 points weigh.
    assert contributions["bureau_score"] == pytest.approx(0.9 - 30 * -0.004, abs=1e-4)
    assert sum(contributions.values()) == pytest.approx(answer["audit"]["log_odds_difference"], abs=1e-9)


async def test_another_category_is_a_reason_that_says_so(client: httpx.AsyncClient, slot: ModelSlot) -> None:
    assert slot.model
    row = slot.model.decoder.decode(json.dumps({**REFERENCE, "home": "rent", "purpose": "Boat"}).encode())
    (explanation,) = slot.model.explainer.explain(*row)
    place = [feature["name"] for feature in FEATURES].index("purpose")
    assert explanation.contributions[place] == pytest.approx(-0.9, abs=1e-4)
    raised = explanation._replace(contributions=[abs(value) for value in explanation.contributions])
    (reason,) = slot.model.explainer.reasons(raised, 1, 1.0)
    assert reason.reason == "What the loan is for is none of the model's categories; the reference is Car"


async def test_the_descriptions_say_what_may_be_missing(client: httpx.AsyncClient) -> None:
    schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    application = schemas["Application"]
    assert application["required"] == schemas["Columns"]["required"] == ["income", "home", "employer"]
    properties = application["properties"]
    number = {"type": "number", "minimum": 0.0, "maximum": 2.0}
    assert properties["debt_ratio"]["anyOf"] == [number, {"enum": [-99.9, None]}]
    assert properties["region"]["anyOf"] == [{"enum": ["north", "south"]}, {"enum": [None]}]
    assert properties["purpose"]["anyOf"] == [{"type": "string", "minLength": 1}, {"enum": ["unknown", None]}]
    assert properties["income"]["type"] == "number"
    assert "warnings" in schemas["Score"]["properties"]
    assert "warnings" not in schemas["Score"]["required"]
    contract = (await client.get("/v1/model")).json()["contract"]
    assert contract == CONTRACT
    inputs = (await client.get("/v2/models/credit-risk")).json()["inputs"]
    assert [tensor["name"] for tensor in inputs if tensor.get("optional")] == OPTIONAL
    for path in ("/v1/score", BATCH):
        operation = (await client.get("/openapi.json")).json()["paths"][path]["post"]
        assert "warnings" in [parameter["name"] for parameter in operation["parameters"]]


async def test_an_application_that_fits_the_openapi_schema_is_scored(client: httpx.AsyncClient) -> None:
    schema = (await client.get("/openapi.json")).json()["components"]["schemas"]["Application"]
    for case in CASES.values():
        assert Draft202012Validator(schema).is_valid(present(case.application))
        assert Draft202012Validator(schema).is_valid(case.application)
    for sent, _, _ in REFUSED.values():
        assert not Draft202012Validator(schema).is_valid({**REFERENCE, **sent})


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (b'{"a": NaN, "b": [NaN, 1, NaN]}', {"a": None, "b": [None, 1, None]}),
        (b'{"NaN": "NaN \\" NaN", "b": NaN}', {"NaN": 'NaN " NaN', "b": None}),
        (b'["\\\\", NaN]', ["\\", None]),
    ],
)
def test_nan_is_null_outside_of_strings(body: bytes, document: Any) -> None:
    assert read_json_with_nan(body) == document


@pytest.mark.parametrize("body", [b'{"a": NaN', b"[NaNa]", b"[-NaN]", b'["NaN', b'["\\', b"[Infinity, NaN]", b"[NaN,]"])
def test_what_is_not_json_otherwise_either_is_still_refused(body: bytes) -> None:
    with pytest.raises(Problem) as caught:
        read_json_with_nan(body)
    assert caught.value.status == 400


async def test_nan_is_not_json_for_a_single_application(client: httpx.AsyncClient) -> None:
    assert (await send(client, as_json("/v1/score", {**REFERENCE, "debt_ratio": NAN}))).status_code == 400


def test_a_graph_without_codes_for_what_the_contract_allows_is_not_served(tmp_path: Path) -> None:
    """Found when it is loaded, not when the first applicant lacks the value."""
    features = [{**feature, "missing": True} if feature["name"] == "home" else feature for feature in FEATURES]
    with pytest.raises(ModelError, match="cannot score the contract's reference applicant"):
        load_model(write_model(tmp_path, features=features), Identity("credit-risk", "7", "run", {}, {}))
