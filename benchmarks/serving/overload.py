"""What the scoring service does under three times its capacity, and to single applications beside large batches.

    python benchmarks/serving/overload.py --model FOLDER [--seconds 5] [--rounds 3] [--also SOURCES] [--json]

The service runs on one core, its clients on another one (needs wrk). Capacity is what it scores for three quarters of
the connections whose requests it lets run at once; overload is three times as many connections as may run, each of
which tries again at once, however often it is told to wait. Rounds take turns, so that all see the same load of the
machine; numbers are medians. Shorter ones than 5 s mostly tell how long hundreds of connections take to open. `--also`
measures the service of another checkout (its images/api/src) in the same rounds.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path

from pressure import Outcome, press, write_script
from registry import registry_of
from run import Contender, applicants, body_for, environments, start_all

# The chart's api.limits.concurrentRequests.
AT_ONCE = 256
# Enough for all the service can score, and few enough that a core that is a little slower lets them all run.
FULL = 192
FEW = 16
ROWS = 10_000
# Dear ones, so that the clients' core can offer three times as many.
TARGET = "/v1/score?reasons=4"


@dataclass(frozen=True)
class Service:
    """A running version of the service: where it answers, and where its probes do."""

    server: Contender
    management: int


class Newcomers:
    """Clients that come during overload and obey: each sends one request, and times its refusal in milliseconds."""

    def __init__(self, server: Contender) -> None:
        self._server, self._stop = server, threading.Event()
        self.refusals: list[float] = []
        self._thread = threading.Thread(target=self._come)

    def __enter__(self) -> "Newcomers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _come(self) -> None:
        while not self._stop.wait(0.02):
            with contextlib.closing(HTTPConnection("127.0.0.1", self._server.port, timeout=30)) as connection:
                connection.connect()
                started = time.perf_counter()
                connection.request("POST", TARGET, self._server.body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                if answer.status == 503:
                    self.refusals.append((time.perf_counter() - started) * 1000)


def overload(services: dict[str, Service], script: Path, rounds: int, seconds: float) -> dict[str, dict[str, dict]]:
    """Return by service the medians of outcomes, and how long it took to be as it was."""
    found = {name: {"few": [], "capacity": [], "overload": [], "recovery": []} for name in services}
    refusals = {name: [] for name in services}
    for number in range(rounds):
        for name in list(services)[:: -1 if number % 2 else 1]:
            server, outcomes = services[name].server, found[name]
            outcomes["few"].append(press(server, script, FEW, seconds, TARGET))
            outcomes["capacity"].append(press(server, script, FULL, seconds, TARGET))
            with Newcomers(server) as newcomers:
                outcomes["overload"].append(press(server, script, 3 * AT_ONCE, seconds, TARGET))
            refusals[name] += newcomers.refusals
            outcomes["recovery"].append(_recovery(server, script, outcomes["few"][-1]))
    return {name: _summary(outcomes.pop("recovery"), refusals[name], outcomes) for name, outcomes in found.items()}


def _summary(recoveries: list[float], refusals: list[float], found: dict[str, list[Outcome]]) -> dict[str, dict]:
    result = {
        name: {key: statistics.median(asdict(o)[key] for o in outcomes) for key in asdict(outcomes[0])}
        for name, outcomes in found.items()
    }
    pairs = zip(found["overload"], found["capacity"], strict=True)
    ratios = sorted(over.p99 / normal.p99 for over, normal in pairs)
    others = max(outcome.other for outcome in found["overload"])
    promise = {
        "p99_ratio": statistics.median(ratios), "p99_ratios": ratios, "recovery_seconds": max(recoveries),
        "refusal_p50": statistics.median(refusals or [float("nan")]), "other": others,
    }  # fmt: skip
    return {**result, "promise": promise}


def _recovery(server: Contender, script: Path, normal: Outcome) -> float:
    """Return the seconds until a second passes without a refusal and with a p99 of at most twice the normal."""
    started = time.monotonic()
    while (passed := time.monotonic() - started) < 30:
        now = press(server, script, FEW, 1, TARGET)
        if not now.refused and not now.other and now.p99 <= 2 * normal.p99:
            return passed
    return passed


def _post_batches(port: int, body: bytes, stop: "multiprocessing.Event", count: "multiprocessing.Value") -> None:
    os.sched_setaffinity(0, {0})
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        while not stop.is_set():
            connection.request("POST", "/v1/score/batch", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                with count.get_lock():
                    count.value += 1


def beside_batches(service: Service, model: Path, clients: int, seconds: float) -> dict[str, float]:
    """Return the latencies of probes and of single applications, in milliseconds, while clients post large batches."""
    asked, port = applicants(model), service.server.port
    body, single = json.dumps(asked[:ROWS]).encode(), body_for("scoring", asked[0])
    stop, count = multiprocessing.Event(), multiprocessing.Value("i", 0)
    work = [multiprocessing.Process(target=_post_batches, args=(port, body, stop, count)) for _ in range(clients)]
    for process in work:
        process.start()
    try:
        time.sleep(1 if clients else 0)
        singles, probes = _ask(port, service.management, single, seconds)
    finally:
        stop.set()
        for process in work:
            process.join()
    return {
        "batches": count.value, "single_p50": statistics.median(singles), "single_p99": _p99(singles),
        "probe_p99": _p99(probes), "probe_max": max(probes),
    }  # fmt: skip


def _ask(port: int, management: int, body: str, seconds: float) -> tuple[list[float], list[float]]:
    singles, probes, deadline = [], [], time.monotonic() + seconds
    public, private = (HTTPConnection("127.0.0.1", number, timeout=30) for number in (port, management))
    with contextlib.closing(public), contextlib.closing(private):
        while time.monotonic() < deadline:
            singles.append(_milliseconds(public, "POST", "/v1/score", body))
            if len(singles) % 10 == 0:
                probes += [_milliseconds(private, "GET", path) for path in ("/healthz", "/readyz")]
            time.sleep(0.002)
    return singles, probes


def _milliseconds(connection: HTTPConnection, method: str, path: str, body: str | None = None) -> float:
    started = time.perf_counter()
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status}")
    return (time.perf_counter() - started) * 1000


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def show(found: dict[str, dict]) -> None:
    print("| connections | offered/s | scored/s | refused/s | p50 of scored, ms | p99 of scored, ms | p50 of all, ms | "
          "neither | core |\n|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for name in ("few", "capacity", "overload"):
        row = found["overload"][name]
        print(f"| {row['connections']:.0f} | {row['offered']:.0f} | {row['scored']:.0f} | {row['refused']:.0f} | "
              f"{row['p50']:.1f} | {row['p99']:.1f} | {row['all_p50']:.1f} | {row['other']:.0f} | "
              f"{row['busy']:.2f} |")  # fmt: skip
    promise = found["overload"]["promise"]
    ratios = ", ".join(f"{ratio:.2f}" for ratio in promise["p99_ratios"])
    print(f"\np99 under overload to p99 at capacity: {promise['p99_ratio']:.2f} (rounds: {ratios}); "
          f"recovered after {promise['recovery_seconds']:.1f} s; a client that just came is refused within "
          f"{promise['refusal_p50']:.1f} ms (median)\n")  # fmt: skip
    print(f"| clients with batches of {ROWS} rows | batches | single p50, ms | single p99, ms | probe p99, ms | "
          "probe max, ms |\n|---|---|---|---|---|---|")  # fmt: skip
    for clients, row in found["batches"].items():
        numbers = (f"{row[name]:.1f}" for name in ("single_p50", "single_p99", "probe_p99", "probe_max"))
        print(f"| {clients} | {row['batches']:.0f} | {' | '.join(numbers)} |")


def start(model: Path, registry: str, work: Path, sources: Path | None, running: contextlib.ExitStack) -> Service:
    """Start this checkout's service, or that of other sources."""
    work.mkdir()
    base, ours = environments(model, registry, work)
    ours["SCORER_MAX_CONCURRENT_REQUESTS"] = str(AT_ONCE)
    if sources:
        ours["PYTHONPATH"] = str(sources.resolve())
    server, *_ = start_all(model, Path("/nowhere"), base, ours, work, running, ["scoring", "scoring, 4 reasons"])
    return Service(server, int(ours["SCORER_MANAGEMENT_PORT"]))


def measure(services: dict[str, Service], model: Path, script: Path, options: argparse.Namespace) -> dict[str, dict]:
    """Return by service what overload and batches do to it."""
    for service in services.values():
        press(service.server, script, FEW, 1, TARGET)
    pressed = overload(services, script, options.rounds, options.seconds)
    batches = {
        clients: {name: beside_batches(service, model, clients, options.seconds) for name, service in services.items()}
        for clients in (0, 1, 4)
    }
    return {
        name: {"overload": pressed[name], "batches": {str(clients): row[name] for clients, row in batches.items()}}
        for name in services
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the folder of a registered version")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--also", type=Path, help="sources of the service to compare with")
    parser.add_argument("--json", action="store_true", help="print numbers for a program")
    options = parser.parse_args()
    model = options.model.resolve()
    with tempfile.TemporaryDirectory() as folder, registry_of(model) as registry, contextlib.ExitStack() as running:
        work = Path(folder)
        versions = {"this": None, **({"other": options.also} if options.also else {})}
        services = {name: start(model, registry, work / name, path, running) for name, path in versions.items()}
        script = write_script(work / "overload.lua", [body_for("scoring", one) for one in applicants(model)[:2000]])
        found = measure(services, model, script, options)
    if options.json:
        print(json.dumps(found["this"] if options.also is None else found))
        return
    for name, numbers in found.items():
        print(f"\n{name}\n")
        show(numbers)


if __name__ == "__main__":
    main()
