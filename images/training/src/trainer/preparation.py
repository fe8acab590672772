"""Read, validate and split the data, and identify the training run that it belongs to."""

import hashlib
import json
import logging
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from trainer.data.dataset import Dataset, encode, held_out
from trainer.data.declaration import FeatureDeclaration, load_declaration
from trainer.data.problems import InvalidDataError, Problem
from trainer.data.reading import RawTable, read_table
from trainer.data.resolution import missing_shares, resolve
from trainer.data.validation import validate
from trainer.learning.hyperparameters import Hyperparameters
from trainer.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingInputs:
    """Validated and split data, and everything else that determines a training run.

    Attributes:
        declaration: The features the model uses.
        full_declaration: Those, and the protected attributes it may not use.
        table: The data as read.
        training: The rows to train on.
        test: The held-out rows.
        hyperparameters: Resolved for the number of training rows.
        fingerprint: Equal for two starts of the same training run; the second one resumes the first.
        study: Name of the Optuna study.
    """

    declaration: FeatureDeclaration
    full_declaration: FeatureDeclaration
    table: RawTable
    training: Dataset
    test: Dataset
    hyperparameters: Hyperparameters
    fingerprint: str
    study: str


def prepare(settings: Settings) -> TrainingInputs:
    """Read, validate and split the data.

    Raises:
        BadInputError: The data or the feature declaration is invalid.
    """
    full = load_declaration(settings.features)
    with tempfile.TemporaryDirectory() as scratch:
        table = read_table(
            settings.data,
            full,
            scratch=Path(scratch),
            synthetic_rows=settings.synthetic_rows,
            seed=settings.seed,
        )
    frame = validate(table, full, minimum_rows=settings.minimum_rows)
    in_test = held_out(frame, full.names, share=settings.test_share, seed=settings.split_seed)
    full = resolve(full, frame, ~in_test)
    declaration = full.without_protected() if settings.exclude_protected else full
    data = encode(frame, declaration)
    training, test = data.take(np.flatnonzero(~in_test)), data.take(np.flatnonzero(in_test))
    for name, part in (("training", training), ("test", test)):
        if len(np.unique(part.target)) < 2:
            problem = Problem(full.target.column, f"all {name} rows have the same outcome; more rows are required")
            raise InvalidDataError(table.source, len(frame), (problem,))
    hyperparameters = settings.hyperparameters.for_rows(len(training))
    logger.info(
        "%s: %d training and %d test rows, %.1f %% defaulted",
        table.source,
        len(training),
        len(test),
        100 * float(data.target.mean()),
    )
    if shares := ", ".join(f"{name} {share:.1%}" for name, share in missing_shares(full, frame).items() if share):
        logger.info("missing values: %s", shares)
    return TrainingInputs(
        declaration=declaration,
        full_declaration=full,
        table=table,
        training=training,
        test=test,
        hyperparameters=hyperparameters,
        fingerprint=_fingerprint(settings, table, declaration, hyperparameters, trials=settings.trials),
        # Without the number of trials, so that asking for more trials continues the same study.
        study=f"{settings.model_name}-{_fingerprint(settings, table, declaration, hyperparameters, trials=0)}",
    )


def _fingerprint(
    settings: Settings,
    table: RawTable,
    declaration: FeatureDeclaration,
    hyperparameters: Hyperparameters,
    *,
    trials: int,
) -> str:
    parts = {
        "data": table.sha256,
        "declaration": declaration.model_dump(mode="json"),
        "hyperparameters": asdict(hyperparameters),
        "model": settings.model_name,
        "seeds": [settings.seed, settings.split_seed],
        "test_share": settings.test_share,
        "pd_floor": settings.pd_floor,
        "threshold": str(settings.threshold),
        "trials": trials,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
