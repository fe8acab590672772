"""What schemathesis makes of the service's own description, and hypothesis of nothing but bytes."""

from __future__ import annotations

import contextlib
import http.client
import itertools
from typing import Any

import hypothesis
import schemathesis.openapi
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from unit.scorer.fuzz.connections import PATHS, TYPES, obey
from unit.scorer.fuzz.wire import Answer


def _settings(examples: int) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=max(1, examples), deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


def fuzz_by_schema(url: str, requests: int, seed: int) -> int:
    """Hold every operation to the OpenAPI document; return how many requests that took."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    counter = itertools.count()
    for operation in operations:

        def check(case: schemathesis.Case[Any]) -> None:
            next(counter)
            # Columns of one length, or a tensor's data that fit its shape, are more than a schema can ask for.
            loose = case.path not in {"/v1/score", "/v1/model"}
            case.call_and_validate(excluded_checks=[positive_data_acceptance] if loose else [])

        examples = _settings(requests // len(operations))
        hypothesis.seed(seed)(examples(given(case=operation.as_strategy())(check)))()
    return next(counter)


def fuzz_raw_bytes(port: int, requests: int, seed: int) -> int:
    """Send bytes of every kind to every path under every content type; return how many requests that were."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    counter = itertools.count()
    types = [kind for kind in TYPES if kind.isascii()]
    paths = [path for path in PATHS if path.isascii() and path.startswith("/")]
    bodies = st.binary(max_size=300) | st.text(max_size=100).map(str.encode) | _json().map(str.encode)

    @hypothesis.seed(seed)
    @_settings(requests)
    @given(path=st.sampled_from(paths), kind=st.sampled_from(types), body=bodies)
    def check(path: str, kind: str, body: bytes) -> None:
        next(counter)
        try:
            connection.request("POST", path, body, {"Content-Type": kind})
            found = connection.getresponse()
            headers = {name.lower(): value for name, value in found.getheaders()}
            obey(Answer(found.status, headers, found.read()))
        except BaseException:
            # The next example gets a new one.
            connection.close()
            raise

    with contextlib.closing(connection):
        check()
    return next(counter)


def _json() -> st.SearchStrategy[str]:
    """Return JSON's own signs in any order: what parsers stumble over more than over random bytes."""
    signs = ["{", "}", "[", "]", ",", ":", '"', "0", "-", "1e9", "true", "null", '"a"', '{"a":', '"inputs"',
             '"dataframe_split"', '"columns"', '"data"', "\\u", "\\ud800", " ", "\n"]  # fmt: skip
    return st.lists(st.sampled_from(signs), max_size=40).map("".join)
