"""Mixtures of applicants and the reference applicant, from whose scores reasons are computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from scorer.applications.rows import CodeRows, FloatRows

Predict = Callable[[FloatRows, CodeRows], npt.NDArray[np.float32]]


class Mixtures(Protocol):
    """Scores mixtures."""

    def score(self, numeric: FloatRows, codes: CodeRows, needed: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Return probabilities of default of N rows' mixtures, float32 [N, mixtures]; of any value if not needed.

        Args:
            numeric: float32 [N, numeric features], NaN for missing values.
            codes: int64 [N, categorical features].
            needed: Which mixtures to score, bool [N, 1 + numeric + categorical + numeric]: the row as it is, the row
                with one feature at a time replaced by the reference's value, numeric ones first, and the reference with
                one numeric value at a time replaced by the row's.
        """
        ...


class WholeMixtures:
    """Scores mixtures as rows of the whole network."""

    def __init__(self, predict: Predict, numeric: FloatRows, codes: CodeRows) -> None:
        """Take the network, and the reference applicant as its input: [1, numeric] and [1, categorical]."""
        self._predict, self._numeric, self._codes = predict, numeric, codes
        width = numeric.shape[1]
        own = np.eye(width + codes.shape[1], dtype=bool)
        # Which values of each mixture are the applicant's: all, then all but one, then a single numeric one.
        taken = np.concatenate([own.any(0, keepdims=True), ~own, own[:width]])
        self._own_numbers, self._own_codes = taken[:, :width], taken[:, width:]

    def score(self, numeric: FloatRows, codes: CodeRows, needed: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Return what `Mixtures.score` describes, by one call of the network; zero for what is not needed."""
        numbers = np.where(self._own_numbers, numeric[:, None], self._numeric)[needed]
        categories = np.where(self._own_codes, codes[:, None], self._codes)[needed]
        scores = np.zeros(needed.shape, np.float32)
        scores[needed] = self._predict(numbers, categories)
        return scores
