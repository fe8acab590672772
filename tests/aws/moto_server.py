"""The moto server, patched to return what was set; otherwise Terraform would plan the same changes again and again."""

from __future__ import annotations

import sys
from typing import Any

from moto.autoscaling.models import FakeScalingPolicy
from moto.cloudfront.models import Origin, ViewerCertificate
from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.ec2.models.instances import Instance
from moto.ec2.models.launch_templates import LaunchTemplateVersion
from moto.ec2.models.security_groups import SecurityGroupRule
from moto.server import main
from moto.ssm.exceptions import SSMException
from moto.ssm.responses import SimpleSystemManagerResponse


def remember_origin_access_control() -> None:
    """Keep an origin's access control, which moto accepts and forgets."""
    original = Origin.__init__

    def init(self: Origin, origin: dict[str, Any]) -> None:
        original(self, origin)
        self.origin_access_control_id = origin.get("OriginAccessControlId")  # type: ignore[attr-defined]

    Origin.__init__ = init  # type: ignore[method-assign]


def leave_default_certificate_alone() -> None:
    """Return CloudFront's default certificate without the support method that moto adds."""
    original = ViewerCertificate.__init__

    def init(self: ViewerCertificate, config: dict[str, Any]) -> None:
        original(self, config)
        self.ssl_support_method = config.get("SSLSupportMethod")

    ViewerCertificate.__init__ = init  # type: ignore[method-assign]


def report_scaling_policies_as_enabled() -> None:
    """Report scaling policies as enabled, and without a predictive configuration unless one was set."""
    original = FakeScalingPolicy.__init__

    def init(self: FakeScalingPolicy, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        self.enabled = True  # type: ignore[attr-defined]
        self.predictive_scaling_configuration = self.predictive_scaling_configuration or None  # type: ignore[assignment]

    FakeScalingPolicy.__init__ = init  # type: ignore[method-assign]


def keep_tags_of_templates_from_instances() -> None:
    """Do not return a launch template's own tags as tags of the instances that it launches."""
    original = LaunchTemplateVersion.__init__

    def init(self: LaunchTemplateVersion, template: Any, number: int, data: dict[str, Any], description: str) -> None:
        tags = [tag for tag in data.get("TagSpecifications", []) if tag["ResourceType"] != "launch-template"]
        rest = {key: value for key, value in data.items() if key != "TagSpecifications"}
        original(self, template, number, rest | ({"TagSpecifications": tags} if tags else {}), description)

    LaunchTemplateVersion.__init__ = init  # type: ignore[method-assign]


def free_interfaces_of_terminated_instances() -> None:
    """Detach network interfaces that outlive their terminated instance, which moto does not."""
    original = Instance.terminate

    def terminate(self: Instance) -> Any:
        state = original(self)
        for interface in self.nics.values():
            if not interface.delete_on_termination:
                interface.attachment_id = interface.attach_time = interface.instance = interface.device_index = None
                interface.status = "available"
        return state

    Instance.terminate = terminate  # type: ignore[method-assign]


def describe_rules_between_groups() -> None:
    """Return descriptions of rules that refer to a security group, as for rules that refer to a network."""
    SecurityGroupRule.description = property(  # type: ignore[assignment,method-assign]
        lambda self: self.ip_range.get("Description") or self.source_group.get("Description")
    )


def start_sessions() -> None:
    """Add Session Manager's StartSession, which moto lacks; every existing instance is connected."""

    def start_session(self: SimpleSystemManagerResponse) -> ActionResult:
        target = self._get_param("Target")
        instances = ec2_backends[self.current_account][self.region].all_instances()
        if target not in {instance.id for instance in instances}:
            raise SSMException("TargetNotConnected", f"{target} is not connected.")
        return ActionResult({"SessionId": "job-1", "TokenValue": "token", "StreamUrl": "wss://127.0.0.1/stream"})

    SimpleSystemManagerResponse.start_session = start_session  # type: ignore[attr-defined]


if __name__ == "__main__":
    start_sessions()
    describe_rules_between_groups()
    remember_origin_access_control()
    leave_default_certificate_alone()
    report_scaling_policies_as_enabled()
    keep_tags_of_templates_from_instances()
    free_interfaces_of_terminated_instances()
    main(sys.argv[1:])
