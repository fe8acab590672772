"""FastAPI as in its tutorial: a `def` endpoint, a request model, a response model."""

from fastapi import FastAPI
from onnx_model import OnnxModel
from pydantic import BaseModel

app = FastAPI()
model = OnnxModel()


class Application(BaseModel):
    annual_income: float
    debt_to_income_ratio: float
    credit_score: float
    loan_amount: float
    interest_rate: float
    gender: str
    marital_status: str
    education_level: str
    employment_status: str
    loan_purpose: str
    grade_subgrade: str


class Score(BaseModel):
    probability_of_default: float
    decision: str


@app.post("/score", response_model=Score)
def score(application: Application) -> Score:
    probability = model.score(application.model_dump())
    return Score(probability_of_default=probability, decision="approve" if probability < 0.5 else "decline")
