terraform {
  required_version = ">= 1.7"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50.0"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region

  # Budgets are asked for in the name of a project; without these two, a user's own login is refused.
  user_project_override = true
  billing_project       = var.project

  default_labels = {
    app  = "cloudimg"
    name = var.name
  }
}
