"""Whether float32, which the model reads, can tell a feature's values apart."""

import numpy as np
import numpy.typing as npt

# Quantile bins are far coarser. Dates as yyyymmdd over a year are below the limit, over two months above it: float32
# has only every other whole number there.
NOISE_LIMIT = 1 / 256


def rounding_noise(values: npt.NDArray[np.float64]) -> float:
    """Return the root-mean-square error of rounding to float32 over the standard deviation, which it may exceed.

    A large offset with a small spread makes it large. Scaling in float64 first would not help, since the service's
    input is float32 as well. The noise of a constant is 0: it has no differences to lose.
    """
    if not len(values) or values.min() == values.max():
        return 0.0
    error = np.sqrt(np.mean((values - values.astype(np.float32)) ** 2))
    return float(error / values.std())
