"""Outcomes, the timeline of model versions, and whose inputs were forgotten."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = """
CREATE TABLE outcomes (
    -- No foreign key: an outcome outlives its decision's partition.
    decision_id uuid NOT NULL,
    observed_at timestamptz NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('repaid', 'defaulted', 'open')),
    reported_at timestamptz NOT NULL DEFAULT now(),
    reported_by text NOT NULL,
    PRIMARY KEY (decision_id, observed_at, outcome)  -- what is reported again is in the table once
);
CREATE VIEW current_outcomes AS
    SELECT DISTINCT ON (decision_id) decision_id, outcome, observed_at, reported_at, reported_by
    FROM outcomes
    -- The worst of those observed at one time, so that the order in which they arrive does not matter.
    ORDER BY decision_id, observed_at DESC, CASE outcome WHEN 'defaulted' THEN 0 WHEN 'repaid' THEN 1 ELSE 2 END;
CREATE TABLE timeline_events (
    model text NOT NULL,
    event_id text NOT NULL,              -- chosen by who reports it, so that it can report it again
    happened_at timestamptz NOT NULL,
    kind text NOT NULL,
    stable_version text,                 -- these four: what is in force from then on
    canary_version text,
    weight integer NOT NULL CHECK (weight BETWEEN 0 AND 100),
    mode text NOT NULL CHECK (mode IN ('live', 'shadow')),
    version text,                        -- the one that the event is about
    moved_by text,                       -- who or what moved the pointer or acted
    message text NOT NULL,
    judgment json,
    reported_at timestamptz NOT NULL DEFAULT now(),
    reported_by text NOT NULL,
    PRIMARY KEY (model, event_id)
);
CREATE INDEX timeline_events_happened_at ON timeline_events (model, happened_at, event_id);
CREATE TABLE forgettings (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    salt bytea NOT NULL,
    applicant_hash bytea NOT NULL,       -- SHA-256(salt, applicant id): whose, for those who know the id
    requested_at timestamptz NOT NULL DEFAULT now(),
    requested_by text NOT NULL,
    decisions bigint NOT NULL,           -- how many decisions lost their inputs in the database
    archive_done_at timestamptz          -- when they were removed from the archive, too
);
"""
GRANTS = """
GRANT SELECT ON outcomes, current_outcomes, timeline_events TO decisions_reader, decisions_service;
GRANT INSERT ON outcomes, timeline_events, forgettings TO decisions_service;
GRANT SELECT ON forgettings TO decisions_service;
"""


def upgrade() -> None:
    """Create the tables, and let the roles do with them what they need."""
    op.execute(TABLES)
    op.execute(GRANTS)


def downgrade() -> None:
    """Remove the tables with all that was reported."""
    op.execute("DROP VIEW current_outcomes")
    op.execute("DROP TABLE outcomes, timeline_events, forgettings")
