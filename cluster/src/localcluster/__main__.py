"""`python -m localcluster up|down|train|status|env|images`: what the Makefile calls."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from localcluster import packages, training
from localcluster.console import ClusterError, say, step
from localcluster.embedded.cluster import EmbeddedCluster
from localcluster.kind import cluster as kind
from localcluster.paths import Paths
from localcluster.ports import Ports
from localcluster.stack import RELEASE, Cluster, Stack, report


def main() -> int:
    """Carry out one command; a failure is told in words, with exit code 1."""
    arguments = _parser().parse_args()
    try:
        cluster = choose(arguments.cluster)
        arguments.run(cluster, arguments)
    except ClusterError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    return 0


def choose(name: str) -> Cluster:
    """Return the cluster of that name; `auto` is kind where Docker and kind are, the embedded one elsewhere."""
    paths, ports = Paths.from_environment(), Ports.from_environment()
    if name == "kind" or (name == "auto" and kind.available()):
        return kind.KindCluster(paths, ports)
    return EmbeddedCluster(paths, ports)


def up(cluster: Cluster, arguments: argparse.Namespace) -> None:
    """Bring up cluster, stack and first model, and score a loan."""
    data = Path(arguments.data).resolve() if arguments.data else None
    if data and not data.is_file():
        raise ClusterError(f"DATA={arguments.data}: there is no such file")
    cluster.up()
    stack = Stack(cluster)
    images = cluster.images()
    with step("install the charts", cluster.paths.logs / f"stack-{stack.namespace}.log"):
        stack.install(images, train=data is None)
    if data:
        stack.wait_for_store()
        with step(f"put {data.name} into the object store and start training on it"):
            stack.install(images, ["--set-string", f"training.data={stack.upload(data)}"])
    stack.wait_for_training()
    stack.follow_alias()
    stack.wait_for_scoring()
    report(stack, stack.score_reference())


def train(cluster: Cluster, arguments: argparse.Namespace) -> None:
    """Start a training run and follow its log to the end."""
    if not cluster.running():
        raise ClusterError("there is no cluster: `make up` makes one")
    stack = Stack(cluster, namespace=arguments.namespace)
    job = training.start(stack, arguments.data, shlex.split(arguments.args))
    say(f"-> {job} in the namespace {stack.namespace}; interrupting this does not end it")
    training.follow(stack, job)


def down(cluster: Cluster, _: argparse.Namespace) -> None:
    """Remove the cluster and all that was on it; the cache of built things stays."""
    cluster.down()
    say(f"the {cluster.name} cluster is gone; built images and downloads stay in {cluster.paths.cache}")


def status(cluster: Cluster, _: argparse.Namespace) -> None:
    """Say what runs."""
    for line in cluster.status():
        say(line)
    if cluster.running():
        say(Stack(cluster).kubectl("get", "pods,jobs,ingress").rstrip())


def env(cluster: Cluster, _: argparse.Namespace) -> None:
    """Print shell exports for the stack's addresses."""
    stack = Stack(cluster)
    values = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "CREDITRISK_URL": stack.url,
        "MLFLOW_TRACKING_URI": stack.mlflow_url,
        # MLflow's clients would fetch large files straight from the object store, which is inside the cluster.
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
        "HELM_NAMESPACE": RELEASE,
        "PATH": f"{cluster.paths.tools}:{os.environ['PATH']}",
    }
    for name, value in values.items():
        say(f"export {name}={shlex.quote(value)}")


def images(cluster: Cluster, _: argparse.Namespace) -> None:
    """Build what changed and give it to the cluster."""
    for reference in cluster.images().values():
        say(reference)


def tools(cluster: Cluster, _: argparse.Namespace) -> None:
    """Install the pinned helm and kubectl into the cache."""
    packages.install_tools(cluster.paths, cluster.paths.cache / "tools.log")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="localcluster", description=__doc__)
    parser.add_argument("--cluster", choices=["auto", "kind", "embedded"], default="auto")
    commands = parser.add_subparsers(required=True)
    for command in (up, train, down, status, env, images, tools):
        sub = commands.add_parser(command.__name__, help=command.__doc__)
        sub.set_defaults(run=command)
        if command is up:
            sub.add_argument("--data", default="", help="a CSV file to train on instead of generated loans")
        if command is train:
            sub.add_argument(
                "--data", default="", help="a file, an address, or synthetic; by default the release's own"
            )
            sub.add_argument("--args", default="", help="further arguments of the trainer, in one string")
            sub.add_argument("--namespace", default=RELEASE, help="where the release is")
    return parser


if __name__ == "__main__":
    sys.exit(main())
