"""LitServe: one worker, one request at a time, its recommended server (uvicorn with uvloop and httptools)."""

import sys

import litserve
from onnx_model import OnnxModel


class Scoring(litserve.LitAPI):
    def setup(self, device):
        self.model = OnnxModel()

    def decode_request(self, request):
        return request

    def predict(self, application):
        return self.model.score(application)

    def encode_response(self, probability):
        return {"probability_of_default": probability}


if __name__ == "__main__":
    server = litserve.LitServer(Scoring(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False)
