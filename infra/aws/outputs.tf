output "url" {
  description = "URL of the scoring service."
  value       = "https://${var.domain}"
}

output "artifact_bucket" {
  description = "Bucket of the models and, under data/, of the training data."
  value       = module.storage.artifact_bucket
}

output "registry" {
  description = "Address of the image registry, without the image."
  value       = module.registry.address
}

output "server_instance_id" {
  description = "The k3s server, for `aws ssm start-session`."
  value       = module.cluster.server_instance_id
}

output "data_volume_id" {
  description = "The server's data disk, which survives a replacement of the server."
  value       = module.cluster.data_volume_id
}

output "github_variables" {
  description = "Variables to set in the GitHub environment; none of them is secret."
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
  description = "Helm values that depend on this deployment, to be used after charts/credit-risk/values-k3s.yaml."
  value       = local.helm_values
}

locals {
  helm_values = yamlencode({
    global = {
      s3 = {
        region         = var.region
        artifactBucket = module.storage.artifact_bucket
        dataBucket     = module.storage.artifact_bucket
        roleArns = merge(
          {
            mlflow   = module.access.mlflow_role_arn
            training = module.access.training_role_arn
            backup   = module.access.backup_role_arn
          },
          module.access.decision_log_role_arns,
        )
      }
      decisions = var.decision_log == null ? {} : {
        bucket     = module.storage.decision_log.bucket
        sealBucket = module.storage.decision_log.seal_bucket
        prefix     = "decisions"
      }
      # The host only: next to it in a conditional, Terraform would convert a number to a string.
      database = var.database == null ? {} : { host = module.database[0].address }
    }
    postgres = { enabled = var.database == null }
    backup = merge(
      { destination = { bucket = module.storage.backup_bucket, prefix = "registry" } },
      # pg_dump's major version must be the server's.
      var.database == null ? {} : { postgresImage = { tag = module.database[0].major_version } },
    )
    training = { data = "s3://${module.storage.artifact_bucket}/data/loans.csv" }
    api = {
      ingress = {
        host = var.domain
        tls  = [{ hosts = [var.domain] }]
      }
    }
  })
}
