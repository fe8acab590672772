"""How many bytes a decision takes in Postgres, and in the archive once it has been exported.

    python benchmarks/decisions/size.py [--records 50000]

Over a real Postgres and S3 store. Each decision has another applicant and the inputs of another generated loan.
"""

import argparse
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import verify_archive
from verify_archive import BUCKET, copy_chunk, empty, record_of

PARTS = {"decisions": "decisions%", "inputs": "decision_inputs%"}
# Partitions have their own names; the tables above them hold nothing.
SIZE = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class WHERE relkind = 'r' AND relname LIKE %s"


def fill(connection, records):
    """Write that many records of one log in one day."""
    from trainer.data.synthetic import generate
    from unit.decisions.archive.site import insert_version

    insert_version(connection)
    head, chunk = bytes(32), []
    loans = generate(records, seed=13).drop(columns=["id", "loan_paid_back"]).to_json(orient="records", lines=True)
    for sequence, loan in enumerate(loans.splitlines(), 1):
        verify_archive.INPUTS = loan
        record, inputs, head, before = record_of(verify_archive.UUID(int=1), sequence, 10, head)
        chunk.append((record, inputs, before, head))
    copy_chunk(connection, chunk)


def sizes_in_database(connection):
    return {part: int(connection.execute(SIZE, [name]).fetchone()[0]) for part, name in PARTS.items()}


def sizes_in_archive(connection, s3, store):
    from decisions.archive.bucket import open_bucket
    from decisions.archive.retention import export_sealed_days
    from decisions.archive.seal_table import enter_seals
    from decisions.archive.seals import load_seals, seal_finished_days

    bucket = open_bucket(BUCKET, "stack", store["AWS_ENDPOINT_URL"])
    assert list(seal_finished_days(connection, bucket, datetime(2026, 5, 12, tzinfo=UTC)))
    enter_seals(connection, load_seals(bucket))
    assert list(export_sealed_days(connection, bucket, load_seals(bucket)))
    files = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    return {
        part: sum(file["Size"] for file in files if f"archive/{folder}/" in file["Key"])
        for part, folder in {"decisions": "decisions", "inputs": "decision_inputs"}.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=50_000)
    records = parser.parse_args().records
    import psycopg

    from s3_store import s3_client, seaweedfs
    from unit.decisions.archive.site import MAY
    from unit.decisions.migrated import postgres_server, with_passwords

    with tempfile.TemporaryDirectory() as base, postgres_server() as server, seaweedfs(Path(base)) as store:
        os.environ.update(store)
        database = with_passwords(server, Path(base))
        database.drop()
        database.migrate(MAY)
        empty(s3_client(store))
        with psycopg.connect(database.url("owner"), autocommit=True) as owner:
            fill(owner, records)
            found = {"Postgres": sizes_in_database(owner), "archive": sizes_in_archive(owner, s3_client(store), store)}
        database.drop()
    print("| bytes per decision | decisions | inputs |\n|---|---|---|")
    for place, sizes in found.items():
        print(f"| {place} | {sizes['decisions'] / records:.0f} | {sizes['inputs'] / records:.0f} |")


if __name__ == "__main__":
    main()
