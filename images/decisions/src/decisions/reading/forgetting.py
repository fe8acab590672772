"""Deletes an applicant's personal data on request, and keeps that it was asked for."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import Any

from psycopg import AsyncConnection

_SALT_BYTES = 16


async def forget_inputs(connection: AsyncConnection[Any], applicant_id: str, requested_by: str) -> int:
    """Delete the inputs of all decisions about an applicant, in one transaction; return of how many.

    Decisions and their hashes stay. The request is kept with a salted hash of the applicant's id: who knows the id can
    find the request, and the archive can find the applicant's rows by it, but a list of hashes made beforehand cannot.
    """
    salt = os.urandom(_SALT_BYTES)
    async with connection.transaction():
        deleted = await connection.execute("DELETE FROM decision_inputs WHERE applicant_id = %s", [applicant_id])
        await connection.execute(
            "INSERT INTO forgettings (salt, applicant_hash, requested_by, decisions) VALUES (%s, %s, %s, %s)",
            [salt, applicant_hash(salt, applicant_id), requested_by, deleted.rowcount],
        )
    return deleted.rowcount


def applicant_hash(salt: bytes, applicant_id: str) -> bytes:
    """Return what a request to forget keeps of the applicant's id."""
    return sha256(salt + applicant_id.encode()).digest()
