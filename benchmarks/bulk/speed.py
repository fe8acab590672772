"""Rows per second and memory of bulk scoring, Parquet to Parquet, beside other ways to do it.

Each way has the same cores (`--cores`) and the same files of generated loans, in rounds so that a slow moment of the
machine meets all of them. Each writes the loans' ids and probabilities of default as Parquet. Its time goes from before
its first process starts until its last has ended.

- `bulk`: `creditrisk bulk score`, all of it: it also validates each value, and writes points, decisions and summaries;
  a process for each core, as pods would be, share the run.
- `reasons`: the same with 4 reason codes for each loan.
- `direct`: a loop over pyarrow's batches that encodes the columns, trusting them, and calls the ONNX model; a process
  for each core has files of its own.
- `chunked`: the same with calls of 128 rows, as the service makes them, because their activations fit into the cache.
- `duckdb`: DuckDB reads and writes, and a Python UDF over Arrow calls the ONNX model.
- `spark`: PySpark reads and writes, and a function for `mapInArrow` does as `direct` does; `spark-results` is
  `creditrisk_scoring.spark` instead, which validates each value and gives whole results.
- `ray`: the same as `spark` with a function for Ray Data's `map_batches`.
- `mlflow`: `mlflow models predict`, from a CSV that is there before the clock starts, to JSON; on a tenth of the rows.

Spark and Ray are installed into the cache when they are needed first; peak memory is that of one process, so none is
printed for ways that take several.

With `--memory`, `bulk` runs on files of rising size instead, the last with a single row group, and prints peak memory.
With `--sharing`, `bulk` has one core and then two.
"""

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import resource
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from direct import DirectScorer, prepare

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [str(ROOT / f"images/{image}/src") for image in ("scoring", "api", "training")]
sys.path[:0] = [*SOURCES, str(ROOT / "tests"), str(ROOT / "cluster/src")]
# Scores a tenth of the rows.
SLOW = {"mlflow"}
# A process for each core.
SHARING = {"bulk", "reasons", "direct", "chunked"}
SEVERAL_PROCESSES = {"spark", "spark-results", "ray", "mlflow"}
BATCH_ROWS = 8192
CHUNK_ROWS = 128
GROUP_ROWS = 100_000
SHARD_ROWS = 200_000
DISTINCT = 200_000


def generate_loans(folder, rows, group_rows, files=1):
    """Write loans with ids of their own as Parquet; more than DISTINCT are otherwise the same ones again."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from trainer.data.synthetic import generate

    folder.mkdir(parents=True)
    loans = pa.Table.from_pandas(generate(min(rows, DISTINCT), seed=11).drop(columns="id"), preserve_index=False)
    repeated = pa.concat_tables([loans] * -(-rows // len(loans))).slice(0, rows)
    numbered = repeated.append_column("id", pa.array(np.arange(rows)))
    of_file = -(-rows // files)
    for number in range(files):
        part = numbered.slice(number * of_file, of_file)
        pq.write_table(part, folder / f"loans-{number}.parquet", row_group_size=group_rows)


def bulk(given, source, target, *options):
    from creditrisk_scoring.command import main

    command = [str(source), str(target), "--model", str(given.model), "--keep", "id", "--shard-rows", str(SHARD_ROWS)]
    assert main([*command, *options]) == 0


def reasons(given, source, target):
    bulk(given, source, target, "--reasons", "4")


def direct(given, source, target, chunk=None):
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    names, encode, call = prepare(given.model)
    schema = pa.schema([("id", pa.int64()), ("probability_of_default", pa.float32())])
    target.mkdir(exist_ok=True)
    files = [pq.ParquetFile(file) for file in sorted(source.glob("*.parquet"))[given.part :: given.cores]]
    held = []
    with pq.ParquetWriter(
        target / f"scores-{given.part}.parquet", schema, compression="zstd", use_dictionary=False
    ) as writer:
        for batch in itertools.chain.from_iterable(
            file.iter_batches(BATCH_ROWS, columns=["id", *names]) for file in files
        ):
            numbers, codes = encode(batch)
            size = chunk or len(numbers)
            scores = [call(numbers[at : at + size], codes[at : at + size]) for at in range(0, len(numbers), size)]
            held.append(pa.record_batch([batch["id"], pa.array(np.concatenate(scores))], schema=schema))
            if len(held) == 16:
                writer.write_table(pa.Table.from_batches(held))
                held.clear()
        if held:
            writer.write_table(pa.Table.from_batches(held))


def chunked(given, source, target):
    direct(given, source, target, CHUNK_ROWS)


def through_duckdb(given, source, target):
    import duckdb
    import pyarrow as pa

    names, encode, call = prepare(given.model)
    target.mkdir()
    connection = duckdb.connect(config={"threads": given.cores})

    def pd_of(loans):
        batch = loans.combine_chunks()
        return pa.array(call(*encode({name: batch.field(name) for name in names})))

    described = connection.sql(f"SELECT {', '.join(names)} FROM '{source}/*.parquet' LIMIT 0")
    loan = duckdb.struct_type(dict(zip(described.columns, described.types, strict=True)))
    connection.create_function("pd_of", pd_of, [loan], "FLOAT", type="arrow")
    packed = ", ".join(f"{name} := {name}" for name in names)
    connection.execute(f"COPY (SELECT id, pd_of(struct_pack({packed})) AS probability_of_default "
                       f"FROM '{source}/*.parquet') TO '{target}/scores.parquet' (COMPRESSION zstd)")  # fmt: skip


def install(engine):
    """Make an engine's packages importable, here and in its workers."""
    from environments import packages

    folder = str(packages(ROOT / f"requirements/{engine}.txt"))
    sys.path.insert(0, folder)
    os.environ["PYTHONPATH"] = ":".join([folder, *SOURCES, str(Path(__file__).parent)])


def spark_session(given, target):
    install("spark")
    from java import java_home

    os.environ.update(JAVA_HOME=str(java_home()), PYSPARK_PYTHON=sys.executable, SPARK_LOCAL_IP="127.0.0.1")
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.memory": "2g",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.sql.warehouse.dir": f"{target}/warehouse",
    }
    builder = SparkSession.builder.master(f"local[{given.cores}]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def through_spark(given, source, target):
    session, score = spark_session(given, target), DirectScorer(given.model)
    loans = session.read.parquet(str(source))
    scores = loans.mapInArrow(lambda batches: map(score, batches), "id long, probability_of_default float")
    scores.write.parquet(f"{target}/scores")
    session.stop()


def results_by_spark(given, source, target):
    session = spark_session(given, target)
    from creditrisk_scoring.spark import score_frame

    scores = score_frame(session.read.parquet(str(source)), given.model, keep=["id"])
    scores.write.parquet(f"{target}/scores")
    session.stop()


def through_ray(given, source, target):
    install("ray")
    import pyarrow as pa
    import ray

    # The path of a socket is short.
    with tempfile.TemporaryDirectory(prefix="ray-") as temporary:
        # Without a token in the environment, Ray would write one into the user's home.
        os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_TOKEN=secrets.token_hex(32))
        ray.init(num_cpus=given.cores, include_dashboard=False, _temp_dir=temporary, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        score = DirectScorer(given.model)

        def score_table(table):
            return pa.Table.from_batches(map(score, table.to_batches()))

        loans = ray.data.read_parquet(str(source))
        scores = loans.map_batches(score_table, batch_format="pyarrow", batch_size=BATCH_ROWS)
        scores.write_parquet(f"{target}/scores", compression="zstd")
        ray.shutdown()


def through_mlflow(given, source, target):
    target.mkdir()
    predict = [sys.executable, "-m", "mlflow", "models", "predict", "--env-manager", "local", "--content-type", "csv"]
    files = ["--input-path", str(csv_of(source)), "--output-path", str(target / "scores.json")]
    subprocess.run([*predict, "--model-uri", str(given.model), *files], check=True, capture_output=True)


def csv_of(source):
    return source.parent / "loans.csv"


def write_csv(source):
    import duckdb

    duckdb.sql(f"COPY (FROM '{source}/*.parquet' WHERE id % 10 = 0) TO '{csv_of(source)}' (HEADER)")


def scores_of_mlflow(target):
    """Write what MLflow answered as the other ways write it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    scores = json.loads((target / "scores.json").read_text())["predictions"]
    table = pa.table({"id": range(0, 10 * len(scores), 10), "probability_of_default": pa.array(scores, pa.float32())})
    pq.write_table(table, target / "scores.parquet")


WAYS = {
    "bulk": bulk, "reasons": reasons, "direct": direct, "chunked": chunked, "duckdb": through_duckdb,
    "spark": through_spark, "spark-results": results_by_spark, "ray": through_ray, "mlflow": through_mlflow,
}  # fmt: skip


def timed(way, given, source, target, answers):
    import logging

    import pyarrow as pa

    logging.disable(logging.INFO)
    os.sched_setaffinity(0, given.pinned)
    pa.set_cpu_count(len(given.pinned))
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        WAYS[way](given, source, target)
    answers.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def run(way, given, source, target):
    """Return the seconds that a way takes, and the sum of its processes' peak memory, in MiB."""
    shutil.rmtree(target, ignore_errors=True)
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    cores = sorted(os.sched_getaffinity(0))[: given.cores]
    pinned = [{core} for core in cores] if way in SHARING else [set(cores)]
    each = [argparse.Namespace(**{**vars(given), "part": part, "pinned": its}) for part, its in enumerate(pinned)]
    processes = [context.Process(target=timed, args=(way, one, source, target, answers)) for one in each]
    started = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit(f"{way} failed")
    seconds = time.perf_counter() - started
    return seconds, sum(answers.get() for _ in processes)


def same_scores(scratch, ways):
    """Return the greatest difference of any way's probabilities from those of `direct`."""
    import duckdb

    worst = 0.0
    for way in ways:
        if way == "mlflow":
            scores_of_mlflow(scratch / way)
        folder = scratch / way / "scores"
        files = f"{folder}/*.parquet" if folder.is_dir() else f"{scratch / way}/scores*.parquet"
        ((found, matched),) = duckdb.sql(
            "SELECT max(abs(ours.probability_of_default - theirs.probability_of_default)), count(*) "
            f"FROM '{files}' ours JOIN '{scratch}/direct/scores*.parquet' theirs USING (id)"
        ).fetchall()
        assert matched, way
        worst = max(worst, found)
    return worst


def compare(given, scratch):
    # Spark and Ray give a file, or a part of one, to each task.
    generate_loans(scratch / "in", given.rows, GROUP_ROWS, files=10)
    if "mlflow" in given.ways:
        write_csv(scratch / "in")
    found = {way: [] for way in given.ways}
    for _ in range(given.rounds):
        for way in given.ways:
            found[way].append(run(way, given, scratch / "in", scratch / way))
    title = f"{given.rows} rows, {given.cores} cores"
    print(f"\n| {title} | rows/s | ratio to direct | peak memory, MiB |\n|---|---|---|---|")
    for way, values in found.items():
        rows = given.rows / 10 if way in SLOW else given.rows
        speed = [rows / seconds for seconds, _ in values]
        base = [given.rows / seconds for seconds, _ in found.get("direct", values)]
        ratio = statistics.median(ours / theirs for ours, theirs in zip(speed, base, strict=True))
        memory = "" if way in SEVERAL_PROCESSES else f"{max(peak for _, peak in values):.0f}"
        print(f"| {way} | {statistics.median(speed):.0f} | {ratio:.2f} | {memory} |")
    if "direct" in given.ways:
        print(f"\nall scores are within {same_scores(scratch, given.ways):.0e} of direct's")


def measure_sharing(given, scratch):
    generate_loans(scratch / "in", given.rows, GROUP_ROWS)
    taken = {1: [], 2: []}
    for _ in range(given.rounds):
        for cores, seconds in taken.items():
            workers = argparse.Namespace(**{**vars(given), "cores": cores})
            seconds.append(run("bulk", workers, scratch / "in", scratch / "out")[0])
    print(f"\n| processes | rows/s, of {given.rows} rows | ratio to one |\n|---|---|---|")
    for count, seconds in taken.items():
        ratio = statistics.median(one / these for one, these in zip(taken[1], seconds, strict=True))
        print(f"| {count} | {given.rows / statistics.median(seconds):.0f} | {ratio:.2f} |")


def measure_memory(given, scratch):
    print("\n| rows | rows of a row group | file, MB | peak memory, MiB |\n|---|---|---|---|")
    for rows, group in ((given.rows // 10, GROUP_ROWS), (given.rows, GROUP_ROWS), (given.rows, given.rows)):
        shutil.rmtree(scratch / "in", ignore_errors=True)
        generate_loans(scratch / "in", rows, group)
        _, memory = run("bulk", argparse.Namespace(**{**vars(given), "cores": 1}), scratch / "in", scratch / "out")
        size = (scratch / "in" / "loans-0.parquet").stat().st_size / 1e6
        print(f"| {rows} | {group} | {size:.0f} | {memory:.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a folder with model.onnx and contract.json")
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2, help="how many cores each way has")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--memory", action="store_true", help="measure memory on files of rising size")
    parser.add_argument("--sharing", action="store_true", help="measure two processes that share a run beside one")
    given = parser.parse_args()
    for engine in {way.partition("-")[0] for way in given.ways} & {"spark", "ray"}:
        install(engine)
    measure = measure_memory if given.memory else measure_sharing if given.sharing else compare
    with tempfile.TemporaryDirectory(prefix="bulk-") as scratch:
        measure(given, Path(scratch))


if __name__ == "__main__":
    main()
