"""Handing segments over through S3: a pod that ends while Postgres is away leaves them there, and another takes them.

`<prefix>/handover/<pod>/<log id>/` has the segments, then `complete.json`, which says that they are all there, and
`claim.json` while a shipper takes them up. Two that take the same ones up do the same work twice, and the database
takes it once; the claim only saves that work. So a claim that was not renewed for a while is free again.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from decisions.errors import DamagedError, DecisionsError
from decisions.segments import folder as files
from decisions.segments.folder import LogFolder
from decisions.segments.reader import copy_to

logger = logging.getLogger(__name__)
_COMPLETE, _CLAIM = "complete.json", "claim.json"
_CLAIM_TIME = timedelta(minutes=15)
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_ABSENT = {"NoSuchKey", "404"}


class HandoverError(DecisionsError):
    """S3 cannot be reached or refuses."""


class Complete(msgspec.Struct, frozen=True):
    """What was handed over: the names of the segments of a log of a pod."""

    pod: str
    log_id: UUID
    segments: tuple[str, ...]


@dataclass
class _Taking:
    """A log that is being taken up: its prefix, and the segments not yet shipped, the one in work first."""

    prefix: str
    complete: Complete
    left: list[str]
    folder: LogFolder
    fetched: bool = False


@dataclass
class Handover:
    """The place in S3; its methods raise HandoverError."""

    client: Any = field(repr=False)
    bucket: str
    prefix: str
    _now: Any = field(default=lambda: datetime.now(UTC), repr=False)
    _taking: _Taking | None = None

    @property
    def taking(self) -> bool:
        """Whether a log is being taken up."""
        return self._taking is not None

    def hand_over(self, folder: LogFolder) -> int:
        """Upload the segments of a log and delete those that nobody writes to; return how many.

        Raises:
            DecisionsError: One could not be uploaded.
        """
        prefix = f"{self._root}{folder.pod}/{folder.log_id}/"
        closed, segments = folder.writer_is_gone(), folder.segments()
        with tempfile.TemporaryDirectory(dir=folder.path.parent) as place, self._errors(prefix):
            for segment in segments:
                whole = Path(place) / segment.name
                try:
                    copy_to(segment, whole)
                except DamagedError as error:
                    logger.error("damaged: %s: %s; it is uploaded as it is", segment, error)  # noqa: TRY400
                    whole = segment
                self.client.upload_file(str(whole), self.bucket, prefix + segment.name)
            if folder.state_file.exists():
                self.client.upload_file(str(folder.state_file), self.bucket, prefix + folder.state_file.name)
            document = Complete(folder.pod, folder.log_id, tuple(segment.name for segment in segments))
            self.client.put_object(Bucket=self.bucket, Key=prefix + _COMPLETE, Body=msgspec.json.encode(document))
        if closed:
            for segment in segments:
                files.remove(segment)
        else:
            logger.warning("log %s: the service still writes to it; what it writes from now on is not handed over",
                           folder.log_id)  # fmt: skip
        logger.info("handed over %d segments of the log %s to s3://%s/%s", len(segments), folder.log_id, self.bucket,
                    prefix)  # fmt: skip
        return len(segments)

    def take_up(self, logs: Path) -> int:
        """Do one step of taking a log up, and return how many segments were fetched.

        That is to claim it, to fetch its next segment into the folder of all logs once the one before it is shipped, or
        to forget it when all are.
        """
        if self._taking is None:
            self._taking = self._claim_one(logs)
        taking = self._taking
        if taking is None:
            return 0
        with self._errors(taking.prefix):
            if taking.fetched:
                if taking.folder.segments():
                    return 0  # not shipped yet
                self._dispose(taking, taking.left.pop(0))
                taking.fetched = False
            if taking.left:
                self._put_claim(taking.prefix)
            while taking.left:
                if self._fetch(taking):
                    taking.fetched = True
                    return 1
                taking.left.pop(0)  # shipped by another, to whom this claim looked abandoned
            for name in (taking.folder.state_file.name, _COMPLETE, _CLAIM):
                self.client.delete_object(Bucket=self.bucket, Key=taking.prefix + name)
            logger.info("s3://%s/%s is shipped", self.bucket, taking.prefix)
            self._taking = None
        return 0

    def stop_taking(self) -> None:
        """Leave what is being taken up to others: it is still in S3."""
        if self._taking and self._taking.fetched:
            for segment in self._taking.folder.segments():
                files.remove(segment)
        if self._taking:
            with contextlib.suppress(HandoverError), self._errors(self._taking.prefix):
                self.client.delete_object(Bucket=self.bucket, Key=self._taking.prefix + _CLAIM)
        self._taking = None

    @property
    def _root(self) -> str:
        return f"{self.prefix}/handover/"

    def _claim_one(self, logs: Path) -> _Taking | None:
        """Claim a log that is completely there and that nobody has claimed."""
        with self._errors(self._root):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._root)
            found = {item["Key"]: item["LastModified"] for page in pages for item in page.get("Contents", [])}
            for key in [key for key in found if key.endswith("/" + _COMPLETE)]:
                prefix = key.removesuffix(_COMPLETE)
                claimed = found.get(prefix + _CLAIM)
                if claimed and self._now() - claimed < _CLAIM_TIME:
                    continue
                if not self._put_claim(prefix, first=claimed is None):
                    continue
                body = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
                complete = msgspec.json.decode(body, type=Complete)
                folder = LogFolder(logs / Path(complete.pod).name / str(complete.log_id))
                logger.info("taking up s3://%s/%s", self.bucket, prefix)
                return _Taking(prefix, complete, [name for name in complete.segments if prefix + name in found], folder)
        return None

    def _put_claim(self, prefix: str, *, first: bool = False) -> bool:
        """Claim a log, or renew the claim; return False if another shipper was first."""
        condition = {"IfNoneMatch": "*"} if first else {}
        try:
            self.client.put_object(Bucket=self.bucket, Key=prefix + _CLAIM, Body=b"{}", **condition)
        except self.client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in _TAKEN:
                return False
            raise
        return True

    def _fetch(self, taking: _Taking) -> bool:
        """Fetch the next segment of a log; return False if it is no longer there."""
        folder, name = taking.folder.path, taking.left[0]
        folder.mkdir(parents=True, exist_ok=True)
        if not taking.folder.state_file.exists():
            # Absent for a log of which nothing was shipped.
            self._download(taking.prefix + taking.folder.state_file.name, taking.folder.state_file)
        # Not a segment until it is all there.
        partial = folder / f"{name}.part"
        if not self._download(taking.prefix + name, partial):
            return False
        partial.rename(folder / name)
        return True

    def _download(self, key: str, target: Path) -> bool:
        try:
            self.client.download_file(self.bucket, key, str(target))
        except self.client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in _ABSENT:
                return False
            raise
        return True

    def _dispose(self, taking: _Taking, name: str) -> None:
        """Delete a segment that is shipped; one that was set aside moves to where damaged ones are kept."""
        kept = taking.folder.path / (name + files.SET_ASIDE)
        if kept.exists():
            place = f"{self.prefix}/damaged/{taking.complete.pod}/{taking.complete.log_id}/{name}"
            source = {"Bucket": self.bucket, "Key": taking.prefix + name}
            self.client.copy_object(Bucket=self.bucket, Key=place, CopySource=source)
            files.remove(kept)
            logger.error("damaged: it is kept as s3://%s/%s", self.bucket, place)
        self.client.delete_object(Bucket=self.bucket, Key=taking.prefix + name)

    @contextlib.contextmanager
    def _errors(self, place: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error  # noqa: PLC0415 - most shippers have no S3, and need not its memory
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            yield
        except (Boto3Error, BotoCoreError, ClientError, msgspec.MsgspecError) as error:
            raise HandoverError(f"s3://{self.bucket}/{place}: {error}") from error


def connect(bucket: str, prefix: str, endpoint_url: str | None) -> Handover:
    """Return the place in a bucket, as boto3's own variables describe its store; `endpoint_url` may name another."""
    import boto3  # noqa: PLC0415 - as above
    from botocore.config import Config  # noqa: PLC0415

    config = Config(
        connect_timeout=3, read_timeout=10, retries={"max_attempts": 3, "mode": "standard"},
        request_checksum_calculation="when_required", response_checksum_validation="when_required",
    )  # fmt: skip
    return Handover(boto3.client("s3", endpoint_url=endpoint_url, config=config), bucket, prefix)
