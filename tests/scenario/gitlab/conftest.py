"""GitLab's pipelines without a GitLab: gitlab-ci-local runs them, and an issuer of the tests signs their id_tokens."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def gitlab_ci_local(is_live: bool) -> str:
    """The program, which is fetched when it is not there and live tests are asked for."""
    if not is_live:
        pytest.skip("needs gitlab-ci-local; type: make test-cluster")
    made = subprocess.run([ROOT / "ci/gitlab_ci_local"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip().splitlines()[-1]


@pytest.fixture
def issuer(issuers: Any, tmp_path: Path, require: Callable[..., str]) -> Iterator[Any]:
    """Who signs id_tokens."""
    require("openssl", remedy="apt-get install -y openssl")
    made = issuers.Issuer(tmp_path)
    yield made
    made.close()
