"""The constants of the capacity plan: each with its unit, how it is known, and where that is written."""

from __future__ import annotations

import tomllib
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

FILE = Path(__file__).parent / "constants.toml"


class Basis(StrEnum):
    """How a constant is known."""

    MEASURED = "measured"
    # Beside other work on the same machine: the order of magnitude counts.
    BUSY = "measured beside other work"
    # What code, a chart or Kubernetes sets.
    SET = "set"
    ASSUMED = "assumed"


class Constant(BaseModel):
    """A number that the plan computes with.

    Attributes:
        value: The number, above 0.
        unit: Of the number, such as `us of CPU per request`.
        basis: How it is known.
        source: The file that says so, in this repository.
        quote: What that file says word for word; a test looks for it.
        note: What a reader has to know to trust it, or not to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float = Field(gt=0, allow_inf_nan=False)
    unit: str
    basis: Basis
    source: str
    quote: str = Field(min_length=1)
    note: str = ""


class Constants(BaseModel):
    """All of them; `constants.toml` says what each is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    score_cpu: Constant
    score_reasons_cpu: Constant
    forward_cpu: Constant
    forward_reasons_cpu: Constant
    log_share: Constant
    require_share: Constant
    pod_memory: Constant
    pod_start: Constant
    ingress_cpu: Constant
    ship_cpu: Constant
    postgres_cpu: Constant
    postgres_records: Constant
    postgres_connections: Constant
    segment_bytes: Constant
    segment_limit: Constant
    database_bytes: Constant
    database_disk: Constant
    retention_months: Constant
    archive_bytes: Constant
    seal_rate: Constant
    enter_rate: Constant
    export_rate: Constant
    drop_rate: Constant
    job_hours: Constant
    workspace: Constant
    verify_rate: Constant
    drift_rate: Constant
    drift_days: Constant
    bulk_rate: Constant
    bulk_reasons_rate: Constant
    bulk_memory: Constant
    shard_rows: Constant
    model_bytes: Constant
    canary_pods: Constant
    node_share: Constant


def read_constants(file: Path = FILE) -> Constants:
    """Read the constants from a TOML file.

    Raises:
        pydantic.ValidationError: A constant is missing, unknown, or not above 0; the message names it.
        tomllib.TOMLDecodeError: The file is no TOML.
    """
    return Constants.model_validate(tomllib.loads(file.read_text("utf-8")))
