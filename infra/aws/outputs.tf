output "url" {
  description = "Where loans are scored."
  value       = "https://${var.domain}"
}

output "artifact_bucket" {
  description = "Holds the models, and under data/ what training reads."
  value       = module.storage.artifact_bucket
}

output "registry" {
  description = "Where the images go."
  value       = module.registry.address
}

output "server_instance_id" {
  description = "The k3s server, for `aws ssm start-session`."
  value       = module.cluster.server_instance_id
}

output "data_volume_id" {
  description = "The server's disk that outlives it."
  value       = module.cluster.data_volume_id
}

output "github_variables" {
  description = "Variables of the GitHub environment, none of them secret."
  value = {
    AWS_REGION      = var.region
    AWS_DEPLOY_ROLE = module.access.deploy_role_arn
    ECR_REGISTRY    = module.registry.address
    K3S_SERVER_ID   = module.cluster.server_instance_id
    K3S_CA_URL      = "${module.identity.issuer}/ca.crt"
    K3S_AUDIENCE    = var.name
    PUBLIC_URL      = "https://${var.domain}"
    HELM_VALUES     = local.helm_values
  }
}

output "helm_values" {
  description = "What charts/credit-risk/values-k3s.yaml cannot know."
  value       = local.helm_values
}

locals {
  helm_values = yamlencode({
    global = {
      s3 = {
        region         = var.region
        artifactBucket = module.storage.artifact_bucket
        dataBucket     = module.storage.artifact_bucket
        roleArns = {
          mlflow   = module.access.mlflow_role_arn
          training = module.access.training_role_arn
        }
      }
      # The host alone: beside it in a condition, Terraform would make a number a text.
      database = var.database == null ? {} : { host = module.database[0].address }
    }
    postgres = { enabled = var.database == null }
    training = { data = "s3://${module.storage.artifact_bucket}/data/loans.csv" }
    api = {
      ingress = {
        host = var.domain
        tls  = [{ hosts = [var.domain] }]
      }
    }
  })
}
