"""Who is to be told what: the document in PROMOTER_NOTIFICATIONS, without secrets, which are in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from promoter.api.status import NotificationKind

KINDS = frozenset[NotificationKind](get_args(NotificationKind))

# With or without a name, as in "Rollouts <rollouts@example.org>". The mail server knows the rest.
_ADDRESS = r"^[^\r\n,]+@[^\r\n,@]+$"


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


class Links(_Part):
    """Where people read on: the page of a promotion, with {namespace} and {name}, and MLflow; "" for no link."""

    page: str = ""
    mlflow: str = ""


class _ReceiverSettings(_Part):
    # Instead of those for all receivers.
    events: frozenset[NotificationKind] = frozenset()


class SlackSettings(_ReceiverSettings):
    """A Slack-compatible incoming webhook, whose address is a secret."""

    url_file: Path


class CloudEventsSettings(_ReceiverSettings):
    """An HTTP endpoint for CloudEvents, with its address or a file that has it, and a file with a bearer token."""

    url: str = ""
    url_file: Path | None = None
    token_file: Path | None = None
    mode: Literal["structured", "binary"] = "structured"

    @model_validator(mode="after")
    def _check_address(self) -> Self:
        if bool(self.url) == (self.url_file is not None):
            raise ValueError("cloudEvents needs either url or urlFile")
        return self


class EmailSettings(_ReceiverSettings):
    """A mail server; `security` says how TLS begins."""

    host: str = Field(min_length=1)
    port: int = Field(ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    sender: str = Field(alias="from", pattern=_ADDRESS)
    to: tuple[Annotated[str, Field(pattern=_ADDRESS)], ...] = Field(min_length=1)
    username_file: Path | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _check_credentials(self) -> Self:
        if (self.username_file is None) != (self.password_file is None):
            raise ValueError("email needs both usernameFile and passwordFile, or none of them")
        if self.username_file and self.security == "none":
            raise ValueError("email.security is none: a password is not sent without TLS")
        return self


class NotificationSettings(_Part):
    """All receivers; those that are None get nothing."""

    events: frozenset[NotificationKind] = KINDS
    cluster: str = Field(default="", description="The cluster's name in messages.")
    links: Links = Links()
    slack: SlackSettings | None = None
    cloud_events: CloudEventsSettings | None = None
    email: EmailSettings | None = None
