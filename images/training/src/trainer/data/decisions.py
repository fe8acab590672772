"""Training data from the decision log: what the decisions service knows of applications and of their loans."""

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import urllib3
from pydantic import BaseModel, ConfigDict, ValidationError

from trainer import tracing
from trainer.data.declaration import Feature, FeatureDeclaration, NumericFeature
from trainer.data.file_format import FileFormat
from trainer.errors import BadInputError, DataUnavailableError, TrainerError

logger = logging.getLogger(__name__)

SCHEME = "decisions"
ID_COLUMN, DATE_COLUMN, PROBABILITY_COLUMN = "decision_id", "decided_at", "probability_of_default"
_PARAMETERS = ("from", "to", "matured")
_MATURED = "12m"
_METADATA_KEY = b"training-data"
_CHUNK_BYTES = 1 << 20
_RETRIES = 5
# The service reads and counts all rows before it sends the first one.
_READ_SECONDS = 600.0
_DETAIL_LENGTH = 1000


@dataclass(frozen=True)
class Service:
    """How the decisions service is reached.

    Attributes:
        url: Its address; empty if there is none.
        key_file: File with an API key that has the permission decisions:read, or None for no key.
    """

    url: str
    key_file: Path | None = None


class Query(BaseModel):
    """What the service made a table of; times are ISO 8601, `as_of` is when loans had to be old enough."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    since: str | None
    until: str | None
    matured_months: int
    as_of: str


class Summary(BaseModel):
    """What is in a table, and what is not; see the decisions service's TrainingSummary."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    query: Query
    digest: str
    rows: int
    repaid: int
    defaulted: int
    rejected: int
    rejected_rows: int
    undecided: int
    too_young: int
    forgotten: int


@dataclass(frozen=True)
class Fetched:
    """A table in a file, with the labels of its declaration.

    Attributes:
        path: A Parquet file with the declared columns. Rejected applicants have the label of repaid loans, because
            every row needs one.
        declaration: The declaration that describes the file.
        summary: What is in it.
        url: The request that it is the answer to, without the key.
        rejected: Which rows are rejected applicants; bool [N].
        probability: Everybody's probability of default, as it was answered then; float64 [N], empty unless rejected
            applicants were asked for.
    """

    path: Path
    declaration: FeatureDeclaration
    summary: Summary
    url: str
    rejected: npt.NDArray[np.bool_]
    probability: npt.NDArray[np.float64]


def is_decisions(source: str) -> bool:
    """Return whether a source is `decisions` or `decisions://?...`."""
    return source == SCHEME or source.startswith(f"{SCHEME}:")


def parameters(source: str) -> dict[str, str]:
    """Return the query of `decisions`, or of `decisions://?from=2025-01-01&to=2026-01-01&matured=12m`.

    Raises:
        BadInputError: It has another form.
    """
    given = source if "://" in source else f"{SCHEME}://{source.removeprefix(SCHEME).removeprefix(':')}"
    parts = urlsplit(given)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    names = [name for name, _ in pairs]
    allowed = f"{SCHEME}://?from=2025-01-01&to=2026-01-01&matured=12m"
    if parts.netloc or parts.path not in {"", "/"} or parts.fragment:
        raise BadInputError(f"{source}: the decisions are those of one service, so there is no name; as in {allowed}")
    for name in names:
        if name not in _PARAMETERS or names.count(name) > 1:
            problem = "given twice" if name in _PARAMETERS else "unknown"
            raise BadInputError(f"{source}: {name} is {problem}; allowed are {', '.join(_PARAMETERS)}, as in {allowed}")
    found = {"matured": _MATURED} | {name: value for name, value in pairs if value}
    if not re.fullmatch(r"\d{1,3}m", found["matured"]):
        raise BadInputError(f"{source}: matured={found['matured']}: must be months, such as 12m")
    return found


def fetch(
    source: str, declaration: FeatureDeclaration, service: Service, *, include_rejected: bool, scratch: Path
) -> Fetched:
    """Download the training table.

    Args:
        source: As for `parameters`.
        declaration: Features and labels of the table.
        service: Where to get it.
        include_rejected: Ask for rejected applicants, too.
        scratch: Folder for the file.

    Raises:
        BadInputError: The request is refused, or there is no row that could be learned from.
        DataUnavailableError: The service does not answer; another attempt may help.
    """
    target = declaration.target
    wanted = {**parameters(source), "target": target.column, "repaid": target.repaid[0], "defaulted": target.default[0]}
    if include_rejected:
        wanted["include"] = "rejected"
    if not service.url:
        raise BadInputError(f"{source}: no decisions service; set --decisions-url or TRAINER_DECISIONS_URL")
    url = f"{service.url.rstrip('/')}/v1/training-data?{urlencode(wanted)}"
    downloaded = scratch / "decisions.parquet"
    _download(url, service, downloaded)
    table, summary = _read(downloaded, url)
    if not summary.repaid + summary.defaulted:
        raise BadInputError(
            f"{source}: no matured decision has an outcome yet: {summary.undecided} are undecided, {summary.too_young} "
            f"too young, {summary.rejected} rejected, {summary.forgotten} forgotten"
        )
    declared = declared_for(declaration, table.column_names)
    rejected = table.column(target.column).is_null().to_numpy() if include_rejected else np.zeros(len(table), bool)
    labeled = pc.fill_null(table.column(target.column), target.repaid[0])
    probability = (
        table.column(PROBABILITY_COLUMN).to_numpy() if include_rejected else np.empty(0, dtype=np.float64)
    )  # fmt: skip
    table = table.set_column(table.column_names.index(target.column), target.column, labeled)
    path = scratch / "declared.parquet"
    pq.write_table(table.select([name for name in declared.columns if name in table.column_names]), path)
    return Fetched(path, declared, summary, url, rejected, probability)


def declared_for(declaration: FeatureDeclaration, columns: list[str]) -> FeatureDeclaration:
    """Return a declaration as the service writes its table: with its names for ids and dates, and numbers as numbers.

    Protected attributes that no version used are not in the table, and become ignored fields.
    """
    absent = tuple(f.name for f in declaration.features if f.protected and f.name not in columns)
    if absent:
        logger.info("not in the decisions, and not used: %s", ", ".join(absent))
    features = tuple(_as_number(feature) for feature in declaration.features if feature.name not in absent)
    return declaration.model_copy(
        update={
            "id_column": ID_COLUMN,
            "date_column": DATE_COLUMN,
            "date_format": "",
            "weight_column": None,
            "file": FileFormat(),
            "features": features,
            "ignored": (*declaration.ignored, *(name for name in absent if name not in declaration.ignored)),
        }
    )


def _as_number(feature: Feature) -> Feature:
    if isinstance(feature, NumericFeature):
        return feature.model_copy(update={"parse": None, "date_format": "", "reference_date": ""})
    return feature


def _download(url: str, service: Service, target: Path) -> None:
    retries = urllib3.Retry(total=_RETRIES, redirect=False, backoff_factor=1, status_forcelist=[502, 503, 504],
                            raise_on_status=False, raise_on_redirect=False)  # fmt: skip
    timeout = urllib3.Timeout(connect=10, read=_READ_SECONDS)
    try:
        with (
            urllib3.PoolManager(retries=retries, timeout=timeout) as pool,
            # Not to another host, which would get the key.
            pool.request(
                "GET", url, headers=_headers(service) | tracing.headers(), preload_content=False, redirect=False
            ) as response,
        ):
            if response.status != 200:
                raise _refused(url, response.status, response.read(_CHUNK_BYTES))
            with target.open("wb") as file:
                for chunk in response.stream(_CHUNK_BYTES):
                    file.write(chunk)
    except urllib3.exceptions.LocationValueError as error:
        raise BadInputError(f"--decisions-url {service.url}: {error}") from error
    except urllib3.exceptions.HTTPError as error:
        raise DataUnavailableError(f"{url}: {error}") from error


def _headers(service: Service) -> dict[str, str]:
    if service.key_file is None:
        return {}
    try:
        key = service.key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"the API key for {service.url}: {error}") from error
    if not key.isascii() or not key.isprintable():
        raise BadInputError(f"{service.key_file} does not hold an API key: only printable ASCII is allowed")
    return {"Authorization": f"Bearer {key}"}


def _refused(url: str, status: int, body: bytes) -> TrainerError:
    """Return the error for an answer, with what its problem+json says."""
    try:
        problem = json.loads(body)
        fields = [f"{found['field']} {found['problem']}" for found in problem.get("errors") or ()]
        detail = "; ".join([str(problem["detail"]), *fields])
    except (ValueError, KeyError, TypeError, AttributeError):
        detail = body.decode("utf-8", "replace")
    message = f"{url}: the service answered {status}: {detail[:_DETAIL_LENGTH]}"
    if 300 <= status < 500 and status != 429:
        return BadInputError(message)
    return DataUnavailableError(message)


def _read(path: Path, url: str) -> tuple[pa.Table, Summary]:
    try:
        table = pq.read_table(path)
        summary = Summary.model_validate_json((table.schema.metadata or {}).get(_METADATA_KEY, b""))
    except (pa.ArrowException, OSError, ValidationError) as error:
        raise DataUnavailableError(f"{url}: the answer is not a training table: {error}") from error
    if len(table) != summary.rows:
        raise DataUnavailableError(f"{url}: {len(table)} rows came of {summary.rows}")
    return table, summary
