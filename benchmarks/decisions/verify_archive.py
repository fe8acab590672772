"""Records per second of sealing, exporting, verifying and dropping days on this machine, beside plain loops.

Each step is a process of its own on the same real Postgres and S3 store. The plain loops read the same rows by psycopg
and do no more, or write them to Parquet with pyarrow: what a program pays that neither hashes nor reads anything back.
Memory is the most that the process had.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("tests", "cluster/src", "images/decisions/src", "images/mlflow/src", "images/training/src")
sys.path[:0] = [str(ROOT / source) for source in SOURCES]
DAYS = (10, 11)
BUCKET = "decisions"
CHUNK = 10_000
STEPS = ("read, plain", "Parquet, plain", "seal", "export", "verify", "proofs entered", "drop", "verify, archive")
INPUTS = '{"annual_income":46995.17,"debt_to_income_ratio":0.268,"credit_score":752.0,"loan_amount":21400.09,' \
         '"interest_rate":10.33,"gender":"Male","marital_status":"Single","education_level":"Other",' \
         '"employment_status":"Employed","loan_purpose":"Car","grade_subgrade":"B3"}'  # fmt: skip


def fill(connection, records, logs):
    """Write that many records of two days, in so many logs."""
    from unit.decisions.archive.site import insert_version

    insert_version(connection)
    per_log = records // logs
    for number in range(logs):
        head, sequence = bytes(32), 0
        while sequence < per_log:
            chunk = []
            for _ in range(min(CHUNK, per_log - sequence)):
                sequence += 1
                day = DAYS[sequence * len(DAYS) // (per_log + 1)]
                record, inputs, head, before = record_of(UUID(int=number + 1), sequence, day, head)
                chunk.append((record, inputs, before, head))
            copy_chunk(connection, chunk)
    connection.execute("ANALYZE")


def record_of(log, sequence, day, head):
    """Return a record with its inputs, its hash and that before it."""
    from decisions.database.id_ranges import first_id
    from decisions.records.numbers import shortest_of
    from decisions.records.record import DecisionInputs, Record, chain_hash
    from unit.decisions.archive.site import VERSION

    at = first_id(datetime(2026, 5, day, 12, tzinfo=UTC)).int
    id_ = str(UUID(int=at | 7 << 76 | 2 << 62 | log.int << 40 | sequence))
    inputs = DecisionInputs(f"A-{sequence % 50_000}", sequence.to_bytes(16, "big"), INPUTS)
    record = Record(
        id_, f"request-{sequence}", 0, "score", "champion", "lender", str(VERSION.id),
        shortest_of(sequence * 0.618033988749895 % 1), 540, "approve", None, ["R1", "R2"], 900, "scoring-0", str(log),
        sequence, inputs.hash().hex(),
    )  # fmt: skip
    return record, inputs, chain_hash(head, record), head


def copy_chunk(connection, chunk):
    import msgspec

    with connection.cursor().copy("COPY decisions FROM STDIN") as copy:
        for record, _, before, hash_ in chunk:
            *columns, inputs_hash = msgspec.structs.astuple(record)
            copy.write_row([*columns, bytes.fromhex(inputs_hash), before, hash_])
    with connection.cursor().copy("COPY decision_inputs FROM STDIN") as copy:
        for record, inputs, _, _ in chunk:
            copy.write_row([record.id, inputs.applicant_id, inputs.salt, inputs.inputs])


def plain_rows(connection):
    query = "SELECT d.*, i.applicant_id, i.salt, i.inputs::text FROM decisions d LEFT JOIN decision_inputs i USING (id)"
    with connection.transaction(), connection.cursor("plain") as cursor:
        cursor.itersize = 2_000
        yield from cursor.execute(query)


def plain_parquet(connection, file):
    import itertools

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, writer = plain_rows(connection), None
    while chunk := list(itertools.islice(rows, 20_000)):
        columns = list(zip(*chunk, strict=True))
        texts = [[str(value) if isinstance(value, UUID) else value for value in column] for column in columns]
        table = pa.table(texts, names=[str(number) for number in range(len(texts))])
        writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
        writer.write_table(table)
    writer.close()


def run_step(step, urls):
    """Do one step, and print its seconds, its processor time and the most memory of this process in MiB."""
    import psycopg

    from decisions.archive.bucket import open_bucket
    from decisions.archive.retention import drop_old_months, export_sealed_days
    from decisions.archive.seal_table import enter_seals
    from decisions.archive.seals import heads_of, load_seals, seal_finished_days
    from decisions.archive.verification import verify

    bucket = open_bucket(BUCKET, "stack", urls["s3"])
    now = datetime(2026, 6, 1, tzinfo=UTC)
    with psycopg.connect(urls["owner"], autocommit=True) as owner, tempfile.TemporaryDirectory() as folder:
        started, before = time.perf_counter(), time.process_time()
        if step == "read, plain":
            assert sum(1 for _ in plain_rows(owner))
        elif step == "Parquet, plain":
            plain_parquet(owner, Path(folder) / "plain.parquet")
        elif step == "seal":
            assert list(seal_finished_days(owner, bucket, datetime(2026, 5, 12, tzinfo=UTC)))
        elif step == "proofs entered":
            assert enter_seals(owner, load_seals(bucket))
        elif step == "export":
            assert len(list(export_sealed_days(owner, bucket, load_seals(bucket)))) == len(DAYS)
        elif step == "drop":
            assert list(drop_old_months(owner, bucket, heads_of(load_seals(bucket)), 0, now))
        else:
            assert not verify(owner, bucket, bucket).findings.differences
        seconds, processor = time.perf_counter() - started, time.process_time() - before
    # Not ru_maxrss: that begins with the memory of the process that started this one.
    peak = int(Path("/proc/self/status").read_text("utf-8").partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps({"seconds": seconds, "processor": processor, "mib": peak}))


def measure(step, urls, records):
    command = [sys.executable, __file__, "--step", step, json.dumps(urls)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    rate, processor = records / found["seconds"], found["processor"] / records * 1e6
    print(f"{records:>9} {step:16} {rate:>10,.0f} {processor:>10.1f} {found['mib']:>8.0f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, nargs="+", default=[100_000], help="such as 100000 1000000")
    parser.add_argument("--logs", type=int, default=4)
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        run_step(options.step[0], json.loads(options.step[1]))
        return
    import psycopg

    from s3_store import s3_client, seaweedfs
    from unit.decisions.archive.site import MAY
    from unit.decisions.migrated import postgres_server, with_passwords

    with tempfile.TemporaryDirectory() as base, postgres_server() as server, seaweedfs(Path(base)) as store:
        os.environ.update(store)
        print(f"{'records':>9} {'step':16} {'records/s':>10} {'us/record':>10} {'peak MiB':>8}", flush=True)
        for records in options.records:
            database = with_passwords(server, Path(base))
            database.drop()
            database.migrate(MAY)
            empty(s3_client(store))
            with psycopg.connect(database.url("owner"), autocommit=True) as owner:
                fill(owner, records, options.logs)
            for step in STEPS:
                measure(step, {"owner": database.url("owner"), "s3": store["AWS_ENDPOINT_URL"]}, records)
            database.drop()


def empty(s3):
    """Make the bucket, or delete what is in it."""
    if BUCKET not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=BUCKET)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for item in page.get("Contents", []):
            s3.delete_object(Bucket=BUCKET, Key=item["Key"])


if __name__ == "__main__":
    main()
