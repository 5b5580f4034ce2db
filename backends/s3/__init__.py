"""S3: artifacts in a bucket."""
