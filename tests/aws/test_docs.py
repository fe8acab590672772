"""docs/aws.md: its examples are valid, what it names exists, and its costs add up."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from aws.terraform import terraform
from aws.test_variables import SOURCE
from conftest import REPOSITORY

DOCUMENT = (REPOSITORY / "docs/aws.md").read_text()
EXAMPLES = re.findall(r"```hcl\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.mark.terraform
def test_the_variables_of_both_examples_are_valid_together(tmp_path: Path) -> None:
    assert len(EXAMPLES) == 2
    (tmp_path / SOURCE.name).write_text(SOURCE.read_text())
    (tmp_path / "terraform.tfvars").write_text("\n".join(EXAMPLES))
    result = subprocess.run(
        [terraform(), "plan", "-input=false", "-no-color"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Warning: Value for undeclared variable" not in result.stdout


def test_every_output_and_variable_in_the_document_exists() -> None:
    text = "\n".join(file.read_text() for file in (REPOSITORY / "infra/aws").glob("*.tf"))
    outputs = set(re.findall(r"infra/aws output -\w+\s+(\w+)", DOCUMENT))
    assert outputs
    assert outputs <= set(re.findall(r'output "(\w+)"', text))
    assigned = set(re.findall(r"`(\w+) = ", DOCUMENT)) | set(re.findall(r"-var (\w+)=", DOCUMENT))
    assert assigned <= set(re.findall(r'variable "(\w+)"', text))


def test_the_costs_add_up() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", DOCUMENT.partition("## What it costs")[2], re.MULTILINE)
    rows = [row for row in rows if re.search(r"\d\**$", row[1])]
    *parts, total = [[int(re.findall(r"\d+", cell)[-1]) for cell in row[1:]] for row in rows]
    assert len(parts) >= 7
    assert [sum(column) for column in zip(*parts, strict=True)] == total


def test_the_scripts_and_files_in_the_document_exist() -> None:
    named = re.findall(r"(?<![\w/.])((?:\.github|charts|manifests|tests|infra)/[\w./-]+\w)", DOCUMENT)
    assert [name for name in named if not (REPOSITORY / name).exists()] == ["infra/aws/terraform.tfvars"]
