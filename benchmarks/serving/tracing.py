"""What traces cost: the service before it had them, without an endpoint, and with two ratios (needs wrk).

    python benchmarks/serving/tracing.py --model FOLDER [--before SOURCES] [--rounds 12] [--seconds 1]

SOURCES is `images/api/src` of a checkout from before, as `git worktree add` makes it. Each mode is one process on one
core with all of its threads; wrk runs on the other core with 16 kept connections, beside an endpoint that takes all
spans. The modes take turns, each round in another order: compare ratios within rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from registry import registry_of
from run import CONTENDERS, SCORER, Contender, applicants, environments, free_port, server

RATIOS = {"off": None, "ratio 0.01": "0.01", "ratio 1": "1"}


@dataclass(frozen=True)
class Figures:
    """What was measured of one mode in one round.

    Attributes:
        rate: Requests per second.
        p99: In milliseconds.
        cost: Processor time per request, in microseconds, of all threads.
    """

    rate: float
    p99: float
    cost: float


class _Endpoint(BaseHTTPRequestHandler):
    """Takes spans and says so."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Endpoint) as taking:
        threading.Thread(target=taking.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{taking.server_port}/v1/traces"
        taking.shutdown()


def measure(contender: Contender, seconds: int) -> Figures:
    before = processor_seconds(contender)
    rate, p99, _ = contender.measure(seconds)
    return Figures(rate, p99, (processor_seconds(contender) - before) / (rate * seconds) * 1e6)


def processor_seconds(contender: Contender) -> float:
    """Return a process's time so far; /proc counts in hundredths of a second."""
    # The clock of another process, as clock_getcpuclockid(3) makes its number.
    return time.clock_gettime(~contender.group << 3 | 2)


@contextlib.contextmanager
def running(
    name: str, own: dict[str, str], environment: dict[str, str], model: Path, work: Path
) -> Iterator[Contender]:
    """Run the service in one mode until it is no longer needed."""
    port = free_port()
    environment = {
        **environment, **own, "SCORER_PORT": str(port), "SCORER_MANAGEMENT_PORT": str(free_port()),
        "SCORER_POD_NAME": "scoring-0", "SCORER_CACHE_DIR": str(work / f"cache-{name.replace(' ', '-')}"),
    }  # fmt: skip
    with server(name, SCORER, environment, work) as group:
        contender = Contender.of("scoring", port, group, applicants(model), work)
        if not contender.starts(work):
            raise SystemExit(1)
        yield contender


def report(figures: dict[str, list[Figures]], base: str) -> None:
    print("\n| mode | req/s | p99, ms | CPU per request, us |\n|---|---|---|---|")
    for mode, found in figures.items():
        medians = (statistics.median(column) for column in zip(*map(astuple, found), strict=True))
        print(f"| {mode} | " + " | ".join(f"{value:.1f}" for value in medians) + " |")
    for mode, found in figures.items():
        if mode != base:
            cells = (ratio(found, figures[base], field.name) for field in fields(Figures))
            print(f"| {mode} / {base} | " + " | ".join(cells) + " |")


def ratio(found: list[Figures], base: list[Figures], name: str) -> str:
    """Return the median of a figure's ratios to the base, and their quartiles."""
    ratios = [getattr(one, name) / getattr(other, name) for one, other in zip(found, base, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a registered version")
    parser.add_argument("--before", type=Path, help="sources of the service before it had traces")
    parser.add_argument("--rounds", type=int, default=12, help="2 at least")
    parser.add_argument("--seconds", type=int, default=1, help="for each mode in each round")
    options = parser.parse_args()
    model = options.model.resolve()
    with (
        tempfile.TemporaryDirectory() as folder,
        registry_of(model) as registry,
        endpoint() as url,
        contextlib.ExitStack() as stack,
    ):
        work = Path(folder)
        _, environment = environments(model, registry, work)
        modes = {
            name: {"SCORER_TRACING_ENDPOINT": url, "SCORER_TRACING_RATIO": sampled} if sampled else {}
            for name, sampled in RATIOS.items()
        }
        if options.before:
            modes = {"before": {"PYTHONPATH": f"{CONTENDERS}:{options.before.resolve()}"}, **modes}
        contenders = {
            name: stack.enter_context(running(name, own, environment, model, work)) for name, own in modes.items()
        }
        names, figures = list(modes), {name: list[Figures]() for name in modes}
        for number in range(options.rounds + 1):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                measured = measure(contenders[name], options.seconds)
                # The first round warms up.
                if number:
                    figures[name].append(measured)
    print(f"{options.rounds} rounds of {options.seconds} s; ratios: median within rounds (quartiles)")
    report(figures, names[0])


if __name__ == "__main__":
    main()
