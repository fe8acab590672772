"""What the processes of a group share: rows, dropout, and the newest checkpoint. test_launch.py has real groups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.data.dataset import Dataset, encode
from trainer.data.declaration import FeatureDeclaration
from trainer.data.synthetic import generate
from trainer.errors import BadInputError, FollowedError
from trainer.learning.fitting import Fitted, fit
from trainer.learning.group import ALONE, Group, joined
from trainer.learning.hyperparameters import Hyperparameters, Precision
from trainer.learning.network import ByteDropout, Part
from trainer.learning.optimizer import FusedAdamW
from trainer.learning.state import Checkpoints, EpochReport, TrainingState

SMALL = Hyperparameters(heads=2, hidden=(16,), bins=4, batch_rows=128, epochs=4, patience=4).for_rows(2_000)


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 4096])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_shares_of_all_processes_are_all_rows_once_and_as_even_as_can_be(rows: int, size: int) -> None:
    shares = [range(rows)[Group(rank, size).share(rows)] for rank in range(size)]
    assert [row for share in shares for row in share] == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_units_that_are_dropped_do_not_depend_on_how_many_processes_share_a_batch() -> None:
    dropout, units = ByteDropout(0.3), torch.ones(3, 101, 7)
    torch.manual_seed(1)
    whole = dropout(units)
    assert 0.2 < (whole == 0).float().mean() < 0.4
    for rows in (slice(0, 50), slice(50, 101), slice(101, 101)):
        torch.manual_seed(1)
        part = dropout(units[:, rows], Part(rows, of=101))
        assert torch.equal(part, whole[:, rows])


def test_a_process_that_no_launcher_started_is_alone_and_changes_nothing() -> None:
    with joined() as group:
        assert group == ALONE
    values = torch.tensor([1.0, 2.0])
    group.sum(values)
    assert values.tolist() == [1, 2]
    assert group.gather(3) == [3]
    assert group.from_rank(0, b"text") == b"text"
    group.agree("text")


def state_of(value: float, epoch: int) -> TrainingState:
    parameters = [torch.full((2, 3), value, requires_grad=True)]
    averages = [torch.full((2, 3), value)]
    optimizer = FusedAdamW(parameters, averages, weight_decay=0.1)
    state = TrainingState(parameters, averages, optimizer, best=[torch.full((2, 3), value)])
    for number in range(epoch):
        state.end_epoch(EpochReport(number, 9, train_loss=0.5, validation_loss=0.5, learning_rate=0.1, seconds=1.0))
    return state


@dataclass(frozen=True)
class Answered(Group):
    """A group whose exit codes are known."""

    codes: tuple[int, ...] = ()

    def gather(self, number: int) -> list[int]:
        """Return this process's number and what the others say."""
        return [number, *self.codes]


def test_an_error_of_one_process_ends_all_with_its_exit_code() -> None:
    with pytest.raises(FollowedError, match="another process failed") as followed, Answered(codes=(0, 2)).together():
        pass
    assert followed.value.exit_code == 2
    with pytest.raises(BadInputError, match="own"), Answered(codes=(0, 0)).together():
        raise BadInputError("its own")
    with Answered(codes=(0, 0)).together():
        pass


def test_a_checkpoint_is_written_by_the_first_process_of_each_pod_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    Checkpoints(path, Group(rank=1, size=2, local_rank=1)).write(state_of(1.0, epoch=1))
    assert not path.exists()
    Checkpoints(path, Group(rank=2, size=4, local_rank=0)).write(state_of(2.0, epoch=3))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    resumed = state_of(0.0, epoch=0)
    Checkpoints(path, ALONE).resume(resumed)
    assert (resumed.epoch, resumed.best_epoch, resumed.best_loss) == (3, 0, 0.5)
    assert resumed.parameters[0].tolist() == resumed.averages[0].tolist() == [[2.0] * 3] * 2
    assert [report.epoch for report in resumed.history] == [0, 1, 2]


@pytest.fixture(scope="module")
def data(declaration: FeatureDeclaration) -> Dataset:
    return encode(generate(2_000, seed=3), declaration)


def trained(data: Dataset, declaration: FeatureDeclaration, precision: Precision) -> Fitted:
    hyperparameters = replace(SMALL, precision=precision)
    return fit(data, inputs=declaration.inputs, hyperparameters=hyperparameters, seed=0, on_epoch=lambda _: None)


def test_bfloat16_trains_other_weights_that_predict_as_well(data: Dataset, declaration: FeatureDeclaration) -> None:
    """On the CPU here; on a GPU, autocast chooses the same operations."""
    full, half = (trained(data, declaration, precision) for precision in Precision)
    weights = [next(iter(fitted.network.layers.parameters())) for fitted in (full, half)]
    assert all(weight.dtype == torch.float32 for weight in weights)
    assert not torch.equal(*weights)
    assert full.history[-1].validation_loss == pytest.approx(half.history[-1].validation_loss, abs=0.01)
    assert np.isfinite(half.out_of_fold_logit).all()
