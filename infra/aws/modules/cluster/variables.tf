variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "region" {
  description = "AWS region."
  type        = string
}

variable "namespace" {
  description = "Kubernetes namespace of the release."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnets" {
  description = "Private subnets; the server is in the first."
  type        = list(object({ id = string, zone = string }))
}

variable "k3s_version" {
  description = "k3s release."
  type        = string
}

variable "server_instance_type" {
  description = "EC2 instance type of the server."
  type        = string
}

variable "server_disk_gib" {
  description = "Size of the server's data disk, in GiB."
  type        = number
}

variable "server_disk_snapshot_id" {
  description = "EBS snapshot to create the data disk from; null for an empty disk."
  type        = string
}

variable "agent_instance_type" {
  description = "EC2 instance type of the agents."
  type        = string
}

variable "agents" {
  description = "Minimum and maximum number of agents."
  type        = object({ min = number, max = number })
}

variable "server_instance_profile" {
  description = "The server's instance profile."
  type        = string
}

variable "agent_instance_profile" {
  description = "The agents' instance profile."
  type        = string
}

variable "backup_bucket" {
  description = "Bucket for etcd snapshots."
  type        = string
}

variable "identity_bucket" {
  description = "Bucket for the public keys."
  type        = string
}

variable "issuer" {
  description = "URL where AWS finds the public keys of the cluster's service accounts."
  type        = string
}

variable "github" {
  description = "Repository, IDs, and environment whose jobs may deploy."
  type        = object({ repository = string, owner_id = number, repository_id = number, environment = string })
}

variable "target_group_arn" {
  description = "Target group of the load balancer."
  type        = string
}

variable "entry_security_group_id" {
  description = "Security group of the load balancer."
  type        = string
}

variable "node_ports" {
  description = "Ports of the nodes that the load balancer uses."
  type        = object({ https = number, ping = number })
}

variable "database" {
  description = "How to log in to Postgres outside the cluster; null for none."
  type        = object({ name = string, username = string, password_parameter = string, security_group_id = string })
}

variable "manifests" {
  description = "Manifests that k3s applies on startup, by file name."
  type        = map(string)
}
