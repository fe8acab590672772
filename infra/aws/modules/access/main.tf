# Every role and its permissions. docs/aws.md lists them in a table; a test compares the two.
variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "region" {
  description = "AWS region."
  type        = string
}

variable "account" {
  description = "AWS account ID."
  type        = string
}

variable "namespace" {
  description = "Kubernetes namespace of the release."
  type        = string
}

variable "github" {
  description = "Repository, IDs, and environment whose jobs may deploy."
  type        = object({ repository = string, owner_id = number, repository_id = number, environment = string })
}

variable "github_provider_arn" {
  description = "The identity provider for GitHub."
  type        = string
}

variable "cluster_provider_arn" {
  description = "The identity provider for the cluster's service accounts."
  type        = string
}

variable "cluster_issuer_host" {
  description = "Host name of the cluster's token issuer."
  type        = string
}

variable "artifact_bucket_arn" {
  description = "ARN of the artifact bucket."
  type        = string
}

variable "backup_bucket_arn" {
  description = "ARN of the bucket for etcd snapshots and backups of the registry."
  type        = string
}

variable "decision_log" {
  description = "Buckets of the decision log; null without one."
  type        = object({ bucket_arn = string, seal_bucket_arn = string })
}

variable "identity_bucket_arn" {
  description = "ARN of the bucket for the public keys."
  type        = string
}

variable "repository_arns" {
  description = "ARNs of the image repositories."
  type        = list(string)
}

variable "garbage_collection" {
  description = "Let the MLflow server delete artifacts."
  type        = bool
}

data "aws_partition" "current" {}

locals {
  partition  = data.aws_partition.current.partition
  parameters = "arn:${local.partition}:ssm:${var.region}:${var.account}:parameter/${var.name}"
  managed    = "arn:${local.partition}:iam::aws:policy"

  node_policies = {
    pull   = "${local.managed}/AmazonEC2ContainerRegistryPullOnly"
    read   = "${local.managed}/AmazonEC2ContainerRegistryReadOnly"
    manage = aws_iam_policy.session.arn
    s3     = aws_iam_policy.mlflow_s3_access.arn
  }
}

# Only what Session Manager needs: AWS's managed policy AmazonSSMManagedInstanceCore would let every node read every
# parameter of the account, including the server's token. These actions cannot be restricted to a resource.
data "aws_iam_policy_document" "session" {
  statement {
    sid = "BeReached"
    actions = [
      "ssm:UpdateInstanceInformation",
      "ssmmessages:CreateControlChannel",
      "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]
    resources = ["*"]
  }
}

resource "aws_iam_policy" "session" {
  name        = "${var.name}-session"
  description = "Be reachable through Session Manager"
  policy      = data.aws_iam_policy_document.session.json
}

data "aws_iam_policy_document" "ec2" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}
