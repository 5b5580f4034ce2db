"""Places of remote stores, as they stand in rdv.toml, and the errors of S3 in rdv's words."""

from collections.abc import Callable

import pytest

from rdv.errors import ConfigError, NotAuthorised, RdvError, Unreachable, UsageError


def test_places_in_s3(require: Callable[..., str]) -> None:
    """A place is a bucket, a prefix that ends in a slash or is empty, and known options only."""
    require("boto3")
    from rdv.backends.s3.blobs import parse_place

    assert parse_place("b") == ("b", "", {})
    assert parse_place("b/") == ("b", "", {})
    options = {"endpoint": "http://h:1", "region": "r"}
    assert parse_place("b/p/q/?endpoint=http://h:1&region=r") == ("b", "p/q/", options)
    assert parse_place("b?secret=app/s3")[2] == {"secret": "app/s3"}
    both = "b?secret=a&profile=b"
    for wrong in ("", "/p", "?region=r", "b?access_key=x", "b/../c", "b?secret=", "b?secret=../x", both):
        with pytest.raises(UsageError):
            parse_place(wrong)


def test_places_in_consul(require: Callable[..., str]) -> None:
    """A place is a prefix and known options only; an address is a URL."""
    require("consul")
    from rdv.backends.consul.client import parse_place
    from rdv.backends.consul.registry import ConsulRegistry

    assert parse_place("") == ("", {})
    assert parse_place("rdv/dev?address=http://h:1") == ("rdv/dev/", {"address": "http://h:1"})
    with pytest.raises(ConfigError):
        parse_place("rdv?token=abc")
    for wrong in ("h:8500", "ftp://h", "http://h:port", "http://"):
        with pytest.raises(ConfigError):
            ConsulRegistry(f"rdv?address={wrong}")


def test_places_in_vault(require: Callable[..., str]) -> None:
    """A place is a mount, a prefix and known options only; an AppRole is two files."""
    require("hvac")
    from rdv.backends.vault.secrets import parse_place

    assert parse_place("secret/app?role=r&jwt_file=/f") == ("secret", "app/", {"role": "r", "jwt_file": "/f"})
    for wrong in ("", "secret?token=abc", "secret?role_id_file=/f"):
        with pytest.raises(ConfigError):
            parse_place(wrong)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ObjectParentIsFile", 409, UsageError),
        ("NoSuchBucket", 404, ConfigError),
        ("AccessDenied", 403, NotAuthorised),
        ("SignatureDoesNotMatch", 403, NotAuthorised),
        ("SlowDown", 503, Unreachable),
        ("InternalError", 500, Unreachable),
        ("TooManyRequests", 429, Unreachable),
        ("MethodNotAllowed", 405, RdvError),
    ],
)
def test_answers_of_s3_in_our_words(require: Callable[..., str], code: str, status: int, kind: type) -> None:
    """What a store answers becomes the error that tells whether to retry, to log in or to correct oneself."""
    require("boto3")
    from botocore.exceptions import ClientError

    from rdv.backends.s3.errors import in_our_words

    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    found = in_our_words("s3:b", "k", ClientError(response, "PutObject"))
    assert type(found) is kind
    assert "k" in str(found)


def test_places_in_nomad(require: Callable[..., str]) -> None:
    """A place is a namespace, a driver and known options; docker needs an image with a tag, the others have none.

    A place without a driver says what to write: nothing runs without isolation because somebody forgot it.
    """
    require("nomad")
    from rdv.backends.nomad.api import parse_place

    assert parse_place("?driver=raw_exec") == ("", {"driver": "raw_exec"})
    with pytest.raises(ConfigError) as unnamed:
        parse_place("calc?address=http://n:1")
    assert unnamed.value.what == "the place nomad:calc?address=http://n:1 names no driver"
    assert "driver=docker&image=NAME:TAG" in unnamed.value.hint
    options = {"driver": "docker", "image": "host:5000/rdv-churn:1", "folder": "/project", "vault": "steps"}
    assert parse_place("calc?" + "&".join(f"{name}={value}" for name, value in options.items())) == ("calc", options)
    for wrong in (
        "calc?driver=exec&token=abc",
        "calc/x?driver=exec",
        "calc?driver=qemu",
        "calc?driver=docker",
        "calc?driver=exec&image=a:1",
        "calc?driver=docker&image=host:5000/a",
        "calc?driver=docker&image=a:latest",
        "calc?driver=exec&template_s=soon",
        "calc?driver=exec&template_s=0",
    ):
        with pytest.raises(ConfigError):
            parse_place(wrong)


def test_a_parent_job_is_named_by_what_it_runs() -> None:
    """Two interpreters, images or sizes are two jobs, a namespace is not part of it, and text is no template."""
    from rdv.backends.nomad.drafts import step_draft
    from rdv.backends.ports import Resources

    one = step_draft("a", {"driver": "exec", "python": "/p"}, Resources(memory_mb=512))
    assert one.id.startswith("rdv-step-512mb-1cpu-")
    assert len({one.id, step_draft("a", {"driver": "exec", "python": "/q"}, Resources()).id}) == 2
    assert step_draft("a", {"driver": "exec", "python": "/p"}, Resources(memory_mb=1024)).id != one.id
    odd = step_draft("a", {"driver": "exec", "python": "/${x}%{y}\"z"}, Resources())
    assert 'python = "/$${x}%%{y}\\"z"' in odd.values()
