import json
from pathlib import Path

import pytest

from trainer.data.declaration import BUILT_IN_DECLARATION, load_declaration
from trainer.errors import BadInputError
from trainer.settings import parse


def test_arguments_come_before_the_environment() -> None:
    environment = {"MLFLOW_TRACKING_URI": "http://env:5000", "TRAINER_WORK_DIR": "/var/lib/trainer"}
    settings = parse(["--data", "synthetic", "--tracking-uri", "http://arg:5000", "--hidden", "8,4"], environment)
    assert (settings.tracking_uri, settings.work_dir) == ("http://arg:5000", Path("/var/lib/trainer"))
    assert settings.hyperparameters.hidden == (8, 4)


@pytest.mark.parametrize("arguments", [[], ["--data"], ["--data", "x", "--epochs", "many"], ["--data", "x", "--foo"]])
def test_unusable_arguments_end_with_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments, {})
    assert caught.value.code == 2


@pytest.mark.parametrize("arguments", [["--epochs", "0"], ["--minimum-auc", "2"], ["--test-share", "1"]])
def test_values_out_of_range_are_bad_input(arguments: list[str]) -> None:
    with pytest.raises(BadInputError):
        parse(["--data", "synthetic", *arguments], {})


@pytest.mark.parametrize(
    ("rows", "heads", "hidden", "learning_rate"),
    [(500, 16, (32, 32), 0.012), (12_800, 16, (32, 32), 0.012), (100_000, 2, (32, 32), 0.012),
     (480_000, 1, (64, 64), 0.004)],
)  # fmt: skip
def test_what_is_left_to_choose_is_chosen_by_the_number_of_rows(
    rows: int, heads: int, hidden: tuple[int, ...], learning_rate: float
) -> None:
    for arguments in ([], ["--heads=0", "--hidden=", "--learning-rate=0", "--batch-rows=0"]):
        chosen = parse(["--data", "x", *arguments], {}).hyperparameters.for_rows(rows)
        assert (chosen.heads, chosen.hidden, chosen.learning_rate) == (heads, hidden, learning_rate)
        assert 256 <= chosen.batch_rows <= 4096


def test_what_is_given_is_taken_whatever_the_number_of_rows() -> None:
    arguments = ["--heads=3", "--hidden=8,4", "--learning-rate=0.1", "--batch-rows=7"]
    given = parse(["--data", "x", *arguments], {}).hyperparameters
    assert given.for_rows(500) == given.for_rows(500_000) == given


def test_a_studys_password_never_shows_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"], {"TRAINER_STUDY_STORAGE": "postgresql://u:hunter2@h/d"})
    assert "hunter2" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "text"}, "kind"),
        ({"minimum": 9e9}, "not below maximum"),
        ({"reason_code": "R02"}, "used twice: R02"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_feature_file_says_what_is_wrong(change: dict[str, object], message: str, tmp_path: Path) -> None:
    declaration = json.loads(BUILT_IN_DECLARATION.read_text())
    declaration["features"][0].update(change)
    path = tmp_path / "features.json"
    path.write_text(json.dumps(declaration))
    with pytest.raises(BadInputError, match=message):
        load_declaration(path)


def test_a_declaration_of_protected_features_only_cannot_exclude_them() -> None:
    declaration = load_declaration(BUILT_IN_DECLARATION)
    protected = declaration.model_copy(update={"features": tuple(f for f in declaration.features if f.protected)})
    with pytest.raises(BadInputError):
        protected.without_protected()
