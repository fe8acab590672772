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
-- What no month's partition takes, because a clock was far off or partitions were not made in time, is not lost.
CREATE TABLE decisions_default PARTITION OF decisions DEFAULT;
CREATE TABLE decision_inputs_default PARTITION OF decision_inputs DEFAULT;
CREATE INDEX decision_inputs_applicant_id ON decision_inputs (applicant_id) WHERE applicant_id IS NOT NULL;
"""
# The writer may read nothing. With these it learns where a log has arrived and which ids are taken, and no more.
FUNCTIONS = """
CREATE FUNCTION decisions_log_head(log uuid) RETURNS TABLE (sequence bigint, hash bytea)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$ SELECT d.sequence, d.hash FROM decisions d WHERE d.log_id = log ORDER BY d.sequence DESC LIMIT 1 $$;
CREATE FUNCTION decisions_recorded(ids uuid[]) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$ SELECT d.id FROM decisions d WHERE d.id = ANY (ids) $$;
REVOKE ALL ON FUNCTION decisions_log_head(uuid), decisions_recorded(uuid[]) FROM PUBLIC;
"""
GRANTS = """
GRANT INSERT ON model_versions, decisions, decision_inputs TO decisions_writer;
GRANT EXECUTE ON FUNCTION decisions_log_head(uuid), decisions_recorded(uuid[]) TO decisions_writer;
GRANT SELECT ON model_versions, decisions, decision_inputs TO decisions_reader, decisions_service;
GRANT DELETE ON decision_inputs TO decisions_service;
"""


def upgrade() -> None:
    """Create the tables and let the roles do what they need; `decisions.database.partitions` makes the partitions."""
    op.execute(TABLES)
    op.execute(FUNCTIONS)
    op.execute(GRANTS)


def downgrade() -> None:
    """Remove the tables with all decisions."""
    op.execute("DROP FUNCTION decisions_log_head(uuid), decisions_recorded(uuid[])")
    op.execute("DROP TABLE decision_inputs, decisions, model_versions")
