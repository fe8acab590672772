import json
from pathlib import Path
from typing import Any

import pytest

from trainer.data.declaration import BUILT_IN_DECLARATION, FeatureDeclaration, load_declaration
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
    ],
)
def test_an_invalid_feature_is_reported(
    change: dict[str, Any], message: str, document: dict[str, Any], tmp_path: Path
) -> None:
    document["features"][0].update(change)
    with pytest.raises(BadInputError, match=message):
        load(document, tmp_path)


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
        ({"name": "applicant_id"}, "applicant_id: the service keeps this name for itself; rename the feature"),
        ({"name": "in\ncome"}, "must not contain control characters"),
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
