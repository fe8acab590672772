# Nodes that are added and removed. The server drains a node before it is terminated.
locals {
  agent_group = "${var.name}-agents"
  drain_hook  = "drain"

  agent_user_data = join("\n", ["#cloud-config", yamlencode({
    write_files = concat(
      [{ path = "/etc/creditrisk/node.env", permissions = "0600", content = join("", [for key, value in local.node_environment : "${key}='${value}'\n"]) }],
      [for file in ["lib.sh", "agent.sh"] : {
        path = "/opt/creditrisk/${file}", permissions = "0755", encoding = "gz+b64", content = base64gzip(local.files[file])
      }],
    )
    runcmd = [["/opt/creditrisk/agent.sh"]]
  })])
}

resource "aws_launch_template" "agent" {
  name                   = local.agent_group
  image_id               = "resolve:ssm:${data.aws_ssm_parameter.image.name}"
  instance_type          = var.agent_instance_type
  user_data              = base64encode(local.agent_user_data)
  vpc_security_group_ids = [aws_security_group.nodes.id]
  update_default_version = true
  iam_instance_profile {
    name = var.agent_instance_profile
  }
  # One hop: a pod, which is one hop further away, cannot assume the node's role.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_type           = "gp3"
      volume_size           = 40
      encrypted             = true
      delete_on_termination = true
    }
  }
}

resource "aws_autoscaling_group" "agents" {
  name                = local.agent_group
  min_size            = var.agents.min
  max_size            = var.agents.max
  vpc_zone_identifier = [for subnet in var.subnets : subnet.id]
  target_group_arns   = [var.target_group_arn]
  # Not the load balancer's check: it already takes a node without a working Traefik out of service, and if Traefik were
  # broken everywhere, all nodes would be replaced forever.
  health_check_type         = "EC2"
  health_check_grace_period = 300
  wait_for_capacity_timeout = "0"
  launch_template {
    id      = aws_launch_template.agent.id
    version = aws_launch_template.agent.latest_version
  }
  initial_lifecycle_hook {
    name                 = local.drain_hook
    lifecycle_transition = "autoscaling:EC2_INSTANCE_TERMINATING"
    heartbeat_timeout    = 600
    # While the server is down, nothing drains the agent; terminate it anyway.
    default_result = "CONTINUE"
  }
  tag {
    key                 = "Name"
    value               = "${var.name}-agent"
    propagate_at_launch = true
  }
  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 100
      max_healthy_percentage = 150
      instance_warmup        = 180
    }
  }
  # Managed by the scaling policy.
  lifecycle {
    ignore_changes = [desired_capacity]
  }
}

resource "aws_autoscaling_policy" "cpu" {
  name                      = "cpu"
  autoscaling_group_name    = aws_autoscaling_group.agents.name
  policy_type               = "TargetTrackingScaling"
  estimated_instance_warmup = 180
  target_tracking_configuration {
    target_value = 60
    predefined_metric_specification {
      predefined_metric_type = "ASGAverageCPUUtilization"
    }
  }
}
