"""The service's connections to the database, and what its failures mean to a client."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from decisions.service.problems import Problem
from decisions.settings import ServeSettings

log = logging.getLogger(__name__)
_RETRY_AFTER = {"Retry-After": "5"}
_SECONDS_FOR_A_CONNECTION = 5.0
_WAITING = 100
_SECONDS_FOR_READINESS = 2.0
_READY = "SELECT 1 FROM decisions, outcomes, timeline_events, sealed_logs, drift_reports LIMIT 0"


class Database:
    """A pool of connections, which opens while the service runs already."""

    def __init__(self, settings: ServeSettings) -> None:
        """Take how to reach the database."""
        milliseconds = settings.query_seconds * 1000

        async def configure(connection: AsyncConnection[Any]) -> None:
            await connection.execute(f"SET statement_timeout = {milliseconds}".encode())
            await connection.execute("SET idle_in_transaction_session_timeout = 60000")

        self._query_seconds = settings.query_seconds
        self._pool = AsyncConnectionPool(
            settings.conninfo(),
            min_size=1,
            max_size=settings.database_connections,
            max_waiting=_WAITING,
            timeout=_SECONDS_FOR_A_CONNECTION,
            kwargs={"autocommit": True, "application_name": "decisions-serve"},
            configure=configure,
            check=AsyncConnectionPool.check_connection,
            open=False,
        )

    async def open(self) -> None:
        """Begin to connect; that it succeeds is not waited for."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Lend a connection.

        Raises:
            Problem: 503 if the database does not answer, or does not answer in time.
        """
        try:
            async with self._pool.connection() as connection:
                yield connection
        except errors.QueryCanceled as error:
            raise Problem(
                503, f"the query took longer than {self._query_seconds} s; ask for a shorter time or for fewer rows"
            ) from error
        except (errors.UndefinedTable, errors.InsufficientPrivilege) as error:
            log.error("the database is not ready for this version: %s", error)  # noqa: TRY400 - no traceback needed
            raise Problem(503, "the database is not ready for this version of the service") from error
        except (PoolTimeout, TooManyRequests, psycopg.OperationalError, psycopg.InterfaceError) as error:
            log.warning("the database: %s", error)
            raise Problem(503, "the database does not answer", headers=_RETRY_AFTER) from error

    async def problem(self) -> str:
        """Return why the service cannot answer from the database; empty if it can."""
        try:
            async with self._pool.connection(timeout=_SECONDS_FOR_READINESS) as connection:
                await connection.execute(_READY)
        except errors.UndefinedTable as error:
            return f"the database's schema is older than this version: {error.diag.message_primary}; run `migrate`"
        except errors.InsufficientPrivilege as error:
            return f"the database's role lacks a permission: {error.diag.message_primary}"
        except (PoolTimeout, TooManyRequests, psycopg.Error) as error:
            return f"the database does not answer: {error}"
        return ""
