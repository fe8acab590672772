"""What replaying a decision takes: by a process that is kept, by one that is started each time, and if no size fits.

The ways take turns within each round. It also counts how many of the applicants get other bits in a larger call than
alone, which is why a replay tries all sizes of a call: those rows would be told as different otherwise.
"""

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "images" / name / "src") for name in ("decisions", "api")]
MEMORY_MEBIBYTES = 256


def applicants(contract, count):
    """Return random inputs within the ranges of training, as they are stored."""
    noise = np.random.default_rng(0)
    return [
        {f.name: float(np.float32(noise.uniform(*f.training_range))) for f in contract.numeric}
        | {f.name: str(noise.choice(f.categories)) for f in contract.categorical}
        for _ in range(count)
    ]


def count_other_bits(model, rows):
    """Return how many of the rows get other bits in a call of each size than alone."""
    from scorer.replay import row_of

    encoded = [row_of(model.contract, row) for row in rows]
    numeric, codes = (np.concatenate(parts) for parts in zip(*encoded, strict=True))
    sizes = (1, 2, 3, 4, 8, 16, 32, 64, 128)
    scores = {
        size: np.concatenate([
            model.network.score(numeric[at : at + size], codes[at : at + size]) for at in range(0, len(rows), size)
        ]).view(np.uint32)
        for size in sizes
    }  # fmt: skip
    return {size: int((scores[size] != scores[1]).sum()) for size in sizes[1:]}


async def measure(folder, model, rows):
    """Return the seconds of each way's replays, and the peak memory of the process that is kept."""
    import msgspec

    from decisions.replay.scoring import Question, Scorecard, ScoringProcess
    from scorer.replay import row_of

    kept = ScoringProcess(4, MEMORY_MEBIBYTES, 60)
    seconds = {"kept": [], "every size": [], "started": []}

    async def ask(way, process, inputs, probability):
        question = Question(str(folder), msgspec.Raw(msgspec.json.encode(inputs)), probability, [], True,
                            Scorecard(600, 50, 20))  # fmt: skip
        began = time.perf_counter()
        answer = await process.ask(question)
        seconds[way].append(time.perf_counter() - began)
        return answer

    await ask("started", kept, rows[0], 0.5)
    seconds["started"].clear()
    for inputs in rows:
        stored = float(model.network.score(*row_of(model.contract, inputs))[0])
        answer = await ask("kept", kept, inputs, stored)
        assert answer.probability == stored, answer
        # No network answers exactly 1.
        await ask("every size", kept, inputs, 1.0)
        alone = ScoringProcess(1, MEMORY_MEBIBYTES, 60)
        await ask("started", alone, inputs, stored)
        await alone.close()
    status = Path(f"/proc/{kept.pid}/status").read_text("utf-8")
    await kept.close()
    return seconds, int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main():
    from scorer.model.bundle import load_model
    from scorer.model.identity import Identity

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a folder with model.onnx and contract.json")
    parser.add_argument("--rounds", type=int, default=30, help="replays of each way")
    parser.add_argument("--rows", type=int, default=400, help="applicants whose bits are compared")
    options = parser.parse_args()
    model = load_model(options.model, Identity("", "", "", {}, {}))
    rows = applicants(model.contract, options.rows)
    size = (options.model / "model.onnx").stat().st_size // 1000
    print(f"network of {size} kB; of {options.rows} applicants, so many get other bits among N rows than alone:")
    print("  " + ", ".join(f"{size}: {count}" for size, count in count_other_bits(model, rows).items()))
    seconds, mebibytes = asyncio.run(measure(options.model, model, rows[: options.rounds]))
    for way, found in seconds.items():
        milliseconds = sorted(1000 * value for value in found)
        worst = milliseconds[int(len(milliseconds) * 0.95)]
        print(f"{way:12} median {statistics.median(milliseconds):8.1f} ms, 95th percentile {worst:8.1f} ms")
    print(f"the process that is kept took at most {mebibytes:.0f} MiB")


if __name__ == "__main__":
    main()
