"""The model called directly, as users of onnxruntime would: columns are trusted, and a batch is one call."""

import json


def prepare(model):
    """Return functions that encode a batch and that call the model."""
    import numpy as np
    import onnxruntime as ort
    import pyarrow as pa
    import pyarrow.compute as pc

    features = json.loads((model / "contract.json").read_text())["features"]
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(model / "model.onnx"), options, providers=["CPUExecutionProvider"])
    numeric = [feature["name"] for feature in features if feature["kind"] == "numeric"]
    words = {f["name"]: pa.array(f["categories"]) for f in features if f["kind"] == "categorical"}

    def encode(batch):
        numbers = np.stack([batch[name].to_numpy(zero_copy_only=False) for name in numeric], 1).astype(np.float32)
        codes = [pc.index_in(batch[name], known).to_numpy(zero_copy_only=False) for name, known in words.items()]
        return numbers, np.stack(codes, 1).astype(np.int64)

    def call(numbers, codes):
        return session.run(None, {"numeric": numbers, "categorical": codes})[0]

    return [*numeric, *words], encode, call


class DirectScorer:
    """Returns ids and probabilities of a batch, in whatever process it is sent to."""

    def __init__(self, model):
        self.model, self.made = model, None

    def __getstate__(self):
        return {"model": self.model, "made": None}

    def __call__(self, batch):
        """Prepare where it is called first."""
        import pyarrow as pa

        if self.made is None:
            self.made = prepare(self.model)[1:]
        encode, call = self.made
        columns = [batch["id"], pa.array(call(*encode(batch)))]
        return pa.RecordBatch.from_arrays(columns, ["id", "probability_of_default"])
