# Managed Postgres: AWS takes care of backups, failover, and updates. From version 15 on, RDS accepts only TLS
# connections. AWS generates the password, which appears in neither the state nor a plan.
variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the database, one per zone."
  type        = list(string)
}

variable "settings" {
  description = "The root module's variable `database`."
  type        = object({ instance_class = string, storage_gib = number, multi_az = bool, backup_days = number })
}

variable "deletion_protection" {
  description = "Protect the database from deletion."
  type        = bool
}

locals {
  # A change generates a new password, in the parameter and in the database.
  password_version = 1
  database         = "mlflow"
}

ephemeral "aws_secretsmanager_random_password" "this" {
  password_length     = 40
  exclude_punctuation = true
}

resource "aws_ssm_parameter" "password" {
  name             = "/${var.name}/database-password"
  description      = "Postgres password of ${var.name}"
  type             = "SecureString"
  value_wo         = ephemeral.aws_secretsmanager_random_password.this.random_password
  value_wo_version = local.password_version
}

# Read back, so that both have the same password even if an apply was interrupted between them.
ephemeral "aws_ssm_parameter" "password" {
  arn = aws_ssm_parameter.password.arn
}

resource "aws_security_group" "this" {
  name        = "${var.name}-database"
  description = "Postgres"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-database" }
}

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

# MLflow logs in with a password, because an IAM token would expire during a connection's lifetime. The smallest
# instance classes do not support Performance Insights.
#trivy:ignore:AWS-0176
#trivy:ignore:AWS-0133
resource "aws_db_instance" "this" {
  identifier                 = var.name
  engine                     = "postgres"
  engine_version             = "17"
  instance_class             = var.settings.instance_class
  allocated_storage          = var.settings.storage_gib
  max_allocated_storage      = var.settings.storage_gib * 5
  storage_type               = "gp3"
  storage_encrypted          = true
  multi_az                   = var.settings.multi_az
  db_name                    = local.database
  username                   = local.database
  password_wo                = ephemeral.aws_ssm_parameter.password.value
  password_wo_version        = local.password_version
  db_subnet_group_name       = aws_db_subnet_group.this.name
  vpc_security_group_ids     = [aws_security_group.this.id]
  publicly_accessible        = false
  auto_minor_version_upgrade = true
  backup_retention_period    = var.settings.backup_days
  copy_tags_to_snapshot      = true
  deletion_protection        = var.deletion_protection
  skip_final_snapshot        = !var.deletion_protection
  final_snapshot_identifier  = "${var.name}-final"
}

output "major_version" {
  description = "Major version of Postgres."
  value       = aws_db_instance.this.engine_version
}

output "address" {
  description = "Host name of the database."
  value       = aws_db_instance.this.address
}

# No value here depends on the database instance, so that the nodes are created in parallel with it.
output "login" {
  description = "How the cluster logs in to the database."
  value = {
    name               = local.database
    username           = local.database
    password_parameter = aws_ssm_parameter.password.name
    security_group_id  = aws_security_group.this.id
  }
}
