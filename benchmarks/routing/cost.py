"""What the router in the API costs: nothing without a canary, and one hop for applicants whom the canary answers.

    python benchmarks/routing/cost.py                              both, with API processes on loopback
    python benchmarks/routing/cost.py --url http://127.0.0.1:8080  the hop only, during a rollout

At rest, wrk alternates between an API with a router (whose route has no canary) and one without, and ratios are taken
within rounds. For the hop, one client sends one request at a time for many applicants; the answer names the version
that scored it.
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
from collections import defaultdict
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "images/api/src", ROOT / "images/training/src"]
AT_REST = {"generation": 1, "salt": "credit-risk", "stable": {"version": "1"}}


def serve(folder: Path, version: str, port: int, management_port: int, route_file: Path | None) -> None:
    """Serve the API from a folder instead of a registry; without a route file, without a router."""
    import aiohttp
    import uvicorn
    import uvloop

    from scorer.app import create_app, create_management_app
    from scorer.canary.arm_metrics import ArmMetrics
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
            router = Router(session, ArmMetrics(metrics.registry), settings.pod_name) if route_file else None
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
                ]
            await asyncio.gather(*tasks)

    uvloop.run(run())


@contextlib.contextmanager
def api(folder: Path, version: str, route_file: Path | None = None) -> Iterator[tuple[int, int]]:
    """Run an API process and return its ports: for scoring, and for management."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        port, management_port = one.getsockname()[1], other.getsockname()[1]
    ports = [str(port), str(management_port)]
    command = [sys.executable, __file__, "--serve", str(folder), version, *ports, str(route_file or "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, SOURCES))}
    process = subprocess.Popen(command, env=environment)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield port, management_port
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


def requests_per_second(port: int, script: Path, seconds: int) -> float:
    """Return what wrk measures with 16 connections."""
    command = ["wrk", "-t1", "-c16", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}/v1/score"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in found:
        raise SystemExit(f"the API refused requests:\n{found}")
    return float(re.search(r"Requests/sec: +([0-9.]+)", found)[1])


def at_rest(folder: Path, work: Path, body: str, rounds: int, seconds: int) -> None:
    """Print requests per second with and without a router."""
    route, script = work / "at-rest.json", work / "post.lua"
    route.write_text(json.dumps(AT_REST))
    script.write_text(f"wrk.method = 'POST'\nwrk.body = [[{body}]]\nwrk.headers['Content-Type'] = 'application/json'\n")
    with api(folder, "1") as (one, _), api(folder, "1") as (other, _), api(folder, "1", route) as (with_router, _):
        ports = {"without a router": one, "without a router, again": other, "router at rest": with_router}
        for port in ports.values():
            requests_per_second(port, script, 2)
        rates, names = defaultdict(list), list(ports)
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                rates[name].append(requests_per_second(ports[name], script, seconds))
    base = rates["without a router"]
    print(f"| {rounds} rounds of {seconds} s, 16 connections | median req/s | ratio, median (least, greatest) |")
    print("|---|---|---|")
    for name, found in rates.items():
        ratios = sorted(own / without for own, without in zip(found, base, strict=True))
        print(f"| {name} | {statistics.median(found):.0f} | {statistics.median(ratios):.3f} "
              f"({ratios[0]:.3f}, {ratios[-1]:.3f}) |")  # fmt: skip
    print("\nThe router's ratio should be >= 0.97. How far the second row is from 1 shows the machine's noise.\n")


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
        at_rest(model, work, body, options.rounds, options.seconds)
        live = work / "live.json"
        with api(model, "2") as (canary, _), api(model, "1", live) as (stable, _):
            route = {"version": "2", "url": f"http://127.0.0.1:{canary}", "weight": 50, "mode": "live"}
            live.write_text(json.dumps(AT_REST | {"generation": 2, "canary": route | {"deadlineMilliseconds": 1000}}))
            time.sleep(1)
            hop(f"http://127.0.0.1:{stable}", body, options.requests)


if __name__ == "__main__":
    main()
