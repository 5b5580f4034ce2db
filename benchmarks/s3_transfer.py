"""A 200 MB artifact to S3 and back: published, fetched and verified by us, uploaded and downloaded by boto3 alone.

Both begin with the file on disk and its digest known, and end with a second file. Ours checks the file against its
manifest before and after; boto3 has its own checksums in both.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import boto3
import botocore.config
from figures import median
from idle import IdleTimer

from rdv.backends.artifacts import ArtifactStore, file_entries
from rdv.backends.devcluster.s3 import REGION, S3Server
from rdv.backends.s3.blobs import S3Blobs
from rdv.ids import short_id
from rdv.manifest import Manifest

SIZE_MB = 200


def ours_s(server: S3Server, bucket: str, made: Path, into: Path) -> tuple[float, float]:
    """Seconds to publish the artifact in a folder, and to fetch its file again, by a store that is fresh."""
    manifest = Manifest(name="train/m", kind="train", attempt=short_id(), files=file_entries(made), task="t")
    store = ArtifactStore(S3Blobs(f"{bucket}?endpoint={server.endpoint}&region={REGION}"))
    begun = time.perf_counter()
    store.publish(manifest, made)
    put_s = time.perf_counter() - begun
    store.fetch(manifest, "file", into)
    return put_s, time.perf_counter() - begun - put_s


def boto3_s(server: S3Server, bucket: str, made: Path, into: Path) -> tuple[float, float]:
    """The same with boto3's own upload and download."""
    style = botocore.config.Config(s3={"addressing_style": "path"}, signature_version="s3v4")
    session = boto3.Session(server.access_key, server.secret_key, region_name=REGION)
    client: Any = session.client("s3", endpoint_url=server.endpoint, config=style)
    begun = time.perf_counter()
    client.upload_file(str(made / "file"), bucket, "file")
    put_s = time.perf_counter() - begun
    client.download_file(bucket, "file", str(into))
    return put_s, time.perf_counter() - begun - put_s


def measure(short: bool) -> list[dict[str, Any]]:
    """Seconds there and back, medians of 5 pairs in turn (short: 3); one pair before them warms the machine up."""
    with tempfile.TemporaryDirectory() as name:
        server = S3Server(Path(name, "s3"), os.environ)
        os.environ |= {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
        made, into = Path(name, "made"), Path(name, "into")
        made.mkdir()
        (made / "file").write_bytes(random.Random(1).randbytes(SIZE_MB * 1_000_000))
        runs: dict[str, list[tuple[float, float]]] = {"ours": [], "boto3": []}
        try:
            server.start()
            with IdleTimer() as timer:
                for at in range(1 + (3 if short else 5)):
                    for who, go in (("ours", ours_s), ("boto3", boto3_s)):
                        bucket = server.new_bucket()
                        told = go(server, bucket, made, into)
                        if into.stat().st_size != (made / "file").stat().st_size:
                            raise RuntimeError(f"{who}: the file that came back is another one")
                        into.unlink()
                        server.empty(bucket)
                        if at:
                            runs[who].append(told)
        finally:
            server.close()
    return [
        {
            "figure": "s3-transfer",
            "ours": median([sum(run) for run in runs["ours"]]),
            "peer": median([sum(run) for run in runs["boto3"]]),
            "unit": "s",
            "timer_ms": timer.worst_ms,
            "detail": {"to_and_from_s": runs},
        }
    ]


if __name__ == "__main__":
    print(json.dumps(measure("--short" in sys.argv), indent=1))
