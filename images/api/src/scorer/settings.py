"""The service's settings, read from the environment once, at start."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_ENDPOINT = r"^(https?://[^/?#\s]+(/[^?#\s]*)?)?$"
_ORIGIN = r"^(\*|[a-z][a-z0-9+.-]*://[^/?#\s]+)$"


def _checked_root_path(path: str) -> str:
    """Return a path prefix without a slash at its end."""
    prefix = path.removesuffix("/")
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", prefix):
        raise ValueError("must be a path such as /scoring, of letters, digits and . _ ~ -")
    if re.match("/(v1|v2|docs)(/|$)", prefix):
        raise ValueError("must not begin with a path of the service: /v1, /v2 or /docs")
    return prefix


class Settings(BaseSettings):
    """Settings of the process; each is the environment variable of its name, prefixed with SCORER_."""

    model_config = SettingsConfigDict(env_prefix="SCORER_", frozen=True, protected_namespaces=())

    registry_url: str = "http://mlflow:5000"
    model_name: str = "credit-risk"
    model_alias: str = "production"
    model_stage: str = "Production"
    # Empty: the version that the registry's alias, or else its stage, names.
    model_version: str = ""
    # If the file is absent, there is no operator and this pod answers everything.
    route_file: Path = Path("/etc/creditrisk/route/route.json")
    route_poll_seconds: float = Field(default=0.1, gt=0)
    # Whether applicants whom a canary answered are scored by this pod's model too, so that both can be compared.
    pairing: bool = True
    # The copy of the version's files that the operator keeps in the cluster; without one, the registry has them.
    artifacts_dir: Path = Path("/etc/creditrisk/model")
    cache_dir: Path = Path("/var/cache/scorer")
    pod_name: str = ""
    # Empty for all addresses, of IPv4 and of IPv6.
    host: str = ""
    port: int = Field(default=8000, ge=0, le=65535)
    management_port: int = Field(default=9090, ge=0, le=65535)
    # The path prefix under which clients reach the service, such as /scoring; empty for none.
    root_path: Annotated[str, AfterValidator(_checked_root_path)] = ""
    # Origins whose web pages may send requests, such as https://app.example.org, as a JSON array; "*" for all.
    cors_allowed_origins: tuple[Annotated[str, Field(pattern=_ORIGIN)], ...] = ()
    # The scale of score points: base_points at odds of base_odds to 1 of repaying; pdo more points double the odds.
    base_points: float = 600
    base_odds: float = Field(default=50, gt=0)
    pdo: float = Field(default=20, gt=0)
    # Who may send requests: everyone, clients with a key in access_dir, or clients with a token of oidc_issuer.
    access_mode: Literal["none", "apiKeys", "oidc"] = "none"
    access_dir: Path = Path("/etc/creditrisk/access")
    access_poll_seconds: float = Field(default=1.0, gt=0)
    oidc_issuer: str = ""
    oidc_audience: str = ""
    # Empty: taken from the issuer's discovery document.
    oidc_keys_url: str = ""
    oidc_scope: str = ""
    # Empty: the first of azp, client_id and sub.
    oidc_client_claim: str = ""
    oidc_refresh_seconds: float = Field(default=900.0, gt=0)
    # Whether each answer is logged as a line of JSON on stdout.
    audit_log: bool = False
    # Whether each decision becomes a record: log never lets an answer wait for it; require answers once it is on disk.
    decision_log: Literal["off", "log", "require"] = "off"
    # Has a folder for each pod, with the pod's segments.
    decision_log_dir: Path = Path("/var/lib/decisions")
    # All segments of this pod together: an hour at 500 decisions per second needs a third of the default.
    decision_log_max_bytes: int = Field(default=1_073_741_824, ge=16_777_216)
    # Where OTLP over HTTP takes traces, such as http://collector:4318/v1/traces; empty for no tracing.
    tracing_endpoint: str = Field(default="", pattern=_ENDPOINT)
    # The share of the requests that are traced, of those that do not continue a client's trace.
    tracing_ratio: float = Field(default=0.01, ge=0, le=1)
    max_body_bytes: int = Field(default=65536, ge=1024)
    # 10,000 rows as JSON records are 3.3 MB.
    max_batch_bytes: int = Field(default=8_388_608, ge=1024)
    registry_timeout_seconds: float = Field(default=10.0, gt=0)
    retry_min_seconds: float = Field(default=0.5, gt=0)
    retry_max_seconds: float = Field(default=10.0, gt=0)
    # Longer than any ingress keeps an idle connection (Traefik 90 s, an AWS load balancer 60 s): if this side closed
    # first, a request could arrive on a connection that is just being closed.
    keep_alive_seconds: int = Field(default=120, ge=1)
    max_header_bytes: int = Field(default=16384, ge=1024)
    # For a request to arrive; a large body may take longer if it keeps arriving.
    max_arrival_seconds: float = Field(default=10.0, gt=0)
    max_concurrent_requests: int = Field(default=256, ge=1)
    max_connections: int = Field(default=1000, ge=1)
    # After SIGTERM: the most time until the port closes, then the most time for running requests to finish.
    drain_seconds: float = Field(default=10.0, ge=0)
    shutdown_grace_seconds: int = Field(default=20, ge=0)

    @model_validator(mode="after")
    def _issuer_is_known(self) -> Self:
        if self.access_mode == "oidc" and not (self.oidc_issuer and self.oidc_audience):
            raise ValueError("access_mode oidc needs oidc_issuer and oidc_audience")
        return self
