"""Paired scoring: applicants whom the canary answered are scored by this pod's model too, and both are compared.

That happens after the answer was sent, in groups, for a small share of the core. It decides nothing and is not logged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import UnsetType

from scorer.answers import Decision, Score
from scorer.applications.rows import CodeRows, FloatRows
from scorer.canary.pair_metrics import PairMetrics, Side
from scorer.canary.segments import Segments
from scorer.model.bundle import Model, ModelSlot
from scorer.problems import Problem

log = logging.getLogger(__name__)
# Pairs that wait: a few hundredths of a second of all that a pod can answer.
QUEUE_LENGTH = 256
# How long pairs gather, so that one call of the model scores many.
GATHER_SECONDS = 0.02
# A group holds up the event loop for about a quarter of a millisecond: 16 rows, or two with reasons, which need the
# scores of many mixtures of each applicant with the reference.
GROUP_COST, PLAIN_COST, REASONS_COST = 16, 1, 8
# After a group the worker rests for so many times as long as it worked: pairing never takes more than a sixteenth of a
# core, and what does not fit into that is dropped.
REST = 15


@dataclass(frozen=True, slots=True)
class Pair:
    """An application that the canary scored.

    Attributes:
        version: The canary's version.
        body: The application.
        canary: The canary's answer.
        champion: The champion's; None if it is still to be scored.
    """

    version: str
    body: bytes
    canary: Score
    champion: Score | None = None

    @property
    def explained(self) -> bool:
        """Whether the request asked for reasons."""
        return not isinstance(self.canary.reasons, UnsetType)

    @property
    def to_explain(self) -> bool:
        """Whether the champion is still to find reasons."""
        return self.explained and self.champion is None


@dataclass(frozen=True, slots=True)
class _Readable:
    """Pairs whose applications the champion can read: N pairs, float32 [N, numeric] and int64 [N, categorical]."""

    pairs: Sequence[Pair]
    numeric: FloatRows
    codes: CodeRows


class Pairing:
    """Compares both models' scores of the same applications."""

    def __init__(self, slot: ModelSlot, metrics: PairMetrics, *, enabled: bool = True) -> None:
        """Take the champion, where to count, and whether it scores what the canary answered.

        If it does not, only copies of requests (shadow) are compared: those both models answer anyway.
        """
        self._slot, self._metrics, self._enabled = slot, metrics, enabled
        self._pairs: deque[Pair] = deque()
        self._filled = asyncio.Event()
        self._segments: tuple[Model, Segments] | None = None
        self._failed_model: Model | None = None

    @property
    def champion_version(self) -> str | None:
        """The version of this pod's model, None if there is none yet."""
        model = self._slot.model
        return model.identity.version if model else None

    def add(self, version: str, body: bytes, canary: Score) -> None:
        """Take an application that the canary of a version answered, or drop and count it."""
        if self._enabled:
            self._put(Pair(version, body, canary))

    def add_answered(self, version: str, body: bytes, canary: Score, champion: Score) -> None:
        """Take an application that both models scored."""
        self._put(Pair(version, body, canary, champion))

    def _put(self, pair: Pair) -> None:
        if len(self._pairs) >= QUEUE_LENGTH:
            self._metrics.dropped("busy")
            return
        self._pairs.append(pair)
        self._filled.set()

    async def run(self) -> None:
        """Compare pairs until cancelled."""
        while True:
            await self._filled.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._filled.clear()
            while self._pairs:
                started = time.perf_counter()
                self._compare(self._next_group())
                await asyncio.sleep(REST * (time.perf_counter() - started))

    def _next_group(self) -> list[Pair]:
        group, cost = list[Pair](), 0
        while self._pairs and cost < GROUP_COST:
            pair = self._pairs.popleft()
            group.append(pair)
            cost += REASONS_COST if pair.to_explain else PLAIN_COST
        return group

    def _compare(self, group: Sequence[Pair]) -> None:
        model = self._slot.model
        if model is None:
            self._metrics.dropped("error", len(group))
            return
        try:
            readable = _read(model, group)
            champions = _score(model, readable)
        except Exception:
            self._metrics.dropped("error", len(group))
            if self._failed_model is not model:
                # Once: a model that fails for one application may fail for many.
                self._failed_model = model
                log.exception("version %s failed to score what a canary had answered", model.identity.version)
            return
        self._metrics.dropped("unlike_inputs", len(group) - len(readable.pairs))
        segments = self._segments_of(model)
        for row, (pair, champion) in enumerate(zip(readable.pairs, champions, strict=True)):
            canary = Side(pair.canary.probability_of_default, pair.canary.decision, _principal(pair.canary))
            groups = segments.of(readable.numeric, readable.codes, row)
            self._metrics.compared(pair.version, champion, canary, groups, explained=pair.explained)

    def _segments_of(self, model: Model) -> Segments:
        if self._segments is None or self._segments[0] is not model:
            self._segments = model, Segments(model.contract)
        return self._segments[1]


def _read(model: Model, group: Sequence[Pair]) -> _Readable:
    """Return the pairs whose applications the champion can read."""
    pairs = list[Pair]()
    numeric = [np.empty((0, len(model.contract.numeric)), np.float32)]
    codes = [np.empty((0, len(model.contract.categorical)), np.int64)]
    for pair in group:
        try:
            numbers, words = model.decoder.decode(pair.body)
        except Problem:
            continue
        pairs.append(pair)
        numeric.append(numbers)
        codes.append(words)
    return _Readable(pairs, np.concatenate(numeric), np.concatenate(codes))


def _score(model: Model, rows: _Readable) -> list[Side]:
    """Return what the champion says of each application."""
    found: list[Side | None] = [_answered(pair.champion) for pair in rows.pairs]
    plain = [row for row, pair in enumerate(rows.pairs) if pair.champion is None and not pair.explained]
    if plain:
        scores = model.network.score_many(rows.numeric[plain], rows.codes[plain]).tolist()
        for row, probability in zip(plain, scores, strict=True):
            found[row] = Side(probability, _decision(model, probability))
    explained = [row for row, pair in enumerate(rows.pairs) if pair.to_explain]
    if explained:
        explanations = model.explainer.explain(rows.numeric[explained], rows.codes[explained])
        for row, given in zip(explained, explanations, strict=True):
            found[row] = Side(given.probability, _decision(model, given.probability), model.explainer.principal(given))
    return [side for side in found if side is not None]


def _answered(score: Score | None) -> Side | None:
    return None if score is None else Side(score.probability_of_default, score.decision, _principal(score))


def _decision(model: Model, probability: float) -> Decision:
    return "approve" if probability < model.contract.decision_threshold else "decline"


def _principal(score: Score) -> str | None:
    """Return the code of an answer's first reason."""
    return score.reasons[0].code if score.reasons else None
