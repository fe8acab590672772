# The decision log's pods keep its archive, and can add seals but neither change nor delete them. Scoring pods hand over
# what they could not ship.
locals {
  decision_buckets = var.decision_log == null ? [] : [var.decision_log]
}

data "aws_iam_policy_document" "decisions" {
  count = length(local.decision_buckets)
  statement {
    sid       = "KeepDecisions"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"]
    resources = ["${local.decision_buckets[count.index].bucket_arn}/decisions/*"]
  }
  # Older versions of what an applicant wants forgotten are deleted, too.
  statement {
    sid       = "ListDecisions"
    actions   = ["s3:ListBucket", "s3:ListBucketVersions", "s3:GetBucketVersioning"]
    resources = [local.decision_buckets[count.index].bucket_arn]
  }
  statement {
    sid       = "AddSeals"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${local.decision_buckets[count.index].seal_bucket_arn}/decisions/seals/*"]
  }
  statement {
    sid       = "ListSeals"
    actions   = ["s3:ListBucket"]
    resources = [local.decision_buckets[count.index].seal_bucket_arn]
  }
}

resource "aws_iam_role" "decisions" {
  count              = length(local.decision_buckets)
  name               = "${var.name}-decisions"
  description        = "The pods of the decision log"
  assume_role_policy = data.aws_iam_policy_document.service_account["decisions"].json
}

resource "aws_iam_role_policy" "decisions" {
  count  = length(local.decision_buckets)
  name   = "decisions"
  role   = aws_iam_role.decisions[count.index].id
  policy = data.aws_iam_policy_document.decisions[count.index].json
}

data "aws_iam_policy_document" "handover" {
  count = length(local.decision_buckets)
  statement {
    sid       = "HandOver"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    resources = ["${local.decision_buckets[count.index].bucket_arn}/decisions/handover/*"]
  }
  statement {
    sid       = "ListHandedOver"
    actions   = ["s3:ListBucket"]
    resources = [local.decision_buckets[count.index].bucket_arn]
  }
}

resource "aws_iam_role" "api" {
  count              = length(local.decision_buckets)
  name               = "${var.name}-api"
  description        = "The scoring pods"
  assume_role_policy = data.aws_iam_policy_document.service_account["api"].json
}

resource "aws_iam_role_policy" "api" {
  count  = length(local.decision_buckets)
  name   = "handover"
  role   = aws_iam_role.api[count.index].id
  policy = data.aws_iam_policy_document.handover[count.index].json
}

output "decision_log_role_arns" {
  description = "Roles of the decision log's pods and of the scoring pods; empty without a decision log."
  value = var.decision_log == null ? {} : {
    decisions = aws_iam_role.decisions[0].arn
    api       = aws_iam_role.api[0].arn
  }
}
