"""Fake programs, and a stack whose kubectl prints files."""

from __future__ import annotations

import json
from pathlib import Path

from localcluster.embedded.cluster import EmbeddedCluster
from localcluster.paths import Paths
from localcluster.ports import Ports
from localcluster.stack import Stack

# Called as `kubectl --namespace NAME VERB KIND ...`: prints the file VERB-KIND, with slashes as dashes.
KUBECTL = """
shift 2
name=$(echo "$1-$2" | tr / -)
[ -e REPLIES/$name ] || { echo "unexpected: $*" >&2; exit 1; }
cat REPLIES/$name
"""


def put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


class Cluster:
    """A stack on a cluster that is not running, and what its kubectl prints."""

    def __init__(self, folder: Path) -> None:
        paths = Paths(folder / "cache", folder / "state")
        self.replies = folder / "replies"
        self.stack = Stack(EmbeddedCluster(paths, Ports(8080, 5000, 6443)))
        self.replies.mkdir()
        paths.tools.mkdir(parents=True)
        put(paths.tools, "kubectl", KUBECTL.replace("REPLIES", str(self.replies)))

    def reply(self, name: str, document: object) -> None:
        """Let kubectl print a text, or a document as JSON."""
        (self.replies / name).write_text(document if isinstance(document, str) else json.dumps(document))
