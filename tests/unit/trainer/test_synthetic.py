import pytest
from sklearn.metrics import roc_auc_score

from trainer.data.synthetic import default_probability, generate


def test_the_sample_can_be_learned_and_about_a_fifth_of_it_defaults() -> None:
    frame = generate(20_000, 0)
    default = 1 - frame["loan_paid_back"].to_numpy()
    assert default.mean() == pytest.approx(0.2, abs=0.02)
    assert 0.86 < roc_auc_score(default, default_probability(frame)) < 0.91
