"""Say in the log when MLflow's client repeats a request that the server could not answer.

The client repeats them silently for about four minutes, and a training run would look as if it hung.
"""

import logging
from typing import Any

# Its debug message has the next attempt's `Retry`, whose history says why the last one failed.
_LOGGER = "urllib3.util.retry"


def log_retries() -> None:
    """Log a warning for each response that makes a client try again; call this once."""
    logger = logging.getLogger(_LOGGER)
    logger.setLevel(logging.DEBUG)
    logger.addFilter(_as_warning)


def _as_warning(record: logging.LogRecord) -> bool:
    arguments: Any = record.args
    if not (isinstance(arguments, tuple) and len(arguments) == 2 and getattr(arguments[1], "history", None)):
        return False
    url, retry = arguments
    status = retry.history[-1].status
    if status is None:
        # urllib3 itself warns about connections that failed.
        return False
    record.levelno, record.levelname = logging.WARNING, "WARNING"
    record.msg, record.args = "%s was answered with %s, trying again (%s attempts left)", (url, status, retry.total)
    return True
