variable "name" {
  description = "Name of the deployment, and the prefix of every resource's name."
  type        = string
  default     = "credit-risk"
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name: 3 to 20 lowercase letters, digits, and hyphens, starting with a letter (the limit of load balancers)."
  }
}

variable "region" {
  description = "AWS region of every resource."
  type        = string
  default     = "eu-central-1"
  nullable    = false
  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region: the name of a region, such as eu-central-1."
  }
}

variable "domain" {
  description = "Host name of the scoring service; it gets a certificate and points to the load balancer."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "domain: a lowercase host name, such as scoring.example.org."
  }
}

variable "zone_id" {
  description = "Route 53 hosted zone that contains the domain."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[A-Z0-9]{8,32}$", var.zone_id))
    error_message = "zone_id: the ID of a hosted zone, such as Z0123456789ABCDEFGHIJ."
  }
}

variable "allowed_cidrs" {
  description = "Networks that may reach the load balancer. The service also requires an API key."
  type        = set(string)
  nullable    = false
  validation {
    condition     = length(var.allowed_cidrs) > 0 && alltrue([for cidr in var.allowed_cidrs : try("${cidrhost(cidr, 0)}/${split("/", cidr)[1]}" == cidr && can(cidrnetmask(cidr)), false)])
    error_message = "allowed_cidrs: at least one IPv4 network, given by its first address, such as 203.0.113.0/24; 0.0.0.0/0 is the whole internet."
  }
}

variable "github" {
  description = "Who may deploy: jobs of this repository in this environment. To get the IDs: gh api repos/OWNER/NAME --jq '.owner.id, .id'."
  type = object({
    repository    = string
    owner_id      = number
    repository_id = number
    environment   = optional(string, "production")
  })
  nullable = false
  validation {
    condition     = can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.github.repository))
    error_message = "github.repository: OWNER/NAME."
  }
  validation {
    condition     = try(var.github.owner_id > 0 && var.github.repository_id > 0, false)
    error_message = "github.owner_id and github.repository_id: the numeric IDs that GitHub assigned."
  }
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+$", var.github.environment))
    error_message = "github.environment: letters, digits, hyphens, and underscores."
  }
}

variable "github_oidc_provider_arn" {
  description = "ARN of the account's existing identity provider for GitHub; null to create one. An account can have only one."
  type        = string
  default     = null
  validation {
    condition     = var.github_oidc_provider_arn == null || can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:oidc-provider/token\\.actions\\.githubusercontent\\.com$", var.github_oidc_provider_arn))
    error_message = "github_oidc_provider_arn: arn:aws:iam::ACCOUNT:oidc-provider/token.actions.githubusercontent.com."
  }
}

variable "vpc_cidr" {
  description = "Address range of the VPC. It must not overlap k3s's own 10.42.0.0/16 and 10.43.0.0/16."
  type        = string
  default     = "10.0.0.0/16"
  nullable    = false
  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && can(regex("/(1[6-9]|20)$", var.vpc_cidr)) && !can(regex("^10\\.4[23]\\.", var.vpc_cidr))
    error_message = "vpc_cidr: an IPv4 network of /16 to /20 outside 10.42.0.0/15."
  }
}

variable "zone_count" {
  description = "Number of availability zones to use."
  type        = number
  default     = 2
  nullable    = false
  validation {
    condition     = contains([2, 3], var.zone_count)
    error_message = "zone_count: 2 or 3 (the load balancer needs two)."
  }
}

variable "nat_per_zone" {
  description = "A NAT gateway in each zone, so that losing a zone does not cut off the others from the internet; false for one shared gateway."
  type        = bool
  default     = false
  nullable    = false
}

variable "k3s_version" {
  description = "k3s release on all nodes. A change replaces the server, which keeps its disk, and then the agents one by one."
  type        = string
  default     = "v1.35.5+k3s1"
  nullable    = false
  validation {
    condition     = can(regex("^v1\\.(3[0-9]|[4-9][0-9])\\.[0-9]+\\+k3s[0-9]+$", var.k3s_version))
    error_message = "k3s_version: a release from v1.30 on, such as v1.35.5+k3s1."
  }
}

variable "server_instance_type" {
  description = "EC2 instance type of the k3s server; x86-64, like the images. Training runs here, next to its checkpoints."
  type        = string
  default     = "t3.large"
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*[0-9][a-z0-9-]*\\.[a-z0-9-]+$", var.server_instance_type)) && !can(regex("^(a1\\.|[a-z]+[0-9]+g)", var.server_instance_type))
    error_message = "server_instance_type: an x86-64 EC2 instance type, such as t3.large."
  }
}

variable "server_disk_gib" {
  description = "Size of the server's data disk, which survives a replacement of the server: etcd, and the database unless RDS is used."
  type        = number
  default     = 30
  nullable    = false
  validation {
    condition     = var.server_disk_gib >= 20 && var.server_disk_gib <= 1000 && floor(var.server_disk_gib) == var.server_disk_gib
    error_message = "server_disk_gib: a whole number, 20 to 1000."
  }
}

variable "server_disk_snapshot_id" {
  description = "EBS snapshot to create the server's data disk from, for a restore."
  type        = string
  default     = null
  validation {
    condition     = var.server_disk_snapshot_id == null || can(regex("^snap-[0-9a-f]+$", var.server_disk_snapshot_id))
    error_message = "server_disk_snapshot_id: the ID of an EBS snapshot, such as snap-0123456789abcdef0."
  }
}

variable "agent_instance_type" {
  description = "EC2 instance type of the agents; x86-64, like the images."
  type        = string
  default     = "t3.medium"
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*[0-9][a-z0-9-]*\\.[a-z0-9-]+$", var.agent_instance_type)) && !can(regex("^(a1\\.|[a-z]+[0-9]+g)", var.agent_instance_type))
    error_message = "agent_instance_type: an x86-64 EC2 instance type, such as t3.medium."
  }
}

variable "agents" {
  description = "Number of agents: the group scales out to max while their CPUs are busy and back in to min."
  type        = object({ min = number, max = number })
  default     = { min = 2, max = 4 }
  nullable    = false
  validation {
    condition     = try(var.agents.min >= 1 && var.agents.max >= var.agents.min && var.agents.max <= 50 && floor(var.agents.min) == var.agents.min && floor(var.agents.max) == var.agents.max, false)
    error_message = "agents: whole numbers, 1 <= min <= max <= 50."
  }
}

variable "database" {
  description = "RDS Postgres instead of the one in the cluster; null for none."
  type = object({
    instance_class = optional(string, "db.t4g.micro")
    storage_gib    = optional(number, 20)
    multi_az       = optional(bool, false)
    backup_days    = optional(number, 7)
  })
  default = null
  validation {
    condition     = var.database == null || try(can(regex("^db\\.[a-z0-9]+\\.[a-z0-9]+$", var.database.instance_class)) && var.database.storage_gib >= 20 && var.database.storage_gib <= 10000 && var.database.backup_days >= 1 && var.database.backup_days <= 35, false)
    error_message = "database: instance_class such as db.t4g.micro, storage_gib 20 to 10000, backup_days 1 to 35."
  }
}

variable "decision_log" {
  description = "Buckets and roles of the decision log; null for none. Seals are locked for so many years: COMPLIANCE lets nobody delete them, GOVERNANCE those who may bypass it."
  type = object({
    seal_years = optional(number, 5)
    seal_lock  = optional(string, "GOVERNANCE")
  })
  default = null
  validation {
    condition     = var.decision_log == null || try(contains(["GOVERNANCE", "COMPLIANCE"], var.decision_log.seal_lock) && var.decision_log.seal_years >= 1 && var.decision_log.seal_years <= 100 && floor(var.decision_log.seal_years) == var.decision_log.seal_years, false)
    error_message = "decision_log: seal_years a whole number, 1 to 100; seal_lock GOVERNANCE or COMPLIANCE."
  }
}

variable "mlflow_garbage_collection" {
  description = "Let the MLflow server delete artifacts, for `mlflow gc`."
  type        = bool
  default     = false
  nullable    = false
}

variable "deletion_protection" {
  description = "Make `terraform destroy` fail for buckets that are not empty, images, the database, and the load balancer."
  type        = bool
  default     = true
  nullable    = false
}
