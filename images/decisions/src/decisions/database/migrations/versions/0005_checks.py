"""Views for the checks of ModelPromotions, without anything that tells who applied."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

# Who reads the views needs no permission on the tables. `decisions.database.migrate` lets the role read them, if there
# is one.
VIEWS = """
CREATE FUNCTION check_first_id(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
        SELECT rpad(lpad(to_hex(greatest(0, ceil(extract(epoch FROM at) * 1000))::bigint), 12, '0'), 32, '0')::uuid
    $$;
CREATE VIEW check_decisions AS
    SELECT d.id,
        to_timestamp(('x' || translate(left(d.id::text, 13), '-', ''))::bit(48)::bigint / 1000.0) AS decided_at,
        v.name AS model, v.version, d.role, d.endpoint, d.probability, d.points, d.decision, d.grade, d.reasons,
        d.latency_us
    FROM decisions d JOIN model_versions v ON v.id = d.model_version;
CREATE VIEW check_outcomes AS SELECT decision_id, outcome, observed_at FROM current_outcomes;
REVOKE ALL ON FUNCTION check_first_id(timestamptz) FROM PUBLIC;
"""


def upgrade() -> None:
    """Create the views."""
    op.execute(VIEWS)


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP VIEW check_decisions, check_outcomes")
    op.execute("DROP FUNCTION check_first_id(timestamptz)")
