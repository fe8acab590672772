"""Training data from S3 and web servers, and what the scratch volume cannot take of it."""

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pandas as pd
import pytest

from s3_store import simulated_bucket
from trainer.errors import BadInputError
from trainer.preparation import prepare
from unit.trainer.test_large import assert_equal, settings_for, written


@pytest.fixture
def bucket() -> Iterator[str]:
    with simulated_bucket("data") as name:
        yield name


def test_objects_of_a_pattern_are_read_one_after_the_other(bucket: str, loans: pd.DataFrame, tmp_path: Path) -> None:
    client = boto3.client("s3")
    parts = {
        "loans/2.parquet": loans[600:],
        "loans/1.parquet": loans[:600],
        "loans/old/0.parquet": loans,
        "loans/x": loans,
    }
    for key, part in parts.items():
        client.upload_file(str(written(part, tmp_path / "part")), bucket, key)
    scratch = tmp_path / "scratch"
    streamed = prepare(settings_for("s3://data/loans/*.parquet", scratch_dir=scratch))
    assert_equal(streamed.training, prepare(settings_for(written(loans, tmp_path / "whole.parquet"))).training)
    # Nothing that was downloaded is left, only the folder of the rows.
    assert list(scratch.iterdir()) == [getattr(streamed.training.storage, "folder", None)]
    with pytest.raises(BadInputError, match=r"s3://data/none/\*: no file matches"):
        prepare(settings_for("s3://data/none/*"))


@pytest.mark.parametrize("name", ["1.parquet", "*.parquet", "1.csv"])
def test_an_object_that_the_scratch_volume_cannot_take_is_refused_before_it_is_there(
    name: str, bucket: str, loans: pd.DataFrame, tmp_path: Path
) -> None:
    client = boto3.client("s3")
    client.upload_file(str(written(loans, tmp_path / "part")), bucket, "loans/1.parquet")
    client.put_object(Bucket=bucket, Key="loans/1.csv", Body=loans.to_csv(index=False).encode())
    scratch = tmp_path / "scratch"
    with pytest.raises(BadInputError, match=r"cannot take s3://data/loans/1\.[a-z]+: .* more are needed, and 0.0 MiB"):
        prepare(settings_for(f"s3://data/loans/{name}", scratch_dir=scratch, scratch_size="4Ki"))
    assert not [path for path in scratch.rglob("*") if path.is_file()]


def test_what_a_killed_process_left_behind_takes_no_room_from_the_next_one(
    bucket: str, loans: pd.DataFrame, tmp_path: Path
) -> None:
    source = written(loans, tmp_path / "part")
    boto3.client("s3").upload_file(str(source), bucket, "loans.parquet")
    scratch = tmp_path / "scratch"
    left = scratch / "training-rows-of-a-killed-process"
    left.mkdir(parents=True)
    (left / "row.npy").write_bytes(bytes(1 << 20))
    prepare(settings_for("s3://data/loans.parquet", scratch_dir=scratch, scratch_size="1Mi"))
    assert not left.exists()


class _Compressed(BaseHTTPRequestHandler):
    """Answers with zeros, which are few bytes on their way."""

    def do_GET(self) -> None:
        body = gzip.compress(bytes(1 << 20))
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def test_a_download_that_grows_beyond_the_scratch_volume_is_ended(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Compressed) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/loans.csv"
        with pytest.raises(BadInputError, match="it is larger than the room that is left"):
            prepare(settings_for(url, scratch_dir=tmp_path, scratch_size="100Ki"))
        server.shutdown()
    assert not [*tmp_path.iterdir()]
