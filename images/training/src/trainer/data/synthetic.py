"""The built-in sample: loans drawn from documented distributions, so that everything runs without a data file.

The marginals resemble public loan-payback data: income is log-normal (median 36,600 USD), debt-to-income is
beta-distributed around .18, the credit score is normal (679, 69) and clipped to 300..850, the interest rate falls
with the score, and the grade follows score and rate. Default depends mainly on employment, then on debt, score and
income, with interactions that a linear model cannot capture; labels are drawn from that probability, so no model can
be perfect. About 20 % default; the true probabilities reach a ROC AUC of about .88. Gender and marital status have no
influence.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

DEFAULT_ROWS = 20_000

_GENDER = {"Female": 0.50, "Male": 0.48, "Other": 0.02}
_MARITAL_STATUS = {"Married": 0.45, "Single": 0.45, "Divorced": 0.07, "Widowed": 0.03}
_EDUCATION = {"Bachelor's": 0.40, "High School": 0.30, "Master's": 0.18, "Other": 0.08, "PhD": 0.04}
_EMPLOYMENT = {"Employed": 0.65, "Self-employed": 0.15, "Unemployed": 0.105, "Retired": 0.055, "Student": 0.04}
_PURPOSE = {
    "Debt consolidation": 0.40,
    "Other": 0.13,
    "Car": 0.12,
    "Home": 0.10,
    "Education": 0.08,
    "Business": 0.08,
    "Medical": 0.06,
    "Vacation": 0.03,
}
_EMPLOYMENT_EFFECT = {"Employed": 0.0, "Self-employed": 0.1, "Unemployed": 4.3, "Retired": -3.0, "Student": 2.9}
_GRADE_SHARES = np.array([0.045, 0.155, 0.36, 0.28, 0.085, 0.075])


def generate(rows: int, seed: int) -> pd.DataFrame:
    """Draw `rows` loans; the same arguments give the same table.

    Returns:
        Columns `id`, the eleven features, and `loan_paid_back` (1 = paid back).
    """
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": np.arange(rows),
            "annual_income": rng.lognormal(np.log(36_600), 0.58, rows).clip(6_000, 400_000).round(2),
            "debt_to_income_ratio": rng.beta(2.1, 9.8, rows).clip(0.01, 0.9).round(3),
            "credit_score": rng.normal(679, 69, rows).clip(300, 850).round(),
            "loan_amount": rng.normal(15_100, 8_700, rows).clip(500, 49_000).round(2),
        }
    )
    score = (frame["credit_score"].to_numpy() - 679) / 69
    rate = (12.4 - 1.6 * score + rng.normal(0, 1.85, rows)).clip(3, 23)
    frame["interest_rate"] = rate.round(2)
    for name, shares in {
        "gender": _GENDER,
        "marital_status": _MARITAL_STATUS,
        "education_level": _EDUCATION,
        "employment_status": _EMPLOYMENT,
        "loan_purpose": _PURPOSE,
    }.items():
        frame[name] = rng.choice(list(shares), rows, p=list(shares.values()))
    frame["grade_subgrade"] = _grades(0.8 * score - 0.1 * (rate - 12.4), rng)
    frame["loan_paid_back"] = (rng.random(rows) >= default_probability(frame)).astype(np.int64)
    return frame


def default_probability(frame: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return the true probability of default, from which `generate` draws each row's label; float64 [N]."""
    score = (frame["credit_score"].to_numpy(dtype=np.float64) - 679) / 69
    debt = frame["debt_to_income_ratio"].to_numpy(dtype=np.float64)
    income = np.log(frame["annual_income"].to_numpy(dtype=np.float64) / 36_600)
    burden = frame["loan_amount"].to_numpy(dtype=np.float64) / frame["annual_income"].to_numpy(dtype=np.float64)
    employment = frame["employment_status"].map(_EMPLOYMENT_EFFECT).to_numpy(dtype=np.float64)
    works = frame["employment_status"].isin(["Employed", "Self-employed"]).to_numpy()
    logit = (
        -3.43
        + employment
        + np.where(works, 9.0, 3.0) * np.maximum(debt - 0.12, 0.0)
        - 0.75 * score
        + 0.5 * np.maximum(-score - 0.8, 0.0)
        - 0.35 * income
        + 0.35 * np.minimum(burden, 2.0)
    )
    return np.asarray(1 / (1 + np.exp(-logit)), dtype=np.float64)


def _grades(quality: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.str_]:
    rank = (quality + rng.normal(0, 0.35, len(quality))).argsort().argsort()
    best_first = 1 - (rank + 0.5) / max(len(quality), 1)
    letter = np.searchsorted(_GRADE_SHARES.cumsum()[:-1], best_first)
    return np.char.add(np.array(list("ABCDEF"))[letter], rng.integers(1, 6, len(quality)).astype("U1"))
