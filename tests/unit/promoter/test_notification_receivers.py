"""Slack, CloudEvents and e-mail against servers that fail, refuse, hang and repeat secrets."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from referencing import Registry, Resource

from charts.tls_servers import self_signed
from conftest import REPOSITORY
from promoter.adapters.notification_receivers import subscriptions
from promoter.adapters.notifications_http import CloudEventsReceiver, SlackReceiver, encoded
from promoter.adapters.notifications_smtp import EmailReceiver
from promoter.errors import BusyError, PermanentError, RetryableError
from promoter.notifications.delivery import Receiver
from promoter.notifications.settings import (
    KINDS,
    CloudEventsSettings,
    EmailSettings,
    Links,
    NotificationSettings,
    SlackSettings,
)
from promoter.notifications.text import Wording, cloud_event
from smtp_server import MailServer, mail_server
from unit.promoter.fakes import OWNER
from unit.promoter.receivers import ROLLED_BACK, SHIFT, Inbox, inbox, notification

CONTRACTS = REPOSITORY / "contracts"
SCHEMAS = {file.name: json.loads(file.read_text("utf-8")) for file in CONTRACTS.glob("*.schema.json")}
SCHEMA = Draft202012Validator(
    SCHEMAS["notification.schema.json"],
    registry=Registry().with_resources((name, Resource.from_contents(found)) for name, found in SCHEMAS.items()),
)
WORDING = Wording(
    "eu-1", Links(page="https://rollouts.test/{namespace}/{name}", mlflow="https://mlflow.test/")
)  # fmt: skip
# Seconds: of servers that answer, and of those that never do.
PATIENCE, IMPATIENCE = 30.0, 0.3
SECRET_PATH = "/services/T0/B0/x8Gq2?token=hush"
TITLE = f"credit-risk: version 8 was rolled back (AnalysisFailed): {SHIFT}; version 7 answers all applicants"


@pytest.fixture
async def receiver() -> AsyncIterator[Inbox]:
    async with inbox() as found:
        yield found


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as found:
        yield found


@pytest.fixture
def slack(receiver: Inbox, session: aiohttp.ClientSession, tmp_path: Path) -> SlackReceiver:
    (tmp_path / "url").write_text(f"{receiver.url}{SECRET_PATH}\n")
    return SlackReceiver(session, SlackSettings(url_file=tmp_path / "url"), WORDING)


async def test_slack_gets_plain_words_with_numbers_and_links(receiver: Inbox, slack: SlackReceiver) -> None:
    await slack.deliver(OWNER, ROLLED_BACK)
    (told,) = receiver.taken
    assert told.path == SECRET_PATH
    assert told.document["text"].splitlines() == [
        f"*{TITLE.replace('>', '&gt;')}*",
        f"Failed: {SHIFT.replace('>', '&gt;')}",
        "Error: Prometheus answered 503 &lt;html&gt;",
        "why, and what to do: kubectl promotion explain loans -n bank",
        "ModelPromotion bank/loans in cluster eu-1",
        "<https://rollouts.test/bank/loans|promotion> · <https://mlflow.test/#/models/credit-risk/versions/8|model>",
    ]


@pytest.mark.parametrize("status", [500, 502, 503, 408, 429])
async def test_what_a_receiver_may_take_later_is_not_final(receiver: Inbox, slack: Receiver, status: int) -> None:
    receiver.answers = [(status, {})]
    with pytest.raises(RetryableError, match=f"answered {status}: as told"):
        await slack.deliver(OWNER, ROLLED_BACK)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 301, 307])
async def test_what_a_receiver_refuses_is_final(receiver: Inbox, slack: Receiver, status: int) -> None:
    receiver.answers = [(status, {"Location": receiver.url})]
    with pytest.raises(PermanentError, match=f"answered {status}"):
        await slack.deliver(OWNER, ROLLED_BACK)
    assert len(receiver.requests) == 1, "redirects are not followed"


async def test_retry_after_is_seconds_or_a_date(receiver: Inbox, slack: Receiver) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    for value, expected in (("7", 7), (moment, 90)):
        receiver.answers = [(429, {"Retry-After": value})]
        with pytest.raises(BusyError) as raised:
            await slack.deliver(OWNER, ROLLED_BACK)
        assert raised.value.retry_after == pytest.approx(expected, abs=3)
    receiver.answers = [(503, {"Retry-After": "soon"})]
    with pytest.raises(RetryableError) as other:
        await slack.deliver(OWNER, ROLLED_BACK)
    assert not isinstance(other.value, BusyError)


async def test_a_receiver_that_hangs_or_is_away_is_tried_later(
    receiver: Inbox, slack: Receiver, tmp_path: Path
) -> None:
    receiver.answers = [None]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=IMPATIENCE)) as impatient:
        hanging = SlackReceiver(impatient, SlackSettings(url_file=tmp_path / "url"), WORDING)
        with pytest.raises(RetryableError, match=r"http://127\.0\.0\.1:\d+: TimeoutError"):
            await hanging.deliver(OWNER, ROLLED_BACK)
    (tmp_path / "url").write_text(f"http://127.0.0.1:1{SECRET_PATH}")
    with pytest.raises(RetryableError, match=r"127\.0\.0\.1:1") as raised:
        await slack.deliver(OWNER, ROLLED_BACK)
    assert "x8Gq2" not in str(raised.value)


@pytest.mark.parametrize(
    "content", [b"", b"no address", b"ftp://files.test/x", b"http:///x", b"http://[/x", b"a\nb", b"\xff"]
)
async def test_a_secret_that_holds_no_url_is_named_but_not_shown(
    slack: Receiver, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "url").write_bytes(content)
    with pytest.raises(RetryableError) as raised:
        await slack.deliver(OWNER, ROLLED_BACK)
    assert "URL" in str(raised.value)
    assert not content or content.decode(errors="replace") not in str(raised.value)


async def test_a_secret_that_is_missing_may_come_later(slack: Receiver, receiver: Inbox, tmp_path: Path) -> None:
    content = (tmp_path / "url").read_text()
    (tmp_path / "url").unlink()
    with pytest.raises(RetryableError, match="cannot be read: FileNotFoundError"):
        await slack.deliver(OWNER, ROLLED_BACK)
    (tmp_path / "url").write_text(content)
    await slack.deliver(OWNER, ROLLED_BACK)
    assert len(receiver.taken) == 1


async def test_errors_never_hold_the_address_or_the_token_even_if_the_receiver_repeats_them(
    receiver: Inbox, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text(f"{receiver.url}{SECRET_PATH}")
    (tmp_path / "token").write_text("t-4711")
    settings = CloudEventsSettings(url_file=tmp_path / "url", token_file=tmp_path / "token")
    events = CloudEventsReceiver(session, settings, WORDING)
    receiver.detail = f"no such hook: {receiver.url}{SECRET_PATH} nor {SECRET_PATH} for Bearer t-4711"
    receiver.answers = [(404, {})]
    with pytest.raises(PermanentError) as raised:
        await events.deliver(OWNER, ROLLED_BACK)
    assert str(raised.value) == f"{receiver.url} answered 404: no such hook: *** nor *** for Bearer ***"
    assert raised.value.__cause__ is None
    assert receiver.requests[0].headers["Authorization"] == "Bearer t-4711"


async def test_a_structured_cloud_event_has_everything_in_its_body(
    receiver: Inbox, session: aiohttp.ClientSession
) -> None:
    events = CloudEventsReceiver(session, CloudEventsSettings(url=f"{receiver.url}/events"), WORDING)
    for _ in range(2):
        await events.deliver(OWNER, ROLLED_BACK)
    first, again = receiver.taken
    assert first.headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    assert first.document == again.document == json.loads((CONTRACTS / "golden/notification.json").read_text("utf-8"))
    assert first.document["data"]["title"] == TITLE


async def test_a_binary_cloud_event_has_its_attributes_in_headers(
    receiver: Inbox, session: aiohttp.ClientSession
) -> None:
    events = CloudEventsReceiver(session, CloudEventsSettings(url=receiver.url, mode="binary"), WORDING)
    await events.deliver(OWNER, ROLLED_BACK)
    (told,) = receiver.taken
    attributes = {key.lower()[3:]: value for key, value in told.headers.items() if key.lower().startswith("ce-")}
    assert attributes == {
        "specversion": "1.0", "id": "bank/loans/u-1/1767225600000-3", "type": "io.creditrisk.promotion.RolledBack",
        "source": "/apis/creditrisk.io/v1alpha1/namespaces/bank/modelpromotions/loans",
        "subject": "models/credit-risk/versions/8", "time": "2026-01-01T00:00:00.000Z",
    }  # fmt: skip
    assert told.headers["Content-Type"] == "application/json"
    assert told.document == cloud_event(WORDING, OWNER, ROLLED_BACK)["data"]


def test_headers_of_binary_events_are_percent_encoded() -> None:
    event = {**cloud_event(WORDING, OWNER, ROLLED_BACK), "subject": 'models/kredit risiko "ü"/versions/8%'}
    _, headers = encoded(event, binary=True)
    assert headers["ce-subject"] == "models/kredit%20risiko%20%22%C3%BC%22/versions/8%25"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_has_words_and_fits_the_contract(kind: Any) -> None:
    entry = ROLLED_BACK.model_copy(update={"kind": kind, "version": None, "stable_version": None, "judgment": None})
    for found in (entry, ROLLED_BACK.model_copy(update={"kind": kind})):
        event = cloud_event(Wording(), OWNER, found)
        assert not list(SCHEMA.iter_errors(event))
        assert event["data"]["title"].startswith("credit-risk: ")
        assert "\n" not in event["data"]["title"]


# --- e-mail


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's certificate of a private CA, which this process trusts as pods do with global.caBundle."""
    folder = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.crt"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.crt", folder / "ca.key")
    return context


@pytest.fixture
async def mail(tls: ssl.SSLContext) -> AsyncIterator[MailServer]:
    async with mail_server(tls) as found:
        yield found


def email(port: int, folder: Path, patience: float = PATIENCE, **changes: Any) -> EmailReceiver:
    (folder / "username").write_text("rollouts")
    (folder / "password").write_text("p-4711\n")
    fields: dict[str, Any] = {
        "host": "127.0.0.1", "port": port, "from": "Rollouts <rollouts@bank.test>",
        "to": ["risk@bank.test", "ml@bank.test"], "username_file": folder / "username",
        "password_file": folder / "password",
    }  # fmt: skip
    return EmailReceiver(EmailSettings.model_validate(fields | changes), WORDING, patience)


async def test_an_email_is_sent_over_starttls_with_the_password(mail: MailServer, tmp_path: Path) -> None:
    await email(mail.port, tmp_path).deliver(OWNER, ROLLED_BACK)
    await email(mail.port, tmp_path).deliver(OWNER, ROLLED_BACK)
    (recipients, message), (_, again) = mail.mails
    assert recipients == ["risk@bank.test", "ml@bank.test"]
    assert mail.credentials[0] == ("rollouts", "p-4711", True)
    assert message["Subject"] == TITLE[:199] + "…" if len(TITLE) > 200 else TITLE
    assert message["Message-ID"] == again["Message-ID"]
    assert message["Message-ID"].endswith("@bank.test>")
    assert message["Date"].datetime.year == 2026
    lines = message.get_content().splitlines()
    assert lines[0] == TITLE
    assert f"Failed: {SHIFT}" in lines
    assert lines[-2:] == [
        "promotion: https://rollouts.test/bank/loans", "model: https://mlflow.test/#/models/credit-risk/versions/8",
    ]  # fmt: skip


async def test_a_server_that_speaks_tls_from_the_start(tls: ssl.SSLContext, tmp_path: Path) -> None:
    async with mail_server(tls, starttls=False) as server:
        await email(server.port, tmp_path, security="tls").deliver(OWNER, ROLLED_BACK)
        assert server.credentials == [("rollouts", "p-4711", True)]
        assert len(server.mails) == 1


async def test_without_tls_only_if_told_and_never_with_a_password(tmp_path: Path) -> None:
    none: dict[str, Any] = {"security": "none", "username_file": None, "password_file": None}
    async with mail_server(starttls=False) as server:
        await email(server.port, tmp_path, **none).deliver(OWNER, ROLLED_BACK)
        assert len(server.mails) == 1
        # Somebody between could take STARTTLS out of the server's answer.
        with pytest.raises(PermanentError, match="STARTTLS"):
            await email(server.port, tmp_path).deliver(OWNER, ROLLED_BACK)
        assert len(server.mails) == 1
        assert not server.credentials
    with pytest.raises(ValidationError, match="a password is not sent without TLS"):
        email(1, tmp_path, security="none")


async def test_a_certificate_that_is_not_trusted_gets_no_password(
    mail: MailServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(RetryableError, match="CERTIFICATE_VERIFY_FAILED"):
        await email(mail.port, tmp_path).deliver(OWNER, ROLLED_BACK)
    assert not mail.credentials


@pytest.mark.parametrize(
    ("verb", "answer", "failure", "words"),
    [
        ("CONNECT", "421 too busy", RetryableError, "421"),
        ("MAIL", "450 greylisted", RetryableError, "450: greylisted"),
        ("MAIL", "550 not you", PermanentError, "550: not you"),
        ("AUTH", "535 wrong password p-4711", PermanentError, r"535: wrong password \*\*\*$"),
        ("AUTH", "454 later", RetryableError, "454"),
        ("DATA", "452 mailbox full", RetryableError, "452"),
        ("DATA", "554 spam", PermanentError, "554: spam"),
        ("CONNECT", "hang", RetryableError, "timed out"),
        ("DATA", "hang", RetryableError, "timed out"),
    ],
)
async def test_answers_of_the_mail_server(
    mail: MailServer, tmp_path: Path, verb: str, answer: str, failure: type[Exception], words: str
) -> None:
    mail.answers[verb] = [answer] * 2
    patience = IMPATIENCE if answer == "hang" else PATIENCE
    with pytest.raises(failure, match=words) as raised:
        await email(mail.port, tmp_path, patience).deliver(OWNER, ROLLED_BACK)
    assert "p-4711" not in str(raised.value)
    mail.answers.clear()
    await email(mail.port, tmp_path).deliver(OWNER, ROLLED_BACK)
    assert len(mail.mails) == 1


async def test_recipients_that_are_refused(mail: MailServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mail.answers["RCPT"] = ["550 nobody here"]
    await email(mail.port, tmp_path).deliver(OWNER, ROLLED_BACK)
    assert "refused risk@bank.test" in caplog.text, "the others got it"
    for last, failure in (("550 nobody", PermanentError), ("451 later", RetryableError)):
        mail.answers["RCPT"] = ["550 nobody", last]
        with pytest.raises(failure, match="refused all recipients"):
            await email(mail.port, tmp_path).deliver(OWNER, ROLLED_BACK)
    assert len(mail.mails) == 1


async def test_a_password_that_smtp_cannot_send_is_final(mail: MailServer, tmp_path: Path) -> None:
    receiver = email(mail.port, tmp_path)
    (tmp_path / "password").write_text("schl\u00fcssel")
    with pytest.raises(PermanentError, match="must be ASCII"):
        await receiver.deliver(OWNER, ROLLED_BACK)


async def test_names_of_models_do_no_harm_in_headers(mail: MailServer, tmp_path: Path) -> None:
    strange = notification(8).model_copy(update={"model": "kredit\r\nBcc: x@evil.test \u00fc"})
    await email(mail.port, tmp_path).deliver(OWNER, strange)
    ((recipients, message),) = mail.mails
    assert recipients == ["risk@bank.test", "ml@bank.test"]
    assert message["Bcc"] is None
    assert message["Subject"].startswith("kredit Bcc: x@evil.test ü: the rollout of version 8 has started")


# --- settings


def test_settings_name_receivers_and_what_each_wants(session: aiohttp.ClientSession) -> None:
    settings = NotificationSettings.model_validate_json(json.dumps({
        "events": ["Promoted", "RolledBack"],
        "slack": {"urlFile": "/secrets/url", "events": ["Degraded"]},
        "cloudEvents": {"url": "https://events.test"},
        "email": {"host": "mail", "port": 587, "from": "a@b.test", "to": ["c@d.test"], "events": ["RolledBack"]},
    }))  # fmt: skip
    found = {entry.receiver.name: set(entry.kinds) for entry in subscriptions(session, settings)}
    assert found == {"slack": {"Degraded"}, "cloudEvents": {"Promoted", "RolledBack"}, "email": {"RolledBack"}}
    assert subscriptions(session, NotificationSettings()) == ()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"events": ["WeightChanged"]}, "RolloutStarted"),
        ({"cloudEvents": {}}, "either url or urlFile"),
        ({"email": {"host": "mail", "port": 25, "from": "a@b.test\nBcc: x", "to": ["c@d.test"]}}, "from"),
        ({"email": {"host": "mail", "port": 25, "from": "a@b.test", "to": []}}, "to"),
        ({"email": {"host": "mail", "port": 25, "from": "a@b.test", "to": ["c@d.test"], "passwordFile": "/p"}}, "both"),
        ({"pager": {}}, "pager"),
    ],
)
def test_wrong_settings_say_what_is_allowed(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        NotificationSettings.model_validate(wrong)
