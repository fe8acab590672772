"""Start the processes of a training run in this pod, and start them again when one fails: torchrun's own agent."""

import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousConnectionError, RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from trainer.errors import BadInputError, GateRefusedError, TrackingError
from trainer.process import configure, train
from trainer.settings import Settings, from_process

logger = logging.getLogger("trainer")

_RESTARTS = 3
# How long pods wait for each other: one may have to be scheduled, and to pull its image.
_JOIN_SECONDS = 900
_RETRY_SECONDS = 1.0
# An attempt that takes longer than connecting must have found the first pod.
_CONNECTING_SECONDS = 120
# Starting again would change nothing about these.
_FINAL = (0, BadInputError.exit_code, GateRefusedError.exit_code)
_SEVERAL_FAILED = TrackingError.exit_code


def launch(settings: Settings, arguments: Sequence[str]) -> int:
    """Run this pod's processes to the end of the training run; return the exit code, the same for all pods.

    A process that fails ends the others, in all pods. Then all start again, and resume from the newest checkpoint.
    """
    _set_environment(settings)
    config = _config(settings)
    waiting_since = time.monotonic()
    while True:
        began = time.monotonic()
        try:
            codes: dict[int, int] = elastic_launch(config, _rank)(list(arguments))
            return max(codes.values())
        except SignalException as error:
            return 128 + int(error.sigval)
        except ChildFailedError as error:
            _report(error)
            return _SEVERAL_FAILED
        except RendezvousConnectionError as error:
            # The first pod is not there yet, or was lost and comes back. This pod keeps its checkpoint until then.
            now = time.monotonic()
            if now - began > _CONNECTING_SECONDS:
                waiting_since = now
            if settings.worker == 0 or now - waiting_since > _JOIN_SECONDS:
                logger.error("the processes did not find each other at %s: %s", settings.rendezvous, error)  # noqa: TRY400
                return _SEVERAL_FAILED
            logger.warning("waiting for the first pod at %s", settings.rendezvous)
            time.sleep(_RETRY_SECONDS)
        except RendezvousError as error:
            logger.error("the processes did not find each other: %s", error)  # noqa: TRY400
            return _SEVERAL_FAILED


def _rank(arguments: Sequence[str]) -> int:
    """Be one process of the training run; return the exit code if it is final, and else exit with it."""
    configure()
    gc.set_threshold(100_000)
    code = train(from_process(arguments))
    if code not in _FINAL:
        sys.exit(code)
    return code


def _config(settings: Settings) -> LaunchConfig:
    own = socket.gethostname()
    host, _, domain = (settings.rendezvous.rpartition(":")[0] or "localhost").partition(".")
    return LaunchConfig(
        min_nodes=settings.pods,
        max_nodes=settings.pods,
        nproc_per_node=settings.processes,
        run_id=settings.rendezvous or "training",
        rdzv_backend="c10d",
        rdzv_endpoint=settings.rendezvous if settings.pods > 1 else "",
        rdzv_configs={
            "join_timeout": _JOIN_SECONDS,
            # torchrun unpickles what is in the store, and a TCP store listens on every address of the pod. That of one
            # pod is a temporary file.
            **({"is_host": settings.worker == 0} if settings.pods > 1 else {"store_type": "file"}),
        },
        # Ranks follow the order of these names, so that the first pod has rank 0.
        local_addr=f"{own}.{domain}" if domain else host,
        max_restarts=_RESTARTS,
    )


def _set_environment(settings: Settings) -> None:
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // settings.processes)))
    # With a store that outlives a restart, a pod that is replaced would wait for an address that nobody tells it again.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    if settings.pods == 1 and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def _report(error: ChildFailedError) -> None:
    rank, failure = error.get_first_failure()
    code = failure.exitcode
    reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    logger.error("gave up after %d restarts: process %d ended with %s", _RESTARTS, rank, reason)
