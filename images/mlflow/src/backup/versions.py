"""Where a registered version's files are in the artifact bucket, and whether they match the digests in its tags."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from backup.manifest import Version


def key_of(version: Version, file: str, bucket: str) -> str | None:
    """Return the key of a version's file, None if its location is not in the artifact bucket.

    MLflow serves `mlflow-artifacts:/PATH` from the bucket's key PATH; without its proxy the location is an s3:// URL.
    """
    location = urlsplit(version.location)
    inside = location.scheme == "mlflow-artifacts" or (location.scheme == "s3" and location.netloc == bucket)
    return f"{location.path.strip('/')}/{file}" if inside else None


def problems_of(version: Version, found: Mapping[str, str], bucket: str) -> list[str]:
    """Compare a version's files, given as SHA-256 by key, with its tags; return what is wrong in words."""
    wrong = []
    for file, digest in sorted(version.digests.items()):
        key = key_of(version, file, bucket)
        if key is None:
            wrong.append(f"{version.location} is not in the artifact bucket {bucket}")
        elif key not in found:
            wrong.append(f"{key} is missing")
        elif found[key] != digest:
            wrong.append(f"{key} has SHA-256 {found[key]}, its tag says {digest}")
    return wrong
