"""Times that tests measure, for people and for pytest's report."""

from __future__ import annotations

from typing import Any

from localcluster.console import say


def report(record: Any, what: str, seconds: float) -> None:
    """Print a measured time, and add it to pytest's report; `record` is the fixture `record_testsuite_property`."""
    say(f"{what}: {seconds:.1f}")
    record(what, round(seconds, 1))
