# The destination bucket, and what workers may do in the two buckets.

resource "google_storage_bucket" "destination" {
  count    = var.create_destination_bucket ? 1 : 0
  name     = var.destination_bucket
  location = var.region

  uniform_bucket_level_access = true # no rights on single objects, and conditions need it
  public_access_prevention    = "enforced"
  force_destroy               = false # `terraform destroy` stops at a bucket that has objects

  lifecycle_rule {
    condition {
      age = 1 # days
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }

  # Users delete originals once they have a copy, so what is deleted or replaced by mistake can be restored
  # for some days.
  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_days * 24 * 60 * 60
  }

  dynamic "encryption" {
    for_each = compact([var.destination_kms_key])
    content {
      default_kms_key_name = encryption.value
    }
  }
}

locals {
  namespace              = "cloudimg"
  worker_service_account = "cloudimg-worker"

  # Workload Identity: Google knows a pod by its Kubernetes service account, and gives it tokens of
  # an hour. There is no key, and no account of Google's to impersonate.
  pool   = "projects/${data.google_project.this.number}/locations/global/workloadIdentityPools/${var.project}.svc.id.goog"
  worker = "principal://iam.googleapis.com/${local.pool}/subject/ns/${local.namespace}/sa/${local.worker_service_account}"

  # Google's ready-made roles bundle more: whoever may read by them may list too, which no condition
  # could tell apart, and whoever may write by them may change metadata and holds.
  permissions = {
    lister = ["storage.objects.list"]
    reader = ["storage.objects.get"]
    # Where an object is replaced, as going on after a kill does, Cloud Storage asks for delete.
    writer = ["storage.objects.create", "storage.objects.delete", "storage.objects.get"]
  }

  has_source      = var.source_bucket != null
  read_objects    = "projects/_/buckets/${local.has_source ? var.source_bucket : ""}/objects/${var.source_prefix}"
  written_objects = "projects/_/buckets/${var.destination_bucket}/objects/${var.destination_prefix}"
}

resource "google_project_iam_custom_role" "worker" {
  for_each    = local.permissions
  role_id     = "${replace(var.name, "-", "_")}_${each.key}"
  title       = "${var.name} ${each.key}"
  permissions = each.value
  depends_on  = [google_project_service.needed]
}

# Google asks about a listing with the name of the bucket, never with names of objects, so a
# condition on these cannot limit it: workers see names and sizes in all of both buckets, and bytes
# only below the prefixes. They need listings: without them, an object that is not there may be
# answered by "forbidden" instead of "not found", and a job could not tell what is still to be done.

resource "google_storage_bucket_iam_member" "list" {
  for_each = toset(compact([var.source_bucket, var.destination_bucket]))
  bucket   = each.key
  role     = google_project_iam_custom_role.worker["lister"].id
  member   = local.worker
  depends_on = [
    google_container_cluster.this, # Workload Identity's pool comes with the project's first cluster
    google_storage_bucket.destination,
  ]
}

resource "google_storage_bucket_iam_member" "read" {
  count  = local.has_source ? 1 : 0
  bucket = var.source_bucket
  role   = google_project_iam_custom_role.worker["reader"].id
  member = local.worker

  condition {
    title      = "${var.name} source"
    expression = "resource.name.startsWith('${local.read_objects}')"
  }
  depends_on = [google_container_cluster.this]
}

resource "google_storage_bucket_iam_member" "write" {
  bucket = var.destination_bucket
  role   = google_project_iam_custom_role.worker["writer"].id
  member = local.worker

  condition {
    title      = "${var.name} destination"
    expression = "resource.name.startsWith('${local.written_objects}')"
  }
  depends_on = [google_container_cluster.this, google_storage_bucket.destination]

  lifecycle {
    precondition {
      condition = !(
        startswith(local.read_objects, local.written_objects) ||
        startswith(local.written_objects, local.read_objects)
      )
      error_message = "Source and destination overlap: workers could write over what they read. Take another bucket or prefix."
    }
  }
}
