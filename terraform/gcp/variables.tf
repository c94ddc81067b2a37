variable "name" {
  description = "Name of everything that is made here."
  type        = string
  default     = "cloudimg"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "3 to 24 lower-case letters, digits and hyphens; a letter first, no hyphen last."
  }
}

variable "project" {
  description = "ID of the Google Cloud project; both buckets belong to it, too."
  type        = string
}

variable "region" {
  description = "Where the buckets are: traffic within a region costs nothing."
  type        = string
}

variable "source_bucket" {
  description = <<-EOT
    Bucket that is read; it needs uniform bucket-level access. null grants nothing: for buckets that
    are public or of another project, whose owner then lets the workers in.
  EOT
  type        = string
}

variable "source_prefix" {
  description = "Workers read only objects whose name begins so, such as \"scans/\"; \"\": all of the bucket."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^([^/'\"\\\\][^'\"\\\\]*/)?$", var.source_prefix))
    error_message = "No slash first, a slash last (\"scans\" would also open \"scans-private/\"), no quotes or backslashes."
  }
}

variable "destination_bucket" {
  description = "Bucket that is written; an existing one needs uniform bucket-level access."
  type        = string
}

variable "create_destination_bucket" {
  description = "Whether to make the destination bucket."
  type        = bool
  default     = true
}

variable "soft_delete_days" {
  description = "Days for which the bucket that is made keeps what is replaced or deleted: 0, or 7 to 90."
  type        = number
  default     = 7

  validation {
    condition     = var.soft_delete_days == 0 || (var.soft_delete_days >= 7 && var.soft_delete_days <= 90)
    error_message = "Google allows 0, or 7 to 90 days."
  }
}

variable "destination_kms_key" {
  description = "Key of your own for the bucket that is made, which Cloud Storage's service agent may use; null: Google's."
  type        = string
  default     = null
}

variable "destination_prefix" {
  description = "Workers write only objects whose name begins so, such as \"zarr/\"; \"\": all of the bucket."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^([^/'\"\\\\][^'\"\\\\]*/)?$", var.destination_prefix))
    error_message = "No slash first, a slash last (\"zarr\" would also open \"zarr-private/\"), no quotes or backslashes."
  }
}

variable "admin_cidr" {
  description = <<-EOT
    Networks from which you use the cluster, such as ["203.0.113.7/32"]. Empty: it is closed, its
    control plane has no public address, and no client reaches a scheduler.
  EOT
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for each in var.admin_cidr : can(cidrnetmask(each)) && try(tonumber(split("/", each)[1]) >= 8, false)
    ])
    error_message = "IPv4 networks of /8 or smaller: 0.0.0.0/0 would open the cluster to the world."
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
  description = "Processors of a worker, which has as many threads."
  type        = string
  default     = "4"

  validation {
    condition     = can(regex("^[1-9][0-9]*$", var.worker_cpu))
    error_message = "A whole number."
  }
}

variable "worker_memory" {
  description = "Memory of a worker; Autopilot wants 1 to 6.5 GiB for each processor."
  type        = string
  default     = "16Gi"

  validation {
    condition     = can(regex("^[1-9][0-9]*Gi$", var.worker_memory))
    error_message = "GiB as Kubernetes writes them, such as \"16Gi\"."
  }
}

variable "billing_account" {
  description = "Billing account of the project, for a budget that warns; null: none is made."
  type        = string
  default     = null
}

variable "monthly_budget" {
  description = "Costs of the whole project a month that you expect at most, in the account's currency."
  type        = number
  default     = 200

  validation {
    condition     = var.monthly_budget >= 1 && floor(var.monthly_budget) == var.monthly_budget
    error_message = "A whole number of at least 1."
  }
}
