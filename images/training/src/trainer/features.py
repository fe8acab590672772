"""The features of a loan application: the one declaration that data checks, network and contract are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TARGET = "loan_paid_back"
IDENTIFIER = "id"


@dataclass(frozen=True)
class Numeric:
    """A number with its unit; a value outside of minimum..maximum is a mistake, not an applicant."""

    name: str
    unit: str
    minimum: float
    maximum: float
    description: str
    reason_code: str
    protected: bool = False
    kind: Literal["numeric"] = "numeric"


@dataclass(frozen=True)
class Categorical:
    """One of a list of words; a word's position is its number in the model's input."""

    name: str
    categories: tuple[str, ...]
    description: str
    reason_code: str
    protected: bool = False
    kind: Literal["categorical"] = "categorical"


GRADES = tuple(f"{letter}{digit}" for letter in "ABCDEF" for digit in range(1, 6))
PURPOSES = (
    "Business", "Car", "Debt consolidation", "Education", "Home", "Medical", "Other", "Vacation",
)  # fmt: skip

NUMERIC = (
    Numeric("annual_income", "USD/year", 0.0, 10_000_000.0, "Gross income per year", "R01"),
    Numeric("debt_to_income_ratio", "", 0.0, 10.0, "Monthly debt payments over monthly income", "R02"),
    Numeric("credit_score", "points", 300.0, 850.0, "Credit bureau score", "R03"),
    Numeric("loan_amount", "USD", 1.0, 10_000_000.0, "Amount of the loan", "R04"),
    Numeric("interest_rate", "%/year", 0.0, 100.0, "Interest rate of the loan", "R05"),
)
CATEGORICAL = (
    Categorical("gender", ("Female", "Male", "Other"), "Gender as stated by the applicant", "R06", protected=True),
    Categorical(
        "marital_status", ("Divorced", "Married", "Single", "Widowed"), "Marital status", "R07", protected=True
    ),
    Categorical(
        "education_level", ("Bachelor's", "High School", "Master's", "Other", "PhD"), "Highest education", "R08"
    ),
    Categorical(
        "employment_status", ("Employed", "Retired", "Self-employed", "Student", "Unemployed"), "Employment", "R09"
    ),
    Categorical("loan_purpose", PURPOSES, "What the loan is for", "R10"),
    Categorical("grade_subgrade", GRADES, "Grade that the lender's desk gave", "R11"),
)
FEATURES: tuple[Numeric | Categorical, ...] = (*NUMERIC, *CATEGORICAL)
