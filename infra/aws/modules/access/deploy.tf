# GitHub's jobs may push these images and open one port to the server. Their permissions in Kubernetes are defined in
# manifests/k3s-deployer.yaml.
locals {
  # Names can be taken over by others; IDs cannot.
  owner      = split("/", var.github.repository)[0]
  repository = split("/", var.github.repository)[1]
  subject    = "repo:${local.owner}@${var.github.owner_id}/${local.repository}@${var.github.repository_id}:environment:${var.github.environment}"
}

data "aws_iam_policy_document" "github" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [var.github_provider_arn]
    }
    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:aud"
      values   = ["sts.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:sub"
      values   = [local.subject]
    }
  }
}

data "aws_iam_policy_document" "deploy" {
  # This action cannot be restricted to a resource.
  statement {
    sid       = "LogInToEcr"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }
  statement {
    sid = "PushImages"
    actions = [
      "ecr:BatchCheckLayerAvailability",
      "ecr:BatchGetImage",
      "ecr:CompleteLayerUpload",
      "ecr:GetDownloadUrlForLayer",
      "ecr:InitiateLayerUpload",
      "ecr:PutImage",
      "ecr:UploadLayerPart",
    ]
    resources = var.repository_arns
  }
  statement {
    sid       = "ReachServer"
    actions   = ["ssm:StartSession"]
    resources = ["arn:${local.partition}:ec2:${var.region}:${var.account}:instance/*"]
    condition {
      test     = "StringEquals"
      variable = "ssm:resourceTag/Name"
      values   = ["${var.name}-server"]
    }
    # Without this, a session without a document, which is a shell, would be allowed.
    condition {
      test     = "BoolIfExists"
      variable = "ssm:SessionDocumentAccessCheck"
      values   = ["true"]
    }
  }
  statement {
    sid       = "ForwardPort"
    actions   = ["ssm:StartSession"]
    resources = ["arn:${local.partition}:ssm:${var.region}::document/AWS-StartPortForwardingSession"]
  }
  statement {
    sid       = "EndOwnSessions"
    actions   = ["ssm:ResumeSession", "ssm:TerminateSession"]
    resources = ["arn:${local.partition}:ssm:*:*:session/$${aws:userid}-*"]
  }
}

resource "aws_iam_role" "deploy" {
  name                 = "${var.name}-deploy"
  description          = "Jobs of ${var.github.repository} in the environment ${var.github.environment}"
  assume_role_policy   = data.aws_iam_policy_document.github.json
  max_session_duration = 3600
}

resource "aws_iam_role_policy" "deploy" {
  name   = "deploy"
  role   = aws_iam_role.deploy.id
  policy = data.aws_iam_policy_document.deploy.json
}

output "deploy_role_arn" {
  description = "Role of GitHub's jobs."
  value       = aws_iam_role.deploy.arn
}
