"""A client of the stack's model registry, connected from outside the cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
from mlflow import MlflowClient

from localcluster.port_forward import PortForward
from localcluster.stack import Stack


@contextmanager
def registry_client(stack: Stack) -> Iterator[MlflowClient]:
    """Yield a client of the stack's MLflow, connected through its own port-forward.

    The server offers downloads by presigned URLs of the object store, which is not reachable from outside the cluster.
    """
    os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"] = "false"
    with PortForward(stack.kubectl_command(), "service/mlflow", 5000, stack.environment()) as url:
        # Clients may be nested, and MLflow finds artifacts by the URI of the process.
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(url)
        try:
            yield MlflowClient(url)
        finally:
            mlflow.set_tracking_uri(before)
