"""Drift reports, which the service shows."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"

TABLES = """
CREATE TABLE drift_reports (
    model text NOT NULL,
    created_at timestamptz NOT NULL,     -- the newest one of a model counts
    version text NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('steady', 'unclear', 'drifted')),
    document json NOT NULL,              -- decisions/drift/document.py
    PRIMARY KEY (model, created_at)
);
"""
GRANTS = """
GRANT SELECT ON drift_reports TO decisions_reader, decisions_service;
GRANT INSERT ON drift_reports TO decisions_service;
"""


def upgrade() -> None:
    """Create the table, and let the others read it."""
    op.execute(TABLES)
    op.execute(GRANTS)


def downgrade() -> None:
    """Remove the table with all reports."""
    op.execute("DROP TABLE drift_reports")
