"""The distribution function of the beta distribution, for the Jeffreys test.

SciPy has it, too, and would add 113 MB to an image that also runs beside every scoring pod (decision 38).
"""

from __future__ import annotations

from math import exp, lgamma, log, log1p

_TINY = 1e-300
_PRECISION = 1e-14
_STEPS = 20_000


def beta_cdf(x: float, a: float, b: float) -> float:
    """Return the probability that a beta-distributed number with the parameters a and b, both above 0, is at most x."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    # The continued fraction converges fast below the mean, and by symmetry above it, too.
    if x > (a + 1) / (a + b + 2):
        return 1 - _below_mean(1 - x, b, a)
    return _below_mean(x, a, b)


def _below_mean(x: float, a: float, b: float) -> float:
    """Return the function by the continued fraction of DLMF 8.17.22, in the way of Lentz and Thompson."""
    factor = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    numerator, denominator = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = denominator
    for step in range(1, _STEPS):
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        for term in (even, odd):
            denominator = 1 / _not_zero(1 + term * denominator)
            numerator = _not_zero(1 + term / numerator)
            value *= numerator * denominator
        if abs(numerator * denominator - 1) < _PRECISION:
            break
    return factor * value


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
