"""Where a version's files are in the bucket, and what is said of those that are missing or differ."""

from __future__ import annotations

import pytest

from backup.manifest import Version
from backup.versions import key_of, problems_of


def version(location: str, **digests: str) -> Version:
    return Version(name="loans", version=1, location=location, digests=digests)


@pytest.mark.parametrize(
    ("location", "key"),
    [
        ("mlflow-artifacts:/1/models/m-1/artifacts", "1/models/m-1/artifacts/model"),
        ("mlflow-artifacts://mlflow:5000/1/run/artifacts/model", "1/run/artifacts/model/model"),
        ("s3://mlflow/1/run/artifacts", "1/run/artifacts/model"),
        ("s3://elsewhere/1/run/artifacts", None),
        ("file:///models", None),
        ("", None),
    ],
)
def test_a_files_key_follows_from_the_versions_location(location: str, key: str | None) -> None:
    assert key_of(version(location), "model", "mlflow") == key


@pytest.mark.parametrize(
    ("found", "problems"),
    [
        ({"a/model": "1", "a/card": "2"}, []),
        ({"a/model": "1"}, ["a/card is missing"]),
        ({"a/model": "3", "a/card": "2"}, ["a/model has SHA-256 3, its tag says 1"]),
    ],
)
def test_each_file_is_compared_with_its_tag(found: dict[str, str], problems: list[str]) -> None:
    assert problems_of(version("mlflow-artifacts:/a", model="1", card="2"), found, "mlflow") == problems


def test_a_location_outside_of_the_bucket_is_a_problem() -> None:
    (problem,) = problems_of(version("s3://elsewhere/a", model="1"), {}, "mlflow")
    assert problem == "s3://elsewhere/a is not in the artifact bucket mlflow"
