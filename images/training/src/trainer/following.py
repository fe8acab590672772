"""What the processes do that fit a network together with the one that leads the training run."""

from pathlib import Path

from trainer.data.declaration import FeatureDeclaration
from trainer.errors import BadInputError
from trainer.learning.fitting import be_deterministic, fit
from trainer.learning.group import Group
from trainer.preparation import TrainingInputs, prepare
from trainer.settings import Settings


def create_work_dir(settings: Settings) -> None:
    """Create the folder for the training's progress.

    Raises:
        BadInputError: It cannot be created.
    """
    try:
        settings.work_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"--work-dir {settings.work_dir}: {error.strerror}") from error


def checkpoint_file(settings: Settings, inputs: TrainingInputs) -> Path:
    """Return the file with the training's progress."""
    return settings.work_dir / f"checkpoint-{inputs.fingerprint}.pt"


def follow(settings: Settings, group: Group) -> None:
    """Take part in the fitting of the training run that rank 0 leads, and wait for its end.

    Every process reads the data itself, which needs what `settings.data` needs, but not MLflow. It stays until the run
    has ended: if rank 0 is lost, all of them start again, and resume.

    Raises:
        BadInputError: Data or arguments are invalid.
        DataUnavailableError: The decisions service is unavailable.
        RanksDisagreeError: The data differ from those of rank 0.
        FollowedError: The process that leads failed.
    """
    be_deterministic()
    create_work_dir(settings)
    group.follow()
    served = group.from_rank(0, b"")
    with group.together():
        inputs = prepare(settings, FeatureDeclaration.model_validate_json(served) if served else None)
    group.agree(inputs.fingerprint)
    checkpoint = checkpoint_file(settings, inputs)
    fit(
        inputs.training,
        inputs=inputs.declaration.inputs,
        hyperparameters=inputs.hyperparameters,
        seed=settings.seed,
        on_epoch=lambda _: None,
        checkpoint=checkpoint,
        group=group,
    )
    group.follow()
    checkpoint.unlink(missing_ok=True)
