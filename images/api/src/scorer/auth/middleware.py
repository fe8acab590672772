"""Who may ask: a guard in front of the whole public application. With access control off it is not there at all."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter

from scorer.endpoints.pages import PAGES
from scorer.http.asgi import App, Message, Receive, Scope, Send, answer_problem
from scorer.problems import Problem

API_KEY = b"x-api-key"
# What anybody may read: pages, which hold no data, the API's description, and the protocols' own questions of life.
OPEN = frozenset({*PAGES, "/openapi.json", "/ping", "/v2/health/live", "/v2/health/ready"})
# A stable pod shows the canary what its client showed, so that the canary admits the same requests.
credentials: ContextVar[dict[str, str]] = ContextVar("credentials")
# Whose request this is, by the name under which access control knows it.
client: ContextVar[str] = ContextVar("client", default="")
MOST_CLIENTS = 100


class Authenticator(Protocol):
    """Knows clients by what they show."""

    async def identify(self, credential: str) -> str:
        """Return the client's name.

        Raises:
            Problem: 401 for a credential that is not good, 403 for one that does not suffice.
        """
        ...


def unauthorized(detail: str, error: str = "") -> Problem:
    """Return a 401 that says how to come in (RFC 6750)."""
    challenge = 'Bearer realm="credit-risk"' + (f', error="{error}"' if error else "")
    return Problem(401, detail, headers=(("WWW-Authenticate", challenge),))


class AccessControl:
    """An ASGI application that lets known clients through to another one, and counts them."""

    def __init__(self, app: App, authenticator: Authenticator, registry: CollectorRegistry) -> None:
        """Take the application, who knows its clients, and where to count."""
        self._app, self._authenticator = app, authenticator
        self._requests = Counter("scorer_client_requests_total", "Requests by client and status code",
                                 ["client", "status"], registry=registry)  # fmt: skip
        self._denied = Counter("scorer_access_denied_total", "Requests without access, by status code", ["status"],
                               registry=registry)  # fmt: skip
        self._clients: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI has it."""
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        try:
            shown, credential = _credential(scope["headers"])
            name = await self._authenticator.identify(credential)
        except Problem as problem:
            self._denied.labels(problem.status).inc()
            await answer_problem(send, problem)
            return
        credentials.set(shown)
        client.set(name)
        counted = self._counted(name)

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._requests.labels(counted, message["status"]).inc()
            await send(message)

        await self._app(scope, receive, counting)

    def _counted(self, name: str) -> str:
        """Return the client's name for the metrics, which must not grow with every person who has a token."""
        if name not in self._clients:
            if len(self._clients) >= MOST_CLIENTS:
                return "other"
            self._clients.add(name)
        return name


def _credential(headers: list[tuple[bytes, bytes]]) -> tuple[dict[str, str], str]:
    """Return the headers that a client showed, and the key or token in them.

    Raises:
        Problem: 401 when there is none, or one of another kind.
    """
    given = dict(headers)
    if key := given.get(API_KEY):
        return {API_KEY.decode(): key.decode("latin-1")}, key.decode("latin-1")
    authorization = given.get(b"authorization", b"").decode("latin-1")
    if not authorization:
        raise unauthorized("a key or token is needed: Authorization: Bearer ..., or X-API-Key: ...")
    kind, _, credential = authorization.partition(" ")
    if kind.lower() != "bearer" or not credential.strip():
        raise unauthorized("the Authorization header holds no bearer token", "invalid_request")
    return {"authorization": authorization}, credential.strip()
