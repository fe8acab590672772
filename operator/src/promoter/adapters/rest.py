"""The Kubernetes API over aiohttp.

The official client would be a second HTTP stack beside kopf's (docs/adr/0006); these few calls are plain REST. kopf
finds address and credentials, so both log in the same way.
"""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import kopf

from promoter.errors import ConflictError, ForbiddenError, InvalidRequestError, PermanentError, RetryableError

Document = dict[str, Any]
MERGE, APPLY, JSON_PATCH = (
    "application/merge-patch+json",
    "application/apply-patch+yaml",
    "application/json-patch+json",
)
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
FIELD_MANAGER = "model-promotion"


class KubeClient:
    """A client for one API server."""

    def __init__(
        self,
        login: Callable[[], kopf.ConnectionInfo],
        timeout_seconds: float,
        may_write: Callable[[], bool] = lambda: True,
        trace_configs: Sequence[aiohttp.TraceConfig] = (),
    ) -> None:
        """Create a client.

        Args:
            login: Finds the credentials; it is called again if a token is refused, since tokens rotate.
            timeout_seconds: Seconds for one request.
            may_write: Whether a request that changes something may be sent, asked before each of them.
            trace_configs: What is told of each request.
        """
        self._login, self._may_write = login, may_write
        self._info = login()
        self._session = aiohttp.ClientSession(
            base_url=f"{self._info.server.rstrip('/')}/",
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            connector=aiohttp.TCPConnector(ssl=ssl_context(self._info), limit=20),
            trace_configs=[*trace_configs],
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(self, path: str, **query: str) -> Document | None:
        """Return a document, None if there is none."""
        return await self.request("GET", path, query=query)

    async def names(self, path: str, label_selector: str) -> frozenset[str]:
        """Return the names of the objects in a list, without fetching their content."""
        found = await self.request("GET", path, query={"labelSelector": label_selector}, accept=METADATA_ONLY)
        return frozenset(item["metadata"]["name"] for item in (found or {}).get("items") or ())

    async def apply(self, path: str, document: Document) -> None:
        """Create or update these fields by server-side apply, and own them."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        await self.request("PATCH", path, document, APPLY, query)

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        content_type: str = "application/json",
        query: dict[str, str] | None = None,
        accept: str = "application/json",
    ) -> Document | None:
        """Send a request; None for 404.

        Raises:
            RetryableError: no answer, or one that a retry may change, or this operator may not write now.
            ConflictError: such an object exists already, or a newer one does.
            InvalidRequestError: the request does not fit the object as it is.
            ForbiddenError: no permission.
            PermanentError: refused otherwise; the message is the server's.
        """
        if method != "GET" and not self._may_write():
            raise RetryableError(f"{method} {path}: not sent, because this operator does not hold its Lease")
        data = None if body is None else json.dumps(body)
        for attempt in range(2):
            headers = {"Content-Type": content_type, "Accept": accept}
            if self._info.token:
                headers["Authorization"] = f"Bearer {self._info.token}"
            try:
                async with self._session.request(
                    method, path.lstrip("/"), data=data, headers=headers, params=query
                ) as response:
                    answer = await response.json(content_type=None)
                    if response.status == 401 and attempt == 0:
                        self._info = self._login()
                        continue
                    return _checked(response.status, answer, f"{method} {path}")
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise RetryableError(f"{method} {path}: {str(error) or type(error).__name__}") from error
        raise RetryableError(f"{method} {path}: not logged in")


def _checked(status: int, answer: object, what: str) -> Document | None:
    if status < 300 and isinstance(answer, dict):
        return answer
    if status == 404:
        return None
    message = answer.get("message", "") if isinstance(answer, dict) else ""
    by_status: dict[int, type[Exception]] = {
        401: RetryableError, 403: ForbiddenError, 409: ConflictError, 422: InvalidRequestError, 429: RetryableError,
    }  # fmt: skip
    kind = by_status.get(status, RetryableError if status >= 500 else PermanentError)
    raise kind(f"{what}: {status} {message}")


def ssl_context(info: kopf.ConnectionInfo) -> ssl.SSLContext | bool:
    """Return how to verify the server, with the client certificate if there is one; False for plain HTTP."""
    if info.server.startswith("http://"):
        return False
    context = ssl.create_default_context(
        cafile=str(info.ca_path) if info.ca_path else None, cadata=_text(info.ca_data) if info.ca_data else None
    )
    if info.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if info.certificate_path:
        context.load_cert_chain(str(info.certificate_path), str(info.private_key_path))
    elif info.certificate_data and info.private_key_data:
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder, "certificate"), Path(folder, "key")
            certificate.write_text(_text(info.certificate_data))
            key.write_text(_text(info.private_key_data))
            context.load_cert_chain(certificate, key)
    return context


def _text(data: str | bytes) -> str:
    """Return PEM, given as PEM or, as in kubeconfigs, in base64."""
    plain = data.decode() if isinstance(data, bytes) else data
    return plain if "-----BEGIN" in plain else base64.b64decode(plain).decode()
