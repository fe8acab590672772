"""Media types that the endpoints read and write."""

from __future__ import annotations

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
OCTET_STREAM = "application/octet-stream"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
ARROW_FILE = "application/vnd.apache.arrow.file"
PARQUET = "application/vnd.apache.parquet"
TABLES = (ARROW_STREAM, ARROW_FILE, PARQUET)
# Bytes without a charset.
BINARY = frozenset({OCTET_STREAM, *TABLES})
