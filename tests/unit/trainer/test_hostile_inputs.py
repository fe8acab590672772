"""Whatever the files hold, the trainer ends with exit code 2 and a message, never with a traceback."""

import gzip
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.__main__ import main
from trainer.data.declaration import BUILT_IN_DECLARATION
from trainer.data.describe import describe
from trainer.data.synthetic import generate
from trainer.errors import BadInputError
from trainer.preparation import prepare
from trainer.settings import Settings

CSV = generate(40, seed=1).to_csv(index=False).encode()
DECLARATION = BUILT_IN_DECLARATION.read_bytes()
# Pieces that parsers treat specially.
PIECES = [
    *(b",", b";", b"\t", b'"', b"\n", b"\r", b" ", b"-", b"%"),
    *(b"NA", b"inf", b"1e999", b"1" * 400, b"2026-01-31", b"\x00", b"\xff", b"\xc3"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"PAR1", b"\x1f\x8b"),
]


@st.composite
def mutated(draw: st.DrawFn, original: bytes) -> bytes:
    """Return the original with a few pieces removed, replaced or put in."""
    content = original
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(content)))
        end = start + draw(st.sampled_from([0, 0, 1, 2, 40]))
        content = content[:start] + draw(st.sampled_from(PIECES) | st.binary(max_size=4)) + content[end:]
    return content


def tabular() -> st.SearchStrategy[bytes]:
    cell = st.sampled_from(["", "1", "x", '"', "1,5", "13%", "36 months", "2026-01-31", "\ufeff", "true", "bad", "ü"])
    row = st.lists(cell, min_size=1, max_size=4)
    return st.tuples(st.lists(row, min_size=1, max_size=8), st.sampled_from([",", ";", "\t"])).map(
        lambda table: "\n".join(table[1].join(row) for row in table[0]).encode()
    )


FILES = st.one_of(
    st.binary(max_size=300),
    mutated(CSV),
    mutated(CSV).map(gzip.compress),
    mutated(gzip.compress(CSV)),
    tabular(),
    st.text(max_size=200).map(lambda text: text.encode("utf-16", "surrogatepass")),
)
FEW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def prepared(data: bytes, declaration: bytes, folder: Path) -> None:
    (folder / "data").write_bytes(data)
    (folder / "features.json").write_bytes(declaration)
    given_settings = Settings(data=str(folder / "data"), tracking_uri="", features=folder / "features.json")
    with suppress(BadInputError):
        prepare(replace(given_settings, minimum_rows=1, test_share=0.5))


@FEW
@given(data=FILES)
def test_any_data_is_used_or_refused(data: bytes, tmp_path: Path) -> None:
    prepared(data, DECLARATION, tmp_path)


@FEW
@given(declaration=st.one_of(st.binary(max_size=200), mutated(DECLARATION)))
def test_any_declaration_is_used_or_refused(declaration: bytes, tmp_path: Path) -> None:
    prepared(CSV, declaration, tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@FEW
@given(data=st.data())
def test_any_value_in_a_declaration_is_used_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    document: dict[str, Any] = json.loads(DECLARATION)
    feature = document["features"][data.draw(st.integers(0, 10))]
    place = data.draw(st.sampled_from([document, document["target"], document.setdefault("file", {}), feature]))
    keys = [
        *place,
        "parse",
        "reference_date",
        "date_format",
        "encoding",
        "delimiter",
        "decimal",
        "columns",
        "trim",
        "ignored",
    ]
    likely = st.sampled_from(
        ["date", "percent", "months", "utf-16", ";", ",", "2026-01-31", "id", "%d", "gender", ["a"]]
    )
    place[data.draw(st.sampled_from(keys))] = data.draw(JSON | likely)
    prepared(CSV, json.dumps(document).encode(), tmp_path)


@FEW
@given(data=FILES)
def test_any_file_is_described_or_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(data)
    with suppress(BadInputError):
        describe(str(tmp_path / "data"), scratch=tmp_path)


@pytest.mark.usefixtures("_restored_signal_handler")
@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--data", "none.csv"], {}, "none.csv: No such file or directory"),
        (["--data", "."], {}, "Is a directory"),
        (["--data", ""], {}, "Is a directory"),
        (["--data", "http://[", "--features", "."], {}, "feature declaration .: Is a directory"),
        (["--data", "http://["], {}, "Invalid IPv6 URL"),
        (["--data", "s3://"], {}, "s3://: "),
        (["--data", "synthetic", "--work-dir", "/dev/null/x"], {}, "--work-dir /dev/null/x: Not a directory"),
        (["--data", "synthetic", "--seed", str(2**70)], {}, "seeds must be at most 4294967295"),
        (["--data", "synthetic", "--wait-seconds", "nan"], {}, "--wait-seconds nan: must be a number of seconds"),
        (["--data", "synthetic", "--model-name", "a/b"], {}, "--model-name 'a/b': must be a name without slashes"),
        (["--data", "synthetic"], {"JOB_COMPLETION_INDEX": "x"}, "JOB_COMPLETION_INDEX=x: must be an index"),
    ],
)  # fmt: skip
def test_wrong_arguments_end_with_2_and_a_message(
    arguments: list[str],
    environment: dict[str, str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main([*arguments, "--json"]) == 2
    assert message in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.usefixtures("_restored_signal_handler")
def test_an_unknown_store_ends_with_4_and_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--data", "synthetic", "--tracking-uri", "carrier-pigeon://x", "--json"]) == 4
    assert "MLflow failed" in json.loads(capsys.readouterr().out)["error"]
