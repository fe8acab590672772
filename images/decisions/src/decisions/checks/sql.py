"""SQL of a ModelPromotion: one query that returns one number, run by a role that can read two views and nothing else.

The query is prepared alone first, so that it is one whole statement whose result has one column of a number type; then
it is the source of another, in which only a query may stand. Values are bound and never part of the text. The
transaction reads only, and is rolled back; the connection is used once.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import Connection, RawCursor, errors, sql
from psycopg.pq import DiagnosticField, ExecStatus

from decisions.checks.model import CheckAnswer, CheckRequest

_NAME = "the query"
# What has no parameters in it: strings, names, comments, casts; then a parameter.
_TOKENS = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|--[^\n]*|/\*.*?\*/"""
    r"|::|(?<![\w\]]):(?P<name>[A-Za-z_]\w*)",
    re.DOTALL,
)
_TYPES = {"version": "text", "stable": "text", "since": "timestamptz"}
_PARAMETERS = ", ".join(f":{name}" for name in _TYPES)
# int8, int2, int4, float4, float8, numeric.
_NUMBER_TYPES = {20, 21, 23, 700, 701, 1700}


class RefusedError(Exception):
    """A query that cannot be a check; the message says why and what is allowed."""


@dataclass(frozen=True)
class Checker:
    """How the role is reached that runs queries, and how long one may take."""

    conninfo: str
    seconds: int

    async def run(self, request: CheckRequest) -> CheckAnswer:
        """Return the number that a query returns; without a value if it returns no row or NULL.

        Raises:
            RefusedError: The query is not allowed, or failed.
            psycopg.OperationalError: The database does not answer.
        """
        return await asyncio.to_thread(self._run, request)

    def _run(self, request: CheckRequest) -> CheckAnswer:
        text, names = bound(request.query or "")
        values: Mapping[str, str | datetime] = {
            "version": request.canary, "stable": request.stable, "since": request.since
        }  # fmt: skip
        with psycopg.connect(
            self.conninfo, autocommit=True, cursor_factory=RawCursor, application_name="decisions-checks"
        ) as connection:
            connection.execute("BEGIN READ ONLY")
            connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(self.seconds * 1000))
            try:
                _describe(connection, text)
                return _answer(_rows(connection, text, [values[name] for name in names]))
            except errors.QueryCanceled as error:
                raise RefusedError(f"it took longer than {self.seconds} s") from error
            except psycopg.OperationalError:
                raise
            except psycopg.Error as error:
                raise RefusedError(error.diag.message_primary or str(error)) from error
            finally:
                connection.pgconn.exec_(b"ROLLBACK")


def bound(query: str) -> tuple[str, list[str]]:
    """Return a query with its parameters as `$1`, `$2` ..., and their names in this order.

    Raises:
        RefusedError: A parameter is unknown.
    """
    names: list[str] = []

    def replace(found: re.Match[str]) -> str:
        name = found["name"]
        if name is None:
            return found[0]
        if name not in _TYPES:
            raise RefusedError(f"it has the parameter :{name}; allowed are {_PARAMETERS}")
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}::{_TYPES[name]}"

    # An end that only Postgres would allow, and that has no place within another query.
    return _TOKENS.sub(replace, query.strip().removesuffix(";")), names


def _describe(connection: Connection[Any], text: str) -> None:
    """Refuse what is not one statement that returns one number, before anything of it runs."""
    server = connection.pgconn
    result = server.prepare(b"", text.encode())
    if result.status == ExecStatus.COMMAND_OK:
        result = server.describe_prepared(b"")
    if result.status != ExecStatus.COMMAND_OK:
        raise RefusedError((result.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"").decode("utf-8", "replace"))
    if result.nfields != 1:
        raise RefusedError(f"it returns {result.nfields} columns; allowed is one number")
    if result.ftype(0) not in _NUMBER_TYPES:
        raise RefusedError("it returns no number; allowed are integer, numeric, real and double precision: cast it")


def _rows(connection: Connection[Any], text: str, values: list[str | datetime]) -> list[tuple[Any, ...]]:
    # The line ends a comment at the query's end.
    wrapped = f"SELECT * FROM (\n{text}\n) AS answer LIMIT 2"  # noqa: S608 - what it may do is up to its role
    try:
        return connection.execute(wrapped.encode(), values).fetchall()
    except errors.SyntaxError as error:
        # Alone it was one.
        raise RefusedError("it is not a query; allowed are SELECT and VALUES") from error


def _answer(rows: list[tuple[Any, ...]]) -> CheckAnswer:
    if len(rows) > 1:
        raise RefusedError("it returns more than one row; allowed is one number")
    if not rows or rows[0][0] is None:
        return CheckAnswer(name=_NAME, value=None, message="it returned no number")
    value = float(rows[0][0])
    if not math.isfinite(value):
        raise RefusedError(f"it returns {value}; allowed is a finite number")
    return CheckAnswer(name=_NAME, value=value)
