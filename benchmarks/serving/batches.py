"""Compare a batch of 10,000 rows over HTTP with calling the ONNX model directly on prepared arrays."""

import io
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.data.synthetic import generate

ROWS = 10_000
DIRECT = "the ONNX model, directly"
ARROW, PARQUET, NDJSON = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet", "application/x-ndjson"


def direct_call(model: Path, features: list[dict], loans: pd.DataFrame) -> Callable[[], object]:
    """Return a call of the ONNX model on prepared arrays."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(model / "model.onnx"), options, providers=["CPUExecutionProvider"])
    numeric = loans[[f["name"] for f in features if f["kind"] == "numeric"]].to_numpy(np.float32)
    codes = np.stack([
        loans[f["name"]].map({word: code for code, word in enumerate(f["categories"])}).to_numpy(np.int64)
        for f in features if f["kind"] == "categorical"
    ], axis=1)  # fmt: skip
    return lambda: session.run(None, {"numeric": numeric, "categorical": codes})


def bodies_of(loans: pd.DataFrame) -> dict[str, tuple[str, bytes]]:
    """Return each format's media type and the loans in it."""
    table, arrow, parquet = pa.Table.from_pandas(loans, preserve_index=False), io.BytesIO(), io.BytesIO()
    with pa.ipc.new_stream(arrow, table.schema) as writer:
        writer.write_table(table)
    pq.write_table(table, parquet)
    records = loans.to_dict("records")
    return {
        "Arrow": (ARROW, arrow.getvalue()),
        "Parquet": (PARQUET, parquet.getvalue()),
        "JSON columns": ("application/json", json.dumps(loans.to_dict("list")).encode()),
        "JSON records": ("application/json", json.dumps(records).encode()),
        "NDJSON": (NDJSON, "\n".join(map(json.dumps, records)).encode()),
    }


def measure_batches(model: Path, port: int, rounds: int = 7) -> None:
    """Print the rows per second of each format, and their ratio to the direct call within the same round."""
    os.sched_setaffinity(0, {1})
    features = json.loads((model / "contract.json").read_text())["features"]
    loans = generate(ROWS, seed=11)[[feature["name"] for feature in features]]
    call_directly, bodies = direct_call(model, features, loans), bodies_of(loans)
    seconds = defaultdict(list)
    http = HTTPConnection("127.0.0.1", port, timeout=60)
    for number in range(rounds + 1):
        took = {}
        started = time.perf_counter()
        call_directly()
        took[DIRECT] = time.perf_counter() - started
        for name, (kind, body) in bodies.items():
            started = time.perf_counter()
            http.request("POST", "/v1/score/batch", body, {"Content-Type": kind})
            answer = http.getresponse()
            document = answer.read()
            took[name] = time.perf_counter() - started
            if answer.status != 200:
                raise SystemExit(f"{name}: {answer.status} {document[:300]!r}")
        # The first round warms up.
        for name, value in took.items() if number else ():
            seconds[name].append(value)
    direct = seconds[DIRECT]
    print(f"\n| batch of {ROWS} rows | rows/s | ratio to the direct call |\n|---|---|---|")
    for name, found in seconds.items():
        ratio = statistics.median(base / value for base, value in zip(direct, found, strict=True))
        print(f"| {name} | {ROWS / statistics.median(found):.0f} | {ratio:.2f} |")
