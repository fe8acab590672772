"""Records per second from segments into Postgres on this machine, beside other ways to write the same records.

Each way is a process of its own and gets the same segments; all compute the hashes and write decisions and inputs.
Processor time per record, of the shipper and of the server's process for it, says most on a machine that is busy with
other work: with a core for each, the longer one is the limit. Memory is the most that the process had; `--backlog`
ships that many records once more, to see that it does not grow.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("tests", "cluster/src", "images/decisions/src", "images/mlflow/src", "images/training/src")
sys.path[:0] = [str(ROOT / source) for source in SOURCES]
WAYS = ("COPY", "executemany", "INSERT")


def insert_copy(connection, chunk, way):
    """Write records by INSERT, pipelined by executemany or one after the other, and return them."""
    import msgspec

    decisions, inputs = [], []
    for chained in chunk:
        *columns, inputs_hash = msgspec.structs.astuple(chained.record)
        decisions.append([*columns, bytes.fromhex(inputs_hash), chained.previous_hash, chained.hash])
        kept = chained.inputs
        inputs.append([chained.record.id, kept.applicant_id, kept.salt, kept.inputs])
    for table, rows in (("decisions", decisions), ("decision_inputs", inputs)):
        if not rows:
            continue
        statement = f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(rows[0]))})"
        if way == "executemany":
            connection.cursor().executemany(statement, rows)
        else:
            for row in rows:
                connection.execute(statement, row)
    return chunk


def ship(way, logs, url):
    """Ship all logs in a folder, and print seconds, processor time and the most memory in MiB."""
    from decisions.shipping import database
    from decisions.shipping.metrics import Health, ShipperMetrics
    from decisions.shipping.shipper import Shipper

    if way != "COPY":
        database._copy = lambda connection, records: insert_copy(connection, list(records), way)  # noqa: SLF001
    metrics, health = ShipperMetrics(), Health()
    connected = database.Database(lambda: url)
    shipper = Shipper(Path(logs), "scoring-a", connected, metrics, health)
    connected.recorded([bytes(16)])
    # The clock of another process, as clock_getcpuclockid(3) makes its number.
    server = ~connected._connection.info.backend_pid << 3 | 2  # noqa: SLF001
    started, before, served = time.perf_counter(), time.process_time(), time.clock_gettime(server)
    while shipper.turn():
        pass
    seconds, processor = time.perf_counter() - started, time.process_time() - before
    served = time.clock_gettime(server) - served
    assert health.ready()[0] == 200, health.ready()
    # Not ru_maxrss: that begins with the memory of the process that started this one.
    peak = int(Path("/proc/self/status").read_text("utf-8").partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps({"seconds": seconds, "processor": processor, "served": served, "mib": peak}))


def write_log(logs, records, per_group, rows):
    """Write a log of that many records: of batches of so many rows, or of single applications."""
    from unit.decisions.log_writer import LogWriter, event, singles

    log = LogWriter(logs)
    for group in range(records // per_group):
        # The service makes an event of at most 128 single applications.
        log.write(*(event(rows) if rows > 1 else singles(100) for _ in range(per_group // max(rows, 100))))
        if group % max(1, 50_000 // per_group) == 0:
            log.rotate()
    log.close()


def measure(way, template, url):
    """Ship a copy of the logs in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        logs = Path(place) / "logs"
        shutil.copytree(template, logs)
        command = [sys.executable, __file__, "--ship", way, str(logs), url]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def compare(base, database, options):
    for rows in (1, 100):
        template = base / f"rows-{rows}"
        write_log(template, options.records, 500, rows)
        for turn in range(options.turns):
            for way in WAYS[turn % len(WAYS) :] + WAYS[: turn % len(WAYS)]:
                database.clear()
                result = measure(way, template, database.url)
                assert database.count() == options.records
                report(way, rows, options.records, result)


def report(way, rows, records, result):
    rate = records / result["seconds"]
    shipper, server = (result[name] / records * 1e6 for name in ("processor", "served"))
    print(f"{way:12} {rows:>5} {rate:>10,.0f} {shipper:>10.0f} {server:>10.0f} {result['mib']:>8.0f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000, help="that each way writes; a multiple of 500")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--backlog", type=int, default=0, help="records, such as 1000000, that COPY ships once more")
    parser.add_argument("--ship", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ship:
        ship(*options.ship)
        return
    from environments import postgres_programs
    from postgres import Postgres
    from unit.decisions.decisions_database import DecisionsDatabase

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        base.chmod(0o755)
        server = Postgres(base / "server", postgres_programs(base / "programs"))
        server.start()
        database = DecisionsDatabase(server)
        try:
            database.create()
            # A database that is asked for durable decisions; the tests' server does not sync.
            server.sql("ALTER SYSTEM SET fsync = on")
            server.sql("ALTER SYSTEM SET max_wal_size = '2GB'")
            server.sql("SELECT pg_reload_conf()")
            print(
                f"{'way':12} {'rows':>5} {'records/s':>10} {'shipper us':>10} {'server us':>10} {'peak MiB':>8}",
                flush=True,
            )
            if options.turns:
                compare(base, database, options)
            if options.backlog:
                database.clear()
                write_log(base / "backlog", options.backlog, 500, 1)
                result = measure("COPY", base / "backlog", database.url)
                assert database.count() == options.backlog
                report("a backlog", 1, options.backlog, result)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
