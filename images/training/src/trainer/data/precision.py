"""Whether float32, which the model reads, can tell a feature's values apart."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Quantile bins are far coarser. Dates as yyyymmdd over a year are below the limit, over two months above it: float32
# has only every other whole number there.
NOISE_LIMIT = 1 / 256


@dataclass
class Rounding:
    """What rounding to float32 does to a feature's values, which may come part by part."""

    count: int = 0
    mean: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    _squares: float = 0.0
    _errors: float = 0.0

    def add(self, values: npt.NDArray[np.float64]) -> None:
        """Add the next values, [N] (Chan, Golub and LeVeque, "Updating Formulae", 1979)."""
        if not len(values):
            return
        count, mean = self.count + len(values), float(values.mean())
        apart = mean - self.mean
        self._squares += float(((values - mean) ** 2).sum()) + apart**2 * self.count * len(values) / count
        self._errors += float(((values - values.astype(np.float32)) ** 2).sum())
        self.count, self.mean = count, self.mean + apart * len(values) / count
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    @property
    def deviation(self) -> float:
        """The standard deviation of the values as a sample of at least two."""
        return math.sqrt(self._squares / (self.count - 1))

    @property
    def noise(self) -> float:
        """The root-mean-square error of rounding to float32 over the standard deviation, which it may exceed.

        A large offset with a small spread makes it large. Scaling in float64 first would not help, since the service's
        input is float32 as well. The noise of a constant is 0: it has no differences to lose.
        """
        return 0.0 if self.low >= self.high else math.sqrt(self._errors / self._squares)
