variable "partition" {
  description = "Amazon's: aws, aws-cn, aws-us-gov."
  type        = string
}

variable "region" {
  type = string
}

variable "account_id" {
  type = string
}

variable "source_bucket" {
  type = string
}

variable "source_prefix" {
  description = "Empty, or with a slash at its end."
  type        = string
}

variable "destination_bucket" {
  type = string
}

variable "destination_prefix" {
  description = "Empty, or with a slash at its end."
  type        = string
}

variable "kms_key_arn" {
  description = "Key that encrypts the destination; null: Amazon's, for which no right is needed."
  type        = string
  default     = null
}

variable "parameter_prefix" {
  description = "Folder of the jobs' parameters: a slash first, none last."
  type        = string
}

variable "cluster_name" {
  type = string
}

variable "cluster_arn" {
  type = string
}

variable "repository_arn" {
  type = string
}

variable "log_group_arn" {
  type = string
}

variable "task_definitions" {
  description = "ARNs, with revision, of what the driver may start."
  type        = list(string)
}

variable "passed_roles" {
  description = "ARNs of the roles that these tasks have."
  type        = list(string)
}

variable "driver_principals" {
  description = "ARNs of who may take the driver's role; empty: the account decides by its own policies."
  type        = list(string)
}
