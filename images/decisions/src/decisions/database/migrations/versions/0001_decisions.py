"""Model versions, decisions, and the personal data of decisions.

Both large tables are divided by ranges of the id: a UUIDv7 begins with its time, so a range is a month, and the id
alone is the primary key.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE model_versions (
    id uuid PRIMARY KEY,                 -- from a digest of the other columns, so that two writers choose the same
    name text NOT NULL,
    version text NOT NULL,
    digests json NOT NULL,
    contract bytea NOT NULL              -- contract.json, byte for byte
);
CREATE TABLE decisions (
    id uuid PRIMARY KEY,
    request_id text NOT NULL,
    "row" integer NOT NULL,              -- in its request; 0 for a single application
    endpoint text NOT NULL,
    role text NOT NULL CHECK (role IN ('champion', 'canary', 'fall-back', 'shadow')),
    client text NOT NULL,
    model_version uuid NOT NULL REFERENCES model_versions,
    probability real NOT NULL,
    points integer NOT NULL,
    decision text NOT NULL CHECK (decision IN ('approve', 'decline')),
    grade text,
    reasons text[],                      -- NULL if the request asked for none
    latency_us integer NOT NULL,
    pod text NOT NULL,
    log_id uuid NOT NULL,
    sequence bigint NOT NULL,            -- in its log, from 1, without a gap
    inputs_hash bytea NOT NULL,
    previous_hash bytea NOT NULL,
    hash bytea NOT NULL
) PARTITION BY RANGE (id);
CREATE INDEX decisions_request_id ON decisions (request_id);
CREATE INDEX decisions_log ON decisions (log_id, sequence);
CREATE TABLE decision_inputs (
    id uuid PRIMARY KEY,
    applicant_id text,
    salt bytea NOT NULL,
    inputs json NOT NULL                 -- json, not jsonb: the hash is of these very bytes
) PARTITION BY RANGE (id);
CREATE INDEX decision_inputs_applicant_id ON decision_inputs (applicant_id) WHERE applicant_id IS NOT NULL;
"""


def upgrade() -> None:
    """Create the tables; partitions are made by `decisions.database.partitions`."""
    op.execute(TABLES)


def downgrade() -> None:
    """Remove the tables with all decisions."""
    op.execute("DROP TABLE decision_inputs, decisions, model_versions")
