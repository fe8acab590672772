"""What the scoring service does under three times its capacity, and to single applications beside large batches.

    python benchmarks/serving/overload.py --model FOLDER [--seconds 5] [--rounds 3] [--json]

The service runs on one core, its clients on another one (needs wrk). Capacity is what it scores for as many
connections as it lets requests run at once; overload is three times as many connections, each of which tries again at
once, however often it is told to wait. Rounds take turns, so that both see the same load of the machine; numbers are
medians.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from dataclasses import asdict
from http.client import HTTPConnection
from pathlib import Path

from pressure import Outcome, press, write_script
from registry import registry_of
from run import Contender, applicants, body_for, environments, start_all

# The chart's api.limits.concurrentRequests.
AT_ONCE = 256
FEW = 16
ROWS = 10_000
# Dear ones, so that the clients' core can offer three times as many.
TARGET = "/v1/score?reasons=4"


def overload(server: Contender, script: Path, rounds: int, seconds: float) -> dict[str, dict]:
    """Return the medians of outcomes, and how long the service took to be as it was."""
    found: dict[str, list[Outcome]] = {"few": [], "capacity": [], "overload": []}
    recoveries = []
    for _ in range(rounds):
        found["few"].append(press(server, script, FEW, seconds, TARGET))
        found["capacity"].append(press(server, script, AT_ONCE - FEW, seconds, TARGET))
        found["overload"].append(press(server, script, 3 * AT_ONCE, seconds, TARGET))
        recoveries.append(_recovery(server, script, found["few"][-1]))
    result = {
        name: {key: statistics.median(asdict(o)[key] for o in outcomes) for key in asdict(outcomes[0])}
        for name, outcomes in found.items()
    }
    pairs = zip(found["overload"], found["capacity"], strict=True)
    ratio = statistics.median(over.p99 / normal.p99 for over, normal in pairs)
    others = max(outcome.other for outcome in found["overload"])
    return {**result, "promise": {"p99_ratio": ratio, "recovery_seconds": max(recoveries), "other": others}}


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


def beside_batches(server: Contender, management: int, model: Path, clients: int, seconds: float) -> dict[str, float]:
    """Return the latencies of probes and of single applications, in milliseconds, while clients post large batches."""
    asked = applicants(model)
    body, single = json.dumps(asked[:ROWS]).encode(), body_for("scoring", asked[0])
    stop, count = multiprocessing.Event(), multiprocessing.Value("i", 0)
    work = [
        multiprocessing.Process(target=_post_batches, args=(server.port, body, stop, count)) for _ in range(clients)
    ]
    for process in work:
        process.start()
    try:
        time.sleep(1 if clients else 0)
        singles, probes = _ask(server.port, management, single, seconds)
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
    print(f"\np99 under overload to p99 at capacity: {promise['p99_ratio']:.2f}; "
          f"recovered after {promise['recovery_seconds']:.1f} s\n")  # fmt: skip
    print(f"| clients with batches of {ROWS} rows | batches | single p50, ms | single p99, ms | probe p99, ms | "
          "probe max, ms |\n|---|---|---|---|---|---|")  # fmt: skip
    for clients, row in found["batches"].items():
        numbers = (f"{row[name]:.1f}" for name in ("single_p50", "single_p99", "probe_p99", "probe_max"))
        print(f"| {clients} | {row['batches']:.0f} | {' | '.join(numbers)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the folder of a registered version")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--json", action="store_true", help="print numbers for a program")
    options = parser.parse_args()
    model = options.model.resolve()
    with tempfile.TemporaryDirectory() as folder, registry_of(model) as registry, contextlib.ExitStack() as running:
        work = Path(folder)
        base, ours = environments(model, registry, work)
        ours["SCORER_MAX_CONCURRENT_REQUESTS"] = str(AT_ONCE)
        server, *_ = start_all(model, Path("/nowhere"), base, ours, work, running, ["scoring", "scoring, 4 reasons"])
        bodies = [body_for("scoring", one) for one in applicants(model)[:2000]]
        script = write_script(work / "overload.lua", bodies)
        press(server, script, FEW, 1, TARGET)
        management = int(ours["SCORER_MANAGEMENT_PORT"])
        found = {
            "overload": overload(server, script, options.rounds, options.seconds),
            "batches": {
                str(clients): beside_batches(server, management, model, clients, options.seconds)
                for clients in (0, 1, 4)
            },
        }
    if options.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
