"""The swap set: on whom champion and challenger decide differently, and how their loans turned out."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.evaluation.default_rates import Rate, outcomes

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SwapSet:
    """Decisions of champion and challenger on the same rows, each at its own decision threshold.

    Attributes:
        champion: The Production version that it was compared with.
        champion_threshold: The champion's decision threshold.
        challenger_threshold: The challenger's decision threshold.
        approved_by_both: Outcomes of the rows that both approve.
        swapped_in: Of those that only the challenger approves.
        swapped_out: Of those that only the champion approves.
        declined_by_both: Of those that both decline.
    """

    champion: str
    champion_threshold: float
    challenger_threshold: float
    approved_by_both: Rate
    swapped_in: Rate
    swapped_out: Rate
    declined_by_both: Rate

    @property
    def cells(self) -> dict[str, Rate]:
        """The four parts of the rows, by name."""
        return {
            "approved_by_both": self.approved_by_both,
            "swapped_in": self.swapped_in,
            "swapped_out": self.swapped_out,
            "declined_by_both": self.declined_by_both,
        }


def compare_decisions(
    target: Vector,
    champion: Vector,
    challenger: Vector,
    weight: Vector | None = None,
    *,
    version: str,
    champion_threshold: float,
    challenger_threshold: float,
) -> SwapSet:
    """Divide rows by the two models' decisions.

    Args:
        target: 1 for default, 0 for repaid, [N].
        champion: Probabilities of the Production model, [N].
        challenger: Probabilities of the new model, [N].
        weight: How many loans each row stands for, [N]; None for one each.
        version: The Production model's version.
        champion_threshold: Its decision threshold.
        challenger_threshold: The new model's.
    """
    before, now = champion < champion_threshold, challenger < challenger_threshold
    return SwapSet(
        champion=version,
        champion_threshold=champion_threshold,
        challenger_threshold=challenger_threshold,
        approved_by_both=outcomes(target, before & now, weight),
        swapped_in=outcomes(target, ~before & now, weight),
        swapped_out=outcomes(target, before & ~now, weight),
        declined_by_both=outcomes(target, ~before & ~now, weight),
    )
