# Where clusters of cloudimg run on Google Cloud. Nothing here computes: `cloudimg` starts the pods
# of a job in the cluster and ends them with it.

resource "google_project_service" "needed" {
  for_each = toset([
    "artifactregistry.googleapis.com",
    "billingbudgets.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "compute.googleapis.com",
    "container.googleapis.com",
    "iam.googleapis.com",
  ])
  service            = each.key
  disable_on_destroy = false # others in the project may use it
}

data "google_project" "this" {
  depends_on = [google_project_service.needed]
}

# Network. There is no firewall rule here: a network lets nothing in unless a rule says so. Nodes
# have no public address, and there is no Cloud NAT: images and objects are reached by Private
# Google Access, and nothing else outside is.

resource "google_compute_network" "this" {
  name                    = var.name
  auto_create_subnetworks = false
  depends_on              = [google_project_service.needed]
}

resource "google_compute_subnetwork" "this" {
  name                     = var.name
  network                  = google_compute_network.this.id
  region                   = var.region
  private_ip_google_access = true

  # Room for 1,000 workers and more: Autopilot gives each node 64 addresses for its pods.
  ip_cidr_range = "10.80.0.0/20"
  secondary_ip_range {
    range_name    = "pods"
    ip_cidr_range = "10.84.0.0/14"
  }
  secondary_ip_range {
    range_name    = "services"
    ip_cidr_range = "10.80.16.0/20"
  }
}

# Cluster. Autopilot has no nodes while there are no pods of ours, and bills pods only.

resource "google_container_cluster" "this" {
  name             = var.name
  location         = var.region
  enable_autopilot = true
  network          = google_compute_network.this.id
  subnetwork       = google_compute_subnetwork.this.id

  # Nothing lives here longer than a job, so `terraform destroy` may take it away.
  deletion_protection = false

  ip_allocation_policy {
    cluster_secondary_range_name  = "pods"
    services_secondary_range_name = "services"
  }
  private_cluster_config {
    enable_private_nodes    = true
    enable_private_endpoint = length(var.admin_cidr) == 0
  }
  master_authorized_networks_config {
    gcp_public_cidrs_access_enabled = false # else every machine of Google's customers is let in
    dynamic "cidr_blocks" {
      for_each = var.admin_cidr
      content {
        cidr_block = cidr_blocks.value
      }
    }
  }
  master_auth {
    client_certificate_config {
      issue_client_certificate = false # users come with their Google login, never with a key
    }
  }
  release_channel {
    channel = "REGULAR"
  }
  cluster_autoscaling {
    auto_provisioning_defaults {
      service_account = google_service_account.nodes.email
      # The account's few roles are what limits nodes; scopes are older and coarser.
      oauth_scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    }
  }

  depends_on = [
    google_artifact_registry_repository_iam_member.nodes,
    google_project_iam_member.nodes,
  ]
}

# Without an account of their own, nodes would take the project's default one, often an Editor.
# It has no key; pods never see it, as Workload Identity gives them their own.

resource "google_service_account" "nodes" {
  account_id   = "${var.name}-nodes"
  display_name = "Nodes of ${var.name}: pull the image, write logs and metrics"
  depends_on   = [google_project_service.needed]
}

resource "google_project_iam_member" "nodes" {
  project = var.project
  role    = "roles/container.defaultNodeServiceAccount" # logs and metrics; no access to data
  member  = "serviceAccount:${google_service_account.nodes.email}"
}

resource "google_artifact_registry_repository_iam_member" "nodes" {
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.reader"
  member     = "serviceAccount:${google_service_account.nodes.email}"
}

resource "google_artifact_registry_repository" "images" {
  location      = var.region
  repository_id = var.name
  format        = "DOCKER"
  docker_config {
    immutable_tags = true # workers that replace lost ones run what the first ones ran
  }
  depends_on = [google_project_service.needed]
}

# A warning, not a limit: Google sends mails to the account's administrators and stops nothing.

resource "google_billing_budget" "this" {
  count           = var.billing_account == null ? 0 : 1
  billing_account = var.billing_account
  display_name    = var.name

  budget_filter {
    projects = ["projects/${data.google_project.this.number}"]
  }
  amount {
    specified_amount {
      units = tostring(var.monthly_budget)
    }
  }
  threshold_rules {
    threshold_percent = 0.8
  }
  threshold_rules {
    threshold_percent = 1.0
  }
}
