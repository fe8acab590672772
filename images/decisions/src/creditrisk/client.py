"""The service over HTTP: what it answers, or in words why it did not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec

from creditrisk.errors import NOT_FOUND, REFUSED, UNREACHABLE, USAGE, CommandError

# Counting a large training table takes minutes before its first byte.
_TIMEOUT = httpx.Timeout(10, read=600, write=60)
Answer = dict[str, Any]


class _FieldProblem(msgspec.Struct):
    field: str
    problem: str
    allowed: str


class _Problem(msgspec.Struct):
    title: str
    status: int
    detail: str
    errors: list[_FieldProblem] = []


@dataclass(frozen=True)
class Client:
    """Where the service is, and the key to it."""

    url: str
    key: str

    @classmethod
    def of(cls, url: str | None, key: str | None, key_file: Path | None) -> Client:
        """Return the client of a command's options.

        Raises:
            CommandError: One is missing, or the key's file cannot be read.
        """
        if not url:
            raise CommandError("where is the service? give --url, or set CREDITRISK_URL", USAGE)
        if key is None and key_file is not None:
            try:
                key = key_file.read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise CommandError(f"cannot read the key: {error}", USAGE) from error
        if not key:
            raise CommandError("a key is required: give --key-file or --key, or set CREDITRISK_KEY_FILE", USAGE)
        return cls(url, key)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        content: bytes | None = None,
        content_type: str | None = None,
    ) -> Answer:
        """Return the JSON object that the service answers.

        Raises:
            CommandError: It refused the request, has nothing there, failed, or cannot be reached.
        """
        headers = {"Content-Type": content_type} if content_type else {}
        with self._answered(method, path, query, content, headers) as answer:
            body = answer.read()
        try:
            return msgspec.json.decode(body, type=Answer)
        except msgspec.DecodeError as error:
            raise CommandError(
                f"{self.url} is not the decisions service: its answer is not JSON", UNREACHABLE
            ) from error

    @contextmanager
    def download(self, path: str, query: Mapping[str, str | int | None]) -> Iterator[httpx.Response]:
        """Yield an answer whose body is yet to be read; see `request`."""
        with self._answered("GET", path, query, None, {}) as answer:
            yield answer

    @contextmanager
    def _answered(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int | None] | None,
        content: bytes | None,
        headers: Mapping[str, str],
    ) -> Iterator[httpx.Response]:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            with (
                httpx.Client(timeout=_TIMEOUT, headers={"Authorization": f"Bearer {self.key}"}) as http,
                http.stream(
                    method, self.url.rstrip("/") + path, params=given, content=content, headers=dict(headers)
                ) as answer,
            ):
                if not answer.is_success:
                    raise _refusal(answer, self.url)
                yield answer
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise CommandError(f"--url {self.url}: {error}; allowed: http://host:port", USAGE) from error
        except (httpx.HTTPError, UnicodeEncodeError) as error:
            raise CommandError(f"cannot reach {self.url}: {error or type(error).__name__}", UNREACHABLE) from error


def _refusal(answer: httpx.Response, url: str) -> CommandError:
    """Return what an error answer means."""
    status, body = answer.status_code, answer.read()
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except msgspec.DecodeError:
        return CommandError(
            f"{url} answers {status} {answer.reason_phrase}, and not as the decisions service", UNREACHABLE
        )
    lines = [
        problem.detail,
        *(f"  {error.field} {error.problem}; allowed: {error.allowed}" for error in problem.errors),
    ]
    code = NOT_FOUND if status == httpx.codes.NOT_FOUND else REFUSED if answer.is_client_error else UNREACHABLE
    return CommandError("\n".join(lines), code)
