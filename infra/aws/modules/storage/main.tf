# Three private buckets: artifacts, the cluster's backups, and the public halves of the cluster's signing keys. With the
# decision log two more: one for its archive, and one for its seals, which are locked.
variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "account" {
  description = "AWS account ID."
  type        = string
}

variable "force_destroy" {
  description = "Delete buckets that still hold objects."
  type        = bool
}

variable "decision_log" {
  description = "For how many years seals are locked, and how; null for no decision log."
  type        = object({ seal_years = number, seal_lock = string })
}

locals {
  decision_log = var.decision_log == null ? [] : ["decisions", "seals"]
  purposes     = concat(["artifacts", "backups", "identity"], local.decision_log)
}

# CloudTrail's data events, if the account turns them on, record who reads and writes objects; a bucket of access logs
# would contain less.
#trivy:ignore:AWS-0089
resource "aws_s3_bucket" "this" {
  for_each            = toset(local.purposes)
  bucket              = "${var.name}-${each.key}-${var.account}"
  force_destroy       = var.force_destroy
  object_lock_enabled = each.key == "seals"
}

# Nobody who can change the database, and no pod, can change what the seals say of it.
resource "aws_s3_bucket_object_lock_configuration" "seals" {
  count  = var.decision_log == null ? 0 : 1
  bucket = aws_s3_bucket.this["seals"].id
  rule {
    default_retention {
      mode  = var.decision_log.seal_lock
      years = var.decision_log.seal_years
    }
  }
  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = aws_s3_bucket.this
  bucket   = each.value.id
  versioning_configuration {
    status = "Enabled"
  }
}

# An AWS-owned key, as in modules/cluster/server.tf.
#trivy:ignore:AWS-0132
resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = aws_s3_bucket.this
  bucket   = each.value.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each                = aws_s3_bucket.this
  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = aws_s3_bucket.this
  bucket   = each.value.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

# No role may abort a multipart upload, so incomplete ones expire on their own, as do long-replaced versions. Those of
# decisions hold applicants' data, which may have to be forgotten.
resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = aws_s3_bucket.this
  bucket   = each.value.id
  rule {
    id     = "leftovers"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
    noncurrent_version_expiration {
      noncurrent_days = each.key == "decisions" ? 7 : 90
    }
  }
  depends_on = [aws_s3_bucket_versioning.this]
}

data "aws_iam_policy_document" "tls_only" {
  for_each = aws_s3_bucket.this
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [each.value.arn, "${each.value.arn}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

# The identity bucket's policy also admits CloudFront, so it is defined next to the distribution.
resource "aws_s3_bucket_policy" "tls_only" {
  for_each   = toset(concat(["artifacts", "backups"], local.decision_log))
  bucket     = aws_s3_bucket.this[each.key].id
  policy     = data.aws_iam_policy_document.tls_only[each.key].json
  depends_on = [aws_s3_bucket_public_access_block.this]
}

output "artifact_bucket" {
  description = "Name of the artifact bucket."
  value       = aws_s3_bucket.this["artifacts"].id
}

output "artifact_bucket_arn" {
  description = "ARN of the artifact bucket."
  value       = aws_s3_bucket.this["artifacts"].arn
}

output "backup_bucket" {
  description = "Name of the bucket for etcd snapshots and backups of the registry."
  value       = aws_s3_bucket.this["backups"].id
}

output "backup_bucket_arn" {
  description = "ARN of the bucket for etcd snapshots and backups of the registry."
  value       = aws_s3_bucket.this["backups"].arn
}

output "identity_bucket" {
  description = "What the identity module needs to know about its bucket."
  value = {
    id              = aws_s3_bucket.this["identity"].id
    arn             = aws_s3_bucket.this["identity"].arn
    regional_domain = aws_s3_bucket.this["identity"].bucket_regional_domain_name
    tls_only        = data.aws_iam_policy_document.tls_only["identity"].json
  }
}

output "decision_log" {
  description = "Buckets of the decision log: of its archive, and of its seals; null without one."
  value = var.decision_log == null ? null : {
    bucket          = aws_s3_bucket.this["decisions"].id
    bucket_arn      = aws_s3_bucket.this["decisions"].arn
    seal_bucket     = aws_s3_bucket.this["seals"].id
    seal_bucket_arn = aws_s3_bucket.this["seals"].arn
  }
}
