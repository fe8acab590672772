"""The cluster that `make up` would choose: created for the tests if it does not run, and left as it was found."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conftest import read_loans
from e2e.backends import Backends
from e2e.diagnosis import diagnose
from e2e.environment import Environment
from e2e.kubernetes_api import kubernetes_api
from e2e.model_versions import VersionPublisher, download_production
from e2e.namespace import scenario_namespaces
from e2e.parallel import ScenarioRuns, is_scenario
from e2e.registry_client import registry_client
from localcluster import object_store
from localcluster.__main__ import choose
from localcluster.cluster import Cluster
from localcluster.console import ClusterError
from localcluster.embedded.cluster import EmbeddedCluster
from localcluster.stack import Stack
from trainer.data.declaration import BUILT_IN_DECLARATION, load_declaration

NAMESPACE = "e2e"
HOST = "e2e.credit-risk.test"
CLUSTER = pytest.StashKey[Cluster]()
SLOWEST = 20
SHOWN = pytest.StashKey[set[str]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put scenarios last: all run from the first one on, and nothing else beside them, because they use both cores."""
    items.sort(key=is_scenario)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Print a failure at once, with what the cluster looks like: the report comes at the end of a run of half an hour.

    A fixture that many tests share is described once.
    """
    report = yield
    shown = item.session.stash.setdefault(SHOWN, set())
    text = report.longreprtext
    if report.failed and text not in shown and (cluster := item.session.stash.get(CLUSTER, None)):
        shown.add(text)
        found = diagnose(cluster)
        report.sections.append(("The cluster at the time of the failure", found))
        now = time.strftime("%H:%M:%S")
        print(f"\n{now} {report.nodeid} failed in {report.when}: {text.strip().splitlines()[-1]}\n{found}",
              file=sys.__stderr__, flush=True)  # fmt: skip
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the scenarios that took longest; pytest's own durations say how long it waited for their results."""
    passed = terminalreporter.getreports("passed")
    took = [(value, report.nodeid) for report in passed if report.when == "call"
            for name, value in report.user_properties if name == "scenario_seconds"]  # fmt: skip
    if took:
        terminalreporter.write_sep("=", "slowest scenarios")
    for seconds, nodeid in sorted(took, reverse=True)[:SLOWEST]:
        terminalreporter.write_line(f"{seconds:6.0f} s {nodeid}")


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A Ready cluster; removed at the end unless it ran before."""
    chosen = choose("auto")
    if isinstance(chosen, EmbeddedCluster) and not chosen.running() and (reason := _reason_for_no_cluster()):
        pytest.skip(f"no cluster can run here: {reason}")
    was_running = chosen.running()
    # A terminated run takes down what it started, as an interrupted one does; so does one that began in the background,
    # where a shell lets it ignore SIGINT.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        chosen.up()
    except ClusterError as error:
        if not was_running:
            chosen.down()
        pytest.fail(str(error))
    request.session.stash[CLUSTER] = chosen
    yield chosen
    if not was_running:
        chosen.down()


@pytest.fixture(scope="session")
def stack(cluster: Cluster, loans_file: Path) -> Iterator[Stack]:
    """The charts installed in their own namespace, with a model trained on a file in the object store.

    With CREDIT_RISK_E2E_KEEP in the environment they stay, and the next run need not install them and train again.
    """
    installed = Stack(cluster, namespace=NAMESPACE, host=HOST)
    images = cluster.images()
    # Runs of an earlier session on a stack that was kept: they hold the volume that this removes for a moment.
    installed.kubectl("delete", "jobs", "--selector=app.kubernetes.io/managed-by=make-train")
    installed.install(images, train=False)
    installed.wait_for_store()
    data = object_store.upload(installed, loans_file)
    installed.install(images, ["--set-string", f"training.data={data}"])
    installed.wait_for_training()
    installed.wait_for_scoring()
    with pytest.MonkeyPatch.context() as patch:
        # They are as they were built, and other tests' Helm may be reading them.
        patch.setattr(Stack, "build_charts", lambda _: None)
        yield installed
    if not os.environ.get("CREDIT_RISK_E2E_KEEP"):
        installed.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="session")
def loans() -> list[dict[str, Any]]:
    """Two hundred applications."""
    declaration = load_declaration(BUILT_IN_DECLARATION)
    rows = read_loans(200).to_dict("records")
    numbers = {feature.name for feature in declaration.numeric}
    return [{name: float(row[name]) if name in numbers else row[name] for name in declaration.names} for row in rows]


@pytest.fixture(scope="session")
def environment(
    stack: Stack, loans: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """The stack, and what scenarios need of it."""
    folder = tmp_path_factory.mktemp("versions")
    # The port-forward behind the client finds MLflow's new pod after an outage.
    with registry_client(stack) as client, kubernetes_api(stack) as api:
        publisher = VersionPublisher(client, download_production(folder / "champion"), folder)
        yield Environment(stack, api, client, publisher, stack.cluster.images(), loans)


@pytest.fixture(scope="module")
def backends(stack: Stack) -> Iterator[Backends]:
    """The registry's parts, which run again after the module, whatever happened in it."""
    found = Backends(stack)
    try:
        yield found
    finally:
        found.start()


@pytest.fixture(scope="session")
def scenarios(environment: Environment, request: pytest.FixtureRequest) -> Iterator[ScenarioRuns]:
    """All selected promotion scenarios, which run in parallel."""
    selected = request.session.items
    with scenario_namespaces(environment) as namespaces, closing(ScenarioRuns(selected, namespaces)) as runs:
        yield runs


def _reason_for_no_cluster() -> str | None:
    if sys.platform != "linux" or "bookworm" not in Path("/etc/os-release").read_text():
        return "neither Docker with kind, nor Debian 12 for the embedded cluster"
    if os.geteuid() != 0:
        return "neither Docker with kind, nor root for the embedded cluster"
    return None
