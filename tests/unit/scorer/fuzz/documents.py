"""Hostile JSON, NDJSON, CSV and tensors around valid applications, each with what its answer must be."""

from __future__ import annotations

import csv
import json
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unit.scorer.fuzz.oracle import Oracle, RepeatedKey, parse_json
from unit.scorer.fuzz.wire import Answer, Request

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
BATCH, INVOCATIONS, INFER = "/v1/score/batch", "/invocations", "/v2/models/credit-risk/infer"
# Returns what is wrong with an answer, empty if nothing is.
Check = Callable[[Answer], str]
# As JSON text: Python has no value that is written like some of these.
NUMBERS = ["0", "-0", "-1", "1e3", "7.5E2", "1e-400", "1e999", "-1e999", "NaN", "Infinity", "1" * 400, "1" * 5000,
           "752.0000000000000000000000001", "01", "+1", ".5", "1.", "0x10", "1_000", "true", "null", '"752"', "[752]",
           "{}", '{"a":{"a":1}}', "300", "850", "850.0001", "299.9999"]  # fmt: skip
WORDS = ['""', '"male"', '"Male "', '"M\\u0061le"', '"\\ud800"', '"\\u0000"', "null", "1", "[]", '["Male"]',
         '"' + "x" * 3000 + '"',         '"Male\\n"', '"\u00e9"']  # fmt: skip
HEADER_TEXT = [chr(code) for code in (*range(0x21, 0x7F), *range(0xA1, 0x100))]
OTHER_KEYS = ["applicant_id", "loan_paid_back", "", "credit_score ", "\u0000", "__proto__", "x" * 500]


@dataclass
class Shot:
    """A request, and what its answer must be beyond the rules for all answers."""

    request: Request
    check: Check = lambda _: ""
    note: str = ""


def spoil(body: bytes, dice: random.Random, most: int = 3) -> bytes:
    """Return bytes with a few places cut, replaced, doubled or extended."""
    data = bytearray(body)
    for _ in range(dice.randint(1, most)):
        at, length = dice.randrange(len(data) + 1), dice.choice([0, 1, 1, 2, 8, 200])
        data[at : at + length] = dice.choice([
            b"", dice.randbytes(1), dice.randbytes(4), bytes(data[at : at + length]) * 2, b"\x00", b'"', b",", b"]",
            struct.pack("<I", dice.choice([0, 1, 2**31 - 1, 2**32 - 1])),
        ])  # fmt: skip
    return bytes(data[: dice.randrange(len(data) + 1)] if dice.random() < 0.1 else data)


class Documents:
    """Makes shots from valid applicants."""

    def __init__(self, oracle: Oracle, applicants: Sequence[Mapping[str, Any]]) -> None:
        self.oracle, self.applicants = oracle, applicants

    def application(self, dice: random.Random) -> bytes:
        """Return one application as JSON: valid, wrong in some fields, or not JSON."""
        parts = [(name, json.dumps(value)) for name, value in dice.choice(self.applicants).items()]
        for _ in range(dice.choice([0, 0, 1, 1, 2])):
            at = dice.randrange(len(parts))
            name, text = parts[at]
            parts[at] = (name, dice.choice(WORDS if text.startswith('"') else NUMBERS))
        if dice.random() < 0.1:
            parts.append((dice.choice(OTHER_KEYS), dice.choice(['"a:b"', "null", "1", '"\\ud800"', "{}"])))
        if dice.random() < 0.05:
            parts.append(dice.choice(parts))
        if dice.random() < 0.05:
            del parts[dice.randrange(len(parts))]
        dice.shuffle(parts)
        space = dice.choice(["", "", " ", "\t"])
        body = ("{" + f",{space}".join(f"{_key(name, dice)}:{space}{text}" for name, text in parts) + "}").encode()
        return spoil(body, dice) if dice.random() < 0.15 else body

    def single(self, dice: random.Random) -> Shot:
        body, reasons = self.application(dice), dice.random() < 0.2
        headers = (
            {"Content-Type": dice.choice([JSON, f"{JSON}; charset=utf-8", f'{JSON};charset="UTF-8"'])}
            if dice.random() < 0.9
            else {}
        )
        if dice.random() < 0.2:
            headers["X-Applicant-Id"] = "".join(dice.choice(HEADER_TEXT) for _ in range(8))

        def check(answer: Answer) -> str:
            if answer.status not in {200, 400, 422}:
                return f"status {answer.status}"
            return self.oracle.complaint(parsed(body), answer.json() if answer.status == 200 else None)

        return Shot(Request("POST", f"/v1/score{'?reasons=4' if reasons else ''}", body, headers), check)

    def valid(self, dice: random.Random) -> Shot:
        """Return a valid application, which must be scored whatever happens beside it."""
        applicant = dice.choice(self.applicants)

        def check(answer: Answer) -> str:
            if answer.status != 200:
                return f"status {answer.status} for a valid application: {answer.body[:300]!r}"
            return self.oracle.complaint(applicant, answer.json())

        return Shot(Request("POST", "/v1/score", json.dumps(applicant).encode(), {"Content-Type": JSON}), check)

    def records(self, dice: random.Random) -> Shot:
        body = b"[" + b",".join(self.application(dice) for _ in range(_rows(dice))) + b"]"
        body = spoil(body, dice) if dice.random() < 0.1 else body

        def check(answer: Answer) -> str:
            rows = parsed(body)
            if answer.status != 200:
                return (
                    f"{answer.status} for an array: {answer.body[:300]!r}"
                    if isinstance(rows, list) and _decodes(body)
                    else ""
                )
            if not isinstance(rows, list):
                return "" if not _decodes(body) else f"200 for {body[:200]!r}"
            return self._rows(rows, answer.json()["results"])

        return Shot(Request("POST", BATCH, body, {"Content-Type": JSON}), check)

    def lines(self, dice: random.Random) -> Shot:
        lines = [self.application(dice).replace(b"\n", b" ") for _ in range(_rows(dice))]
        body = dice.choice([b"\n", b"\r\n", b"\n\n"]).join(lines) + dice.choice([b"", b"\n"])

        def check(answer: Answer) -> str:
            if answer.status != 200:
                return f"status {answer.status} for lines"
            rows = [parsed(line) for line in body.split(b"\n") if line.strip()]
            return self._rows(rows, [json.loads(line) for line in answer.body.splitlines()])

        return Shot(Request("POST", BATCH, body, {"Content-Type": NDJSON}), check)

    def _rows(self, rows: Sequence[object], results: Sequence[Mapping[str, Any]]) -> str:
        if [result.get("row") for result in results] != list(range(len(rows))):
            return f"{len(results)} results of {len(rows)} rows"
        for row, result in zip(rows, results, strict=True):
            if complaint := self.oracle.complaint(row, None if "problem" in result else result):
                return f"row {result['row']}: {complaint}"
        return ""

    def columns(self, dice: random.Random) -> Shot:
        """Send columns in one of the forms that take them, whole or spoiled."""
        rows = [dict(dice.choice(self.applicants)) for _ in range(_rows(dice))]
        for row in rows:
            if dice.random() < 0.1:
                name = dice.choice(self.oracle.names)
                row[name] = dice.choice([None, True, 1e308, -5, "", "x", [], {}, 10**30, "752"])
        form = dice.choice([self._batch_columns, self._split, self._frame_records, self._inputs, self._tensors])
        shot = form(rows, dice)
        if dice.random() < 0.3:
            shot.request.body, shot.check = spoil(shot.request.body, dice), _any_score
        return shot

    def _batch_columns(self, rows: list[dict[str, Any]], _: random.Random) -> Shot:
        body = json.dumps({name: [row[name] for row in rows] for name in self.oracle.names}).encode()

        def check(answer: Answer) -> str:
            if answer.status != 200:
                return f"status {answer.status} for columns"
            found = answer.json()
            wrong = {error["row"] for error in found["errors"]}
            names = ("probability_of_default", "decision")
            return self._rows(rows, [
                {"row": row, **({"problem": 1} if row in wrong else {name: found[name][row] for name in names})}
                for row in range(len(found["decision"]))
            ])  # fmt: skip

        return Shot(Request("POST", BATCH, body, {"Content-Type": JSON}), check)

    def _split(self, rows: list[dict[str, Any]], _: random.Random) -> Shot:
        data = [[row[name] for name in self.oracle.names] for row in rows]
        return self._invocation(rows, {"dataframe_split": {"columns": self.oracle.names, "data": data}})

    def _frame_records(self, rows: list[dict[str, Any]], dice: random.Random) -> Shot:
        return self._invocation(rows, {dice.choice(["dataframe_records", "instances"]): rows})

    def _inputs(self, rows: list[dict[str, Any]], dice: random.Random) -> Shot:
        nest = dice.random() < 0.5
        columns = {name: [[row[name]] if nest else row[name] for row in rows] for name in self.oracle.names}
        shot = self._invocation(rows, {"inputs": columns})
        # A list in a column of lists of one is not told from a column that is nested twice.
        nested = any(isinstance(value, list) for row in rows for value in row.values())
        return Shot(shot.request, _any_score) if nest or nested else shot

    def _invocation(self, rows: list[dict[str, Any]], document: dict[str, Any]) -> Shot:
        request = Request("POST", INVOCATIONS, json.dumps(document).encode(), {"Content-Type": JSON})
        if not rows:
            # Without rows there are no columns either in most of these forms.
            return Shot(request, _any_score)
        return Shot(
            request,
            lambda answer: self._all_or_none(rows, answer, lambda found: found["predictions"]),
        )

    def _tensors(self, rows: list[dict[str, Any]], dice: random.Random) -> Shot:
        """Send tensors, as JSON or behind it."""
        words = {feature["name"] for feature in self.oracle.categorical}
        inputs, binary = [], b""
        for name in self.oracle.names:
            values = [row[name] for row in rows]
            kind = "BYTES" if name in words else "FP64"
            tensor: dict[str, Any] = {"name": name, "datatype": kind, "shape": [len(rows)]}
            raw = _raw(values, kind) if dice.random() < 0.3 else None
            if raw is None:
                tensor["data"] = values
            else:
                tensor["parameters"] = {"binary_data_size": len(raw)}
                binary += raw
            inputs.append(tensor)
        head = json.dumps({"inputs": inputs}).encode()
        headers = {"Content-Type": JSON}
        if binary:
            headers["Inference-Header-Content-Length"] = str(
                len(head) if dice.random() < 0.9 else dice.choice([-1, 0, 1, len(head) + len(binary) + 1, "x", 10**30])
            )
        whole = not binary or headers["Inference-Header-Content-Length"] == str(len(head))

        def outputs(found: Any) -> Any:
            return next(out["data"] for out in found["outputs"] if out["name"] == "probability_of_default")

        check: Check = (lambda answer: self._all_or_none(rows, answer, outputs)) if whole else _any_score
        return Shot(Request("POST", INFER, head + binary, headers), check)

    def _all_or_none(self, rows: list[dict[str, Any]], answer: Answer, values: Callable[[Any], list[float]]) -> str:
        good = all(self.oracle.valid_values(_as_json(row)) for row in rows)
        # A value of another JSON type may be refused with the whole tensor, or with its row.
        if answer.status != 200:
            return f"status {answer.status} for valid rows: {answer.body[:300]!r}" if good else ""
        if not good:
            return f"200 for wrong rows: {rows}"
        found, wanted = values(answer.json()), self.oracle.probabilities(rows)
        close = len(found) == len(wanted) and all(abs(a - b) <= 1e-6 for a, b in zip(found, wanted, strict=True))
        return "" if close else f"answered {found}, the model says {wanted}"

    def csv(self, dice: random.Random) -> Shot:
        rows = [dice.choice(self.applicants) for _ in range(_rows(dice))]
        lines = [",".join(self.oracle.names), *(",".join(str(row[n]) for n in self.oracle.names) for row in rows)]
        request = Request("POST", dice.choice([INVOCATIONS, BATCH]), "\n".join(lines).encode(), {"Content-Type": CSV})
        if dice.random() < 0.6:
            request.body = spoil(request.body, dice)
            return Shot(request, _any_score)
        if request.target == BATCH:
            return Shot(request, lambda answer: self._csv_rows(rows, answer))
        return Shot(
            request, lambda answer: self._all_or_none([dict(row) for row in rows], answer, lambda d: d["predictions"])
        )

    def _csv_rows(self, rows: Sequence[Mapping[str, Any]], answer: Answer) -> str:
        if answer.status != 200:
            return f"status {answer.status} for CSV: {answer.body[:300]!r}"
        found: list[dict[str, Any]] = list(csv.DictReader(answer.body.decode().splitlines()))
        for row, result in enumerate(found):
            if result["problem"]:
                return f"row {row} was refused: {result}"
            result["row"], result["probability_of_default"] = row, float(result["probability_of_default"])
            del result["problem"]
        return self._rows(rows, found)


def parsed(body: bytes) -> Any:
    """Return what JSON holds; a RepeatedKey for what is not JSON, which is not valid either."""
    try:
        return parse_json(body)
    except ValueError:
        return RepeatedKey()


def _any_score(answer: Answer) -> str:
    """Whatever bytes meant after all, it was scored or refused."""
    return "" if answer.status in {200, 400, 413, 422} else f"status {answer.status}"


def _decodes(body: bytes) -> bool:
    """Return whether all of a body is text, to its last escape; parsers may refuse it as a whole otherwise."""
    if b"\\ud" in body.lower():
        return False
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _key(name: str, dice: random.Random) -> str:
    return json.dumps(name).replace("_", "\\u005f") if dice.random() < 0.05 else json.dumps(name)


def _rows(dice: random.Random) -> int:
    return dice.choice([0, 1, 1, 2, 3, 5, 20])


def _raw(values: list[Any], kind: str) -> bytes | None:
    """Return a tensor's bytes, None for values that it cannot hold."""
    if kind == "FP64":
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e300 for v in values)
        return struct.pack(f"<{len(values)}d", *values) if numbers else None
    if not all(isinstance(value, str) for value in values):
        return None
    return b"".join(struct.pack("<I", len(value.encode())) + value.encode() for value in values)


def _as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its integers as the floats that the service reads them as."""
    return {
        name: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in row.items()
    }
