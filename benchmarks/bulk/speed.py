"""Rows per second and memory of bulk scoring, Parquet to Parquet, beside other ways to do it.

Each way is a process of its own on one core, over the same files of generated loans, in rounds so that a slow moment of
the machine meets all of them. Each writes the loans' ids and probabilities of default as Parquet.

- `bulk`: `creditrisk bulk score`, all of it: it also validates each value, and writes points, decisions and summaries.
- `reasons`: the same with 4 reason codes for each loan, on a tenth of the rows.
- `direct`: a loop over pyarrow's batches that encodes the columns, trusting them, and calls the ONNX model.
- `chunked`: the same with calls of 128 rows, as the service makes them, because their activations fit into the cache.
- `duckdb`: DuckDB reads and writes, and a Python UDF over Arrow calls the ONNX model.

With `--memory`, `bulk` runs on files of rising size instead, the last with a single row group, and prints peak memory.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / source) for source in ("images/scoring/src", "images/api/src", "images/training/src")]
BATCH_ROWS = 8192
CHUNK_ROWS = 128
DISTINCT = 200_000


def generate_loans(folder, rows, group_rows):
    """Write loans with ids of their own as one Parquet file; more than DISTINCT are otherwise the same ones again."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from trainer.data.synthetic import generate

    folder.mkdir(parents=True)
    loans = pa.Table.from_pandas(generate(min(rows, DISTINCT), seed=11).drop(columns="id"), preserve_index=False)
    repeated = pa.concat_tables([loans] * -(-rows // len(loans))).slice(0, rows)
    numbered = repeated.append_column("id", pa.array(np.arange(rows)))
    pq.write_table(numbered, folder / "loans.parquet", row_group_size=group_rows)


def bulk(given, source, target, *options):
    from creditrisk_scoring.command import main

    assert main([str(source), str(target), "--model", str(given.model), "--keep", "id", *options]) == 0


def reasons(given, source, target):
    bulk(given, source, target, "--reasons", "4", "--where", "id % 10 = 0")


def prepare(model):
    """Return functions that encode a batch and that call the model."""
    import numpy as np
    import onnxruntime as ort
    import pyarrow as pa
    import pyarrow.compute as pc

    features = json.loads((model / "contract.json").read_text())["features"]
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(model / "model.onnx"), options, providers=["CPUExecutionProvider"])
    numeric = [feature["name"] for feature in features if feature["kind"] == "numeric"]
    words = {f["name"]: pa.array(f["categories"]) for f in features if f["kind"] == "categorical"}

    def encode(batch):
        numbers = np.stack([batch[name].to_numpy(zero_copy_only=False) for name in numeric], 1).astype(np.float32)
        codes = [pc.index_in(batch[name], known).to_numpy(zero_copy_only=False) for name, known in words.items()]
        return numbers, np.stack(codes, 1).astype(np.int64)

    def call(numbers, codes):
        return session.run(None, {"numeric": numbers, "categorical": codes})[0]

    return [*numeric, *words], encode, call


def direct(given, source, target, chunk=None):
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    names, encode, call = prepare(given.model)
    schema = pa.schema([("id", pa.int64()), ("probability_of_default", pa.float32())])
    target.mkdir()
    file = pq.ParquetFile(source / "loans.parquet")
    held = []
    with pq.ParquetWriter(target / "scores.parquet", schema, compression="zstd", use_dictionary=False) as writer:
        for batch in file.iter_batches(BATCH_ROWS, columns=["id", *names]):
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
    connection = duckdb.connect(config={"threads": 1})

    def pd_of(loans):
        batch = loans.combine_chunks()
        return pa.array(call(*encode({name: batch.field(name) for name in names})))

    described = connection.sql(f"SELECT {', '.join(names)} FROM '{source}/loans.parquet' LIMIT 0")
    loan = duckdb.struct_type(dict(zip(described.columns, described.types, strict=True)))
    connection.create_function("pd_of", pd_of, [loan], "FLOAT", type="arrow")
    packed = ", ".join(f"{name} := {name}" for name in names)
    connection.execute(f"COPY (SELECT id, pd_of(struct_pack({packed})) AS probability_of_default "
                       f"FROM '{source}/loans.parquet') TO '{target}/scores.parquet' (COMPRESSION zstd)")  # fmt: skip


WAYS = {"bulk": bulk, "reasons": reasons, "direct": direct, "chunked": chunked, "duckdb": through_duckdb}


def timed(way, given, source, target, answers):
    import logging

    import pyarrow as pa

    logging.disable(logging.INFO)
    os.sched_setaffinity(0, {given.core})
    pa.set_cpu_count(1)
    started = time.perf_counter()
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        WAYS[way](given, source, target)
    answers.put((time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def run(way, given, source, target):
    """Return the seconds and the peak memory, in MiB, of a process."""
    shutil.rmtree(target, ignore_errors=True)
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=timed, args=(way, given, source, target, answers))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{way} failed")
    return answers.get()


def same_scores(scratch, ways):
    """Return the greatest difference of any way's probabilities from those of `direct`."""
    import duckdb

    worst = 0.0
    for way in ways:
        files = f"{scratch}/{way}/scores/*.parquet" if way in {"bulk", "reasons"} else f"{scratch}/{way}/scores.parquet"
        ((found, matched),) = duckdb.sql(
            "SELECT max(abs(ours.probability_of_default - theirs.probability_of_default)), count(*) "
            f"FROM '{files}' ours JOIN '{scratch}/direct/scores.parquet' theirs USING (id)"
        ).fetchall()
        assert matched, way
        worst = max(worst, found)
    return worst


def compare(given, scratch):
    generate_loans(scratch / "in", given.rows, 500_000)
    found = {way: [] for way in given.ways}
    for _ in range(given.rounds):
        for way in given.ways:
            found[way].append(run(way, given, scratch / "in", scratch / way))
    print(f"\n| {given.rows} rows on one core | rows/s | ratio to direct | peak memory, MiB |\n|---|---|---|---|")
    for way, values in found.items():
        rows = given.rows / 10 if way == "reasons" else given.rows
        speed = [rows / seconds for seconds, _ in values]
        base = [given.rows / seconds for seconds, _ in found.get("direct", values)]
        ratio = statistics.median(ours / theirs for ours, theirs in zip(speed, base, strict=True))
        print(f"| {way} | {statistics.median(speed):.0f} | {ratio:.2f} | {max(memory for _, memory in values):.0f} |")
    if "direct" in given.ways:
        print(f"\nall scores are within {same_scores(scratch, given.ways):.0e} of direct's")


def measure_memory(given, scratch):
    print("\n| rows | rows of a row group | file, MB | peak memory, MiB |\n|---|---|---|---|")
    for rows, group in ((given.rows // 10, 100_000), (given.rows, 100_000), (given.rows, given.rows)):
        shutil.rmtree(scratch / "in", ignore_errors=True)
        generate_loans(scratch / "in", rows, group)
        _, memory = run("bulk", given, scratch / "in", scratch / "out")
        size = (scratch / "in" / "loans.parquet").stat().st_size / 1e6
        print(f"| {rows} | {group} | {size:.0f} | {memory:.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a folder with model.onnx and contract.json")
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=1, help="the core that every way runs on")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--memory", action="store_true", help="measure memory on files of rising size")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bulk-") as scratch:
        (measure_memory if given.memory else compare)(given, Path(scratch))


if __name__ == "__main__":
    main()
