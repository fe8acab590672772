# Nodes, MLflow, and training may read models; only the MLflow server may write them.
data "aws_iam_policy_document" "mlflow_s3_access" {
  statement {
    sid       = "ReadArtifacts"
    actions   = ["s3:GetObject"]
    resources = ["${var.artifact_bucket_arn}/*"]
  }
  statement {
    sid       = "ListArtifacts"
    actions   = ["s3:ListBucket"]
    resources = [var.artifact_bucket_arn]
  }
}

resource "aws_iam_policy" "mlflow_s3_access" {
  name        = "${var.name}-mlflow-s3-access"
  description = "Read the artifact bucket"
  policy      = data.aws_iam_policy_document.mlflow_s3_access.json
}

data "aws_iam_policy_document" "mlflow_s3_write" {
  statement {
    sid       = "WriteArtifacts"
    actions   = concat(["s3:PutObject"], var.garbage_collection ? ["s3:DeleteObject"] : [])
    resources = ["${var.artifact_bucket_arn}/*"]
  }
}

resource "aws_iam_policy" "mlflow_s3_write" {
  name        = "${var.name}-mlflow-s3-write"
  description = "Write the artifact bucket"
  policy      = data.aws_iam_policy_document.mlflow_s3_write.json
}

# A pod gets its role only with its service account's token.
data "aws_iam_policy_document" "service_account" {
  for_each = toset(["mlflow", "training"])
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [var.cluster_provider_arn]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.cluster_issuer_host}:aud"
      values   = ["sts.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.cluster_issuer_host}:sub"
      values   = ["system:serviceaccount:${var.namespace}:${each.key}"]
    }
  }
}

resource "aws_iam_role" "mlflow" {
  name               = "${var.name}-mlflow"
  description        = "The MLflow server's pod"
  assume_role_policy = data.aws_iam_policy_document.service_account["mlflow"].json
}

resource "aws_iam_role_policy_attachment" "mlflow" {
  for_each   = { read = aws_iam_policy.mlflow_s3_access.arn, write = aws_iam_policy.mlflow_s3_write.arn }
  role       = aws_iam_role.mlflow.name
  policy_arn = each.value
}

resource "aws_iam_role" "training" {
  name               = "${var.name}-training"
  description        = "The training pods"
  assume_role_policy = data.aws_iam_policy_document.service_account["training"].json
}

resource "aws_iam_role_policy_attachment" "training" {
  role       = aws_iam_role.training.name
  policy_arn = aws_iam_policy.mlflow_s3_access.arn
}

output "mlflow_role_arn" {
  description = "Role of the MLflow server's pod."
  value       = aws_iam_role.mlflow.arn
}

output "training_role_arn" {
  description = "Role of the training pods."
  value       = aws_iam_role.training.arn
}
