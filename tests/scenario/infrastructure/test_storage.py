"""The storage module on a real S3 server, by the real provider."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rdv.backends.s3.blobs import S3Blobs
from rdv.errors import LostRace

pytestmark = pytest.mark.live
TERRAFORM = Path(__file__).resolve().parents[3] / "terraform"
PROVIDER = """
provider "aws" {
  region                      = "us-east-1"
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
  max_retries                 = 1
  endpoints {
    s3 = "ENDPOINT"
  }
}
"""


@pytest.fixture
def storage(terraform: str, checks: SimpleNamespace, s3_server: Any, tmp_path: Path, in_ci: bool) -> Callable[..., str]:
    """storage(command): the storage module, ready for the S3 server of the session."""
    plugins = checks.plugins.find("hashicorp/aws")
    if plugins is None and not in_ci:
        pytest.skip("hashicorp/aws is not here; name its folder in RDV_TERRAFORM_PLUGINS")
    at = shutil.copytree(TERRAFORM, tmp_path / "terraform") / "modules" / "storage"
    (at / "provider.tf").write_text(PROVIDER.replace("ENDPOINT", s3_server.endpoint))
    keys = {"AWS_ACCESS_KEY_ID": s3_server.access_key, "AWS_SECRET_ACCESS_KEY": s3_server.secret_key}
    values = ("-var=environment=staging", "-var=noncurrent_days=0")

    def run(*command: str) -> str:
        return str(checks.rehearsal.run(terraform, at, *command, env=keys))

    run(*checks.plugins.init(plugins))
    return lambda *command: run(*command, *values)


def test_a_bucket_keeps_what_was_deleted(storage: Callable[..., str], s3_server: Any, s3_keys: None) -> None:
    """Terraform makes the bucket and plans nothing more; rdv writes there as anywhere, and what it deletes is kept."""
    import boto3

    storage("apply", "-auto-approve", "-input=false")
    storage("plan", "-detailed-exitcode", "-input=false")
    client = boto3.client("s3", endpoint_url=s3_server.endpoint, region_name="us-east-1")
    assert client.get_bucket_versioning(Bucket="rdv-staging")["Status"] == "Enabled"
    blobs = S3Blobs(f"rdv-staging/models?endpoint={s3_server.endpoint}&region=us-east-1")
    blobs.create("a", b"one")
    with pytest.raises(LostRace):
        blobs.create("a", b"other")
    assert blobs.read("a") == b"one"
    blobs.delete("a")
    assert (blobs.read("a"), list(blobs.keys("a"))) == (None, [])
    (kept,) = client.list_object_versions(Bucket="rdv-staging", Prefix="models/a")["Versions"]
    answer = client.get_object(Bucket="rdv-staging", Key="models/a", VersionId=kept["VersionId"])
    assert answer["Body"].read() == b"one"
