"""Ways a backup or restore can fail; each class carries its exit code."""


class BackupError(Exception):
    """Base of all errors that `python -m backup` reports without a traceback; another attempt may help."""

    exit_code = 1


class ConfigurationError(BackupError):
    """Arguments or environment variables that cannot be used."""

    exit_code = 2


class RefusedError(BackupError):
    """The backup cannot be trusted or taken as it is; nothing was changed."""

    exit_code = 3


class VerificationError(BackupError):
    """Data was restored, but does not match what the registry promises."""

    exit_code = 4


class ObjectMissingError(BackupError):
    """An object was expected in the store and is not there."""
