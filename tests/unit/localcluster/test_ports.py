from __future__ import annotations

import pytest

from localcluster.console import ClusterError
from localcluster.ports import Ports


def test_ports_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDIT_RISK_HTTP_PORT", "18080")
    ports = Ports.from_environment()
    assert (ports.http, ports.mlflow, ports.kubernetes) == (18080, 5000, 6443)


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1"])
def test_an_invalid_port_is_refused_by_the_name_of_its_variable(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDIT_RISK_MLFLOW_PORT", text)
    with pytest.raises(ClusterError, match=r"CREDIT_RISK_MLFLOW_PORT .* 1 to 65535"):
        Ports.from_environment()
