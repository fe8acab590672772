"""One application in every form of every protocol, and the answer's first row."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Collection
from csv import DictReader
from functools import partial
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from scorer.applications.missing import CSV_MISSING

BATCH, INFER = "/v1/score/batch", "/v2/models/credit-risk/infer"
NAN = float("nan")
Applicant = dict[str, Any]
Names = Collection[str]
# Path, body and media type; an inference request's has the length of its JSON too.
Request = tuple[str, bytes, str]
# Takes an application, None for a missing value.
Form = Callable[[Applicant], Request]


def present(row: Applicant) -> Applicant:
    return {name: value for name, value in row.items() if value is not None}


def with_nan(row: Applicant) -> Applicant:
    return {name: NAN if value is None else value for name, value in row.items()}


def columns(row: Applicant) -> Applicant:
    return {name: [value] for name, value in row.items()}


def as_json(path: str, document: object) -> Request:
    """As Python's own json writes it: NaN for NaN."""
    return path, json.dumps(document).encode(), "application/json"


def lines(*rows: Applicant) -> Request:
    return BATCH, b"\n".join(json.dumps(row).encode() for row in rows), "application/x-ndjson"


def table(
    row: Applicant, kind: str, number: pa.DataType, numbers: Names, *, dictionaries: bool = False, nan: bool = False
) -> Request:
    arrays = {}
    for name, value in row.items():
        given = NAN if nan and value is None and name in numbers else value
        array = pa.array([given], number if name in numbers else pa.string(), from_pandas=False)
        arrays[name] = array.dictionary_encode() if dictionaries and name not in numbers else array
    whole, buffer = pa.table(arrays), io.BytesIO()
    if kind == "parquet":
        pq.write_table(whole, buffer)
    else:
        with (pa.ipc.new_file if kind == "arrow.file" else pa.ipc.new_stream)(buffer, whole.schema) as writer:
            writer.write_table(whole)
    return BATCH, buffer.getvalue(), f"application/vnd.apache.{kind}"


def csv(row: Applicant, text: str) -> Request:
    values = [text if value is None else str(value) for value in row.values()]
    return "/invocations", f"{','.join(row)}\n{','.join(values)}\n".encode(), "text/csv"


def tensors(row: Applicant, numbers: Names) -> list[Applicant]:
    return [
        {"name": name, "shape": [1], "datatype": "FP64" if name in numbers else "BYTES", "data": [value]}
        for name, value in row.items()
    ]


def binary_tensors(row: Applicant, numbers: Names, datatype: str) -> Request:
    """NaN for a missing number; a missing text has no tensor."""
    packed, code = b"", "<d" if datatype == "FP64" else "<f"
    inputs = tensors(present({**row, **with_nan({name: row[name] for name in numbers if name in row})}), numbers)
    for tensor in inputs:
        value = tensor.pop("data")[0]
        raw = struct.pack(code, value) if tensor["name"] in numbers else struct.pack("<I", len(value)) + value.encode()
        tensor |= {"datatype": datatype if tensor["name"] in numbers else "BYTES"}
        tensor |= {"parameters": {"binary_data_size": len(raw)}}
        packed += raw
    head = json.dumps({"inputs": inputs}).encode()
    return INFER, head + packed, f"application/octet-stream;{len(head)}"


def split(row: Applicant) -> Request:
    return as_json("/invocations", {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}})


def forms_of(numbers: Names, usual: Applicant) -> dict[str, Form]:
    """Return every form of every protocol.

    Args:
        numbers: The names of the numeric features.
        usual: An application that lacks nothing, for further rows.
    """
    return {
        "single, null": lambda row: as_json("/v1/score", row),
        "single, absent": lambda row: as_json("/v1/score", present(row)),
        "records, null": lambda row: as_json(BATCH, [row, row]),
        "records, absent": lambda row: as_json(BATCH, [present(row), {**usual, **present(row)}]),
        "records beside an invalid one": lambda row: as_json(BATCH, [row, {"nonsense": 1}]),
        "columns, null": lambda row: as_json(BATCH, columns(row)),
        "columns, absent": lambda row: as_json(BATCH, columns(present(row))),
        "lines, null": lambda row: lines(row, usual),
        "lines, absent": lambda row: lines(present(row)),
        "arrow stream, null": lambda row: table(row, "arrow.stream", pa.float64(), numbers),
        "arrow file, null": lambda row: table(row, "arrow.file", pa.float64(), numbers, dictionaries=True),
        "arrow stream, NaN": lambda row: table(row, "arrow.stream", pa.float64(), numbers, nan=True),
        "arrow stream, float32": lambda row: table(row, "arrow.stream", pa.float32(), numbers),
        "arrow stream, absent": lambda row: table(present(row), "arrow.stream", pa.float64(), numbers),
        "parquet, null": lambda row: table(row, "parquet", pa.float64(), numbers),
        "parquet, NaN": lambda row: table(row, "parquet", pa.float32(), numbers, nan=True),
        **{f"csv, {text!r}": partial(csv, text=text) for text in sorted(CSV_MISSING - {"None"})},
        "csv batch": lambda row: (BATCH, *csv(row, "")[1:]),
        "csv batch, absent": lambda row: (BATCH, *csv(present(row), "?")[1:]),
        "csv, absent": lambda row: csv(present(row), ""),
        "dataframe_split, null": split,
        "dataframe_split, NaN": lambda row: split(with_nan(row)),
        "dataframe_records, null": lambda row: as_json("/invocations", {"dataframe_records": [row]}),
        "dataframe_records, NaN": lambda row: as_json("/invocations", {"dataframe_records": [with_nan(row)]}),
        "dataframe_records, absent": lambda row: as_json("/invocations", {"dataframe_records": [present(row)]}),
        "instances, null": lambda row: as_json("/invocations", {"instances": [list(row.values())]}),
        "inputs, NaN": lambda row: as_json("/invocations", {"inputs": columns(with_nan(row))}),
        "open inference, null": lambda row: as_json(INFER, {"inputs": tensors(row, numbers)}),
        "open inference, NaN": lambda row: as_json(INFER, {"inputs": tensors(with_nan(row), numbers)}),
        "open inference, absent": lambda row: as_json(INFER, {"inputs": tensors(present(row), numbers)}),
        "open inference, FP64": lambda row: binary_tensors(row, numbers, "FP64"),
        "open inference, FP32": lambda row: binary_tensors(row, numbers, "FP32"),
    }  # fmt: skip


async def send(client: httpx.AsyncClient, request: Request, query: str = "") -> httpx.Response:
    path, body, media_type = request
    kind, _, length = media_type.partition(";")
    headers = {"Content-Type": kind, **({"Inference-Header-Content-Length": length} if length else {})}
    return await client.post(path + query, content=body, headers=headers)


def first_row(answer: httpx.Response) -> Applicant:
    """The first row's probability, and its warnings where the protocol has them."""
    assert answer.status_code == 200, answer.text
    kind = answer.headers["content-type"]
    if "apache" in kind or "csv" in kind:
        cells = _first_cells(answer, kind)
        said = json.loads(cells.get("warnings") or "[]")
        return {"probability_of_default": float(cells["probability_of_default"]), "warnings": said}
    if "ndjson" in kind:
        return {"warnings": [], **json.loads(answer.text.splitlines()[0])}
    document = answer.json()
    if "predictions" in document or "outputs" in document:
        values = document.get("predictions") or document["outputs"][0]["data"]
        return {"probability_of_default": values[0]}
    if "results" in document:
        return {"warnings": [], **document["results"][0]}
    if "errors" in document:
        said = [entry["warnings"] for entry in document.get("warnings", []) if entry["row"] == 0]
        return {"probability_of_default": document["probability_of_default"][0], "warnings": said[0] if said else []}
    return {"warnings": [], **document}


def _first_cells(answer: httpx.Response, kind: str) -> Applicant:
    if "csv" in kind:
        return dict(next(iter(DictReader(io.StringIO(answer.text)))))
    buffer = io.BytesIO(answer.content)
    stream = pa.ipc.open_stream if "stream" in kind else pa.ipc.open_file
    first: Applicant = (pq.read_table(buffer) if "parquet" in kind else stream(buffer).read_all()).to_pylist()[0]
    return first
