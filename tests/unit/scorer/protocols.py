"""The same applications as a request of every protocol, for what must hold in all of them."""

from __future__ import annotations

import csv
import io
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
ARROW_FILE = "application/vnd.apache.arrow.file"
PARQUET = "application/vnd.apache.parquet"
OCTET_STREAM = "application/octet-stream"
BATCH, INVOCATIONS, INFER = "/v1/score/batch", "/invocations", "/v2/models/credit-risk/infer"
Rows = Sequence[Mapping[str, Any]]
PROTOCOLS = ["single", "records", "columns", "lines", "csv", "arrow-stream", "arrow-file", "parquet", "split",
             "frame-records", "instances", "inputs", "invocations-csv", "tensors", "binary-tensors"]  # fmt: skip
# Those whose body is text, so that it has a charset.
TEXTS = [name for name in PROTOCOLS if name not in {"arrow-stream", "arrow-file", "parquet", "binary-tensors"}]


@dataclass(frozen=True)
class Sample:
    """A request without its Content-Encoding."""

    path: str
    media_type: str
    body: bytes
    headers: Mapping[str, str]


def sample(protocol: str, rows: Rows) -> Sample:
    """Return applications in a protocol's form; a single one takes the first row."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    if protocol == "binary-tensors":
        return _binary_tensors(columns)
    if protocol in {"arrow-stream", "arrow-file", "parquet"}:
        media_type = {"arrow-stream": ARROW_STREAM, "arrow-file": ARROW_FILE, "parquet": PARQUET}[protocol]
        return Sample(BATCH, media_type, _table(columns, media_type), {})
    documents: dict[str, tuple[str, Any]] = {
        "single": ("/v1/score", rows[0]),
        "records": (BATCH, rows),
        "columns": (BATCH, columns),
        "split": (INVOCATIONS, {"dataframe_split": {"columns": list(columns), "data": _values(rows)}}),
        "frame-records": (INVOCATIONS, {"dataframe_records": rows}),
        "instances": (INVOCATIONS, {"instances": _values(rows)}),
        "inputs": (INVOCATIONS, {"inputs": columns}),
        "tensors": (INFER, {"inputs": [_tensor(name, values) for name, values in columns.items()]}),
    }
    if protocol in documents:
        path, document = documents[protocol]
        return Sample(path, JSON, json.dumps(document).encode(), {})
    if protocol == "lines":
        return Sample(BATCH, NDJSON, "\n".join(map(json.dumps, rows)).encode(), {})
    text = io.StringIO()
    csv.writer(text).writerows([list(columns), *_values(rows)])
    return Sample({"csv": BATCH, "invocations-csv": INVOCATIONS}[protocol], CSV, text.getvalue().encode(), {})


def probabilities(protocol: str, answer: httpx.Response) -> list[float]:
    """Return the scores in an answer to a sample."""
    if "invocations" in str(answer.request.url):
        return list(answer.json()["predictions"])
    return [float(score) for score in values_of("probability_of_default", protocol, answer)]


def values_of(name: str, protocol: str, answer: httpx.Response) -> list[Any]:
    """Return what an answer to a sample says by name, by row; None for a row that it says nothing about."""
    if protocol in {"arrow-stream", "arrow-file", "parquet"}:
        columns = _read_table(answer.content, answer.headers["content-type"]).to_pydict()
        return list(columns.get(name, [None] * len(columns["problem"])))
    if protocol in {"lines", "csv"}:
        lines = answer.text.splitlines()
        rows = map(json.loads, lines) if protocol == "lines" else csv.DictReader(lines)
        return [row.get(name) or None for row in rows]
    match document := answer.json():
        case {"errors": _, "decision": decisions}:
            return list(document.get(name, [None] * len(decisions)))
        case {"results": results}:
            return [row.get(name) for row in results]
        case {"outputs": outputs}:
            tensors = {out["name"]: list(out["data"]) for out in outputs}
            return tensors.get(name, [None] * len(tensors["decision"]))
        case _:
            return [document.get(name)]


def _values(rows: Rows) -> list[list[Any]]:
    return [list(row.values()) for row in rows]


def _tensor(name: str, values: Sequence[Any]) -> dict[str, Any]:
    kind = {str: "BYTES", bool: "BOOL"}.get(type(values[0]), "FP64")
    return {"name": name, "datatype": kind, "shape": [len(values)], "data": values}


def _binary_tensors(columns: Mapping[str, Sequence[Any]]) -> Sample:
    inputs, binary = [], b""
    for name, values in columns.items():
        tensor = _tensor(name, values)
        del tensor["data"]
        raw = (
            b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in values)
            if tensor["datatype"] == "BYTES"
            else struct.pack(f"<{len(values)}{'?' if tensor['datatype'] == 'BOOL' else 'd'}", *values)
        )
        inputs.append({**tensor, "parameters": {"binary_data_size": len(raw)}})
        binary += raw
    head = json.dumps({"inputs": inputs}).encode()
    return Sample(INFER, OCTET_STREAM, head + binary, {"Inference-Header-Content-Length": str(len(head))})


def _table(columns: Mapping[str, Sequence[Any]], media_type: str) -> bytes:
    table, buffer = pa.table({name: list(values) for name, values in columns.items()}), io.BytesIO()
    if media_type == PARQUET:
        pq.write_table(table, buffer)
        return buffer.getvalue()
    with (pa.ipc.new_file if media_type == ARROW_FILE else pa.ipc.new_stream)(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def _read_table(body: bytes, media_type: str) -> pa.Table:
    if media_type == PARQUET:
        return pq.read_table(io.BytesIO(body))
    return (pa.ipc.open_file if media_type == ARROW_FILE else pa.ipc.open_stream)(body).read_all()
