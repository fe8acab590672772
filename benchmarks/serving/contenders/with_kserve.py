"""KServe's Python server: one worker, the protocol's version 1."""

import sys

import kserve
from onnx_model import OnnxModel


class Scoring(kserve.Model):
    def __init__(self):
        super().__init__("credit-risk")
        self.model = OnnxModel()
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        return {"predictions": [self.model.score(application) for application in payload["instances"]]}


if __name__ == "__main__":
    port = int(sys.argv[1])
    kserve.ModelServer(http_port=port, enable_grpc=False, workers=1, access_log_format=None).start([Scoring()])
