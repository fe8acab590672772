# Every role of the stack, and what it may do. docs/aws.md has the same as a table; a test holds the two together.
variable "name" {
  type = string
}

variable "region" {
  type = string
}

variable "account" {
  type = string
}

variable "namespace" {
  type = string
}

variable "github" {
  type = object({ repository = string, owner_id = number, repository_id = number, environment = string })
}

variable "github_provider_arn" {
  type = string
}

variable "cluster_provider_arn" {
  type = string
}

variable "cluster_issuer_host" {
  type = string
}

variable "artifact_bucket_arn" {
  type = string
}

variable "backup_bucket_arn" {
  type = string
}

variable "identity_bucket_arn" {
  type = string
}

variable "repository_arns" {
  type = list(string)
}

variable "garbage_collection" {
  type = bool
}

data "aws_partition" "current" {}

locals {
  partition  = data.aws_partition.current.partition
  parameters = "arn:${local.partition}:ssm:${var.region}:${var.account}:parameter/${var.name}"
  managed    = "arn:${local.partition}:iam::aws:policy"

  node_policies = {
    pull   = "${local.managed}/AmazonEC2ContainerRegistryPullOnly"
    read   = "${local.managed}/AmazonEC2ContainerRegistryReadOnly"
    manage = "${local.managed}/AmazonSSMManagedInstanceCore"
    s3     = aws_iam_policy.mlflow_s3_access.arn
  }
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
