"""Compare the scoring service with a bare echo, and with other servers of the same ONNX model.

    python benchmarks/serving/run.py [--model FOLDER] [--venvs FOLDER] [--rounds 5] [--seconds 4]

Each server is one process on one core; wrk runs on the other one, with 16 kept connections. Servers alternate within
a round, so that all of them see the same load of the machine: compare ratios within rounds. A framework is measured if
`--venvs` has an environment of its name (`venv-litserve` and so on); missing ones are reported.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from batches import measure_batches
from registry import registry_of

from trainer.data.synthetic import generate

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
CONTENDERS = HERE / "contenders"
# So many that no server benefits from caching its answers.
APPLICANTS = 10_000
# Cycles through prepared requests.
WRK = """
local bodies, requests, last = {{ {bodies} }}, {{}}, 0
{headers}
init = function() for i, body in ipairs(bodies) do requests[i] = wrk.format('POST', nil, nil, body) end end
request = function() last = last % #requests + 1; return requests[last] end
"""
SCORER = [sys.executable, "-m", "scorer"]
PATHS = {
    "scoring": "/v1/score",
    "scoring, 4 reasons": "/v1/score?reasons=4",
    "bare ASGI echo": "/",
    "idiomatic FastAPI": "/score",
    "mlflow models serve": "/invocations",
    "litserve": "/predict",
    "bentoml": "/score",
    "mlserver": "/v2/models/credit-risk/infer",
    "kserve": "/v1/models/credit-risk:predict",
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def body_for(name: str, applicant: dict) -> str:
    if name == "mlflow models serve":
        return json.dumps({"dataframe_split": {"columns": list(applicant), "data": [list(applicant.values())]}})
    if name == "mlserver":
        return json.dumps({"inputs": [
            {"name": key, "shape": [1], "datatype": "BYTES" if isinstance(value, str) else "FP64", "data": [value]}
            for key, value in applicant.items()
        ]})  # fmt: skip
    if name == "kserve":
        return json.dumps({"instances": [applicant]})
    return json.dumps({"application": applicant} if name == "bentoml" else applicant)


def command_for(name: str, port: int, model: Path, venvs: Path, work: Path) -> list[str] | None:
    """Return the command that starts a server, None if its environment is missing."""
    python, address = sys.executable, ["--host", "127.0.0.1", "--port", str(port)]
    uvicorn = [python, "-m", "uvicorn", *address, "--no-access-log", "--log-level", "warning"]
    own = {
        "bare ASGI echo": [*uvicorn, "echo:app"],
        "idiomatic FastAPI": [*uvicorn, "idiomatic:app"],
        "mlflow models serve": [python, "-m", "mlflow", "models", "serve", "-m", str(model), "-p", str(port),
                                "--env-manager", "local"],
    }  # fmt: skip
    if name in own:
        return own[name]
    binaries = venvs / f"venv-{name}" / "bin"
    if name == "mlserver":
        settings = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "parallel_workers": 0,
                    "host": "127.0.0.1", "debug": False}  # fmt: skip
        (work / "settings.json").write_text(json.dumps(settings))
        declared = {"name": "credit-risk", "implementation": "with_mlserver.Scoring"}
        (work / "model-settings.json").write_text(json.dumps(declared))
    others = {
        "bentoml": [str(binaries / "bentoml"), "serve", "with_bentoml:Scoring", *address],
        "mlserver": [str(binaries / "mlserver"), "start", str(work)],
    }
    command = others.get(name, [str(binaries / "python"), str(CONTENDERS / f"with_{name}.py"), str(port)])
    return command if (binaries / "python").exists() else None


@contextlib.contextmanager
def server(name: str, command: list[str], environment: dict[str, str], work: Path) -> Iterator[int]:
    """Run a server on the second core; yield its process id, which is also that of its process group."""
    log = (work / f"{name.replace(' ', '-')}.log").open("wb")
    process = subprocess.Popen(
        ["taskset", "-c", "1", *command], cwd=CONTENDERS, env=environment, stdout=log, stderr=log,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process.pid
    finally:
        # SIGTERM first: BentoML's workers have their own process groups, and only their parent stops them.
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(port: int, path: str, body: str) -> bool:
    with contextlib.suppress(OSError), contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status == 200
    return False


def wrk_script(bodies: list[str], headers: dict[str, str] | None = None) -> str:
    """Return a script for wrk that posts the JSON bodies in a cycle."""
    lines = [
        f"wrk.headers['{name}'] = '{value}'"
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items()
    ]
    return WRK.format(bodies=",\n".join(f"[==[{body}]==]" for body in bodies), headers="\n".join(lines))


def latency(output: str, percentile: int) -> float:
    """Return a percentile in milliseconds from wrk's output."""
    value, unit = re.search(rf"{percentile}%\s+([0-9.]+)(us|ms|s)", output).groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def requests_of(output: str) -> float:
    """Return the requests per second from wrk's output."""
    return float(re.search(r"Requests/sec: +([0-9.]+)", output)[1])


def cpu_seconds(group: int) -> float:
    """Return the processor time of a process group so far, which does not depend on how busy the machine is."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12]) if int(fields[2]) == group else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


def start_of_ours(environment: dict[str, str], work: Path) -> float:
    """Return the seconds from a process's start until it is ready."""
    started = time.perf_counter()
    with server("start", SCORER, environment, work):
        while time.perf_counter() - started < 30:
            address = f"127.0.0.1:{environment['SCORER_MANAGEMENT_PORT']}"
            with contextlib.suppress(OSError), contextlib.closing(HTTPConnection(address)) as http:
                http.request("GET", "/readyz")
                if http.getresponse().status == 200:
                    return time.perf_counter() - started
            time.sleep(0.01)
    raise SystemExit("the service did not become ready")


def cell(value: float, digits: int) -> str:
    """Return a number, or "-" for a server whose workers left its process group and whose time cannot be read."""
    return f"{value:.{digits}f}" if value else "-"


def table(rates: dict[str, list[tuple[float, float, float]]]) -> None:
    base = rates["bare ASGI echo"]
    print("| server | req/s | p99, ms | CPU per request, us | req/s of the echo's | p99 of the echo's | "
          "req/s, ours to its | CPU, its to ours |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for name, found in rates.items():
        speed = statistics.median(a[0] / b[0] for a, b in zip(found, base, strict=True))
        tail = statistics.median(a[1] / b[1] for a, b in zip(found, base, strict=True))
        ours = statistics.median(a[0] / b[0] for a, b in zip(rates["scoring"], found, strict=True))
        cheaper = statistics.median(b[2] / max(a[2], 1) for a, b in zip(rates["scoring"], found, strict=True))
        rate, p99, cost = (statistics.median(column) for column in zip(*found, strict=True))
        numbers = (
            f"{rate:.0f} | {p99:.1f} | {cell(cost, 0)} | {speed:.2f} | {tail:.2f} | {ours:.2f} | {cell(cheaper, 2)}"
        )
        print(f"| {name} | {numbers} |")


@dataclass(frozen=True)
class Contender:
    """A running server and the requests it is sent."""

    name: str
    port: int
    group: int
    body: str
    script: Path

    @classmethod
    def of(cls, name: str, port: int, group: int, asked: list[dict], work: Path) -> Contender:
        """Write the requests to a script for wrk."""
        script, bodies = work / f"{name.replace(' ', '-')}.lua", [body_for(name, one) for one in asked]
        script.write_text(wrk_script(bodies))
        return cls(name, port, group, bodies[0], script)

    def starts(self, work: Path) -> bool:
        """Wait for the first answer; return whether there was one."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if answers(self.port, PATHS[self.name], self.body):
                return True
            time.sleep(0.3)
        log = (work / f"{self.name.replace(' ', '-')}.log").read_text(errors="replace")
        print(f"{self.name}: does not answer; not measured: {log[-600:]}")
        return False

    def load(self, seconds: int) -> list[str]:
        """Return the command that sends requests for this many seconds, from the first core."""
        url = f"http://127.0.0.1:{self.port}{PATHS[self.name]}"
        return ["taskset", "-c", "0", "wrk", "-t1", "-c16", f"-d{seconds}s", "--latency", "-s", str(self.script), url]

    def measure(self, seconds: int) -> tuple[float, float, float]:
        """Return requests per second, p99 in milliseconds, and the server's processor time per request in us."""
        before = cpu_seconds(self.group)
        output = subprocess.run(self.load(seconds), check=True, capture_output=True, text=True).stdout
        if "Non-2xx" in output:
            raise SystemExit(f"{self.name} refused requests:\n{output}")
        requests = int(re.search(r"(\d+) requests in", output)[1])
        cost = (cpu_seconds(self.group) - before) / max(requests, 1) * 1e6
        return requests_of(output), latency(output, 99), cost


def applicants(model: Path) -> list[dict]:
    """Return applicants who differ as much from each other, and from the reference, as those in the data."""
    features = [feature["name"] for feature in json.loads((model / "contract.json").read_text())["features"]]
    return generate(APPLICANTS, seed=7)[features].to_dict("records")


def environments(model: Path, registry: str, work: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the other servers' environment, and ours."""
    base = {
        **os.environ, "MODEL_FOLDER": str(model), "PYTHONPATH": f"{CONTENDERS}:{ROOT / 'images/api/src'}",
        "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    return base, {
        **base, "SCORER_PORT": str(free_port()), "SCORER_MANAGEMENT_PORT": str(free_port()),
        "SCORER_HOST": "127.0.0.1", "SCORER_REGISTRY_URL": registry, "SCORER_MODEL_VERSION": "1",
        "SCORER_CACHE_DIR": str(work / "cache"), "SCORER_ROUTE_FILE": "/nowhere",
    }  # fmt: skip


def start_all(
    model: Path,
    venvs: Path,
    base: dict[str, str],
    ours: dict[str, str],
    work: Path,
    running: contextlib.ExitStack,
    names: Iterable[str] = PATHS,
) -> list[Contender]:
    """Start every installed server of these names; the first two are ours."""
    asked, port = applicants(model), int(ours["SCORER_PORT"])
    pid = running.enter_context(server("scoring", SCORER, ours, work))
    found = [Contender.of(name, port, pid, asked, work) for name in ("scoring", "scoring, 4 reasons")]
    for name in list(names)[2:]:
        port = free_port()
        if command := command_for(name, port, model, venvs, work):
            group = running.enter_context(server(name, command, base, work))
            found.append(Contender.of(name, port, group, asked, work))
        else:
            print(f"{name}: not installed; not measured")
    return [contender for contender in found if contender.starts(work)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a registered version")
    parser.add_argument(
        "--venvs", type=Path, default=Path("/nowhere"), help="folder with venv-litserve, venv-bentoml, ..."
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    model = options.model.resolve()
    with tempfile.TemporaryDirectory() as folder, registry_of(model) as registry, contextlib.ExitStack() as running:
        work = Path(folder)
        base, ours = environments(model, registry, work)
        # The first start downloads the files.
        starts = [start_of_ours(ours, work) for _ in range(6)][1:]
        contenders = start_all(model, options.venvs, base, ours, work, running)
        pid = contenders[0].group
        idle = resident_megabytes(pid)
        for contender in contenders:
            contender.measure(1)
        rates = defaultdict(list)
        for _ in range(options.rounds):
            for contender in contenders:
                rates[contender.name].append(contender.measure(options.seconds))
        print(f"\n{options.rounds} rounds of {options.seconds} s, 16 connections; ratios are medians within rounds\n")
        table(rates)
        print(f"\nstart to ready: {statistics.median(starts):.2f} s (median of {len(starts)})")
        print(f"resident: {idle:.0f} MB at start, {resident_megabytes(pid):.0f} MB after single applications")
        measure_batches(model, contenders[0].port)
        print(f"resident after batches: {resident_megabytes(pid):.0f} MB")


if __name__ == "__main__":
    main()
