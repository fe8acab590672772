"""CPU time of the exported graph: what the limits of the probability and missing values cost.

python benchmarks/training/graph.py --rows 1 10000

The weights are untrained, which costs the same. Blocks alternate between the graphs in random order, and the CPU time
of the one thread is measured, so that a busy machine disturbs all alike.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import torch

from trainer.data.dataset import Dataset, encode
from trainer.data.declaration import BUILT_IN_DECLARATION, load_declaration
from trainer.data.inputs import Inputs
from trainer.data.synthetic import generate
from trainer.export.onnx_graph import export_onnx
from trainer.learning.hyperparameters import Hyperparameters
from trainer.learning.network import CalibratedNetwork, Encoding, RiskNetwork

_BLOCKS = 41
_TRAINING_ROWS = 12_800
_ROWS_PER_BLOCK = 10_000
_CALLS_PER_BLOCK = 400


def graph(data: Dataset, inputs: Inputs, path: Path) -> onnx.ModelProto:
    """Export a network of the trainer's default size."""
    torch.manual_seed(0)
    chosen = Hyperparameters().for_rows(len(data))
    # The linear models are one more head.
    architecture = replace(chosen.architecture, heads=chosen.heads + 1)
    network = RiskNetwork(Encoding.fit(data.numeric, inputs, bins=chosen.bins), architecture)
    export_onnx(CalibratedNetwork(network, slope=1.0, intercept=0.0, floor=0.001, ceiling=0.99).eval(), path)
    return onnx.load(path)


def without_limits(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph of format version 2: the same without its last node."""
    unlimited = onnx.ModelProto()
    unlimited.CopyFrom(model)
    clip = unlimited.graph.node.pop()
    unlimited.graph.node[-1].output[0] = clip.output[0]
    kept = [constant for constant in unlimited.graph.initializer if constant.name not in clip.input]
    del unlimited.graph.initializer[:]
    unlimited.graph.initializer.extend(kept)
    return unlimited


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Load a graph for one thread, as the service does."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 10_000])
    arguments = parser.parse_args()
    declaration = load_declaration(BUILT_IN_DECLARATION)
    data = encode(generate(_TRAINING_ROWS, seed=0), declaration)
    known = declaration.inputs
    everything = Inputs(
        missing=(True,) * len(known.missing),
        categories=tuple(replace(column, missing=True, other=True) for column in known.categories),
    )
    with TemporaryDirectory() as folder:
        plain = graph(data, known, Path(folder) / "plain.onnx")
        missing = graph(data, everything, Path(folder) / "missing.onnx")
    graphs = {"no limits (format 2)": without_limits(plain), "limits": plain, "all may be missing": missing}
    sessions = {name: session(model) for name, model in graphs.items()}
    print(
        "| rows | graph | CPU microseconds, least | median | median of the ratios to the first |\n|---|---|---|---|---|"
    )
    rng = np.random.default_rng(0)
    for rows in arguments.rows:
        chosen = np.arange(rows) % len(data)
        feeds = {"numeric": data.numeric[chosen], "categorical": data.categorical[chosen]}
        calls = min(_CALLS_PER_BLOCK, max(1, _ROWS_PER_BLOCK // rows))
        spent: dict[str, list[float]] = {name: [] for name in sessions}
        for _ in range(_BLOCKS):
            for name, loaded in rng.permutation(list(sessions.items())):
                started = time.thread_time()
                for _ in range(calls):
                    loaded.run(None, feeds)
                spent[name].append(1e6 * (time.thread_time() - started) / calls)
        first = np.array(next(iter(spent.values())))
        for name, seconds in spent.items():
            ratio = np.median(np.array(seconds) / first)
            print(f"| {rows} | {name} | {min(seconds):.1f} | {np.median(seconds):.1f} | {ratio:.3f} |", flush=True)


if __name__ == "__main__":
    main()
