# Made by infra/aws/state. The bucket and the region are given to `terraform init -backend-config`.
terraform {
  backend "s3" {
    key          = "credit-risk.tfstate"
    use_lockfile = true
    encrypt      = true
  }
}
