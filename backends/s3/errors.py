"""What S3's errors mean in rdv's words."""

from __future__ import annotations

import boto3.exceptions
import botocore.exceptions

from rdv.errors import ConfigError, CorruptArtifact, NotAuthorised, RdvError, Unreachable, UsageError

_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or add secret=NAME or profile=NAME to the place"
# what versitygw calls an access key that it does not know, with status 404
UNKNOWN_KEY = "XAdminUserNotFound"
# of servers that keep objects as files, and so cannot have a key below another one
_NESTED = {"ObjectParentIsFile", "ExistingObjectIsDirectory"}


def is_absent(error: botocore.exceptions.ClientError) -> bool:
    """Whether an error says that there is no such object (and not: no such bucket)."""
    return _code(error) in ("NoSuchKey", "404", "NotFound")


def is_conflict(error: botocore.exceptions.ClientError) -> bool:
    """Whether an error says that the object is there, against a condition that it is not."""
    return _status(error) == 412


def in_our_words(where: str, key: str, error: Exception, hint: str = "") -> RdvError:
    """The error to raise for a client's one; its text names no credentials. hint: where these come from."""
    if isinstance(error, botocore.exceptions.ClientError):
        return _from_answer(where, key, error, hint or _CREDENTIALS)
    if isinstance(error, botocore.exceptions.NoCredentialsError | botocore.exceptions.PartialCredentialsError):
        return NotAuthorised(f"no credentials for {where}", hint or _CREDENTIALS)
    if isinstance(error, botocore.exceptions.FlexibleChecksumError):
        return CorruptArtifact(f"{key} in {where} has other bytes than were stored", "see `rdv artifacts verify`")
    if isinstance(error, botocore.exceptions.HTTPClientError | botocore.exceptions.ConnectionError):
        return Unreachable(f"{where} does not answer ({type(error).__name__})", "check the endpoint and the network")
    if isinstance(error, boto3.exceptions.RetriesExceededError | botocore.exceptions.IncompleteReadError):
        return Unreachable(f"{where} kept breaking off {key}", "try again, then look at the store")
    return RdvError(f"{where} failed on {key}: {error}", "look at the store's own log")


def _from_answer(where: str, key: str, error: botocore.exceptions.ClientError, hint: str) -> RdvError:
    code, status = _code(error), _status(error)
    if code in _NESTED:
        return UsageError(f"{key} lies below another key, or another lies below it", "choose another name")
    if code == "NoSuchBucket":
        return ConfigError(f"{where} does not exist", "make the bucket, or name another one in rdv.toml")
    if status in (401, 403) or code in (UNKNOWN_KEY, "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"):
        return NotAuthorised(f"{where} refused {key} ({code})", hint)
    if status >= 500 or status == 429 or code in ("SlowDown", "RequestTimeout", "ConditionalRequestConflict"):
        return Unreachable(f"{where} cannot serve {key} now ({code}, status {status})", "try again")
    if status == 404:
        return ConfigError(f"{where} answers {code} for {key}", "check the bucket and the endpoint")
    return RdvError(f"{where} refused {key}: {code}, status {status}", "look at the store's own log")


def _code(error: botocore.exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: botocore.exceptions.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
