"""Tables of Delta Lake and Iceberg, written by their own libraries: what is scored is what those libraries read."""

from __future__ import annotations

import datetime as dt
import json
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import PyArrowFile
from pyiceberg.table import Table
from pyiceberg.types import DoubleType, TimeType
from pyroaring import BitMap64

from creditrisk_scoring.manifest import Manifest
from unit.creditrisk_scoring.applications import applications
from unit.creditrisk_scoring.conftest import Ended

Bulk = Callable[..., Ended]
BRANCHES = ["Leeds", "York & Hull", "100 %/x", None]


def book(seed: int = 0, count: int = 400) -> pa.Table:
    """Return applications of some branches and days."""
    table = applications(count, seed)
    days = pa.array([20_000 + row % 2 for row in range(count)], pa.int32()).cast(pa.date32())
    branches = pa.array([BRANCHES[row % len(BRANCHES)] for row in range(count)])
    accounts = pc.add(table["account"], seed * 1_000)
    table = table.set_column(0, "account", accounts)
    return table.append_column("branch", branches).append_column("day", days)


def assert_scores_are_of(ended: Ended, expected: pa.Table) -> None:
    """Hold what was scored and rejected to the rows of a table: each of them once, with its own columns."""
    assert ended.code == 0, ended.messages
    kept = [name for name in expected.schema.names if name in ended.scores.schema.names]
    assert {"account", "branch", "day"} <= set(kept)
    both = pa.concat_tables([ended.scores.select(kept), ended.rejected.select(kept)])
    order = [("account", "ascending")]
    plain = expected.select(kept).cast(both.schema)
    assert both.sort_by(order).combine_chunks() == plain.sort_by(order).combine_chunks()
    assert ended.summary["rows"] == expected.num_rows


def delta(folder: Path, *parts: pa.Table, **options: Any) -> Path:
    for part in parts:
        write_deltalake(folder, part, mode="append", **options)
    return folder


def rows_of(folder: Path) -> pa.Table:
    """Return what delta-rs reads of a table."""
    return DeltaTable(folder).to_pyarrow_table()


@pytest.mark.parametrize("by", [None, ["branch", "day"]])
def test_a_delta_table_is_scored_as_its_newest_version(bulk: Bulk, tmp_path: Path, by: list[str] | None) -> None:
    folder = delta(tmp_path / "in", book(0), book(1), partition_by=by)
    DeltaTable(folder).update({"income": "12345.0"}, predicate="account < 100")
    DeltaTable(folder).delete("account > 1200")
    ended = bulk(folder, tmp_path / "out", "--shard-rows", "100")
    assert_scores_are_of(ended, rows_of(folder))
    assert ended.summary["table"] == {"format": "delta", "version": 3}
    manifest = msgspec.json.decode((tmp_path / "out" / "_bulk" / "manifest.json").read_bytes(), type=Manifest)
    assert manifest.table is not None
    assert manifest.table.version == 3


def test_the_results_are_those_of_the_same_rows_in_a_file(bulk: Bulk, tmp_path: Path) -> None:
    folder = delta(tmp_path / "in", book(0), partition_by=["region"])
    (tmp_path / "file").mkdir()
    pq.write_table(book(0), tmp_path / "file" / "a.parquet")
    there, here = bulk(folder, tmp_path / "out"), bulk(tmp_path / "file", tmp_path / "out file")
    order = [("account", "ascending")]
    for name in ("account", "score_points", "decision", "grade"):
        assert there.scores.sort_by(order)[name].combine_chunks() == here.scores[name].combine_chunks(), name


def test_a_condition_may_be_about_what_a_table_is_partitioned_by(bulk: Bulk, tmp_path: Path) -> None:
    folder = delta(tmp_path / "in", book(0), partition_by=["branch", "day"])
    ended = bulk(folder, tmp_path / "out", "--where", "branch = '100 %/x' AND day = DATE '2024-10-04'")
    assert set(ended.scores["branch"].to_pylist()) == {"100 %/x"}
    assert ended.summary["excluded"] == ended.summary["rows"] - 100 == 300


def test_files_that_are_older_than_a_column_lack_it_and_a_wider_type_holds_for_all(bulk: Bulk, tmp_path: Path) -> None:
    old = book(0).drop_columns(["bureau_score"])
    folder = delta(tmp_path / "in", old, book(1), schema_mode="merge")
    ended = bulk(folder, tmp_path / "out")
    assert_scores_are_of(ended, rows_of(folder))


def test_a_resumed_run_reads_the_version_that_was_listed(bulk: Bulk, tmp_path: Path) -> None:
    folder = delta(tmp_path / "in", book(0), book(1))
    listed = rows_of(folder)
    assert bulk(folder, tmp_path / "out").code == 0
    (tmp_path / "out" / "_bulk" / "done" / "part-00001.json").unlink()
    DeltaTable(folder).delete("account < 300")
    delta(folder, book(2))
    ended = bulk(folder, tmp_path / "out")
    assert_scores_are_of(ended, listed)
    assert ended.summary["table"]["version"] == 1


def test_columns_that_have_other_names_in_files_are_found(bulk: Bulk, tmp_path: Path) -> None:
    """As Spark leaves a table of which a column was renamed: delta-rs cannot write one."""
    physical = {"branch": "col-1", "income": "col-2", "day": "col-3"}
    renamed = book(0).rename_columns([physical.get(name, name) for name in book(0).schema.names])
    folder = delta(tmp_path / "in", renamed, partition_by=["col-1"])
    change_log(folder, physical)
    ended = bulk(folder, tmp_path / "out")
    assert_scores_are_of(ended, book(0))


def change_log(folder: Path, physical: dict[str, str], mode: str = "name") -> None:
    """Give a table's columns other names than its files have, in its log."""
    log = folder / "_delta_log" / f"{0:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    logical = {column: name for name, column in physical.items()}
    for action in actions:
        if "protocol" in action:
            action["protocol"] = {"minReaderVersion": 2, "minWriterVersion": 5}
        if "metaData" in action:
            schema = json.loads(action["metaData"]["schemaString"])
            for number, column in enumerate(schema["fields"]):
                column["metadata"] = {"delta.columnMapping.id": number + 1,
                                      "delta.columnMapping.physicalName": column["name"]}  # fmt: skip
                column["name"] = logical.get(column["name"], column["name"])
            columns = [logical.get(name, name) for name in action["metaData"]["partitionColumns"]]
            action["metaData"] |= {
                "schemaString": json.dumps(schema), "partitionColumns": columns,
                "configuration": {"delta.columnMapping.mode": mode, "delta.columnMapping.maxColumnId": "99"},
            }  # fmt: skip
    log.write_text("\n".join(map(json.dumps, actions)))


def test_a_delta_table_that_needs_more_of_its_reader_is_refused(bulk: Bulk, tmp_path: Path) -> None:
    folder = delta(tmp_path / "in", book(0))
    change_log(folder, {}, mode="id")
    ended = bulk(folder, tmp_path / "out")
    assert (ended.code, "needs delta.columnMapping.mode id of readers" in ended.messages) == (2, True), ended.messages


def test_rows_that_are_deleted_by_deletion_vectors_are_not_scored_in_silence(bulk: Bulk, tmp_path: Path) -> None:
    """As Spark deletes a row: delta-rs reads such vectors, and writes none."""
    folder = delta(tmp_path / "in", book(0))
    vector = struct.pack("<I", 1681511377) + BitMap64([7]).serialize()
    (tmp_path / "dv.bin").write_bytes(b"\x01" + struct.pack(">I", len(vector)) + vector
                                      + struct.pack(">I", zlib.crc32(vector)))  # fmt: skip
    log = folder / "_delta_log" / f"{0:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "protocol" in action:
            action["protocol"] = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"],
                                  "writerFeatures": ["deletionVectors"]}  # fmt: skip
        if "add" in action:
            action["add"]["deletionVector"] = {
                "storageType": "p", "pathOrInlineDv": (tmp_path / "dv.bin").as_uri(), "offset": 1,
                "sizeInBytes": len(vector), "cardinality": 1,
            }  # fmt: skip
    log.write_text("\n".join(map(json.dumps, actions)))
    ended = bulk(folder, tmp_path / "out")
    assert (ended.code, "deleted by deletion vectors; allowed: a table without" in ended.messages) == (2, True)


def test_a_folder_of_tables_is_refused_as_it_has_rows_that_were_deleted(
    bulk: Bulk, catalog: SqlCatalog, tmp_path: Path
) -> None:
    delta(tmp_path / "lake" / "deep" / "book", book(0))
    ended = bulk(tmp_path / "lake", tmp_path / "out")
    assert (ended.code, "has tables within, such as deep/book" in ended.messages) == (2, True), ended.messages
    _, folder = iceberg(catalog, book(0))
    ended = bulk(folder.parent, tmp_path / "out")
    assert (ended.code, f"has tables within, such as {folder.name}" in ended.messages) == (2, True), ended.messages


def test_a_file_that_a_table_lacks_is_named(bulk: Bulk, tmp_path: Path) -> None:
    folder = delta(tmp_path / "in", book(0))
    (file,) = folder.glob("*.parquet")
    file.unlink()
    ended = bulk(folder, tmp_path / "out")
    assert (ended.code, f"has no file {file.name}" in ended.messages) == (2, True), ended.messages


@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_a_store_that_fails_while_a_table_is_listed_is_no_wrong_usage(
    bulk: Bulk, catalog: SqlCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = delta(tmp_path / "in", book(0)) if kind == "delta" else iceberg(catalog, book(0))[1]

    def fail(*_: object, **__: object) -> None:
        raise OSError("connection reset by peer")

    with monkeypatch.context() as patched:
        # Where each of both readers asks the store.
        patched.setattr(DeltaTable, "__init__", fail)
        patched.setattr(PyArrowFile, "open", fail)
        ended = bulk(folder, tmp_path / "out")
    assert (ended.code, "connection reset by peer" in ended.messages) == (1, True), ended.messages
    assert bulk(folder, tmp_path / "out").code == 0


def test_an_iceberg_table_whose_list_of_files_breaks_off_is_refused(
    bulk: Bulk, catalog: SqlCatalog, tmp_path: Path
) -> None:
    _, folder = iceberg(catalog, book(0))
    for file in (folder / "metadata").glob("*.avro"):
        file.write_bytes(file.read_bytes()[:2])
    ended = bulk(folder, tmp_path / "out")
    assert (ended.code, "is no table of Iceberg that can be read: " in ended.messages) == (2, True), ended.messages


def test_without_its_reader_a_table_is_refused_with_what_to_install(
    bulk: Bulk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = delta(tmp_path / "in", book(0))
    monkeypatch.setitem(sys.modules, "creditrisk_scoring.delta", None)
    ended = bulk(folder, tmp_path / "out")
    assert (ended.code, "pip install 'credit-risk-platform[delta]'" in ended.messages) == (2, True), ended.messages


@pytest.fixture
def catalog(tmp_path: Path) -> SqlCatalog:
    (tmp_path / "warehouse").mkdir()
    return catalog_of(tmp_path / "warehouse")


def catalog_of(warehouse: Path) -> SqlCatalog:
    # Not as_uri: PyIceberg would take the signs that it escapes for those of the folder's name.
    made = SqlCatalog("test", uri=f"sqlite:///{warehouse.parent}/catalog.db", warehouse=f"file://{warehouse}")
    made.create_namespace("bank")
    return made


def iceberg(catalog: SqlCatalog, *parts: pa.Table, by: str = "", **properties: str) -> tuple[Table, Path]:
    table = catalog.create_table("bank.book", schema=book(0).schema, properties=properties)
    if by:
        with table.update_spec() as update:
            update.add_identity(by)
    for part in parts:
        table.append(part)
    return table, Path(table.location().removeprefix("file://"))


@pytest.mark.parametrize("by", ["", "branch"])
def test_an_iceberg_table_is_scored_as_its_newest_snapshot(
    bulk: Bulk, catalog: SqlCatalog, tmp_path: Path, by: str
) -> None:
    table, folder = iceberg(catalog, book(0), book(1), by=by)
    table.overwrite(book(0).slice(0, 40), overwrite_filter="account = 7")
    table.delete("account > 1200")
    ended = bulk(folder, tmp_path / "out", "--shard-rows", "100")
    assert ended.code == 0, ended.messages
    expected = table.scan().to_arrow()
    assert ended.summary["rows"] == expected.num_rows < 800
    found = [*ended.scores["account"].to_pylist(), *ended.rejected["account"].to_pylist()]
    assert sorted(found) == sorted(expected["account"].to_pylist())
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert ended.summary["table"] == {"format": "iceberg", "version": snapshot.snapshot_id}


def test_an_iceberg_table_s_columns_may_be_renamed_added_dropped_and_widened(
    bulk: Bulk, catalog: SqlCatalog, tmp_path: Path
) -> None:
    narrow = book(0).set_column(3, "bureau_score", book(0)["bureau_score"].cast(pa.float32()))
    narrow = narrow.rename_columns([{"income": "salary", "branch": "office"}.get(n, n) for n in narrow.schema.names])
    table = catalog.create_table("bank.book", schema=narrow.schema)
    table.append(narrow)
    with table.update_schema() as update:
        update.rename_column("salary", "income")
        update.rename_column("office", "branch")
        update.update_column("bureau_score", DoubleType())
        update.delete_column("former")
    with table.update_schema() as update:
        update.add_column("salary", DoubleType())
    table.append(book(1).drop_columns(["former"]).append_column("salary", pa.array([1.0] * 400)))
    ended = bulk(table.location().removeprefix("file://"), tmp_path / "out")
    assert_scores_are_of(ended, table.scan().to_arrow())
    assert ended.scores["salary"].null_count > 0


def test_files_that_are_older_than_a_column_of_time_lack_it(bulk: Bulk, catalog: SqlCatalog, tmp_path: Path) -> None:
    """No text can be read as a time of day, not even none."""
    table, folder = iceberg(catalog, book(0))
    with table.update_schema() as update:
        update.add_column("called", TimeType())
    table.append(book(1).append_column("called", pa.array([dt.time(9, 30)] * 400, pa.time64("us"))))
    ended = bulk(folder, tmp_path / "out")
    assert_scores_are_of(ended, table.scan().to_arrow())
    assert set(ended.scores["called"].to_pylist()) == {None, dt.time(9, 30)}


@pytest.mark.parametrize("name", ["loan books", "Bücher, 100 %20"])
def test_an_iceberg_table_s_folder_may_have_any_name(bulk: Bulk, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    table, folder = iceberg(catalog_of(tmp_path / name), book(0), book(1))
    assert folder.is_relative_to(tmp_path / name)
    assert_scores_are_of(bulk(folder, tmp_path / "out"), table.scan().to_arrow())


def test_a_resumed_run_reads_the_snapshot_that_was_listed(bulk: Bulk, catalog: SqlCatalog, tmp_path: Path) -> None:
    table, folder = iceberg(catalog, book(0), book(1))
    listed = table.scan().to_arrow()
    assert bulk(folder, tmp_path / "out").code == 0
    (tmp_path / "out" / "_bulk" / "done" / "part-00001.json").unlink()
    table.append(book(2))
    assert_scores_are_of(bulk(folder, tmp_path / "out"), listed)


def test_an_iceberg_table_with_two_newest_metadata_files_is_refused(
    bulk: Bulk, catalog: SqlCatalog, tmp_path: Path
) -> None:
    """As after a commit that the catalog refused: which one counts, only the catalog knows."""
    table, folder = iceberg(catalog, book(0))
    newest = folder / "metadata" / Path(table.metadata_location).name
    other = newest.with_name(f"{newest.name[:5]}-00000000-0000-0000-0000-000000000000.metadata.json")
    other.write_bytes(newest.read_bytes())
    ended = bulk(folder, tmp_path / "out")
    assert (ended.code, "which file is the newest is not clear" in ended.messages) == (2, True), ended.messages
    (folder / "metadata" / "version-hint.text").write_text(newest.name.removesuffix(".metadata.json"))
    assert bulk(folder, tmp_path / "out").code == 0


def test_an_iceberg_table_without_a_snapshot_is_refused(bulk: Bulk, catalog: SqlCatalog, tmp_path: Path) -> None:
    _, folder = iceberg(catalog)
    ended = bulk(folder, tmp_path / "out")
    assert (ended.code, "has no snapshot yet" in ended.messages) == (2, True), ended.messages


def test_files_without_ids_are_refused_rather_than_read_as_nulls(
    bulk: Bulk, catalog: SqlCatalog, tmp_path: Path
) -> None:
    table, folder = iceberg(catalog, book(0))
    pq.write_table(book(1), folder / "data" / "imported.parquet")
    table.add_files([f"{table.location()}/data/imported.parquet"])
    ended = bulk(folder, tmp_path / "out")
    assert (ended.code, "its columns have no ids" in ended.messages) == (2, True), ended.messages
