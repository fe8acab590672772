"""`python -m localcluster up|train|backup|backups|restore|down|status|env|images|tools`: the Makefile's commands."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from localcluster import backup as backups_of
from localcluster import object_store, packages, training
from localcluster.cluster import Cluster
from localcluster.console import ClusterError, say, step
from localcluster.embedded.cluster import EmbeddedCluster
from localcluster.kind import cluster as kind
from localcluster.paths import Paths
from localcluster.ports import Ports
from localcluster.report import report
from localcluster.stack import DECISION_LOG_MODES, RELEASE, Stack


def main() -> int:
    """Run one command; print a failure without a traceback and return exit code 1."""
    arguments = _parser().parse_args()
    try:
        cluster = choose(arguments.cluster)
        arguments.run(cluster, arguments)
    except ClusterError as error:
        sys.stderr.write(f"\nFAILED: {error}\n")
        return 1
    return 0


def choose(name: str) -> Cluster:
    """Return the cluster of that name; `auto` chooses kind if Docker and kind are available, else the embedded one."""
    paths, ports = Paths.from_environment(), Ports.from_environment()
    if name == "kind" or (name == "auto" and kind.available()):
        return kind.KindCluster(paths, ports)
    return EmbeddedCluster(paths, ports)


def up(cluster: Cluster, arguments: argparse.Namespace) -> None:
    """Bring up cluster and stack, train a first model, and score a loan."""
    data, features = _file("DATA", arguments.data), _file("FEATURES", arguments.features)
    if features and not data:
        raise ClusterError("FEATURES needs DATA: the generated loans have the built-in features")
    mode, monitoring = _decision_log(arguments), _monitoring(arguments)
    say(f"Bringing up the stack on the {cluster.name} cluster; logs are in {cluster.paths.logs}")
    cluster.up()
    stack = Stack(cluster, decision_log=mode, monitoring=monitoring)
    install(stack, data, features)
    report(stack, stack.score_reference())


def install(stack: Stack, data: Path | None, features: Path | None, values: Sequence[str] = ()) -> None:
    """Install the stack on a running cluster, train a first model, and serve it.

    Args:
        stack: What to install.
        data: A CSV file to train on; None for generated loans.
        features: A feature declaration for it; None for the built-in one.
        values: Further arguments of helm.

    Raises:
        ClusterError: A part did not become ready, or the training run failed.
    """
    images = stack.images()
    with step("Install the charts", stack.log):
        stack.install(images, values, train=data is None)
    if data:
        stack.wait_for_store()
        with step(f"Upload {data.name} to the object store and start training on it", stack.log):
            declaration = ["--set-file", f"training.features={features}"] if features else []
            uploaded = ["--set-string", f"training.data={object_store.upload(stack, data)}"]
            stack.install(images, [*uploaded, *declaration, *values])
    stack.wait_for_training()
    stack.follow_alias()
    stack.wait_for_scoring()
    stack.wait_for_decisions()


def _file(variable: str, given: str) -> Path | None:
    if not given:
        return None
    file = Path(given).resolve()
    if not file.is_file():
        raise ClusterError(f"{variable}={given}: no such file")
    return file


def _decision_log(arguments: argparse.Namespace) -> str:
    mode: str = arguments.decisions or "off"
    if mode not in DECISION_LOG_MODES:
        raise ClusterError(f"DECISIONS={mode}: must be one of {', '.join(DECISION_LOG_MODES)}")
    return mode


def _monitoring(arguments: argparse.Namespace) -> bool:
    wanted: str = arguments.monitoring
    if wanted not in {"", "0", "1"}:
        raise ClusterError(f"MONITORING={wanted}: must be 1 or 0")
    return wanted == "1"


def train(cluster: Cluster, arguments: argparse.Namespace) -> None:
    """Start a training run and follow its log to the end."""
    if not cluster.running():
        raise ClusterError("no cluster is running; start one with `make up`")
    features = _file("FEATURES", arguments.features)
    stack = Stack(cluster, namespace=arguments.namespace)
    job = training.start(stack, arguments.data, shlex.split(arguments.args), features)
    say(f"-> Started {job} in namespace {stack.namespace}; Ctrl+C stops following its log, but not the run")
    training.follow(stack, job)


def backup(cluster: Cluster, arguments: argparse.Namespace) -> None:
    """Back up the database and the artifacts, and follow the log to the end."""
    _follow(cluster, arguments, backups_of.back_up)


def backups(cluster: Cluster, arguments: argparse.Namespace) -> None:
    """List the backups."""
    _follow(cluster, arguments, backups_of.list_backups)


def restore(cluster: Cluster, arguments: argparse.Namespace) -> None:
    """Replace the database and restore the artifacts from a backup, and follow the log to the end."""
    if not arguments.source:
        raise ClusterError("FROM is not set: FROM=latest, or FROM=ID with an id that `make backups` lists")
    _follow(cluster, arguments, lambda stack: backups_of.restore(stack, arguments.source, as_json=arguments.json))


def _follow(cluster: Cluster, arguments: argparse.Namespace, start: Callable[[Stack], str]) -> None:
    if not cluster.running():
        raise ClusterError("no cluster is running; start one with `make up`")
    stack = Stack(cluster, namespace=arguments.namespace)
    job = start(stack)
    say(f"-> Started {job} in namespace {stack.namespace}; Ctrl+C stops following its log, but not the Job")
    backups_of.follow(stack, job)


def down(cluster: Cluster, _: argparse.Namespace) -> None:
    """Remove the cluster and everything on it; keep the cache of images and downloads."""
    cluster.down()
    say(f"Removed the {cluster.name} cluster; built images and downloads are kept in {cluster.paths.cache}")


def status(cluster: Cluster, _: argparse.Namespace) -> None:
    """Print what is running."""
    for line in cluster.status():
        say(line)
    if not cluster.running():
        say("start it with `make up`")
    else:
        say(Stack(cluster).kubectl("get", "pods,jobs,ingress").rstrip())


def env(cluster: Cluster, _: argparse.Namespace) -> None:
    """Print shell exports: the stack's URLs, its kubeconfig, and helm and kubectl on the PATH."""
    stack = Stack(cluster)
    values = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "CREDITRISK_URL": stack.url,
        "MLFLOW_TRACKING_URI": stack.mlflow_url,
        # Otherwise MLflow clients would transfer large files directly from and to the object store, which is only
        # reachable inside the cluster.
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
        "HELM_NAMESPACE": RELEASE,
        "PATH": f"{cluster.paths.tools}:{os.environ['PATH']}",
    }
    for name, value in values.items():
        say(f"export {name}={shlex.quote(value)}")


def images(cluster: Cluster, arguments: argparse.Namespace) -> None:
    """Build changed images and load them into the cluster; those of optional parts only if they are asked for."""
    stack = Stack(cluster, decision_log=_decision_log(arguments), monitoring=_monitoring(arguments))
    for reference in stack.images().values():
        say(reference)


def tools(cluster: Cluster, _: argparse.Namespace) -> None:
    """Install the pinned helm and kubectl into the cache."""
    packages.install_tools(cluster.paths, cluster.paths.cache / "tools.log")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="localcluster", description=__doc__)
    parser.add_argument("--cluster", choices=["auto", "kind", "embedded"], default="auto")
    commands = parser.add_subparsers(required=True)
    for command in (up, train, backup, backups, restore, down, status, env, images, tools):
        sub = commands.add_parser(command.__name__, help=command.__doc__)
        sub.set_defaults(run=command)
        if command is up:
            sub.add_argument("--data", default="", help="CSV file to train on instead of generated loans")
        if command in {up, images}:
            sub.add_argument("--decisions", default="", help="mode of the decision log: off (default), log or require")
            sub.add_argument("--monitoring", default="", help="1 to run a Prometheus; default: 0")
        if command is train:
            sub.add_argument(
                "--data", default="", help="file, URL, synthetic or decisions; default: the release's data"
            )
            sub.add_argument("--args", default="", help="further arguments of the trainer, as one string")
        if command in {up, train}:
            sub.add_argument("--features", default="", help="file of a feature declaration for the data")
        if command in {train, backup, backups, restore}:
            sub.add_argument("--namespace", default=RELEASE, help="namespace of the release")
        if command is restore:
            sub.add_argument("--from", dest="source", default="", help="id of a backup, or latest")
            sub.add_argument("--json", action="store_true", help="print the report as one line of JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
