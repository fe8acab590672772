# The secrets that nodes join with. AWS generates them; they appear in neither the state nor a plan.
locals {
  tokens = toset(["server", "agent"])
}

ephemeral "aws_secretsmanager_random_password" "token" {
  for_each            = local.tokens
  password_length     = 48
  exclude_punctuation = true
}

resource "aws_ssm_parameter" "token" {
  for_each         = local.tokens
  name             = "/${var.name}/${each.key}-token"
  description      = "k3s ${each.key} token"
  type             = "SecureString"
  value_wo         = ephemeral.aws_secretsmanager_random_password.token[each.key].random_password
  value_wo_version = 1
}

# The agent token plus the fingerprint of the cluster's CA: only the running server knows it, and writes it here.
resource "aws_ssm_parameter" "join_token" {
  name             = "/${var.name}/join-token"
  description      = "Token that agents join with; written by the server"
  type             = "SecureString"
  value_wo         = "pending"
  value_wo_version = 1
}
