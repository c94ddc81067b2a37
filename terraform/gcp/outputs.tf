output "cloudimg_cluster" {
  description = "What `cloudimg --cluster` needs: terraform output -json cloudimg_cluster > cluster.json"
  value = {
    version                = 1
    kind                   = "gcp-gke"
    project                = var.project
    location               = google_container_cluster.this.location
    cluster                = google_container_cluster.this.name
    endpoint               = "https://${google_container_cluster.this.endpoint}"
    ca_certificate         = google_container_cluster.this.master_auth[0].cluster_ca_certificate
    namespace              = local.namespace
    worker_service_account = local.worker_service_account
    image                  = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}/cloudimg:${var.image_tag}"
    admin_cidr             = var.admin_cidr
    worker_cpu             = var.worker_cpu
    worker_memory          = var.worker_memory
  }
}
