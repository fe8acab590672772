data "aws_caller_identity" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  namespace = "credit-risk"
}

module "network" {
  source       = "./modules/network"
  name         = var.name
  cidr         = var.vpc_cidr
  zone_count   = var.zone_count
  nat_per_zone = var.nat_per_zone
}

module "registry" {
  source       = "./modules/registry"
  name         = var.name
  force_delete = !var.deletion_protection
}

module "storage" {
  source        = "./modules/storage"
  name          = var.name
  account       = local.account
  force_destroy = !var.deletion_protection
  decision_log  = var.decision_log
}

module "identity" {
  source          = "./modules/identity"
  name            = var.name
  bucket          = module.storage.identity_bucket
  github_provider = var.github_oidc_provider_arn
}

module "access" {
  source               = "./modules/access"
  name                 = var.name
  region               = var.region
  account              = local.account
  namespace            = local.namespace
  github               = var.github
  github_provider_arn  = module.identity.github_provider_arn
  cluster_provider_arn = module.identity.cluster_provider_arn
  cluster_issuer_host  = module.identity.issuer_host
  artifact_bucket_arn  = module.storage.artifact_bucket_arn
  backup_bucket_arn    = module.storage.backup_bucket_arn
  identity_bucket_arn  = module.storage.identity_bucket.arn
  decision_log         = module.storage.decision_log
  repository_arns      = module.registry.arns
  garbage_collection   = var.mlflow_garbage_collection
}

module "entry" {
  source              = "./modules/entry"
  name                = var.name
  vpc_id              = module.network.vpc_id
  subnet_ids          = module.network.public_subnet_ids
  domain              = var.domain
  zone_id             = var.zone_id
  allowed_cidrs       = var.allowed_cidrs
  deletion_protection = var.deletion_protection
}

module "database" {
  count               = var.database == null ? 0 : 1
  source              = "./modules/database"
  name                = var.name
  vpc_id              = module.network.vpc_id
  subnet_ids          = module.network.private_subnet_ids
  settings            = var.database
  deletion_protection = var.deletion_protection
}

module "cluster" {
  source                  = "./modules/cluster"
  name                    = var.name
  region                  = var.region
  namespace               = local.namespace
  vpc_id                  = module.network.vpc_id
  subnets                 = module.network.private_subnets
  k3s_version             = var.k3s_version
  server_instance_type    = var.server_instance_type
  server_disk_gib         = var.server_disk_gib
  server_disk_snapshot_id = var.server_disk_snapshot_id
  agent_instance_type     = var.agent_instance_type
  agents                  = var.agents
  server_instance_profile = module.access.server_instance_profile
  agent_instance_profile  = module.access.agent_instance_profile
  backup_bucket           = module.storage.backup_bucket
  identity_bucket         = module.storage.identity_bucket.id
  issuer                  = module.identity.issuer
  github                  = var.github
  target_group_arn        = module.entry.target_group_arn
  entry_security_group_id = module.entry.security_group_id
  node_ports              = module.entry.node_ports
  database                = var.database == null ? null : module.database[0].login
  manifests = {
    for file in fileset("${path.root}/../../manifests", "k3s-*.yaml") : file => file("${path.root}/../../manifests/${file}")
  }
}
