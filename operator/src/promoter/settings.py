"""What the operator reads from its environment, once, at start."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings of one process; each is the variable of its name with PROMOTER_ in front."""

    model_config = SettingsConfigDict(env_prefix="PROMOTER_", frozen=True)

    registry_url: str = "http://mlflow:5000"
    # Comma-separated; empty for all namespaces.
    namespaces: str = ""
    port: int = Field(default=8080, ge=0, le=65535)
    poll_seconds: float = Field(default=10.0, ge=0.2)
    poll_max_seconds: float = Field(default=60.0, gt=0)
    # How often a rollout that is on its way looks around.
    tick_seconds: float = Field(default=1.0, ge=0.1)
    request_timeout_seconds: float = Field(default=5.0, gt=0)
    # A loop that was not once around in this time is taken for hung.
    hung_seconds: float = Field(default=120.0, gt=0)
    # Empty: no webhook.
    webhook_secret: SecretStr = SecretStr("")

    @property
    def watched(self) -> tuple[str, ...]:
        """Return the namespaces that are watched; none for all."""
        return tuple(name.strip() for name in self.namespaces.split(",") if name.strip())
