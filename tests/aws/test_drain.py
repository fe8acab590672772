"""How agents go: drain.sh and AWS's own command line, against an Auto Scaling Group and a stub of k3s."""

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
SERVER, STAYS, GOES, GONE = "credit-risk-server", "i-0aaaaaaaaaaaaaaaa", "i-0bbbbbbbbbbbbbbbb", "i-0cccccccccccccccc"


class AutoScaling(HTTPServer):
    """The two calls of the API that the script makes; moto has no lifecycle hooks that wait."""

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
        """Say nothing."""


@pytest.fixture
def group() -> Iterator[AutoScaling]:
    """A group of two agents, both at work."""
    with AutoScaling() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.members = {STAYS: "InService", GOES: "InService"}
        yield server
        server.shutdown()


@pytest.fixture
def server(tmp_path: Path, group: AutoScaling, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The k3s server of these agents."""
    machine = Machine(tmp_path, SERVER_SETTINGS, credentials(group.url))
    machine.use(aws_cli(tmp_path_factory.mktemp("aws")) / "aws")
    program(tmp_path / "bin/k3s", K3S)
    machine.answer("nodes", f"{SERVER}\n{STAYS}\n{GOES}\n")
    return machine


def test_while_all_are_at_work_nothing_is_done(server: Machine, group: AutoScaling) -> None:
    result = server.run("drain.sh")
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    calls = server.calls.read_text()
    assert "drain" not in calls
    assert "delete" not in calls
    assert group.completed == []


def test_an_agent_that_shall_go_is_emptied_then_forgotten_then_let_go(server: Machine, group: AutoScaling) -> None:
    group.members[GOES] = "Terminating:Wait"
    result = server.run("drain.sh")
    assert result.returncode == 0, result.stderr
    server.assert_order(
        f"k3s kubectl drain {GOES} --ignore-daemonsets --delete-emptydir-data --timeout=300s",
        f"k3s kubectl delete node {GOES}",
        "aws autoscaling complete-lifecycle-action",
    )
    (done,) = group.completed
    assert (done["InstanceId"], done["LifecycleHookName"], done["LifecycleActionResult"]) == (GOES, "drain", "CONTINUE")
    assert STAYS not in server.calls.read_text()


def test_several_go_in_one_round(server: Machine, group: AutoScaling) -> None:
    group.members = {STAYS: "Terminating:Wait", GOES: "Terminating:Wait"}
    assert server.run("drain.sh").returncode == 0
    assert {done["InstanceId"] for done in group.completed} == {STAYS, GOES}


def test_an_agent_that_cannot_be_emptied_goes_all_the_same(server: Machine, group: AutoScaling) -> None:
    group.members[GOES] = "Terminating:Wait"
    server.answer("full-node", "")
    result = server.run("drain.sh")
    assert result.returncode == 0, result.stderr
    assert f"{GOES} is not empty after five minutes, and goes all the same" in result.stdout
    assert [done["InstanceId"] for done in group.completed] == [GOES]


def test_an_agent_that_never_joined_is_let_go_at_once(server: Machine, group: AutoScaling) -> None:
    group.members[GONE] = "Terminating:Wait"
    assert server.run("drain.sh").returncode == 0
    assert "kubectl drain" not in server.calls.read_text()
    assert [done["InstanceId"] for done in group.completed] == [GONE]


def test_a_node_whose_machine_is_gone_is_forgotten_and_the_server_never(server: Machine, group: AutoScaling) -> None:
    server.answer("nodes", f"{SERVER}\n{STAYS}\n{GOES}\n{GONE}\n")
    result = server.run("drain.sh")
    assert result.returncode == 0, result.stderr
    calls = server.calls.read_text()
    assert calls.count("delete node") == 1
    assert f"delete node {GONE}" in calls
    assert f"{GONE} is gone" in result.stdout


@pytest.mark.parametrize("broken", ["refused", "empty"])
def test_no_node_is_forgotten_when_the_group_cannot_be_asked(server: Machine, group: AutoScaling, broken: str) -> None:
    group.broken, group.members = broken == "refused", {}
    result = server.run("drain.sh")
    assert (result.returncode != 0) is group.broken
    assert "delete" not in server.calls.read_text()
    assert ("AccessDenied" in result.stderr) is group.broken
    assert ("FAILED: cannot ask for the agents of credit-risk-agents" in result.stderr) is group.broken
