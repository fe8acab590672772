# One repository per image. Tags are immutable.
variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "force_delete" {
  description = "Delete repositories that still hold images."
  type        = bool
}

locals {
  images = ["api", "training", "mlflow", "operator", "decisions"]
}

# An AWS-owned key, as in modules/cluster/server.tf.
#trivy:ignore:AWS-0033
resource "aws_ecr_repository" "this" {
  for_each             = toset(local.images)
  name                 = "${var.name}/${each.key}"
  image_tag_mutability = "IMMUTABLE"
  force_delete         = var.force_delete
  image_scanning_configuration {
    scan_on_push = true
  }
  encryption_configuration {
    encryption_type = "AES256"
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  for_each   = aws_ecr_repository.this
  repository = each.value.name
  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "untagged images"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 14 }
        action       = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "all but the newest fifty images"
        selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 50 }
        action       = { type = "expire" }
      },
    ]
  })
}

output "arns" {
  description = "ARNs of the repositories."
  value       = [for image in local.images : aws_ecr_repository.this[image].arn]
}

output "address" {
  description = "Address of the registry, without the image."
  value       = trimsuffix(aws_ecr_repository.this["api"].repository_url, "/api")
}
