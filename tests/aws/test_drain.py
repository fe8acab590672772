"""How agents are drained: drain.sh with the real AWS CLI, a fake Auto Scaling API, and a stub of k3s."""

from __future__ import annotations

import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from aws.machine import K3S, SERVER_SETTINGS, Machine, program
from aws.programs import aws_cli
from aws.terraform import credentials

pytestmark = pytest.mark.terraform
SERVER, STAYING, LEAVING, MISSING = (
    "credit-risk-server",
    "i-0aaaaaaaaaaaaaaaa",
    "i-0bbbbbbbbbbbbbbbb",
    "i-0cccccccccccccccc",
)


class AutoScaling(HTTPServer):
    """The two API calls that the script makes; moto has no lifecycle hooks that wait."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.members: dict[str, str] = {}
        self.completed: list[dict[str, str]] = []
        self.broken = False
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: AutoScaling

    def do_POST(self) -> None:
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        name = "https://autoscaling.amazonaws.com/doc/2011-01-01/"
        if self.server.broken:
            self._send(403, f'<ErrorResponse xmlns="{name}"><Error><Code>AccessDenied</Code><Message>no</Message>'
                            "</Error></ErrorResponse>")  # fmt: skip
        elif form["Action"] == "CompleteLifecycleAction":
            self.server.completed.append(form)
            self._send(200, f'<CompleteLifecycleActionResponse xmlns="{name}"><CompleteLifecycleActionResult/>'
                            "</CompleteLifecycleActionResponse>")  # fmt: skip
        else:
            assert form["AutoScalingGroupNames.member.1"] == "credit-risk-agents", form
            instances = "".join(
                f"<member><InstanceId>{instance}</InstanceId><LifecycleState>{state}</LifecycleState></member>"
                for instance, state in self.server.members.items()
            )
            self._send(200, f'<DescribeAutoScalingGroupsResponse xmlns="{name}"><DescribeAutoScalingGroupsResult>'
                            "<AutoScalingGroups><member><AutoScalingGroupName>credit-risk-agents</AutoScalingGroupName>"
                            f"<Instances>{instances}</Instances></member></AutoScalingGroups>"
                            "</DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>")  # fmt: skip

    def _send(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Do not log."""


@pytest.fixture
def group() -> Iterator[AutoScaling]:
    """A group of two agents, both in service."""
    with AutoScaling() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.members = {STAYING: "InService", LEAVING: "InService"}
        yield server
        server.shutdown()


@pytest.fixture
def server(tmp_path: Path, group: AutoScaling, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The k3s server of these agents."""
    machine = Machine(tmp_path, SERVER_SETTINGS, credentials(group.url))
    machine.use_aws_cli(aws_cli(tmp_path_factory.mktemp("aws")) / "aws")
    program(tmp_path / "bin/k3s", K3S)
    machine.answer("nodes", f"{SERVER}\n{STAYING}\n{LEAVING}\n")
    return machine


def test_nothing_happens_while_all_agents_are_in_service(server: Machine, group: AutoScaling) -> None:
    result = server.run("drain.sh")
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    calls = server.calls.read_text()
    assert "drain" not in calls
    assert "delete" not in calls
    assert group.completed == []


def test_a_terminating_agent_is_drained_then_deleted_then_released(server: Machine, group: AutoScaling) -> None:
    group.members[LEAVING] = "Terminating:Wait"
    result = server.run("drain.sh")
    assert result.returncode == 0, result.stderr
    server.assert_order(
        f"k3s kubectl drain {LEAVING} --ignore-daemonsets --delete-emptydir-data --timeout=300s",
        f"k3s kubectl delete node {LEAVING}",
        "aws autoscaling complete-lifecycle-action",
    )
    (done,) = group.completed
    assert (done["InstanceId"], done["LifecycleHookName"], done["LifecycleActionResult"]) == (
        LEAVING,
        "drain",
        "CONTINUE",
    )
    assert STAYING not in server.calls.read_text()


def test_several_agents_are_released_in_one_run(server: Machine, group: AutoScaling) -> None:
    group.members = {STAYING: "Terminating:Wait", LEAVING: "Terminating:Wait"}
    assert server.run("drain.sh").returncode == 0
    assert {done["InstanceId"] for done in group.completed} == {STAYING, LEAVING}


def test_an_agent_that_cannot_be_drained_is_released_anyway(server: Machine, group: AutoScaling) -> None:
    group.members[LEAVING] = "Terminating:Wait"
    server.answer("drain-fails", "")
    result = server.run("drain.sh")
    assert result.returncode == 0, result.stderr
    assert f"{LEAVING} still has pods after five minutes; terminating it anyway" in result.stdout
    assert [done["InstanceId"] for done in group.completed] == [LEAVING]


def test_an_agent_that_never_joined_is_released_without_draining(server: Machine, group: AutoScaling) -> None:
    group.members[MISSING] = "Terminating:Wait"
    assert server.run("drain.sh").returncode == 0
    assert "kubectl drain" not in server.calls.read_text()
    assert [done["InstanceId"] for done in group.completed] == [MISSING]


def test_the_node_of_a_missing_instance_is_deleted_but_never_the_servers(server: Machine, group: AutoScaling) -> None:
    server.answer("nodes", f"{SERVER}\n{STAYING}\n{LEAVING}\n{MISSING}\n")
    result = server.run("drain.sh")
    assert result.returncode == 0, result.stderr
    calls = server.calls.read_text()
    assert calls.count("delete node") == 1
    assert f"delete node {MISSING}" in calls
    assert f"{MISSING} no longer exists; deleting its Node object" in result.stdout


@pytest.mark.parametrize("broken", ["refused", "empty"])
def test_no_node_is_deleted_if_the_group_cannot_be_listed(server: Machine, group: AutoScaling, broken: str) -> None:
    group.broken, group.members = broken == "refused", {}
    result = server.run("drain.sh")
    assert (result.returncode != 0) is group.broken
    assert "delete" not in server.calls.read_text()
    assert ("AccessDenied" in result.stderr) is group.broken
    assert ("FAILED: cannot list the agents of credit-risk-agents" in result.stderr) is group.broken
