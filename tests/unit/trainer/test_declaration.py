import json
import re
from pathlib import Path
from typing import Any

import pytest

from trainer.data.declaration import BUILT_IN_DECLARATION, FeatureDeclaration, OtherCategories, load_declaration
from trainer.errors import BadInputError


@pytest.fixture
def document() -> Any:
    return json.loads(BUILT_IN_DECLARATION.read_text(encoding="utf-8"))


def load(document: dict[str, Any], folder: Path) -> FeatureDeclaration:
    path = folder / "features.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return load_declaration(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "text"}, "kind"),
        ({"minimum": 9e9}, "not below maximum"),
        ({"reason_code": "R02"}, "used more than once: R02"),
        ({"colour": "red"}, "colour"),
        ({"maximum": 1e300}, r"minimum and maximum must be within -1e\+38 to 1e\+38"),
        ({"minimum": -1e300}, r"minimum and maximum must be within -1e\+38 to 1e\+38"),
        ({"missing": "sometimes"}, "missing: Input should be 'allowed' or 'refused'"),
        ({"missing": "refused", "missing_values": [999]}, "annual_income: missing_values, but missing is refused"),
        ({"missing_values": [999, 999.0]}, "annual_income: a value is listed more than once under missing_values"),
        ({"other": True}, "other"),
        ({"monotonic": "up"}, "monotonic: Input should be 'increasing' or 'decreasing'"),
        ({"adverse_action": "Score too low"}, '"Score too low" speaks about "Score": .* names what about the feature'),
        ({"adverse_action": "You failed our internal standards"}, 'speaks about "internal standards"'),
        ({"adverse_action": "a\u0007b"}, "adverse-action text must not contain control characters"),
        ({"adverse_action": "Too high", "protected": True}, "a protected attribute is never a reason: remove its"),
    ],
)
def test_an_invalid_feature_is_reported(
    change: dict[str, Any], message: str, document: dict[str, Any], tmp_path: Path
) -> None:
    document["features"][0].update(change)
    with pytest.raises(BadInputError, match=message):
        load(document, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": ["A1"]}, "grade_subgrade: list at least 2 categories, or declare `other`"),
        ({"missing_values": ["A1"]}, "grade_subgrade: a category, but also under missing_values: A1"),
        ({"categories": [], "other": True}, "grade_subgrade: ordered, but no categories are listed"),
        ({"ordered": False, "monotonic": "increasing"}, "grade_subgrade: monotonic, but its categories have no order"),
        ({"other": {"minimum_rows": 0}}, "other.minimum_rows: Input should be greater than or equal to 1"),
        ({"other": {"minimum_share": 1}}, "other.minimum_share: Input should be less than 1"),
    ],
)
def test_an_invalid_category_is_reported(
    change: dict[str, Any], message: str, document: dict[str, Any], tmp_path: Path
) -> None:
    next(feature for feature in document["features"] if feature["name"] == "grade_subgrade").update(change)
    with pytest.raises(BadInputError, match=message):
        load(document, tmp_path)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (False, None),
        (True, OtherCategories(minimum_rows=20, minimum_share=0.0)),
        ({"minimum_share": 0.01}, OtherCategories(minimum_rows=20, minimum_share=0.01)),
    ],
)
def test_other_is_a_switch_or_says_what_is_rare(
    written: object, read: OtherCategories | None, document: dict[str, Any], tmp_path: Path
) -> None:
    document["features"][-1].update({"other": written})
    declaration = load(document, tmp_path)
    assert declaration.categorical[-1].other == read
    assert [column.other for column in declaration.inputs.categories] == [False] * 5 + [read is not None]


@pytest.mark.parametrize(
    ("ignored", "message"),
    [
        (["fax", "fax"], "ignored field used more than once: fax"),
        (["gender"], "ignored, but also a feature or the target: gender"),
        (["loan_paid_back"], "ignored, but also a feature or the target: loan_paid_back"),
        ([""], "at least 1 character"),
        ("fax", "ignored"),
    ],
)
def test_invalid_ignored_fields_are_reported(
    ignored: object, message: str, document: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match=message):
        load({**document, "ignored": ignored}, tmp_path)


def test_a_missing_file_is_reported_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"none\.json: No such file"):
        load_declaration(tmp_path / "none.json")


def test_excluded_protected_attributes_join_the_declared_ignored_fields(
    document: dict[str, Any], tmp_path: Path
) -> None:
    declaration = load({**document, "ignored": ["fax"]}, tmp_path)
    reduced = declaration.without_protected()
    assert declaration.ignored == ("fax",)
    assert reduced.ignored == ("fax", "gender", "marital_status")
    assert set(reduced.names) == set(declaration.names) - {"gender", "marital_status"}


def test_protected_features_cannot_be_excluded_if_nothing_else_is_left(declaration: FeatureDeclaration) -> None:
    protected = declaration.model_copy(update={"features": tuple(f for f in declaration.features if f.protected)})
    with pytest.raises(BadInputError, match="every declared feature is protected"):
        protected.without_protected()


def test_a_byte_order_mark_does_not_matter(document: Any, tmp_path: Path) -> None:
    path = tmp_path / "features.json"
    path.write_text(json.dumps(document), encoding="utf-8-sig")
    assert load_declaration(path) == load_declaration(BUILT_IN_DECLARATION)


def test_a_declaration_in_another_encoding_is_told(document: Any, tmp_path: Path) -> None:
    path = tmp_path / "features.json"
    path.write_text(json.dumps(document), encoding="utf-16")
    with pytest.raises(BadInputError, match="not UTF-8"):
        load_declaration(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "applicant_id"}, "applicant_id: the service keeps this name for itself; rename the feature, or"),
        ({"name": "in\ncome"}, "must not contain control characters"),
        ({"name": 'an "income"'}, "must not contain quotation marks or backslashes"),
        ({"name": "in\\come"}, "must not contain quotation marks or backslashes"),
        ({"parse": "percentage"}, "percent"),
        ({"parse": "date"}, 'requires "reference_date"'),
        ({"reference_date": "2026-01-31"}, 'requires "reference_date"'),
        ({"date_format": "%Y"}, "date_format is only for"),
        ({"parse": "date", "reference_date": "2026-01-31", "date_format": "%Q"}, "not a format of strptime"),
    ],
)
def test_an_unusable_name_or_parse_is_refused(
    change: dict[str, Any], message: str, document: dict[str, Any], tmp_path: Path
) -> None:
    document["features"][0].update(change)
    with pytest.raises(BadInputError, match=message):
        load(document, tmp_path)


def test_labels_and_categories_may_be_numbers_and_booleans(document: dict[str, Any], tmp_path: Path) -> None:
    document["features"][5]["categories"] = [1, 2.0, 2.5, True, "01"]
    document["target"] = {"column": "outcome", "default": [2, False], "repaid": 1, "ignored": "open"}
    declaration = load(document, tmp_path)
    assert declaration.categorical[0].categories == ("1", "2", "2.5", "true", "01")
    target = declaration.target
    assert (target.default, target.repaid, target.ignored) == (("2", "false"), ("1",), ("open",))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"default": 1, "repaid": "1"}, "listed more than once: 1"),
        ({"default": ["a", "b"], "repaid": "c", "ignored": ["b"]}, "listed more than once: b"),
        ({"default": [], "repaid": "c"}, "target.default"),
        ({"default": None, "repaid": "c"}, "target.default"),
    ],
)
def test_a_label_has_one_outcome(target: Any, message: str, document: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=message):
        load({**document, "target": {"column": "outcome", **target}}, tmp_path)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"encoding": "utf-99"}, "'utf-99' is not an encoding; use utf-8, utf-16, latin-1"),
        ({"encoding": "base64"}, "'base64' is not an encoding"),
        ({"delimiter": ",,"}, "file.delimiter"),
        ({"delimiter": "\n"}, "one ASCII character"),
        ({"delimiter": ",", "decimal": ","}, "one ASCII character"),
        ({"decimal": ";"}, "file.decimal"),
        ({"columns": ["id", "annual_income"]}, "file.columns lacks declared columns: debt_to_income_ratio"),
        ({"columns": ["a", "a"]}, "listed more than once: a"),
        ({"separator": ","}, "file.separator"),
    ],
)
def test_an_invalid_file_format_is_reported(file: Any, message: str, document: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=message):
        load({**document, "file": file}, tmp_path)


def test_directions_and_adverse_action_texts_are_read(document: dict[str, Any], tmp_path: Path) -> None:
    document["features"][0].update(monotonic="decreasing", adverse_action="  Your income  is too low\n")
    document["features"][-1].update(monotonic="increasing")
    declaration = load(document, tmp_path)
    assert declaration.features[0].adverse_action == "Your income is too low"
    assert declaration.inputs.directions == (-1, 0, 0, 0, 0)
    assert [column.direction for column in declaration.inputs.categories] == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "text",
    [
        "score too low", "Your credit score is too low", "Insufficient SCORES", "Failed our scoring system",
        "Scorecard cut-off not met", "Your probability of default is too high", "Not within our internal policies",
    ],
)  # fmt: skip
def test_a_text_about_the_score_is_no_adverse_action_reason(
    text: str, document: dict[str, Any], tmp_path: Path
) -> None:
    document["features"][0]["adverse_action"] = text
    with pytest.raises(BadInputError, match=r"features\.0\.numeric\.adverse_action: .*is no reason"):
        load(document, tmp_path)


@pytest.mark.parametrize(
    "text", ["Your debt-to-income ratio is too high", "Underscored late payments", "Zu hohe Schulden"]
)
def test_a_text_about_the_feature_is_one(text: str, document: dict[str, Any], tmp_path: Path) -> None:
    document["features"][0]["adverse_action"] = text
    assert load(document, tmp_path).features[0].adverse_action == text


def test_two_features_with_the_same_text_are_refused(document: dict[str, Any], tmp_path: Path) -> None:
    document["features"][0]["adverse_action"] = "Too high"
    document["features"][1]["adverse_action"] = "too  HIGH"
    with pytest.raises(BadInputError, match="adverse-action text used more than once: too high"):
        load(document, tmp_path)


def test_the_built_in_texts_name_what_may_be_a_reason_and_hold_in_both_directions(
    declaration: FeatureDeclaration,
) -> None:
    """The lender's own grade is an internal standard, which is no reason; no direction is declared, so none is told."""
    nameable = {feature.name for feature in declaration.features if not feature.protected}
    texts = {feature.name: feature.adverse_action for feature in declaration.features if feature.adverse_action}
    assert set(texts) == nameable - {"grade_subgrade"}
    assert not any(feature.monotonic for feature in declaration.features)
    directed = re.compile(r"\b(too|high|low|more|less|insufficient|excessive|weak|poor)\b", re.IGNORECASE)
    assert not [text for text in texts.values() if directed.search(text)]


def grades(*pairs: tuple[object, float]) -> list[dict[str, object]]:
    return [{"name": name, "upper_probability": end} for name, end in pairs]


def test_a_master_scale_is_declared_from_the_best_to_the_worst_grade(document: dict[str, Any], tmp_path: Path) -> None:
    assert load(document, tmp_path).grades == ()
    declared = load({**document, "grades": grades(("A", 0.01), (2, 0.2), ("C", 1))}, tmp_path).grades
    assert [(grade.name, grade.upper_probability) for grade in declared] == [("A", 0.01), ("2", 0.2), ("C", 1.0)]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (grades(("A", 0.2), ("B", 0.2), ("C", 1)), "B: upper_probability 0.2 is not above the A's 0.2"),
        (grades(("A", 0.2), ("B", 0.1), ("C", 1)), "list grades from the best to the worst"),
        (grades(("A", 0.2), ("B", 0.9)), "B: upper_probability of the last grade must be 1, not 0.9"),
        (grades(("A", 0.2), ("A", 1)), "more than one grade is named A; names must be unique"),
        (grades(("A", 0), ("B", 1)), "grades.0.upper_probability: Input should be greater than 0"),
        (grades(("A", 0.2), ("B", 100)), "grades.1.upper_probability: Input should be less than or equal to 1"),
        (grades(("", 1)), "grades.0.name"),
        (grades(("A\n", 1)), r"'A\\n': a name must not contain control characters"),
        ([{"name": "A", "upper_probability": 1, "rate": 0.1}], "grades.0.rate"),
    ],
)
def test_a_master_scale_that_does_not_divide_all_probabilities_is_refused(
    declared: list[dict[str, object]], message: str, document: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match=message):
        load({**document, "grades": declared}, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_column": "annual_income"}, "the weight_column annual_income is also a feature"),
        ({"weight_column": "loan_paid_back"}, "the weight_column loan_paid_back is also the target"),
        ({"weight_column": "id"}, "the weight_column id is also the id_column"),
        ({"weight_column": "day", "date_column": "day"}, "the weight_column day is also the date_column"),
        ({"weight_column": ""}, "weight_column: String should have at least 1 character"),
        ({"date_column": "annual_income"}, "the date_column annual_income is also a feature"),
        ({"date_column": "loan_paid_back"}, "the date_column loan_paid_back is also the target"),
        ({"date_format": "%Y"}, "date_format is that of the date_column, which is not declared"),
        ({"date_column": "day", "date_format": "%Q"}, "'%Q' is not a format of strptime"),
        ({"file": {"columns": ["id"]}, "weight_column": "w"}, "file.columns lacks declared columns: w, "),
    ],
)
def test_a_weight_or_a_date_is_a_column_of_its_own(
    change: dict[str, Any], message: str, document: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match=message):
        load({**document, **change}, tmp_path)


def test_the_date_of_a_loan_may_be_the_day_at_which_ages_are_taken(document: dict[str, Any], tmp_path: Path) -> None:
    document["features"][0] |= {"parse": "date", "reference_date": "granted"}
    declaration = load({**document, "date_column": "granted", "weight_column": "w"}, tmp_path)
    assert declaration.columns[:3] == ("id", "w", "granted")
    assert declaration.columns.count("granted") == 1
    with pytest.raises(BadInputError, match="the weight_column granted is also a reference_date"):
        load({**document, "weight_column": "granted"}, tmp_path)
