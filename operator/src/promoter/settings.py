"""Settings from the environment, read once at startup."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from promoter.notifications.settings import NotificationSettings


class Settings(BaseSettings):
    """Settings of the process; the environment variables are the names in upper case after PROMOTER_."""

    model_config = SettingsConfigDict(env_prefix="PROMOTER_", frozen=True)

    registry_url: str = "http://mlflow:5000"
    # Comma-separated; empty for all namespaces.
    namespaces: str = ""
    port: int = Field(default=8080, ge=0, le=65535)
    poll_seconds: float = Field(default=10.0, ge=0.2)
    poll_max_seconds: float = Field(default=60.0, gt=0)
    # Seconds between the turns of a promotion with a rollout in progress.
    tick_seconds: float = Field(default=1.0, ge=0.1)
    request_timeout_seconds: float = Field(default=5.0, gt=0)
    # A turn that takes longer than this counts as hung.
    hung_seconds: float = Field(default=120.0, gt=0)
    # The operator's own pod, which holds the Lease. Without a name there is no Lease: outside of a cluster.
    pod_namespace: str = ""
    pod_name: str = ""
    pod_uid: str = ""
    # Empty: no webhook.
    webhook_secret: SecretStr = SecretStr("")

    # The decisions service, which keeps the timeline. Empty: no timeline.
    timeline_url: str = ""
    # File with the API key for it; read for each event, because keys are changed. None: no key.
    timeline_key_file: Path | None = None

    # Who is told what, as JSON. Without receivers there are no notifications.
    notifications: NotificationSettings = NotificationSettings()
    # Port of the page of rollouts. None: no page.
    page_port: int | None = Field(default=None, ge=0, le=65535)
    # Path of the page, such as /promotions.
    page_path: str = Field(default="", pattern=r"^(/[A-Za-z0-9._~-]+)*$")
    # none: the page is open to all who reach it.
    page_access: Literal["apiKeys", "none"] = "apiKeys"
    # Folder with the SHA-256 of clients' API keys, a file per client; without it, nobody is admitted.
    page_keys: Path = Path("/etc/creditrisk/page")
    # How many browsers may follow events at a time.
    page_followers: int = Field(default=50, ge=1)
    # The decisions service, which measures in the decision log, and the file with the API key for it. Empty: no checks.
    checks_url: str = ""
    checks_key_file: Path | None = None
    # The decisions service, which keeps drift reports, and the file with the API key for it. Empty: none.
    drift_url: str = ""
    drift_key_file: Path | None = None
    drift_seconds: float = Field(default=300.0, ge=1)
    # Whether trainings may be started: Jobs from the template of a CronJob.
    retraining: bool = False
    # Folder with tls.crt and tls.key for the webhook that checks approvals. None: no approvals.
    approvals_certificate: Path | None = None
    approvals_port: int = Field(default=8443, ge=0, le=65535)

    # Where OTLP over HTTP takes traces, such as http://collector:4318/v1/traces; empty for no tracing.
    tracing_endpoint: str = Field(default="", pattern=r"^(https?://[^/?#\s]+(/[^?#\s]*)?)?$")
    # Share of turns that are traced.
    tracing_ratio: float = Field(default=1.0, ge=0, le=1)

    @property
    def watched(self) -> tuple[str, ...]:
        """Return the watched namespaces; empty for all."""
        return tuple(name.strip() for name in self.namespaces.split(",") if name.strip())

    def follows(self, namespace: str) -> bool:
        """Return whether a namespace is watched."""
        return not self.watched or namespace in self.watched
