"""The stack's registry, as a person outside of the cluster reaches it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
from mlflow import MlflowClient

from localcluster.stack import PortForward, Stack


@contextmanager
def registry(stack: Stack) -> Iterator[MlflowClient]:
    """Yield a client of the stack's MLflow, through a port-forward of its own.

    The server offers downloads by presigned addresses of the object store, which is not reachable from here.
    """
    os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"] = "false"
    with PortForward(stack.kubectl_command(), "service/mlflow", 5000, stack.environment()) as url:
        mlflow.set_tracking_uri(url)
        yield MlflowClient(url)
