"""Create the bucket of the decision log unless it exists."""

import os

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

EXISTS = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}

name = os.environ["DECISIONS_S3_BUCKET"]
# Shorter than the kubelet's patience: it starts this container again until the object store answers.
s3 = boto3.client("s3", config=Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 3}))
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
        if error.response["Error"]["Code"] not in EXISTS:
            raise
print(f"the bucket {name} is ready", flush=True)
