"""How a training run can fail; each class carries its exit code."""


class TrainerError(Exception):
    """Base class of the errors that `python -m trainer` reports without a traceback."""

    exit_code = 1


class BadInputError(TrainerError):
    """Invalid arguments, feature declaration or data."""

    exit_code = 2


class GateRefusedError(TrainerError):
    """The model was trained, but a gate refused it."""

    exit_code = 3


class TrackingError(TrainerError):
    """MLflow is unavailable or returned something unusable; retrying may help."""

    exit_code = 4


class DataUnavailableError(TrainerError):
    """The decisions service is unavailable or returned something unusable; retrying may help."""

    exit_code = 4


class RanksDisagreeError(TrainerError):
    """The processes that train together did not read the same data; retrying helps."""

    exit_code = 4


class PeerLostError(TrainerError):
    """Another process of the group was lost; all start again, and resume."""

    exit_code = 4


class FollowedError(TrainerError):
    """The process that leads the training failed, and so does this one, with the same exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class TerminatedError(SystemExit):
    """The process received SIGTERM; the next start resumes from the last checkpoint.

    Not an `Exception`, because the signal may arrive inside a library that wraps every exception in its own.
    """

    exit_code = 143

    def __init__(self) -> None:
        super().__init__(self.exit_code)
