"""Runs a command line in this process, as a shell does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass
class Shell:
    """Runs commands of one program.

    Attributes:
        patch: Sets the arguments of the process.
        capture: Has what was written.
        program: The program's name, as it stands in its arguments.
        main: The program.
        as_json: The options with which it writes JSON.
    """

    patch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]
    program: str
    main: Callable[[], object]
    as_json: tuple[str, ...]

    def __call__(self, *arguments: str) -> Ended:
        self.patch.setattr(sys, "argv", [self.program, *arguments])
        self.capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            self.main()
        out, err = self.capture.readouterr()
        assert "Traceback" not in err
        return Ended(int(ended.value.code or 0), out, err)

    def json(self, *arguments: str) -> Any:
        ended = self(*arguments, *self.as_json)
        assert ended.code == 0, ended.err
        return json.loads(ended.out)
