"""The service against its own description, and against bytes of every kind."""

from __future__ import annotations

from typing import Any

import httpx
import schemathesis.openapi
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from unit.decisions.service.process import running_process
from unit.decisions.service.site import Site, key_of

PATHS = {
    "/v1/decisions", "/v1/decisions/{decision_id}", "/v1/decisions/{decision_id}/outcomes",
    "/v1/decisions/{decision_id}/proof", "/v1/decisions/{decision_id}/replay", "/v1/outcomes",
    "/v1/models/{name}/timeline", "/v1/models/{name}/drift", "/v1/models/{name}/drift/report",
    "/v1/applicants/{applicant_id}/inputs", "/v1/training-data", "/v1/checks",
}  # fmt: skip
KINDS = ["application/json", "application/x-ndjson", "text/csv", "text/csv; charset=utf-16", "x", ""]


def _settings(share: int) -> settings:
    return settings(
        max_examples=max(1, settings().max_examples // share), deadline=None, suppress_health_check=list(HealthCheck)
    )


def test_the_service_conforms_to_its_openapi_document(site: Site) -> None:
    with running_process(site.settings()) as process:
        schema = schemathesis.openapi.from_url(f"{process.url}/openapi.json")
        operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
        assert {operation.path for operation in operations} == PATHS
        for operation in operations:

            def hold(case: schemathesis.Case[Any]) -> None:
                # Times, cursors and files are more than a schema can ask for.
                case.call_and_validate(headers=key_of("all"), excluded_checks=[positive_data_acceptance])

            _settings(5)(given(case=operation.as_strategy())(hold))()
        assert process.alive()


def test_bytes_of_every_kind_fail_nothing(site: Site) -> None:
    with running_process(site.settings()) as process, httpx.Client(base_url=process.url, timeout=30) as http:
        bodies = st.binary(max_size=300) | st.text(max_size=100).map(str.encode)

        @_settings(1)
        @given(
            path=st.sampled_from(["/v1/outcomes", "/v1/models/m/timeline"]), kind=st.sampled_from(KINDS), body=bodies
        )
        def check(path: str, kind: str, body: bytes) -> None:
            answer = http.post(path, content=body, headers={**key_of("all"), "Content-Type": kind})
            assert answer.status_code in {200, 400, 415, 422}, answer.text

        check()
        assert process.alive()
