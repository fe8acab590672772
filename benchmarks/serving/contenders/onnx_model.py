"""What every contender serves: one version's ONNX file, with its contract's encoding."""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime as ort

FOLDER = Path(os.environ["MODEL_FOLDER"])


class OnnxModel:
    def __init__(self):
        features = json.loads((FOLDER / "contract.json").read_text())["features"]
        self.numeric = [f["name"] for f in features if f["kind"] == "numeric"]
        self.codes = {
            f["name"]: {word: code for code, word in enumerate(f["categories"])}
            for f in features
            if f["kind"] == "categorical"
        }
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(str(FOLDER / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def score(self, application: dict) -> float:
        numeric = np.array([[application[name] for name in self.numeric]], dtype=np.float32)
        codes = np.array([[code[application[name]] for name, code in self.codes.items()]], dtype=np.int64)
        return float(self.session.run(None, {"numeric": numeric, "categorical": codes})[0][0])
