# Identity providers that AWS trusts: GitHub, for its jobs, and this cluster, for its service accounts. The cluster
# signs its pods' tokens; AWS verifies them with the public keys that the server puts into a private bucket and CloudFront
# serves. Pods thus get their own roles, without a key in the cluster and without the node's role.
variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "bucket" {
  description = "The private bucket that holds the public keys."
  type        = object({ id = string, arn = string, regional_domain = string, tls_only = string })
}

variable "github_provider" {
  description = "ARN of the account's identity provider for GitHub; null to create one."
  type        = string
}

resource "aws_iam_openid_connect_provider" "github" {
  count          = var.github_provider == null ? 1 : 0
  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_cloudfront_origin_access_control" "this" {
  name                              = "${var.name}-identity"
  origin_access_control_origin_type = "s3"
  signing_behavior                  = "always"
  signing_protocol                  = "sigv4"
}

# Three small public files, read by AWS and CI: there is nothing for a WAF to filter, and no user's request to log.
#trivy:ignore:AWS-0010
#trivy:ignore:AWS-0011
resource "aws_cloudfront_distribution" "this" {
  comment             = "${var.name}: public keys of the cluster's service accounts"
  enabled             = true
  is_ipv6_enabled     = true
  price_class         = "PriceClass_100"
  wait_for_deployment = false
  origin {
    origin_id                = "identity"
    domain_name              = var.bucket.regional_domain
    origin_access_control_id = aws_cloudfront_origin_access_control.this.id
  }
  default_cache_behavior {
    target_origin_id       = "identity"
    viewer_protocol_policy = "https-only"
    allowed_methods        = ["GET", "HEAD"]
    cached_methods         = ["GET", "HEAD"]
    # A key that stays cached for long would lock the pods out after the cluster is recreated.
    min_ttl     = 0
    default_ttl = 60
    max_ttl     = 300
    forwarded_values {
      query_string = false
      cookies {
        forward = "none"
      }
    }
  }
  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }
  viewer_certificate {
    cloudfront_default_certificate = true
  }
}

data "aws_iam_policy_document" "bucket" {
  source_policy_documents = [var.bucket.tls_only]
  statement {
    sid       = "CloudFrontReads"
    actions   = ["s3:GetObject"]
    resources = ["${var.bucket.arn}/*"]
    principals {
      type        = "Service"
      identifiers = ["cloudfront.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudfront_distribution.this.arn]
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  bucket = var.bucket.id
  policy = data.aws_iam_policy_document.bucket.json
}

resource "aws_iam_openid_connect_provider" "cluster" {
  url            = "https://${aws_cloudfront_distribution.this.domain_name}"
  client_id_list = ["sts.amazonaws.com"]
}

output "github_provider_arn" {
  description = "The identity provider for GitHub."
  value       = var.github_provider == null ? aws_iam_openid_connect_provider.github[0].arn : var.github_provider
}

output "cluster_provider_arn" {
  description = "The identity provider for the cluster's service accounts."
  value       = aws_iam_openid_connect_provider.cluster.arn
}

output "issuer_host" {
  description = "Host name of the issuer."
  value       = aws_cloudfront_distribution.this.domain_name
}

output "issuer" {
  description = "URL where AWS finds the public keys."
  value       = "https://${aws_cloudfront_distribution.this.domain_name}"
}
