# An environment's bucket. What is deleted stays a version for a while; artifacts are written once and never changed.

module "rights" {
  source      = "../rights"
  environment = var.environment
}

resource "aws_s3_bucket" "this" {
  bucket = var.bucket == "" ? module.rights.names.bucket : var.bucket

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  count = var.noncurrent_days > 0 ? 1 : 0

  bucket = aws_s3_bucket_versioning.this.bucket

  rule {
    id     = "deleted"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_days
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}
