"""`python -m scorer replay`: scores stored decisions' inputs again, each with the version that scored it.

It answers questions on stdin by answers on stdout, a line of JSON each, as contracts/replay.schema.json describes them.
The decisions service runs it: scoring and that service share no Python code (docs/adr/0012).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime as ort

from scorer.answers import Decision
from scorer.applications.rows import CodeRows, FloatRows
from scorer.contract import CategoricalFeature, Contract
from scorer.model.bundle import Model, load_model
from scorer.model.identity import Identity
from scorer.model.network import CHUNK_ROWS
from scorer.model.readiness import LoadingError
from scorer.model.scorecard import Scorecard

# A category outside of the contract's list is {"other": true}.
Input = float | str | dict[str, bool] | None
# As many explanations together are tried; each has about twenty rows.
_EXPLAINED_TOGETHER = 8
# What changes which of its kernels ONNX Runtime chooses, on x86 and on Arm.
_KERNEL_FEATURES = re.compile(r"(sse4|avx|amx|asimd|sve).*|fma|f16c|sme2?|i8mm|bf16|fphp")


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was stored of a decision.

    Attributes:
        folder: Has the version's model.onnx and contract.json, whose digests were verified.
        inputs: By feature.
        probability: Of default, as it was stored.
        reasons: The codes that were stored; None if the request asked for none.
        single: Whether it was a single application, and not a row of a batch.
        scorecard: The scale of points.
    """

    folder: str
    inputs: dict[str, Input]
    probability: float
    reasons: tuple[str, ...] | None
    single: bool
    scorecard: Scorecard


class Runtime(msgspec.Struct, frozen=True):
    """What scored: bits may differ between versions of ONNX Runtime, and between processors.

    Attributes:
        scorer_sha256: Of this service's sources.
        onnxruntime: Its version.
        machine: The processor's architecture.
        cpu: The processor's name.
        cpu_features: Its instructions that matter for scoring.
    """

    scorer_sha256: str
    onnxruntime: str
    machine: str
    cpu: str
    cpu_features: tuple[str, ...]


class Replayed(msgspec.Struct, frozen=True, tag_field="kind", tag="replayed"):
    """The same decision, computed again.

    Attributes:
        probability: Of default.
        rows: With how many rows at once it was scored to get this probability.
        points: Score points.
        decision: What the contract's threshold makes of the probability.
        grade: On the model's master scale, if it has one.
        reasons: As many as were stored; None if none were asked for.
        runtime: What scored.
    """

    probability: float
    rows: int
    points: int
    decision: Decision
    grade: str | None
    reasons: tuple[str, ...] | None
    runtime: Runtime


class Refused(msgspec.Struct, frozen=True, tag_field="kind", tag="refused"):
    """Why nothing could be scored, for people."""

    reason: str


class Replayer:
    """Answers questions, and keeps the versions that it loaded last."""

    def __init__(self, versions: int) -> None:
        """Keep at most so many versions in memory."""
        self._model = lru_cache(versions)(_load)

    def answer(self, line: bytes) -> Replayed | Refused:
        """Answer a question."""
        try:
            question = msgspec.json.decode(line, type=Question)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return Refused(f"not a question: {error}")
        try:
            return replay(self._loaded(question.folder), question)
        except (LoadingError, ValueError, MemoryError) as error:
            return Refused(str(error) or "out of memory")

    def _loaded(self, folder: str) -> Model:
        try:
            return self._model(folder)
        except LoadingError:
            # Perhaps there is not enough memory for it beside the others.
            if not self._model.cache_info().currsize:
                raise
            self._model.cache_clear()
            return self._model(folder)


def replay(model: Model, question: Question) -> Replayed:
    """Score a decision's inputs again.

    Raises:
        ValueError: They are not inputs of this version; the message names the feature and what is allowed.
    """
    numeric, codes = row_of(model.contract, question.inputs)
    probability, rows = _score(model, numeric, codes, np.float32(question.probability))
    points = question.scorecard.points(probability) if question.single else int(
        question.scorecard.points_of(np.array([probability], np.float32))[0])  # fmt: skip
    return Replayed(
        probability, rows, points, "approve" if probability < model.contract.decision_threshold else "decline",
        model.scale.grade(probability) if model.scale else None,
        None if question.reasons is None else _explain(model, numeric, codes, question.reasons),
        runtime(),
    )  # fmt: skip


def row_of(contract: Contract, inputs: Mapping[str, Input]) -> tuple[FloatRows, CodeRows]:
    """Return stored inputs as the model's input row, float32 [1, numeric features], int64 [1, categorical features].

    Raises:
        ValueError: They are not inputs of this version; the message names the feature and what is allowed.
    """
    if wrong := {feature.name for feature in contract.features} ^ set(inputs):
        raise ValueError(f"the inputs and the contract differ in the features {', '.join(sorted(wrong))}")
    numbers = [_number(feature.name, inputs[feature.name]) for feature in contract.numeric]
    codes = [_code(feature, inputs[feature.name]) for feature in contract.categorical]
    return np.array([numbers], np.float32), np.array([codes], np.int64)


def _number(name: str, value: Input) -> float:
    if isinstance(value, float):
        return value
    if value is None:
        return float("nan")
    raise ValueError(f"the input {name} is {value!r}; allowed: a number, or null if it is missing")


def _code(feature: CategoricalFeature, value: Input) -> int:
    if value is None:
        return feature.missing_code
    if value == {"other": True}:
        return feature.other_code
    if isinstance(value, str) and value in feature.categories:
        return feature.categories.index(value)
    raise ValueError(f"the input {feature.name} is {value!r}; allowed: one of {', '.join(feature.categories)}, null if "
                     'it is missing, or {"other": true}')  # fmt: skip


def _score(model: Model, numeric: FloatRows, codes: CodeRows, stored: np.float32) -> tuple[float, int]:
    """Return the row's probability, and with how many rows at once it was scored to get it.

    A row's last bits depend on how many rows are scored with it, and on its place among them, because the kernels of
    matrix products differ; they do not depend on what the other rows are. Which requests met in the service is not
    stored, so all sizes of a call are tried. If none gives the stored bits, the row's own score is returned.
    """
    for rows in range(1, CHUNK_ROWS + 1):
        scores = model.network.score(np.repeat(numeric, rows, axis=0), np.repeat(codes, rows, axis=0))
        if (scores.view(np.uint32) == stored.view(np.uint32)).any():
            return float(stored), rows
    return float(model.network.score(numeric, codes)[0]), 1


def _explain(model: Model, numeric: FloatRows, codes: CodeRows, stored: Sequence[str]) -> tuple[str, ...]:
    """Return as many reasons as were stored; of requests that found none, whether there is one now.

    Contributions that are about equal may come in another order if other rows were scored at once; see `_score`.
    """

    def found() -> Iterator[tuple[str, ...]]:
        for rows in range(1, _EXPLAINED_TOGETHER + 1):
            for one in model.explainer.explain(np.repeat(numeric, rows, axis=0), np.repeat(codes, rows, axis=0)):
                # What a reason costs in points is not used here.
                reasons = model.explainer.reasons(one, max(len(stored), 1), 1.0)
                yield tuple(reason.code for reason in reasons)

    alone = next(found())
    return alone if alone == stored else next((reasons for reasons in found() if reasons == stored), alone)


@cache
def runtime() -> Runtime:
    """Return what scores in this process."""
    cpu, features = _processor(Path("/proc/cpuinfo"))
    return Runtime(_sources_sha256(), ort.__version__, platform.machine(), cpu, features)


def _sources_sha256() -> str:
    folder, digest = Path(__file__).parent, hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(folder)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _processor(file: Path) -> tuple[str, tuple[str, ...]]:
    """Return the first processor's name and features as Linux describes them; empty where it does not."""
    try:
        lines = file.read_text("utf-8").split("\n\n", maxsplit=1)[0].splitlines()
    except OSError:
        return "", ()
    told = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    features = (told.get("flags") or told.get("features") or "").split()
    return told.get("model name", ""), tuple(sorted(name for name in features if _KERNEL_FEATURES.fullmatch(name)))


def _load(folder: str) -> Model:
    return load_model(Path(folder), Identity(name="", version="", run_id="", digests={}, metrics={}))


def main(arguments: Sequence[str]) -> int:
    """Answer questions until stdin ends; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m scorer replay",
        description="Answer questions on stdin, a line of JSON each, until it ends: contracts/replay.schema.json.",
    )
    parser.add_argument("--versions", type=_positive, default=4, help="how many versions stay loaded (4)")
    parser.add_argument("--memory-mebibytes", type=_positive, help="fail rather than take more memory; no limit")
    given = parser.parse_args(arguments)
    if given.memory_mebibytes:
        resource.setrlimit(resource.RLIMIT_DATA, (given.memory_mebibytes << 20, given.memory_mebibytes << 20))
    # Whoever waits for a replay waits behind all that the pod does otherwise.
    os.nice(10)
    replayer = Replayer(given.versions)
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(msgspec.json.encode(replayer.answer(line)) + b"\n")
        sys.stdout.buffer.flush()
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number
