"""How long a scoring pod takes to start from the copy of its version's files, and by loading from the registry.

    python benchmarks/operator/pod_start.py [--pairs 10] [--namespace credit-risk]

Needs a running stack (`make up`), whose registry it uses, and which should have nothing else to do. Each pair starts a
pod of either kind, in turn, from the template of the same Deployment, in a namespace that is deleted afterwards. The
node's clock must be this machine's, as on the local clusters.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

from on_cluster import benchmark_scenario  # noqa: E402

from e2e.kubernetes_api import Document  # noqa: E402
from e2e.namespace import TARGET, ScenarioNamespace  # noqa: E402
from e2e.pods import is_ready  # noqa: E402
from localcluster.stack import RELEASE  # noqa: E402
from promoter.adapters.artifact_volume import mounted, without_volume  # noqa: E402

SERVING = " serving {"


@dataclass(frozen=True)
class Start:
    """Seconds from the request for a pod until it had loaded its model, and until it was ready."""

    loaded: float
    ready: float


def start(namespace: ScenarioNamespace, template: Document, name: str) -> Start:
    """Start a pod of a template that no Deployment or Service selects, and delete it."""
    api, pods = namespace.environment.api, f"/api/v1/namespaces/{namespace.name}/pods"
    metadata = {"name": name, "annotations": template["metadata"]["annotations"]}
    requested = time.time()
    api.post(pods, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    while not is_ready(api.get(f"{pods}/{name}")):
        time.sleep(0.05)
    ready = time.time()
    (served,) = (line for line in namespace.kubectl("logs", name, "--timestamps").splitlines() if SERVING in line)
    loaded = datetime.fromisoformat(served.partition(" ")[0]).timestamp()
    api.delete(f"{pods}/{name}", gracePeriodSeconds=1)
    # The kubelet removes the pod itself, which takes no processor time, some seconds later.
    namespace.wait_until("the container has ended", lambda: not _running(api.get(f"{pods}/{name}")))
    return Start(loaded - requested, ready - requested)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--namespace", default=RELEASE, help="of the stack whose registry is used")
    options = parser.parse_args()
    with benchmark_scenario(options.namespace) as scenario:
        scenario.follow_pointer()
        with_copy = scenario.namespace.deployment(TARGET)["spec"]["template"]
        if not mounted(with_copy):
            raise SystemExit("the pods mount no copy: this measures nothing")
        templates = {"the copy": with_copy, "the registry": without_volume(with_copy)}
        found: dict[str, list[Start]] = {name: [] for name in templates}
        for pair in range(options.pairs):
            for name in sorted(templates, reverse=bool(pair % 2)):
                pod = f"{name.split()[-1]}-{pair}"
                found[name].append(start(scenario.namespace, templates[name], pod))
    print(f"| medians of {options.pairs} starts each, in turns | until its model is loaded, s | until it is ready, s |")
    print("|---|---|---|")
    for name, starts in found.items():
        loaded, ready = (sorted(getattr(one, what) for one in starts) for what in ("loaded", "ready"))
        print(f"| from {name} | {_spread(loaded)} | {_spread(ready)} |")


def _running(pod: Document) -> bool:
    return any("running" in container["state"] for container in pod.get("status", {}).get("containerStatuses", []))


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({seconds[0]:.2f} to {seconds[-1]:.2f})"


if __name__ == "__main__":
    main()
