from dataclasses import fields
from pathlib import Path

import pytest

from trainer.errors import BadInputError
from trainer.evaluation.gates import GateLimits
from trainer.export.contract import ApprovalRate, DecisionRule, ExpectedCost, Fixed, KsMaximum
from trainer.learning.hyperparameters import Hyperparameters, Precision
from trainer.settings import Settings, parse


def test_arguments_override_the_environment() -> None:
    environment = {"MLFLOW_TRACKING_URI": "http://env:5000", "TRAINER_WORK_DIR": "/var/lib/trainer"}
    settings = parse(["--data", "synthetic", "--tracking-uri", "http://arg:5000", "--hidden", "8,4"], environment)
    assert (settings.tracking_uri, settings.work_dir) == ("http://arg:5000", Path("/var/lib/trainer"))
    assert settings.hyperparameters.hidden == (8, 4)


@pytest.mark.parametrize("arguments", [[], ["--data"], ["--data", "x", "--epochs", "many"], ["--data", "x", "--foo"]])
def test_invalid_arguments_exit_with_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments, {})
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--epochs=-1", "hyperparameters out of range: epochs=-1"),
        ("--minimum-auc=2", "between 0 and 1: minimum_auc=2.0"),
        ("--test-share=1", "--test-share 1.0: must be between 0 and 1"),
        ("--trials=-1", "must not be negative"),
        ("--split-seed=4294967296", "seeds must be at most 4294967295"),
        ("--wait-seconds=inf", "--wait-seconds inf: must be a number"),
        ("--class-weight=0", "hyperparameters out of range: class_weight=0.0"),
        ("--class-weight=-2", "hyperparameters out of range: class_weight=-2.0"),
        ("--class-weight=nan", "hyperparameters out of range: class_weight=nan"),
        ("--class-weight=1e9", "hyperparameters out of range: class_weight=1000000000.0"),
        ("--default-rate=0", r"--default-rate 0.0: must be above --pd-floor \(0\) and below 1; 4 % is 0.04"),
        ("--default-rate=4", r"--default-rate 4.0: must be above --pd-floor \(0\) and below 1; 4 % is 0.04"),
        ("--default-rate=nan", "--default-rate nan: must be above"),
        ("--model-name=a:b", "must be a name without slashes and colons"),
        ("--processes=0", "--processes 0, --pods 1: must be at least 1"),
        ("--pods=2", "--rendezvous '': --pods needs the first pod's host name and a port, such as "),
    ],
)
def test_values_out_of_range_are_refused(argument: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        parse(["--data", "synthetic", argument], {})


@pytest.mark.parametrize("rendezvous", ["training-0", "training-0:", ":29400", "training-0:port", "training-0:70000"])
def test_pods_need_a_host_name_and_a_port_to_meet_at(rendezvous: str) -> None:
    with pytest.raises(BadInputError, match=f"--rendezvous '{rendezvous}': --pods needs the first pod's host name"):
        parse(["--data=synthetic", "--pods=2", f"--rendezvous={rendezvous}"], {})
    environment = {"TRAINER_RENDEZVOUS": "training-0.training-peers:29400", "JOB_COMPLETION_INDEX": "1"}
    assert parse(["--data=synthetic", "--pods=2"], environment).worker == 1
    with pytest.raises(BadInputError, match=r"--worker 2: must be below --pods \(2\)"):
        parse(["--data=synthetic", "--pods=2"], {**environment, "JOB_COMPLETION_INDEX": "2"})


@pytest.mark.parametrize("several", [["--processes=2"], ["--pods=2", "--rendezvous=a:1"]])
def test_a_search_and_several_processes_exclude_each_other(several: list[str]) -> None:
    with pytest.raises(BadInputError, match="--trials: a search runs its trials side by side in --workers"):
        parse(["--data=synthetic", "--trials=2", *several], {})


def test_the_precision_is_one_of_two() -> None:
    assert parse(["--data=x", "--precision=bfloat16"], {}).hyperparameters.precision is Precision.BFLOAT16
    with pytest.raises(SystemExit):
        parse(["--data=x", "--precision=float16"], {})


@pytest.mark.parametrize(
    ("rows", "heads", "hidden", "learning_rate"),
    [(500, 15, (32, 32), 0.012), (12_800, 15, (32, 32), 0.012), (100_000, 2, (32, 32), 0.012),
     (480_000, 1, (64, 64), 0.004)],
)  # fmt: skip
def test_open_hyperparameters_are_chosen_by_the_number_of_rows(
    rows: int, heads: int, hidden: tuple[int, ...], learning_rate: float
) -> None:
    for arguments in ([], ["--heads=0", "--hidden=", "--learning-rate=0", "--batch-rows=0"]):
        chosen = parse(["--data", "x", *arguments], {}).hyperparameters.for_rows(rows)
        assert (chosen.heads, chosen.hidden, chosen.learning_rate) == (heads, hidden, learning_rate)
        assert 256 <= chosen.batch_rows <= 4096
        assert 24 <= chosen.epochs <= 200
        assert chosen.patience == chosen.epochs // 6


def test_few_rows_are_passed_over_more_often() -> None:
    epochs = [Hyperparameters().for_rows(rows).epochs for rows in (800, 5_000, 30_000, 500_000)]
    assert epochs == [200, 77, 26, 24]


def test_given_hyperparameters_do_not_depend_on_the_number_of_rows() -> None:
    arguments = ["--heads=3", "--hidden=8,4", "--learning-rate=0.1", "--batch-rows=7", "--epochs=3", "--patience=2"]
    given = parse(["--data", "x", *arguments], {}).hyperparameters
    assert given.for_rows(500) == given.for_rows(500_000) == given


def test_every_option_has_a_help_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"], {})
    printed = capsys.readouterr().out
    for name in (item.name for settings in (Settings, Hyperparameters, GateLimits) for item in fields(settings)):
        if name not in {"hyperparameters", "limits", "json_output"}:
            assert f"--{name.replace('_', '-')}" in printed


def test_the_help_never_shows_a_studys_password(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"], {"TRAINER_STUDY_STORAGE": "postgresql://u:hunter2@h/d"})
    assert "hunter2" not in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["auto", "manual", "never"])
def test_the_production_pointer_has_three_modes(mode: str) -> None:
    assert parse(["--data", "x", "--production-pointer", mode], {}).production_pointer == mode


def test_an_unknown_pointer_mode_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--data", "x", "--production-pointer", "always"], {})
    assert caught.value.code == 2
    assert "--production-pointer: 'always' is not one of auto, manual, never" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "rule", "value"),
    [
        ("ks-maximum", KsMaximum(), None),
        ("approval-rate=0.8", ApprovalRate(approval_rate=0.8), None),
        ("loss-given-default=0.45,margin=.05", ExpectedCost(loss_given_default=0.45, margin=0.05), 0.1),
        ("margin=0.25,loss-given-default=1", ExpectedCost(loss_given_default=1, margin=0.25), 0.2),
        ("0.2", Fixed(), 0.2),
    ],
)
def test_the_threshold_is_chosen_by_one_of_four_rules(text: str, rule: DecisionRule, value: float | None) -> None:
    chosen = parse(["--data", "x", "--threshold", text], {}).threshold
    assert (str(chosen), chosen.rule) == (text, rule)
    assert chosen.value == (None if value is None else pytest.approx(value))
    assert parse(["--data", "x"], {}).threshold.text == "ks-maximum"


@pytest.mark.parametrize(
    "text",
    ["", "ks", "0", "1", "1.5", "-0.2", "nan", "20%", "=0.2", "0.2,0.3", "approval-rate", "approval-rate=",
     "approval-rate=80", "approval-rate=1", "approval-rate=0",
     "approval-rate=.8,approval-rate=.9", "approval-rate=.8,margin=.1",
     "margin=0.05", "loss-given-default=0.45", "loss-given-default=45,margin=0.05", "loss-given-default=0.45,margin=1",
     "loss-given-default=0,margin=0.1", "loss_given_default=0.45,margin=0.05", "loss-given-default=nan,margin=0.1"],
)  # fmt: skip
def test_another_threshold_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse(["--data", "x", f"--threshold={text}"], {})
    allowed = "allowed are ks-maximum, approval-rate=0.8, loss-given-default=0.45,margin=0.05, or the threshold itself"
    assert str(caught.value).startswith(f"--threshold {text}: {allowed}")


@pytest.mark.parametrize("floor", ["-0.1", "0.5"])
def test_a_floor_of_the_probability_must_leave_room_above_it(floor: str) -> None:
    with pytest.raises(BadInputError, match=r"--pd-floor .*: must be at least 0 and below 0\.5"):
        parse(["--data", "x", f"--pd-floor={floor}"], {})


def test_a_default_rate_must_be_above_the_floor() -> None:
    with pytest.raises(BadInputError, match=r"--default-rate 0.01: must be above --pd-floor \(0.02\) and below 1"):
        parse(["--data", "x", "--pd-floor=0.02", "--default-rate=0.01"], {})
    assert parse(["--data", "x", "--pd-floor=0.0005", "--default-rate=0.04"], {}).default_rate == 0.04
    assert parse(["--data", "x"], {}).default_rate is None


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--class-weight=many", "--class-weight: 'many' is neither a number above 0 nor balanced"),
        ("--split=random", "--split: 'random' is not one of shuffled, time"),
        ("--default-rate=low", "--default-rate: invalid float value: 'low'"),
    ],
)
def test_words_that_a_setting_does_not_know_are_refused(
    argument: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--data", "x", argument], {})
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_class_weights_are_a_number_or_balanced() -> None:
    assert parse(["--data", "x", "--class-weight=balanced"], {}).hyperparameters.class_weight == "balanced"
    assert parse(["--data", "x", "--class-weight=2.5"], {}).hyperparameters.for_rows(500).class_weight == 2.5
