"""Time of one epoch of one process with one thread, of several such processes, and of one process with several threads.

python benchmarks/training/processes.py --rows 600000 --processes 2

Each contender fits the trainer's network to the same generated rows, for so many epochs, under torchrun's agent; the
contenders alternate. The first epoch of each run warms up and is not counted. CPU seconds are those of the first
process: what it computes for its share, and for the exchange. On a machine that others use, they say more than the time
that passed.
"""

import argparse
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from trainer.data.dataset import encode
from trainer.data.declaration import BUILT_IN_DECLARATION, load_declaration
from trainer.data.reading import read_table
from trainer.data.validation import validate
from trainer.learning.fitting import be_deterministic, fit
from trainer.learning.group import joined
from trainer.learning.hyperparameters import Hyperparameters, Precision
from trainer.learning.state import EpochReport


@dataclass(frozen=True)
class Epoch:
    """What one epoch took, in seconds."""

    passed: float
    cpu: float


def epochs_of_a_fit(rows: int, epochs: int, precision: Precision) -> list[Epoch]:
    """Return what each epoch but the first took the first process."""
    be_deterministic()
    declaration = load_declaration(BUILT_IN_DECLARATION)
    with TemporaryDirectory() as scratch:
        table = read_table("synthetic", declaration, scratch=Path(scratch), synthetic_rows=rows, seed=0)
    data = encode(validate(table, declaration, minimum_rows=500), declaration)
    passed: list[float] = []
    cpu: list[float] = []

    def on_epoch(report: EpochReport) -> None:
        passed.append(report.seconds)
        cpu.append(time.process_time())

    with joined() as group:
        fit(
            data,
            inputs=declaration.inputs,
            hyperparameters=Hyperparameters(epochs=epochs, patience=epochs, precision=precision).for_rows(len(data)),
            seed=0,
            on_epoch=on_epoch,
            group=group,
        )
    return [Epoch(*values) for values in zip(passed[1:], map(float.__sub__, cpu[1:], cpu), strict=False)]


def measure(arguments: argparse.Namespace, processes: int, threads: int) -> Epoch:
    """Return the medians of one run."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="benchmark",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
    )
    work = elastic_launch(config, epochs_of_a_fit)
    epochs: list[Epoch] = work(arguments.rows, arguments.epochs, Precision(arguments.precision))[0]
    return Epoch(statistics.median(epoch.passed for epoch in epochs), statistics.median(epoch.cpu for epoch in epochs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=600_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=[*Precision], default=Precision.FLOAT32)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    several = arguments.processes
    contenders = {
        "1 process, 1 thread": (1, 1),
        f"{several} processes, 1 thread each": (several, 1),
        f"1 process, {several} threads": (1, several),
    }
    found: dict[str, list[Epoch]] = {name: [] for name in contenders}
    for number in range(arguments.rounds):
        for name, (processes, threads) in contenders.items():
            epoch = measure(arguments, processes, threads)
            found[name].append(epoch)
            print(f"round {number + 1}: {name}: {epoch.passed:.2f} s, {epoch.cpu:.2f} s of CPU", flush=True)
    print(
        "| contender | seconds per epoch | CPU seconds of a process | times as fast | by CPU |\n|---|---|---|---|---|"
    )
    serial = found["1 process, 1 thread"]
    for name, epochs in found.items():
        medians = [statistics.median(values) for values in (
            [epoch.passed for epoch in epochs],
            [epoch.cpu for epoch in epochs],
            [one.passed / epoch.passed for one, epoch in zip(serial, epochs, strict=True)],
            [one.cpu / epoch.cpu for one, epoch in zip(serial, epochs, strict=True)],
        )]  # fmt: skip
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in medians)} |")


if __name__ == "__main__":
    main()
