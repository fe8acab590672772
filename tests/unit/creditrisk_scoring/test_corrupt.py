"""Files that cannot be scored: named with what is wrong, beside the results of all others, and scored once mended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from creditrisk_scoring import status_command
from creditrisk_scoring.errors import BulkError, CorruptError
from creditrisk_scoring.folders import Folder, open_folder
from creditrisk_scoring.scoring import Version
from creditrisk_scoring.sources import open_source
from creditrisk_scoring.status import read_status
from unit.creditrisk_scoring.applications import applications, write_input
from unit.creditrisk_scoring.conftest import Ended, table_of

Bulk = Callable[..., Ended]
SIZES = {"a.parquet": 1_500, "b.parquet": 1_500, "deep/c.parquet": 500}
OPTIONS = ("--shard-rows", "500")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    return write_input(tmp_path / "in", SIZES)


@pytest.fixture
def whole(bulk: Bulk, source: Path, tmp_path: Path) -> Ended:
    """What a run of undamaged files comes to."""
    return bulk(source, tmp_path / "whole", *OPTIONS)


def truncate(file: Path) -> None:
    """Leave the first half of a file, so that the footer of a Parquet file is gone."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def damage_middle(file: Path) -> None:
    """Overwrite what the second of a Parquet file's row groups holds; the footer is as it was."""
    column = pq.ParquetFile(file).metadata.row_group(1).column(1)
    start = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(file.read_bytes())
    content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, "b.parquet is not Parquet: "),
        (lambda file: file.write_bytes(b""), "b.parquet is not Parquet: "),
        (lambda file: file.write_text("account,income\n1,2\n"), "b.parquet is not Parquet: "),
        (damage_middle, "b.parquet cannot be read: "),
    ],
)
def test_all_else_is_scored_and_the_run_ends_as_failed_with_the_file_s_name(
    bulk: Bulk, source: Path, whole: Ended, tmp_path: Path, damage: Callable[[Path], Any], words: str
) -> None:
    damage(source / "b.parquet")
    ended = bulk(source, tmp_path / "out", *OPTIONS)
    assert (ended.code, ended.summary["complete"]) == (3, False)
    ((failed),) = ended.summary["failed_files"]
    assert failed["file"] == "b.parquet"
    assert failed["problem"].startswith(words)
    assert json.loads((tmp_path / "out" / "summary.json").read_bytes()) == ended.summary
    for name in ("a.parquet", "deep/c.parquet"):
        there = whole.scores.filter(pc.equal(whole.scores["source_file"], name))
        assert ended.scores.filter(pc.equal(ended.scores["source_file"], name)) == there
    status = read_status(open_folder(str(tmp_path / "out")))
    assert (status.state, status.seconds_left, [one.file for one in status.failed]) == ("failed", 0, ["b.parquet"])


@pytest.mark.parametrize("damage", [truncate, damage_middle])
def test_no_other_process_tries_the_file_again_as_it_is(
    bulk: Bulk, source: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(source / "b.parquet")
    first = bulk(source, tmp_path / "out", *OPTIONS, "--worker", "first")
    notes = tmp_path / "out" / "_bulk" / "failed"
    before = {note.name: note.read_bytes() for note in notes.iterdir()}
    again = bulk(source, tmp_path / "out", *OPTIONS, "--worker", "second")
    assert (again.code, again.summary) == (3, first.summary)
    assert {note.name: note.read_bytes() for note in notes.iterdir()} == before
    assert all(b"first" in note for note in before.values())


@pytest.mark.parametrize("condition", [(), ("--where", "account >= 0")])
def test_a_file_that_is_corrupt_far_from_where_a_shard_begins_is_not_tried_again(
    bulk: Bulk, source: Path, tmp_path: Path, condition: tuple[str, ...]
) -> None:
    write_input(source, {"b.parquet": 60_000}, group_rows=20_000)
    damage_middle(source / "b.parquet")
    for _ in range(2):
        ended = bulk(source, tmp_path / "out", *condition)
        assert (ended.code, ended.summary["rows"]) == (3, 2_000), ended.messages
        ((failed),) = ended.summary["failed_files"]
        assert failed["problem"].startswith("b.parquet cannot be read: ")


@pytest.mark.parametrize("damage", [truncate, damage_middle])
def test_once_the_file_is_mended_a_rerun_scores_what_was_missing_of_it_alone(
    bulk: Bulk, source: Path, whole: Ended, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    shutil.copy2(source / "b.parquet", tmp_path / "kept")
    damage(source / "b.parquet")
    first = bulk(source, tmp_path / "out", *OPTIONS)
    done = {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "scores").iterdir()}
    shutil.copy(tmp_path / "kept", source / "b.parquet")
    again = bulk(source, tmp_path / "out", *OPTIONS)
    assert (again.code, again.summary["failed_files"], again.summary["complete"]) == (0, [], True), again.messages
    for name in ("rows", "scored", "rejected", "score_histogram", "psi"):
        assert again.summary[name] == whole.summary[name] != first.summary[name]
    assert {file: file.stat().st_mtime_ns for file in done} == done
    order = [("source_file", "ascending"), ("source_row", "ascending")]
    for kind in ("scores", "rejected"):
        assert table_of(tmp_path / "out" / kind).sort_by(order) == table_of(tmp_path / "whole" / kind).sort_by(order)
    assert not list((tmp_path / "out" / "_bulk" / "failed").iterdir())


def test_a_mended_file_is_scored_whole_though_a_run_was_killed_before_it_tried_all_of_the_damaged_one(
    bulk: Bulk, source: Path, whole: Ended, tmp_path: Path
) -> None:
    shutil.copy2(source / "b.parquet", tmp_path / "kept")
    damage_middle(source / "b.parquet")
    assert bulk(source, tmp_path / "out", *OPTIONS).code == 3
    # Of its three shards, the second is known to be corrupt, and nothing is known of the others.
    for name in ("part-00003", "part-00005"):
        (tmp_path / "out" / "_bulk" / "done" / f"{name}.json").unlink()
        (tmp_path / "out" / "scores" / f"{name}.parquet").unlink()
    shutil.copy(tmp_path / "kept", source / "b.parquet")
    again = bulk(source, tmp_path / "out", *OPTIONS)
    assert (again.code, again.summary) == (0, whole.summary), again.messages
    assert (again.scores, again.rejected) == (whole.scores, whole.rejected)


def test_a_file_that_takes_a_damaged_one_s_place_must_have_its_rows(bulk: Bulk, source: Path, tmp_path: Path) -> None:
    damage_middle(source / "b.parquet")
    assert bulk(source, tmp_path / "out", *OPTIONS).code == 3
    pq.write_table(applications(1_500, 1), source / "b.parquet", row_group_size=700)
    ended = bulk(source, tmp_path / "out", *OPTIONS)
    assert (ended.code, "b.parquet was corrupt, and has other row groups now" in ended.messages) == (3, True)
    # That was no better, but the next one may be.
    write_input(source, {"x": 0, "b.parquet": 1_500})
    assert bulk(source, tmp_path / "out", *OPTIONS).code == 0


def test_a_mended_file_must_have_the_columns_that_the_model_needs(bulk: Bulk, source: Path, tmp_path: Path) -> None:
    truncate(source / "b.parquet")
    assert bulk(source, tmp_path / "out", *OPTIONS).code == 3
    pq.write_table(applications(1_500).drop_columns(["income"]), source / "b.parquet")
    ended = bulk(source, tmp_path / "out", *OPTIONS)
    assert (ended.code, ended.summary["failed_files"][0]["problem"]) == (
        3, "b.parquet: income is missing, needed: numbers",
    )  # fmt: skip


def test_a_csv_that_breaks_off_in_the_middle_is_named(bulk: Bulk, source: Path, tmp_path: Path) -> None:
    names = applications(0).schema.names
    line = ",".join(map(str, applications(1).to_pylist()[0].values()))
    (source / "d.csv").write_text("\n".join([",".join(names), *[line] * 50_000, "1,2"]))
    ended = bulk(source, tmp_path / "out", *OPTIONS)
    assert (ended.code, ended.summary["rows"]) == (3, 3_500)
    assert "Expected 9 columns, got 2" in ended.summary["failed_files"][0]["problem"]


def garble(content: bytes) -> bytes:
    """Return a file of Arrow in which the places of texts lie outside of it."""
    places = pa.array(range(0, 800, 4), pa.int32()).buffers()[1].to_pybytes()
    assert content.count(places) == 1
    return content.replace(places, b"\x7f" * len(places))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[: len(content) // 2], "d.arrow is not Arrow: "),
        (lambda _: b"", "d.arrow is not Arrow: "),
        (garble, "d.arrow cannot be read: "),
    ],
)
def test_an_arrow_file_that_is_corrupt_is_named(
    bulk: Bulk, source: Path, tmp_path: Path, damage: Callable[[bytes], bytes], words: str
) -> None:
    table = applications(199).append_column("note", pa.array(["four"] * 199))
    feather.write_feather(table, source / "d.arrow", compression="uncompressed")
    (source / "d.arrow").write_bytes(damage((source / "d.arrow").read_bytes()))
    ended = bulk(source, tmp_path / "out", *OPTIONS)
    assert (ended.code, ended.summary["rows"]) == (3, 3_500)
    assert ended.summary["failed_files"][0]["problem"].startswith(words)


def test_a_file_that_has_changed_or_is_gone_is_named_and_what_it_was_may_come_back(
    bulk: Bulk, source: Path, tmp_path: Path
) -> None:
    assert bulk(source, tmp_path / "out", *OPTIONS).code == 0
    for part in ("scores", "_bulk/done"):
        shutil.rmtree(tmp_path / "out" / part)
    shutil.move(source / "b.parquet", tmp_path / "kept")
    gone = bulk(source, tmp_path / "out", *OPTIONS)
    assert (gone.code, gone.summary["failed_files"]) == (
        3, [{"file": "b.parquet", "problem": "b.parquet is gone; allowed: another output folder"}],
    )  # fmt: skip
    write_input(source, {"b.parquet": 20})
    changed = bulk(source, tmp_path / "out", *OPTIONS)
    assert (changed.code, "b.parquet has changed since it was listed" in changed.messages) == (3, True)
    (tmp_path / "kept").replace(source / "b.parquet")
    assert bulk(source, tmp_path / "out", *OPTIONS).code == 0


def test_people_read_which_files_were_not_scored(
    bulk: Bulk, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truncate(source / "b.parquet")
    bulk(source, tmp_path / "out", *OPTIONS)
    assert status_command.main([str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("done, but for files that cannot be scored: 4 of 5 shards, 2,000 of 2,000 rows read")
    assert "part-00003 of b.parquet failed (" in said


def test_an_input_of_which_nothing_can_be_read_is_refused(bulk: Bulk, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.parquet").write_text("no table")
    ended = bulk(tmp_path / "in", tmp_path / "out")
    assert (ended.code, "no file can be read: a.parquet is not Parquet" in ended.messages) == (2, True), ended.messages
    assert not (tmp_path / "out").exists()


def test_a_store_that_fails_while_a_file_is_read_does_not_make_the_file_a_corrupt_one(
    source: Path, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_folder(str(source))
    real, reads = folder.open("a.parquet"), iter(range(100))

    class Failing:
        size, seek, tell, close = real.size, real.seek, real.tell, real.close

        def read(self, count: int) -> bytes:
            if next(reads) == 3:
                raise OSError("connection reset by peer")
            return bytes(real.read(count))

    @contextmanager
    def opened(self: Folder, name: str) -> Iterator[Failing]:
        yield Failing()

    monkeypatch.setattr(Folder, "open", opened)
    with (
        open_source(folder, "a.parquet", version.contract) as opened_source,
        pytest.raises(BulkError, match=r"in/a\.parquet: connection reset by peer") as caught,
    ):
        list(opened_source.batches(None))
    assert not isinstance(caught.value, CorruptError)
