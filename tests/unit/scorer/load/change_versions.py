"""Loads a version again and again in one process, scores with each, and prints the resident memory in MB after each.

python change_versions.py MODEL_FOLDER CHANGES
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

import msgspec

from scorer.model.bundle import ModelSlot, load_model
from scorer.model.identity import Identity


def resident_megabytes() -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    assert found
    return int(found[1]) / 1024


async def change(folder: Path, changes: int) -> list[float]:
    """Return the memory after each change of the version in the slot."""
    slot, found = ModelSlot(), []
    for version in range(changes):
        slot.model = load_model(folder, Identity("credit-risk", str(version), "run", {}, {}))
        model = slot.require()
        records = [model.contract.reference_applicant] * 300
        numeric, codes = model.decoder.decode(msgspec.json.encode(records[0]))
        await asyncio.gather(*(work.submit(numeric, codes) for work in (model.score, model.explain) for _ in range(16)))
        rows = model.tables.from_json_records(msgspec.json.encode(records))
        model.network.score_many(rows.numeric, rows.codes)
        found.append(resident_megabytes())
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(change(Path(sys.argv[1]), int(sys.argv[2])))))
