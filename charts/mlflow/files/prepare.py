"""Prepare the start of the server: wait for the database, create the buckets, and migrate the database schema."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

WAIT_SECONDS = 240
DEADLINE = time.monotonic() + WAIT_SECONDS
BUCKET_EXISTS = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}


def wait_for(what: str, attempt: Callable[[], None]) -> None:
    """Repeat `attempt` until it succeeds; exit with its last error after the deadline."""
    while True:
        try:
            attempt()
        except (OSError, BotoCoreError, ClientError) as error:
            if time.monotonic() > DEADLINE:
                sys.exit(f"{what} is still unavailable after {WAIT_SECONDS} s: {error}")
            print(f"waiting for {what}: {error}", flush=True)
            time.sleep(2)
        else:
            print(f"{what} is ready", flush=True)
            return


def database() -> None:
    """Check that the database accepts TCP connections."""
    socket.create_connection((os.environ["DATABASE_HOST"], int(os.environ["DATABASE_PORT"])), timeout=5).close()


def bucket(name: str) -> Callable[[], None]:
    """Return a function that creates the bucket if it does not exist."""

    def attempt() -> None:
        s3 = boto3.client("s3", config=Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 1}))
        region = s3.meta.region_name
        # AWS wants every other region named, and refuses this one's name.
        location = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            s3.head_bucket(Bucket=name)
        except ClientError as missing:
            if missing.response["Error"]["Code"] not in {"404", "NoSuchBucket"}:
                raise
            try:
                s3.create_bucket(Bucket=name, **location)
            except ClientError as error:
                if error.response["Error"]["Code"] not in BUCKET_EXISTS:
                    raise

    return attempt


wait_for("the database", database)
for name in os.environ["BUCKETS"].split(","):
    wait_for(f"the bucket {name}", bucket(name))
sys.exit(subprocess.run(["mlflow", "db", "upgrade", os.environ["MLFLOW_BACKEND_STORE_URI"]]).returncode)
