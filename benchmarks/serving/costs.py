"""Measure what the capacity plan needs and no other benchmark has, with real processes on loopback.

    python benchmarks/serving/costs.py PART --model FOLDER [--rounds 5] [--seconds 3]

- `forwarding`: the processor time of a stable pod per request while a canary answers none, half or all applicants.
- `ingress`: the processor time of Traefik per request, and what is left of the service's rate behind it (`--traefik`).
- `turns`: latency and processor time by the number of connections, each of which sends its next request at once: what
  one turn of the service costs, and what each request adds to it. benchmarks/scale/queueing.py computes with these.

Needs wrk. Servers run on one core, wrk on the other; what is compared alternates within rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "images/training/src")]

from registry import registry_of  # noqa: E402
from run import SCORER, Contender, applicants, cpu_seconds, environments, free_port, latency, server  # noqa: E402

CONNECTIONS = (1, 2, 4, 8, 16, 32, 64)
WEIGHTS = (0, 50, 100)
REASONS = {"scoring": 0, "scoring, 4 reasons": 4}


@dataclass(frozen=True)
class Load:
    """What one run of wrk says.

    Attributes:
        rate: Requests per second.
        p50: Median latency in milliseconds.
        p99: The same for the 99th percentile.
        cpu: Processor time per request of each process that was watched, in microseconds.
    """

    rate: float
    p50: float
    p99: float
    cpu: Mapping[str, float]


@dataclass(frozen=True)
class Bench:
    """A folder to work in, a model, and the environment of a scoring service that serves it."""

    work: Path
    model: Path
    environment: Mapping[str, str]

    @contextlib.contextmanager
    def scorer(self, route: Path | None = None, version: str = "1") -> Iterator[Contender]:
        """Run a scoring service of a version."""
        name, port = "scoring", free_port()
        own = {"SCORER_PORT": str(port), "SCORER_MANAGEMENT_PORT": str(free_port()),
               "SCORER_CACHE_DIR": str(self.work / f"cache-{port}"),
               "SCORER_ROUTE_FILE": str(route or "/nowhere"), "SCORER_MODEL_VERSION": version}  # fmt: skip
        with (
            registry_of(self.model, version) as registry,
            server(
                f"{name}-{port}", SCORER, {**self.environment, **own, "SCORER_REGISTRY_URL": registry}, self.work
            ) as pid,
        ):
            found = Contender.of(name, port, pid, applicants(self.model)[:2000], self.work)
            if not found.starts(self.work):
                raise SystemExit(f"the service on port {port} did not start")
            yield found


@contextlib.contextmanager
def bench(model: Path) -> Iterator[Bench]:
    """Prepare a folder, and a registry that has the model."""
    with tempfile.TemporaryDirectory() as folder, registry_of(model) as registry:
        _, ours = environments(model, registry, Path(folder))
        yield Bench(Path(folder), model, ours)


def load(target: Contender, seconds: int, connections: int = 16, **watched: int) -> Load:
    """Load a server; `watched` are process groups by the names of their columns."""
    command = [part if not part.startswith("-c16") else f"-c{connections}" for part in target.load(seconds)]
    before = {name: cpu_seconds(group) for name, group in watched.items()}
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said:
        raise SystemExit(f"{target.name} refused requests:\n{said}")
    rate = float(said.partition("Requests/sec:")[2].split()[0])
    count = int(said.partition(" requests in")[0].split()[-1])
    cost = {name: (cpu_seconds(group) - before[name]) / count * 1e6 for name, group in watched.items()}
    return Load(rate, latency(said, 50), latency(said, 99), cost)


def alternate(ways: Mapping[str, Callable[[], Load]], rounds: int) -> dict[str, list[Load]]:
    """Measure the ways in turn, each one first in some rounds; the first round warms up and does not count."""
    found, names = defaultdict(list), list(ways)
    for number in range(rounds + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            outcome = ways[name]()
            if number:
                found[name].append(outcome)
    return {name: found[name] for name in names}


def summary(loads: list[Load]) -> Load:
    """Return the medians of rates and latencies, and the least processor time: other work can only add to it."""
    cpu = {name: min(one.cpu[name] for one in loads) for name in loads[0].cpu}
    rate, p50, p99 = (statistics.median(getattr(one, name) for one in loads) for name in ("rate", "p50", "p99"))
    return Load(rate, p50, p99, cpu)


def check_version(target: Contender, expected: set[str]) -> None:
    """Make sure that the canary's share of applicants gets the canary's answers.

    Raises:
        SystemExit: Other versions answer.
    """
    found = set()
    for _ in range(50):
        with contextlib.closing(HTTPConnection("127.0.0.1", target.port, timeout=5)) as connection:
            connection.request("POST", "/v1/score", target.body, {"Content-Type": "application/json"})
            found.add(json.loads(connection.getresponse().read())["model"]["version"])
    if found != expected:
        raise SystemExit(f"versions {found} answer instead of {expected}")


def write_route(file: Path, weight: int, canary: Contender) -> Path:
    """Write the route that the operator would."""
    to_canary = {"version": "2", "url": f"http://127.0.0.1:{canary.port}", "weight": weight, "mode": "live",
                 "deadlineMilliseconds": 1000}  # fmt: skip
    document = {"generation": 2, "salt": "credit-risk", "stable": {"version": "1"}}
    file.write_text(json.dumps(document | ({"canary": to_canary} if weight else {})))
    return file


def forwarding(given: Bench, options: argparse.Namespace) -> dict[str, Load]:
    """Compare stable pods whose canary answers none, half, or all of the applicants."""
    with contextlib.ExitStack() as running:
        canary = running.enter_context(given.scorer(version="2"))
        ways = {}
        for weight in WEIGHTS:
            route = write_route(given.work / f"route-{weight}.json", weight, canary)
            stable = running.enter_context(given.scorer(route))
            check_version(stable, {0: {"1"}, 50: {"1", "2"}, 100: {"2"}}[weight])
            for name, reasons in REASONS.items():
                asked = replace(stable, name=name)
                ways[f"weight {weight} %, {reasons} reasons"] = lambda asked=asked, group=stable.group: load(
                    asked, options.seconds, stable=group
                )
        return {name: summary(found) for name, found in alternate(ways, options.rounds).items()}


@contextlib.contextmanager
def traefik(program: Path, target: Contender, work: Path) -> Iterator[Contender]:
    """Run Traefik in front of a server, with the routing that an Ingress would give it."""
    port = free_port()
    service = {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{target.port}"}]}}
    router = {"rule": "PathPrefix(`/`)", "service": "scoring"}
    file = work / "traefik.json.yaml"
    file.write_text(json.dumps({"http": {"routers": {"all": router}, "services": {"scoring": service}}}))
    command = [str(program), "--global.checknewversion=false", "--global.sendanonymoususage=false",
               f"--providers.file.filename={file}", f"--entrypoints.web.address=127.0.0.1:{port}"]  # fmt: skip
    with server("traefik", command, {"GOMAXPROCS": "1"}, work) as pid:
        found = replace(target, port=port, group=pid)
        if not found.starts(work):
            raise SystemExit("Traefik did not start")
        yield found


def ingress(given: Bench, options: argparse.Namespace) -> dict[str, Load]:
    """Compare the service with the service behind Traefik, both on the same core."""
    with given.scorer() as direct, traefik(options.traefik, direct, given.work) as behind:
        watched = {"scorer": direct.group, "traefik": behind.group}
        ways = {
            f"{place}, {connections} connections": (
                lambda target=target, connections=connections: load(target, options.seconds, connections, **watched)
            )
            for place, target in (("direct", direct), ("behind Traefik", behind))
            for connections in (16, 64)
        }
        return {name: summary(found) for name, found in alternate(ways, options.rounds).items()}


def turns(given: Bench, options: argparse.Namespace) -> dict[str, Load]:
    """Measure the service with few and with many connections, without and with reasons."""
    with given.scorer() as scoring:
        ways = {
            f"{reasons} reasons, {connections} connections": (
                lambda name=name, connections=connections: load(
                    replace(scoring, name=name), options.seconds, connections, scorer=scoring.group)
            )
            for name, reasons in REASONS.items()
            for connections in CONNECTIONS
        }  # fmt: skip
        return {name: summary(found) for name, found in alternate(ways, options.rounds).items()}


PARTS = {"forwarding": forwarding, "ingress": ingress, "turns": turns}


def show(found: Mapping[str, Load]) -> None:
    """Print a table."""
    columns = list(next(iter(found.values())).cpu)
    heads = ["", "req/s", "p50, ms", "p99, ms", *(f"{name}, least us of CPU per request" for name in columns)]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, one in found.items():
        numbers = [f"{one.rate:,.0f}", f"{one.p50:.2f}", f"{one.p99:.2f}", *(f"{one.cpu[key]:.0f}" for key in columns)]
        print(f"| {name} | {' | '.join(numbers)} |", flush=True)


def main() -> None:
    """Measure one part, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--model", type=Path, required=True, help="the folder of a registered version")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--traefik", type=Path, default=Path("traefik"), help="the program, for `ingress`")
    options = parser.parse_args()
    with bench(options.model.resolve()) as given:
        show(PARTS[options.part](given, options))


if __name__ == "__main__":
    main()
