"""All of infra/aws, applied once to a moto server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from aws.terraform import REGION, Workspace, client, moto_server

ZONE = "example.org"
VARIABLES: dict[str, Any] = {
    "region": REGION,
    "domain": f"scoring.{ZONE}",
    "allowed_cidrs": ["203.0.113.0/24"],
    "github": {"repository": "acme/credit-risk", "owner_id": 11, "repository_id": 22},
    "database": {},
    "decision_log": {},
}


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a moto server."""
    with moto_server(tmp_path_factory.mktemp("moto") / "log") as address:
        yield address


@dataclass(frozen=True)
class Applied:
    """The result of an apply: the workspace, its outputs, and the moto server's address."""

    workspace: Workspace
    outputs: dict[str, Any]
    endpoint: str

    def client(self, service: str) -> Any:
        """Return a boto3 client."""
        return client(service, self.endpoint)


@pytest.fixture(scope="session")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    """infra/aws with an RDS database, applied to its own moto server."""
    folder = tmp_path_factory.mktemp("terraform")
    with moto_server(folder / "moto.log") as endpoint:
        workspace = Workspace.make(folder, endpoint)
        zone = client("route53", endpoint).create_hosted_zone(Name=ZONE, CallerReference="test")
        zone_id = zone["HostedZone"]["Id"].rpartition("/")[2]
        workspace.variables({**VARIABLES, "zone_id": zone_id, "deletion_protection": False})
        workspace.run("apply", "-auto-approve", "-input=false")
        yield Applied(workspace, workspace.outputs(), endpoint)
