"""Applications for the model of unit.scorer.missing_model, good and bad, and a folder of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema([
    ("account", pa.int64()), ("income", pa.float64()), ("home", pa.string()), ("bureau_score", pa.float64()),
    ("debt_ratio", pa.float64()), ("purpose", pa.string()), ("region", pa.string()), ("employer", pa.string()),
    ("former", pa.string()),
])  # fmt: skip


def applications(count: int, seed: int = 0) -> pa.Table:
    """Return applications with missing and other values, about a hundredth of them invalid."""
    draw = np.random.default_rng(seed)
    scores, purposes, regions = (
        np.array(values, dtype=object)
        for values in (
            [999.0, 500.0, 300.0, 612.0, 701.5, None],
            ["Car", "Home", "None", "unknown", "Boat", None],
            ["north", "south", None],
        )
    )
    income = np.where(draw.random(count) < 0.01, -1.0, draw.uniform(5_000, 400_000, count))
    columns: Mapping[str, Any] = {
        "account": np.arange(count),
        "income": income,
        "home": draw.choice(["own", "rent"], count),
        "bureau_score": draw.choice(scores, count),
        "debt_ratio": draw.uniform(0.1, 0.9, count),
        "purpose": draw.choice(purposes, count),
        "region": draw.choice(regions, count),
        "employer": draw.choice(["A", "B", "C"], count),
        "former": ["x"] * count,
    }
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()}, schema=SCHEMA)


def write_input(folder: Path, sizes: Mapping[str, int], group_rows: int = 500) -> Path:
    """Write a Parquet file of so many applications for each name, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, count) in enumerate(sizes.items()):
        pq.write_table(applications(count, seed), folder / name, row_group_size=group_rows)
    return folder
