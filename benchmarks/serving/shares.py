"""Where a request's processor time goes, by library (needs wrk, and perf from Debian's linux-perf)."""

import argparse
import contextlib
import re
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from registry import registry_of
from run import environments, start_all

# Libraries by purpose; the rest is small.
PARTS = {
    "Python's interpreter": ("libpython", "_asyncio"),
    "the kernel: sockets, scheduling": ("kernel",),
    "the network: onnxruntime": ("onnxruntime",),
    "memory and copying: libc": ("libc.so",),
    "the event loop and HTTP parsing: uvloop, httptools": ("loop.cpython", "parser.cpython"),
    "JSON: msgspec": ("_core.cpython",),
    "arrays: numpy": ("_multiarray",),
}
NAMES = ("scoring", "scoring, 4 reasons", "bare ASGI echo")


def shares(pid: int, seconds: int, data: Path) -> dict[str, float]:
    """Return each part's share of a process's time over the next seconds."""
    record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "1999", "-p", str(pid), "-o", str(data)]
    subprocess.run([*record, "--", "sleep", str(seconds)], check=True, capture_output=True)
    report = ["perf", "report", "-i", str(data), "--sort", "dso", "--stdio"]
    output = subprocess.run(report, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = defaultdict(float)
    for percent, library in re.findall(r"^\s+([0-9.]+)%\s+(\S+)", output, re.MULTILINE):
        part = next((part for part, marks in PARTS.items() if any(mark in library for mark in marks)), "other")
        found[part] += float(percent) / 100
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a registered version")
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    columns: dict[str, tuple[float, dict[str, float]]] = {}
    model = options.model.resolve()
    with tempfile.TemporaryDirectory() as folder, registry_of(model) as registry, contextlib.ExitStack() as running:
        work = Path(folder)
        base, ours = environments(model, registry, work)
        for contender in start_all(model, Path("/nowhere"), base, ours, work, running, NAMES):
            contender.measure(1)
            _, _, cost = contender.measure(options.seconds)
            load = subprocess.Popen(contender.load(options.seconds + 1), stdout=subprocess.DEVNULL)
            time.sleep(0.5)
            columns[contender.name] = cost, shares(contender.group, options.seconds, work / "perf.data")
            load.wait()
    print("\n| us of processor time per request | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for part in [*PARTS, "other"]:
        cells = (f"{cost * found.get(part, 0):.1f} ({found.get(part, 0):.0%})" for cost, found in columns.values())
        print(f"| {part} | " + " | ".join(cells) + " |")
    print("| together | " + " | ".join(f"{cost:.1f}" for cost, _ in columns.values()) + " |")


if __name__ == "__main__":
    main()
