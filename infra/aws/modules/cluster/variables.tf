variable "name" {
  type = string
}

variable "region" {
  type = string
}

variable "namespace" {
  type = string
}

variable "vpc_id" {
  type = string
}

variable "subnets" {
  description = "Private subnets; the server is in the first."
  type        = list(object({ id = string, zone = string }))
}

variable "k3s_version" {
  type = string
}

variable "server_instance_type" {
  type = string
}

variable "server_disk_gib" {
  type = number
}

variable "server_disk_snapshot_id" {
  type = string
}

variable "agent_instance_type" {
  type = string
}

variable "agents" {
  type = object({ min = number, max = number })
}

variable "server_instance_profile" {
  type = string
}

variable "agent_instance_profile" {
  type = string
}

variable "backup_bucket" {
  type = string
}

variable "identity_bucket" {
  type = string
}

variable "issuer" {
  description = "Address under which AWS finds the public keys of the cluster's service accounts."
  type        = string
}

variable "github" {
  type = object({ repository = string, owner_id = number, repository_id = number, environment = string })
}

variable "target_group_arn" {
  type = string
}

variable "entry_security_group_id" {
  type = string
}

variable "node_ports" {
  type = object({ https = number, ping = number })
}

variable "database" {
  description = "How one logs in to Postgres outside of the cluster; null for none."
  type        = object({ name = string, username = string, password_parameter = string, security_group_id = string })
}

variable "manifests" {
  description = "Files that k3s applies by itself, by their names."
  type        = map(string)
}
