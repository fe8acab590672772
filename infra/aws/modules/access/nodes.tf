# Agents may read the join token. The server reads its tokens, publishes the join token and the public keys, stores etcd
# snapshots, and drains agents.
data "aws_iam_policy_document" "agent" {
  statement {
    sid       = "ReadJoinToken"
    actions   = ["ssm:GetParameter"]
    resources = ["${local.parameters}/join-token"]
  }
}

resource "aws_iam_role" "agent" {
  name               = "${var.name}-agent"
  description        = "k3s agents"
  assume_role_policy = data.aws_iam_policy_document.ec2.json
}

resource "aws_iam_role_policy" "agent" {
  name   = "join"
  role   = aws_iam_role.agent.id
  policy = data.aws_iam_policy_document.agent.json
}

resource "aws_iam_role_policy_attachment" "agent" {
  for_each   = local.node_policies
  role       = aws_iam_role.agent.name
  policy_arn = each.value
}

resource "aws_iam_instance_profile" "agent" {
  name = "${var.name}-agent"
  role = aws_iam_role.agent.name
}

data "aws_iam_policy_document" "server" {
  statement {
    sid       = "ReadParameters"
    actions   = ["ssm:GetParameter"]
    resources = ["${local.parameters}/server-token", "${local.parameters}/agent-token", "${local.parameters}/database-password"]
  }
  statement {
    sid       = "PublishParameters"
    actions   = ["ssm:PutParameter"]
    resources = ["${local.parameters}/join-token"]
  }
  statement {
    sid       = "KeepSnapshots"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    resources = ["${var.backup_bucket_arn}/etcd/*"]
  }
  statement {
    sid       = "ListSnapshots"
    actions   = ["s3:ListBucket"]
    resources = [var.backup_bucket_arn]
  }
  statement {
    sid     = "PublishKeys"
    actions = ["s3:PutObject"]
    resources = [
      "${var.identity_bucket_arn}/.well-known/openid-configuration",
      "${var.identity_bucket_arn}/openid/v1/jwks",
      "${var.identity_bucket_arn}/ca.crt",
    ]
  }
  # This action cannot be restricted to a resource.
  statement {
    sid       = "SeeAgents"
    actions   = ["autoscaling:DescribeAutoScalingGroups"]
    resources = ["*"]
  }
  statement {
    sid       = "LetAgentsGo"
    actions   = ["autoscaling:CompleteLifecycleAction"]
    resources = ["arn:${local.partition}:autoscaling:${var.region}:${var.account}:autoScalingGroup:*:autoScalingGroupName/${var.name}-agents"]
  }
}

resource "aws_iam_role" "server" {
  name               = "${var.name}-server"
  description        = "The k3s server"
  assume_role_policy = data.aws_iam_policy_document.ec2.json
}

resource "aws_iam_role_policy" "server" {
  name   = "server"
  role   = aws_iam_role.server.id
  policy = data.aws_iam_policy_document.server.json
}

resource "aws_iam_role_policy_attachment" "server" {
  for_each   = local.node_policies
  role       = aws_iam_role.server.name
  policy_arn = each.value
}

resource "aws_iam_instance_profile" "server" {
  name = "${var.name}-server"
  role = aws_iam_role.server.name
}

output "agent_instance_profile" {
  description = "Instance profile of the agents."
  value       = aws_iam_instance_profile.agent.name
}

output "server_instance_profile" {
  description = "Instance profile of the server."
  value       = aws_iam_instance_profile.server.name
}
