"""Which parts of a query are parameters."""

from __future__ import annotations

import pytest

from decisions.checks.sql import RefusedError, bound


@pytest.mark.parametrize(
    ("query", "text", "names"),
    [
        ("SELECT :version", "SELECT $1::text", ["version"]),
        ("VALUES (:since, :version, :since) ;", "VALUES ($1::timestamptz, $2::text, $1::timestamptz) ",
         ["since", "version"]),
        ("SELECT 1::int", "SELECT 1::int", []),
        ("SELECT :version::int", "SELECT $1::text::int", ["version"]),
        ("SELECT ':version'':x', \":version\"", "SELECT ':version'':x', \":version\"", []),
        (r"SELECT E'\':version' || :stable", r"SELECT E'\':version' || $1::text", ["stable"]),
        ("SELECT 1 -- :what\n, /* :ever */ 2", "SELECT 1 -- :what\n, /* :ever */ 2", []),
        ("SELECT $a$:x$a$, $$:y$$", "SELECT $a$:x$a$, $$:y$$", []),
        ("SELECT a[1:2], a[b:c]", "SELECT a[1:2], a[b:c]", []),
    ],
)  # fmt: skip
def test_parameters_are_bound_and_all_else_stays(query: str, text: str, names: list[str]) -> None:
    assert bound(query) == (text, names)


def test_unknown_parameters_are_named() -> None:
    with pytest.raises(RefusedError, match=":applicant_id; allowed are :version, :stable, :since"):
        bound("SELECT :applicant_id")
