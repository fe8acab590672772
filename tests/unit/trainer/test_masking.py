"""Values hidden from the network: only where they may be missing, and as many as it takes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from trainer.data.dataset import Dataset
from trainer.data.inputs import CategoryInput, Inputs
from trainer.learning.masking import mask, masked_share

ROWS = 20_000
INPUTS = Inputs(missing=(True, True, False), categories=(CategoryInput(2, missing=True, other=True), CategoryInput(2)))


@pytest.fixture
def data() -> Dataset:
    rng = np.random.default_rng(0)
    numeric = rng.normal(size=(ROWS, 3)).astype(np.float32)
    numeric[rng.random(ROWS) < 0.3, 1] = np.nan
    return Dataset(
        pd.DataFrame(index=range(ROWS)), numeric, rng.integers(0, 2, (ROWS, 2)), rng.integers(0, 2, ROWS).astype("f4")
    )


def test_what_may_occur_occurs_on_one_row_of_a_hundred(data: Dataset) -> None:
    masked = mask(data, INPUTS, seed=0)
    shares = np.isnan(masked.numeric).mean(axis=0)
    assert shares[0] == pytest.approx(0.01, abs=0.003)
    assert shares[2] == 0
    codes = [np.bincount(masked.categorical[:, column], minlength=4) / ROWS for column in range(2)]
    assert codes[0][2:] == pytest.approx([0.01, 0.01], abs=0.003)
    assert codes[1][2:].tolist() == [0, 0]


def test_what_occurs_often_enough_stays_as_it_is(data: Dataset) -> None:
    masked = mask(data, INPUTS, seed=0)
    assert np.array_equal(masked.numeric[:, 1], data.numeric[:, 1], equal_nan=True)
    assert np.array_equal(masked.numeric[:, 2], data.numeric[:, 2])


def test_the_given_rows_are_not_changed_and_the_seed_decides(data: Dataset) -> None:
    before = data.numeric.copy(), data.categorical.copy()
    first, again, other = (mask(data, INPUTS, seed=seed).numeric[:, 0] for seed in (0, 0, 1))
    assert np.array_equal(before[0], data.numeric, equal_nan=True)
    assert np.array_equal(before[1], data.categorical)
    assert np.array_equal(first, again, equal_nan=True)
    assert not np.array_equal(first, other, equal_nan=True)


def test_data_in_which_nothing_may_be_missing_are_not_even_copied(data: Dataset) -> None:
    assert mask(data, Inputs((False,) * 3, (CategoryInput(2), CategoryInput(2))), seed=0) is data


@pytest.mark.parametrize(("rows", "share"), [(100_000, 0.01), (5_000, 0.01), (2_500, 0.02), (100, 0.05)])
def test_few_rows_take_a_larger_share(rows: int, share: float) -> None:
    assert masked_share(rows) == pytest.approx(share)
