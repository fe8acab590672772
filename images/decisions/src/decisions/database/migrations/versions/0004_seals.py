"""Seals as the service shows them; the ones that count are those in S3."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0002"

TABLES = """
CREATE TABLE seals (
    date date PRIMARY KEY,
    sha256 bytea NOT NULL,               -- of the document
    document text NOT NULL,              -- the seal's JSON, byte for byte as in S3
    tiles bytea                          -- the roots of 1024 leaves each, from which paths of the Merkle tree are made;
                                         -- NULL if the records were not those that were sealed
);
CREATE TABLE sealed_logs (
    log_id uuid NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    leaf bigint NOT NULL,                -- the place of the first record among the leaves of the seal's tree, from 0
    date date NOT NULL REFERENCES seals,
    PRIMARY KEY (log_id, last)
);
CREATE INDEX sealed_logs_leaf ON sealed_logs (date, leaf);
"""
GRANTS = "GRANT SELECT ON seals, sealed_logs TO decisions_reader, decisions_service"


def upgrade() -> None:
    """Create the tables, which the daily archive fills, and let the others read them."""
    op.execute(TABLES)
    op.execute(GRANTS)


def downgrade() -> None:
    """Remove the tables; the seals stay in S3."""
    op.execute("DROP TABLE sealed_logs, seals")
