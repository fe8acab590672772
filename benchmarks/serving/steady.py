"""The scoring service under a steady load of 70 % of its capacity: failed requests, p99, and the trend of its memory.

    python benchmarks/serving/steady.py --model FOLDER [--minutes 30] [--warm-up-minutes 5] [--share 0.7] [--json]

Two minutes (--minutes 2 --warm-up-minutes 1) show a large leak; how large, the error that is printed tells.
Needs wrk; the service runs on one core, wrk on another one.
"""

import argparse
import contextlib
import json
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path

from pressure import Outcome, press, write_script
from registry import registry_of
from run import Contender, applicants, body_for, environments, resident_megabytes, start_all
from trend import slope_per_hour

# Between two requests of one connection, so that many connections together make a steady rate.
PAUSE_MILLISECONDS = 10
FULL = 64


class Memory:
    """Samples a process's memory every second, from a thread."""

    def __init__(self, pid: int) -> None:
        self._pid, self._stop = pid, threading.Event()
        self.seconds: list[float] = []
        self.megabytes: list[float] = []
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> "Memory":
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(1):
            self.seconds.append(time.monotonic() - self._started)
            self.megabytes.append(resident_megabytes(self._pid))


def connections_for(server: Contender, script: Path, rate: float) -> int:
    """Return how many connections offer a rate, in requests per second."""
    per_connection = press(server, script, FULL, 2).offered / FULL
    return max(1, round(rate / per_connection))


def measure(server: Contender, bodies: list[str], work: Path, options: argparse.Namespace) -> dict:
    """Return capacity, what came of the load, and the memory's trend in MB per hour with its error."""
    capacity = press(server, write_script(work / "full.lua", bodies), FULL, 4).scored
    script = write_script(work / "steady.lua", bodies, PAUSE_MILLISECONDS)
    connections = connections_for(server, script, options.share * capacity)
    press(server, script, connections, options.warm_up_minutes * 60)
    with Memory(server.group) as memory:
        found: Outcome = press(server, script, connections, options.minutes * 60)
    slope, error = slope_per_hour(memory.seconds, memory.megabytes)
    return {
        "capacity": capacity, "share": found.offered / capacity, "failed": found.other, "slope": slope, "error": error,
        "megabytes": memory.megabytes[-1], **asdict(found),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the folder of a registered version")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--warm-up-minutes", type=float, default=5)
    parser.add_argument("--share", type=float, default=0.7, help="of the capacity that was just measured")
    parser.add_argument("--json", action="store_true", help="print numbers for a program")
    options = parser.parse_args()
    model = options.model.resolve()
    with tempfile.TemporaryDirectory() as folder, registry_of(model) as registry, contextlib.ExitStack() as running:
        work = Path(folder)
        base, ours = environments(model, registry, work)
        server, *_ = start_all(model, Path("/nowhere"), base, ours, work, running, ["scoring", "scoring, 4 reasons"])
        found = measure(server, [body_for("scoring", one) for one in applicants(model)[:2000]], work, options)
    if options.json:
        print(json.dumps(found))
        return
    print(f"{options.minutes:g} minutes at {found['offered']:.0f} requests/s, {found['share']:.0%} of the capacity of "
          f"{found['capacity']:.0f}: {found['refused'] * 60 * options.minutes:.0f} refused, {found['failed']} failed, "
          f"p50 {found['p50']:.1f} ms, p99 {found['p99']:.1f} ms")  # fmt: skip
    print(f"memory {found['megabytes']:.1f} MB, slope {found['slope']:+.2f} +- {found['error']:.2f} MB/h")


if __name__ == "__main__":
    main()
