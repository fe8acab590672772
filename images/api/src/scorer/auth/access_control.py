"""Access control: admits requests of known clients and counts them."""

from __future__ import annotations

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter

from scorer.auth.authenticator import Authenticator, unauthorized
from scorer.http.asgi import Message, Scope, Send
from scorer.problems import Problem
from scorer.request_context import client, credentials

API_KEY = b"x-api-key"
MAX_CLIENTS = 100


class AccessControl:
    """Decides for each request whether its client may send it."""

    def __init__(self, authenticator: Authenticator, open_paths: Collection[str], registry: CollectorRegistry) -> None:
        """Take what identifies clients, the paths that need no credential, and where to count."""
        self._authenticator, self._open_paths = authenticator, frozenset(open_paths)
        self._requests = Counter("scorer_client_requests_total", "Requests by client and status code",
                                 ["client", "status"], registry=registry)  # fmt: skip
        self._denied = Counter("scorer_access_denied_total", "Requests denied access, by status code", ["status"],
                               registry=registry)  # fmt: skip
        self._clients: set[str] = set()

    async def admit(self, scope: Scope, send: Send) -> Send:
        """Return the `send` to answer this request with; it counts the answer for the client.

        Raises:
            Problem: 401 or 403 if the client is unknown or may not send the request.
        """
        if scope["path"] in self._open_paths:
            return send
        try:
            headers, credential = _credential(scope["headers"])
            name = await self._authenticator.identify(credential)
        except Problem as problem:
            self._denied.labels(problem.status).inc()
            raise
        credentials.set(headers)
        client.set(name)
        label = self._label(name)

        async def counting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._requests.labels(label, message["status"]).inc()
            await send(message)

        return counting_send

    def _label(self, name: str) -> str:
        """Return the client's name for the metrics, which must not grow with every person who has a token."""
        if name not in self._clients:
            if len(self._clients) >= MAX_CLIENTS:
                return "other"
            self._clients.add(name)
        return name


def _credential(headers: list[tuple[bytes, bytes]]) -> tuple[dict[str, str], str]:
    """Return the headers with the request's credential, and the credential.

    Raises:
        Problem: 401 if there is none, or one of another type.
    """
    given = dict(headers)
    if key := given.get(API_KEY):
        return {API_KEY.decode(): key.decode("latin-1")}, key.decode("latin-1")
    authorization = given.get(b"authorization", b"").decode("latin-1")
    if not authorization:
        raise unauthorized("a key or token is required: Authorization: Bearer ..., or X-API-Key: ...")
    kind, _, credential = authorization.partition(" ")
    if kind.lower() != "bearer" or not credential.strip():
        raise unauthorized("the Authorization header has no bearer token", "invalid_request")
    return {"authorization": authorization}, credential.strip()
