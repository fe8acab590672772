"""What the router in the API costs: nothing without a canary; with one, a hop for its applicants, and scoring them too.

    python benchmarks/routing/cost.py                              all, with API processes on loopback
    python benchmarks/routing/cost.py --url http://127.0.0.1:8080  the hop only, during a rollout

At rest, wrk alternates between an API with a router (whose route has no canary) and one without, and ratios are taken
within rounds. For pairs it alternates between two stable pods that send half of the applicants to the same canary, one
of which scores them too. For the hop, one client sends one request at a time for many applicants; the answer names the
version that scored it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "images/api/src", ROOT / "images/training/src"]
PARTS = ("rest", "pairs", "hop")
AT_REST = {"generation": 1, "salt": "credit-risk", "stable": {"version": "1"}}


def serve(folder: Path, version: str, port: int, management_port: int, route_file: Path | None) -> None:
    """Serve the API from a folder instead of a registry; without a route file, without a router."""
    import aiohttp
    import uvicorn
    import uvloop

    from scorer.app import create_app, create_management_app
    from scorer.canary.arm_metrics import ArmMetrics
    from scorer.canary.pair_metrics import PairMetrics
    from scorer.canary.pairing import Pairing
    from scorer.canary.route import watch_route
    from scorer.canary.router import Router
    from scorer.metrics import Metrics
    from scorer.model.bundle import ModelSlot, load_model
    from scorer.model.identity import Identity
    from scorer.settings import Settings

    async def run() -> None:
        settings, metrics = Settings(pod_name=f"pod-{port}"), Metrics()
        slot = ModelSlot(load_model(folder, Identity("credit-risk", version, "run", {}, {})))
        async with aiohttp.ClientSession() as session:
            pairing = Pairing(slot, PairMetrics(metrics.registry), enabled=settings.pairing)
            arms = ArmMetrics(metrics.registry)
            router = Router(session, arms, pairing, settings.pod_name) if route_file else None
            app = create_app(settings, slot, metrics, router)
            plain = {"access_log": False, "log_config": None, "server_header": False, "lifespan": "off"}
            servers = [
                uvicorn.Server(uvicorn.Config(app, port=port, **plain)),
                uvicorn.Server(uvicorn.Config(create_management_app(slot, metrics), port=management_port, **plain)),
            ]
            tasks = [server.serve() for server in servers]
            if router and route_file:
                tasks += [
                    watch_route(route_file, settings.route_poll_seconds, router.apply),
                    router.run_shadow_workers(),
                    pairing.run(),
                ]
            await asyncio.gather(*tasks)

    uvloop.run(run())


@dataclass(frozen=True)
class Api:
    """An API process: its ports for scoring and for management, and its id."""

    port: int
    management_port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Return the processor time that it has used, all threads together."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metric(self, name: str) -> float:
        """Return the sum of all series of a metric."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.management_port}/metrics") as answer:
            text = answer.read().decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


@contextlib.contextmanager
def api(folder: Path, version: str, route_file: Path | None = None, **settings: str) -> Iterator[Api]:
    """Run an API process; settings are those of the environment."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        port, management_port = one.getsockname()[1], other.getsockname()[1]
    ports = [str(port), str(management_port)]
    command = [sys.executable, __file__, "--serve", str(folder), version, *ports, str(route_file or "")]
    environment = {**os.environ, **settings, "PYTHONPATH": os.pathsep.join(map(str, SOURCES))}
    process = subprocess.Popen(command, env=environment)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield Api(port, management_port, process.pid)
    finally:
        # Two of the API's tasks never end by themselves.
        process.kill()
        process.wait()


def train(work: Path) -> Path:
    """Train a small model and return its files."""
    import mlflow

    from trainer.evaluation.gates import GateLimits
    from trainer.learning.hyperparameters import Hyperparameters
    from trainer.pipeline import run
    from trainer.settings import Settings

    os.chdir(work)
    tracking = f"sqlite:///{work}/mlflow.db"
    result = run(Settings(
        data="synthetic", tracking_uri=tracking, synthetic_rows=3_000, work_dir=work / "work",
        hyperparameters=Hyperparameters(heads=5, hidden=(16,), bins=8, batch_rows=64, epochs=6, learning_rate=0.01),
        limits=GateLimits(maximum_ece=0.2, minimum_air=0.0, margin=0.5),
    ))  # fmt: skip
    return Path(mlflow.artifacts.download_artifacts(f"models:/credit-risk/{result.version}", tracking_uri=tracking))


@dataclass(frozen=True)
class Run:
    """One run of wrk: requests per second, the 99th percentile in ms, and the server's processor time per request."""

    rate: float
    p99: float
    cpu: float


def load(server: Api, script: Path, seconds: int, query: str = "") -> Run:
    """Return what wrk measures with 16 connections."""
    url = f"http://127.0.0.1:{server.port}/v1/score{query}"
    before = server.cpu_seconds()
    command = ["wrk", "-t1", "-c16", f"-d{seconds}s", "--latency", "-s", str(script), url]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = server.cpu_seconds() - before
    if "Non-2xx" in found:
        raise SystemExit(f"the API refused requests:\n{found}")
    rate = float(re.search(r"Requests/sec: +([0-9.]+)", found)[1])
    count = int(re.search(r"([0-9]+) requests in", found)[1])
    value, unit = re.search(r"99% +([0-9.]+)(us|ms|s)", found).groups()
    return Run(rate, float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit], used / count)


def alternate(
    servers: Mapping[str, Api], script: Path, rounds: int, seconds: int, query: str = ""
) -> dict[str, list[Run]]:
    """Load servers in turn, each one first in some rounds."""
    for server in servers.values():
        load(server, script, 2, query)
    runs, names = defaultdict(list), list(servers)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            runs[name].append(load(servers[name], script, seconds, query))
    return {name: runs[name] for name in names}


def ratios(own: Sequence[Run], base: Sequence[Run], of: Callable[[Run], float]) -> str:
    """Return the median of the ratios within rounds, with the least and the greatest."""
    found = sorted(of(one) / of(other) for one, other in zip(own, base, strict=True))
    return f"{statistics.median(found):.3f} ({found[0]:.3f}, {found[-1]:.3f})"


def write_script(file: Path, body: str, *, applicants: bool = False) -> Path:
    """Write a script for wrk that sends an application, with an applicant of its own each time if asked."""
    text = f"wrk.method = 'POST'\nwrk.body = [[{body}]]\nwrk.headers['Content-Type'] = 'application/json'\n"
    if applicants:
        text += (
            "function request()\n  wrk.headers['X-Applicant-Id'] = tostring(math.random(1000000))\n"
            "  return wrk.format()\nend\n"
        )
    file.write_text(text)
    return file


def at_rest(folder: Path, work: Path, body: str, rounds: int, seconds: int) -> None:
    """Print requests per second with and without a router."""
    route, script = work / "at-rest.json", write_script(work / "post.lua", body)
    route.write_text(json.dumps(AT_REST))
    with api(folder, "1") as one, api(folder, "1") as other, api(folder, "1", route) as with_router:
        servers = {"without a router": one, "without a router, again": other, "router at rest": with_router}
        runs = alternate(servers, script, rounds, seconds)
    print(f"| {rounds} rounds of {seconds} s, 16 connections | median req/s | ratio, median (least, greatest) |")
    print("|---|---|---|")
    for name, found in runs.items():
        rate = statistics.median(run.rate for run in found)
        print(f"| {name} | {rate:.0f} | {ratios(found, runs['without a router'], lambda run: run.rate)} |")
    print("\nThe router's ratio should be >= 0.97. How far the second row is from 1 shows the machine's noise.\n")


def write_live_route(file: Path, canary: Api) -> None:
    """Write a route that sends half of the applicants to a canary."""
    route = {"version": "2", "url": f"http://127.0.0.1:{canary.port}", "weight": 50, "mode": "live"}
    file.write_text(json.dumps(AT_REST | {"generation": 2, "canary": route | {"deadlineMilliseconds": 1000}}))


def pairs(folder: Path, work: Path, body: str, rounds: int, seconds: int) -> None:
    """Print what a stable pod loses by scoring what the canary answered, for half of the applicants."""
    live, script = work / "pairs.json", write_script(work / "applicants.lua", body, applicants=True)
    with (
        api(folder, "2") as canary, api(folder, "1", live, SCORER_PAIRING="false") as off,
        api(folder, "1", live, SCORER_PAIRING="false") as again, api(folder, "1", live, SCORER_PAIRING="true") as on,
    ):  # fmt: skip
        write_live_route(live, canary)
        time.sleep(1)
        print(f"| weight 50 %, {rounds} rounds of {seconds} s, 16 connections | req/s "
              "| req/s, ratio (least, greatest) | p99, ratio | CPU per request, us | ratio | compared |")  # fmt: skip
        print("|---|---|---|---|---|---|---|")
        for query in ("", "?reasons=4"):
            answered, compared = _pairs_of(on)
            runs = alternate({"off": off, "off, again": again, "on": on}, script, rounds, seconds, query)
            time.sleep(0.5)
            answered, compared = (now - then for now, then in zip(_pairs_of(on), (answered, compared), strict=True))
            for name, found in runs.items():
                rate, p99, cpu = (ratios(found, runs["off"], of) for of in (
                    lambda run: run.rate, lambda run: run.p99, lambda run: run.cpu))  # fmt: skip
                share = f"{compared / answered:.0%}" if name == "on" else ""
                median = statistics.median(run.rate for run in found)
                used = statistics.median(run.cpu for run in found)
                print(f"| pairing {name}{', 4 reasons' if query else ''} | {median:.0f} | {rate} | {p99} | "
                      f"{used * 1e6:.0f} | {cpu} | {share} |", flush=True)  # fmt: skip
    print("\nThe ratio of req/s with pairing should be >= 0.9, also per processor time: CPU's ratio at most 1.11.\n")


def _pairs_of(server: Api) -> tuple[float, float]:
    """Return how many applicants the canary answered for a stable pod, and how many were compared."""
    return server.metric('scorer_arm_requests_total{arm="canary".*}'), server.metric("scorer_pair_decisions_total")


def hop(url: str, body: str, requests: int, headers: Mapping[str, str] | None = None) -> None:
    """Print the time to an answer by the version that scored it; `headers` are sent in addition."""
    split = urlsplit(url)
    connection, times = HTTPConnection(split.hostname, split.port or 80, timeout=10), defaultdict(list)
    for number in range(requests + 200):
        own = {"Content-Type": "application/json", "X-Applicant-Id": f"applicant-{number}", **(headers or {})}
        started = time.perf_counter()
        connection.request("POST", "/v1/score", body, own)
        answer = connection.getresponse()
        document = answer.read()
        elapsed = time.perf_counter() - started
        if answer.status != 200:
            raise SystemExit(f"answered {answer.status}: {document!r}")
        if number >= 200:
            times[json.loads(document)["model"]["version"]].append(elapsed * 1000)
    if len(times) != 2:
        raise SystemExit(f"{url}: only version {', '.join(times)} answered; run this during a rollout with a weight")
    medians = {version: statistics.median(found) for version, found in times.items()}
    print("| answered by version | requests | median, ms | p99, ms |\n|---|---|---|---|")
    for version, found in sorted(times.items(), key=lambda item: int(item[0])):
        p99 = statistics.quantiles(found, n=100)[98]
        print(f"| {version} | {len(found)} | {medians[version]:.2f} | {p99:.2f} |")
    new, old = sorted(medians, key=int, reverse=True)
    print(f"| {new} more than {old} | | {medians[new] - medians[old]:.2f}; should be <= 3 | |")


def main() -> None:
    """Run the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="measure the hop at this URL")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of wrk runs")
    parser.add_argument("--seconds", type=int, default=4, help="duration of one wrk run")
    parser.add_argument("--requests", type=int, default=4000, help="requests for the hop")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="what to measure; all by default")
    parser.add_argument("--serve", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        folder, version, port, management_port, route = options.serve
        serve(Path(folder), version, int(port), int(management_port), Path(route) if route else None)
        return
    if options.url:
        with contextlib.closing(HTTPConnection(urlsplit(options.url).netloc, timeout=10)) as connection:
            connection.request("GET", "/v1/model")
            contract = json.loads(connection.getresponse().read())["contract"]
        hop(options.url, json.dumps(contract["reference_applicant"]), options.requests)
        return
    sys.path[:0] = map(str, SOURCES)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = train(work)
        body = json.dumps(json.loads((model / "contract.json").read_text())["reference_applicant"])
        if "rest" in options.only:
            at_rest(model, work, body, options.rounds, options.seconds)
        if "pairs" in options.only:
            pairs(model, work, body, options.rounds, options.seconds)
        live = work / "live.json"
        if "hop" in options.only:
            with api(model, "2") as canary, api(model, "1", live) as stable:
                write_live_route(live, canary)
                time.sleep(1)
                hop(f"http://127.0.0.1:{stable.port}", body, options.requests)


if __name__ == "__main__":
    main()
