"""An S3 store for all tests of a process that import it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from s3_store import seaweedfs


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as variables:
        yield variables
