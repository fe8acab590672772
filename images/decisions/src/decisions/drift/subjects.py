"""Which version a report is about, with its contract and training reference."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from uuid import UUID

import psycopg

from decisions.archive.registry import Registry, RegistryError
from decisions.database.id_ranges import first_id
from decisions.drift.aggregation import database
from decisions.drift.contract import DriftContract, read_drift_contract
from decisions.drift.measure import Dates, Subject
from decisions.drift.options import Options
from decisions.drift.reference import FILE, TrainingReference, read_reference
from decisions.drift.sources import Files
from decisions.errors import DamagedError, NothingError, UsageError

logger = logging.getLogger(__name__)
_MOST_BYTES = 16 << 20
_DECIDING = """
SELECT v.name, v.version, v.contract, d.model_version::text, count(*)
FROM decisions d JOIN model_versions v ON v.id = d.model_version
WHERE d.id >= %(first)s AND d.id < %(end)s AND d.role <> 'shadow' AND v.name = coalesce(%(name)s, v.name)
GROUP BY v.id, d.model_version ORDER BY count(*) DESC, 2 DESC
"""


@dataclass(frozen=True)
class _Deciding:
    name: str
    number: str
    contract: bytes
    version: str
    decisions: int


def subject_of_files(source: Files, options: Options, contract_file: Path) -> tuple[Subject, Dates]:
    """Return what a report on files is about; without --to its last day is the last one with decisions.

    Raises:
        UsageError: A file is missing or is not what it should be, or there are no decisions.
    """
    contract = _read_contract(contract_file)
    reference = _read_reference(options.reference, contract) if options.reference else None
    with tempfile.TemporaryDirectory() as folder:
        connection = database(folder, memory_mebibytes=options.memory_mebibytes)
        today = source.last_day(connection) + timedelta(days=1)
        dates = Dates.of(options, today)
        version = source.deciding_version(connection, dates.window.since, dates.window.until)
        # What decisions name a version by is a digest.
        numbers = {name: name[:8] for name in source.versions(connection)}
        connection.close()
    return Subject(contract.model_name, contract, reference, version, numbers), dates


def subject_of_log(
    connection: psycopg.Connection, registry: Registry | None, options: Options, window: tuple[date, date]
) -> Subject:
    """Return what a report on the decision log is about: the version that decided most in these days.

    Args:
        connection: Of the decision log's database.
        registry: Where training references are; None if it is not configured.
        options: May name a model, or a file with the reference.
        window: The first day, and the one after the last.

    Raises:
        NothingError: There are no decisions.
        DamagedError: Its contract is damaged.
        UsageError: Several models decided, and none is named.
    """
    first, end = (first_id(datetime.combine(day, time(), UTC)) for day in window)
    rows = connection.execute(_DECIDING, {"first": first, "end": end, "name": options.model}).fetchall()
    deciding = [_Deciding(*row) for row in rows]
    if not deciding:
        which = f" by the model {options.model}" if options.model else ""
        raise NothingError(f"there are no decisions{which} from {window[0]} to {window[1]}")
    names = sorted({of.name for of in deciding})
    if len(names) > 1:
        raise UsageError(f"--model is needed, because several models decided: {', '.join(names)}")
    most = deciding[0]
    contract = read_drift_contract(bytes(most.contract))
    reference = _read_reference(options.reference, contract) if options.reference \
        else _registered_reference(registry, most, contract)  # fmt: skip
    trained_at = _registered_at(registry, most)
    return Subject(most.name, contract, reference, most.version, _numbers(connection, most.name), trained_at)


def _numbers(connection: psycopg.Connection, name: str) -> dict[str, str]:
    rows: list[tuple[UUID, str]] = connection.execute(
        "SELECT id, version FROM model_versions WHERE name = %s ORDER BY length(version), version, id", [name]
    ).fetchall()
    return {str(id_): version for id_, version in rows}


def _registered_reference(
    registry: Registry | None, of: _Deciding, contract: DriftContract
) -> TrainingReference | None:
    if registry is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FILE
        try:
            if registry.download(of.name, of.number, FILE, file, _MOST_BYTES) is None:
                logger.info("version %s of %s has no %s: features are compared with earlier decisions", of.number,
                            of.name, FILE)  # fmt: skip
                return None
            return read_reference(file.read_bytes(), contract)
        except (RegistryError, DamagedError) as error:
            logger.warning("features are compared with earlier decisions, because %s of version %s of %s cannot be "
                           "had: %s", FILE, of.number, of.name, error)  # fmt: skip
            return None


def _registered_at(registry: Registry | None, of: _Deciding) -> datetime | None:
    """Return when a version was registered, which its training does at its end."""
    try:
        return registry.registered_at(of.name, of.number) if registry else None
    except RegistryError as error:
        logger.warning("new outcomes are not counted, because nobody knows when version %s of %s was trained: %s",
                       of.number, of.name, error)  # fmt: skip
        return None


def _read_contract(file: Path) -> DriftContract:
    try:
        return read_drift_contract(file.read_bytes())
    except (OSError, DamagedError) as error:
        raise UsageError(f"--contract: {error}") from error


def _read_reference(file: Path, contract: DriftContract) -> TrainingReference:
    try:
        return read_reference(file.read_bytes(), contract)
    except (OSError, DamagedError) as error:
        raise UsageError(f"--reference: {error}") from error
