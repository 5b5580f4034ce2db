"""GitLab's pipelines without a GitLab: projects whose pipelines are run by gitlab-ci-local."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdv.ids import short_id


@pytest.fixture
def new_repository(repositories: Any, gitlab_ci_local: str, tmp_path: Path) -> Callable[..., Any]:
    """new_repository(template): a new project that has no cluster."""
    return lambda template: repositories.Repository(tmp_path / f"t{short_id()}", gitlab_ci_local, template)


@pytest.fixture
def new_deployed(
    repositories: Any, dev_cluster: Any, issuer: Any, gitlab_ci_local: str, tmp_path: Path
) -> Callable[..., Any]:
    """new_deployed(template=, more=): a new project on the session's cluster. more: the end of its rdv.toml."""
    return lambda **how: repositories.Deployed(
        tmp_path / f"t{short_id()}", gitlab_ci_local, dev_cluster, issuer, **how
    )
