"""The settings of each command, read from the environment once, at its start."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal

from psycopg import ProgrammingError
from psycopg.conninfo import make_conninfo
from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from decisions.errors import UsageError

_URL = r"^https?://\S+$"
Permission = Literal[
    "decisions:read",
    "decisions:forget",
    "decisions:replay",
    "decisions:check",
    "drift:read",
    "outcomes:write",
    "timeline:write",
]


def _password(setting: str, file: Path) -> str:
    try:
        return file.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{setting}: cannot read {error}") from error


class DatabaseSettings(BaseSettings):
    """How the database is reached; each is the environment variable of its name, prefixed with DECISIONS_."""

    model_config = SettingsConfigDict(env_prefix="DECISIONS_", frozen=True)

    # postgresql://user@host:5432/decisions, with options of TLS if needed.
    database_url: str
    # A file that holds the password; without one, it is in the URL or not needed.
    database_password_file: Path | None = None

    @field_validator("database_url")
    @classmethod
    def _is_a_url(cls, url: str) -> str:
        try:
            make_conninfo(url)
        except ProgrammingError as error:
            raise ValueError(f"must be a URL such as postgresql://user@host:5432/decisions: {error}") from error
        return url

    def conninfo(self) -> str:
        """Return what libpq connects with.

        Raises:
            UsageError: The password's file cannot be read.
        """
        if self.database_password_file is None:
            return self.database_url
        password = _password("DECISIONS_DATABASE_PASSWORD_FILE", self.database_password_file)
        return make_conninfo(self.database_url, password=password)


class ShipSettings(DatabaseSettings):
    """Settings of `ship`; the URL's user may insert."""

    # The folder of all logs.
    log_dir: Path = Path("/var/lib/decisions")
    # This pod's, which is also the name of its folder there.
    pod_name: str = Field(default_factory=socket.gethostname, pattern=r"^[^/]+$")
    # Where segments are handed over that could not be shipped. None: nowhere.
    s3_bucket: str | None = None
    # None: AWS.
    s3_endpoint_url: str | None = None
    # Of all keys, so that several stacks can share a bucket.
    s3_prefix: str = Field(default="decisions", min_length=1)
    management_port: int = Field(default=9091, ge=0, le=65535)
    # How long the end may take: waiting for the service, shipping the rest, or handing it over.
    shutdown_seconds: int = Field(default=25, ge=1)


class MigrateSettings(DatabaseSettings):
    """Settings of `migrate`; the URL's user owns the tables."""

    # An administrator, who creates the database and its roles. What it leaves out is taken from PGUSER, PGPASSWORD and
    # PGDATABASE. None: they exist.
    admin_url: str | None = None
    # The folder of the files owner, writer, reader and service with the roles' passwords.
    role_passwords_dir: Path | None = None


class StoreSettings(DatabaseSettings):
    """How the database and the archive in S3 are reached."""

    s3_bucket: str = Field(min_length=1)
    # Of all keys, so that several stacks can share a bucket.
    s3_prefix: str = "decisions"
    # None: AWS.
    s3_endpoint_url: str | None = None
    # The bucket of the seals, such as one with object lock. None: the archive's.
    seal_bucket: str | None = None


class ArchiveSettings(StoreSettings):
    """Settings of `archive`; the URL's user owns the tables."""

    # How long a month stays in the database after its end. The EU AI Act asks for six at least.
    retention_months: int = Field(default=6, ge=6, le=1200)
    # Of MLflow, from where the models' files are taken into the archive. None: what is not there already stays out.
    mlflow_url: str | None = Field(default=None, pattern=_URL)


class DriftSettings(StoreSettings):
    """Settings of `drift`; the URL's user may read, and insert reports."""

    # Of MLflow, which has the versions' training references, and gets a run for each report. None: neither.
    mlflow_url: str | None = Field(default=None, pattern=_URL)


class ServeSettings(DatabaseSettings):
    """Settings of `serve`."""

    # Empty for all addresses, of IPv4 and of IPv6.
    host: str = ""
    port: int = Field(default=8080, ge=0, le=65535)
    management_port: int = Field(default=9091, ge=0, le=65535)
    shutdown_seconds: int = Field(default=25, ge=0)
    # The folder of API keys, in the scoring service's form: one file per client, with the SHA-256 of its keys.
    access_dir: Path = Path("/etc/creditrisk/access")
    # Of OpenID Connect: what tokens must have (iss, aud, a scope), where the keys are if not in the discovery document,
    # and the claim that names the client. An empty issuer: no tokens.
    oidc_issuer: str = ""
    oidc_audience: str = Field(default="", validate_default=True)
    oidc_keys_url: str = ""
    oidc_scope: str = ""
    oidc_client_claim: str = ""
    # The clients that have each permission, as JSON: {"decisions:read": ["auditor", "oidc:CLIENT"]}. Without a list, it
    # is nobody's.
    permissions: dict[Permission, frozenset[str]] = Field(default_factory=dict)
    database_connections: int = Field(default=8, ge=2, le=100)
    # How long a query may take; downloads of training data are not limited by it.
    query_seconds: int = Field(default=10, ge=1)
    # How long a check may take; the operator waits five seconds.
    check_seconds: int = Field(default=4, ge=1)
    # A file with the password of the role decisions_checker, which runs the SQL of ModelPromotions. None: nobody does.
    checker_password_file: Path | None = None
    max_body_bytes: int = Field(default=33554432, ge=1024)
    training_downloads: int = Field(default=2, ge=1)
    # Where the files of the versions are that decisions are replayed with: the archive's bucket, then MLflow. None: not
    # there.
    s3_bucket: str | None = None
    s3_prefix: str = "decisions"
    # None: AWS.
    s3_endpoint_url: str | None = None
    mlflow_url: str | None = Field(default=None, pattern=_URL)
    # How many versions stay loaded; the memory of the process that scores; how large a version's network may be.
    replay_versions: int = Field(default=4, ge=1, le=100)
    replay_memory_mebibytes: int = Field(default=256, ge=96)
    replay_model_mebibytes: int = Field(default=64, ge=1)
    # How many replays may wait for one another, and how long one may take once it is its turn.
    replay_waiting: int = Field(default=8, ge=1)
    replay_seconds: int = Field(default=60, ge=1)
    # The scoring service's scale of points: base_points at odds of base_odds to 1; pdo more double the odds.
    base_points: float = 600
    base_odds: float = Field(default=50, gt=0)
    pdo: float = Field(default=20, gt=0)
    # Where OTLP over HTTP takes traces, such as http://collector:4318/v1/traces; empty for no tracing.
    tracing_endpoint: str = Field(default="", pattern=r"^(https?://[^/?#\s]+(/[^?#\s]*)?)?$")
    # Share of the requests without a parent that are traced.
    tracing_ratio: float = Field(default=1.0, ge=0, le=1)

    @field_validator("oidc_audience")
    @classmethod
    def _goes_with_an_issuer(cls, audience: str, info: ValidationInfo) -> str:
        if bool(audience) != bool(info.data.get("oidc_issuer")):
            # A token for any service of the issuer's would do otherwise.
            raise ValueError("must be set if DECISIONS_OIDC_ISSUER is, and only then")
        return audience

    def checker_conninfo(self) -> str:
        """Return what libpq connects with to run SQL of ModelPromotions; empty if nobody may.

        Raises:
            UsageError: The password's file cannot be read.
        """
        if self.checker_password_file is None:
            return ""
        password = _password("DECISIONS_CHECKER_PASSWORD_FILE", self.checker_password_file)
        return make_conninfo(self.database_url, user="decisions_checker", password=password)


class LoadOutcomesSettings(DatabaseSettings):
    """Settings of `load-outcomes`."""

    # None: AWS.
    s3_endpoint_url: str | None = None
