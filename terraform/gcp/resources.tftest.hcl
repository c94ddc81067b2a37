# What is made, what it costs while idle, and what `cloudimg` is told of it.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
  mock_resource "google_container_cluster" {
    defaults = {
      endpoint    = "192.0.2.10"
      master_auth = { cluster_ca_certificate = "Q0VSVA==" }
    }
  }
}

variables {
  project            = "project"
  region             = "europe-west3"
  source_bucket      = "source"
  source_prefix      = "scans/"
  destination_bucket = "destination"
  destination_prefix = "zarr/"
  image_tag          = "0.1.0"
}

run "the_destination_is_private_and_keeps_no_rubbish" {
  assert {
    condition     = google_storage_bucket.destination[0].public_access_prevention == "enforced" && google_storage_bucket.destination[0].uniform_bucket_level_access
    error_message = "The bucket, or objects of it, could be made public."
  }
  assert {
    condition = anytrue([
      for rule in google_storage_bucket.destination[0].lifecycle_rule :
      one(rule.action).type == "AbortIncompleteMultipartUpload" && one(rule.condition).age == 1
    ])
    error_message = "Parts of uploads that were never completed stay, and cost."
  }
  assert {
    condition     = length(google_storage_bucket.destination[0].lifecycle_rule) == 1 && google_storage_bucket.destination[0].force_destroy == false
    error_message = "Something deletes results."
  }
  assert {
    condition     = google_storage_bucket.destination[0].soft_delete_policy[0].retention_duration_seconds == 604800
    error_message = "What is deleted by mistake is lost."
  }
}

run "tags_of_images_cannot_be_moved" {
  assert {
    condition     = google_artifact_registry_repository.images.docker_config[0].immutable_tags
    error_message = "A tag may come to mean another image."
  }
}

run "the_tag_latest_is_refused" {
  command = plan
  variables {
    image_tag = "latest"
  }
  expect_failures = [var.image_tag]
}

run "no_budget_without_an_account" {
  assert {
    condition     = length(google_billing_budget.this) == 0
    error_message = "There is no billing account to make a budget for."
  }
}

run "a_budget_warns_before_and_when_it_is_spent" {
  variables {
    billing_account = "000000-000000-000000"
    monthly_budget  = 300
  }
  assert {
    condition     = google_billing_budget.this[0].amount[0].specified_amount[0].units == "300" && google_billing_budget.this[0].budget_filter[0].projects == toset(["projects/123456789012"])
    error_message = "The budget is of another amount or project."
  }
  assert {
    condition     = google_billing_budget.this[0].threshold_rules[*].threshold_percent == tolist([0.8, 1])
    error_message = "It warns at other parts of the budget."
  }
}

run "the_cluster_can_be_torn_down" {
  assert {
    condition     = google_container_cluster.this.deletion_protection == false
    error_message = "`terraform destroy` would stop at the cluster."
  }
}

run "cloudimg_is_told_all_it_needs" {
  variables {
    admin_cidr    = ["203.0.113.7/32"]
    worker_cpu    = "8"
    worker_memory = "32Gi"
  }
  assert {
    condition = jsondecode(jsonencode(output.cloudimg_cluster)) == {
      version                = 1
      kind                   = "gcp-gke"
      project                = "project"
      location               = "europe-west3"
      cluster                = "cloudimg"
      endpoint               = "https://192.0.2.10"
      ca_certificate         = "Q0VSVA=="
      namespace              = "cloudimg"
      worker_service_account = "cloudimg-worker"
      image                  = "europe-west3-docker.pkg.dev/project/cloudimg/cloudimg:0.1.0"
      admin_cidr             = ["203.0.113.7/32"]
      worker_cpu             = "8"
      worker_memory          = "32Gi"
    }
    error_message = "The output is not what `cloudimg` reads."
  }
}
