# Nodes, MLflow, and training may read models; only the MLflow server may write them, and a restore.
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
  for_each = toset(concat(["mlflow", "training", "backup"], var.decision_log == null ? [] : ["decisions", "api"]))
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

# Retention deletes backups. The bucket keeps deleted versions for 90 days, and this role cannot delete those.
data "aws_iam_policy_document" "registry_backups" {
  statement {
    sid       = "RestoreArtifacts"
    actions   = ["s3:PutObject"]
    resources = ["${var.artifact_bucket_arn}/*"]
  }
  statement {
    sid       = "KeepBackups"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    resources = ["${var.backup_bucket_arn}/registry/*"]
  }
  statement {
    sid       = "ListBackups"
    actions   = ["s3:ListBucket"]
    resources = [var.backup_bucket_arn]
  }
}

resource "aws_iam_policy" "registry_backups" {
  name        = "${var.name}-registry-backups"
  description = "Back the model registry up and restore it"
  policy      = data.aws_iam_policy_document.registry_backups.json
}

resource "aws_iam_role" "backup" {
  name               = "${var.name}-backup"
  description        = "The pods that back up and restore"
  assume_role_policy = data.aws_iam_policy_document.service_account["backup"].json
}

resource "aws_iam_role_policy_attachment" "backup" {
  for_each   = { read = aws_iam_policy.mlflow_s3_access.arn, backups = aws_iam_policy.registry_backups.arn }
  role       = aws_iam_role.backup.name
  policy_arn = each.value
}

output "mlflow_role_arn" {
  description = "Role of the MLflow server's pod."
  value       = aws_iam_role.mlflow.arn
}

output "backup_role_arn" {
  description = "Role of the pods that back up and restore."
  value       = aws_iam_role.backup.arn
}

output "training_role_arn" {
  description = "Role of the training pods."
  value       = aws_iam_role.training.arn
}
