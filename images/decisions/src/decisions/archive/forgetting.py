"""Requests to forget an applicant, worked off in the archive."""

from __future__ import annotations

import logging
from hashlib import sha256

import psycopg

from decisions.archive.bucket import Bucket
from decisions.archive.files import days_with_inputs, remove_inputs

logger = logging.getLogger(__name__)


def forget_in_archive(connection: psycopg.Connection, bucket: Bucket) -> int:
    """Remove from the archive the inputs of applicants whom the database has forgotten; return of how many decisions.

    A run that is killed leaves each day's file as it was or rewritten, and the request open: the next one repeats it.
    """
    requests = connection.execute(
        "SELECT id, salt, applicant_hash FROM forgettings WHERE archive_done_at IS NULL ORDER BY requested_at"
    ).fetchall()
    if not requests:
        return 0

    def forgotten(applicant_id: str) -> bool:
        name = applicant_id.encode()
        return any(sha256(salt + name).digest() == wanted for _, salt, wanted in requests)

    removed = 0
    for day in days_with_inputs(bucket):
        if of_day := remove_inputs(bucket, day, forgotten):
            logger.info("removed the inputs of %d decisions of %s from the archive", of_day, day)
            removed += of_day
    connection.execute(
        "UPDATE forgettings SET archive_done_at = now() WHERE id = ANY (%s)", [[request[0] for request in requests]]
    )
    return removed
