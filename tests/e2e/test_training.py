"""Training runs started as by `make train`: the Production pointer moves to a better version and not to a worse one."""

from __future__ import annotations

import pytest

from e2e.registry_client import registry_client
from localcluster import training
from localcluster.console import ClusterError
from localcluster.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
# A model of its own, so that the one that other tests score with stays as it is.
NAME = "e2e-training"
COMMON = [f"--model-name={NAME}", "--synthetic-rows=3000", "--hidden=16", "--bins=8", "--batch-rows=64"]
# Without room for a linear model, which would rank well after one epoch, too.
WEAK = [*COMMON, "--hidden=16,1", "--heads=1", "--epochs=1", "--learning-rate=0.001"]
WEAK += ["--minimum-auc=0", "--maximum-ece=1", "--minimum-air=0"]
GOOD = [*COMMON, "--heads=5", "--epochs=6", "--learning-rate=0.01", "--maximum-ece=0.2", "--minimum-air=0"]


def train(stack: Stack, *arguments: str) -> str:
    job = training.start(stack, "synthetic", arguments)
    training.follow(stack, job)
    return job


def test_the_production_pointer_moves_to_a_better_version_and_not_to_a_worse_one(
    stack: Stack, capfd: pytest.CaptureFixture[str]
) -> None:
    jobs = stack.jobs()
    train(stack, *WEAK)
    train(stack, *GOOD)
    with pytest.raises(ClusterError, match=r"a gate refused the model \(exit code 3\)"):
        train(stack, *WEAK, "--seed=1")
    log = capfd.readouterr().out
    assert "not_worse_than_production" in log or "epoch 1 of at most 6" in log
    with registry_client(stack) as client:
        model = client.get_registered_model(NAME)
        assert {alias: str(version) for alias, version in model.aliases.items()} == {
            "production": "2",
            "previous": "1",
        }
        versions = [client.get_model_version(NAME, number) for number in "123"]
        assert [version.current_stage for version in versions] == ["Archived", "Production", "None"]
        assert [version.tags["gate.verdict"] for version in versions] == ["passed", "passed", "refused"]
        refused = client.get_run(str(versions[2].run_id))
    assert refused.info.status == "FAILED"
    assert "not_worse_than_production" in refused.data.tags["refused"]
    assert refused.data.tags["git.revision"] not in {"", "unknown"}
    assert stack.jobs() == jobs


def test_bad_arguments_end_a_run_with_exit_code_2(stack: Stack) -> None:
    with pytest.raises(ClusterError, match=r"exit code 2"):
        train(stack, f"--model-name={NAME}", "--epochs=-1")
