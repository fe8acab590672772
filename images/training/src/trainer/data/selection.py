"""Whom the training rows tell of: decisions with outcomes, rejected applicants or not, and how those got an outcome."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from trainer.data.dataset import Dataset
from trainer.data.decisions import Summary
from trainer.data.reject_inference import Doubles, Inferred, RejectInference, fuzzy, parcelling

GRANTED_ONLY = "Trained only on loans that were granted (no reject inference)"


@dataclass(frozen=True)
class Selection:
    """What is known of the selection of training data from decisions.

    Attributes:
        summary: What the decisions service counted.
        url: The request for the data.
        method: What became of rejected applicants.
        factor: How many times likelier they default than accepted ones with the same score.
        applicants: How many rejected applicants are in training.
        rows: How many training rows they are.
    """

    summary: Summary
    url: str
    method: RejectInference
    factor: float
    applicants: int
    rows: int

    @property
    def facts(self) -> dict[str, str]:
        """What the run's tags say of it."""
        summary = self.summary
        counts = ("repaid", "defaulted", "rejected", "undecided", "too_young", "forgotten")
        return {
            "data.query": summary.query.model_dump_json(),
            "data.url": self.url,
            "data.digest": summary.digest,
            "data.rejected_in_training": str(self.applicants),
            **{f"data.{name}": str(getattr(summary, name)) for name in counts},
        }

    @property
    def in_words(self) -> str:
        """Who is in the data and who is not, for the log and the model card."""
        summary, query = self.summary, self.summary.query
        dated = f"from {query.since or 'the first'} to {query.until or 'the last'}"
        left_out = (
            f"{summary.undecided} matured decisions without an outcome, {summary.too_young} younger ones, and "
            f"{summary.forgotten} whose applicants were forgotten"
        )
        return (
            f"Decisions {dated}, at least {query.matured_months} months old as of {query.as_of}. Left out: {left_out}. "
            f"{self._rejected}"
        )

    @property
    def _rejected(self) -> str:
        count = f"{self.summary.rejected} rejected applicants have no outcome"
        if self.method is RejectInference.NONE:
            return f"{count} and are not in the data: the model learns nothing of applicants like them."
        factor = "" if self.factor == 1 else f" and a factor of {self.factor:g}"
        return (
            f"{count}. {self.applicants} of them are in training as {self.rows} rows, with outcomes inferred by "
            f"{self.method} from the probabilities of default that they were answered{factor}: that is an assumption, "
            "not an observation. None is among the test rows."
        )

    @property
    def limit(self) -> str:
        """What the model card says of whom the model learned from."""
        if self.method is RejectInference.NONE:
            return GRANTED_ONLY
        return f"Trained on loans that were granted, and on inferred outcomes of rejected applicants ({self.method})"


def with_rejected(
    training: Dataset,
    rejected: Dataset,
    *,
    target_column: str,
    training_pd: Doubles,
    rejected_pd: Doubles,
    method: RejectInference,
    factor: float,
    seed: int,
) -> Dataset:
    """Return the training rows and, behind them, the rejected applicants with inferred outcomes.

    Args:
        training: Rows with outcomes; N of them.
        rejected: Rejected applicants, whose targets are not looked at; M of them.
        target_column: The frame's column with the target.
        training_pd: What the rows with outcomes were answered as their probability of default; [N].
        rejected_pd: The same of the rejected applicants; [M].
        method: How outcomes are inferred; with `NONE` the training rows stay as they are.
        factor: How many times likelier a rejected applicant defaults than an accepted one with the same score.
        seed: Chooses who defaults, where that is by chance.
    """
    if method is RejectInference.NONE or not len(rejected):
        return training
    if method is RejectInference.FUZZY:
        inferred = fuzzy(rejected_pd, factor=factor)
    else:
        target = training.target.astype(np.float64)
        inferred = parcelling(
            training_pd, target, rejected_pd, seed=seed, accepted_weight=training.weight, factor=factor
        )
    added = _inferred_rows(rejected, inferred, target_column)
    weight = np.ones(len(training)) if training.weight is None else training.weight
    return Dataset(
        frame=pd.concat([training.frame, added.frame], ignore_index=True),
        numeric=np.concatenate([training.numeric, added.numeric]),
        categorical=np.concatenate([training.categorical, added.categorical]),
        target=np.concatenate([training.target, added.target]),
        weight=np.concatenate([weight, inferred.weight]),
    )


def _inferred_rows(rejected: Dataset, inferred: Inferred, target_column: str) -> Dataset:
    rows = rejected.take(inferred.row)
    target = inferred.target.astype(np.float32)
    return replace(rows, frame=rows.frame.assign(**{target_column: target.astype(np.int64)}), target=target)
