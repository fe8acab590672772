# The bucket is created by infra/aws/state. Pass it and the region with `terraform init -backend-config`.
terraform {
  backend "s3" {
    key          = "credit-risk.tfstate"
    use_lockfile = true
    encrypt      = true
  }
}
