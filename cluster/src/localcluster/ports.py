"""The loopback ports of the host that lead to a local cluster."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields

from localcluster.console import ClusterError


@dataclass(frozen=True)
class Ports:
    """TCP ports of 127.0.0.1."""

    http: int = 8080
    mlflow: int = 5000
    kubernetes: int = 6443

    @classmethod
    def from_environment(cls) -> Ports:
        """Read CREDIT_RISK_HTTP_PORT, CREDIT_RISK_MLFLOW_PORT and CREDIT_RISK_KUBERNETES_PORT.

        Raises:
            ClusterError: One of them is not a valid port number.
        """
        given = {}
        for field in fields(cls):
            variable = _variable(field.name)
            if text := os.environ.get(variable):
                if not text.isdigit() or not 0 < int(text) < 65536:
                    raise ClusterError(f"{variable} is {text!r}; it must be a number from 1 to 65535")
                given[field.name] = int(text)
        return cls(**given)

    def variables(self) -> dict[str, int]:
        """Return each port by the name of the variable that sets it."""
        return {_variable(field.name): getattr(self, field.name) for field in fields(self)}


def _variable(name: str) -> str:
    return f"CREDIT_RISK_{name.upper()}_PORT"
