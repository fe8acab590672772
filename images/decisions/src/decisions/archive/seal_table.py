"""The seals in the database, where the service finds which one covers a decision; those in S3 prove it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence

import psycopg

from decisions.archive.rows import leaves_of_log
from decisions.archive.seals import Seal, StoredSeal
from decisions.records.merkle import root_of, tile_roots

logger = logging.getLogger(__name__)


def enter_seals(connection: psycopg.Connection, seals: Sequence[StoredSeal]) -> int:
    """Enter the seals that the database does not have yet, each as a whole, and return how many."""
    known = {date for (date,) in connection.execute("SELECT date FROM seals").fetchall()}
    missing = [stored for stored in seals if stored.seal.date not in known]
    for stored in missing:
        with connection.transaction():
            _enter(connection, stored)
    return len(missing)


def _enter(connection: psycopg.Connection, stored: StoredSeal) -> None:
    seal = stored.seal
    connection.execute(
        "INSERT INTO seals (date, sha256, document, tiles) VALUES (%s, %s, %s, %s)",
        [seal.date, bytes.fromhex(stored.sha256), stored.document.decode(), _tiles(connection, seal)],
    )
    leaf = 0
    with connection.cursor().copy("COPY sealed_logs (log_id, first, last, leaf, date) FROM STDIN") as copy:
        for log in seal.logs:
            copy.write_row([log.log_id, log.first, log.last, leaf, seal.date])
            leaf += log.last - log.first + 1


def _tiles(connection: psycopg.Connection, seal: Seal) -> bytes | None:
    """Return the roots of the tree's tiles; None if the database does not have the records that were sealed."""
    leaves = itertools.chain.from_iterable(
        leaves_of_log(connection, log.log_id, log.first, log.last) for log in seal.logs
    )
    tiles = list(tile_roots(hash_ for _, hash_ in leaves))
    if seal.count and (not tiles or root_of(tiles).hex() != seal.root):
        logger.warning("the seal of %s is entered without paths: the database does not have its records", seal.date)
        return None
    return b"".join(tiles)
