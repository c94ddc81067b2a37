# Who can reach what: from outside, and with the workers' own identity.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
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

run "nothing_is_open_to_the_outside" {
  # A network lets nothing in by itself, so what counts is that nothing is added to it: this is the
  # whole list of types. No firewall rule, address, router (Cloud NAT) or key is among them.
  assert {
    condition = toset(flatten([
      for file in fileset(path.module, "*.tf") : [
        for found in regexall("(?m)^resource\\s+\"([^\"]+)\"", file("${path.module}/${file}")) : found[0]
      ]
      ])) == toset([
      "google_artifact_registry_repository",
      "google_artifact_registry_repository_iam_member",
      "google_billing_budget",
      "google_compute_network",
      "google_compute_subnetwork",
      "google_container_cluster",
      "google_project_iam_custom_role",
      "google_project_iam_member",
      "google_project_service",
      "google_service_account",
      "google_storage_bucket",
      "google_storage_bucket_iam_member",
    ])
    error_message = "A type of resource was added: see what it opens, then add it here."
  }
  assert {
    condition     = google_compute_network.this.auto_create_subnetworks == false && google_compute_subnetwork.this.private_ip_google_access
    error_message = "One subnetwork of ours, which reaches Google without public addresses."
  }
  assert {
    condition     = google_container_cluster.this.enable_autopilot && google_container_cluster.this.private_cluster_config[0].enable_private_nodes
    error_message = "Nodes have public addresses."
  }
  assert {
    condition = (
      google_container_cluster.this.private_cluster_config[0].enable_private_endpoint &&
      length(google_container_cluster.this.master_authorized_networks_config[0].cidr_blocks) == 0 &&
      google_container_cluster.this.master_authorized_networks_config[0].gcp_public_cidrs_access_enabled == false
    )
    error_message = "Without admin_cidr, the control plane must be closed to the outside."
  }
}

run "the_control_plane_answers_to_the_networks_given" {
  variables {
    admin_cidr = ["203.0.113.7/32", "198.51.100.0/24"]
  }
  assert {
    condition     = toset(google_container_cluster.this.master_authorized_networks_config[0].cidr_blocks[*].cidr_block) == toset(["203.0.113.7/32", "198.51.100.0/24"])
    error_message = "Others than those given are let in, or some are not."
  }
  assert {
    condition = (
      google_container_cluster.this.private_cluster_config[0].enable_private_endpoint == false &&
      google_container_cluster.this.private_cluster_config[0].enable_private_nodes &&
      google_container_cluster.this.master_authorized_networks_config[0].gcp_public_cidrs_access_enabled == false
    )
    error_message = "The control plane needs a public address for these networks alone."
  }
}

run "the_world_is_refused" {
  command = plan
  variables {
    admin_cidr = ["203.0.113.7/32", "0.0.0.0/0"]
  }
  expect_failures = [var.admin_cidr]
}

run "the_world_in_halves_is_refused" {
  command = plan
  variables {
    admin_cidr = ["0.0.0.0/1", "128.0.0.0/1"]
  }
  expect_failures = [var.admin_cidr]
}

run "the_world_of_ipv6_is_refused" {
  command = plan
  variables {
    admin_cidr = ["::/0"]
  }
  expect_failures = [var.admin_cidr]
}

run "what_is_no_network_is_refused" {
  command = plan
  variables {
    admin_cidr = ["203.0.113.7"]
  }
  expect_failures = [var.admin_cidr]
}

run "workers_have_few_rights_below_the_prefixes" {
  assert {
    condition = jsonencode({ for name, role in google_project_iam_custom_role.worker : name => sort(role.permissions) }) == jsonencode({
      lister = ["storage.objects.list"]
      reader = ["storage.objects.get"]
      writer = ["storage.objects.create", "storage.objects.delete", "storage.objects.get"]
    })
    error_message = "The roles have other rights than these."
  }
  assert {
    condition     = !anytrue([for role in google_project_iam_custom_role.worker : strcontains(join(" ", role.permissions), "*")])
    error_message = "A role has a wildcard."
  }
  assert {
    condition     = google_storage_bucket_iam_member.read[0].bucket == "source" && google_storage_bucket_iam_member.read[0].condition[0].expression == "resource.name.startsWith('projects/_/buckets/source/objects/scans/')"
    error_message = "Reading is not limited to the source's prefix."
  }
  assert {
    condition     = google_storage_bucket_iam_member.write.bucket == "destination" && google_storage_bucket_iam_member.write.condition[0].expression == "resource.name.startsWith('projects/_/buckets/destination/objects/zarr/')"
    error_message = "Writing is not limited to the destination's prefix."
  }
  assert {
    condition = toset([
      for grant in flatten([values(google_storage_bucket_iam_member.list), google_storage_bucket_iam_member.read, google_storage_bucket_iam_member.write]) : grant.member
    ]) == toset(["principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/project.svc.id.goog/subject/ns/cloudimg/sa/cloudimg-worker"])
    error_message = "Somebody else than the pods of the workers has these rights."
  }
}

run "each_right_is_where_it_belongs" {
  # The mock gives each role an id of its own.
  assert {
    condition = toset([
      for grant in flatten([values(google_storage_bucket_iam_member.list), google_storage_bucket_iam_member.read, google_storage_bucket_iam_member.write]) : "${grant.role} of ${grant.bucket}"
      ]) == toset([
      "${google_project_iam_custom_role.worker["lister"].id} of source",
      "${google_project_iam_custom_role.worker["lister"].id} of destination",
      "${google_project_iam_custom_role.worker["reader"].id} of source",
      "${google_project_iam_custom_role.worker["writer"].id} of destination",
    ])
    error_message = "Workers could write to the source, or cannot do their work."
  }
}

run "nodes_have_an_account_of_their_own" {
  assert {
    condition     = google_container_cluster.this.cluster_autoscaling[0].auto_provisioning_defaults[0].service_account == google_service_account.nodes.email
    error_message = "Nodes run as the project's default account."
  }
  assert {
    condition     = toset([google_project_iam_member.nodes.member, google_artifact_registry_repository_iam_member.nodes.member]) == toset(["serviceAccount:${google_service_account.nodes.email}"])
    error_message = "Somebody else has the nodes' rights."
  }
  assert {
    condition = (
      google_project_iam_member.nodes.role == "roles/container.defaultNodeServiceAccount" &&
      google_artifact_registry_repository_iam_member.nodes.role == "roles/artifactregistry.reader" &&
      google_artifact_registry_repository_iam_member.nodes.repository == google_artifact_registry_repository.images.name
    )
    error_message = "Nodes may do more than pull the image and write logs and metrics."
  }
}

run "a_destination_within_the_source_is_refused" {
  command = plan
  variables {
    destination_bucket        = "source"
    destination_prefix        = "scans/zarr/"
    create_destination_bucket = false
  }
  expect_failures = [google_storage_bucket_iam_member.write]
}

run "a_source_within_the_destination_is_refused" {
  command = plan
  variables {
    destination_bucket        = "source"
    destination_prefix        = ""
    create_destination_bucket = false
  }
  expect_failures = [google_storage_bucket_iam_member.write]
}

run "two_prefixes_of_one_bucket_are_fine" {
  variables {
    destination_bucket        = "source"
    create_destination_bucket = false
  }
  assert {
    condition     = keys(google_storage_bucket_iam_member.list) == ["source"] && length(google_storage_bucket.destination) == 0
    error_message = "The right to list is granted twice, or a bucket is made that is there already."
  }
}

run "a_source_of_somebody_else_is_granted_nothing" {
  variables {
    source_bucket = null
  }
  assert {
    condition     = length(google_storage_bucket_iam_member.read) == 0 && keys(google_storage_bucket_iam_member.list) == ["destination"]
    error_message = "Rights are granted where none can be."
  }
}

run "a_prefix_that_opens_its_neighbours_is_refused" {
  command = plan
  variables {
    source_prefix      = "scans"
    destination_prefix = "zarr"
  }
  expect_failures = [var.source_prefix, var.destination_prefix]
}

run "a_prefix_that_would_end_the_condition_is_refused" {
  command = plan
  variables {
    source_prefix      = "') || true || resource.name.startsWith('/"
    destination_prefix = "zarr\\/"
  }
  expect_failures = [var.source_prefix, var.destination_prefix]
}
