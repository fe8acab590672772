"""The ways in which a training can end other than well; each class carries its exit code."""


class TrainerError(Exception):
    """Base of all errors that `python -m trainer` reports without a traceback."""

    exit_code = 1


class BadInputError(TrainerError):
    """Arguments, a feature declaration or data that cannot be used as they are."""

    exit_code = 2


class GateRefusedError(TrainerError):
    """The model was trained, but a gate refuses its promotion."""

    exit_code = 3


class TrackingError(TrainerError):
    """MLflow does not answer or answers with something unusable; another attempt may help."""

    exit_code = 4


class TerminatedError(SystemExit):
    """The process was asked to end (SIGTERM); the next start goes on from the last checkpoint.

    Not an `Exception`: the signal may arrive inside a library that turns every exception into one of its own.
    """

    exit_code = 143

    def __init__(self) -> None:
        super().__init__(self.exit_code)
