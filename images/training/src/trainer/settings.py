"""Settings of one process, read once from arguments and environment and then passed on."""

import argparse
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from pathlib import Path

from trainer.data.decisions import is_decisions
from trainer.data.declaration import BUILT_IN_DECLARATION
from trainer.data.reject_inference import RejectInference
from trainer.data.storage import parse_size
from trainer.data.synthetic import DEFAULT_ROWS
from trainer.data.time_split import Split
from trainer.errors import BadInputError
from trainer.evaluation.gates import GateLimits
from trainer.evaluation.threshold import KS_MAXIMUM, ThresholdChoice, parse_threshold
from trainer.learning.hyperparameters import Hyperparameters, Precision
from trainer.learning.prior_shift import ClassWeight
from trainer.tracking.production_pointer import PointerMode

# Below every ceiling: those are above one half.
_HIGHEST_PD_FLOOR = 0.5
# NumPy's and PyTorch's generators take more; scikit-learn's and Optuna's do not.
_MAXIMUM_SEED = 2**32 - 1
_HIGHEST_PORT = 2**16 - 1


@dataclass(frozen=True)
class Settings:
    """Settings of one training run.

    Attributes:
        data: A path, `s3://bucket/key`, an http(s) URL, `decisions` or `decisions://?...`, or `synthetic`.
        tracking_uri: MLflow's tracking URI.
        model_name: Name of the registered model and of the experiment.
        features: File of the feature declaration; for data from decisions, the built-in one stands for that of the
            Production version, if there is one.
        exclude_protected: Train without the protected attributes and list them as ignored fields.
        work_dir: Folder for checkpoints and the id of an unfinished run.
        synthetic_rows: Rows of the built-in sample.
        minimum_rows: Refuse data with fewer rows.
        streamed_values: Read Parquet with more values than this, rows times declared columns, part by part into files.
        scratch_dir: Folder for downloaded data, and for rows that are read into files.
        scratch_size: How much that folder may hold, as Kubernetes writes sizes; empty for what the volume has.
        split: How the test rows are chosen: by content (shuffled), or the newest ones (time).
        test_share: Share of rows to hold out.
        seed: Seed of the sample, initial weights, folds, batches and dropout.
        split_seed: Seed of the train/test split; keep it, so that models can be compared.
        decisions_url: The decisions service, for data from decisions.
        decisions_key_file: File with the API key for it, or None for no key.
        reject_inference: What becomes of rejected applicants, in data from decisions.
        reject_factor: How many times likelier they default than accepted applicants with the same score.
        pd_floor: The lowest probability of default to answer; the one that the calibration data support may be higher.
        threshold: How the decision threshold is chosen.
        default_rate: The mean probability of default to calibrate to, such as the average of a whole economic cycle;
            None for that of the training data.
        production_pointer: Who moves the Production pointer.
        trials: Hyperparameter trials before the final training, across all parallel workers.
        study_storage: SQLAlchemy URL of the Optuna study; a file in work_dir if empty.
        worker: Index of this worker; only worker 0 trains the final model. With several pods, the index of this pod.
        workers: How many workers share the study; they begin together.
        processes: How many processes of this pod train one network together.
        pods: How many pods, each with so many processes, train it together.
        rendezvous: Host name and port at which the pods find each other, in the first pod.
        job: Name of the Kubernetes Job, the same for each of its attempts; empty outside of a Job.
        reason: Why this training was started; empty if nobody said.
        tracing_endpoint: Where OTLP over HTTP takes the run's trace; empty for no tracing.
        traceparent: The span that started the run, as W3C writes it; empty if there is none.
        wait_seconds: How long to wait for the tracking server.
        git_revision: Revision of the code, or `unknown`.
        output: Folder to write the version to, which a scoring service can serve without a registry; None for none.
        json_output: Print the result as one JSON object.
        hyperparameters: Hyperparameters of the network and its training.
        limits: Gate limits.
    """

    data: str
    tracking_uri: str
    model_name: str = "credit-risk"
    features: Path = BUILT_IN_DECLARATION
    exclude_protected: bool = False
    work_dir: Path = Path()
    synthetic_rows: int = DEFAULT_ROWS
    minimum_rows: int = 500
    streamed_values: int = 10_000_000
    scratch_dir: Path = Path(tempfile.gettempdir())
    scratch_size: str = ""
    split: Split = Split.SHUFFLED
    test_share: float = 0.2
    seed: int = 0
    split_seed: int = 0
    decisions_url: str = ""
    decisions_key_file: Path | None = None
    reject_inference: RejectInference = RejectInference.NONE
    reject_factor: float = 1.0
    pd_floor: float = 0.0
    threshold: ThresholdChoice = KS_MAXIMUM
    default_rate: float | None = None
    production_pointer: PointerMode = PointerMode.AUTO
    trials: int = 0
    study_storage: str = ""
    worker: int = 0
    workers: int = 1
    processes: int = 1
    pods: int = 1
    rendezvous: str = ""
    job: str = ""
    reason: str = ""
    tracing_endpoint: str = ""
    traceparent: str = ""
    wait_seconds: float = 300.0
    git_revision: str = "unknown"
    output: Path | None = None
    json_output: bool = False
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    limits: GateLimits = field(default_factory=GateLimits)

    def __post_init__(self) -> None:
        if not 0 < self.test_share < 1:
            raise BadInputError(f"--test-share {self.test_share}: must be between 0 and 1")
        if not 0 <= self.pd_floor < _HIGHEST_PD_FLOOR:
            raise BadInputError(f"--pd-floor {self.pd_floor}: must be at least 0 and below {_HIGHEST_PD_FLOOR}")
        if self.default_rate is not None and not self.pd_floor < self.default_rate < 1:
            raise BadInputError(
                f"--default-rate {self.default_rate}: must be above --pd-floor ({self.pd_floor:g}) and below 1; 4 % is "
                "0.04"
            )
        parse_size(self.scratch_size)
        if min(self.synthetic_rows, self.minimum_rows, self.trials, self.seed, self.split_seed) < 0:
            raise BadInputError("rows, trials and seeds must not be negative")
        if self.workers < 1:
            raise BadInputError(f"--workers {self.workers}: must be at least 1")
        if max(self.seed, self.split_seed) > _MAXIMUM_SEED:
            raise BadInputError(f"seeds must be at most {_MAXIMUM_SEED}")
        self._check_processes()
        self._check_reject_inference()
        if self.tracing_endpoint and not self.tracing_endpoint.startswith(("http://", "https://")):
            raise BadInputError(
                f"--tracing-endpoint {self.tracing_endpoint}: must be a URL such as http://collector:4318/v1/traces"
            )
        if not 0 <= self.wait_seconds < math.inf:
            raise BadInputError(f"--wait-seconds {self.wait_seconds}: must be a number of seconds from 0")
        if not self.model_name.strip() or any(character in self.model_name for character in "/:"):
            raise BadInputError(f"--model-name {self.model_name!r}: must be a name without slashes and colons")

    def _check_processes(self) -> None:
        if min(self.processes, self.pods) < 1:
            raise BadInputError(f"--processes {self.processes}, --pods {self.pods}: must be at least 1")
        if self.trials and self.processes * self.pods > 1:
            raise BadInputError(
                "--trials: a search runs its trials side by side in --workers; --processes and --pods are for a "
                "training without a search"
            )
        host, _, port = self.rendezvous.rpartition(":")
        if self.pods > 1 and not (host and port.isdecimal() and 0 < int(port) <= _HIGHEST_PORT):
            raise BadInputError(
                f"--rendezvous {self.rendezvous!r}: --pods needs the first pod's host name and a port, such as "
                "training-0.training-peers:29400"
            )
        if self.pods > 1 and self.worker >= self.pods:
            raise BadInputError(f"--worker {self.worker}: must be below --pods ({self.pods})")

    def _check_reject_inference(self) -> None:
        if self.reject_inference is not RejectInference.NONE and not is_decisions(self.data):
            raise BadInputError(f"--reject-inference {self.reject_inference}: only for --data decisions")
        if not 0 < self.reject_factor < math.inf:
            raise BadInputError(f"--reject-factor {self.reject_factor}: must be a number above 0")


_HELP = {
    "data": "a path, s3://bucket/key, a pattern of Parquet files such as s3://bucket/loans/*.parquet, http(s)://..., "
    "synthetic, or decisions://?from=2025-01-01&to=2026-01-01&"
    "matured=12m (all three are optional)",
    "tracking_uri": "MLflow's tracking URI; also MLFLOW_TRACKING_URI",
    "model_name": "name of the registered model and of the experiment",
    "features": "file of the feature declaration (JSON); for decisions, by default that of the Production version",
    "exclude_protected": "train without the protected attributes; clients may keep sending them",
    "work_dir": "folder for checkpoints; also TRAINER_WORK_DIR",
    "synthetic_rows": "rows of the built-in sample",
    "minimum_rows": "refuse data with fewer rows",
    "streamed_values": "read Parquet with more values than this, rows times declared columns, part by part into "
    "files on the scratch volume; patterns always are",
    "scratch_dir": "folder for downloaded data, and for rows that are read into files; also TRAINER_SCRATCH_DIR",
    "scratch_size": "how much that folder may hold, such as 10Gi, if that is less than the volume has; also "
    "TRAINER_SCRATCH_SIZE",
    "split": "how the test rows are chosen: by content (shuffled), or the newest by the declared date_column (time)",
    "test_share": "share of rows to hold out",
    "seed": "seed of the sample, initial weights, folds, batches and dropout",
    "split_seed": "seed of the train/test split; keep it, so that models can be compared",
    "decisions_url": "the decisions service; also TRAINER_DECISIONS_URL",
    "decisions_key_file": "file with the API key for it; also TRAINER_DECISIONS_KEY_FILE",
    "reject_inference": "what becomes of rejected applicants in decisions: none (they are not in training), parcelling "
    "(one outcome each, at the rate of accepted applicants with a similar score) or fuzzy (both outcomes, weighted)",
    "reject_factor": "how many times likelier rejected applicants default than accepted ones with the same score",
    "pd_floor": "lowest probability of default to answer, such as Basel's 0.0005; the one that the calibration data "
    "support may be higher",
    "threshold": "how the decision threshold is chosen: ks-maximum; approval-rate=0.8; loss-given-default=0.45,"
    "margin=0.05 (the least expected cost); or the threshold itself, such as 0.2",
    "default_rate": "mean probability of default to calibrate to, such as 0.04, the average of a whole economic cycle; "
    "without it, that of the training data",
    "production_pointer": "who moves the Production pointer to a version that passed its gates: auto (this run), "
    "manual (a person; the version gets the alias candidate) or never",
    "trials": "hyperparameter trials before the final training, across all workers",
    "study_storage": "SQLAlchemy URL of the Optuna study; prefer TRAINER_STUDY_STORAGE, which `ps` does not show",
    "worker": "index of this worker or pod; only worker 0 trains the final model; also JOB_COMPLETION_INDEX",
    "workers": "how many workers share the trials; each waits up to two minutes for the others before its first trial",
    "processes": "how many processes of this pod train one network together; each takes its share of every batch",
    "pods": "how many pods, each with so many processes, train it together",
    "rendezvous": "host name of the first pod and a port, at which the pods find each other; also TRAINER_RENDEZVOUS",
    "job": "name of the Kubernetes Job; another attempt of it does not retrain a refused model; also TRAINER_JOB",
    "reason": "why this training was started, for the tags of the run and of the version; also TRAINER_REASON",
    "tracing_endpoint": "URL that takes the run's trace by OTLP over HTTP, such as http://collector:4318/v1/traces; "
    "also TRAINER_TRACING_ENDPOINT",
    "traceparent": "W3C traceparent that the trace continues; also TRACEPARENT",
    "wait_seconds": "how long to wait for MLflow",
    "git_revision": "revision of the code, for the run's tags; also GIT_REVISION",
    "output": "also write a version that passed its gates to this folder, which a scoring service can serve without "
    "MLflow",
    "json_output": "print the result as one JSON object",
    "heads": "number of independent heads, averaged; 0 chooses by the number of rows",
    "hidden": "widths of the hidden layers, such as 64,64; empty chooses by the number of rows",
    "bins": "piecewise-linear bins per numeric feature",
    "dropout": "share of hidden units dropped during training",
    "learning_rate": "peak learning rate; 0 chooses by the number of rows",
    "weight_decay": "AdamW's decoupled weight decay",
    "batch_rows": "rows per step; 0 chooses by the number of rows",
    "folds": "number of folds; each head is validated on one of them",
    "epochs": "maximum number of passes over the rows; 0 chooses by their number",
    "patience": "stop after this many epochs without a better validation loss; 0 chooses a sixth of them, at least 4",
    "class_weight": "how much more a default counts in training than a repaid loan, or balanced (all defaults count as "
    "much as all repaid loans); the probabilities are corrected for it",
    "precision": "numbers of the matrix products in training: float32, or bfloat16, which pays off on GPUs only",
    "minimum_auc": "gate: minimum ROC AUC on the test rows; above .5, it must also exceed what chance reaches",
    "maximum_ece": "gate: maximum expected calibration error on the test rows, or what chance reaches on so few",
    "minimum_air": "gate: minimum adverse-impact ratio of any protected group, at the 95%% confidence bound",
    "margin": "gate: maximum AUC loss against Production, at the 95%% confidence bound",
    "allow_contract_change": "gate: accept a model that is incompatible with the Production model",
}


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Build the settings; for invalid arguments, argparse exits the process with code 2.

    Raises:
        BadInputError: A value is out of range.
    """
    parser = argparse.ArgumentParser(
        prog="python -m trainer",
        description="Train and register a credit-risk model and, if it passes its gates, move the Production pointer "
        "to it. `python -m trainer describe FILE` proposes a feature declaration for a file. Exit codes: 0 success, "
        "2 invalid data or arguments, 3 a gate refused the model, 4 MLflow or the decisions service failed, "
        "143 terminated (the next start resumes).",
    )
    parser.add_argument("--data", required=True, help=_HELP["data"])
    defaults = {
        "tracking_uri": environment.get("MLFLOW_TRACKING_URI", "http://localhost:5000"),
        "work_dir": Path(environment.get("TRAINER_WORK_DIR", ".")),
        "study_storage": environment.get("TRAINER_STUDY_STORAGE", ""),
        "git_revision": environment.get("GIT_REVISION", "unknown"),
        "worker": _worker_index(environment),
        "rendezvous": environment.get("TRAINER_RENDEZVOUS", ""),
        "job": environment.get("TRAINER_JOB", ""),
        "scratch_dir": Path(environment.get("TRAINER_SCRATCH_DIR", "") or tempfile.gettempdir()),
        "scratch_size": environment.get("TRAINER_SCRATCH_SIZE", ""),
        "reason": environment.get("TRAINER_REASON", ""),
        "tracing_endpoint": environment.get("TRAINER_TRACING_ENDPOINT", ""),
        "traceparent": environment.get("TRACEPARENT", ""),
        "decisions_url": environment.get("TRAINER_DECISIONS_URL", ""),
        "decisions_key_file": Path(key) if (key := environment.get("TRAINER_DECISIONS_KEY_FILE")) else None,
    }
    _add(parser, Settings, defaults, skip={"data", "hyperparameters", "limits"})
    _add(parser, Hyperparameters, {}, skip=set())
    _add(parser, GateLimits, {}, skip=set())
    values = vars(parser.parse_args(arguments))
    return Settings(
        hyperparameters=Hyperparameters(**{item.name: values.pop(item.name) for item in fields(Hyperparameters)}),
        limits=GateLimits(**{item.name: values.pop(item.name) for item in fields(GateLimits)}),
        **values,
    )


def _add(
    parser: argparse.ArgumentParser,
    settings: type[Settings] | type[Hyperparameters] | type[GateLimits],
    defaults: Mapping[str, object],
    *,
    skip: set[str],
) -> None:
    for item in fields(settings):
        if item.name in skip:
            continue
        flag = "--json" if item.name == "json_output" else f"--{item.name.replace('_', '-')}"
        default = defaults.get(item.name, item.default if item.default is not MISSING else None)
        text = _HELP[item.name]
        # The study's URL contains a password, which must not end up in a log by way of the help text.
        if default not in ("", (), None) and default is not False and item.name != "study_storage":
            text += " (default: %(default)s)"
        if default is False:
            parser.add_argument(flag, dest=item.name, action="store_true", help=text)
        else:
            reader = _READERS.get(item.name, type(default))
            parser.add_argument(flag, dest=item.name, type=reader, default=default, help=text)


def _worker_index(environment: Mapping[str, str]) -> int:
    text = environment.get("JOB_COMPLETION_INDEX", "0")
    if not text.isdecimal():
        raise BadInputError(f"JOB_COMPLETION_INDEX={text}: must be an index from 0")
    return int(text)


def _widths(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",")) if text else ()


def _one_of(choices: type[StrEnum]) -> Callable[[str], StrEnum]:
    def read(text: str) -> StrEnum:
        if text not in set(choices):
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(choices)}")
        return choices(text)

    return read


def _class_weight(text: str) -> ClassWeight:
    if text == "balanced":
        return "balanced"
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number above 0 nor balanced") from error


_READERS: dict[str, Callable[[str], object]] = {
    "output": Path,
    "decisions_key_file": Path,
    "hidden": _widths,
    "production_pointer": _one_of(PointerMode),
    "split": _one_of(Split),
    "reject_inference": _one_of(RejectInference),
    "threshold": parse_threshold,
    "default_rate": float,
    "class_weight": _class_weight,
    "precision": _one_of(Precision),
}


def from_process(arguments: Sequence[str]) -> Settings:
    """Return the settings of this process."""
    return parse(arguments, os.environ)
