"""Which version of a model was stable, and which canary had what weight, from when to when and why.

Whoever moves versions reports events. Each says what is in force from its time on, so that one which is lost costs no
more than itself. Their kinds and judgments are those of the operator's state.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Json
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Message = Annotated[str, StringConstraints(max_length=4000, pattern=r"^[^\x00]*$")]
Kind = Literal[
    "PointerMoved", "RolloutStarted", "WeightChanged", "Judged", "Promoted", "RolledBack", "Stopped", "Completed",
    "ActedManually", "TrainingStarted", "TrainingEnded",
]  # fmt: skip
Verdict = Literal["Successful", "Failed", "Inconclusive", "Error"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, ser_json_inf_nan="null")


class JudgedMetric(_Strict):
    """The verdict on one metric, with its numbers."""

    name: Name
    verdict: Verdict
    value: float | None = None
    lower: float | None = Field(default=None, description="The value's bounds at all looks together")
    upper: float | None = None
    limit: float
    samples: int = Field(default=0, ge=0, le=2**53)
    message: Message = ""


class Judgment(_Strict):
    """An analysis of the canary."""

    verdict: Verdict
    at: AwareDatetime
    results: list[JudgedMetric] = Field(default_factory=list, max_length=100)


class TimelineEvent(_Strict):
    """Something that changed which version answers, or that decided about it."""

    event_id: Name = Field(description="Chosen by who reports it; reporting the same event again changes nothing")
    happened_at: AwareDatetime
    kind: Kind
    stable_version: Name | None = Field(default=None, description="In force from then on, as are the next three")
    canary_version: Name | None = None
    weight: int = Field(default=0, ge=0, le=100, description="The percentage of applicants that the canary answers")
    mode: Literal["live", "shadow"] = "live"
    version: Name | None = Field(default=None, description="The version that the event is about")
    moved_by: Name | None = Field(default=None, description="Who or what moved the pointer, or acted")
    message: Message = ""
    judgment: Judgment | None = None


class KeptEvent(TimelineEvent):
    """An event, and who reported it when."""

    reported_at: datetime
    reported_by: str

    def says(self, event: TimelineEvent) -> bool:
        """Return whether this is the same event."""
        return event == TimelineEvent(**self.model_dump(include=set(TimelineEvent.model_fields)))


class Period(BaseModel):
    """A time in which the same versions answered."""

    since: datetime
    until: datetime | None = Field(description="null: until now")
    stable_version: str | None
    canary_version: str | None
    weight: int
    mode: Literal["live", "shadow"]
    began_with: str = Field(description="The id of the event that it began with")


class Timeline(BaseModel):
    """A model's events in their order, and the periods that follow from them."""

    model: str
    periods: list[Period]
    events: list[KeptEvent]
    complete: bool = Field(
        description="Whether these are all events of the time asked for; if not, ask from the last one's"
    )


async def read_timeline(
    connection: AsyncConnection[Any], model: str, since: datetime | None, until: datetime | None, limit: int
) -> Timeline:
    """Return the first `limit` events of a time, preceded by the one that was in force when it began."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(
        """
        (SELECT * FROM timeline_events WHERE model = %(model)s AND happened_at < %(since)s
         ORDER BY happened_at DESC, event_id DESC LIMIT 1)
        UNION ALL
        (SELECT * FROM timeline_events WHERE model = %(model)s
         AND (%(since)s::timestamptz IS NULL OR happened_at >= %(since)s)
         AND (%(until)s::timestamptz IS NULL OR happened_at < %(until)s)
         ORDER BY happened_at, event_id LIMIT %(limit)s + 1)
        """,
        {"model": model, "since": since, "until": until, "limit": limit},
    )
    found = [KeptEvent(**{name: row[name] for name in KeptEvent.model_fields}) for row in await cursor.fetchall()]
    events = sorted(found, key=lambda event: (event.happened_at, event.event_id))[:limit]
    complete = len(found) <= limit
    return Timeline(model=model, periods=periods_of(events), events=events, complete=complete)


def periods_of(events: Sequence[KeptEvent]) -> list[Period]:
    """Return the periods between events, which are in their order; an event that changes nothing begins none."""
    periods: list[Period] = []
    for event in events:
        state = (event.stable_version, event.canary_version, event.weight, event.mode)
        if periods:
            last = periods[-1]
            if state == (last.stable_version, last.canary_version, last.weight, last.mode):
                continue
            periods[-1] = last.model_copy(update={"until": event.happened_at})
        stable, canary, weight, mode = state
        periods.append(
            Period(since=event.happened_at, until=None, stable_version=stable, canary_version=canary, weight=weight,
                   mode=mode, began_with=event.event_id)
        )  # fmt: skip
    return periods


async def add_event(connection: AsyncConnection[Any], model: str, event: TimelineEvent, reported_by: str) -> KeptEvent:
    """Keep an event and return it; if its id is there already, return the one that was kept."""
    values = event.model_dump() | {
        "judgment": None if event.judgment is None else Json(event.judgment.model_dump(mode="json"))
    }
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(
        """
        INSERT INTO timeline_events (model, event_id, happened_at, kind, stable_version, canary_version, weight, mode,
                                     version, moved_by, message, judgment, reported_by)
        VALUES (%(model)s, %(event_id)s, %(happened_at)s, %(kind)s, %(stable_version)s, %(canary_version)s, %(weight)s,
                %(mode)s, %(version)s, %(moved_by)s, %(message)s, %(judgment)s, %(reported_by)s)
        ON CONFLICT DO NOTHING
        """,
        {**values, "model": model, "reported_by": reported_by},
    )
    await cursor.execute("SELECT * FROM timeline_events WHERE model = %s AND event_id = %s", [model, event.event_id])
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - inserted, or in the way of it
    return KeptEvent(**{name: row[name] for name in KeptEvent.model_fields})


async def is_known(connection: AsyncConnection[Any], model: str) -> bool:
    """Return whether anything was ever reported about a model."""
    cursor = await connection.execute("SELECT 1 FROM timeline_events WHERE model = %s LIMIT 1", [model])
    return await cursor.fetchone() is not None
