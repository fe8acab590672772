"""MLServer: a custom runtime without a pool of inference workers, as its documentation recommends for light models."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from onnx_model import OnnxModel


class Scoring(MLModel):
    async def load(self) -> bool:
        self.model = OnnxModel()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        application = {tensor.name: tensor.data[0] for tensor in payload.inputs}
        scores = np.array([self.model.score(application)], dtype=np.float32)
        output = NumpyCodec.encode_output("probability_of_default", scores)
        return InferenceResponse(model_name=self.name, outputs=[output])
