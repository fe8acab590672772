"""Read, validate and split the data, and identify the training run that it belongs to."""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer.data.dataset import Dataset, Integers, encode, held_out, take_frame
from trainer.data.decisions import Fetched, Service, fetch, is_decisions
from trainer.data.declaration import FeatureDeclaration, load_declaration
from trainer.data.loading import Limits, Loaded, load
from trainer.data.problems import InvalidDataError, Problem
from trainer.data.reading import RawTable, read_table
from trainer.data.reject_inference import RejectInference
from trainer.data.resolution import missing_shares, resolve
from trainer.data.selection import Selection, with_rejected
from trainer.data.storage import Memory, parse_size, scratch_folder
from trainer.data.streaming import ALL_ROWS
from trainer.data.time_split import Period, Split, newest
from trainer.data.validation import validate
from trainer.errors import BadInputError
from trainer.learning.hyperparameters import Hyperparameters
from trainer.settings import Settings

logger = logging.getLogger(__name__)

# With more rows to each content, the split has few contents to choose from.
_ROWS_PER_CONTENT = 10


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
        split: How the test rows were chosen.
        periods: The dates of the training and of the test rows, if the data has a date column.
        selection: Whom data from decisions tells of; None for other data.
    """

    declaration: FeatureDeclaration
    full_declaration: FeatureDeclaration
    table: RawTable
    training: Dataset
    test: Dataset
    hyperparameters: Hyperparameters
    fingerprint: str
    study: str
    split: Split
    periods: tuple[Period, Period] | None
    selection: Selection | None = None

    @property
    def split_in_words(self) -> str:
        """How the test rows were chosen, and the dates of both parts."""
        how = f"by {self.declaration.date_column}" if self.split is Split.TIME else "by content"
        dates = f": training rows of {self.periods[0]}, test rows of {self.periods[1]}" if self.periods else ""
        return f"split {how}{dates}"

    @property
    def weights_in_words(self) -> str:
        """What rows and classes count; empty if all count the same."""
        words = []
        if column := self.declaration.weight_column:
            effective = f"{self.training.effective_rows:.0f} training and {self.test.effective_rows:.0f} test rows"
            words.append(f"Rows count by {column}, and are as good a sample as {effective} of equal weight.")
        if (factor := self.hyperparameters.class_weight) != 1:
            even = "all defaults together count as much as all repaid loans"
            counted = even if factor == "balanced" else f"a default counts {factor:g} times as much as a repaid loan"
            words.append(f"In training, {counted}; the probabilities are corrected for it.")
        return " ".join(words)

    @property
    def facts(self) -> dict[str, str]:
        """The weight column and the dates of both parts, if there are any, for the run's parameters."""
        found = {"weight_column": self.declaration.weight_column} if self.declaration.weight_column else {}
        if self.periods:
            found |= {"training_dates": str(self.periods[0]), "test_dates": str(self.periods[1])}
        if self.selection:
            found |= {"reject_inference": self.selection.method, "reject_factor": f"{self.selection.factor:g}"}
        return found


@dataclass(frozen=True)
class _Read:
    """Validated data, its declaration, and what is known of its origin if it is made of decisions."""

    loaded: Loaded
    declaration: FeatureDeclaration
    fetched: Fetched | None = None

    def rejected(self, rows: int) -> npt.NDArray[np.bool_]:
        """Return which rows are rejected applicants; bool [rows]."""
        return self.fetched.rejected if self.fetched else np.zeros(rows, dtype=bool)


@dataclass(frozen=True)
class _Rows:
    """Positions of rows in the data: those trained and tested on, and rejected applicants for training; int64 [...]."""

    training: Integers
    test: Integers
    rejected: Integers


def prepare(settings: Settings, served: FeatureDeclaration | None = None) -> TrainingInputs:
    """Read, validate and split the data.

    Args:
        settings: Those of the run.
        served: The declaration to use instead of the built-in one; see `Settings.features`.

    Raises:
        BadInputError: The data or the feature declaration is invalid.
        DataUnavailableError: The decisions service does not answer.
    """
    read = _read(settings, served or load_declaration(settings.features))
    table, frame, storage, full = read.loaded.table, read.loaded.frame, read.loaded.storage, read.declaration
    rows = _split(frame, read, settings)
    in_training = np.zeros(len(frame), dtype=bool)
    in_training[np.concatenate([rows.training, rows.rejected])] = True
    full = resolve(full, frame, in_training)
    declaration = full.without_protected() if settings.exclude_protected else full
    training, test, rejected = (
        encode(take_frame(frame, part, storage, name=name), declaration, storage, name=name)
        for name, part in (("training", rows.training), ("test", rows.test), ("rejected", rows.rejected))
    )
    for name, part in (("training", training), ("test", test)):
        if not part.has_both_outcomes:
            weighted = " with a weight above 0" if full.weight_column else ""
            message = f"all {name} rows{weighted} have the same outcome; {_what_would_help(frame, full, settings)}"
            raise InvalidDataError(table.source, len(frame), (Problem(full.target.column, message),))
    training, selection = _with_selection(training, rejected, rows, read, settings)
    hyperparameters = settings.hyperparameters.for_rows(len(training))
    inputs = TrainingInputs(
        declaration=declaration,
        full_declaration=full,
        table=table,
        training=training,
        test=test,
        hyperparameters=hyperparameters,
        fingerprint=_fingerprint(settings, table, declaration, hyperparameters, trials=settings.trials),
        # Without the number of trials, so that asking for more trials continues the same study.
        study=f"{settings.model_name}-{_fingerprint(settings, table, declaration, hyperparameters, trials=0)}",
        split=settings.split,
        periods=_periods(training, test, full),
        selection=selection,
    )
    _log(inputs, missing_shares(full, frame))
    # The rows are in the files of both parts now.
    storage.discard(ALL_ROWS)
    return inputs


def _read(settings: Settings, declaration: FeatureDeclaration) -> _Read:
    fetched, source = None, settings.data
    with scratch_folder(settings.scratch_dir) as scratch:
        if is_decisions(source):
            service = Service(settings.decisions_url, settings.decisions_key_file)
            with_rejected_too = settings.reject_inference is not RejectInference.NONE
            fetched = fetch(source, declaration, service, include_rejected=with_rejected_too, scratch=scratch)
            declaration, source = fetched.declaration, str(fetched.path)
        elif source != "synthetic":
            limits = Limits(settings.minimum_rows, settings.streamed_values, parse_size(settings.scratch_size))
            return _Read(load(source, declaration, limits, scratch=scratch, parent=settings.scratch_dir), declaration)
        table = read_table(
            source, declaration, scratch=scratch, synthetic_rows=settings.synthetic_rows, seed=settings.seed
        )
    if fetched:
        # The bytes of the file differ at each request; the rows' digest does not.
        table = replace(table, source=settings.data, sha256=fetched.summary.digest)
    frame = validate(table, declaration, minimum_rows=settings.minimum_rows)
    return _Read(Loaded(table, frame, Memory()), declaration, fetched)


def _with_selection(
    training: Dataset, rejected: Dataset, rows: _Rows, read: _Read, settings: Settings
) -> tuple[Dataset, Selection | None]:
    """Add rejected applicants, if they are wanted, to rows with outcomes."""
    fetched, method, factor = read.fetched, settings.reject_inference, settings.reject_factor
    if fetched is None:
        return training, None
    selected = training
    if len(rejected):
        selected = with_rejected(
            training,
            rejected,
            target_column=read.declaration.target.column,
            training_pd=fetched.probability[rows.training],
            rejected_pd=fetched.probability[rows.rejected],
            method=method,
            factor=factor,
            seed=settings.seed,
        )
    added = len(selected) - len(training)
    return selected, Selection(fetched.summary, fetched.url, method, factor, len(rejected), added)


def _split(frame: pd.DataFrame, read: _Read, settings: Settings) -> _Rows:
    """Divide validated rows.

    Raises:
        BadInputError: Too few of them have an outcome, or they cannot be divided so.
    """
    rejected, declaration = read.rejected(len(frame)), read.declaration
    if not rejected.any():
        in_test = _test_rows(frame, declaration, read.loaded.table, settings)
        return _Rows(np.flatnonzero(~in_test), np.flatnonzero(in_test), np.empty(0, dtype=np.int64))
    granted = np.flatnonzero(~rejected)
    if len(granted) < settings.minimum_rows:
        message = f"{len(granted)} rows with an outcome are too few; at least {settings.minimum_rows} are required"
        raise InvalidDataError(read.loaded.table.source, len(frame), (Problem(None, message),))
    in_test = _test_rows(frame.iloc[granted].reset_index(drop=True), declaration, read.loaded.table, settings)
    test = granted[in_test]
    added = _rejected_in_training(frame, declaration, np.flatnonzero(rejected), test, settings)
    return _Rows(granted[~in_test], test, added)


def _rejected_in_training(
    frame: pd.DataFrame, declaration: FeatureDeclaration, rejected: Integers, test: Integers, settings: Settings
) -> Integers:
    """Return those rejected rows that do not belong to the test rows' side of the split."""
    rows = frame.iloc[rejected]
    if settings.split is Split.TIME and declaration.date_column:
        dates = frame[declaration.date_column]
        before: Integers = rejected[(rows[declaration.date_column] < dates.iloc[test].min()).to_numpy()]
        return before
    names = declaration.names
    return rejected[~held_out(rows, names, share=settings.test_share, seed=settings.split_seed)]


def _what_would_help(frame: pd.DataFrame, declaration: FeatureDeclaration, settings: Settings) -> str:
    different = len(frame.drop_duplicates(list(declaration.names)))
    if settings.split is Split.SHUFFLED and different < len(frame) / _ROWS_PER_CONTENT:
        return (
            "rows with the same values of all features are never divided, and the number of different combinations is "
            f"only {different}: declare more features, or choose another --split-seed"
        )
    return "more rows are required"


def _log(inputs: TrainingInputs, missing: dict[str, float]) -> None:
    training, test = inputs.training, inputs.test
    rates = [np.average(part.target, weights=part.weight) for part in (training, test)]
    logger.info(
        "%s: %d training and %d test rows, of which %.1f %% and %.1f %% defaulted; %s",
        inputs.table.source,
        len(training),
        len(test),
        *(100 * float(rate) for rate in rates),
        inputs.split_in_words,
    )
    if weights := inputs.weights_in_words:
        logger.info("%s", weights)
    if inputs.selection:
        logger.warning("%s", inputs.selection.in_words)
    if shares := ", ".join(f"{name} {share:.1%}" for name, share in missing.items() if share):
        logger.info("missing values: %s", shares)


def _test_rows(
    frame: pd.DataFrame, declaration: FeatureDeclaration, table: RawTable, settings: Settings
) -> npt.NDArray[np.bool_]:
    if settings.split is Split.SHUFFLED:
        return held_out(frame, declaration.names, share=settings.test_share, seed=settings.split_seed)
    column = declaration.date_column
    if column is None:
        raise BadInputError(
            f'--split=time needs the date of each loan: declare its column as "date_column" in {settings.features}'
        )
    try:
        return newest(frame[column], share=settings.test_share)
    except ValueError as error:
        raise InvalidDataError(table.source, len(frame), (Problem(column, str(error)),)) from error


def _periods(training: Dataset, test: Dataset, declaration: FeatureDeclaration) -> tuple[Period, Period] | None:
    column = declaration.date_column
    if column is None or not len(training) or not len(test):
        return None
    return Period.of(training.frame[column]), Period.of(test.frame[column])


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
        "default_rate": settings.default_rate,
        "split": settings.split,
        "trials": trials,
    }
    if settings.reject_inference is not RejectInference.NONE:
        parts["reject_inference"] = [settings.reject_inference, settings.reject_factor]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
