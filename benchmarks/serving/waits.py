"""How well benchmarks/scale/queueing.py says how long requests wait: a real service beside its simulation.

    python benchmarks/serving/waits.py --model FOLDER [--rounds 5] [--seconds 2] [--reasons] [--save FILE]

In each round, the service is measured with 1, 4 and 64 clients that never pause: what a turn and a request take, and
how that varies. Then clients that pause at random make several shares of its capacity, and the simulation of the same
clients is compared with what wrk saw. Medians are over rounds, of the ratios too. Needs wrk.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "images/training/src"), str(HERE.parent / "scale")]

from costs import bench  # noqa: E402
from queueing import Service, Waits, clients  # noqa: E402
from run import Contender, applicants, cpu_seconds  # noqa: E402

SHARES = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9)
# Of each client, between two requests; many clients are then almost as independent as strangers.
PAUSE_SECONDS = 0.02
FEW, FULL = 4, 64
# Of the middles of so many equal parts: the distribution of a turn's time.
QUANTILES = 200
SCRIPT = """
local bodies, requests, last = {{ {bodies} }}, {{}}, 0
wrk.headers['Content-Type'] = 'application/json'
init = function(args)
  math.randomseed({seed})
  for i, body in ipairs(bodies) do requests[i] = wrk.format('POST', nil, nil, body) end
end
request = function() last = last % #requests + 1; return requests[last] end
{delay}
done = function(summary, latency)
  local found = {{}}
  for i = 1, {quantiles} do found[i] = latency:percentile((i - 0.5) / {quantiles} * 100) end
  local form = 'FOUND {{"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"refused":%d,"lost":%d,"quantiles":[%s]}}\\n'
  io.write(string.format(form, summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    summary.errors.status, summary.errors.timeout, table.concat(found, ',')))
end
"""
DELAY = "delay = function() return math.floor(-{milliseconds} * math.log(1 - math.random()) + 0.5) end"


@dataclass(frozen=True)
class Seen:
    """What wrk saw: requests per second, latencies in seconds, processor time per request, and refusals."""

    rate: float
    p50: float
    p99: float
    quantiles: tuple[float, ...]
    cpu: float
    refused: int


def see(target: Contender, work: Path, connections: int, seconds: int, path: str, pause: float = 0.0) -> Seen:
    """Load the service with clients that pause for this mean time.

    Raises:
        SystemExit: A request had no answer within two seconds.
    """
    listed = ",\n".join(f"[==[{json.dumps(one)}]==]" for one in applicants_of(work))
    delay = DELAY.format(milliseconds=pause * 1e3) if pause else ""
    script = work / "waits.lua"
    script.write_text(SCRIPT.format(bodies=listed, delay=delay, quantiles=QUANTILES, seed=connections))
    command = ["taskset", "-c", "0", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script),
               f"http://127.0.0.1:{target.port}{path}"]  # fmt: skip
    before = cpu_seconds(target.group)
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = cpu_seconds(target.group) - before
    found = json.loads(re.search("FOUND (.*)", said)[1])
    if found["lost"]:
        raise SystemExit(f"{found['lost']} requests had no answer in time:\n{said}")
    quantiles = tuple(value / 1e6 for value in found["quantiles"])
    rate = found["requests"] / found["seconds"]
    return Seen(rate, found["p50"] / 1e6, found["p99"] / 1e6, quantiles, used / found["requests"],
                found["refused"])  # fmt: skip


def applicants_of(work: Path) -> list[dict]:
    """Return what is sent; written once by `main`."""
    return json.loads((work / "applicants.json").read_text())


def calibrate(target: Contender, work: Path, seconds: int, path: str) -> tuple[Service, float]:
    """Return the service as it is simulated, and its capacity in requests per second."""
    alone, few, full = (see(target, work, connections, seconds, path) for connections in (1, FEW, FULL))
    request = full.cpu
    # While a turn is answered, the next one gathers: each has half of the clients.
    turn = max(0.0, (few.cpu - request) * FEW / 2)
    # A few clients keep the process awake, so what varies is what its turns take.
    mean = statistics.mean(few.quantiles)
    factors = tuple(value / mean for value in few.quantiles)
    outside, wake = max(0.0, 1 / alone.rate - alone.cpu), max(0.0, alone.cpu - turn - request)
    return Service(turn, request, outside, factors, wake), full.rate


def compare(target: Contender, work: Path, seconds: int, path: str, number: int) -> dict[float, tuple[Seen, Waits]]:
    """Measure and simulate each share of the capacity once."""
    service, capacity = calibrate(target, work, seconds, path)
    found = {}
    for share in SHARES:
        connections = round(share * capacity * PAUSE_SECONDS)
        seen = see(target, work, connections, seconds, path, PAUSE_SECONDS)
        found[share] = seen, clients(service, connections, PAUSE_SECONDS, 3 * seconds, seed=number)
    refused = sum(seen.refused for seen, _ in found.values())
    said = {"round": number, "capacity": capacity, **asdict(service), "refused": refused}
    del said["factors"]
    print(json.dumps(said), file=sys.stderr, flush=True)
    return found


def table(rounds: list[dict[float, tuple[Seen, Waits]]]) -> str:
    """Return the comparison as Markdown: medians, and of ratios the least and the greatest too."""
    lines = ["| share of capacity | req/s, measured / simulated | p50, ms | ratio | p99, ms | ratio |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for share in SHARES:
        columns = defaultdict(list)
        for one in rounds:
            seen, waits = one[share]
            columns["rate"].append((seen.rate, waits.rate))
            columns["p50"].append((seen.p50 * 1e3, waits.percentile(50)))
            columns["p99"].append((seen.p99 * 1e3, waits.percentile(99)))
        rate, p50, p99 = ([statistics.median(side) for side in zip(*columns[name], strict=True)] for name in columns)
        ratios = {name: sorted(ours / real for real, ours in columns[name]) for name in ("p50", "p99")}
        said = {name: f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"
                for name, found in ratios.items()}  # fmt: skip
        lines.append(f"| {share:.0%} | {rate[0]:,.0f} / {rate[1]:,.0f} | {p50[0]:.2f} / {p50[1]:.2f} | {said['p50']} | "
                     f"{p99[0]:.2f} / {p99[1]:.2f} | {said['p99']} |")  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the folder of a registered version")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--reasons", action="store_true", help="ask for 4 reasons each time")
    parser.add_argument("--save", type=Path, help="write the service of the last round, for benchmarks/scale")
    options = parser.parse_args()
    path = "/v1/score?reasons=4" if options.reasons else "/v1/score"
    with bench(options.model.resolve()) as given, given.scorer() as target:
        (given.work / "applicants.json").write_text(json.dumps(applicants(given.model)[:2000]))
        see(target, given.work, FULL, options.seconds, path)
        rounds = [compare(target, given.work, options.seconds, path, number) for number in range(options.rounds)]
        if options.save:
            service, _ = calibrate(target, given.work, options.seconds, path)
            options.save.write_text(json.dumps(asdict(service)))
    print(table(rounds))


if __name__ == "__main__":
    main()
