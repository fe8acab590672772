"""`python -m trainer` and the other programs work in the project's environment as they do in tests."""

import tomllib

from conftest import REPOSITORY

# The file is copied into .venv/lib/python3.*/site-packages, whose paths are relative to it.
UP = "../../../../"
# No sources of a program that is started by its module's name: tests, and scripts that find their neighbors themselves.
TESTS_ALONE = {"tests", "benchmarks/scale"}


def test_the_environment_finds_the_same_sources_as_pytest() -> None:
    listed = (REPOSITORY / "requirements/sources.pth").read_text(encoding="utf-8").splitlines()
    options = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"][
        "ini_options"
    ]
    assert [line.removeprefix(UP) for line in listed] == [
        path for path in options["pythonpath"] if path not in TESTS_ALONE
    ]
    assert all(line.startswith(UP) and (REPOSITORY / line.removeprefix(UP)).is_dir() for line in listed)
