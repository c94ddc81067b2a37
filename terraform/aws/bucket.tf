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
      sse_algorithm = "AES256"
    }
  }
}

# Off unless asked for: shards that a killed worker had half done, the journal and leases (every ten
# seconds) are written again under the same key, and each version would be kept and billed. All of
# it can be made again from the source.
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
}

resource "aws_s3_bucket_policy" "destination" {
  count      = local.made
  bucket     = aws_s3_bucket.destination[0].id
  policy     = module.policies.bucket
  depends_on = [aws_s3_bucket_public_access_block.destination] # S3 refuses both at the same time
}
