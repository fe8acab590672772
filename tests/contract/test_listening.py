"""The servers listen on IPv4, on IPv6, and on both, whichever the pod has, without a setting."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from charts.rendering import pod_templates, render
from conftest import REPOSITORY
from localcluster.console import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="network namespaces need root"),
    pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this kernel has no IPv6"),
]
# The arguments of Python and the variables that start a server on PORT, given a folder for its files.
Program = Callable[[Path], tuple[list[str], dict[str, str]]]
PORT = 5000
# What to do in a new network namespace, and the loopback addresses that there are then.
STACKS = {
    "dual-stack": ("true", ("127.0.0.1", "[::1]")),
    "IPv4 only": ("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6", ("127.0.0.1",)),
    "IPv6 only": ("ip address delete 127.0.0.1/8 dev lo", ("[::1]",)),
}
WAIT_AND_GET = """
import sys, time, urllib.error, urllib.request
deadline = time.monotonic() + 120
while True:
    try:
        sys.exit(urllib.request.urlopen(sys.argv[1], timeout=5).status != 200)
    except OSError as error:
        if time.monotonic() > deadline:
            sys.exit(f"{sys.argv[1]}: {error}")
        time.sleep(0.2)
"""


def scorer(folder: Path) -> tuple[list[str], dict[str, str]]:
    return ["-m", "scorer"], {"PYTHONPATH": source("images/api"), "SCORER_MANAGEMENT_PORT": str(PORT),
                              "SCORER_CACHE_DIR": str(folder)}  # fmt: skip


def operator(folder: Path) -> tuple[list[str], dict[str, str]]:
    config = folder / "kubeconfig"
    config.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}], "users": [{"name": "u", "user": {}}],
    }))  # fmt: skip
    return ["-m", "promoter"], {"PYTHONPATH": source("operator"), "KUBECONFIG": str(config),
                                "PROMOTER_PORT": str(PORT), "PROMOTER_NAMESPACES": "bank"}  # fmt: skip


def mlflow(folder: Path) -> tuple[list[str], dict[str, str]]:
    (container,) = pod_templates(render("mlflow/ci/default-values.yaml"))["Deployment/mlflow"]["spec"]["containers"]
    host = next(argument for argument in container["args"] if argument.startswith("--host"))
    store = f"--backend-store-uri=sqlite:///{folder}/m.db"
    return ["-m", "mlflow", "server", host, f"--port={PORT}", "--workers=1", store], {}


def source(part: str) -> str:
    return str(REPOSITORY / part / "src")


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize(
    ("program", "path"),
    [(scorer, "/healthz"), (operator, "/healthz"), pytest.param(mlflow, "/health", marks=pytest.mark.soak)],
)
def test_a_server_answers_on_every_address_that_there_is(
    program: Program, path: str, stack: str, tmp_path: Path
) -> None:
    arguments, variables = program(tmp_path)
    setup, addresses = STACKS[stack]
    with in_new_network(setup, [sys.executable, *arguments], variables, tmp_path / "log") as process:
        for address in addresses:
            url = f"http://{address}:{PORT}{path}"
            probe = [sys.executable, "-c", WAIT_AND_GET, url]
            enter = ["nsenter", f"--net=/proc/{process.pid}/ns/net", *probe]
            result = subprocess.run(enter, capture_output=True, text=True)
            assert result.returncode == 0, f"{result.stderr}\n{(tmp_path / 'log').read_text()[-3000:]}"


@contextmanager
def in_new_network(
    setup: str, command: list[str], variables: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a network namespace of its own for the duration of the block."""
    script = f'ip link set lo up && {setup} && exec "$@"'
    with log.open("wb") as output:
        process = subprocess.Popen(["unshare", "--net", "sh", "-c", script, "sh", *command], stdout=output,
                                   stderr=output, env={**os.environ, **variables}, start_new_session=True)  # fmt: skip
    try:
        wait_for("the network namespace", lambda: _own_network(process.pid), timeout_seconds=60)
        yield process
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _own_network(pid: int) -> str | None:
    """Return None once the process is in its new namespace: `unshare` starts in this one."""
    here, there = (Path(f"/proc/{process}/ns/net").readlink() for process in ("self", pid))
    return None if there != here else f"process {pid} is still in the namespace {here}"
