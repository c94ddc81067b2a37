# The destination bucket. One that is there already (create_destination_bucket = false) is left as
# it is; have the same on it.

locals {
  made = var.create_destination_bucket ? 1 : 0
}

resource "aws_s3_bucket" "destination" {
  count         = local.made
  bucket        = var.destination_bucket
  force_destroy = false # `terraform destroy` stops at a bucket that has objects
}

resource "aws_s3_bucket_public_access_block" "destination" {
  count                   = local.made
  bucket                  = aws_s3_bucket.destination[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "destination" {
  count  = local.made
  bucket = aws_s3_bucket.destination[0].id

  rule {
    object_ownership = "BucketOwnerEnforced" # no ACLs
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "destination" {
  count  = local.made
  bucket = aws_s3_bucket.destination[0].id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm     = var.destination_kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.destination_kms_key_arn
    }
    bucket_key_enabled = var.destination_kms_key_arn != null # a request to the key service per bucket, not per shard
  }
}

# On by default: users delete originals once they have a copy, so what is deleted or replaced by mistake
# can be restored for some days. Leases are replaced every ten seconds, so old versions expire.
resource "aws_s3_bucket_versioning" "destination" {
  count  = var.create_destination_bucket && var.destination_versioning ? 1 : 0
  bucket = aws_s3_bucket.destination[0].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "destination" {
  count  = local.made
  bucket = aws_s3_bucket.destination[0].id

  rule {
    id     = "abort-incomplete-multipart-uploads"
    status = "Enabled"
    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  rule {
    id     = "expire-old-versions"
    status = "Enabled"
    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.old_versions_days
    }
    expiration {
      expired_object_delete_marker = true
    }
  }
  depends_on = [aws_s3_bucket_versioning.destination] # a rule for versions is refused before
}

resource "aws_s3_bucket_policy" "destination" {
  count      = local.made
  bucket     = aws_s3_bucket.destination[0].id
  policy     = module.policies.bucket
  depends_on = [aws_s3_bucket_public_access_block.destination] # S3 refuses both at the same time
}
