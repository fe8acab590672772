"""Training runs started as by `make train`: the Production pointer moves to a better version and not to a worse one."""

from __future__ import annotations

import time

import pytest

from e2e.registry_client import registry_client
from localcluster import training
from localcluster.console import ClusterError
from localcluster.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
COMMON = ["--synthetic-rows=3000", "--hidden=16", "--bins=8", "--batch-rows=64"]
# Without room for a linear model, which would rank well after one epoch, too.
WEAK = [*COMMON, "--hidden=16,1", "--heads=1", "--epochs=1", "--learning-rate=0.001"]
WEAK += ["--minimum-auc=0", "--maximum-ece=1", "--minimum-air=0"]
GOOD = [*COMMON, "--heads=5", "--epochs=6", "--learning-rate=0.01", "--maximum-ece=0.2", "--minimum-air=0"]


@pytest.fixture
def name() -> str:
    """A model of the test's own, also on a stack that an earlier run has kept, or that this test has failed on."""
    return f"e2e-training-{time.time_ns():x}"


def train(stack: Stack, *arguments: str) -> str:
    job = training.start(stack, "synthetic", arguments)
    training.follow(stack, job)
    return job


def test_the_production_pointer_moves_to_a_better_version_and_not_to_a_worse_one(
    stack: Stack, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    jobs, own = stack.jobs(), f"--model-name={name}"
    train(stack, own, *WEAK)
    train(stack, own, *GOOD)
    with pytest.raises(ClusterError, match=r"a gate refused the model \(exit code 3\)"):
        train(stack, own, *WEAK, "--seed=1")
    log = capfd.readouterr().out
    assert "not_worse_than_production" in log or "epoch 1 of at most 6" in log
    with registry_client(stack) as client:
        model = client.get_registered_model(name)
        assert {alias: str(version) for alias, version in model.aliases.items()} == {
            "production": "2",
            "previous": "1",
        }
        versions = [client.get_model_version(name, number) for number in "123"]
        assert [version.current_stage for version in versions] == ["Archived", "Production", "None"]
        assert [version.tags["gate.verdict"] for version in versions] == ["passed", "passed", "refused"]
        refused = client.get_run(str(versions[2].run_id))
    assert refused.info.status == "FAILED"
    assert "not_worse_than_production" in refused.data.tags["refused"]
    assert refused.data.tags["git.revision"] not in {"", "unknown"}
    assert stack.jobs() == jobs


def test_bad_arguments_end_a_run_with_exit_code_2(stack: Stack, name: str) -> None:
    with pytest.raises(ClusterError, match=r"exit code 2"):
        train(stack, f"--model-name={name}", "--epochs=-1")
