"""A store of immutable blobs in an S3 bucket."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import boto3
import boto3.exceptions
import botocore.config
import botocore.exceptions
import botocore.loaders
import botocore.session
from boto3.s3.transfer import TransferConfig

from rdv.backends.keys import check_key, check_prefix, lies_below
from rdv.backends.ports import Secrets
from rdv.backends.s3.errors import in_our_words, is_absent, is_conflict
from rdv.backends.s3.keys import SecretKeys
from rdv.errors import ConfigError, LostRace, NotFound, RdvError, Refused, Unreachable

_log = logging.getLogger("rdv.blobs_s3")
PART_BYTES = 8 * 1024 * 1024
_THREADS = 8
_TRIES = 3
# two writers at once; and, where objects are files, a folder that somebody else emptied at this moment
_PASSING = frozenset({"ConditionalRequestConflict", "ExistingObjectIsDirectory"})
_CONNECT_S, _READ_S = 5.0, 30.0
# "%" is outside the alphabet of keys
PROBE = "%probe/create-only"
_OPTIONS = {"endpoint", "region", "profile", "secret"}
T = TypeVar("T")
# What the library knows of the service is read once, and here: steps are forked from a process that has imported this,
# and find it read, which saves each a fifth of a second.
_LOADER = botocore.loaders.create_loader()
for _kind in ("service-2", "endpoint-rule-set-1"):
    _LOADER.load_service_model("s3", _kind)
for _name in ("endpoints", "partitions", "sdk-default-configuration"):
    _LOADER.load_data(_name)


class S3Blobs:
    """Blobs as objects of a bucket; every write is create-only, which a store is asked to prove before the first one.

    place: `bucket/prefix?endpoint=URL&region=NAME` and `secret=NAME` or `profile=NAME`, all but the bucket optional.
    With `secret` the keys are the fields `access_key` and `secret_key` of that secret of the environment, which
    `secrets` gives; else they come from the process's environment or AWS's own files, as boto3 finds them.
    """

    def __init__(self, place: str, secrets: Callable[[], Secrets] | None = None) -> None:
        self._bucket, self._prefix, options = parse_place(place)
        self._where, self._hint = f"s3:{self._bucket}", ""
        if secret := options.get("secret"):
            self._hint = f"check {secret}/access_key and {secret}/secret_key in the environment's secrets"
        self._client = _new_client(options, self._where, secrets)
        self._proven = False
        self._proving = threading.Lock()

    def put(self, key: str, source: Path) -> None:
        """Store a file's bytes, in parts when it is large; LostRace when the key is there."""
        at = self._at(key)
        self._prove()
        with self._translated(key), source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= PART_BYTES:
                self._create(at, file.read())
            else:
                self._create_in_parts(at, file.fileno(), size)

    def create(self, key: str, data: bytes) -> None:
        """Store bytes if and only if the key is absent; else LostRace."""
        at = self._at(key)
        self._prove()
        with self._translated(key):
            self._create(at, data)

    def read(self, key: str) -> bytes | None:
        """The bytes under a key, None when absent."""
        at = self._at(key)
        with self._translated(key):
            return _again(lambda: self._read(at))

    def fetch(self, key: str, into: Path) -> Path:
        """The key's bytes in `into`, which appears whole or not at all. NotFound when absent."""
        at = self._at(key)
        config = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=_THREADS
        )
        with self._translated(key):
            into.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._client.download_file(self._bucket, at, str(into), Config=config)
            except botocore.exceptions.ClientError as error:
                if is_absent(error):
                    raise NotFound(f"the store has no {key}", "see `rdv artifacts list`") from None
                raise
        return into

    def keys(self, prefix: str, skip: str = "") -> Iterator[str]:
        """All keys that begin with a prefix, sorted; one listing, a thousand keys a request."""
        start = self._prefix + check_prefix(prefix)
        return (key for key in self._keys(prefix, start) if not lies_below(key, prefix, skip))

    def delete(self, key: str) -> None:
        """Remove a key; absent is fine."""
        at = self._at(key)
        with self._translated(key):
            self._client.delete_object(Bucket=self._bucket, Key=at)

    def unfinished(self, older_than_s: float) -> list[str]:
        """Uploads in parts that were never completed, which the store keeps and charges; one may be going on."""
        before, found = time.time() - older_than_s, []
        with self._translated("the uploads"):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            for upload in (one for page in pages for one in page.get("Uploads", ())):
                if upload["Initiated"].timestamp() <= before:
                    found.append(f"{upload['Key'][len(self._prefix) :]}#{upload['UploadId']}")
        return sorted(found)

    def discard(self, unfinished: str) -> None:
        """Give an upload up."""
        key, _, upload = unfinished.partition("#")
        try:
            with self._translated(key):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._at(key), UploadId=upload)
        except ConfigError as error:
            if "NoSuchUpload" not in error.what:
                raise

    def _at(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _keys(self, prefix: str, start: str) -> Iterator[str]:
        with self._translated(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=start)
            for page in pages:
                for found in page.get("Contents", ()):
                    key = found["Key"][len(self._prefix) :]
                    # a folder that somebody made with a browser is listed as an object, too
                    if not key.startswith("%") and not key.endswith("/"):
                        yield key

    def _read(self, at: str) -> bytes | None:
        try:
            body: bytes = self._client.get_object(Bucket=self._bucket, Key=at)["Body"].read()
            return body
        except botocore.exceptions.ClientError as error:
            if is_absent(error):
                return None
            raise

    def _create(self, at: str, data: bytes) -> None:
        # two writers at once: AWS answers one of them with 409, "try again", and only then with 412
        _again(lambda: self._client.put_object(Bucket=self._bucket, Key=at, Body=data, IfNoneMatch="*"))

    def _create_in_parts(self, at: str, file: int, size: int) -> None:
        # one algorithm named at every step: what a client adds by default differs from step to step
        place = {"Bucket": self._bucket, "Key": at}
        upload = self._client.create_multipart_upload(**place, ChecksumAlgorithm="CRC32")["UploadId"]
        try:
            with ThreadPoolExecutor(_THREADS, "rdv-s3-part") as pool:
                parts = list(pool.map(lambda n: self._part(place, upload, file, n), range(-(-size // PART_BYTES))))
            self._client.complete_multipart_upload(
                **place, UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
            )
        except BaseException:
            with suppress(botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
                self._client.abort_multipart_upload(**place, UploadId=upload)
            raise

    def _part(self, place: dict[str, str], upload: str, file: int, n: int) -> dict[str, Any]:
        data = os.pread(file, PART_BYTES, n * PART_BYTES)
        sent = self._client.upload_part(
            **place, UploadId=upload, PartNumber=n + 1, Body=data, ChecksumAlgorithm="CRC32"
        )
        return {"PartNumber": n + 1, "ETag": sent["ETag"], "ChecksumCRC32": sent["ChecksumCRC32"]}

    def _prove(self) -> None:
        """Refuse a store that overwrites: one request, two when the probe object is not there yet."""
        with self._proving:
            if self._proven:
                return
            with self._translated("the store"):
                if not self._probe_was_there() and not self._probe_was_there():
                    raise Refused(
                        f"{self._where} overwrites objects although it is told to create them only",
                        "choose a store that honours If-None-Match on PUT",
                    )
            self._proven = True

    def _probe_was_there(self) -> bool:
        try:
            self._create(self._prefix + PROBE, b"this store keeps create-only\n")
        except botocore.exceptions.ClientError as error:
            if is_conflict(error):
                return True
            raise
        return False

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except botocore.exceptions.ClientError as error:
            if is_conflict(error):
                raise LostRace(f"{key} is already in the store", "what is there stays") from None
            raise in_our_words(self._where, key, error, self._hint) from error
        except (botocore.exceptions.BotoCoreError, boto3.exceptions.Boto3Error) as error:
            raise in_our_words(self._where, key, error, self._hint) from error
        except RdvError:
            raise
        except OSError as error:
            raise Unreachable(f"{key} could not be copied: {error}", "check the disk and the file") from error


def parse_place(place: str) -> tuple[str, str, dict[str, str]]:
    """Bucket, prefix (empty or ending in `/`) and options of a place; ConfigError when it is none."""
    path, _, query = place.partition("?")
    bucket, _, prefix = path.partition("/")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if not bucket or set(options) - _OPTIONS or {"secret", "profile"} <= set(options) or options.get("secret") == "":
        hint = "write s3:bucket/prefix?endpoint=URL&region=NAME&secret=NAME (or profile=NAME), all but bucket optional"
        raise ConfigError(f"{place!r} is not a place in S3", hint)
    check_key(options.get("secret", "none"))
    prefix = prefix.strip("/")
    return bucket, check_key(prefix) + "/" if prefix else "", options


def _new_client(options: dict[str, str], where: str, secrets: Callable[[], Secrets] | None) -> Any:
    name = options.get("secret")
    if name and secrets is None:
        raise ConfigError(f"{where}: there are no secrets to take {name} from", "leave `secret` out of the place")
    keys = SecretKeys(name, secrets) if name and secrets else None
    config = botocore.config.Config(
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        retries={"mode": "standard", "total_max_attempts": _TRIES},
        max_pool_connections=2 * _THREADS,
        signature_version="s3v4",
        # only a store of somebody's own has an endpoint, and those rarely have a name per bucket
        s3={"addressing_style": "path" if options.get("endpoint") else "auto"},
    )
    try:
        core = botocore.session.Session(profile=options.get("profile"))
        core.register_component("data_loader", _LOADER)
        if keys:
            keys.provide(core)
        session = boto3.Session(botocore_session=core, region_name=options.get("region"))
        client = session.client("s3", endpoint_url=options.get("endpoint"), config=config)
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise ConfigError(f"{where} cannot be used: {error}", "check endpoint, region and profile") from error
    if keys:
        keys.watch(client)
    return client


def _again(call: Callable[[], T]) -> T:
    """Call again what a store asks to be repeated, or what broke off while the answer was being read."""
    for left in reversed(range(_TRIES)):
        try:
            return call()
        except botocore.exceptions.ClientError as error:
            if not left or error.response.get("Error", {}).get("Code") not in _PASSING:
                raise
            _log.info("somebody else was at it: %s", error)
        except (botocore.exceptions.ResponseStreamingError, botocore.exceptions.IncompleteReadError) as error:
            if not left:
                raise
            _log.info("an answer broke off: %s", error)
    raise AssertionError("unreachable: the last try raises")
