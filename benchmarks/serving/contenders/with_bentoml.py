"""BentoML: one worker, as `bentoml serve` runs it in production."""

import bentoml
from onnx_model import OnnxModel


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, traffic={"timeout": 30})
class Scoring:
    def __init__(self):
        self.model = OnnxModel()

    @bentoml.api
    def score(self, application: dict) -> dict:
        return {"probability_of_default": self.model.score(application)}
