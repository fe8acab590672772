import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.time_split import Period, newest


def months(*counts: int) -> pd.Series:
    """Return the dates of rows, in no order: so many of each month from 2024-01 on."""
    days = pd.date_range("2024-01-01", periods=len(counts), freq="MS")
    return pd.Series(np.repeat(days, counts)).sample(frac=1, random_state=0).reset_index(drop=True)


def test_the_newest_rows_are_the_test_rows() -> None:
    dates = months(100, 100, 100, 100, 100)
    chosen = newest(dates, share=0.2)
    assert dates[chosen].unique().tolist() == [pd.Timestamp("2024-05-01")]
    assert chosen.sum() == 100


@given(st.lists(st.integers(1, 30), min_size=2, max_size=40), st.floats(0.05, 0.6))
def test_a_date_is_never_divided_and_the_share_is_the_nearest_possible(counts: list[int], share: float) -> None:
    dates = months(*counts)
    possible = [sum(counts[first:]) / len(dates) for first in range(1, len(counts))]
    nearest = min(abs(found - share) for found in possible)
    try:
        chosen = newest(dates, share=share)
    except ValueError:
        assert not any(share / 2 <= found <= 2 * share and abs(found - share) == nearest for found in possible)
        return
    assert dates[~chosen].max() < dates[chosen].min()
    assert abs(chosen.mean() - share) == pytest.approx(nearest)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((50,), "all rows have the date 2024-01-01; a split by time needs at least two dates"),
        (
            (20, 80),
            "2 dates are too few for a test share of 0.2, as rows of the same date stay together: the nearest share is "
            "that of the rows from 2024-02-01 on, 80.0%; --test-share=0.8 takes it",
        ),
        ((95, 5), "from 2024-02-01 on, 5.0%; --test-share=0.05 takes it"),
    ],
)
def test_too_few_dates_are_refused_with_the_share_that_would_do(counts: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        newest(months(*counts), share=0.2)


def test_a_period_shows_the_time_of_day_only_if_there_is_one() -> None:
    assert str(Period.of(months(2, 1))) == "2024-01-01 to 2024-02-01"
    moments = pd.Series(pd.to_datetime(["2024-01-01T10:30", "2024-01-02T00:00"]))
    assert str(Period.of(moments)) == "2024-01-01 10:30:00 to 2024-01-02"
