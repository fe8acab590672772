import pytest

from trainer.data.dataset import held_out
from trainer.data.synthetic import generate


def test_a_held_out_row_stays_held_out_as_the_data_grows() -> None:
    small, grown = generate(1_000, 3), generate(2_000, 3)
    names = ("annual_income", "gender")
    before = held_out(small, names, share=0.2, seed=0)
    shuffled = small.sample(frac=1, random_state=0)
    assert (held_out(shuffled, names, share=0.2, seed=0) == before[shuffled.index]).all()
    assert held_out(grown, names, share=0.2, seed=0).mean() == pytest.approx(0.2, abs=0.03)
    assert (held_out(small, names, share=0.2, seed=1) != before).any()
