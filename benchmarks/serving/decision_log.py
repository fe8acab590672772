"""What the decision log costs: the service without it, in the mode log, and in the mode require (needs wrk).

    python benchmarks/serving/decision_log.py --model FOLDER [--rounds 12] [--seconds 1] [--singles-only]

Each mode is one process on one core with all of its threads; wrk runs on the other core with 16 kept connections. The
modes take turns, each round in another order, so that all of them see the same load of the machine: compare ratios
within rounds. Processor time per request says most on a machine that is busy with other work, for it counts what the
process itself ran. Segments are written to `--folder`; put it on the kind of disk that pods have.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from registry import registry_of
from run import SCORER, Contender, applicants, environments, free_port, server

from trainer.data.synthetic import generate

MODES = ("off", "log", "require")
BATCH_ROWS, BATCHES = 10_000, 5
# An hour at so many decisions per second must fit the default of SCORER_DECISION_LOG_MAX_BYTES.
RATE, LIMIT_BYTES = 500, 1_073_741_824


@dataclass(frozen=True)
class Figures:
    """What was measured of one mode in one round.

    Attributes:
        rate: Requests per second.
        p99: In milliseconds.
        cost: Processor time per single application, in microseconds.
        rows: Rows of batches per second.
        row_cost: Processor time per row of a batch, in nanoseconds.
    """

    rate: float
    p99: float
    cost: float
    rows: float
    row_cost: float


@dataclass(frozen=True)
class Mode:
    """A running service in one mode."""

    contender: Contender
    folder: Path

    def measure(self, seconds: int, batch: bytes) -> Figures:
        """Send single applications for this many seconds, then batches, if there is a body for them."""
        before = self.processor_seconds()
        rate, p99, _ = self.contender.measure(seconds)
        # A second may end between two requests; the rate is wrk's over its own time.
        cost = (self.processor_seconds() - before) / (rate * seconds) * 1e6
        rows, row_cost = self.measure_batches(batch) if batch else (math.nan, math.nan)
        self.ship()
        return Figures(rate, p99, cost, rows, row_cost)

    def processor_seconds(self) -> float:
        """Return the service's processor time so far; /proc counts in hundredths of a second."""
        # The clock of another process, as clock_getcpuclockid(3) makes its number.
        return time.clock_gettime(~self.contender.group << 3 | 2)

    def measure_batches(self, batch: bytes) -> tuple[float, float]:
        """Return the rows per second, and the processor time per row in nanoseconds."""
        before, started = self.processor_seconds(), time.perf_counter()
        with contextlib.closing(HTTPConnection("127.0.0.1", self.contender.port, timeout=60)) as http:
            for _ in range(BATCHES):
                http.request("POST", "/v1/score/batch", batch, {"Content-Type": "application/json"})
                answer = http.getresponse()
                document = answer.read()
                if answer.status != 200:
                    raise SystemExit(f"{self.contender.name}: {answer.status} {document[:300]!r}")
        rows = BATCHES * BATCH_ROWS
        took, cost = time.perf_counter() - started, self.processor_seconds() - before
        return rows / took, cost / rows * 1e9

    def bytes_per_decision(self, seconds: int) -> float:
        """Return what a single application takes in a segment at 500 per second, whose groups are small."""
        before, decisions = self.held()
        with contextlib.closing(HTTPConnection("127.0.0.1", self.contender.port, timeout=60)) as http:
            began = time.perf_counter()
            for number in range(RATE * seconds):
                time.sleep(max(0.0, began + number / RATE - time.perf_counter()))
                http.request("POST", "/v1/score", self.contender.body, {"Content-Type": "application/json"})
                http.getresponse().read()
        time.sleep(1)
        after, more = self.held()
        return (after - before) / (more - decisions)

    def held(self) -> tuple[int, int]:
        """Return the bytes of all segments once their write-ahead logs are in them, and their decisions."""
        held = decisions = 0
        for segment in self.folder.glob("*/*/segment-*.sqlite"):
            with contextlib.closing(sqlite3.connect(segment)) as database:
                pages, size = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
                (count,) = database.execute("SELECT coalesce(sum(decisions), 0) FROM groups").fetchone()
            held, decisions = held + pages * size, decisions + count
        return held, decisions

    def ship(self) -> None:
        """Remove complete segments, as the shipper does."""
        for log in self.folder.glob("*/*-*"):
            for segment in sorted(log.glob("segment-*.sqlite"))[:-1]:
                segment.unlink()


@contextlib.contextmanager
def running(name: str, model: Path, registry: str, work: Path) -> Iterator[Mode]:
    """Run the service in one mode until it is no longer needed."""
    folder = work / f"log-{name}"
    _, ours = environments(model, registry, work)
    environment = {
        **ours, "SCORER_DECISION_LOG": name, "SCORER_DECISION_LOG_DIR": str(folder), "SCORER_POD_NAME": "scoring-0",
        "SCORER_MANAGEMENT_PORT": str(free_port()), "SCORER_CACHE_DIR": str(work / f"cache-{name}"),
    }  # fmt: skip
    with server(name, SCORER, environment, work) as group:
        contender = Contender.of("scoring", int(environment["SCORER_PORT"]), group, applicants(model), work)
        if not contender.starts(work):
            raise SystemExit(1)
        yield Mode(contender, folder)


def ratio(modes: list[Figures], base: list[Figures], name: str) -> str:
    """Return the median of a figure's ratios to the base, and their quartiles."""
    found = [getattr(one, name) / getattr(other, name) for one, other in zip(modes, base, strict=True)]
    low, middle, high = statistics.quantiles(found, n=4)
    return f"{middle:.3f} ({low:.2f} to {high:.2f})"


def report(figures: dict[str, list[Figures]]) -> None:
    names = list(Figures.__dataclass_fields__)
    print("\n| mode | req/s | p99, ms | CPU per request, us | rows/s | CPU per row, ns |\n|---|---|---|---|---|---|")
    for mode, found in figures.items():
        medians = (statistics.median(getattr(one, name) for one in found) for name in names)
        print(f"| {mode} | " + " | ".join(f"{value:.1f}" for value in medians) + " |")
    for mode in MODES[1:]:
        cells = (ratio(figures[mode], figures["off"], name) for name in names)
        print(f"| {mode} / off | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a registered version")
    parser.add_argument("--rounds", type=int, default=12, help="2 at least")
    parser.add_argument("--seconds", type=int, default=1, help="of single applications, for each mode in each round")
    parser.add_argument("--singles-only", action="store_true", help="send no batches, and do not measure bytes")
    parser.add_argument("--folder", type=Path, default=None, help="where the segments go")
    options = parser.parse_args()
    model = options.model.resolve()
    features = [feature["name"] for feature in json.loads((model / "contract.json").read_text())["features"]]
    batch = b""
    if not options.singles_only:
        batch = json.dumps(generate(BATCH_ROWS, seed=11)[features].to_dict("list")).encode()
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        registry_of(model) as registry,
        contextlib.ExitStack() as stack,
    ):
        work = Path(folder)
        modes = {name: stack.enter_context(running(name, model, registry, work)) for name in MODES}
        figures: dict[str, list[Figures]] = {name: [] for name in MODES}
        for number in range(options.rounds + 1):
            turn = number % len(MODES)
            for name in MODES[turn:] + MODES[:turn]:
                measured = modes[name].measure(options.seconds, batch)
                # The first round warms up.
                if number:
                    figures[name].append(measured)
        print(f"{options.rounds} rounds of {options.seconds} s; ratios: median within rounds (quartiles)")
        report(figures)
        if not options.singles_only:
            size = modes["log"].bytes_per_decision(10)
            share = size * RATE * 3600 / LIMIT_BYTES
            print(
                f"\n{size:.0f} bytes per single application; an hour at {RATE}/s takes {share:.0%} of the default limit"
            )


if __name__ == "__main__":
    main()
