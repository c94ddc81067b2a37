variable "name" {
  description = "Name of everything that is made here."
  type        = string
  default     = "cloudimg"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "3 to 24 lower-case letters, digits and hyphens; a letter first, no hyphen last."
  }
}

variable "region" {
  description = "Where the buckets are: traffic within a region costs nothing."
  type        = string
}

variable "source_bucket" {
  description = "Bucket that is read. One of another account must let the worker and driver roles in."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.source_bucket))
    error_message = "The name of a bucket, without s3:// and without wildcards."
  }
}

variable "source_prefix" {
  description = "Workers read only objects whose key begins so, such as \"scans/\"; \"\": all of the bucket."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^([^/*?$][^*?$]*/)?$", var.source_prefix))
    error_message = "No slash first, a slash last (\"scans\" would also open \"scans-private/\"), none of * ? $."
  }
}

variable "destination_bucket" {
  description = "Bucket that is written."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.destination_bucket))
    error_message = "The name of a bucket, without s3:// and without wildcards."
  }
}

variable "create_destination_bucket" {
  description = "Whether to make the destination bucket; one that is there is left as it is."
  type        = bool
  default     = true
}

variable "destination_prefix" {
  description = "Workers write only objects whose key begins so, such as \"zarr/\"; \"\": all of the bucket."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^([^/*?$][^*?$]*/)?$", var.destination_prefix))
    error_message = "No slash first, a slash last (\"zarr\" would also open \"zarr-private/\"), none of * ? $."
  }
}

variable "destination_versioning" {
  description = "Whether the bucket that is made keeps what is replaced or deleted, for old_versions_days."
  type        = bool
  default     = true
}

variable "old_versions_days" {
  description = "Days for which the bucket that is made keeps what is replaced or deleted."
  type        = number
  default     = 30

  validation {
    condition     = var.old_versions_days > 0
    error_message = "At least a day; to keep nothing, set destination_versioning = false."
  }
}

variable "destination_kms_key_arn" {
  description = "Key of your own for the destination, which the roles may then use; null: Amazon's."
  type        = string
  default     = null
}

variable "admin_cidr" {
  description = <<-EOT
    Network from which you use the cluster, such as "203.0.113.7/32". null: nothing outside reaches
    it, and `cloudimg` runs on a machine in the VPC that has the security group of the members.
  EOT
  type        = string
  default     = null

  validation {
    condition = var.admin_cidr == null ? true : (
      can(cidrnetmask(var.admin_cidr)) && try(tonumber(split("/", var.admin_cidr)[1]) >= 8, false)
    )
    error_message = "One IPv4 network of /8 or smaller: 0.0.0.0/0 or ::/0 would open the cluster to the world."
  }
}

variable "driver_principals" {
  description = <<-EOT
    ARNs of the users and roles that may take the driver's role. Empty: those whom your account's own
    IAM policies allow sts:AssumeRole on it.
  EOT
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for each in var.driver_principals : can(regex("^arn:[^:*]+:(iam|sts)::[0-9]{12}:[^*]+$", each))])
    error_message = "ARNs of users, roles or accounts, without wildcards."
  }
}

variable "image_tag" {
  description = "Tag of the image that you push; tags cannot be moved, so each build takes its own."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$", var.image_tag)) && var.image_tag != "latest"
    error_message = "A tag that names one build, such as \"0.1.0\"; not \"latest\"."
  }
}

variable "worker_cpu" {
  description = "CPU units of a worker, 1024 for a processor; it has one thread for each."
  type        = number
  default     = 4096

  validation {
    condition     = contains([1024, 2048, 4096, 8192, 16384], var.worker_cpu)
    error_message = "Fargate has 1024, 2048, 4096, 8192 and 16384."
  }
}

variable "worker_memory" {
  description = "Memory of a worker in MiB; Fargate wants 2 to 7.5 GiB for each processor."
  type        = number
  default     = 16384

  validation {
    condition     = var.worker_memory >= 2048 && var.worker_memory % 1024 == 0
    error_message = "Whole GiB, at least 2048 MiB."
  }
}

variable "scheduler_cpu" {
  description = "CPU units of a scheduler, which uses one processor."
  type        = number
  default     = 1024
}

variable "scheduler_memory" {
  description = "Memory of a scheduler in MiB."
  type        = number
  default     = 4096
}

variable "idle_timeout_s" {
  description = "A scheduler ends by itself, and with it its workers, when it had no work for so long."
  type        = number
  default     = 1800

  validation {
    condition     = var.idle_timeout_s >= 60 && floor(var.idle_timeout_s) == var.idle_timeout_s
    error_message = "Whole seconds, at least 60."
  }
}

variable "log_retention_days" {
  description = "How long logs are kept; one of the numbers that CloudWatch knows, such as 7, 30, 365."
  type        = number
  default     = 30

  validation {
    condition     = var.log_retention_days > 0
    error_message = "0 would keep them for ever."
  }
}

variable "log_kms_key_arn" {
  description = "Key of your own for the logs, whose policy lets CloudWatch Logs use it; null: Amazon's."
  type        = string
  default     = null
}

variable "budget_email" {
  description = "Who is told when the month's costs near the budget; null: no budget is made."
  type        = string
  default     = null
}

variable "monthly_budget_usd" {
  description = "Costs of the whole account a month that you expect at most."
  type        = number
  default     = 200

  validation {
    condition     = var.monthly_budget_usd > 0
    error_message = "More than 0."
  }
}
