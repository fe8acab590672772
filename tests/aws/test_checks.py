"""Static checks: Trivy finds only documented exceptions, and each declaration is used and documented."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from aws.programs import TRIVY, program
from aws.terraform import terraform
from charts.rendering import run_helm
from conftest import REPOSITORY

INFRA = REPOSITORY / "infra/aws"
pytestmark = pytest.mark.terraform
VARIABLES = {
    "domain": "scoring.example.org",
    "zone_id": "Z0123456789ABCDEFGHIJ",
    "allowed_cidrs": ["203.0.113.0/24"],
    "github": {"repository": "acme/credit-risk", "owner_id": 11, "repository_id": 22},
    "database": {},
    "decision_log": {},
}
Trivy = Callable[[Path], list[str]]


@pytest.fixture(scope="module")
def trivy(tmp_path_factory: pytest.TempPathFactory) -> Trivy:
    """A function that scans a file or folder and returns findings as `rule file:line resource: title`."""
    scratch = tmp_path_factory.mktemp("trivy")
    executable = program(TRIVY, scratch / "log")
    (scratch / "it.tfvars.json").write_text(json.dumps(VARIABLES))

    def scan(target: Path) -> list[str]:
        result = subprocess.run(
            [str(executable), "config", "--skip-check-update", "--skip-version-check", "--disable-telemetry",
             "--cache-dir", str(scratch / "cache"), "--ignorefile", str(REPOSITORY / ".trivyignore.yaml"),
             "--tf-vars", str(scratch / "it.tfvars.json"), "--format", "json", str(target)],
            capture_output=True, text=True, cwd=scratch,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        results = json.loads(result.stdout).get("Results", [])
        # Guard against scanning nothing, which would have no findings either.
        assert sum(entry.get("MisconfSummary", {}).get("Successes", 0) for entry in results) > 20, result.stderr
        return [
            f"{finding['ID']} {entry['Target']}:{finding['CauseMetadata'].get('StartLine')} "
            f"{finding['CauseMetadata'].get('Resource', '')}: {finding['Title']}"
            for entry in results
            for finding in entry.get("Misconfigurations", [])
        ]

    return scan


@pytest.mark.parametrize("folder", ["infra/aws", "images", "manifests"])
def test_trivy_finds_only_documented_exceptions(trivy: Trivy, folder: str) -> None:
    assert trivy(REPOSITORY / folder) == []


@pytest.mark.parametrize("options", [[], ["--values", "credit-risk/ci/decisions-values.yaml"]], ids=["", "decisions"])
def test_trivy_finds_only_documented_exceptions_in_the_rendered_stack(
    trivy: Trivy, options: list[str], tmp_path: Path
) -> None:
    stack = ("template", "credit-risk", "credit-risk", "--values", "credit-risk/values-k3s.yaml", *options)
    rendered = run_helm(*stack)
    assert rendered.returncode == 0, rendered.stderr
    (tmp_path / "stack.yaml").write_text(rendered.stdout)
    assert trivy(tmp_path) == []


@pytest.mark.parametrize(
    ("file", "good", "bad", "rule"),
    [
        ("modules/cluster/server.tf", 'http_tokens                 = "required"',
         'http_tokens                 = "optional"', "AWS-0028"),
        ("modules/entry/main.tf", "drop_invalid_header_fields = true",
         "drop_invalid_header_fields = false", "AWS-0052"),
        ("modules/storage/main.tf", "restrict_public_buckets = true", "restrict_public_buckets = false", "AWS-0093"),
        ("modules/registry/main.tf", "scan_on_push = true", "scan_on_push = false", "AWS-0030"),
    ],
    ids=["metadata", "headers", "public bucket", "image scan"],
)  # fmt: skip
def test_trivy_detects_a_weakened_setting(
    trivy: Trivy, tmp_path: Path, file: str, good: str, bad: str, rule: str
) -> None:
    shutil.copytree(INFRA, tmp_path / "aws", ignore=shutil.ignore_patterns(".terraform*"))
    target = tmp_path / "aws" / file
    assert good in target.read_text()
    target.write_text(target.read_text().replace(good, bad, 1))
    assert {finding.split()[0] for finding in trivy(tmp_path / "aws")} == {rule}


def test_every_exception_states_its_reason() -> None:
    for file in INFRA.rglob("*.tf"):
        lines = file.read_text().splitlines()
        for before, line in itertools.pairwise(lines):
            if line.startswith("#trivy:ignore"):
                assert before.startswith("#"), f"{file.relative_to(REPOSITORY)}: {line}"


def test_terraform_is_formatted() -> None:
    result = subprocess.run([terraform(), "fmt", "-check", "-recursive", "-diff", str(INFRA)],
                            capture_output=True, text=True)  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr


MODULES = sorted({file.parent for file in INFRA.rglob("*.tf")})


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(REPOSITORY)))
def test_a_module_documents_its_variables_and_outputs_and_declares_nothing_unused(module: Path) -> None:
    text = "\n".join(file.read_text() for file in sorted(module.glob("*.tf")))
    blocks = re.findall(
        r'^(variable|output|data|locals)(?: "([\w-]+)")?(?: "([\w-]+)")? \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL
    )
    for kind, name, second, body in blocks:
        if kind == "locals":
            for local in re.findall(r"^  (\w+) += ", body, re.MULTILINE):
                assert re.search(rf"\blocal\.{local}\b", text), f"local.{local} is not used"
        elif kind == "data":
            assert re.search(rf"\bdata\.{name}\.{second}\b", text), f"data.{name}.{second} is not used"
        else:
            assert re.search(r'^  description = "\w.*\."$', body, re.MULTILINE), f"{kind} {name} has no description"
        if kind == "variable":
            assert re.search(r"^  type += ", body, re.MULTILINE), f"variable {name} has no type"
            assert re.search(rf"\bvar\.{name}\b", text.replace(body, "")), f"var.{name} is not used"
