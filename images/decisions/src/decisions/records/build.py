"""From events to records: the values of all rows at once, then each record with its hashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, repeat
from uuid import UUID

import msgspec
import numpy as np

from decisions.records.contract import ModelContract, NumericFeature, read_contract
from decisions.records.model_versions import ModelVersion
from decisions.records.numbers import shortest, shortest_or_missing
from decisions.records.record import FIRST_PREVIOUS_HASH, ChainedRecord, DecisionInputs, Record, chain_hash, salt_of
from decisions.segments.events import Event

_json = msgspec.json.Encoder()


@dataclass(frozen=True)
class Scorer:
    """A model version with its contract, read once."""

    version: ModelVersion

    @cached_property
    def contract(self) -> ModelContract:
        """The parts of its contract that records need.

        Raises:
            DamagedError: Its contract.json is none.
        """
        return read_contract(self.version.contract)

    @cached_property
    def id(self) -> str:
        """The version's id as text."""
        return str(self.version.id)


@dataclass(frozen=True)
class Link:
    """Where a log's chain has arrived: the last record's sequence and hash."""

    sequence: int = 0
    hash: bytes = FIRST_PREVIOUS_HASH


@dataclass(frozen=True)
class SeededEvent:
    """An event, the seed of its group, and who scored it."""

    event: Event
    seed: bytes
    scorer: Scorer


@dataclass(frozen=True, slots=True)
class _Row:
    """A decision before it has a place in the chain."""

    id: bytes
    row: int
    applicant_id: str | None
    inputs: str
    probability: float
    points: int
    declined: int
    grade: str | None


def problem_of_values(event: Event, contract: ModelContract) -> str | None:
    """Return what is wrong with an event's numbers, or None; its parts have the right lengths."""
    probability = np.frombuffer(event.probability, "<f4")
    # Written so that NaN is refused, too.
    if not ((probability >= 0) & (probability <= 1)).all():
        return "a probability is not between 0 and 1"
    if np.isinf(np.frombuffer(event.numeric, "<f4")).any():
        return "a numeric value is infinite"
    if np.frombuffer(event.declined, "u1").max() > 1:
        return "declined is neither 0 nor 1"
    limits = [len(feature.values) for feature in contract.features if not isinstance(feature, NumericFeature)]
    codes = np.frombuffer(event.categorical, "<i8").reshape(event.count, -1) if limits else np.zeros((1, 0), "<i8")
    if ((codes < 0) | (codes >= np.array(limits, "<i8"))).any():
        return "a code of a category is outside of the contract's list"
    return None


def records_of(events: Sequence[SeededEvent], pod: str, log_id: bytes, link: Link) -> Iterator[ChainedRecord]:
    """Yield the records of a log's events in their order, the first one following `link`.

    The events have passed `problem_of` and `problem_of_values`.
    """
    rows = _rows(events)
    log, sequence, previous = str(UUID(bytes=log_id)), link.sequence, link.hash
    for seeded in events:
        event = seeded.event
        endpoint, scorer, of_version = stored_text(event.endpoint), seeded.scorer.id, rows[seeded.scorer.id]
        for row, request_id, role, client, latency, reasons in zip(
            islice(of_version, event.count), event.request_ids, event.roles, event.clients, event.latencies,
            event.reasons or repeat(None, event.count), strict=True,
        ):  # fmt: skip
            sequence += 1
            inputs = DecisionInputs(row.applicant_id, salt_of(seeded.seed, row.id), row.inputs)
            record = Record(
                id=_uuid_text(row.id), request_id=stored_text(request_id), row=row.row, endpoint=endpoint, role=role,
                client=stored_text(client), model_version=scorer, probability=row.probability, points=row.points,
                decision="decline" if row.declined else "approve", grade=row.grade,
                reasons=None if reasons is None else [stored_text(reason) for reason in reasons], latency_us=latency,
                pod=pod, log_id=log, sequence=sequence, inputs_hash=inputs.hash().hex(),
            )  # fmt: skip
            current = chain_hash(previous, record)
            yield ChainedRecord(record, previous, current, inputs)
            previous = current


def stored_text(text: str) -> str:
    """Return a text as Postgres can store it: it has no NUL."""
    return text.replace("\0", "\ufffd")


def _rows(events: Sequence[SeededEvent]) -> dict[str, Iterator[_Row]]:
    """Return the rows of each version's events, in their order, by the version's id."""
    by_version: dict[str, list[SeededEvent]] = {}
    for seeded in events:
        by_version.setdefault(seeded.scorer.id, []).append(seeded)
    return {
        version: _rows_of_version([seeded.event for seeded in own], own[0].scorer.contract)
        for version, own in by_version.items()
    }


def _rows_of_version(events: Sequence[Event], contract: ModelContract) -> Iterator[_Row]:
    """Yield the rows of events of one version; numbers are decoded for all of them at once."""
    probability = np.frombuffer(b"".join(event.probability for event in events), "<f4")
    return map(
        _Row,
        (id_ for event in events for id_ in event.row_ids),
        (row for event in events for row in event.row_numbers),
        (applicant for event in events for applicant in _applicants(event)),
        _inputs(events, contract),
        shortest(probability),
        np.frombuffer(b"".join(event.points for event in events), "<i4").tolist(),
        b"".join(event.declined for event in events),
        contract.grades_of(probability),
    )


def _inputs(events: Sequence[Event], contract: ModelContract) -> Iterator[str]:
    """Yield the JSON object of each row's inputs."""
    shape = contract.shape
    count = sum(event.count for event in events)
    numeric = np.frombuffer(b"".join(event.numeric for event in events), "<f4").reshape(count, shape.numeric)
    codes = np.frombuffer(b"".join(event.categorical for event in events), "<i8").reshape(count, shape.categorical)
    numbers, categories = iter(numeric.T), iter(codes.T)
    columns: list[Sequence[object]] = []
    for feature in contract.features:
        if isinstance(feature, NumericFeature):
            columns.append(shortest_or_missing(next(numbers)))
        else:
            columns.append(list(map(feature.values.__getitem__, next(categories).tolist())))
    names = [feature.name for feature in contract.features]
    for values in zip(*columns, strict=True):
        yield _json.encode(dict(zip(names, values, strict=True))).decode()


def _applicants(event: Event) -> Iterator[str | None]:
    if event.applicant_ids is None:
        return repeat(None, event.count)
    return (None if applicant is None else stored_text(applicant) for applicant in event.applicant_ids)


def _uuid_text(id_: bytes) -> str:
    text = id_.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
