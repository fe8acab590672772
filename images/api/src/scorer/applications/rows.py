"""Types of the model's input rows, and of the columns that requests hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# Numeric features, [N, numeric features], in the contract's order and units.
FloatRows = npt.NDArray[np.float32]
# Categories as indices into each feature's list, [N, categorical features].
CodeRows = npt.NDArray[np.int64]
# One value per row, as a request holds them.
Column = Sequence[Any] | npt.NDArray[Any]

MAX_ROWS = 10_000
